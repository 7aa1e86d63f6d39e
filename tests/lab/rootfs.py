# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node root: a Debian system made by debootstrap once, the lowest layer of every node's overlay."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from . import debian
from .cache import cached, remove_tree
from .errors import LabError
from .progress import Progress
from .settings import Settings
from .shell import retry, run, tail

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    # cffi-backend is named because debootstrap otherwise leaves cryptography unconfigured.
    "python3",
    "python3-cffi-backend",
    "python3-cryptography",
    "python3-yaml",
    "iproute2",
    "iptables",
    "containerd",
    "runc",
    "conntrack",
    "socat",
    "ethtool",
    "ebtables",
    "kmod",
    "procps",
    "util-linux",
    "ca-certificates",
    "curl",
    "openssl",
    "jq",
    "containernetworking-plugins",
    "etcd-server",
    "etcd-client",
)
#: Where the root keeps what images are made of but a kubeadm node does not have on its PATH.
STORE = "usr/lib/kubepki-lab"

_MASKED = (
    "systemd-udevd.service",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-control.socket",
    "systemd-udev-trigger.service",
    "systemd-modules-load.service",
    "systemd-logind.service",
    "getty@tty1.service",
    "console-getty.service",
    "getty-static.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "dpkg-db-backup.timer",
    "etcd.service",
)

#: cgroup v1 controllers arrive read-only in a container, and pods with shared mounts need a shared root.
_MOUNTS_UNIT = """\
[Unit]
Description=kubepki lab: writable cgroups and a shared root
DefaultDependencies=no
Before=containerd.service kubelet.service
[Service]
Type=oneshot
RemainAfterExit=yes
Restart=on-failure
RestartSec=1
ExecStart=/bin/sh -c 'for c in /sys/fs/cgroup /sys/fs/cgroup/*/; do \
if mountpoint -q "$c" && ! test -w "$c"; then mount -o remount,bind,rw "$c" || exit 1; fi; done; mount --make-rshared /'
[Install]
WantedBy=sysinit.target
"""

#: networkd waits for udev, which a container has not; started very early this can fail with 219/CGROUP once.
_NETWORK_UNIT = """\
[Unit]
Description=kubepki lab: network of this node
DefaultDependencies=no
Before=network.target ssh.service containerd.service kubelet.service
After=kubepki-lab-mounts.service
[Service]
Type=oneshot
RemainAfterExit=yes
Restart=on-failure
RestartSec=1
ExecStart=/bin/sh /etc/kubepki-lab/network.sh
[Install]
WantedBy=sysinit.target
"""

_KUBELET_UNIT = """\
[Unit]
Description=kubelet: The Kubernetes Node Agent
After=containerd.service network.target
# kubeadm writes it; before that the kubelet could only crash in a loop.
ConditionPathExists=/var/lib/kubelet/config.yaml
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/kubelet
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
"""

#: As in kubeadm's own packages.
_KUBECONFIGS = "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
_KUBEADM_DROPIN = f"""\
[Service]
Environment="KUBELET_KUBECONFIG_ARGS={_KUBECONFIGS}"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""

_SSHD = """\
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
UsePAM no
MaxStartups 200
MaxSessions 100
PrintMotd no
"""

FILES = {
    "etc/systemd/system/kubepki-lab-mounts.service": _MOUNTS_UNIT,
    "etc/systemd/system/kubepki-lab-network.service": _NETWORK_UNIT,
    "etc/systemd/system/kubelet.service": _KUBELET_UNIT,
    "etc/systemd/system/kubelet.service.d/10-kubeadm.conf": _KUBEADM_DROPIN,
    "etc/systemd/journald.conf.d/kubepki-lab.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nRateLimitIntervalSec=0\n",
    "etc/ssh/sshd_config.d/kubepki-lab.conf": _SSHD,
    # No name server: names come from /etc/hosts, all others fail at once instead of after a timeout.
    "etc/resolv.conf": "",
    "etc/default/kubelet": "KUBELET_EXTRA_ARGS=\n",
}


def key(suite: str) -> str:
    """Name of the cached root: the suite and a digest of all that it is made of."""
    material = json.dumps([suite, PACKAGES, _MASKED, FILES, STORE], sort_keys=True)
    return f"{suite}-{hashlib.sha256(material.encode()).hexdigest()[:12]}"


def prepare(settings: Settings, progress: Progress) -> Path:
    """Return the node root's directory (``.../roots/KEY/root``), built when the cache has none."""
    directory = settings.home / "roots" / key(settings.suite)
    cached(directory, lambda partial: _build(partial, settings.suite, progress), progress, "the node root")
    return directory / "root"


def _build(partial: Path, suite: str, progress: Progress) -> None:
    root = partial / "root"
    log = partial / "debootstrap.log"
    source = debian.mirror(progress)

    def bootstrap() -> None:
        remove_tree(root)
        log.write_text("")
        run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, root, source],
            log=log,
            what=f"making the node root ({suite}) failed",
            fix="check the machine's network and apt configuration",
        )

    def failed(attempt: int, exc: LabError) -> None:
        progress.step(f"debootstrap failed (try {attempt} of 4), trying again: {tail(exc.log or '', 1)}")

    with progress.during(f"making the node root with debootstrap ({suite}, {len(PACKAGES)} packages, one or two minutes)"):
        retry(bootstrap, tries=4, pause=3, on_failure=failed)
    progress.step("configuring the node root")
    configure(root)


def configure(root: Path) -> None:
    """Turn a fresh Debian tree into a node root: units, sshd, masked services, no identity of its own."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        path.write_text(text)
    for directory in ("etc/kubernetes/manifests", "opt/cni", "etc/cni/net.d", "etc/kubepki-lab", "root/.ssh", STORE):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "root/.ssh").chmod(0o700)
    (root / "opt/cni/bin").symlink_to("/usr/lib/cni")
    # etcd comes in a static pod, as kubeadm has it; these only feed the image.
    for name in ("etcd", "etcdctl"):
        (root / "usr/bin" / name).rename(root / STORE / name)
    for unit in _MASKED:
        link = root / "etc/systemd/system" / unit
        if not link.is_symlink():
            link.symlink_to("/dev/null")
    run(
        [
            "chroot",
            root,
            "systemctl",
            "enable",
            "kubelet.service",
            "containerd.service",
            "ssh.service",
            "kubepki-lab-mounts.service",
            "kubepki-lab-network.service",
        ],
        what="enabling the node's services failed",
    )
    (root / "etc/machine-id").write_text("")
    for left in (root / "var/cache/apt/archives").glob("*.deb"):
        left.unlink()


def libraries(root: Path, binary: str) -> dict[str, Path]:
    """Shared libraries that ``binary`` (a path inside ``root``) needs: path in an image -> file on this host."""
    out = run(["chroot", root, "ldd", "/" + binary.lstrip("/")], check=False).stdout
    found: dict[str, Path] = {}
    for line in out.splitlines():
        match = re.search(r"(/\S+) \(0x", line)
        if not match:
            continue
        # The loader's path is compiled into the binary; the others are found by its default search path.
        inside = match.group(1)
        found[inside] = resolve_in(root, inside)
    return found


def resolve_in(root: Path, inside: str) -> Path:
    """The host's path of ``inside`` as a process whose root is ``root`` would find it (links followed inside it)."""
    path = root
    parts = [p for p in inside.split("/") if p]
    hops = 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            path = path.parent if path != root else root
            continue
        here = path / part
        if here.is_symlink():
            hops += 1
            if hops > 40:
                raise LabError(f"too many links in {inside} below {root}")
            target = str(here.readlink())
            parts = [p for p in target.split("/") if p and p != "."] + parts
            if target.startswith("/"):
                path = root
            continue
        path = here
    return path
