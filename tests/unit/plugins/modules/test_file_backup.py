# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has to be restarted for what a restore puts back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import file_changes, yaml_load
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pending_restarts
from ansible_collections.kubepki.lifecycle.plugins.modules import file_backup

from tests.unit.support import throwaway

ROOT = Path(__file__).resolve().parents[4]
PKI = "/etc/kubernetes/pki/"


def options(node, state):
    paths = {
        name: str(node.path(path))
        for name, path in (
            ("kubernetes_dir", "/etc/kubernetes"),
            ("kubelet_dir", "/var/lib/kubelet"),
            ("state_dir", "/var/lib/kubepki"),
            ("backup_dir", "/var/lib/kubepki/backups"),
        )
    }
    return dict(paths, state=state, paths=[], keep=5, set="latest")


def act(node, state, check=False):
    return file_backup.work(SimpleNamespace(check_mode=check, params=options(node, state)))


@pytest.fixture(autouse=True)
def begun(monkeypatch):
    """When each component began, as seconds before now; what is not in it does not run. Not what runs on this machine."""
    ago = {}
    monkeypatch.setattr(
        pending_restarts, "started", lambda name: pending_restarts.uptime()[1] - ago[name] if name in ago else -1.0
    )
    return ago


@pytest.fixture
def node(tmp_path):
    """A node whose own configuration names its files where they really are."""
    made = throwaway.Node(tmp_path)
    for path in [*made.kubernetes("manifests").iterdir(), made.path("/var/lib/kubelet/config.yaml")]:
        path.write_text(path.read_text().replace("/etc/kubernetes", str(made.path("/etc/kubernetes"))))
    return made


@pytest.mark.parametrize(
    ("changed", "restart"),
    [
        ([], []),
        ([PKI + "apiserver.crt", PKI + "apiserver.key", PKI + "etcd/peer.key", "/etc/kubernetes/admin.conf"], []),
        (["/etc/kubernetes/scheduler.conf"], ["kube-scheduler"]),
        ([PKI + "sa.key"], ["kube-controller-manager"]),
        ([PKI + "etcd/ca.crt"], ["etcd", "kube-apiserver"]),
        ([PKI + "apiserver-etcd-client.key"], ["kube-apiserver"]),
        (["/etc/kubernetes/manifests/etcd.yaml"], ["etcd"]),
        (["/var/lib/kubelet/pki/kubelet-client-current.pem"], ["kubelet"]),
        (["/etc/kubernetes/kubelet.conf"], ["kubelet"]),
        ([PKI + "ca.crt"], ["kube-apiserver", "kubelet"]),
    ],
)
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
    monkeypatch.setattr(yaml_load, "HAS_YAML", False)
    monkeypatch.delattr(yaml_load, "yaml")
    assert act(node, "created")["entries"] > 20


def break_and_restore(node, *changed):
    """A restore whose run ends before anything is restarted."""
    act(node, "created")
    for path in changed:
        node.path(path).write_bytes(b"something else")
    return act(node, "restored")


def test_a_restore_that_ended_before_its_restarts_names_them_when_it_is_run_again(node, begun):
    begun.update(dict.fromkeys(["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "kubelet"], 100.0))
    old = time.time() - 500
    for path in node.root.rglob("*"):
        os.utime(path, (old, old))
    first = break_and_restore(
        node, "/etc/kubernetes/scheduler.conf", PKI + "sa.key", PKI + "apiserver.crt", "/etc/kubernetes/kubelet.conf"
    )
    named = ["kube-controller-manager", "kube-scheduler", "kubelet"]
    assert first["restart"] == named
    for check in (True, False):
        again = act(node, "restored", check)
        assert (again["changed"], again["restored"], again["restart"]) == (False, [], named)
    # Two of them are restarted; a clock that is read in ticks and seconds does not name them once more.
    begun.update({"kube-scheduler": -0.4, "kubelet": 0.9})
    assert act(node, "restored")["restart"] == ["kube-controller-manager"]
    del begun["kube-controller-manager"]
    assert act(node, "restored")["restart"] == []


def test_only_what_the_set_holds_and_what_a_component_reads_at_its_start_counts(node, begun):
    old = time.time() - 500
    act(node, "created")
    for path in node.root.rglob("*"):
        os.utime(path, (old, old))
    begun.update({"kube-apiserver": 100.0, "etcd": 100.0, "kubelet": 100.0})
    os.utime(node.path(PKI + "apiserver.key"))
    os.utime(node.path(PKI + "etcd/server.crt"))
    os.utime(node.path("/var/lib/kubelet/pki/kubelet-client-current.pem"))  # which it renews by itself
    assert act(node, "restored")["restart"] == []
    os.utime(node.path(PKI + "ca.crt"))
    assert act(node, "restored")["restart"] == ["kube-apiserver", "kubelet"]
    chosen = dict(options(node, "restored"), paths=[str(node.path("/etc/kubernetes/scheduler.conf"))])
    assert file_backup.work(SimpleNamespace(check_mode=False, params=chosen))["restart"] == []


def test_a_restore_that_was_killed_is_finished_and_that_is_a_change(node, begun, monkeypatch):
    act(node, "created")
    begun["kube-scheduler"] = 100.0
    path = node.path("/etc/kubernetes/scheduler.conf")
    before = path.read_bytes()
    path.write_bytes(b"something else")

    def stopped(_entries, _done):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(file_changes, "apply_entries", stopped)
        with pytest.raises(KeyboardInterrupt):
            act(node, "restored")
    assert path.read_bytes() == b"something else"
    assert act(node, "restored", check=True)["changed"] and path.read_bytes() == b"something else"
    result = act(node, "restored")
    assert path.read_bytes() == before
    assert (result["changed"], result["restart"]) == (True, ["kube-scheduler"]) and "finished" in result["warnings"][0]
    result = act(node, "restored")
    assert not result["changed"] and "warnings" not in result


def test_what_cannot_be_looked_at_is_known_before_a_file_changes(node, monkeypatch):
    act(node, "created")
    path = node.path("/etc/kubernetes/scheduler.conf")
    path.write_bytes(b"something else")

    def refuse(*_arguments):
        raise PkiError("cannot be found")

    monkeypatch.setattr(layouts, "find_layout", refuse)
    with pytest.raises(PkiError):
        act(node, "restored")
    assert path.read_bytes() == b"something else"


def test_the_configuration_that_is_put_back_says_where_the_manifests_are(node):
    elsewhere = node.path("/srv/manifests")
    elsewhere.parent.mkdir()
    node.kubernetes("manifests").rename(elsewhere)
    config = node.path("/var/lib/kubelet/config.yaml")
    config.write_text(config.read_text().replace(str(node.kubernetes("manifests")), str(elsewhere)))
    act(node, "created")
    config.unlink()
    node.kubernetes("scheduler.conf").write_bytes(b"something else")
    assert act(node, "restored")["restart"] == ["kube-scheduler", "kubelet"]


def test_a_set_that_records_no_host_is_restored_with_a_warning(node):
    directory = act(node, "created")["set"]
    manifest = Path(directory, "manifest.json")
    document = json.loads(manifest.read_text())
    del document["host"]
    manifest.write_text(json.dumps(document))
    node.path("/etc/kubernetes/scheduler.conf").write_bytes(b"something else")
    for check in (True, False):
        result = act(node, "restored", check)
        assert result["changed"] and "does not record its host" in result["warnings"][0] and directory in result["warnings"][0]


STARTER = """
import json, sys
sys.path[:0] = [%(root)r + "/tests/unit"]
import conftest
from ansible.module_utils import basic
from ansible.module_utils.common import respawn
sys.modules["yaml"] = None
respawn.has_respawned = lambda: True
from ansible_collections.kubepki.lifecycle.plugins.modules import file_backup
basic._ANSIBLE_ARGS = sys.argv[1].encode()
basic._ANSIBLE_PROFILE = "legacy"
file_backup.main()
""" % {"root": str(ROOT)}


@pytest.mark.parametrize("state", ["created", "listed", "restored"])
def test_only_a_restore_wants_pyyaml_and_refuses_before_it_writes(node, state):
    act(node, "created")
    path = node.path("/etc/kubernetes/scheduler.conf")
    path.write_bytes(b"something else")
    done = subprocess.run(
        [sys.executable, "-c", STARTER, json.dumps({"ANSIBLE_MODULE_ARGS": options(node, state)})],
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout)
    assert result.get("failed", False) is (state == "restored"), result
    if state == "restored":
        assert "PyYAML" not in result["msg"] and "python3-yaml" in result["msg"]
    assert path.read_bytes() == b"something else"
