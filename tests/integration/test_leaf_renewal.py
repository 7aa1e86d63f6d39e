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
import throwaway

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = throwaway.Cluster(leaf_days=365)


@pytest.fixture
def node(tmp_path):
    """A host of the group etcd with kubeadm's files, no manifest directory and no kubelet."""
    return throwaway.Node(tmp_path / "node", CLUSTER, role="etcd")


def run(role, node, tmp_path, **variables):
    """Run a role on the node; give (return code, what was said)."""
    local = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    (tmp_path / "inventory").write_text(f"[kube_control_plane]\ncp1 {local}\n[etcd]\netcd1 {local}\n")
    where = {"kubernetes_dir": str(node.path("/etc/kubernetes")), "kubelet_dir": str(node.path("/var/lib/kubelet"))}
    state = dict(where, state_dir=str(tmp_path / "state"))
    play = {"hosts": "etcd", "gather_facts": False, "module_defaults": {
        "kubepki.lifecycle.control_plane_health": where, "kubepki.lifecycle.cert_leaf": state,
        "kubepki.lifecycle.static_pod_restart": state}, "tasks": [
            {"ansible.builtin.include_role": {"name": "kubepki.lifecycle." + role},
             "vars": {role + "_health_seconds": 0, **variables}}]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "play.yml"], cwd=tmp_path,
                          capture_output=True, text=True, check=False, env=dict(
                              os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1"))
    return done.returncode, " ".join((done.stdout + done.stderr).split())


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
    flags = ["--listen-client-urls=https://127.0.0.1:1", "--cert-file=%s" % node.kubernetes("pki/etcd/server.crt"),
             "--key-file=%s" % node.kubernetes("pki/etcd/server.key")]
    node.manifest("etcd", flags)
    before = {path: path.read_bytes() for path in node.root.rglob("*") if path.is_file()}
    for code, said in (renew(node, tmp_path, leaf_renewal_force=True),
                       run("static_pods", node, tmp_path, static_pods_names=["etcd"])):
        assert code == 2 and "the control plane is not healthy" in said and "etcd's members are unknown" in said, said
    assert {path: path.read_bytes() for path in node.root.rglob("*") if path.is_file()} == before
