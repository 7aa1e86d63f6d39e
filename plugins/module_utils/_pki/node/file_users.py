# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static pods that use files which this collection replaces, such as kube-vip with admin.conf, and whether these files are old.

A mount of a single file keeps the inode it was started with: a file that is renamed into its place is never seen in the pod. Of
a directory's mount the pod sees the new file, but a program that reads it once, as client-go does with a kubeconfig, does not.
"""

from __future__ import annotations

import os
import re
import time
from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

from ..kubeadm import catalogue, manifests
from ..kubeadm.layouts import Layout
from ..kubeadm.manifests import Manifest, Mount
from . import pod_processes

FILE, NAMED, DIRECTORY = "file", "named", "directory"

_ORDER = (FILE, NAMED, DIRECTORY)

# Seconds: the times of files and of processes come from two clocks.
_MARGIN = 0.5

# The kubelet replaces these itself whenever it rotates them.
_KUBELETS_OWN = ("kubelet-client", "kubelet-serving")


class FileUser:
    """A static pod that uses files which this collection replaces.

    files: {path: FILE for a mount of that file alone, NAMED where the pod mounts its directory and
    names the file in its command or environment, DIRECTORY where it mounts kubeadm's directory and may read the file}.
    name: for the restart of pods (pod_restart). why: why it cannot be restarted from here, or None.
    """

    def __init__(self, manifest: Manifest, files: Dict[str, str], everything: Sequence[Manifest]) -> None:
        self.manifest, self.files = manifest, files
        self.name, self.why = _name(manifest, everything)

    def uses(self) -> List[str]:
        """Return the paths whose replacement makes a restart necessary, sorted."""
        return sorted(path for path, how in self.files.items() if how != DIRECTORY)


def _name(manifest: Manifest, everything: Sequence[Manifest]) -> Tuple[str, Optional[str]]:
    """Return (name, None), or (the pod's name, why it cannot be restarted from here)."""
    same = [item for item in everything if (item.namespace, item.name) == (manifest.namespace, manifest.name)]
    if len(same) > 1:
        return manifest.name, "it is in several files of the manifest directory"
    if (manifest.data.get("spec") or {}).get("restartPolicy") not in (None, "Always"):
        return manifest.name, "it does not run all the time (restartPolicy)"
    if os.path.islink(manifest.path):
        return manifest.name, "its manifest is a symbolic link"
    for name in (manifest.name, os.path.splitext(os.path.basename(manifest.path))[0]):
        if [item for item in everything if manifests.called(item, [name])] == [manifest]:
            return name, None
    return manifest.name, "another static pod has the same name"


def replaced(layout: Layout) -> Dict[str, Set[str]]:
    """Return {path: {names of the CAs it depends on}} of the files on this node that renewals and rotations replace."""
    found: Dict[str, Set[str]] = {}

    def add(path: Optional[str], name: str) -> None:
        if path:
            found.setdefault(path, set()).add(name)

    for name, (path, key) in layout.paths.items():
        if name not in _KUBELETS_OWN:
            entry = catalogue.BY_NAME[name]
            ca = name if entry.kind == catalogue.CA else entry.ca or "ca"
            add(path, ca)
            add(key, ca)
    for entry in catalogue.CATALOGUE:
        if entry.kind == catalogue.KUBECONFIG and entry.name not in layout.paths:
            add(os.path.join(layout.kubernetes_dir, entry.path), "ca")
    for key in ("kubeconfig_path", "bootstrap_kubeconfig_path", "ca_file"):
        add(layout.kubelet.get(key), "ca")
    for path in [layout.sa_key] + list(layout.sa_pub):
        add(path, "sa")
    return {path: names for path, names in found.items() if os.path.lexists(path)}


def users(layout: Layout) -> List[FileUser]:
    """Return the FileUsers of this node, in the order of their files' names."""
    found = []
    paths = list(replaced(layout)) if any(item.mounts for item in layout.all_manifests) else []
    for manifest in layout.all_manifests:
        files = {}
        for path in paths:
            how = _how(layout, manifest, path)
            if how and (manifest.component not in catalogue.STATIC_PODS or how == FILE):
                files[path] = how
        if files:
            found.append(FileUser(manifest, files, layout.all_manifests))
    return found


def _how(layout: Layout, manifest: Manifest, path: str) -> Optional[str]:
    """Return how a pod uses a file: FILE, NAMED, DIRECTORY, or None."""
    ways = {_through(layout, mount, path) for mount in manifest.mounts}
    return next((how for how in _ORDER if how in ways), None)


def _through(layout: Layout, mount: Mount, path: str) -> Optional[str]:
    host = layout.at(mount.host)
    for one, other in ((host, path), (os.path.realpath(host), os.path.realpath(path))):
        if one == other:
            return FILE
        if other.startswith(one.rstrip("/") + "/"):
            inside = os.path.join(mount.inside, os.path.relpath(other, one))
            if any(_names(word, inside) for word in mount.words):
                return NAMED
            if (one + "/").startswith(layout.kubernetes_dir.rstrip("/") + "/"):
                return DIRECTORY
    return None


def _names(word: str, path: str) -> bool:
    return re.search(r"(?:^|[=\s,:;\"'])%s(?:\Z|[\s,:;\"'])" % re.escape(path), word) is not None


def cas(layout: Layout, user: FileUser) -> List[str]:
    """Return the names of the CAs (and "sa") whose rotation replaces a file that a FileUser uses, sorted."""
    known = replaced(layout)
    return sorted({name for path in user.uses() for name in known.get(path, ())})


def due(layout: Layout, written: Iterable[str] = (), runtime: Optional[pod_processes.PodProcesses] = None) -> List[str]:
    """Return the names of the static pods that have to be restarted because of replaced files, sorted.

    written: paths that were, or would be, replaced now. Beside their users these are the pods that still use what an earlier
    run, or kubeadm, replaced. runtime: None for this node's. What cannot be restarted is in left().
    """
    return sorted(
        user.name for user in users(layout) if user.why is None and (_written(user, written) or stale(layout, user, runtime))
    )


def _written(user: FileUser, written: Iterable[str]) -> bool:
    paths = {os.path.realpath(path) for path in written} | set(written)
    return any(path in paths or os.path.realpath(path) in paths for path in user.uses())


def stale(
    layout: Layout,
    user: FileUser,
    runtime: Optional[pod_processes.PodProcesses] = None,
    hows: Iterable[str] = (FILE, NAMED),
) -> List[str]:
    """Return the paths of the files that were replaced since a FileUser's containers started, sorted; [] where none runs.

    hows: the kinds of use that count. A file that is mounted alone is compared by its inode (/proc/PID/mountinfo).
    """
    paths = sorted(path for path, how in user.files.items() if how in hows)
    if not paths or (runtime is None and layout.root):  # a tree of files has no processes
        return []
    runtime = _runtime(layout, runtime)
    instances = runtime.instances(user.manifest)
    if not instances:
        return []
    since = time.time() - max(runtime.age(instance) for instance in instances)
    lost = {os.path.basename(path) for instance in instances for path in runtime.lost_files(instance)}
    return [
        path
        for path in paths
        if os.path.exists(path)
        and (
            (user.files[path] == FILE and not lost.isdisjoint({os.path.basename(path), os.path.basename(os.path.realpath(path))}))
            or os.stat(path).st_mtime > since + _MARGIN
        )
    ]


def _runtime(layout: Layout, runtime: Optional[pod_processes.PodProcesses]) -> pod_processes.PodProcesses:
    if runtime is None and layout.runtime is None:
        layout.runtime = pod_processes.of_node(layout)
    return runtime or layout.runtime


def left(layout: Layout, runtime: Optional[pod_processes.PodProcesses] = None) -> List[Dict[str, str]]:
    """Return the static pods that use, or may use, replaced files as they were before: [{"what", "path", "why"}]."""
    found = []
    for user in users(layout):
        paths = stale(layout, user, runtime)
        seen = [] if paths else stale(layout, user, runtime, (DIRECTORY,))
        by_hand = (
            "cannot be restarted from here, because %s: restart it by hand" % user.why
            if user.why
            else "restart it (playbook restart_static_pods with kubepki_names=%s)" % user.name
        )
        if paths or seen:
            why = (
                "uses %s as it was before"
                if paths
                else "mounts the directory of %s, which changed since it started, and may read that only once"
            )
            found.append(
                {"what": "static pod", "path": user.manifest.path, "why": "%s; %s" % (why % " and ".join(paths or seen), by_hand)}
            )
    return found
