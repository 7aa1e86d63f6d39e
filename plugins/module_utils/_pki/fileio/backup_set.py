# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and list backup sets, with checksums."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
import stat

from ..errors import PkiError
from . import atomic, guarded_paths
from .reading import explain

_SET_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[a-z0-9-]+")


def create_backup(paths, job, backup_dir=atomic.BACKUP_DIR, keep=5):
    """Copy files into a new backup set and give the set's directory.

    paths: files and symbolic links; one that does not exist is recorded as absent, so that restoring
    removes it. job: a word for the set's name. keep: how many sets of this job stay, the newest; the new
    one always does. Other jobs' sets stay, or a rotation's many would displace the one a person made before it.
    The set appears under its name only when it is complete and durable: directories are 0700, files 0600, and
    manifest.json holds the host, and path, type, mode, owner and SHA-256 of each.
    Raises PkiError (no space, read-only, ...) with no set made.
    """
    if not re.fullmatch(r"[a-z0-9-]+", job):
        raise PkiError("the name %r does not fit in the name of a backup set" % job, fix="Use a-z, 0-9 and hyphens.")
    atomic.make_directory(backup_dir)
    guarded_paths.require_trusted(backup_dir)
    now = datetime.datetime.now(datetime.timezone.utc)
    name = "%s-%s" % (now.strftime("%Y%m%dT%H%M%S.%fZ"), job)
    partial = os.path.join(backup_dir, ".partial-" + name)
    entries = []
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
            # Never half a set under a set's name.
            doomed = os.path.join(backup_dir, ".partial-" + os.path.basename(old))
            with contextlib.suppress(OSError):
                os.rename(old, doomed)
    # Also what a run that was killed left while it copied or cleared; no set, so nothing can be lost with it.
    for litter in os.listdir(backup_dir):
        if litter.startswith(".partial-"):
            shutil.rmtree(os.path.join(backup_dir, litter), ignore_errors=True)
    return final


def _back_up_one(path, partial):
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"path": path, "type": "absent"}
    except OSError as error:
        raise explain(error, path) from error
    entry = {"path": path, "mode": status.st_mode & 0o777, "uid": status.st_uid, "gid": status.st_gid}
    if stat.S_ISLNK(status.st_mode):
        entry.update(type="symlink", target=os.readlink(path))
        return entry
    if not stat.S_ISREG(status.st_mode):
        raise PkiError("is neither a file nor a symbolic link", path=path, fix="Leave it out of the backup.")
    data, status = guarded_paths.read_regular(path)
    entry.update(mode=status.st_mode & 0o777, uid=status.st_uid, gid=status.st_gid)
    copy = os.path.join(partial, "files", path.lstrip("/"))
    atomic.make_directory(os.path.dirname(copy))
    atomic.write(copy, data, mode=0o600)
    entry.update(type="file", sha256=atomic.sha256(data), size=len(data))
    return entry


def list_backups(backup_dir=atomic.BACKUP_DIR):
    """Give the complete backup sets, oldest first, as directories."""
    try:
        names = os.listdir(backup_dir)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explain(error, backup_dir) from error
    return [os.path.join(backup_dir, name) for name in sorted(names) if _SET_NAME.fullmatch(name)]
