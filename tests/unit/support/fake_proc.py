# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A /proc on disk, with processes as a node has them, and with processes that only pretend."""

from __future__ import annotations

import hashlib
from pathlib import Path

BOOTED, UPTIME = 1_700_000_000, 1000.0
STATIC_UID = hashlib.md5(b"etcd", usedforsecurity=False).hexdigest()
API_UID = "01234567-89ab-cdef-0123-456789abcdef"
#: The kubelet's directory is a mount of its own here, as on nodes with a data disk: it has another path in its file system.
MOUNTS = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n36 22 8:17 /data/kubelet %s rw - ext4 /dev/sdb1 rw\n"
POD_FILE = "90 80 %s %s/%s/containers/%s/0a1b2c3d /dev/termination-log rw - ext4 /dev/sdb1 rw\n"


class FakeProc:
    """A directory that reads like /proc. kubelet_dir: where the kubelet of this node keeps its pods."""

    def __init__(self, root: Path):
        self.root, self.kubelet_dir = root / "proc", root / "kubelet"
        (self.root / "sys/kernel/random").mkdir(parents=True)
        (self.kubelet_dir / "pods").mkdir(parents=True)
        (self.root / "sys/kernel/random/boot_id").write_text("boot\n")
        (self.root / "uptime").write_text("%.2f 0.00\n" % UPTIME)
        (self.root / "stat").write_text("cpu 1 2\nbtime %d\n" % BOOTED)
        self.add(1, ["/sbin/init"], mountinfo=MOUNTS % self.kubelet_dir, parent=0, started=0)

    def add(
        self,
        pid,
        command,
        uids="0\t0\t0\t0",
        pid_ns="node",
        mnt_ns="node",
        parent=1,
        started=100.0,
        exe="",
        mountinfo="",
        cgroup="0::/system.slice/some.service\n",
    ):
        """Add a process; by default one that root runs on the node itself."""
        folder = self.root / str(pid)
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/pid").symlink_to("pid:[%s]" % pid_ns)
        (folder / "ns/mnt").symlink_to("mnt:[%s]" % mnt_ns)
        (folder / "status").write_text("Name:\tkubelet\nPPid:\t%d\nUid:\t%s\n" % (parent, uids))
        (folder / "comm").write_text("kubelet\n")
        (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in command))
        fields = ["S", str(parent)] + ["0"] * 17 + [str(int(started * 100))] + ["0"] * 5
        (folder / "stat").write_text("%d (a ) b) %s\n" % (pid, " ".join(fields)))
        (folder / "mountinfo").write_text(mountinfo)
        (folder / "cgroup").write_text(cgroup)
        if exe:
            (folder / "exe").symlink_to(exe)
        return pid

    def container(
        self, pid, name, uid=STATIC_UID, command=None, device="8:17", directory="/data/kubelet/pods", group=None, **more
    ):
        """Add a process in a container of a pod, as the kubelet makes it."""
        identity = hashlib.sha256(name.encode()).hexdigest()
        path = (
            group
            if group is not None
            else "0::/kubepods.slice/kubepods-pod%s.slice/cri-containerd-%s.scope\n" % (uid.replace("-", "_"), identity)
        )
        return self.add(
            pid,
            command or [name],
            pid_ns=str(pid),
            mnt_ns=str(pid),
            cgroup=path,
            mountinfo=POD_FILE % (device, directory, uid, name),
            **more,
        )


def unit(main_pid, state="active", program="/usr/bin/kubelet"):
    """Return what systemd says of kubelet.service, as a function that stands for systemd.show_unit()."""
    start = "{ path=%s ; argv[]=%s $KUBELET_ARGS ; ignore_errors=no ; pid=%d ; status=0/0 }" % (program, program, main_pid)
    return lambda name: {
        "LoadState": "loaded",
        "ActiveState": state,
        "SubState": "running",
        "MainPID": str(main_pid),
        "ExecStart": start,
        "Result": "success",
    }
