# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which static pod restarts when, and what becomes of leadership, under a fake kubelet."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import (
    pod_restart,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_sign

from tests.unit.support.fake_api import FakeApi
from tests.unit.support.fakekubelet import FakeKubelet, FakeRuntime, Node
from tests.unit.support.restarting import EACH_KUBELET, assert_whole, restart

ALL = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"]


@pytest.fixture(**EACH_KUBELET)
def node(request, tmp_path):
    return Node(tmp_path, *request.param)


def test_a_leader_gives_its_lease_up_when_it_has_ended_and_not_before(node, tmp_path):
    """Nobody schedules until its lease has run out, 15 s, or is given up."""
    api = FakeApi(tls=tmp_path)
    api.write_admin_conf(node.manifests.parent / "admin.conf")
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler"
    holder = "%s_a58dda95-f0a0-4569-a18e-bf6c4bffabf8" % socket.gethostname()
    api.put(path, {"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}})
    node.add("kube-scheduler")
    with FakeKubelet(node):
        leader, living = node.containers()[0]["id"], []
        api.before = lambda method, _path: method == "PUT" and living.extend(item["id"] for item in node.containers())
        result = restart(node, ["kube-scheduler"])
        assert api.objects[path]["spec"]["holderIdentity"] == ""
        # The new one runs: whoever takes the lease finds etcd and the API settled (kubernetes#105069).
        assert len(living) == 1 and leader not in living
        assert "lease was given up" in result["pods"][0]["proof"][-1]
        api.calls.clear()
        result = restart(node, ["kube-scheduler"])  # led by nobody, and so not by this node
        assert {method for method, _path in api.calls} == {"GET"} and "lease" not in str(result["pods"][0]["proof"])
    api.stop()


def test_all_four_overlap_and_etcd_waits_for_the_listener(node):
    for name in ALL:
        node.add(name)
    key, ca_key = private_keys.generate_key("ecdsa-p256"), private_keys.generate_key("ecdsa-p256")
    ca = ca_sign.build_ca("kubernetes", ca_key, 10)
    leaf = x509_sign.sign_leaf(x509_sign.Profile("kube-apiserver", extended_usages=("server",)), key, ca, ca_key, 5)
    pair = [str(node.root / "a.crt"), str(node.root / "a.key")]
    (node.root / "a.crt").write_bytes(leaf.pem)
    (node.root / "a.key").write_bytes(key.pem)
    with FakeKubelet(node, stop_seconds=1.5, pair=pair) as kubelet:
        result = restart(node, ["etcd", "kube-scheduler", "kube-controller-manager", "kube-apiserver"])
    assert {pod["name"]: pod["action"] for pod in result["pods"]} == dict.fromkeys(ALL, "restarted")
    order = [(event, name) for _moment, event, name in kubelet.events[4:] if event != "away"]
    assert order.index(("stop", "kube-apiserver")) < order.index(("stop", "etcd"))
    # They overlap: everything is out before the apiserver, which takes longest to end, is back.
    back = order.index(("start", "kube-apiserver"))
    assert all(order.index(("stop", name)) < back for name in ALL)
    if node.minor < 22 or not node.groups:  # else housekeeping may start it before, as its manifest is there
        assert order.index(("start", "etcd")) < back
    assert kubelet.wrong == []
    assert result["warnings"] == []
    assert_whole(node)


def test_etcd_under_a_running_apiserver_is_done_and_said(node):
    for name in ("kube-apiserver", "etcd", "kube-scheduler"):
        node.add(name)
    with FakeKubelet(node, backoff=0.1, housekeeping=2.0) as kubelet:
        result = restart(node, ["etcd", "kube-scheduler"])
    assert [pod["name"] for pod in result["pods"]] == ["etcd", "kube-scheduler"]
    assert "under a running kube-apiserver" in result["warnings"][0]
    order = [(event, name) for _moment, event, name in kubelet.events[3:] if event != "away"]
    assert order == [("stop", "kube-scheduler"), ("start", "kube-scheduler"), ("stop", "etcd"), ("start", "etcd")]
    # A newer kubelet would have to tell the hanging apiserver about another mirror pod; so its manifest is the same.
    same = (node.manifests / "etcd.yaml").read_bytes() == node.original["etcd"]
    assert same is (node.minor >= 22)
    assert_whole(node)


def test_another_static_pod_goes_when_the_components_are_back(node):
    """kube-vip speaks with the API server of its node, and does not come up without it."""
    names = ["kube-controller-manager", "kube-scheduler", "etcd"]
    for name in [*names, "kube-vip"]:
        node.add(name)
    with FakeKubelet(node, stop_seconds=0.2) as kubelet:
        result = restart(node, ["kube-vip", *names])
    assert {pod["name"]: pod["action"] for pod in result["pods"]} == dict.fromkeys([*names, "kube-vip"], "restarted")
    moments = {(event, name): moment for moment, event, name in kubelet.events}
    assert moments["stop", "kube-vip"] > max(moments["start", name] for name in names)
    assert_whole(node)


def test_another_static_pod_beside_an_etcd_that_is_restarted_alone_is_no_deadlock(node):
    for name in ("etcd", "kube-apiserver", "kube-vip"):
        node.add(name)
    with FakeKubelet(node):
        result = restart(node, ["kube-vip", "etcd"])
    assert [(pod["name"], pod["action"]) for pod in result["pods"]] == [("etcd", "restarted"), ("kube-vip", "restarted")]


def test_another_static_pod_stays_where_a_component_does_not_come_back(node):
    for name in ("kube-scheduler", "kube-vip"):
        node.add(name)
    with FakeKubelet(node, broken=["kube-scheduler"]) as kubelet, pytest.raises(pod_restart.RestartError) as refused:
        restart(node, ["kube-vip", "kube-scheduler"], timeout=3)
    assert "kube-vip was not restarted, because kube-scheduler did not come back" in str(refused.value)
    assert "kube-vip" not in [name for _moment, event, name in kubelet.events if event == "stop"]
    assert_whole(node)


def test_a_young_etcd_waits_for_its_mirror_pod(tmp_path):
    node = Node(tmp_path, 36)
    for name in ("kube-apiserver", "etcd"):
        node.add(name)

    class Young(FakeRuntime):
        asked = 0

        def age(self, instance):
            return 20.0

        def mirror_hash(self, manifest, apiserver, kubernetes_dir):
            assert apiserver.port == node.ports["kube-apiserver"] and kubernetes_dir == str(node.manifests.parent)
            assert (node.manifests / "etcd.yaml").exists()
            self.asked += 1
            return self.instances(manifest)[0].uid if self.asked == 3 else "another"

    runtime = Young(tmp_path, 36)
    with FakeKubelet(node, backoff=0.1):
        assert restart(node, ["etcd"], runtime)["changed"]
    assert runtime.asked == 3
    assert_whole(node)
