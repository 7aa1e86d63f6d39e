# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atomic and durable writes: after any interruption a file has the old content or the new one.

Hand-written, because no library on a node does all of it: durable, right mode and owner from creation on, no link followed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat

from ..errors import PkiError
from . import guarded_paths, path_trust
from .reading import explain

STATE_DIR = "/var/lib/kubepki"

BACKUP_DIR = "/var/lib/kubepki/backups"

# Dotfiles: the kubelet reads every other name in its manifest directory (pkg/kubelet/config/file_linux.go).
TEMPORARY = ".%s.kubepki-%s"


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes as lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sync_directory(directory: str) -> None:
    """Make renames and removals in a directory durable (fsync(2) on the directory). Raise PkiError."""
    try:
        with guarded_paths.open_directory(directory) as (parent, _here):
            _sync(parent)
    except OSError as error:
        raise explain(error, directory) from error


def _sync(parent: int) -> None:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a directory; their renames are durable.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_directory(path: str, mode: int = 0o700) -> None:
    """Create a directory, and its parents with the same mode. Raise PkiError. Existing directories keep their mode."""
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
                    made = False  # another process created it
                step = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
                try:
                    if made:
                        os.fchmod(step, mode)  # mkdir(2) applies the umask
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


def _attributes(
    descriptor: int, name: str, mode: int | None, owner: tuple[int, int] | None
) -> tuple[int, tuple[int, int] | None]:
    """Return (mode, owner) for the new content of a file: the given ones, else those of the file, else 0600 and None."""
    try:
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError:
        status = None
    # The mode and owner of a planted file would let its owner read the new content.
    if status is None or not stat.S_ISREG(status.st_mode) or path_trust.is_planted(status, os.fstat(descriptor)):
        return (0o600 if mode is None else mode), owner
    return (stat.S_IMODE(status.st_mode) & 0o777 if mode is None else mode), owner or (status.st_uid, status.st_gid)


def key_mode(path: str) -> int:
    """Return the mode for the new content of a private key's file: that of the file, but at most 0600.

    The read bit of a group other than root's stays, for components with a user of their own (kubeadm: RootlessControlPlane).
    """
    try:
        status = os.stat(path)
    except OSError:
        return 0o600
    return stat.S_IMODE(status.st_mode) & (0o600 if status.st_gid == 0 else 0o640)


def stage(
    path: str, data: bytes, mode: int | None = None, owner: tuple[int, int] | None = None, suffix: str | None = None
) -> str:
    """Write data durably beside path, under a hidden temporary name. Return that name.

    mode: permission bits; None keeps those of path, or 0600 where path is new. owner: (uid, gid); None keeps that of path.
    suffix: part of the temporary name; None for a random one. The file is 0600 until it is complete. Raise PkiError, with
    nothing left, when it cannot be written, or when another user could have placed a link on the way to it.
    """
    directory, name = os.path.split(path)
    try:
        with guarded_paths.open_directory(directory) as (descriptor, _here):
            return os.path.join(directory, _stage(descriptor, name, data, mode, owner, suffix))
    except OSError as error:
        raise _unwritten(error, path) from error


def _unwritten(error: OSError, path: str) -> PkiError:
    if error.errno == errno.ENOENT:
        return PkiError(
            "the directory %s does not exist" % os.path.dirname(path), path=path, fix="Create it, or correct the path."
        )
    return explain(error, path)


def _stage(directory: int, name: str, data: bytes, mode: int | None, owner: tuple[int, int] | None, suffix: str | None) -> str:
    """Write data beside name in an open directory. Return the temporary name. Raise OSError with nothing left."""
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
            # A rename keeps the label of the temporary file, which is the directory's default; the target may have another.
            with contextlib.suppress(OSError, AttributeError):
                label = os.getxattr("/proc/self/fd/%d/%s" % (directory, name), "security.selinux", follow_symlinks=False)
                os.setxattr(handle.fileno(), "security.selinux", label)
            os.fsync(handle.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    return temporary


def write(path: str, data: bytes, mode: int | None = None, owner: tuple[int, int] | None = None) -> None:
    """Replace or create a file. Readers see the old content or the new one, also after a crash.

    mode, owner: as in stage(). Writes to the target of a symbolic link; a link that another user could have placed is replaced
    itself. Raise PkiError, with the old file untouched.
    """
    path = guarded_paths.resolve(path, replace=True)
    home, name = os.path.split(path)
    try:
        with guarded_paths.open_directory(home) as (directory, _here):
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


def rename(source: str, path: str) -> None:
    """Rename a file, link or directory, without following a link that another user could have placed.

    Does not sync the directories. Raise OSError or PkiError.
    """
    (before, old), (after, new) = os.path.split(source), os.path.split(path)
    with guarded_paths.open_directory(before) as (origin, _here), guarded_paths.open_directory(after) as (target, _there):
        os.rename(old, new, src_dir_fd=origin, dst_dir_fd=target)


def unlink(path: str) -> None:
    """Remove a file or link, as rename(). Does not sync the directory. Raise OSError or PkiError."""
    home, name = os.path.split(path)
    with guarded_paths.open_directory(home) as (directory, _here):
        os.unlink(name, dir_fd=directory)


def symlink(target: str, path: str) -> None:
    """Create a symbolic link, as rename(). Does not sync the directory. Raise OSError or PkiError."""
    home, name = os.path.split(path)
    with guarded_paths.open_directory(home) as (directory, _here):
        os.symlink(target, name, dir_fd=directory)


def remove(path: str) -> bool:
    """Remove a file or link durably. Return whether it existed. Raise PkiError."""
    home, name = os.path.split(path)
    try:
        with guarded_paths.open_directory(home) as (directory, _here):
            os.unlink(name, dir_fd=directory)
            _sync(directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explain(error, path) from error
    return True


def free_bytes(path: str) -> int:
    """Return the free bytes of the file system that holds path, or its nearest existing parent."""
    status = os.statvfs(existing_directory(path))
    return status.f_bavail * status.f_frsize


def existing_directory(path: str) -> str:
    """Return the path itself where it is a directory, else the nearest existing directory above it."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def host_name() -> str:
    """Return the name of this host, as a backup set records it."""
    return os.uname().nodename
