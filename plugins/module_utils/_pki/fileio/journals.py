# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals: what a job has begun on a node, so that the next run finishes or undoes it."""

from __future__ import annotations

import contextlib
import json
import os

from ..errors import PkiError
from . import atomic, guarded_paths
from .reading import read_if_exists

KUBELET_RESTART = "kubelet-restart"  # the journal of a kubelet that has to be restarted


class Journal:
    """What a multi-step job has begun, on disk, so that the next run can finish or undo it.

    state_dir: the folder for journals (a `journal` folder is made in it, 0700). name: the job's.
    """

    def __init__(self, name, state_dir=atomic.STATE_DIR):
        self.directory = os.path.join(state_dir, "journal")
        self.path = os.path.join(self.directory, name + ".json")

    def load(self):
        """Give the recorded mapping, or None where nothing was begun. Raises PkiError on a damaged journal, or another user's."""
        data = read_if_exists(self.path, limited=False)
        if data is None:
            return None
        guarded_paths.require_trusted(self.path)
        try:
            record = json.loads(data.decode("utf-8"))
        except ValueError as error:
            raise PkiError(
                "the journal is not JSON",
                path=self.path,
                fix="Compare the files it concerns with the newest backup set, then remove it.",
            ) from error
        if not isinstance(record, dict):
            raise PkiError(
                "the journal is not a mapping",
                path=self.path,
                fix="Compare the files it concerns with the newest backup set, then remove it.",
            )
        return record

    def save(self, record):
        """Record a mapping durably, replacing the one before. Holds no key material: only paths and checksums."""
        atomic.make_directory(self.directory)
        guarded_paths.require_trusted(self.directory)
        atomic.write(self.path, json.dumps(record, sort_keys=True, indent=1).encode("utf-8"), mode=0o600)

    def sweep(self):
        """Remove what a run that was killed while it recorded something left beside the journal."""
        prefix = atomic.TEMPORARY % (os.path.basename(self.path), "")
        with contextlib.suppress(OSError):
            for name in os.listdir(self.directory):
                if name.startswith(prefix):
                    os.unlink(os.path.join(self.directory, name))

    def clear(self):
        """Say that nothing is under way any more."""
        atomic.remove(self.path)
