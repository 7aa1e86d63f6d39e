# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals: the record of a started multi-step job, for the next run to finish or undo it."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Mapping

from ..errors import PkiError
from . import atomic, path_trust
from .reading import read_if_exists

KUBELET_RESTART = "kubelet-restart"  # the journal of a pending restart of the kubelet


class Journal:
    """The journal of a job: STATE_DIR/journal/NAME.json. The directory is 0700."""

    def __init__(self, name: str, state_dir: str = atomic.STATE_DIR) -> None:
        self.directory = os.path.join(state_dir, "journal")
        self.path = os.path.join(self.directory, name + ".json")

    def load(self) -> dict[str, Any] | None:
        """Return the record, or None where there is none. Raise PkiError for a damaged journal, or one others can write."""
        data = read_if_exists(self.path, limited=False)
        if data is None:
            return None
        path_trust.require_trusted(self.path)
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

    def save(self, record: Mapping[str, Any]) -> None:
        """Replace the record durably. It must hold no key material, only paths and checksums. Raise PkiError."""
        atomic.make_directory(self.directory)
        path_trust.require_trusted(self.directory)
        atomic.write(self.path, json.dumps(record, sort_keys=True, indent=1).encode("utf-8"), mode=0o600)

    def sweep(self) -> None:
        """Remove the temporary files of a run that was killed in save()."""
        prefix = atomic.TEMPORARY % (os.path.basename(self.path), "")
        with contextlib.suppress(OSError):
            for name in os.listdir(self.directory):
                if name.startswith(prefix):
                    os.unlink(os.path.join(self.directory, name))

    def clear(self) -> None:
        """Remove the record: the job is complete. Raise PkiError."""
        atomic.remove(self.path)
