# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One static pod of a restart: its manifest, and how far its restart has come."""

from __future__ import annotations

import os
import stat
import time
from typing import Any, Dict, List, Optional, Sequence

from ..endpoint.discovery import Endpoint
from ..fileio import atomic, reading
from ..host.processes import Instance
from ..kube_api.leader_lease import Lease
from ..kubeadm import manifest_edits
from ..kubeadm.manifests import Manifest
from . import parked

# What a pod's containers get to end where its manifest says nothing (PodSpec: terminationGracePeriodSeconds).
_DEFAULT_GRACE = 30


class StaticPod:
    """A static pod that is restarted.

    copy: path of the copy of its manifest. data: the manifest's bytes as they were. flags: {"--flag": value or None}, what the
    manifest gets. old_instances: [Instance] that ran before. is_out: its manifest is not in its place. staged: bytes that lie
    ready to be placed. placed: bytes that were placed last. is_decided: it is known whether it is restarted. keeps_uid: the
    manifest comes back unchanged. moved_at: time.monotonic() of the move. placements: how often it was placed for a start.
    """

    def __init__(
        self,
        manifest: Manifest,
        endpoints: Sequence[Endpoint],
        state_dir: str,
        flags: Optional[Dict[str, Optional[str]]] = None,
    ) -> None:
        self.manifest = manifest
        self.flags = flags or {}
        self.path: str = manifest.path
        self.name: str = manifest.component
        self.token = os.urandom(4).hex()
        self.copy = os.path.join(state_dir, parked.PARKED, os.path.basename(manifest.path) + "." + self.token)
        self.endpoints = endpoints
        self.data: bytes = reading.read(self.path)
        manifest_edits.with_flags(self.data, self.path, self.name, self.flags)  # raises before anything moves
        status = os.stat(self.path)
        self.mode, self.owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        self.old_instances: List[Instance] = []
        self.is_out = False
        self.staged: Optional[bytes] = None
        self.placed: Optional[bytes] = None
        self.is_finished = False
        self.is_decided = True
        self.action = "kept"
        self.failure: Optional[str] = None
        self.warning: Optional[str] = None
        self.proof: List[str] = []
        self.moved_at = 0.0
        self.placements = 0
        self.keeps_uid = False
        self.was_listening = False
        self.lease: Optional[Lease] = None
        self.has_ended = False
        self.container_before: Optional[str] = None
        self.container_after: Optional[str] = None
        self.seconds = self.down_seconds = 0.0

    @property
    def grace_seconds(self) -> int:
        """The seconds that its containers get to end."""
        spec = self.manifest.data.get("spec")
        value = spec.get("terminationGracePeriodSeconds") if isinstance(spec, dict) else None
        return value if isinstance(value, int) and 0 <= value < 3600 else _DEFAULT_GRACE

    @property
    def health_endpoint(self) -> Optional[Endpoint]:
        """The Endpoint that reports its health, or None."""
        return next((endpoint for endpoint in self.endpoints if endpoint.health), None)

    @property
    def serving_endpoints(self) -> List[Endpoint]:
        """The Endpoints that serve a certificate from a file."""
        return [endpoint for endpoint in self.endpoints if endpoint.path]

    def main_instance(self, instances: Sequence[Instance]) -> Optional[Instance]:
        """Return the newest of some Instances that is of this pod's main container, or None."""
        spec = self.manifest.data.get("spec") or {}
        names = [item.get("name") for item in spec.get("containers") or [] if isinstance(item, dict)]
        wanted = self.name if self.name in names else names[0] if names else self.name
        return max((item for item in instances if item.container == wanted), key=lambda item: item.started, default=None)

    def record_event(self, text: str) -> None:
        """Add an observation to the proof, with the seconds since the manifest was moved out."""
        self.proof.append("%.2f s: %s" % (time.monotonic() - self.moved_at, text))

    def journal_entry(self) -> Dict[str, Any]:
        """Return what the journal keeps of it; parked.recover() reads that."""
        return {
            "name": self.name,
            "path": self.path,
            "parked": self.copy,
            "sha256": atomic.sha256(self.data),
            "mode": self.mode,
            "uid": self.owner[0],
            "gid": self.owner[1],
            "token": self.token,
        }

    def result(self) -> Dict[str, Any]:
        """Return its row of the module's result."""
        return {
            "name": self.name,
            "action": self.action,
            "down_seconds": round(self.down_seconds, 3),
            "seconds": round(self.seconds, 3),
            "container_before": self.container_before,
            "container_after": self.container_after,
            "proof": list(self.proof),
        }
