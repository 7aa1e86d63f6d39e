# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node runs under a kubelet that is not as kubeadm has it. What it sees of real containers, the lab's jobs show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import discovery, http_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node.containers import Runtime

from tests.unit.support import throwaway


@pytest.fixture
def node(tmp_path):
    return throwaway.Node(tmp_path)


def test_the_mirror_pod_is_asked_for_with_this_clusters_user(node, monkeypatch):
    path = node.kubernetes("admin.conf")
    own = kubeconfig.Kubeconfig(path.read_bytes(), str(path))
    node.merge(throwaway.Cluster(label="another"))
    seen = []

    def asked(url, client=None):
        seen.append(client)
        return SimpleNamespace(json=lambda: {"metadata": {"annotations": {"kubernetes.io/config.mirror": "hash"}}})

    monkeypatch.setattr(http_client, "http_request", asked)
    etcd = SimpleNamespace(namespace="kube-system", name="etcd")
    found = Runtime().mirror_hash(etcd, SimpleNamespace(address="127.0.0.1:6443"), str(node.kubernetes("")))
    assert found == "hash" and seen == [(own.certificate_data, own.key_data)]


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ("", "http://127.0.0.1:10248/healthz"),
        ("healthzPort: 0", None),
        ("healthzPort: 20248", "http://127.0.0.1:20248/healthz"),
        ("healthzBindAddress: '::1'", "http://[::1]:10248/healthz"),
        ("healthzBindAddress: 0.0.0.0", "http://127.0.0.1:10248/healthz"),
    ],
)
def test_where_a_kubelet_says_that_it_is_well(node, settings, url):
    path = node.path("/var/lib/kubelet/config.yaml")
    path.write_text(path.read_text() + "\n" + settings + "\n")
    layout = layouts.find_layout(root=str(node.root))
    assert [endpoint.health for endpoint in discovery.endpoints(layout) if endpoint.name == discovery.KUBELET] == [url]
