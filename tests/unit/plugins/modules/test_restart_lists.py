# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that replace files name the static pods that mount them: kube-vip with admin.conf, an agent with kubelet.conf."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import kubelet_service
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pending_restarts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.recovery import startup
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign
from ansible_collections.kubepki.lifecycle.plugins.modules import cert_leaf, file_backup
from ansible_collections.kubepki.lifecycle.plugins.modules.internal import kubelet_credential, rotation_files

from tests.unit.support import throwaway


def options(node, **more):
    paths = {
        name: str(node.path(path))
        for name, path in (
            ("kubernetes_dir", "/etc/kubernetes"),
            ("kubelet_dir", "/var/lib/kubelet"),
            ("state_dir", "/var/lib/kubepki"),
            ("backup_dir", "/var/lib/kubepki/backups"),
        )
    }
    return dict(paths, **more)


def module(node, check=False, **more):
    return SimpleNamespace(check_mode=check, _diff=False, params=options(node, **more))


def renewal(node, names, check=False):
    return cert_leaf.renew(
        module(
            node,
            check,
            names=names,
            leaves=None,
            renew_below_days=90,
            leaf_days=365,
            force=True,
            new_key=True,
            key_type="ecdsa-p256",
            embed_ca=False,
            external_ca="refuse",
            certificates={},
            skip_missing=False,
            backup_keep=5,
        )
    )["restart"]


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node whose own configuration names its files where they really are, with two static pods that are not kubeadm's."""
    monkeypatch.setattr(pending_restarts, "started", lambda component: -1.0)
    made = throwaway.Node(tmp_path)
    kubelets = [made.path("/var/lib/kubelet/config.yaml"), made.kubernetes("kubelet.conf")]
    for path in [*made.kubernetes("manifests").iterdir(), *kubelets]:
        text = path.read_text().replace("/etc/kubernetes", str(made.path("/etc/kubernetes")))
        path.write_text(text.replace("/var/lib/kubelet", str(made.path("/var/lib/kubelet"))))
    for name, file in (("kube-vip", "admin.conf"), ("agent", "kubelet.conf"), ("health", "pki/etcd/healthcheck-client.key")):
        made.write(
            "/etc/kubernetes/manifests/%s.yaml" % name,
            yaml.safe_dump(
                {
                    "kind": "Pod",
                    "metadata": {"name": name, "namespace": "kube-system"},
                    "spec": {
                        "containers": [{"name": name, "volumeMounts": [{"name": "v", "mountPath": "/x"}]}],
                        "volumes": [{"name": "v", "hostPath": {"path": str(made.kubernetes(file))}}],
                    },
                }
            ),
        )
    return made


@pytest.mark.parametrize(
    "names, restart", [(["admin.conf"], ["kube-vip"]), (["apiserver"], []), (["etcd-healthcheck-client"], ["health"])]
)
def test_a_renewal_names_who_mounts_what_it_replaced(node, names, restart):
    assert renewal(node, names, check=True) == renewal(node, names) == restart


def test_each_phase_of_a_rotation_names_who_mounts_what_it_replaced(node):
    rest = {
        "leaf_days": 365,
        "leaf_key_type": None,
        "known": {},
        "backup_keep": 5,
        "key_type": "ecdsa-p256",
        "ca_days": 3650,
        "export": False,
        "material": None,
    }
    rotation_files.ensure(module(node, state="staged", names=["ca"], **rest))
    for state in ("prepared", "switched", "completed"):
        for check in (True, False):
            assert "kube-vip" in rotation_files.ensure(module(node, check, state=state, names=["ca"], **rest))["restart"], state


def test_a_restore_names_who_mounts_what_it_put_back(node):
    file_backup.work(module(node, state="created", paths=[], keep=5, set="latest"))
    node.issue("admin.conf")
    node.kubernetes("admin.conf").write_bytes(node.kubernetes("admin.conf").read_bytes() + b"\n")
    assert file_backup.work(module(node, state="restored", paths=[], keep=5, set="latest"))["restart"] == ["kube-vip"]


def test_a_kubelets_new_trust_names_who_mounts_its_kubeconfig(node, monkeypatch):
    monkeypatch.setattr(kubelet_service, "restart", lambda *arguments: {})
    bundle = node.cluster.cas["ca"].pem + ca_sign.build_ca("other", throwaway.key("other"), 10).pem
    rest = {
        "state": "installed",
        "certificate": None,
        "ca_bundle": bundle.decode(),
        "spare_ca": None,
        "server": None,
        "keep_files": 3,
        "restart": True,
        "ready": False,
        "timeout": 1,
        "backup_keep": 5,
    }
    for check in (True, False):
        assert kubelet_credential.installed(module(node, check, **rest))["restart"] == ["agent"]
    assert kubelet_credential.installed(module(node, **rest))["restart"] == []


def test_a_recovery_ends_the_processes_that_mount_what_it_replaced(node, monkeypatch):
    ended = []
    layout = layouts.find_layout(str(node.kubernetes("")), str(node.path("/var/lib/kubelet")))
    monkeypatch.setattr(startup, "end", lambda pods, runtime: ended.extend(pod.component for pod in pods) or [])
    monkeypatch.setattr(kubelet_service, "Proof", lambda *arguments: SimpleNamespace(wait=lambda seconds: {}, since=0.0))
    service = SimpleNamespace(
        state=lambda: {"active": "active", "pid": 1}, stop=lambda seconds: None, restart=lambda seconds: None
    )
    running = SimpleNamespace(
        instances=lambda manifest: [1] if manifest.name == "kube-vip" else [],
        age=lambda instance: 3600.0,
        lost_files=lambda instance: set(),
    )
    startup.start(layout, ["etcd"], state_dir=str(node.path("/var/lib/kubepki")), service=service, runtime=running)
    assert ended == ["etcd", "kube-vip"]
