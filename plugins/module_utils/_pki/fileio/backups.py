# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, list and choose backup sets for the operator."""

from __future__ import annotations

import datetime
import os
from typing import Any, Mapping, Sequence

from ..errors import PkiError
from . import atomic, backup_contents, backup_restore, backup_set

# One job reaches all control-plane nodes within this many seconds. Sets that are further apart are of two jobs.
_ONE_JOB = 3600


def create_if_changed(
    paths: Sequence[str], job: str = "backup", backup_dir: str = atomic.BACKUP_DIR, keep: int = 5, check: bool = False
) -> tuple[str | None, bool, int]:
    """Create a backup set, unless the newest one holds the same files.

    Return (directory, or None in check mode; changed; number of entries). Raise PkiError as create_backup().
    """
    if not paths:
        raise PkiError(
            "there is nothing to back up", path=backup_dir, fix="Name the paths, or the directory that holds the cluster's files."
        )
    sets = backup_set.list_backups(backup_dir)
    if sets:
        try:
            if backup_restore.is_current(sets[-1], paths):
                return sets[-1], False, len(paths)
        except PkiError:
            pass  # a damaged set is no reason to make none
    return (None if check else backup_set.create_backup(paths, job, backup_dir, keep)), True, len(paths)


def describe_backups(backup_dir: str = atomic.BACKUP_DIR) -> list[dict[str, Any]]:
    """Return [{"name", "path", "job", "created_at", "entries", "usable", "problem"}] of all sets, the newest first."""
    found = []
    for directory in reversed(backup_set.list_backups(backup_dir)):
        row: dict[str, Any] = {
            "name": os.path.basename(directory),
            "path": directory,
            "job": None,
            "created_at": None,
            "entries": 0,
            "usable": True,
            "problem": None,
        }
        try:
            document = backup_contents.read_backup(directory)
            row.update(job=document.get("job"), created_at=document.get("created_at"), entries=len(document["entries"]))
        except PkiError as error:
            row.update(usable=False, problem=str(error))
        found.append(row)
    return found


def find_backup(name: str, backup_dir: str = atomic.BACKUP_DIR) -> str:
    """Return the directory of a set by its name, its path or "latest". Raise PkiError, which lists the existing sets."""
    sets = backup_set.list_backups(backup_dir)
    if name == "latest":
        candidates = [each for each in sets if not each.endswith("-" + backup_set.BEFORE_RESTORE)]
        if candidates:
            return candidates[-1]
        raise PkiError(
            "there is no backup set", path=backup_dir, fix="Name the directory that holds them, or leave this node out (--limit)."
        )
    for directory in sets:
        if name in (directory, os.path.basename(directory)):
            return directory
    raise PkiError(
        "there is no backup set %s" % name,
        path=backup_dir,
        fix="There are: %s." % (", ".join(os.path.basename(each) for each in sets) or "none"),
    )


def explain_mixed_sets(sets: Mapping[str, str]) -> str | None:
    """Return a message where the sets of several hosts are not of one job, or None.

    sets: {host: name or directory}. A set does not record its run: sets are of one job when their names have the same job and
    their times are within an hour of the newest.
    """
    if not sets:
        return None
    made = {host: _made(os.path.basename(sets[host])) for host in sets}
    newest = max(made.values())
    of_it = sorted(
        host for host, (stamp, job) in made.items() if job == newest[1] and (newest[0] - stamp).total_seconds() <= _ONE_JOB
    )
    if len(of_it) == len(sets):
        return None
    listed = "; ".join("%s: %s" % (host, os.path.basename(sets[host])) for host in sorted(sets))
    return (
        "The newest backup sets of the nodes are not of one job: %s. Together they would be a state that the cluster never "
        "had. To take the newest job back, add --limit %s to the command; for another state, restore each node by itself, "
        "with --limit and kubepki_backup_set." % (listed, ",".join(of_it))
    )


def _made(name: str) -> tuple[datetime.datetime, str]:
    """Return the time and the job in the name of a set."""
    stamp, _dash, job = name.partition("-")
    return datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%S.%fZ"), job
