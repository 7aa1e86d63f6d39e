# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a static pod on this node, found without the client of any container runtime.

The containers are found through /proc (host/container_processes.py). The kubelet names a pod's directory of logs
/var/log/pods/NAMESPACE_NAME-NODE_UID.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import List, Optional, Set

from ..host import processes
from ..host.container_processes import Instance
from ..kubeadm.layouts import Layout
from ..kubeadm.manifests import Manifest

_DELETED = "//deleted"


class PodProcesses:
    """Finds the processes of static pods.

    kubelet_dir: where the kubelet keeps its pods. logs: where it keeps their logs. node_name: the node's in the API, by default
    its host's. seen: the Processes to look at, by default those of this node.
    """

    def __init__(
        self,
        kubelet_dir: str = processes.KUBELET_DIR,
        logs: str = "/var/log/pods",
        node_name: Optional[str] = None,
        seen: Optional[processes.Processes] = None,
    ) -> None:
        self.kubelet_dir, self.logs = kubelet_dir, logs
        self.node_name = node_name or os.uname().nodename.lower()
        self.processes = seen or processes.Processes()

    def instances(self, manifest: Manifest) -> List[Instance]:
        """Return the Instances of a static pod, one for each container, the oldest process of each."""
        uids, logged = self.uids(manifest), os.path.isdir(self.logs)
        metadata = manifest.data.get("metadata")
        own = metadata.get("uid") if isinstance(metadata, dict) else None
        found: dict = {}
        for instance in self.processes.instances(self.kubelet_dir):
            # A pod of the API may have a static pod's name, and a container of its name, but no UID of its kind.
            if (instance.is_static or instance.uid == own) and (
                instance.uid in uids if logged else instance.container == manifest.component
            ):
                key = (instance.uid, instance.container, instance.container_id)
                if key not in found or instance.started < found[key].started:
                    found[key] = instance
        return list(found.values())

    def alive(self, instance: Instance) -> bool:
        """Return whether the process of an Instance still is the same and has not ended."""
        return self.processes.alive(instance)

    def age(self, instance: Instance) -> float:
        """Return for how many seconds an Instance has run."""
        return self.processes.uptime() - instance.started

    def lost_files(self, instance: Instance) -> Set[str]:
        """Return the paths, within their file systems, of the files that an Instance has mounted and that were replaced since.

        The kernel marks such a mount in /proc/PID/mountinfo (fs/d_path.c: the name of an unlinked file ends in "//deleted").
        """
        lines = self.processes.text("mountinfo", instance.pid).splitlines()
        roots = [(line.split() + [""] * 4)[3] for line in lines] if self.alive(instance) else []
        return {
            re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), root[: -len(_DELETED)])
            for root in roots
            if root.endswith(_DELETED)
        }

    def uids(self, manifest: Manifest) -> Set[str]:
        """Return the UIDs under which a pod has run on this node and left logs, or is about to run."""
        found: Set[str] = set()
        prefix = "%s_%s-" % (manifest.namespace, manifest.name)
        exact = "%s_%s-%s_" % (manifest.namespace, manifest.name, self.node_name)
        with contextlib.suppress(OSError):
            names = [name for name in os.listdir(self.logs) if name.startswith(prefix)]
            # "etcd-" also begins "etcd-backup-node".
            own = [name for name in names if name.startswith(exact)] or names
            found.update(name.rsplit("_", 1)[1] for name in own)
        return found


def pods_directory(layout: Layout) -> str:
    """Return the directory below which the kubelet of a node keeps its pods (--root-dir)."""
    root_dir = layout.kubelet["flags"].get("--root-dir")
    return layout.at(root_dir) if root_dir else layout.kubelet_dir


def of_node(layout: Layout) -> PodProcesses:
    """Return the PodProcesses of the node that a Layout describes."""
    return PodProcesses(pods_directory(layout), node_name=layout.node_name)
