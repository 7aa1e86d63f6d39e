# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create and list backup sets: a directory with copies of files, and a manifest with their checksums."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
import stat
from typing import Any, Iterable

from ..errors import PkiError
from . import atomic, guarded_files, path_trust
from .reading import explain

# The job of the sets of what a restore replaced. "latest" skips them; otherwise two restores in a row would undo each other.
BEFORE_RESTORE = "before-restore"

_SET_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[a-z0-9-]+")


def create_backup(paths: Iterable[str], job: str, backup_dir: str = atomic.BACKUP_DIR, keep: int = 5) -> str:
    """Copy files into a new backup set. Return the set's directory.

    paths: files and symbolic links; a missing one is recorded as absent, and a restore removes it. job: part of the set's name.
    keep: how many sets of this job stay, the newest. Sets of other jobs stay: a rotation must not remove the operator's own.
    The set appears under its name when it is complete and durable. Directories are 0700, files 0600. manifest.json holds the
    host, and path, type, mode, owner and SHA-256 of each file. Raise PkiError (no space, read-only, ...) with no set made.
    """
    if not re.fullmatch(r"[a-z0-9-]+", job):
        raise PkiError("the name %r does not fit in the name of a backup set" % job, fix="Use a-z, 0-9 and hyphens.")
    atomic.make_directory(backup_dir)
    path_trust.require_trusted(backup_dir)
    now = datetime.datetime.now(datetime.timezone.utc)
    name = "%s-%s" % (now.strftime("%Y%m%dT%H%M%S.%fZ"), job)
    partial = os.path.join(backup_dir, ".partial-" + name)
    entries: list[dict[str, Any]] = []
    try:
        atomic.make_directory(partial)
        for path in sorted({os.path.abspath(path) for path in paths}):
            entries.append(_back_up_one(path, partial))
        document = {
            "schema": 1,
            "job": job,
            "host": atomic.host_name(),
            "created_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "entries": entries,
        }
        atomic.write(os.path.join(partial, "manifest.json"), json.dumps(document, indent=1).encode("utf-8"), mode=0o600)
        final = os.path.join(backup_dir, name)
        os.rename(partial, final)
        atomic.sync_directory(backup_dir)
    except (OSError, PkiError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, PkiError):
            raise PkiError(
                "no backup could be made (%s), so nothing was changed" % error.message, path=error.path, fix=error.fix
            ) from error
        raise explain(error, partial) from error
    same_job = [path for path in list_backups(backup_dir) if os.path.basename(path).partition("-")[2] == job]
    for old in same_job[:-keep] if keep > 0 else []:
        if old != final:
            # Renamed first, so that a kill leaves no incomplete set under a set's name.
            expired = os.path.join(backup_dir, ".partial-" + os.path.basename(old))
            with contextlib.suppress(OSError):
                os.rename(old, expired)
    # Also those that a killed run left. They are not sets, so that nothing is lost.
    for partial_name in os.listdir(backup_dir):
        if partial_name.startswith(".partial-"):
            shutil.rmtree(os.path.join(backup_dir, partial_name), ignore_errors=True)
    return final


def _back_up_one(path: str, partial: str) -> dict[str, Any]:
    """Copy a file into an incomplete set. Return its entry for the manifest."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"path": path, "type": "absent"}
    except OSError as error:
        raise explain(error, path) from error
    entry: dict[str, Any] = {"path": path, "mode": status.st_mode & 0o777, "uid": status.st_uid, "gid": status.st_gid}
    if stat.S_ISLNK(status.st_mode):
        entry.update(type="symlink", target=os.readlink(path))
        return entry
    if not stat.S_ISREG(status.st_mode):
        raise PkiError("is neither a file nor a symbolic link", path=path, fix="Leave it out of the backup.")
    data, status = guarded_files.read_regular(path)
    entry.update(mode=status.st_mode & 0o777, uid=status.st_uid, gid=status.st_gid)
    copy = os.path.join(partial, "files", path.lstrip("/"))
    atomic.make_directory(os.path.dirname(copy))
    atomic.write(copy, data, mode=0o600)
    entry.update(type="file", sha256=atomic.sha256(data), size=len(data))
    return entry


def list_backups(backup_dir: str = atomic.BACKUP_DIR) -> list[str]:
    """Return the directories of the complete backup sets, the oldest first. Raise PkiError."""
    try:
        names = os.listdir(backup_dir)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explain(error, backup_dir) from error
    return [os.path.join(backup_dir, name) for name in sorted(names) if _SET_NAME.fullmatch(name)]
