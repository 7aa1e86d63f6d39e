# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of one node of a failed cluster, beside the report on its certificates."""

from __future__ import annotations

import glob
import os
from typing import Any, Dict, List, Mapping, Optional

from ..endpoint import health_checks, parallel, pod_endpoints
from ..errors import PkiError
from ..fileio import atomic
from ..kubeadm import catalogue, layouts
from ..kubelet import client_certificate, kubelet_service
from ..x509.x509_read import now, timestamp
from . import recovery_journal


def look(layout: layouts.Layout, below_days: float = 90.0, state_dir: str = atomic.STATE_DIR) -> Dict[str, Any]:
    """Return what the recovery plan needs to know of this node beside its report. Changes nothing.

    {"authorities": {name: {"key", "not_after", "has_key", "self_signed", "issuer", "path", "certificate": PEM}} of the CAs on the
    node, "etcd": {"data": bool, "path"} or None where no member belongs here, "health": {static pod: {"healthy", "seen"}},
    "kubelet": {"action", "reasons", "unit", "error"} or None, "pending": [components that a run that did not end has still to
    start] or None where none did, "trust": whether that one had renewed CAs, "problems": [sentences] that forbid any change
    here}. layout: a layouts.Layout. below_days: as for kubelet_credential.examine.
    """
    noted = recovery_journal.load(state_dir)
    return {
        "authorities": _cas(layout),
        "etcd": _etcd(layout),
        "health": _health(layout),
        "kubelet": _kubelet(layout, below_days, state_dir),
        "problems": _problems(layout, state_dir),
        "pending": None if noted is None else noted.get("restart", []),
        "trust": bool((noted or {}).get("trust")),
    }


def can_rehearse(layout: layouts.Layout, found: Mapping[str, Any]) -> bool:
    """Return whether the renewal of the node's leaves can be rehearsed. found: what look() returned.

    Not below an expired CA: that is renewed first.
    """
    alive = all(held["not_after"] > timestamp(now()) for held in found["authorities"].values())
    return layout.role in (layouts.CONTROL_PLANE, layouts.ETCD) and alive and not found["problems"]


def _cas(layout: layouts.Layout) -> Dict[str, Dict[str, Any]]:
    found = {}
    for name in catalogue.CA_NAMES:
        path, key_path = layout.paths.get(name) or (None, None)
        try:
            ca = layout.reader.certificates(path)[0] if path else None
        except PkiError:
            continue  # a row of the report
        if ca is not None:
            found[name] = {
                "key": ca.key_sha256,
                "not_after": timestamp(ca.not_after),
                "path": path,
                "has_key": _key(layout, key_path) == ca.key_sha256,
                "self_signed": ca.self_issued,
                "issuer": ca.issuer,
                "certificate": ca.pem.decode("ascii"),
            }
    return found


def _key(layout: layouts.Layout, path: Optional[str]) -> Optional[str]:
    try:
        return layout.reader.private_key(path) if path else None
    except PkiError:
        return None


def _etcd(layout: layouts.Layout) -> Optional[Dict[str, Any]]:
    if "etcd" not in layout.parsed:
        return None
    path = layout.at(layout.flags["etcd"].get("--data-dir") or "/var/lib/etcd")
    # etcd writes both as soon as it starts (server/storage/wal, mvcc/backend).
    data = bool(glob.glob(os.path.join(path, "member", "wal", "*.wal"))) and os.path.exists(
        os.path.join(path, "member", "snap", "db")
    )
    return {"data": data, "path": path}


def _health(layout: layouts.Layout) -> Dict[str, Dict[str, Any]]:
    endpoints = pod_endpoints.node_endpoints(list(layout.parsed.values()), layout.kubernetes_dir)
    asked = {}
    for name in layout.parsed:
        endpoint = next((one for one in endpoints.get(name, []) if one.health), None)
        if endpoint is not None:
            asked[name] = lambda endpoint=endpoint: health_checks.health(endpoint, timeout=3.0)
    answers = parallel.run_parallel(asked)
    found = {}
    for name in layout.parsed:
        answer = answers.get(name, (True, "it has no health endpoint"))
        healthy, seen = (False, answer.message) if isinstance(answer, PkiError) else answer
        found[name] = {"healthy": healthy, "seen": seen}
    return found


def _kubelet(layout: layouts.Layout, below_days: float, state_dir: str) -> Optional[Dict[str, Any]]:
    if layout.role not in (layouts.CONTROL_PLANE, layouts.WORKER):
        return None
    found: Dict[str, Any] = {"action": None, "reasons": [], "unit": "unknown", "error": None}
    try:
        examined = client_certificate.examine(layout, below_days, state_dir=state_dir)
        found.update(action=examined["action"], reasons=examined["reasons"])
        found["unit"] = kubelet_service.Service().state()["active"]
    except PkiError as error:
        found["error"] = str(error)
    return found


def _problems(layout: layouts.Layout, state_dir: str) -> List[str]:
    found = []
    places = [state_dir, layout.kubernetes_dir, layout.kubelet["cert_dir"]]
    if layout.role != layouts.WORKER:
        places.append(layout.pki_dir)
    for directory in places:
        status = os.statvfs(atomic.existing_directory(directory))
        if status.f_flag & os.ST_RDONLY:
            found.append("%s: the file system is read-only. See `dmesg`, and mount it for writing." % directory)
        elif status.f_bavail * status.f_frsize < 1 << 20:
            found.append("%s: less than 1 MiB is free. Free some space." % directory)
    if layout.role == layouts.NONE:
        found.append("%s: this is no node of a kubeadm cluster. Remove the host from the inventory." % layout.kubernetes_dir)
    for problem in layout.problems:
        if layout.role != layouts.WORKER:
            found.append(str(problem))
    return found
