# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role leaf_renewal on an etcd whose files lie where kubeadm has them, and that is no static pod."""

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


def renew(node, tmp_path, **variables):
    """Run the role on the node; give (return code, what was said)."""
    local = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    (tmp_path / "inventory").write_text(f"[kube_control_plane]\ncp1 {local}\n[etcd]\netcd1 {local}\n")
    where = {"kubernetes_dir": str(node.path("/etc/kubernetes")), "kubelet_dir": str(node.path("/var/lib/kubelet"))}
    state = dict(where, state_dir=str(tmp_path / "state"))
    play = {"hosts": "etcd", "gather_facts": False, "module_defaults": {
        "kubepki.lifecycle.control_plane_health": where, "kubepki.lifecycle.cert_leaf": state,
        "kubepki.lifecycle.static_pod_restart": state}, "tasks": [
            {"ansible.builtin.include_role": {"name": "kubepki.lifecycle.leaf_renewal"},
             "vars": dict(variables, leaf_renewal_backup_dir=str(tmp_path / "backups"), leaf_renewal_health_seconds=0)}]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "play.yml"], cwd=tmp_path,
                          capture_output=True, text=True, check=False, env=dict(
                              os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1"))
    return done.returncode, " ".join((done.stdout + done.stderr).split())


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
