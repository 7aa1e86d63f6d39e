# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the kubeconfigs of CNI plugins and of the tokens in them."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import cni_kubeconfigs
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import mounted_trust
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import rotation_plan

from tests.unit.support.rotating import Nodes
from tests.unit.support.throwaway import Node, key
from tests.unit.support.tokens_of import token_of


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, role="worker")


def layout(node):
    return layouts.find_layout(root=str(node.root))


def calico(node, user, path="/etc/cni/net.d/calico-kubeconfig"):
    return str(
        node.write(
            path,
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "l", "user": "u"}}],
                    "clusters": [{"name": "l", "cluster": {"server": "https://10.96.0.1:443"}}],
                    "users": [{"name": "u", "user": user}],
                }
            ),
        )
    )


def token(label):
    return token_of(key(label)).decode()


@pytest.mark.parametrize("path", ["/etc/cni/net.d/calico-kubeconfig", "/etc/cni/net.d/multus.d/multus.kubeconfig"])
def test_the_token_of_a_cni_plugin_tells_which_key_signed_it(node, path):
    path = calico(node, {"token": token("former") + "\n"}, path)
    assert cni_kubeconfigs.token_signers(layout(node)) == {path: [key("former").key_sha256]}
    assert cni_kubeconfigs.tokens_signed_by(layout(node), key("former").key_sha256) == [path]
    assert cni_kubeconfigs.tokens_signed_by(layout(node), key("present").key_sha256) == []


@pytest.mark.parametrize("name", ["/etc/cni/net.d/calico-token", "calico-token"])
def test_a_token_in_a_file_of_its_own_counts_too(node, name):
    path = calico(node, {"tokenFile": name})
    assert cni_kubeconfigs.tokens_signed_by(layout(node), key("former").key_sha256) == []
    node.write("/etc/cni/net.d/calico-token", token("former"))
    assert cni_kubeconfigs.tokens_signed_by(layout(node), key("former").key_sha256) == [path]


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"token": 7},
        {"token": "no token"},
        {"tokenFile": "/dev/zero"},
        {"tokenFile": "/none"},
        {"tokenFile": "a\0b"},
        {"token": "eyJraWQiOiJBQUFBIn0.e30.c2ln"},
        None,
        [],
    ],
)
def test_whatever_a_pod_writes_there_is_no_crash(node, user):
    calico(node, user)
    assert cni_kubeconfigs.token_signers(layout(node)) == {}


def test_links_and_large_files_of_a_pod_are_not_read(node):
    target = calico(node, {"token": token("former")}, "/root/secret")
    folder = node.path("/etc/cni/net.d")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    (folder / "link-kubeconfig").symlink_to(target)
    (folder / "large-kubeconfig").write_bytes(b" " * (1 << 20))
    os.mkfifo(folder / "pipe-kubeconfig")
    assert cni_kubeconfigs.token_signers(layout(node)) == {}


def test_a_phase_waits_for_the_cni_plugin_and_names_its_file(node):
    path = calico(node, {"token": token("former")})
    options = {"seconds": 0, "needed": None, "old_sa": key("former").key_sha256, "bundles": []}
    with pytest.raises(PkiError, match="the CNI plugin still has a token of the old service-account key") as refused:
        mounted_trust.wait(layout(node), **options)
    assert refused.value.path == path and "rollout restart" in refused.value.fix
    calico(node, {"token": token("present")})
    assert mounted_trust.wait(layout(node), **options) == 0


def test_the_status_of_all_nodes_lists_the_cni_plugins_with_a_token_of_another_key(tmp_path):
    nodes = Nodes(tmp_path, planes=1)
    worker = nodes["w1"]
    path = calico(worker.node, {"token": token_of(nodes.cluster.sa).decode()})

    def listed():
        facts = [dict(host.facts(), tokens=cni_kubeconfigs.token_signers(host.tree().layout)) for host in nodes.hosts]
        return [(item["node"], item["path"]) for item in rotation_plan.derived(facts, ["sa"], "status")["cluster_dependents"]]

    assert listed() == []
    nodes.run("prepare", ["sa"])
    assert listed() == []
    nodes.run("switch", ["sa"])
    assert listed() == [("w1", path)]
