# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of a file in a transaction: its staged file, its record in the journal, and the rename that makes it."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any, Mapping, Sequence

from ..errors import PkiError
from . import atomic, guarded_files, reading

# A change of a path: {"path", "data", "mode", "owner"}, {"path", "target"} for a link, or {"path", "remove"}.
Change = Mapping[str, Any]

# Its record in the journal, without key material: {"path", "old", "new"} and "remove", or "staged" and for a link "target".
Entry = Mapping[str, Any]


def entry_of(change: Change, before: Change, token: str) -> dict[str, Any]:
    """Return the record of a change. before: snapshot of its path. token: part of the names of staged files."""
    directory, name = os.path.split(change["path"])
    entry = {"path": change["path"], "old": fingerprint(before), "new": fingerprint(change)}
    if "remove" in change:
        return dict(entry, remove=True)
    entry["staged"] = os.path.join(directory, atomic.TEMPORARY % (name, token))
    if "target" in change:
        return dict(entry, target=change["target"])
    return entry


def fingerprint(change: Change) -> str:
    """Return a text that identifies the content of a change or a snapshot: a digest, a link target or "absent"."""
    if "remove" in change:
        return "absent"
    if "target" in change:
        return "link:" + change["target"]
    return "sha256:" + atomic.sha256(change["data"]) if "data" in change else "other"


def snapshot(path: str, strict: bool = True) -> dict[str, Any]:
    """Return the change that restores a path as it is now, without "path".

    strict: raise PkiError for a directory or a special file; otherwise return {}.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"remove": True}
    except OSError as error:
        raise reading.explain(error, path) from error
    if stat.S_ISLNK(status.st_mode):
        return {"target": os.readlink(path)}
    if stat.S_ISREG(status.st_mode):
        # The status of the descriptor, because the file may have been replaced since lstat.
        data, status = guarded_files.read_regular(path)
        return {
            "data": data,
            "mode": stat.S_IMODE(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
        }
    if not strict:
        return {}
    raise PkiError("is a directory or a special file where a file is expected", path=path, fix="Move it away.")


def stage_all(changes: Sequence[Change], entries: Sequence[Entry], token: str) -> None:
    """Write the new contents beside their targets, and make contents and names durable. Raise PkiError."""
    for change, entry in zip(changes, entries):
        if "target" in change:
            try:
                atomic.symlink(change["target"], entry["staged"])
            except OSError as error:
                raise reading.explain(error, change["path"]) from error
        elif "data" in change:
            atomic.stage(change["path"], change["data"], change["mode"], change["owner"], suffix=token)
    sync_directories([entry for entry in entries if "staged" in entry])


def refuse_changed(entries: Sequence[Entry]) -> None:
    """Raise PkiError where a path was changed since the transaction began."""
    for entry in entries:
        if fingerprint(snapshot(entry["path"], strict=False)) != entry["old"]:
            raise PkiError(
                "another program changed it while this was running",
                path=entry["path"],
                fix="Run again when it is not written by another program.",
            )


def apply_entries(entries: Sequence[Entry], done: list[str]) -> None:
    """Make the renames and removals durable. Append each path to done when it is made. Raise PkiError."""
    for entry in entries:
        try:
            if entry.get("remove"):
                with contextlib.suppress(FileNotFoundError):
                    atomic.unlink(entry["path"])
            else:
                atomic.rename(entry["staged"], entry["path"])
        except FileNotFoundError as error:
            raise PkiError(
                "what was to be renamed to it is gone",
                path=entry["path"],
                fix="Another program removed %s: run again." % entry["staged"],
            ) from error
        except OSError as error:
            raise reading.explain(error, entry["path"]) from error
        done.append(entry["path"])
    sync_directories(entries)


def discard(entries: Sequence[Entry]) -> None:
    """Remove staged files. Raise PkiError."""
    for entry in entries:
        # A read-only file system refuses to remove even what is not there.
        if "staged" in entry and os.path.lexists(entry["staged"]):
            try:
                atomic.unlink(entry["staged"])
            except OSError as error:
                raise reading.explain(error, entry["staged"]) from error


def sync_directories(entries: Sequence[Entry]) -> None:
    """Make renames and removals durable. Raise PkiError."""
    for directory in sorted({os.path.dirname(entry["path"]) for entry in entries}):
        if os.path.isdir(directory):  # the directory of a removed file may be gone
            atomic.sync_directory(directory)
