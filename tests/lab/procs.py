# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes the lab started, recognised beyond doubt: by pid, start time and boot, never by name."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process of ours: its pid, when the kernel started it (clock ticks since boot) and the boot it belongs to."""

    pid: int
    start: int
    boot: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie and a stranger with the same pid do not count)."""
        seen = _stat(self.pid)
        return seen is not None and seen[1] == self.start and seen[0] not in "ZX" and self.boot == boot_id()

    def kill(self, number: int = signal.SIGKILL, wait: float = 10) -> bool:
        """Signal the process if it is still this one, wait up to ``wait`` seconds; True when it is gone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        deadline = time.monotonic() + wait
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def boot_id() -> str:
    """The kernel's id of the present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name in parentheses may hold blanks.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def identify(pid: int) -> Process | None:
    """The process that has ``pid`` now, or None."""
    seen = _stat(pid)
    return Process(pid, seen[1], boot_id()) if seen else None


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.extend(int(p) for p in task.read_text().split())
    return found
