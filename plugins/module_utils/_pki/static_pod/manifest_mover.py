# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move manifests out of the manifest directory and back: copies and a journal first, then renames."""

from __future__ import annotations

import os
import shutil
import time
from typing import List, Optional, Sequence

from ..errors import PkiError, combine_errors
from ..fileio import atomic, journals, reading
from ..kubeadm import manifest_edits
from . import parked
from .static_pod import StaticPod


class ManifestMover:
    """Moves the manifests of one run. state_dir: where the journal and the copies are."""

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self._journal = journals.Journal(parked.JOURNAL, state_dir)
        self._pods: List[StaticPod] = []

    def prepare(self, pods: Sequence[StaticPod]) -> None:
        """Write copies of manifests, the journal, and what comes back, all durably; no manifest moves. Raises PkiError."""
        if not pods:
            return
        atomic.make_directory(os.path.join(self.state_dir, parked.PARKED))
        for pod in pods:
            atomic.write(pod.copy, pod.data, mode=0o600)
        self._pods += pods
        self._journal.save({"pods": [pod.journal_entry() for pod in self._pods]})
        for pod in pods:
            data = _edited_manifest(pod)
            parked.stage(pod.path, data, pod.mode, pod.owner, pod.token)
            pod.staged = data

    def take_out(self, pod: StaticPod) -> None:
        """Rename a prepared manifest to a hidden name. Raises PkiError where it has changed since."""
        if reading.read(pod.path) != pod.data:
            raise PkiError("changed while this was running", path=pod.path, fix="Run again when no other program writes it.")
        pod.action = "restarted"
        pod.moved_at = time.monotonic()
        pod.is_out = True  # set before the rename: a signal in between must find it
        try:
            parked.take_out(pod.path, pod.token)
        except PkiError:
            if os.path.lexists(pod.path):
                pod.is_out, pod.action = False, "kept"
            raise

    def place(self, pod: StaticPod, data: Optional[bytes] = None) -> None:
        """Put a manifest into its place: data, or the original with another annotation and the flags. Raises PkiError.

        A file that another program wrote there meanwhile stays.
        """
        there = reading.read_if_exists(pod.path)
        if there is not None and there != (pod.placed or pod.data):
            pod.warning = "another program wrote %s meanwhile; that file stays" % pod.path
            pod.is_out = False
            return
        if data is None and pod.keeps_uid:
            data = pod.data
        if data is None:
            pod.placements += 1
        out = parked.kept(pod.path, pod.token)
        if data is None and pod.staged is not None:
            pod.placed, pod.staged = pod.staged, None
            parked.place(parked.hidden(pod.path, pod.token), pod.path)
        elif data == pod.data and os.path.lexists(out):
            pod.placed = data
            parked.place(out, pod.path)
        else:
            pod.placed = _edited_manifest(pod) if data is None else data
            # A name of its own: the file that is staged already is placed later.
            parked.restore_manifest(pod.path, pod.placed, pod.mode, pod.owner, pod.token + "-again")
        pod.is_out = False

    def put_back(self, pod: StaticPod) -> None:
        """Put a manifest that is out into its place: as place() does or, where that fails, as it was. Raises PkiError."""
        try:
            self.place(pod)
        except PkiError as error:
            if not os.path.lexists(pod.path):
                parked.bring_back(pod.path, pod.token, pod.copy, error)
                pod.placed = pod.data
            pod.is_out = False

    def put_back_all(self) -> None:
        """Put back every manifest that is still out, then remove the journal and the copies. Raises PkiError."""
        errors = []
        for pod in self._pods:
            try:
                if pod.is_out:
                    self.put_back(pod)
                parked.clear_away(pod.path, pod.token)
            except (PkiError, OSError) as error:
                errors.append(error if isinstance(error, PkiError) else reading.explain(error, pod.path))
        if errors:
            raise combine_errors(errors)  # the journal stays: the next run puts them back
        self._journal.clear()
        shutil.rmtree(os.path.join(self.state_dir, parked.PARKED), ignore_errors=True)


def _edited_manifest(pod: StaticPod) -> bytes:
    """Return the bytes that come back: the manifest with its flags and another annotation, so that the pod gets another UID."""
    flagged = manifest_edits.with_flags(pod.data, pod.path, pod.name, pod.flags)
    data, changed = manifest_edits.annotated_or_same(flagged, pod.path)
    if not changed and pod.warning is None:
        pod.warning = "its manifest cannot be annotated, so it was put back unchanged and the kubelet may delay it"
    return data
