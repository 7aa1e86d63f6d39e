# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the processes in containers that this node's kubelet started.

- A container of a pod is known by its termination log: a mount of a file that the kubelet keeps below its own directory, which
  only root can enter. The pod's UID in the control group has to be the same.
- A static pod's UID is a hash of its manifest, while the API gives each of its own pods a UUID.
"""

from __future__ import annotations

import os
import re
from typing import Dict, List, Optional, Set, Tuple

from .proc import ProcReader

_POD_UID = r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_POD_FILE = re.compile(r"/(%s)/containers/([^/]+)/[^/]+" % _POD_UID)

_POD_GROUP = re.compile(r"(?:.*-)?pod(%s)(?:\.slice)?" % _POD_UID)

_STATIC_UID = re.compile(r"[0-9a-f]{32}")  # pkg/kubelet/config/common.go: applyDefaults

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")

_YOUNG_SECONDS = 5  # so long a container's first process may still have the host's mounts


class Instance:
    """A process in a container that the kubelet of this node started.

    uid: the pod's. container: its name. started: seconds since boot. container_id: 64 hex digits, or None where the control
    groups do not tell. cgroups: directory of the control groups of this pod and others of its kind, or None.
    """

    def __init__(
        self,
        uid: str,
        container: str,
        pid: int,
        started: float,
        container_id: Optional[str] = None,
        cgroups: Optional[str] = None,
    ) -> None:
        self.uid, self.container, self.pid, self.started, self.container_id = uid, container, pid, started, container_id
        self.cgroups = cgroups

    @property
    def identity(self) -> str:
        """The container ID, or "pid NUMBER" where it is not known."""
        return self.container_id or "pid %d" % self.pid

    @property
    def is_static(self) -> bool:
        """Whether the kubelet read the pod from a manifest."""
        return _STATIC_UID.fullmatch(self.uid) is not None


class ContainerFinder:
    """Finds the processes in containers. What was seen of a process is kept until it ends."""

    def __init__(self, proc: ProcReader) -> None:
        self._proc = proc
        self._known: Dict[int, Optional[Instance]] = {}
        self._pods: Dict[str, Tuple[str, str]] = {}
        self._outer: Optional[Set[str]] = None

    def instances(self, kubelet_dir: str) -> List[Instance]:
        """Return an Instance for each process in a container. kubelet_dir: where the kubelet keeps its pods (--root-dir)."""
        pids = self._proc.pids()
        for pid in set(self._known) - set(pids):
            del self._known[pid]
        pods = self._pods_directory(kubelet_dir)
        own, found = self._proc.link(1, "ns/mnt"), []
        seen: Dict[tuple, Optional[re.Match]] = {}
        for pid in pids:
            if pid not in self._known:
                self._examine(pid, pods, own, seen)
            instance = self._known.get(pid)
            if instance and self.alive(instance):
                found.append(instance)
            elif instance:
                del self._known[pid]  # its pid has another process now
        return found

    def alive(self, instance: Instance) -> bool:
        """Return whether the process of an Instance still is the same and has not ended."""
        return self._proc.started(instance.pid) == instance.started

    def _pods_directory(self, kubelet_dir: str) -> Tuple[str, str]:
        """Return (device, path within its file system) of the directory of the kubelet's pods, as mountinfo shows both."""
        if kubelet_dir not in self._pods:
            real, longest, found = os.path.realpath(os.path.join(kubelet_dir, "pods")), -1, ("", "")
            for device, root, point in self._proc.mounts(1):
                point = point.rstrip("/")
                if (real + "/").startswith(point + "/") and len(point) >= longest:
                    longest, found = len(point), (device, root.rstrip("/") + real[len(point) :])
            self._pods[kubelet_dir] = found
        return self._pods[kubelet_dir]

    def _examine(self, pid: int, pods: Tuple[str, str], own: Optional[str], seen: Dict[tuple, Optional[re.Match]]) -> None:
        mounts = self._proc.link(pid, "ns/mnt")
        if mounts is None or mounts == own:
            self._known[pid] = None
            return
        started = self._proc.started(pid)
        if started is None:
            return
        groups = self._proc.text("cgroup", pid)
        # A process sees the mounts of its namespace that are below its root.
        key = (mounts, self._proc.link(pid, "root"))
        match = seen[key] if key in seen else self._pod_file(pid, pods)
        if self._proc.started(pid) == started:  # of a process that has ended, mountinfo is empty
            seen[key] = match
        if match and self._is_in_groups_of(match.group(1), groups):
            identity = _CONTAINER_ID.findall(groups)
            self._known[pid] = Instance(
                match.group(1), match.group(2), pid, started, identity[-1] if identity else None, _cgroups_above(groups)
            )
        elif self._proc.uptime() - started > _YOUNG_SECONDS:
            self._known[pid] = None

    def _is_in_groups_of(self, uid: str, groups: str) -> bool:
        """Return whether the control groups of a process are those of a pod, or of none (--cgroups-per-qos=false)."""
        if self._outer is None:
            # A node that is a pod itself has its own UID in all of its paths.
            self._outer = {found for line in _pods_of_groups(self._proc.text("cgroup", 1)) for found in line}
        outer = self._outer
        nearest = [[found for found in line if found not in outer][:1] for line in _pods_of_groups(groups)]
        return all(found == [uid] for found in nearest if found)

    def _pod_file(self, pid: int, pods: Tuple[str, str]) -> Optional[re.Match]:
        device, directory = pods
        for mounted, root, _point in self._proc.mounts(pid):
            if device and mounted == device and root.startswith(directory + "/"):
                match = _POD_FILE.fullmatch(root[len(directory) :])
                if match:
                    return match
        return None


def _pods_of_groups(groups: str) -> List[List[str]]:
    """Return the UIDs of the pods in each path of /proc/PID/cgroup, that nearest to the root first."""
    paths = [line.split(":", 2)[-1].split("/") for line in groups.splitlines()]
    matches = [[_POD_GROUP.fullmatch(name.replace("_", "-")) for name in path] for path in paths]
    return [[match.group(1) for match in path if match] for path in matches]


def _cgroups_above(groups: str) -> Optional[str]:
    """Return the directory of the control groups of pods like this one, from /proc/PID/cgroup of a container, or None."""
    for line in groups.splitlines():
        _number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if not _CONTAINER_ID.search(path):
            continue
        mounts = ["/sys/fs/cgroup/" + name.replace("name=", "") for name in controllers.split(",") if name]
        for mount in mounts + ["/sys/fs/cgroup"]:
            directory = os.path.dirname(os.path.dirname(mount + path))
            if os.path.isdir(mount + path) and len(directory) > len(mount):
                return directory
    return None
