# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the processes of static pods."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host.processes import Processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node.pod_processes import PodProcesses


def test_a_pod_is_known_by_the_nodes_name_in_the_api_not_by_the_hosts(tmp_path):
    for name in ("kube-system_etcd-node-7_1", "kube-system_etcd-backup-node-7_2", "kube-system_etcd-host_3"):
        (tmp_path / name).mkdir()
    etcd = SimpleNamespace(namespace="kube-system", name="etcd")
    assert PodProcesses(logs=str(tmp_path), node_name="node-7").uids(etcd) == {"1"}
    assert PodProcesses(logs=str(tmp_path), node_name="host").uids(etcd) == {"3"}


@pytest.mark.parametrize(
    "root, lost",
    [
        ("/kubernetes/admin.conf//deleted", {"/kubernetes/admin.conf"}),
        ("/kube\\040vip/a//deleted", {"/kube vip/a"}),
        ("/kubernetes/admin.conf", set()),
    ],
)
def test_the_kernel_tells_which_mount_has_lost_its_file(tmp_path, root, lost):
    proc = tmp_path / "4711"
    proc.mkdir()
    (proc / "mountinfo").write_text(
        "1 2 0:1 / / rw - ext4 /dev/a rw\n63 43 254:0 %s /etc/kubernetes/admin.conf rw - ext4 /dev/a rw\n" % root
    )
    (proc / "stat").write_text("4711 (kube vip) S " + " ".join("0" for _field in range(18)) + " 0")
    (tmp_path / "self").mkdir()
    assert PodProcesses(seen=Processes(str(tmp_path))).lost_files(SimpleNamespace(pid=4711, started=0.0)) == lost
