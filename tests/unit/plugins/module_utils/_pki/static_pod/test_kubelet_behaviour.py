# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restart waits for the kubelet and knows how it treats static pods."""

from __future__ import annotations

import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node.containers import Kubelet

from tests.unit.support.fakekubelet import FakeKubelet, FakeRuntime, Node
from tests.unit.support.restarting import EACH_KUBELET, assert_whole, restart


@pytest.fixture(**EACH_KUBELET)
def node(request, tmp_path):
    return Node(tmp_path, *request.param)


@pytest.mark.parametrize(
    "images, answer, serial", [(20, 20, False), (36, 36, True), (36, None, True), (23, 20, False), (23, 23, True)]
)
def test_how_the_kubelet_behaves_is_known_before_etcd_moves(tmp_path, images, answer, serial):
    """etcd's own image tells no Kubernetes version, and the kubelet takes its time to tell: a wrong guess costs a minute."""
    node = Node(tmp_path, images)
    for name in ("kube-apiserver", "etcd"):
        node.add(name)

    class Slow(FakeRuntime):
        def kubelet(self):
            def minor():
                time.sleep(0.3)
                return answer

            return Kubelet(1, 3600.0, minor)

    node.minor = 36 if serial else 20
    with FakeKubelet(node, backoff=0.1):
        restart(node, ["etcd"], Slow(tmp_path))
    # Only under a kubelet that serialises pods the same bytes come back.
    assert ((node.manifests / "etcd.yaml").read_bytes() == node.original["etcd"]) is serial
    assert_whole(node)


def test_no_kubelet_moves_nothing(node):
    node.add("kube-scheduler")
    with pytest.raises(PkiError) as error:
        restart(node, ["kube-scheduler"], FakeRuntime(node.root, running=False))
    assert "kubelet does not run" in str(error.value) and "nothing was moved" in str(error.value)
    assert (node.manifests / "kube-scheduler.yaml").read_bytes() == node.original["kube-scheduler"]


def test_a_kubelet_that_was_just_restarted_is_waited_for(node):
    node.add("kube-scheduler")

    class Young(FakeRuntime):
        asked = 0

        def manages_pods(self, kubelet):
            self.asked += 1
            assert (node.manifests / "kube-scheduler.yaml").read_bytes() == node.original["kube-scheduler"]
            return self.asked >= 3

    runtime = Young(node.root, node.minor, age=2.0)
    with FakeKubelet(node):
        assert restart(node, ["kube-scheduler"], runtime)["changed"]
    assert runtime.asked == 3
