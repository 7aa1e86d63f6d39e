# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine of the lab: an overlay on the node root, booted by systemd-nspawn in a cgroup of its own."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .cache import mounts_below, remove_tree
from .cgroups import NodeCgroup, unified
from .errors import LabError
from .kubeadm import API_NAME, API_PORT, SERVICE_API
from .layer import Layer, clone_store
from .network import Network, pod_subnet
from .procs import Process, children, identify
from .shell import run, tail

#: More open files than this no node needs; fewer where the host's hard limit is lower.
_FILES_WANTED = 1048576


def open_files() -> int:
    """The limit of open files for nodes: no higher than the host's hard limit, which may not be raised here."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)


def hosts_file(addresses: Mapping[str, str], balancer: str) -> str:
    """/etc/hosts of every node: all nodes by name, and the API's name."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    lines += [f"{address} {name}" for name, address in addresses.items()]
    return "\n".join([*lines, f"{balancer} {API_NAME}"]) + "\n"


def network_script(name: str, addresses: Mapping[str, str], network: Network) -> str:
    """The shell script that configures a node's network: address, routes to the other nodes' pods, the API's service.

    There is no kube-proxy; the one service address that every in-cluster client uses is translated to the balancer.
    """
    subnet = network.subnet
    lines = [
        "set -e",
        "ip link set lo up",
        "ip link set host0 up",
        f"ip address replace {addresses[name]}/{subnet.prefix} dev host0",
        f"ip route replace default via {subnet.host}",
    ]
    lines += [f"ip route replace {pod_subnet(a)} via {a}" for n, a in addresses.items() if n != name]
    # Old kubelets ask a cloud's metadata service at their start, and wait for it where packets to it are lost.
    lines.append("ip route replace prohibit 169.254.169.254")
    lines.append("echo 1 > /proc/sys/net/ipv4/ip_forward")
    for chain in ("PREROUTING", "OUTPUT"):
        rule = f"{chain} -d {SERVICE_API}/32 -p tcp --dport 443 -j DNAT --to-destination {subnet.balancer}:{API_PORT}"
        lines.append(f"iptables -w -t nat -C {rule} 2>/dev/null || iptables -w -t nat -A {rule}")
    return "\n".join(lines) + "\n"


def cni_config(address: str) -> str:
    """The CNI configuration of the node with this address: a point-to-point link a pod, a subnet a node."""
    plugin = {
        "type": "ptp",
        "ipMasq": True,
        "ipam": {"type": "host-local", "subnet": pod_subnet(address), "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "lab", "plugins": [plugin]}, indent=1) + "\n"


def containerd_dropin(files: int) -> str:
    """Limits of containerd's unit that a host without CAP_SYS_RESOURCE can grant."""
    return f"[Service]\nLimitNOFILE={files}\nLimitNPROC=\nLimitCORE=0\nOOMScoreAdjust=\nExecStartPre=\n"


@dataclass
class Node:
    """A node of a lab: where its disk is, how it is started and stopped."""

    name: str
    address: str
    control_plane: bool
    directory: Path
    network: Network
    lab: str

    @property
    def root(self) -> Path:
        """The node's file system as this host sees it, while it is mounted."""
        return self.directory / "root"

    @property
    def console(self) -> Path:
        """What the node printed while booting."""
        return self.directory / "console.log"

    @property
    def cgroup(self) -> NodeCgroup:
        """The node's cgroup."""
        return NodeCgroup(f"kubepki-lab-{self.lab}.{self.name}")

    def mounted(self) -> bool:
        """Whether the overlay is mounted."""
        return str(self.root) in mounts_below(self.root)

    def mount(self, layer: Layer, root: Path) -> None:
        """Mount the node's overlay and etcd's memory, making the directories first; does nothing when they are mounted."""
        if self.mounted():
            return
        for part in ("upper", "work", "root", "kubelet", "etcd"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        self._mount_etcd()
        if not (self.directory / "containerd").exists():
            fresh = self.directory / "containerd.new"
            remove_tree(fresh)
            clone_store(layer, fresh)
            fresh.rename(self.directory / "containerd")
        options = f"lowerdir={layer.tree}:{root},upperdir={self.directory}/upper,workdir={self.directory}/work"
        run(
            ["mount", "-t", "overlay", "-o", options, f"kubepki-lab-{self.lab}", self.root],
            node=self.name,
            what="its overlay cannot be mounted",
        )

    def _mount_etcd(self) -> None:
        """Keep etcd's data in memory, from `up` to `down`, whatever happens to the node in between.

        etcd answers nothing while it waits for a disk to have written (and a change of leader takes two such waits). A real
        member has a disk of its own for that; here all nodes of all labs would share one with everything else.
        """
        place = self.directory / "etcd"
        if self.control_plane and str(place) not in mounts_below(self.directory):
            run(
                ["mount", "-t", "tmpfs", "-o", "mode=0700,size=2g", f"kubepki-lab-{self.lab}", place],
                node=self.name,
                what="memory for etcd cannot be mounted",
            )

    def write(self, addresses: Mapping[str, str], public_key: str) -> None:
        """Write what makes this node itself: names, network, CNI, the key that may log in."""
        identity = hashlib.sha256(f"{self.directory}".encode()).hexdigest()[:32]
        files = {
            "etc/hostname": f"{self.name}\n",
            "etc/machine-id": f"{identity}\n",
            "etc/hosts": hosts_file(addresses, self.network.subnet.balancer),
            "etc/kubepki-lab/network.sh": network_script(self.name, addresses, self.network),
            "etc/cni/net.d/10-lab.conflist": cni_config(self.address),
            "etc/systemd/system/containerd.service.d/kubepki-lab.conf": containerd_dropin(open_files()),
            "root/.ssh/authorized_keys": public_key,
        }
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.root / "root/.ssh/authorized_keys").chmod(0o600)

    def command(self) -> list[str]:
        """The systemd-nspawn command line."""
        binds = {"containerd": "/var/lib/containerd", "kubelet": "/var/lib/kubelet"}
        if self.control_plane:
            binds["etcd"] = "/var/lib/etcd"
        return [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            f"--directory={self.root}",
            f"--machine={self.network.machine(self.name)}",
            f"--hostname={self.name}",
            f"--network-bridge={self.network.bridge}",
            "--capability=all",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--bind=/dev/kmsg",
            f"--rlimit=RLIMIT_NOFILE={open_files()}",
            "--system-call-filter=add_key keyctl bpf perf_event_open",
            *(f"--bind={self.directory / part}:{inside}" for part, inside in binds.items()),
        ]

    def start(self) -> Process:
        """Boot the node (its overlay is mounted) and return the process to remember; it is not waited for."""
        left = self.cgroup.kill()
        if left:
            raise LabError(
                f"processes of its last run do not end: {sorted(left)}",
                node=self.name,
                fix="a process that cannot be killed waits for the kernel; reboot this machine",
            )
        self.cgroup.remove()
        self.network.forget(self.name)
        env = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1" if unified() else "0",
        }
        with self.console.open("wb") as out:
            child = subprocess.Popen(
                [*self.cgroup.launcher(), *self.command()],
                env=env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = identify(child.pid)
        if process is None:
            raise LabError("it ended at once", node=self.name, log=self.console_tail())
        return process

    def stop(self, process: Process | None) -> None:
        """Stop the node as a power cut does: every process ends at once, the disk stays as it is."""
        # Its freezer would keep killed processes from ending.
        self.cgroup.freeze(False)
        if process is not None and process.alive():
            # The kernel takes the whole pid namespace down with its init, and nspawn then cleans up behind it.
            for pid in children(process.pid):
                leader = identify(pid)
                if leader:
                    leader.kill(signal.SIGKILL, wait=0)
            if not process.kill(0, wait=5):
                process.kill(signal.SIGKILL, wait=5)
        left = self.cgroup.kill()
        if left:
            raise LabError(
                f"processes cannot be killed: {sorted(left)}",
                node=self.name,
                fix="they wait for the kernel; try again, or reboot this machine",
            )

    def unmount(self) -> None:
        """Unmount everything below the node's directory."""
        for point in mounts_below(self.directory):
            if run(["umount", point], check=False).returncode:
                run(["umount", "--lazy", point], node=self.name, what=f"{point} cannot be unmounted")

    def console_tail(self) -> str:
        """The last lines of the boot console."""
        try:
            return tail(self.console.read_text(errors="replace"))
        except FileNotFoundError:
            return ""
