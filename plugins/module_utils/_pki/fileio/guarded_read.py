# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read, as root, a file that pods or users may have put there: small, regular, through no link that they could have made.

Stricter than guarded_paths, which follows root's links in directories of another user.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import PkiError
from . import guarded_paths, reading

LARGEST = 256 * 1024


def read(path: str, largest: int = LARGEST) -> bytes:
    """Return the bytes of a regular file of at most `largest` bytes. Raise PkiError.

    A symbolic link is followed only in a directory that only root and the user of this process can write to. Each step is taken
    from the descriptor of the directory before it, so that nothing can be replaced in between.
    """
    try:
        handle = _open(os.path.abspath(path), path)
    except OSError as error:
        raise reading.explain(error, path) from error
    except ValueError:  # a NUL byte, or not text
        raise PkiError("is no possible name of a file", path=ascii(path), fix="Correct it where it is written.") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise PkiError("is no regular file", path=path, fix="Put a file there, or remove it.")
        data = b""
        while len(data) <= largest:
            part = os.read(handle, largest + 1 - len(data))
            if not part:
                return data
            data += part
        raise PkiError(
            "is larger than %d KiB, which no file of its kind is" % (largest // 1024),
            path=path,
            fix="Put the right file there, or remove it.",
        )
    except OSError as error:
        raise reading.explain(error, path) from error
    finally:
        os.close(handle)


def _open(absolute: str, path: str) -> int:
    """Return a descriptor of a file, found step by step from the root directory."""
    todo, links = [part for part in absolute.split("/") if part], 0
    above = [_directory("/", None)]
    try:
        while todo:
            part = todo.pop(0)
            if part in (".", ""):
                continue
            if part == "..":
                if len(above) > 1:
                    os.close(above.pop())
                continue
            mode = os.stat(part, dir_fd=above[-1], follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > guarded_paths.MOST_LINKS:
                    raise OSError(errno.ELOOP, "")
                target = _target(part, above[-1], path)
                if target.startswith("/"):
                    while len(above) > 1:
                        os.close(above.pop())
                todo = target.split("/") + todo
            elif todo:
                above.append(_directory(part, above[-1]))
            else:
                return os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above[-1])
        raise OSError(errno.EISDIR, "")
    finally:
        for handle in above:
            os.close(handle)


def _directory(name: str, above: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)


def _target(name: str, directory: int, path: str) -> str:
    status = os.fstat(directory)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise PkiError(
            "is reached through a symbolic link (%s) in a directory that others can write" % name,
            path=path,
            fix="Put the file itself there.",
        )
    return os.readlink(name, dir_fd=directory)
