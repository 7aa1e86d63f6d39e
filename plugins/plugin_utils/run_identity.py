# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a run: who started it, on which controller, as which process; and whether such a process has ended."""

from __future__ import annotations

import getpass
import os
import re
import socket

_PROCESS = re.compile(r"(?P<machine>[0-9a-f-]{36}\.\d+)\.(?P<pid>\d{1,10})\.(?P<start>\d{1,20})")


def get_identity() -> str:
    """Return "user@host_process" of this run. Call it in an action plugin, whose parent is the process of ansible-playbook.

    The process: boot id, pid namespace, pid and start time (Linux, proc(5)), so that no later process has the same; elsewhere the
    pid alone.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        user = str(os.getuid())
    pid = os.getppid()
    machine, start = _machine(), _start(pid)
    process = "%s.%d.%s" % (machine, pid, start) if machine and start else str(pid)
    return "%s@%s_%s" % (user, socket.gethostname(), process)


def has_ended(holder: str) -> bool:
    """Return whether a holder is a run of this machine, boot and pid namespace whose process is gone. False where unknown."""
    found = _PROCESS.fullmatch(holder.rpartition("_")[2])
    return found is not None and found["machine"] == _machine() and _start(int(found["pid"])) != found["start"]


def _machine() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return "%s.%d" % (boot, os.stat("/proc/self/ns/pid").st_ino)
    except (OSError, ValueError):
        return ""


def _start(pid: int) -> str:
    """Return when a process started (clock ticks since boot), or "" where there is none."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
