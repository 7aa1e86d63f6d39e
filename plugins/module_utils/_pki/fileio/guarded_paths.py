# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and files that root acts on: opened step by step, never through a link that another user could have placed.

No library does this; the steps are openat(2) with O_NOFOLLOW."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from ..errors import PkiError
from .reading import explain

# Where the system knows it (not macOS): a descriptor to go on from, which needs no permission to list the directory.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_LARGEST_KEY = 1 << 20

_MOST_LINKS = 40  # as the kernel follows in one path


def others_can_write(status):
    """Return whether a file or directory with this status can be changed by users other than its owner and root."""
    if status.st_mode & 0o002:
        return True
    # A user's private group (umask 002) is the user; root has none.
    private = os.geteuid() != 0 and status.st_gid == os.getegid()
    return bool(status.st_mode & 0o020) and not private


def require_trusted(path, users=None, fix=None):
    """Raise PkiError, which names the file or directory, unless only root and `users` can change what a path leads to.

    users: user ids; None for that of this process. Everything on the way is looked at, from / on: directories, links, what links
    lead to, and what the path names. In a directory with the sticky bit (/tmp) what root or `users` own cannot be replaced.
    A path that does not exist is checked as far as it exists, and must not be one that other users can create. Changes nothing.
    """
    allowed = {0}.union([os.geteuid()] if users is None else users)
    todo, here, links = _parts(os.path.join(os.getcwd(), path)), "/", 0
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
                if links > _MOST_LINKS:
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
        todo.extend(_parts(target))
        if target.startswith("/"):
            here = "/"


def require_trusted_tree(path, users=None, fix=None):
    """Raise PkiError as require_trusted() does, also for everything below a directory and for what links in it lead to."""
    allowed = {0}.union([os.geteuid()] if users is None else users)
    todo, seen = [path], set()
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


def require_own(path, users=None, fix=None):
    """Raise PkiError unless only root and `users` can change a file or directory. The way to it is not checked."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise explain(error, path) from error
    _require_own(path, status, {0}.union([os.geteuid()] if users is None else users), False, fix)


def _require_own(path, status, allowed, on_the_way, fix):
    what = "directory" if stat.S_ISDIR(status.st_mode) else "file"
    if status.st_uid not in allowed:
        raise PkiError(
            "this %s belongs to user %d, who can change what is used here as %s"
            % (what, status.st_uid, "root" if os.geteuid() == 0 else "user %d" % os.geteuid()),
            path=path,
            fix=fix or "Check what is in it, then: chown root:root %s. Or name another path." % path,
        )
    if stat.S_ISLNK(status.st_mode) or not others_can_write(status):
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
    if others_can_write(status):
        raise PkiError(
            "does not exist, and other users can create it (%s has the mode %04o)" % (directory, stat.S_IMODE(status.st_mode)),
            path=path,
            fix="Create it, or name another path.",
        )


def _parts(path):
    """Return the components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_target(descriptor: int, here: str, name: str, strict: bool = False) -> str | None:
    """Return where a link in an open directory leads, or None where the name is no link.

    Raise UntrustedLink unless the link belongs to root or the user of this process, in a directory that its owner alone can write
    to, or that is sticky. The directory's owner may be another user (kubespray: /etc/kubernetes of the user kube, with the link
    pki -> ssl of root): he can replace everything in it anyway, and cannot make a link of root. He can move one there from
    another of his directories, so strict asks for a directory of root or the user of this process as well.
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


def walk(path):
    """Open a directory one component at a time. Return (descriptor, its real path, [components that do not exist]).

    Links are followed where _link_target() trusts them. Raise PkiError for another link, OSError for any other trouble.
    """
    todo, here, links, beyond = _parts(os.path.join(os.getcwd(), path)), "/", 0, (None, 0)
    descriptor = os.open("/", _STEP)
    try:
        while todo:
            name = todo.pop()
            if name == "..":
                todo.extend(_parts(os.path.dirname(here)))
                descriptor, here = _again(descriptor), "/"
                continue
            try:
                step = os.open(name, _STEP, dir_fd=descriptor)
            except FileNotFoundError:
                if beyond[0] and len(todo) >= beyond[1]:
                    raise PkiError(
                        "is a symbolic link to a place that does not exist",
                        path=beyond[0],
                        fix="Mount or create that place, or remove the link.",
                    ) from None
                return descriptor, here, [name] + todo[::-1]
            except OSError as error:
                target = _link_target(descriptor, here, name) if error.errno in (errno.ELOOP, errno.ENOTDIR) else None
                if target is None:
                    raise
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                if not beyond[0] or len(todo) < beyond[1]:  # of links in links, the outer one
                    beyond = (os.path.join(here, name), len(todo))
                todo.extend(_parts(target))
                if target.startswith("/"):
                    descriptor, here = _again(descriptor), "/"
                continue
            os.close(descriptor)
            descriptor, here = step, os.path.join(here, name)
        return descriptor, here, []
    except BaseException:
        os.close(descriptor)
        raise


def _again(descriptor):
    """Return a descriptor of the root directory in place of another."""
    root = os.open("/", _STEP)
    os.close(descriptor)
    return root


@contextlib.contextmanager
def opened(directory):
    """Open a directory for work relative to its descriptor. Yields (descriptor, real path).

    What is done by that descriptor is done in this directory, whatever its path names meanwhile. Links on the way are followed
    only where no user but root and that of this process could have placed them. Raise PkiError for others, or OSError.
    """
    descriptor, here, missing = walk(directory)
    try:
        if missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        yield descriptor, here
    finally:
        os.close(descriptor)


def real_directory(path):
    """Return the real path of a directory as opened() finds it; what does not exist stays in it as it is. Raises PkiError."""
    try:
        descriptor, here, missing = walk(path)
    except OSError as error:
        raise explain(error, path) from error
    os.close(descriptor)
    return os.path.join(here, *missing)


def resolve(path, replace=False):
    """Return the real path of a file that is to be written: links that no other user could have placed are followed.

    replace: a last component that is another link is left in the path, to be renamed over; so is root's link in a directory of
    another user, as the folders are that reports and requests are written to. Raise PkiError for other links.
    What does not exist stays in the path as it is.
    """
    for _number in range(_MOST_LINKS):
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


def is_placed(status, directory):
    """Return whether a user may have placed a file in a directory that several users can write to. Takes the status of both."""
    return others_can_write(directory) and status.st_uid not in (0, os.geteuid(), directory.st_uid)


@contextlib.contextmanager
def _regular(path):
    """Open a file for reading where its name is no link. Yields (handle, status, status of its directory).

    Raise OSError or PkiError.
    """
    home, name = os.path.split(path)
    with opened(home) as (directory, _here):
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        around = os.fstat(directory)
    with os.fdopen(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PkiError("is neither a file nor a symbolic link", path=path, fix="Move it away, or leave it out.")
        yield handle, status, around


def read_regular(path):
    """Return (bytes, status) of a file, both of the same one, where its name is no link. Raises PkiError."""
    try:
        with _regular(path) as (handle, status, _around):
            return handle.read(), status
    except OSError as error:
        raise explain(error, path) from error


def read_private(path):
    """Return the bytes of a file that only the user of this process can read and change, or None where there is none.

    Raises PkiError for a link, another user's file, one with a second name, or one whose mode is not 0600 or less.
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


def read_own(path):
    """Return the bytes of a file as read_if_exists() does, unless another user may have placed it.

    Raises PkiError for a file of another user in a directory that several can write to, and for a link that resolve() refuses.
    """
    try:
        with _regular(resolve(path)) as (handle, status, around):
            if is_placed(status, around):
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


def set_attributes(path, mode, owner):
    """Give a file its mode and owner, (uid, gid) with -1 to keep one, without following a link another user could have placed.

    Raises PkiError.
    """
    real = resolve(path)
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
