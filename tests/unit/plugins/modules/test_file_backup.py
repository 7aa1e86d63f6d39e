# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has to be restarted for what a restore puts back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import throwaway
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import reading
from ansible_collections.kubepki.lifecycle.plugins.modules import file_backup

PKI = "/etc/kubernetes/pki/"


def act(node, state, check=False):
    paths = {name: str(node.path(path)) for name, path in (
        ("kubernetes_dir", "/etc/kubernetes"), ("kubelet_dir", "/var/lib/kubelet"), ("state_dir", "/var/lib/kubepki"),
        ("backup_dir", "/var/lib/kubepki/backups"))}
    return file_backup.work(SimpleNamespace(check_mode=check, params=dict(paths, state=state, paths=[], keep=5, set="latest")))


@pytest.fixture
def node(tmp_path):
    """A node whose own configuration names its files where they really are."""
    made = throwaway.Node(tmp_path)
    for path in [*made.kubernetes("manifests").iterdir(), made.path("/var/lib/kubelet/config.yaml")]:
        path.write_text(path.read_text().replace("/etc/kubernetes", str(made.path("/etc/kubernetes"))))
    return made


@pytest.mark.parametrize(("changed", "restart"), [
    ([], []), ([PKI + "apiserver.crt", PKI + "apiserver.key", PKI + "etcd/peer.key", "/etc/kubernetes/admin.conf"], []),
    (["/etc/kubernetes/scheduler.conf"], ["kube-scheduler"]), ([PKI + "sa.key"], ["kube-controller-manager"]),
    ([PKI + "etcd/ca.crt"], ["etcd", "kube-apiserver"]), ([PKI + "apiserver-etcd-client.key"], ["kube-apiserver"]),
    (["/etc/kubernetes/manifests/etcd.yaml"], ["etcd"]), (["/var/lib/kubelet/pki/kubelet-client-current.pem"], ["kubelet"]),
    (["/etc/kubernetes/kubelet.conf"], ["kubelet"]),
    ([PKI + "ca.crt"], ["kube-apiserver", "kubelet"])])
def test_who_has_read_a_file_that_was_put_back(node, changed, restart):
    act(node, "created")
    for path in changed:
        node.path(path).unlink()
        node.path(path).write_bytes(b"something else")
    assert act(node, "restored", check=True)["restart"] == restart
    done = act(node, "restored")
    assert (done["restart"], done["restored"]) == (restart, sorted(str(node.path(path)) for path in changed))
    assert act(node, "restored")["restart"] == []


def test_everything_of_a_node_is_what_its_own_configuration_names(node):
    node.path("/etc/ssl").mkdir(parents=True)
    node.kubernetes("pki").rename(node.path("/etc/ssl/k8s"))
    for path in node.kubernetes("manifests").iterdir():
        path.write_text(path.read_text().replace(str(node.kubernetes("pki")), str(node.path("/etc/ssl/k8s"))))
    act(node, "created")
    key = node.path("/etc/ssl/k8s/etcd/ca.key")
    data = key.read_bytes()
    key.unlink()
    assert act(node, "restored")["restored"] == [str(key)] and key.read_bytes() == data


def test_a_set_is_made_without_a_library_for_yaml(node, monkeypatch):
    monkeypatch.setattr(reading, "HAS_YAML", False)
    monkeypatch.delattr(reading, "yaml")
    assert act(node, "created")["entries"] > 20
