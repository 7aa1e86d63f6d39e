# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find directories and files step by step, never through a link that another user could have placed.

Hand-written, because no library does this; the steps are openat(2) with O_NOFOLLOW.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Iterator

from ..errors import PkiError
from .reading import explain

# With O_PATH (not on macOS) a step needs no permission to list the directory.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

MOST_LINKS = 40  # as many as the kernel follows in one path, path_resolution(7)


def others_can_write(status: os.stat_result) -> bool:
    """Return whether a file or directory with this status can be changed by users other than its owner and root."""
    if status.st_mode & 0o002:
        return True
    # The private group of a user (umask 002) has no other member. Root has no such group.
    private = os.geteuid() != 0 and status.st_gid == os.getegid()
    return bool(status.st_mode & 0o020) and not private


def path_parts(path: str) -> list[str]:
    """Return the components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_target(descriptor: int, here: str, name: str, strict: bool = False) -> str | None:
    """Return the target of a link in an open directory, or None where the name is not a link.

    Raise UntrustedLink unless the link belongs to root or the user of this process, in a directory that only its owner can write
    to, or that is sticky. That owner may be another user (kubespray: /etc/kubernetes belongs to kube, with the link pki -> ssl of
    root), who cannot create a link of root. But such a user can move one there from another directory: strict also refuses a
    directory of another user.
    """
    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        return None
    directory, allowed = os.fstat(descriptor), (0, os.geteuid())
    kept = not others_can_write(directory) or directory.st_mode & stat.S_ISVTX
    if status.st_uid not in allowed or not kept or (strict and directory.st_uid not in allowed):
        raise UntrustedLink(
            "is a symbolic link that another user could have placed: the directory %s belongs to user %d and has "
            "the mode %04o, and the link belongs to user %d. It is not followed"
            % (here, directory.st_uid, stat.S_IMODE(directory.st_mode), status.st_uid),
            path=os.path.join(here, name),
            fix="Name the path that it leads to, or give the link to root (chown -h root) and let only its owner write to the "
            "directory (chmod go-w).",
        )
    return os.readlink(name, dir_fd=descriptor)


class UntrustedLink(PkiError):
    """A symbolic link that another user could have placed."""


def walk(path: str) -> tuple[int, str, list[str]]:
    """Open a directory one component at a time. Return (descriptor, its real path, [components that do not exist]).

    Links are followed where _link_target() trusts them. Raise PkiError for another link, OSError for any other error.
    """
    todo, here, links = path_parts(os.path.join(os.getcwd(), path)), "/", 0
    outer = ("", 0)  # the outermost link being followed, and how many parts of the path come after it
    descriptor = os.open("/", _STEP)
    try:
        while todo:
            name = todo.pop()
            if name == "..":
                todo.extend(path_parts(os.path.dirname(here)))
                descriptor, here = _reopen_root(descriptor), "/"
                continue
            try:
                step = os.open(name, _STEP, dir_fd=descriptor)
            except FileNotFoundError:
                if outer[0] and len(todo) >= outer[1]:
                    raise PkiError(
                        "is a symbolic link to a place that does not exist",
                        path=outer[0],
                        fix="Mount or create that place, or remove the link.",
                    ) from None
                return descriptor, here, [name] + todo[::-1]
            except OSError as error:
                target = _link_target(descriptor, here, name) if error.errno in (errno.ELOOP, errno.ENOTDIR) else None
                if target is None:
                    raise
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                if not outer[0] or len(todo) < outer[1]:  # of links in links, the outer one
                    outer = (os.path.join(here, name), len(todo))
                todo.extend(path_parts(target))
                if target.startswith("/"):
                    descriptor, here = _reopen_root(descriptor), "/"
                continue
            os.close(descriptor)
            descriptor, here = step, os.path.join(here, name)
        return descriptor, here, []
    except BaseException:
        os.close(descriptor)
        raise


def _reopen_root(descriptor: int) -> int:
    """Close a descriptor. Return one of the root directory."""
    root = os.open("/", _STEP)
    os.close(descriptor)
    return root


@contextlib.contextmanager
def open_directory(directory: str) -> Iterator[tuple[int, str]]:
    """Open a directory for calls relative to its descriptor (dir_fd). Yield (descriptor, real path).

    The descriptor stays this directory when its path is renamed or replaced meanwhile. Raises as walk().
    """
    descriptor, here, missing = walk(directory)
    try:
        if missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        yield descriptor, here
    finally:
        os.close(descriptor)


def real_directory(path: str) -> str:
    """Return the real path of a directory, as open_directory() finds it. It need not exist. Raise PkiError."""
    try:
        descriptor, here, missing = walk(path)
    except OSError as error:
        raise explain(error, path) from error
    os.close(descriptor)
    return os.path.join(here, *missing)


def resolve(path: str, replace: bool = False) -> str:
    """Return the real path of a file to write. It need not exist. Raise PkiError for a link that is not trusted.

    replace: a last component that is such a link stays in the path, to be replaced itself; so does a link of root in a directory
    of another user, as the folders for reports and requests are.
    """
    for _number in range(MOST_LINKS):
        directory, name = os.path.split(path)
        try:
            descriptor, here, missing = walk(directory)
        except OSError as error:
            raise explain(error, path) from error
        try:
            if missing:
                return os.path.join(here, *missing, name)
            target = _link_target(descriptor, here, name, strict=replace)
        except FileNotFoundError:
            target = None
        except UntrustedLink:
            if not replace:
                raise
            target = None
        finally:
            os.close(descriptor)
        if target is None:
            return os.path.join(here, name)
        path = os.path.join(here, target)
    raise explain(OSError(errno.ELOOP, os.strerror(errno.ELOOP)), path)
