# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Select the static pods that are to be restarted, and tell which of them already serve the certificates on disk."""

from __future__ import annotations

import contextlib
import os
from typing import Iterable, List, Sequence, Set, Tuple

from ..endpoint import health_checks, pod_endpoints
from ..endpoint.discovery import Endpoint
from ..errors import PkiError
from ..fileio import atomic
from ..kubeadm import manifests
from ..kubeadm.manifests import Manifest
from . import parked


def select_manifests(names: Iterable[str], manifest_dir: str) -> Tuple[List[Manifest], List[Manifest], List[str]]:
    """Return (manifests of the names, all manifests, warnings); each manifest once.

    names: components ("etcd"), names of pods, or file names without extension. Raises PkiError for a name that is unknown, in
    several files, unreadable or a symbolic link.
    """
    if not os.path.isdir(manifest_dir):
        raise PkiError(
            "is not a directory",
            path=manifest_dir,
            fix="Name the kubelet's staticPodPath as manifest_dir; a worker has no static pods to restart.",
        )
    everything, _foreign, problems = manifests.read_manifest_dir(manifest_dir)
    selected: List[Manifest] = []
    for name in names:
        found = _select_one(name, manifest_dir, everything, problems)
        if found not in selected:
            selected.append(found)
    return selected, everything, ["%s (the kubelet reads every file in this directory)" % problem for problem in problems]


def _select_one(name: str, manifest_dir: str, everything: Sequence[Manifest], problems: Sequence[PkiError]) -> Manifest:
    found = [item for item in everything if manifests.called(item, [name])]
    broken = [problem for problem in problems if _stem(problem.path or "") == name]
    if not found and broken:
        raise broken[0]
    if not found:
        raise PkiError(
            "there is no static pod named %s" % name,
            path=manifest_dir,
            fix="There are: %s. What the playbook restarts is in kubepki_names."
            % (", ".join(sorted(item.component for item in everything)) or "none at all"),
        )
    pods = {(item.namespace, item.name) for item in found}
    same = [item for item in everything if (item.namespace, item.name) in pods]
    if len(same) > 1:
        raise PkiError(
            "%s is in several files: %s" % (name, ", ".join(os.path.basename(item.path) for item in same)),
            path=manifest_dir,
            fix="The kubelet reads every file here: move the foreign ones elsewhere.",
        )
    if os.path.islink(found[0].path):
        raise PkiError(
            "is a symbolic link, and a manifest is moved as a file", path=found[0].path, fix="Put the file itself here."
        )
    return found[0]


def names_with_manifest(names: Iterable[str], manifest_dir: str, state_dir: str = atomic.STATE_DIR) -> List[str]:
    """Return those names that have a manifest on this node: in its place, unreadable, or left out by a killed run."""
    everything, _foreign, problems = manifests.read_manifest_dir(manifest_dir) if os.path.isdir(manifest_dir) else ([], [], [])
    known = {_stem(path) for path in [item.path for item in everything] + [problem.path or "" for problem in problems]}
    known.update(_stem(path) for path in parked.pending(state_dir))
    known.update(name for item in everything for name in (item.component, item.name))
    return [name for name in names if name in known]


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def is_plaintext_etcd(endpoints: Sequence[Endpoint]) -> bool:
    """Return whether Endpoints are etcd's, and all of them plain http: then it has no certificate to reload."""
    # Other components read a kubeconfig when they start, whatever they serve.
    return bool(endpoints) and not any(endpoint.secure or endpoint.component != "etcd" for endpoint in endpoints)


def up_to_date(selected: Iterable[Manifest], everything: Sequence[Manifest], kubernetes_dir: str) -> Set[str]:
    """Return the paths of those manifests whose pods now serve the certificates that are on disk.

    selected, everything: as from select_manifests(). A pod that serves no certificate is not in the result, unless it is an etcd
    in plain http.
    """
    endpoints, current = pod_endpoints.node_endpoints(everything, kubernetes_dir), set()
    for item in selected:
        found = pod_endpoints.endpoints_of(endpoints, item)
        with contextlib.suppress(PkiError):
            if is_plaintext_etcd(found) or _serves_its_files(found):
                current.add(item.path)
    return current


def _serves_its_files(endpoints: Sequence[Endpoint]) -> bool:
    serving = [endpoint for endpoint in endpoints if endpoint.path]
    return bool(serving) and all(
        health_checks.wait_digest(endpoint, health_checks.file_sha256(endpoint.path), 0)[0] for endpoint in serving
    )
