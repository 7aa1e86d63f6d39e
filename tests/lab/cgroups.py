# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cgroup of its own for each node.

Without it all nodes would share the host's tree: their systemds would see each other's services, fail with
219/CGROUP and stop each other. On a cgroup v1 (or hybrid) host a node gets a directory in every hierarchy; on a
cgroup v2 host one directory, or a delegated scope where systemd runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from .shell import run

ROOT = Path("/sys/fs/cgroup")


def unified() -> bool:
    """Whether this host has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def systemd_host() -> bool:
    """Whether systemd manages this host."""
    return Path("/run/systemd/system").is_dir()


class NodeCgroup:
    """The cgroup of one node; ``label`` names it and is unique on the machine (``kubepki-lab-NAME.NODE``)."""

    def __init__(self, label: str) -> None:
        self.label = label

    def directories(self) -> list[Path]:
        """This node's directory in each hierarchy; they need not exist."""
        if unified():
            if systemd_host():
                return [ROOT / "system.slice" / f"{self.label}.scope"]
            return [ROOT / self.label]
        return [h / self.label for h in sorted(ROOT.iterdir()) if (h / "cgroup.procs").exists() and not h.is_symlink()]

    def launcher(self) -> list[str]:
        """The words to put before a command so that it runs in this cgroup.

        Makes the directories first, where systemd does not.
        """
        if unified() and systemd_host():
            # A scope of the last run that systemd has not yet noticed to be empty would be in the way.
            run(["systemctl", "stop", f"{self.label}.scope"], check=False)
            return [
                "systemd-run",
                "--quiet",
                "--scope",
                "--collect",
                f"--unit={self.label}",
                "--slice=system.slice",
                "-p",
                "Delegate=yes",
            ]
        for directory in self.directories():
            directory.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                # A new v1 cpuset is empty, and nothing may run in an empty one.
                if not unified() and (directory / name).exists():
                    (directory / name).write_text((directory.parent / name).read_text())
        if unified():
            with contextlib.suppress(OSError):
                names = (ROOT / "cgroup.controllers").read_text().split()
                (ROOT / "cgroup.subtree_control").write_text(" ".join(f"+{n}" for n in names))
        # A cluster that starves because `up` was started with nice would only show its own time-outs.
        script = (
            "renice -n 0 -p $$ >/dev/null 2>&1; "
            'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
        )
        return ["sh", "-c", script, "enter", *(str(d) for d in self.directories()), "--"]

    def processes(self) -> set[int]:
        """Every process in this cgroup and below."""
        found: set[int] = set()
        for directory in self.directories():
            for below in self._tree(directory):
                with contextlib.suppress(OSError):
                    found.update(int(p) for p in (below / "cgroup.procs").read_text().split())
        # A process of another namespace shows as 0.
        return found - {0, os.getpid()}

    def kill(self, seconds: float = 10) -> set[int]:
        """Kill all that is in this cgroup; returns what is left after ``seconds`` (normally nothing)."""
        deadline = time.monotonic() + seconds
        while True:
            left = self.processes()
            if not left or time.monotonic() > deadline:
                return left
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def remove(self, seconds: float = 5) -> None:
        """Remove the directories; they must be empty of processes. OSError when the kernel keeps one busy."""
        deadline = time.monotonic() + seconds
        for directory in self.directories():
            while directory.exists():
                try:
                    for below in self._tree(directory):
                        below.rmdir()
                except FileNotFoundError:
                    continue
                except OSError:
                    # The kernel lets go of a killed process's cgroup a moment after the process.
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

    def freeze(self, frozen: bool) -> None:
        """Stop every process of the node where it stands, or let all go on."""
        for directory in self.directories():
            if unified():
                (directory / "cgroup.freeze").write_text("1" if frozen else "0")
            elif directory.parent.name == "freezer":
                (directory / "freezer.state").write_text("FROZEN" if frozen else "THAWED")

    def _tree(self, directory: Path) -> Iterator[Path]:
        """``directory`` and all below it, deepest first."""
        for path, _children, _files in os.walk(directory, topdown=False):
            yield Path(path)
