# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read files as bytes, and turn errors of the system into a PkiError."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from ..errors import PkiError

_LARGEST = 16 << 20

_REASONS: dict[int, tuple[str, str | None]] = {
    errno.ENOSPC: ("no space left on the file system", "Free some space and run again; nothing was changed in this file."),
    errno.EDQUOT: ("the disk quota is used up", "Raise the quota and run again; nothing was changed in this file."),
    errno.EROFS: ("the file system is read-only", "Remount it read-write (see `dmesg` for why it went read-only) and run again."),
    errno.EACCES: ("permission denied", "Run with become: true (root)."),
    errno.EPERM: ("operation not permitted", "Run with become: true (root); `lsattr` shows whether the file is immutable."),
    errno.ENOENT: ("does not exist", "Correct the path, or restore the file from a backup set."),
    errno.EISDIR: ("is a directory where a file is expected", "Move it away."),
    errno.ENOTDIR: ("a part of this path is a file, where a directory is expected", "Correct the path, or move the file away."),
    errno.ELOOP: ("the symbolic links of this path lead in a circle", "Correct them."),
    errno.EBUSY: ("is in use by the system, a mount point perhaps", "Unmount it (see `findmnt`), or name another path."),
    errno.EIO: ("input/output error", "The disk is failing: see `dmesg`."),
}


def explain(error: OSError, path: str | None) -> PkiError:
    """Return the PkiError for an OSError about a path."""
    reason, fix = _REASONS.get(error.errno or 0, (error.strerror or str(error), None))
    return PkiError(reason, path=path, fix=fix)


def read(path: str, limited: bool = True, of_root: bool = False) -> bytes:
    """Return the bytes of a file. Raise PkiError.

    limited: refuse more than 16 MiB; no file of a cluster's configuration or trust is larger. of_root: raise LooseFile for a file
    that users other than root and the one of this process can write, because root acts on its content.
    """
    try:
        with open(path, "rb", opener=_open_of_root if of_root else _open) as handle:
            return _read_limited(handle, path) if limited else handle.read()
    except OSError as error:
        raise explain(error, path) from error


def _open(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe blocks until it has a writer.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        os.close(descriptor)
        raise PkiError(
            "is a %s where a file is expected" % ("pipe" if stat.S_ISFIFO(mode) else "device"), path=path, fix="Move it away."
        )
    return descriptor


class LooseFile(PkiError):
    """A file that root acts on and that other users can write."""


def _open_of_root(path: str, flags: int) -> int:
    descriptor = _open(path, flags)
    status = os.fstat(descriptor)
    others = stat.S_IWOTH if status.st_gid in (0, os.getegid()) else stat.S_IWOTH | stat.S_IWGRP
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & others:
        os.close(descriptor)
        raise LooseFile(
            "can be written by others than root, so it is not read",
            path=path,
            fix="Check what it says, then run `chown root:root` and `chmod go-w` on it.",
        )
    return descriptor


def _read_limited(handle: BinaryIO, path: str) -> bytes:
    data = handle.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise PkiError(
            "is larger than %d MiB, which no file of its kind is" % (_LARGEST >> 20),
            path=path,
            fix="Move it away, or restore it from a backup.",
        )
    return data


def read_if_exists(path: str, limited: bool = True) -> bytes | None:
    """Return the bytes of a file as read(), or None where it does not exist. Raise PkiError for any other error."""
    try:
        with open(path, "rb", opener=_open) as handle:
            return _read_limited(handle, path) if limited else handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise explain(error, path) from error
