# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactions: several files change together, even if the process is killed.

Hand-written, because no library on a node changes several files atomically; the steps are rename(2) and fsync(2) with a journal.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Sequence

from ..errors import PkiError
from . import atomic, file_changes, guarded_paths, journals


class Transaction:
    """Several files that change together: after a crash, transaction_recovery.recover() makes all of them new or leaves all old.

    commit() writes the new contents beside their targets, records "commit" in the journal, and renames. The journal has digests
    of the old and new contents, so that a recovery never overwrites what was written after the crash.
    """

    def __init__(self, name: str, state_dir: str = atomic.STATE_DIR) -> None:
        """Begin a transaction. name: of its journal. state_dir: as in Journal."""
        self._journal = journals.Journal(name, state_dir)
        self._changes: list[file_changes.Change] = []

    def write(
        self, path: str, data: bytes, mode: int | None = None, owner: tuple[int, int] | None = None, follow: bool = True
    ) -> None:
        """Plan new content. mode, owner: as in atomic.stage(). follow: write to the target of a link instead of replacing it."""
        self._changes.append(
            {"path": guarded_paths.resolve(path) if follow else path, "data": data, "mode": mode, "owner": owner}
        )

    def symlink(self, path: str, target: str) -> None:
        """Plan a symbolic link to target at path."""
        self._changes.append({"path": path, "target": target})

    def remove(self, path: str) -> None:
        """Plan the removal of a file or symbolic link. It may be absent."""
        self._changes.append({"path": path, "remove": True})

    def paths(self) -> list[str]:
        """Return the planned paths."""
        return [change["path"] for change in self._changes]

    def commit(self) -> None:
        """Make all planned changes. Raise PkiError, with nothing changed, when one of them cannot be made."""
        if not self._changes:
            return
        before = [file_changes.snapshot(change["path"]) for change in self._changes]
        # The names are recorded before the files exist, so that a recovery can remove them.
        token = os.urandom(4).hex()
        entries = [file_changes.entry_of(change, snapshot, token) for change, snapshot in zip(self._changes, before)]
        self._journal.save({"state": "staging", "entries": entries})
        try:
            file_changes.stage_all(self._changes, entries, token)
            file_changes.refuse_changed(entries)
            self._journal.save({"state": "commit", "entries": entries})
        except PkiError:
            # What cannot be removed now (read-only file system) stays in the journal for the next run.
            with contextlib.suppress(PkiError):
                file_changes.discard(entries)
                self._journal.clear()
            raise
        done: list[str] = []
        try:
            file_changes.apply_entries(entries, done)
        except PkiError as error:
            # Only the rename finds an immutable file or a mount point.
            self._undo(entries, self._changes[: len(done)], before, error)
            raise
        self._journal.clear()
        self._changes = []

    def _undo(
        self,
        entries: list[dict[str, Any]],
        made: Sequence[file_changes.Change],
        before: Sequence[file_changes.Change],
        cause: PkiError,
    ) -> None:
        """Undo the first renames of a commit, staged and recorded like the commit itself.

        made: the changes that were made. before: snapshots of all paths. cause: the error that stopped the commit. Raise
        PkiError when they cannot be undone now.
        """
        token = os.urandom(4).hex()
        previous = [dict(snapshot, path=change["path"]) for change, snapshot in zip(made, before)]
        undo = [file_changes.entry_of(change, done, token) for change, done in zip(previous, made)]
        try:
            # Until all of it is staged, the next run finishes the transaction itself and removes what is staged here.
            self._journal.save({"state": "commit", "entries": entries, "discard": undo})
            file_changes.stage_all(previous, undo, token)
            self._journal.save({"state": "commit", "entries": undo, "discard": entries})
            file_changes.apply_entries(undo, [])
            file_changes.discard(entries)
            self._journal.clear()
        except PkiError as error:
            raise PkiError(
                "%s, and %s could not be put back yet (%s: %s)"
                % (cause.message, ", ".join(change["path"] for change in made) or "the journal", error.path, error.message),
                path=cause.path,
                fix="Correct the cause, then run again: the next run makes all of these files new or all old.",
            ) from error
