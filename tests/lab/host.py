# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a lab can run on this machine, and why not."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from .images import ARCHITECTURES
from .settings import Settings

_CAP_SYS_ADMIN = 21
_CAP_NET_ADMIN = 12
_NEEDED_MEMORY = 3 << 30
_NEEDED_DISK = 6 << 30
#: The nodes' systemd, containerd and kubelet all count as this machine's root: a dozen a node, where the kernel allows 128.
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_NEEDED_INOTIFY = 1024


def problems(settings: Settings) -> list[str]:
    """Reasons why the lab cannot run here, as sentences; an empty list when it can."""
    found: list[str] = []
    if platform.system() != "Linux":
        return [f"the lab needs Linux; this is {platform.system()}"]
    if platform.machine() not in ARCHITECTURES:
        found.append(f"the lab needs one of {', '.join(ARCHITECTURES)}; this is {platform.machine()}")
    if os.geteuid() != 0:
        return [*found, "the lab needs root: it mounts file systems, makes network namespaces and boots containers"]
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        found.append("the lab needs Debian (apt-get and dpkg): its nodes are made from Debian packages")
    effective = _capabilities()
    if not all(effective >> bit & 1 for bit in (_CAP_SYS_ADMIN, _CAP_NET_ADMIN)):
        found.append(
            "this root has no CAP_SYS_ADMIN or no CAP_NET_ADMIN (a restricted container): the lab cannot mount or make interfaces"
        )
    elif not _overlay():
        found.append("this kernel has no overlay file system")
    if not (Path("/sys/fs/cgroup/cgroup.controllers").exists() or Path("/sys/fs/cgroup/memory").is_dir()):
        found.append("no cgroups are mounted at /sys/fs/cgroup")
    memory = _memory()
    if memory < _NEEDED_MEMORY:
        found.append(f"the lab needs 3 GiB of free memory; {memory / (1 << 30):.1f} GiB are available")
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < _NEEDED_DISK:
        found.append(f"the lab needs 6 GiB of free disk below {place}; {free / (1 << 30):.1f} GiB are free")
    return found


def allow_inotify(limit: Path = _INOTIFY) -> str | None:
    """Let root have enough inotify instances for a lab or two, until this machine is restarted.

    Returns a line that says so, or None when nothing had to be done or could be.
    """
    try:
        before = int(limit.read_text())
        if before >= _NEEDED_INOTIFY:
            return None
        limit.write_text(f"{_NEEDED_INOTIFY}\n")
    except OSError:
        return None
    return f"fs.inotify.max_user_instances raised from {before} to {_NEEDED_INOTIFY}: all nodes share root's"


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _overlay() -> bool:
    def known() -> bool:
        return any(line.split()[-1] == "overlay" for line in Path("/proc/filesystems").read_text().splitlines())

    if not known() and shutil.which("modprobe"):
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
    return known()


def _memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
