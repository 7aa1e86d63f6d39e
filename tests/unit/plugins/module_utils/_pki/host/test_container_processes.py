# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of which processes are taken for containers of static pods, and which only pretend."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host import processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host.processes import Processes

from tests.unit.support.fake_proc import API_UID, STATIC_UID, FakeProc, unit


@pytest.fixture
def proc(tmp_path):
    return FakeProc(tmp_path)


def seen(proc, show=None):
    return Processes(str(proc.root), show)


class TestContainers:
    def names(self, proc):
        return sorted((item.container, item.uid, item.pid) for item in seen(proc, unit(0)).instances(str(proc.kubelet_dir)))

    def test_of_the_kubelet_of_this_node(self, proc):
        proc.container(50, "etcd")
        proc.container(51, "app", API_UID)
        proc.container(52, "etcd", group="0::/\n")  # --cgroups-per-qos=false
        assert self.names(proc) == [("app", API_UID, 51), ("etcd", STATIC_UID, 50), ("etcd", STATIC_UID, 52)]
        item = next(each for each in seen(proc, unit(0)).instances(str(proc.kubelet_dir)) if each.pid == 50)
        assert len(item.container_id) == 64 and item.is_static and item.identity == item.container_id

    @pytest.mark.parametrize(
        "pretended",
        [
            # A mount point of any name, and a folder of any name in a volume of its own.
            "90 80 8:17 /data/kubelet/pods/%s/volumes/kubernetes.io~empty-dir/v /%s/containers/etcd/x rw - ext4 /dev/sdb1 rw\n",
            "90 80 8:17 /data/kubelet/pods/%s/volumes/kubernetes.io~empty-dir/v/%s/containers/etcd/x /x rw - ext4 /dev/sdb1 rw\n",
            # Another file system in which it may make every path; another directory of the same one.
            "90 80 0:77 /data/kubelet/pods/%.0s%s/containers/etcd/x /x rw - tmpfs none rw\n",
            "90 80 8:17 /home/user/pods/%.0s%s/containers/etcd/x /x rw - ext4 /dev/sdb1 rw\n",
        ],
    )
    def test_are_not_what_a_pod_mounts(self, proc, pretended):
        proc.container(50, "app", API_UID)
        with (proc.root / "50/mountinfo").open("r+") as handle:
            own = handle.read()
            handle.seek(0)
            handle.write(pretended % (API_UID, STATIC_UID) + own)
        assert self.names(proc) == [("app", API_UID, 50)]

    def test_have_the_control_group_of_the_same_pod(self, proc):
        group = "0::/kubepods/burstable/pod%s/x/pod%s\n" % (API_UID, STATIC_UID)
        proc.container(50, "etcd", group=group)
        assert self.names(proc) == []

    def test_have_it_below_that_of_a_node_that_is_a_pod_itself(self, proc):
        (proc.root / "1/cgroup").write_text("0::/kubepods/burstable/pod%s/node/init.scope\n" % API_UID)
        proc.container(50, "etcd", group="0::/kubepods/burstable/pod%s/node/kubepods/pod%s/x\n" % (API_UID, STATIC_UID))
        assert self.names(proc) == [("etcd", STATIC_UID, 50)]

    def test_of_a_node_within_this_one_are_its_own(self, proc):
        proc.container(50, "etcd", directory="/data/nested/kubelet/pods")
        assert self.names(proc) == []


def test_a_real_mount_namespace_is_read_as_the_kernel_shows_it(tmp_path):
    """With the kernel's own mountinfo: a container's termination log, and a bind mount that only looks like one."""
    real, folder = tmp_path / "kubelet", "pods/%s/containers/%s"
    for root, name in ((real, "etcd"), (tmp_path / "volume", "kube-apiserver")):
        (root / (folder % (STATIC_UID, name))).mkdir(parents=True)
        (root / (folder % (STATIC_UID, name)) / "log").write_text("")
    (tmp_path / "log").write_text("")
    script = 'mount --make-rprivate / && mount --bind "$1" "$2" && echo ready && exec sleep 60'
    for root, name, expected in ((real, "etcd", ["etcd"]), (tmp_path / "volume", "kube-apiserver", [])):
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", root / (folder % (STATIC_UID, name)) / "log", tmp_path / "log"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                if process.stdout.readline() != b"ready\n":
                    pytest.skip("this machine makes no mount namespaces")
                found = [item for item in Processes().instances(str(real)) if item.pid == process.pid]
                assert [(item.container, item.uid) for item in found] == [(name, STATIC_UID) for name in expected]
            finally:
                process.kill()


def test_the_mounts_of_a_namespace_are_read_once(tmp_path, monkeypatch):
    proc = FakeProc(tmp_path)
    for pid in range(50, 60):
        proc.add(pid, ["sleep"], mnt_ns="user", started=1.0)
    seen, read = processes.Processes(str(proc.root)), []
    text = seen.text
    monkeypatch.setattr(seen, "text", lambda name, pid="", most=-1: read.append((name, pid)) or text(name, pid, most))
    assert seen.instances(str(proc.kubelet_dir)) == []
    assert len([pid for name, pid in read if name == "mountinfo" and pid != 1]) == 1
