# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the process of this node's kubelet, and its version.

A process may give itself any name and any command line, and a pod may see the host's pids. So a name proves nothing:
- The kubelet is the main process of its systemd unit. It has uid 0 and the pid and mount namespaces of PID 1.
- Where systemd is not the init system, it is a process with the same uid and namespaces whose program only root can replace.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from typing import Callable, Dict, List, Optional

from ..errors import PkiError
from . import systemd
from .proc import ProcReader

_FIX_MAIN = (
    "Run with become: true (root). A kubelet in a container is not supported, nor are settings of its unit that give it "
    "mounts of its own (PrivateTmp=, ProtectHome= and the like)."
)

# Where packages and installers put the kubelet, for a unit that starts it through a shell.
_PROGRAMS = ("/usr/bin/kubelet", "/usr/local/bin/kubelet", "/opt/bin/kubelet", "/usr/sbin/kubelet")

ShowUnit = Callable[[str], Dict[str, str]]


class KubeletProcess:
    """The identified process of a kubelet. started: seconds since boot. command: its words.

    program: path of the executable that the init system starts, or None where it is not known.
    """

    def __init__(self, pid: int, started: float, command: List[str], program: Optional[str] = None) -> None:
        self.pid, self.started, self.command, self.program = pid, started, command, program


class KubeletFinder:
    """Finds the kubelet. show: systemd.show_unit, or None where systemd is not the init system."""

    def __init__(self, proc: ProcReader, show: Optional[ShowUnit]) -> None:
        self._proc, self._show = proc, show
        self._found: Optional[KubeletProcess] = None

    def find(self) -> KubeletProcess:
        """Return the kubelet's process. Raise PkiError with the reason why there is none."""
        known = self._found
        if known is None or self._proc.started(known.pid) != known.started:
            known = self._main_process(self._show) if self._show else self._without_systemd()
            # Between fork and exec, or before its shell has started it, the same process does not show its flags yet.
            self._found = known if self._is_called_kubelet(known.pid) else None
        return known

    def _main_process(self, show: ShowUnit) -> KubeletProcess:
        unit = show(systemd.KUBELET_UNIT)
        main = unit["MainPID"]
        if not main.isdigit() or main == "0":
            raise PkiError(
                "%s is %s (%s)" % (systemd.KUBELET_UNIT, unit["ActiveState"], unit["SubState"]),
                fix="See `systemctl status kubelet` and `journalctl -u kubelet`.",
            )
        if not self._proc.is_of_the_node(main):
            raise systemd.KubeletNotIdentifiedError(
                "the main process %s of %s is not seen to run as root in the node's own pid and mount namespaces"
                % (main, systemd.KUBELET_UNIT),
                fix=_FIX_MAIN,
            )
        program = re.search(r"\bpath=(\S+)", unit["ExecStart"])
        return self._identified(self._behind_a_shell(int(main)), program.group(1) if program else None)

    def _identified(self, pid: int, program: Optional[str]) -> KubeletProcess:
        started = self._proc.started(pid)
        if started is None:
            raise PkiError("the process %d of the kubelet has just ended" % pid, fix="See `journalctl -u kubelet`.")
        return KubeletProcess(pid, started, self._proc.command(pid), program)

    def _behind_a_shell(self, main: int) -> int:
        """Return the main process where it is the kubelet, else the descendant whose program is called so."""
        if self._is_called_kubelet(main):
            return main
        parents = {pid: self._proc.parent(pid) for pid in self._proc.pids()}
        for pid in sorted(parents):
            if main in _ancestors(pid, parents) and self._proc.is_of_the_node(pid) and self._is_called_kubelet(pid):
                return pid
        return main

    def _is_called_kubelet(self, pid: int) -> bool:
        return os.path.basename((self._proc.command(pid) or [""])[0]) == "kubelet"

    def _without_systemd(self) -> KubeletProcess:
        for pid in sorted(self._proc.pids()):
            program = self._proc.link(pid, "exe") or ""
            # Its program, because a program that is setuid may be started under any name, and some give themselves uid 0.
            if os.path.basename(program) == "kubelet" and self._proc.is_of_the_node(pid) and only_root_writes(program):
                return self._identified(pid, program)
        raise PkiError(
            "systemd is not the init system here, and root runs no kubelet from a file that only root can write",
            fix="Start it, or see whether others can write its program or a directory above.",
        )

    def minor(self) -> Optional[int]:
        """Return <minor> of the version 1.<minor> of the kubelet that runs, else of the installed one; None where unknown.

        The program is run from a place that only root can write, never through /proc/PID/exe. For a kubelet that runs it has to
        be the same file, which it is not after an upgrade.
        """
        try:
            kubelet: Optional[KubeletProcess] = self.find()
        except PkiError:
            kubelet = None
        own = [kubelet.program] if kubelet and kubelet.program and os.path.basename(kubelet.program) == "kubelet" else []
        for program in own + [path for path in _PROGRAMS if path not in own]:
            if os.path.isfile(program) and only_root_writes(program) and (kubelet is None or self._runs(kubelet, program)):
                return _version_minor(os.path.realpath(program))
        return None

    def _runs(self, process: KubeletProcess, program: str) -> bool:
        try:
            return os.path.samestat(os.stat(os.path.join(self._proc.proc, str(process.pid), "exe")), os.stat(program))
        except OSError:
            return False


def only_root_writes(path: str) -> bool:
    """Return whether only root can change a file or replace it: its links and all directories above count."""
    path = os.path.realpath(path)
    try:
        while True:
            status = os.lstat(path)
            loose = stat.S_IWOTH if status.st_gid == 0 else stat.S_IWOTH | stat.S_IWGRP
            if status.st_uid != 0 or status.st_mode & loose:
                return False
            if path == os.path.dirname(path):
                return True
            path = os.path.dirname(path)
    except OSError:
        return False


def _ancestors(pid: int, parents: Dict[int, int]) -> List[int]:
    found: List[int] = []
    while parents.get(pid) and pid not in found:
        found.append(pid)
        pid = parents[pid]
    return found[1:] + [pid]


def _version_minor(program: str) -> Optional[int]:
    try:
        done = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v1\.(\d+)", done.stdout.decode("ascii", "replace"))
    return int(match.group(1)) if match else None
