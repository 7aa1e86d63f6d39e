# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atomic and durable writes: a file is the old one or the new one, whatever interrupts the write.

No library in a node's reach does all of it (durable, mode and owner from creation, no link followed), so it is written here."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat

from ..errors import PkiError
from . import guarded_paths
from .reading import explain

STATE_DIR = "/var/lib/kubepki"

BACKUP_DIR = "/var/lib/kubepki/backups"

# Dotfiles: the kubelet reads every other name in its manifest directory (pkg/kubelet/config/file_linux.go).
TEMPORARY = ".%s.kubepki-%s"


def sha256(data):
    """Give the SHA-256 of bytes as lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sync_directory(directory):
    """Make renames and removals in a directory durable (fsync(2) on the directory)."""
    try:
        with guarded_paths.opened(directory) as (parent, _here):
            _sync(parent)
    except OSError as error:
        raise explain(error, directory) from error


def _sync(parent):
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a directory; their rename is durable by itself.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_directory(path, mode=0o700):
    """Make a directory (and its parents, with the same mode) unless it is there. Raises PkiError.

    What is there keeps its mode.
    """
    current = os.path.abspath(path)
    try:
        descriptor, here, missing = guarded_paths.walk(current)
        try:
            for name in missing:
                current = os.path.join(here, name)
                made = True
                try:
                    os.mkdir(name, mode, dir_fd=descriptor)
                except FileExistsError:
                    made = False  # another run was faster
                step = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
                try:
                    if made:
                        os.fchmod(step, mode)  # whatever the umask took away
                    _sync(descriptor)
                except BaseException:
                    os.close(step)
                    raise
                os.close(descriptor)
                descriptor, here = step, current
        finally:
            os.close(descriptor)
    except NotADirectoryError as error:
        while current != "/" and not os.path.lexists(current):
            current = os.path.dirname(current)
        raise PkiError("is a file where a directory is expected", path=current, fix="Move it away.") from error
    except OSError as error:
        raise explain(error, current) from error


def _attributes(descriptor, name, mode, owner):
    """Return mode and owner for a new version of a file: what is asked, else what it has, else 0600 and this process's."""
    try:
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError:
        status = None
    # A user who placed the file would be given what is written, or could read it.
    if status is None or not stat.S_ISREG(status.st_mode) or guarded_paths.is_placed(status, os.fstat(descriptor)):
        return (0o600 if mode is None else mode), owner
    return (stat.S_IMODE(status.st_mode) & 0o777 if mode is None else mode), owner or (status.st_uid, status.st_gid)


def key_mode(path):
    """Return the mode for a new version of a file with a private key: 0600, or less.

    The read bit of a group other than root's stays (a component of its own user, as kubeadm's RootlessControlPlane), and no more.
    """
    try:
        status = os.stat(path)
    except OSError:
        return 0o600
    return stat.S_IMODE(status.st_mode) & (0o600 if status.st_gid == 0 else 0o640)


def stage(path, data, mode=None, owner=None, suffix=None):
    """Write data durably beside path, under a hidden temporary name, and give that name.

    mode: permission bits; None keeps those of path, or 0600 where path is new. The bytes are never readable
    by others on the way: the file is 0600 from its creation. owner: (uid, gid), or None to keep path's.
    Raises PkiError and leaves nothing behind when the file cannot be written completely, or when another user could have
    placed a link on the way to it.
    """
    directory, name = os.path.split(path)
    try:
        with guarded_paths.opened(directory) as (descriptor, _here):
            return os.path.join(directory, _stage(descriptor, name, data, mode, owner, suffix))
    except OSError as error:
        raise _unwritten(error, path) from error


def _unwritten(error, path):
    if error.errno == errno.ENOENT:
        return PkiError(
            "the directory %s does not exist" % os.path.dirname(path), path=path, fix="Create it, or correct the path."
        )
    return explain(error, path)


def _stage(directory, name, data, mode, owner, suffix):
    """Write data beside name in an open directory, and return the temporary name. Raise OSError with nothing left."""
    temporary = TEMPORARY % (name, suffix or os.urandom(4).hex())
    mode, owner = _attributes(directory, name, mode, owner)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            if owner is not None and os.geteuid() == 0:
                os.fchown(handle.fileno(), owner[0], owner[1])
            os.fchmod(handle.fileno(), mode)
            # A rename keeps the label of the temporary file, which is the directory's default and not always the target's.
            with contextlib.suppress(OSError, AttributeError):
                label = os.getxattr("/proc/self/fd/%d/%s" % (directory, name), "security.selinux", follow_symlinks=False)
                os.setxattr(handle.fileno(), "security.selinux", label)
            os.fsync(handle.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    return temporary


def write(path, data, mode=None, owner=None):
    """Replace (or create) a file so that every reader, and every crash, sees the old bytes or the new ones.

    Takes bytes; mode and owner as in stage(). A symbolic link is followed: the file it names is replaced. A link that another
    user could have placed is replaced itself. Raises PkiError; the old file is then untouched.
    """
    path = guarded_paths.resolve(path, replace=True)
    home, name = os.path.split(path)
    try:
        with guarded_paths.opened(home) as (directory, _here):
            temporary = _stage(directory, name, data, mode, owner, None)
            try:
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=directory)
                raise
            _sync(directory)
    except OSError as error:
        raise _unwritten(error, path) from error


def rename(source, path):
    """Rename a file, link or directory, without following a link that another user could have placed. Raises OSError or PkiError.

    The directories are not synced.
    """
    (before, old), (after, new) = os.path.split(source), os.path.split(path)
    with guarded_paths.opened(before) as (origin, _here), guarded_paths.opened(after) as (target, _there):
        os.rename(old, new, src_dir_fd=origin, dst_dir_fd=target)


def unlink(path):
    """Remove a file or link as rename() renames one. Raises OSError or PkiError. The directory is not synced."""
    home, name = os.path.split(path)
    with guarded_paths.opened(home) as (directory, _here):
        os.unlink(name, dir_fd=directory)


def symlink(target, path):
    """Make a symbolic link as rename() renames one. Raises OSError or PkiError. The directory is not synced."""
    home, name = os.path.split(path)
    with guarded_paths.opened(home) as (directory, _here):
        os.symlink(target, name, dir_fd=directory)


def remove(path):
    """Remove a file or link durably. Gives whether there was one. Raises PkiError."""
    home, name = os.path.split(path)
    try:
        with guarded_paths.opened(home) as (directory, _here):
            os.unlink(name, dir_fd=directory)
            _sync(directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explain(error, path) from error
    return True


def free_bytes(path):
    """Give the bytes a process may still write on the file system that holds path, or its nearest parent."""
    status = os.statvfs(existing_directory(path))
    return status.f_bavail * status.f_frsize


def existing_directory(path):
    """Give the nearest directory above a path (or the path) that exists. Of a relative path from the current directory up."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def host_name():
    """Return the name of this host, as a backup set records it."""
    return os.uname().nodename
