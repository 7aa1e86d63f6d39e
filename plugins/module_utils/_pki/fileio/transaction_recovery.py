# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finish or undo transactions that were interrupted, without overwriting what was written since."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterable, Mapping, Sequence

from ..errors import PkiError, combine_errors
from . import atomic, file_changes, journals

# The state of an entry of a committed transaction: made; not made; not made and its staged file is gone; or its path was written
# by another program since.
_DONE, _OPEN, _LOST, _CHANGED = "done", "open", "lost", "changed"

_BELONG = (
    "Check that certificates and keys belong together (playbook check_expiry), restore a backup set where they do not, "
    "then run again."
)


def recover(name: str, state_dir: str = atomic.STATE_DIR) -> str:
    """Finish or undo the interrupted transactions of a job and of all other jobs. Return "nothing", "undone" or "finished".

    Other jobs are included, because their recovery after this job would overwrite what this job writes. Raise PkiError after all
    of them were handled: a journal is damaged, a disk fails, or a file was changed since, so that the staged files were removed.
    """
    return _recover_each([name] + _interrupted(name, state_dir), state_dir)


def recover_all(state_dir: str = atomic.STATE_DIR) -> str:
    """Finish or undo the interrupted transactions of every job. Return and raise as recover()."""
    return _recover_each(_interrupted(None, state_dir), state_dir)


def _recover_each(names: Iterable[str], state_dir: str) -> str:
    found: set[str] = set()
    errors: list[PkiError] = []
    for name in names:
        try:
            found.add(_recover_one(name, state_dir))
        except PkiError as error:
            errors.append(error)
    if errors:
        raise combine_errors(errors)
    return next((how for how in ("finished", "undone") if how in found), "nothing")


def _recover_one(name: str, state_dir: str) -> str:
    journal = journals.Journal(name, state_dir)
    journal.sweep()
    record = journal.load()
    if record is None:
        return "nothing"
    if not _is_valid(record):
        raise PkiError(
            "the journal is damaged",
            path=journal.path,
            fix="Compare the files it concerns with the newest backup set, then remove it.",
        )
    entries = record["entries"]
    if record.get("state") != "commit":
        file_changes.discard(entries)
        journal.clear()
        return "undone"
    if not all("old" in entry for entry in entries):
        return _recover_without_digests(journal, entries, record)
    states = [_state_of(entry) for entry in entries]
    discard = record.get("discard", [])
    if _CHANGED in states or _LOST in states:
        outcome = _outcome_of_discard(entries, states, bool(discard))
        file_changes.discard(entries + discard)
        journal.clear()
        if isinstance(outcome, PkiError):
            raise outcome
        return outcome
    file_changes.apply_entries([entry for entry, state in zip(entries, states) if state == _OPEN], [])
    file_changes.sync_directories(entries)
    file_changes.discard(discard)
    journal.clear()
    return "finished"


def _state_of(entry: file_changes.Entry) -> str:
    """Return the state of an entry of a committed transaction: one of the constants above."""
    now = file_changes.fingerprint(file_changes.snapshot(entry["path"], strict=False))
    if now not in (entry["old"], entry["new"]):
        return _CHANGED
    if entry.get("remove"):
        return _DONE if now == entry["new"] else _OPEN
    staged = file_changes.fingerprint(file_changes.snapshot(entry["staged"], strict=False))
    if staged == entry["new"]:
        return _OPEN
    return _DONE if now == entry["new"] else _LOST


def _outcome_of_discard(entries: Sequence[file_changes.Entry], states: Sequence[str], undoing: bool) -> str | PkiError:
    """Return the outcome of a recovery that must not finish a transaction: "finished", "undone" or a PkiError.

    undoing: whether the transaction was being undone, so that its first state is not a complete one.
    """
    done = [entry["path"] for entry, state in zip(entries, states) if state == _DONE and entry["old"] != entry["new"]]
    waiting = [entry["path"] for entry, state in zip(entries, states) if state in (_OPEN, _LOST)]
    changed = [entry["path"] for entry, state in zip(entries, states) if state == _CHANGED]
    staged = [entry for entry in entries if "staged" in entry and os.path.lexists(entry["staged"])]
    if not waiting and not staged:
        return "finished"  # the files were changed after the last rename
    if not changed and not done and not undoing:
        return "undone"  # the staged files were lost before the first rename
    first = (changed or waiting)[0]
    message = "a run of kubepki was interrupted while it replaced files, and %s, so what that run had staged was discarded" % (
        ("another program changed %s since" % ", ".join(changed)) if changed else "its staged files are gone or damaged"
    )
    if done:
        message += "; the version of that run is in %s" % ", ".join(done)
    if waiting:
        message += "; the version from before it is in %s" % ", ".join(waiting)
    return PkiError(message, path=first, fix=_BELONG)


def _recover_without_digests(journal: journals.Journal, entries: Sequence[file_changes.Entry], record: Mapping[str, Any]) -> str:
    """Recover from a journal of version 0.1.0, without digests. Raise PkiError where a newer file could be overwritten."""
    discard = record.get("discard", [])
    waiting = [entry for entry in entries if os.path.lexists(entry["path"] if entry.get("remove") else entry["staged"])]
    if not waiting:
        file_changes.discard(discard)
        journal.clear()
        return "finished"
    # Entries are applied in order: if the first one is not, none is.
    if not discard and not entries[0].get("remove") and waiting[0] is entries[0]:
        file_changes.discard(entries)
        journal.clear()
        return "undone"
    done = [entry["path"] for entry in entries if entry not in waiting]
    todo = [
        "remove %s" % entry["path"] if entry.get("remove") else "rename %s to %s" % (entry["staged"], entry["path"])
        for entry in waiting
    ]
    raise PkiError(
        "the journal of an older version cannot tell whether the files were changed since its run was interrupted; replaced are: "
        "%s; still to do: %s" % (", ".join(done) or "none", ", ".join(todo)),
        path=journal.path,
        fix="Where no file was changed since, do what is still to do; otherwise remove those staged files. Then remove the "
        "journal and run again; the newest backup set has the earlier versions.",
    )


def _is_valid(record: Mapping[str, Any]) -> bool:
    """Return whether the journal of a transaction has all that a recovery needs."""
    lists = (record.get("entries"), record.get("discard", []))
    return all(isinstance(entries, list) and all(map(_is_entry, entries)) for entries in lists) and (
        bool(record["entries"]) or record.get("state") != "commit"
    )


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and (bool(entry.get("remove")) or isinstance(entry.get("staged"), str))
        and isinstance(entry.get("old", ""), str)
        and isinstance(entry.get("new", ""), str)
        and ("old" in entry) == ("new" in entry)
    )


def _interrupted(name: str | None, state_dir: str) -> list[str]:
    """Return the jobs other than `name` whose journal holds a transaction. A damaged journal is left to its own job."""
    found = []
    with contextlib.suppress(OSError):
        for file_name in sorted(os.listdir(os.path.join(state_dir, "journal"))):
            job, ending = os.path.splitext(file_name)
            if ending == ".json" and not job.startswith(".") and job != name:
                with contextlib.suppress(PkiError):
                    record = journals.Journal(job, state_dir).load() or {}
                    if record.get("state") in ("staging", "commit") and _is_valid(record):
                        found.append(job)
    return found
