# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that no other user can change a file or directory that root acts on."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Collection

from ..errors import PkiError
from . import guarded_paths
from .reading import explain


def require_trusted(path: str, users: Collection[int] | None = None, fix: str | None = None) -> None:
    """Raise PkiError, which names the file or directory, unless only root and `users` can change what a path leads to.

    users: user ids; None for that of this process. Checks every directory and link from / on, and the targets of links. Sticky
    directories (/tmp) are allowed on the way. Other users must not be able to create a path that does not exist.
    """
    allowed = {0}.union([os.geteuid()] if users is None else users)
    todo, here, links = guarded_paths.path_parts(os.path.join(os.getcwd(), path)), "/", 0
    _require_own("/", os.lstat("/"), allowed, bool(todo), fix)
    while todo:
        name = todo.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, name)
        try:
            status = os.lstat(step)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > guarded_paths.MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(step)
        except FileNotFoundError:
            _require_closed(here, step)
            return
        except OSError as error:
            raise explain(error, step) from error
        _require_own(step, status, allowed, bool(todo), fix)
        if not stat.S_ISLNK(status.st_mode):
            here = step
            continue
        todo.extend(guarded_paths.path_parts(target))
        if target.startswith("/"):
            here = "/"


def require_trusted_tree(path: str, users: Collection[int] | None = None, fix: str | None = None) -> None:
    """Raise PkiError as require_trusted(), also for everything below a directory and for the targets of links in it."""
    allowed = {0}.union([os.geteuid()] if users is None else users)
    todo = [path]
    seen: set[str] = set()
    while todo:
        path = todo.pop()
        require_trusted(path, users, fix)
        real = os.path.realpath(path)
        if real in seen:
            continue
        for home, directories, names in os.walk(real):
            seen.add(home)
            for name in directories + names:
                below = os.path.join(home, name)
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(below)
                    _require_own(below, status, allowed, False, fix)
                    if stat.S_ISLNK(status.st_mode):
                        todo.append(below)


def require_own(path: str, users: Collection[int] | None = None, fix: str | None = None) -> None:
    """Raise PkiError unless only root and `users` can change a file or directory. The directories above are not checked."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise explain(error, path) from error
    _require_own(path, status, {0}.union([os.geteuid()] if users is None else users), False, fix)


def _require_own(path: str, status: os.stat_result, allowed: Collection[int], on_the_way: bool, fix: str | None) -> None:
    what = "directory" if stat.S_ISDIR(status.st_mode) else "file"
    if status.st_uid not in allowed:
        raise PkiError(
            "this %s belongs to user %d, who can change what is used here as %s"
            % (what, status.st_uid, "root" if os.geteuid() == 0 else "user %d" % os.geteuid()),
            path=path,
            fix=fix or "Check what is in it, then: chown root:root %s. Or name another path." % path,
        )
    if stat.S_ISLNK(status.st_mode) or not guarded_paths.others_can_write(status):
        return
    if on_the_way and status.st_mode & stat.S_ISVTX:
        return
    raise PkiError(
        "other users can write to this %s (mode %04o)" % (what, stat.S_IMODE(status.st_mode)),
        path=path,
        fix=fix or "Check what is in it, then: chmod go-w %s. Or name another path." % path,
    )


def _require_closed(directory: str, path: str) -> None:
    """Raise PkiError where other users can create a path that does not exist in a directory (/tmp)."""
    status = os.lstat(directory)
    if guarded_paths.others_can_write(status):
        raise PkiError(
            "does not exist, and other users can create it (%s has the mode %04o)" % (directory, stat.S_IMODE(status.st_mode)),
            path=path,
            fix="Create it, or name another path.",
        )


def is_planted(status: os.stat_result, directory: os.stat_result) -> bool:
    """Return whether another user may have put a file into a directory that several users can write to."""
    return guarded_paths.others_can_write(directory) and status.st_uid not in (0, os.geteuid(), directory.st_uid)
