# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read /proc (proc(5)). No other file of the library does, and nothing that is found there is executed."""

from __future__ import annotations

import os
from typing import List, Optional, Tuple

from ..errors import PkiError

PROC = "/proc"

# A user may make a hundred thousand mounts in a namespace of their own.
_MOST_MOUNTS = 8 << 20

_LONGEST_COMMAND = 2 << 20  # what the kernel takes by default, a quarter of an 8 MiB stack


class ProcReader:
    """Reads what proc(5) tells about processes. proc: where it is mounted."""

    def __init__(self, proc: str = PROC) -> None:
        self.proc = proc
        self._hertz = float(os.sysconf("SC_CLK_TCK"))

    def read(self, name: str, pid: object = "", most: int = -1) -> bytes:
        """Return the content of a file of a process, or of /proc itself. Empty where the process has ended. most: bytes."""
        try:
            with open(os.path.join(self.proc, str(pid), name), "rb") as handle:
                return handle.read(most)
        except OSError:
            return b""

    def text(self, name: str, pid: object = "", most: int = -1) -> str:
        """Return what read() returns, as text."""
        return self.read(name, pid, most).decode("utf-8", "replace")

    def link(self, pid: object, name: str) -> Optional[str]:
        """Return the target of a link of a process, or None."""
        try:
            return os.readlink(os.path.join(self.proc, str(pid), name))
        except OSError:
            return None

    def pids(self) -> List[int]:
        """Return the pids of all processes."""
        return [int(name) for name in os.listdir(self.proc) if name.isdigit()]

    def started(self, pid: object) -> Optional[float]:
        """Return when a process started, in seconds since boot (stat, field 22), or None when it has ended."""
        # The second field, the name, may hold spaces and parentheses.
        fields = self.text("stat", pid).rpartition(")")[2].split()
        return None if len(fields) < 20 or fields[0] in "ZXx" else int(fields[19]) / self._hertz

    def uptime(self) -> float:
        """Return the seconds since boot."""
        return float(self.text("uptime").split()[0])

    def boot_id(self) -> str:
        """Return the kernel's ID of this boot, or ""."""
        return self.text("sys/kernel/random/boot_id").strip()

    def booted(self) -> int:
        """Return when the machine was booted, in seconds since 1970. Raise PkiError where /proc does not say so."""
        for line in self.read("stat").splitlines():
            if line.startswith(b"btime "):
                return int(line.split()[1])
        raise PkiError("has no btime", path=os.path.join(self.proc, "stat"), fix="Mount proc(5) there.")

    def command(self, pid: object) -> List[str]:
        """Return the command line of a process."""
        return [word for word in self.text("cmdline", pid, _LONGEST_COMMAND).split("\0") if word]

    def parent(self, pid: object) -> int:
        """Return the pid of a process's parent; 0 where it has none or has ended."""
        parent = self._status(pid, "PPid")
        return int(parent[0]) if parent and parent[0].isdigit() else 0

    def mounts(self, pid: object) -> List[Tuple[str, str, str]]:
        """Return (device, root, mount point) of the mounts that a process sees (proc(5): /proc/PID/mountinfo)."""
        lines = (line.split() for line in self.text("mountinfo", pid, _MOST_MOUNTS).splitlines())
        return [(fields[2], fields[3], fields[4]) for fields in lines if len(fields) > 5]

    def is_of_the_node(self, pid: object) -> bool:
        """Return whether all uids of a process are 0, and its pid and mount namespaces are those of PID 1."""
        ids = self._status(pid, "Uid")
        return ids == ["0"] * 4 and all(
            own is not None and own == self.link(pid, name)
            for name, own in ((name, self.link(1, name)) for name in ("ns/pid", "ns/mnt"))
        )

    def _status(self, pid: object, key: str) -> List[str]:
        for line in self.text("status", pid).splitlines():
            if line.startswith(key + ":"):
                return line.split()[1:]
        return []
