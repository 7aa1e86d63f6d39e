# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read files, and set their mode and owner, without following a link that another user could have placed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import BinaryIO, Iterator

from ..errors import PkiError
from . import guarded_paths, path_trust
from .reading import explain

_LARGEST_KEY = 1 << 20


@contextlib.contextmanager
def _regular(path: str) -> Iterator[tuple[BinaryIO, os.stat_result, os.stat_result]]:
    """Open a file whose name is not a link. Yield (handle, status, status of its directory). Raise OSError or PkiError."""
    home, name = os.path.split(path)
    with guarded_paths.open_directory(home) as (directory, _here):
        # Without O_NONBLOCK, opening a pipe blocks until it has a writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        around = os.fstat(directory)
    with os.fdopen(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PkiError("is neither a file nor a symbolic link", path=path, fix="Move it away, or leave it out.")
        yield handle, status, around


def read_regular(path: str) -> tuple[bytes, os.stat_result]:
    """Return (bytes, status) of one and the same file. Raise PkiError, also for a link."""
    try:
        with _regular(path) as (handle, status, _around):
            return handle.read(), status
    except OSError as error:
        raise explain(error, path) from error


def read_private(path: str) -> bytes | None:
    """Return the bytes of a file that only the user of this process can read and change, or None where it does not exist.

    Raise PkiError for a link, a file of another user, one with several names (hard links), and one with a mode beyond 0600.
    """
    try:
        with _regular(path) as (handle, status, _around):
            if status.st_uid != os.geteuid():
                raise PkiError(
                    "belongs to user %d, so it may be a trap. It is not used" % status.st_uid,
                    path=path,
                    fix="Remove it, or name a directory to which only you can write.",
                )
            if status.st_mode & 0o177 or status.st_nlink != 1:
                raise PkiError(
                    "other users may have read it (mode %04o, %d names). It is not used"
                    % (stat.S_IMODE(status.st_mode), status.st_nlink),
                    path=path,
                    fix="Remove it, and run again for a new one.",
                )
            return handle.read(_LARGEST_KEY)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PkiError(
                "is a symbolic link where a file of this user is expected. It is not used",
                path=path,
                fix="Remove it, or name a directory to which only you can write.",
            ) from error
        raise explain(error, path) from error


def read_own(path: str) -> bytes | None:
    """Return the bytes of a file, or None where it does not exist.

    Raise PkiError for a file of another user in a directory that several users can write to, and for a link that
    guarded_paths.resolve() refuses.
    """
    try:
        with _regular(guarded_paths.resolve(path)) as (handle, status, around):
            if path_trust.is_planted(status, around):
                raise PkiError(
                    "belongs to user %d, in a directory that other users can write to, so it may be a trap. "
                    "It is not used" % status.st_uid,
                    path=path,
                    fix="Remove it, or name a directory to which only you can write.",
                )
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise explain(error, path) from error


def set_attributes(path: str, mode: int, owner: tuple[int, int]) -> None:
    """Set the mode and the owner of a file. owner: (uid, gid); -1 keeps one.

    Raise PkiError, also for a link that guarded_paths.resolve() refuses, and for a file with several names (hard links).
    """
    real = guarded_paths.resolve(path)
    try:
        with _regular(real) as (handle, status, _around):
            if status.st_nlink != 1:
                raise PkiError(
                    "has %d names (hard links), so that another file would change with it" % status.st_nlink,
                    path=path,
                    fix="Give it a file of its own: put a copy in its place.",
                )
            os.fchown(handle.fileno(), owner[0], owner[1])
            os.fchmod(handle.fileno(), mode)
    except OSError as error:
        raise explain(error, path) from error
