# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of the cluster's components on this node, and since when they run."""

from __future__ import annotations

import os
from typing import Dict, List, Optional

from ..errors import PkiError
from . import systemd
from .container_processes import ContainerFinder, Instance
from .kubelet_process import KubeletFinder, KubeletProcess, ShowUnit
from .proc import PROC, ProcReader

KUBELET_DIR = "/var/lib/kubelet"

# The kernel counts starts in ticks since boot, and the time of the boot in whole seconds.
_ROUNDING = 2.0


class Processes(ProcReader):
    """The processes of this node. proc: where proc(5) is mounted. show: systemd.show_unit, or a function like it, or None."""

    def __init__(self, proc: str = PROC, show: Optional[ShowUnit] = None) -> None:
        super().__init__(proc)
        if show is None and proc == PROC and systemd.is_init():
            show = systemd.show_unit
        self._kubelet, self._containers = KubeletFinder(self, show), ContainerFinder(self)

    def kubelet(self) -> KubeletProcess:
        """Return the kubelet's process. Raise PkiError with the reason why there is none."""
        return self._kubelet.find()

    def kubelet_minor(self) -> Optional[int]:
        """Return <minor> of the kubelet's version 1.<minor>, or None (KubeletFinder.minor)."""
        return self._kubelet.minor()

    def instances(self, kubelet_dir: Optional[str] = None) -> List[Instance]:
        """Return an Instance for each process in a container of this node's kubelet.

        kubelet_dir: where it keeps its pods (--root-dir); by default that of the kubelet that runs.
        """
        return self._containers.instances(kubelet_dir or self._root_dir())

    def alive(self, instance: Instance) -> bool:
        """Return whether the process of an Instance still is the same and has not ended."""
        return self._containers.alive(instance)

    def _root_dir(self) -> str:
        try:
            words = self.kubelet().command
        except PkiError:
            return KUBELET_DIR
        for word, following in zip(words, words[1:] + [""]):
            flag, equals, value = word.partition("=")
            if flag.lstrip("-").replace("_", "-") == "root-dir":
                return (value if equals else following) or KUBELET_DIR
        return KUBELET_DIR

    def component_started(self, component: str) -> float:
        """Return when the newest process of a component started, in seconds since boot; -1 where none runs.

        component: "kubelet", or the container of a static pod. Its process is the oldest in the container.
        """
        if component == "kubelet":
            try:
                return self.kubelet().started
            except PkiError:
                return -1.0
        found: Dict[tuple, float] = {}
        for item in self.instances():
            if item.is_static and item.container == component:
                key = (item.uid, item.container_id)
                found[key] = min(item.started, found.get(key, item.started))
        return max(found.values(), default=-1.0)

    def older_than(self, component: str, path: str) -> bool:
        """Return whether a static pod's component runs that reads a file and started before the file was last written.

        component: its container, such as "kube-scheduler". path: the file, which one of its arguments names
        (--kubeconfig=PATH). False where either is missing.
        """
        try:
            written, booted = os.stat(path).st_mtime, self.booted()
        except (OSError, PkiError):
            return False
        return any(
            item.is_static
            and item.container == component
            and booted + item.started + _ROUNDING < written
            and any(word.endswith("=" + path) for word in self.command(item.pid))
            for item in self.instances()
        )


_OWN = Processes()


def own() -> Processes:
    """Return the Processes of this node."""
    return _OWN


def older_than(component: str, path: str) -> bool:
    """Return what Processes.older_than() returns on this node."""
    return _OWN.older_than(component, path)
