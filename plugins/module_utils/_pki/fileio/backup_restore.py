# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a backup set with the node, and restore it."""

from __future__ import annotations

import os
import stat
from typing import Any, Collection, Iterable, Mapping

from ..errors import PkiError
from . import atomic, backup_contents, backup_set, guarded_files, guarded_paths, reading, transactions


def plan_restore(directory: str, paths: Collection[str] | None = None) -> list[tuple[dict[str, Any], bool]]:
    """Compare a backup set with the node. Return [(entry, differs)] for every entry, or for those in paths.

    An entry differs when content, type, link target, mode or owner is not as recorded. Raise PkiError for a damaged set.
    """
    plan = []
    for entry in backup_contents.read_backup(directory)["entries"]:
        if paths is None or entry["path"] in paths:
            plan.append((entry, _differs(entry)))
    return plan


def _differs(entry: Mapping[str, Any]) -> bool:
    path = entry["path"]
    try:
        status = os.lstat(path)
    except OSError:
        return entry["type"] != "absent"
    if entry["type"] == "absent":
        return True
    if entry["type"] == "symlink":
        return not stat.S_ISLNK(status.st_mode) or os.readlink(path) != entry["target"]
    if not stat.S_ISREG(status.st_mode):
        return True
    data, status = guarded_files.read_regular(path)
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != (
        entry["mode"],
        entry["uid"],
        entry["gid"],
    ) or atomic.sha256(data) != entry["sha256"]


def is_current(directory: str, paths: Iterable[str]) -> bool:
    """Return whether a set holds exactly these paths as they are now. Raise PkiError for a damaged set."""
    plan = plan_restore(directory)
    return sorted(entry["path"] for entry, _differs in plan) == sorted(paths) and not any(differs for _entry, differs in plan)


def back_up_and_restore(
    directory: str,
    paths: Collection[str] | None = None,
    backup_dir: str = atomic.BACKUP_DIR,
    state_dir: str = atomic.STATE_DIR,
    check: bool = False,
) -> tuple[list[str], str | None, list[str]]:
    """Restore a set, or only the files at or below paths, after a backup of what it replaces.

    Return (changed paths, directory of the new set or None, all compared paths). check: change nothing. Raise PkiError, with
    nothing changed: the set is damaged, or holds none of the paths.
    """
    plan = plan_restore(directory)
    if paths:
        plan = [(entry, differs) for entry, differs in plan if any(_at_or_below(entry["path"], path) for path in paths)]
        if not plan:
            raise PkiError(
                "the set holds none of: %s" % ", ".join(paths), path=directory, fix="Choose another set or other paths."
            )
    changing = [entry["path"] for entry, differs in plan if differs]
    for path in changing:
        _target(path)  # raises for what cannot be written, in check mode, too
    considered = [entry["path"] for entry, _differs in plan]
    if check or not changing:
        return changing, None, considered
    # keep=0: the set that is being restored may be the oldest one.
    before = backup_set.create_backup(changing, backup_set.BEFORE_RESTORE, backup_dir, keep=0)
    return restore_backup(directory, set(changing), state_dir), before, considered


def _target(path: str) -> str:
    """Return the real path of an entry on this node. Links to its directory are followed; a link at the path itself is not."""
    return os.path.join(guarded_paths.real_directory(os.path.dirname(path)), os.path.basename(path))


def _at_or_below(path: str, parent: str) -> bool:
    return path == parent.rstrip("/") or path.startswith(parent.rstrip("/") + "/")


def restore_backup(directory: str, paths: Collection[str] | None = None, state_dir: str = atomic.STATE_DIR) -> list[str]:
    """Restore a backup set, or the given paths of it. Return the changed paths.

    Files and links that are as recorded stay untouched; what was absent is removed. All files change in one transaction, named
    "restore". Raise PkiError, with nothing changed.
    """
    changes = [entry for entry, differs in plan_restore(directory, paths) if differs]
    transaction = transactions.Transaction("restore", state_dir)
    for entry in changes:
        # A set can hold a file under both names, where its directory is reached through a link (pki -> elsewhere).
        target = _target(entry["path"])
        if target in transaction.paths():
            continue
        if entry["type"] == "absent":
            transaction.remove(target)
            continue
        atomic.make_directory(os.path.dirname(target), 0o755)
        if entry["type"] == "file":
            data = reading.read(backup_contents.copy_of(directory, entry), limited=False)
            transaction.write(target, data, entry["mode"], (entry["uid"], entry["gid"]), follow=False)
        else:
            transaction.symlink(target, entry["target"])
    transaction.commit()
    return [entry["path"] for entry in changes]
