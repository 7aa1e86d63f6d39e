# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the group etcd that are no control plane: a service with kubeadm's files, and a static pod that is not well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.support import throwaway

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = throwaway.Cluster(leaf_days=365)


@pytest.fixture
def node(tmp_path):
    """A host of the group etcd with kubeadm's files, no manifest directory and no kubelet."""
    return throwaway.Node(tmp_path / "node", CLUSTER, role="etcd")


def playbook(tmp_path):
    """Run play.yml on the inventory beside it; give (return code, what was said)."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "play.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1"),
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def run(role, node, tmp_path, **variables):
    """Run a role on the node; give (return code, what was said)."""
    local = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    (tmp_path / "inventory").write_text(f"[kube_control_plane]\ncp1 {local}\n[etcd]\netcd1 {local}\n")
    where = {"kubernetes_dir": str(node.path("/etc/kubernetes")), "kubelet_dir": str(node.path("/var/lib/kubelet"))}
    state = dict(where, state_dir=str(tmp_path / "state"))
    play = {
        "hosts": "etcd",
        "gather_facts": False,
        "module_defaults": {
            "kubepki.lifecycle.internal.control_plane_health": where,
            "kubepki.lifecycle.cert_leaf": state,
            "kubepki.lifecycle.static_pod_restart": state,
        },
        "tasks": [
            {
                "ansible.builtin.include_role": {"name": "kubepki.lifecycle." + role},
                "vars": {role + "_health_seconds": 0, **variables},
            }
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    return playbook(tmp_path)


def renew(node, tmp_path, **variables):
    return run("leaf_renewal", node, tmp_path, leaf_renewal_backup_dir=str(tmp_path / "backups"), **variables)


def test_an_etcd_that_is_no_static_pod_is_renewed_and_who_restarts_it_is_told_once(node, tmp_path):
    before = node.kubernetes("pki/etcd/server.crt").read_bytes()
    code, said = renew(node, tmp_path, leaf_renewal_force=True)
    assert code == 0, said
    assert "etcd is no static pod of this node" in said
    after = node.kubernetes("pki/etcd/server.crt").read_bytes()
    assert after != before
    code, said = renew(node, tmp_path)
    assert (code, "no static pod" in said) == (0, False), said
    assert node.kubernetes("pki/etcd/server.crt").read_bytes() == after


def test_an_etcd_of_static_pods_that_is_not_well_is_not_touched(node, tmp_path):
    flags = [
        "--listen-client-urls=https://127.0.0.1:1",
        "--cert-file=%s" % node.kubernetes("pki/etcd/server.crt"),
        "--key-file=%s" % node.kubernetes("pki/etcd/server.key"),
    ]
    node.manifest("etcd", flags)
    before = {path: path.read_bytes() for path in node.root.rglob("*") if path.is_file()}
    for code, said in (
        renew(node, tmp_path, leaf_renewal_force=True),
        run("static_pods", node, tmp_path, static_pods_names=["etcd"]),
    ):
        assert code == 2 and "the control plane is not healthy" in said and "etcd's members are unknown" in said, said
    assert {path: path.read_bytes() for path in node.root.rglob("*") if path.is_file()} == before


def look(tmp_path, role, **variables):
    """Run a role's plan on a control-plane node without an etcd and a host of etcd alone; give (return code, what was said)."""
    hosts = []
    for group, name, kind in (("kube_control_plane", "cp1", "control-plane"), ("etcd", "etcd1", "etcd")):
        node = throwaway.Node(tmp_path / name, CLUSTER, role=kind)
        if kind == "control-plane":
            for path in node.kubernetes("pki/etcd").glob("*"):
                path.unlink()
            node.manifest("kube-apiserver", ["--etcd-servers=https://10.0.0.9:2379"])
        else:
            node.manifest("etcd", ["--data-dir=/var/lib/etcd"])
        own = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "state_dir": tmp_path / name,
            "kubernetes_dir": node.path("/etc/kubernetes"),
            "kubelet_dir": node.path("/var/lib/kubelet"),
        }
        hosts.append("[%s]\n%s %s" % (group, name, " ".join("%s=%s" % item for item in own.items())))
    where = {name: "{{ %s }}" % name for name in ("kubernetes_dir", "kubelet_dir", "state_dir")}
    plan = {"name": "kubepki.lifecycle." + role, "tasks_from": "plan.yml"}
    (tmp_path / "inventory").write_text("\n".join(hosts) + "\n")
    (tmp_path / "play.yml").write_text(
        json.dumps(
            [
                {
                    "hosts": "all",
                    "gather_facts": False,
                    "any_errors_fatal": True,
                    "module_defaults": {
                        "kubepki.lifecycle.cert_leaf": where,
                        "kubepki.lifecycle.static_pod_restart": dict(where, manifest_dir="{{ kubernetes_dir }}/manifests"),
                    },
                    "tasks": [{"ansible.builtin.include_role": plan, "vars": variables}],
                }
            ]
        )
    )
    return playbook(tmp_path)


@pytest.mark.parametrize("names", ["apiserver, etcd-server", ["etcd-peer"], "admin.conf", "all", "all,etcd-server"])
def test_a_name_need_not_belong_to_every_host_where_etcd_has_its_own(names, tmp_path):
    code, said = look(tmp_path, "leaf_renewal", leaf_renewal_names=names, leaf_renewal_skip_missing=True)
    assert code == 0, said


@pytest.mark.parametrize(
    "role, variables, reason",
    [
        ("leaf_renewal", {"leaf_renewal_names": "apiserver"}, "apiserver does not belong to this node"),
        ("leaf_renewal", {"leaf_renewal_names": "apiserverr", "leaf_renewal_skip_missing": True}, "'apiserverr' is not the name"),
        ("leaf_renewal", {"leaf_renewal_names": "ca", "leaf_renewal_skip_missing": True}, "ca is an authority and no leaf"),
        ("static_pods", {"static_pods_names": "etcd,kube-apisever"}, "No node of cp1, etcd1 has the static pod kube-apisever."),
        ("static_pods", {"static_pods_names": "kube-apiserver, etcd"}, ""),
    ],
)
def test_a_name_that_no_host_has_is_refused(role, variables, reason, tmp_path):
    code, said = look(tmp_path, role, **variables)
    assert (code, reason in said) == (2 if reason else 0, True), said
