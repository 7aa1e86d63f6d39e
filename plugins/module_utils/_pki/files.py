# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atomic and durable writes, backup sets with checksums, the journal.

Everything here survives a kill or a power cut at any instruction: a file is either the old one or the new
one, and whatever was begun is found in the journal by the next run.
"""

from __future__ import annotations

__metaclass__ = type

import contextlib
import datetime
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import time

from .errors import PkiError

# Reading is a room of its own; its names are this room's, too.
from .reading import explain, read, read_if_exists  # noqa: F401

STATE_DIR = "/var/lib/kubepki"
BACKUP_DIR = "/var/lib/kubepki/backups"
KUBELET_RESTART = "kubelet-restart"  # the journal of a kubelet that has to be restarted

# Where the system knows it (not macOS): a descriptor to go on from, which needs no permission to list the directory.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGEST_KEY = 1 << 20
_MOST_LINKS = 40  # as the kernel follows in one path

# Dotfiles: the kubelet reads every other name in its manifest directory (pkg/kubelet/config/file_linux.go).
TEMPORARY = ".%s.kubepki-%s"


def sha256(data):
    """Give the SHA-256 of bytes as lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


# --- who else can change a path ----------------------------------------------------------------------------------------------


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
    A path that does not exist is checked as far as it exists. Changes nothing.
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
        raise PkiError("this %s belongs to user %d, who can change what is used here as %s" % (
            what, status.st_uid, "root" if os.geteuid() == 0 else "user %d" % os.geteuid()), path=path,
            fix=fix or "Check what is in it, then: chown root:root %s. Or name another path." % path)
    if stat.S_ISLNK(status.st_mode) or not others_can_write(status):
        return
    if on_the_way and status.st_mode & stat.S_ISVTX:
        return
    raise PkiError("other users can write to this %s (mode %04o)" % (what, stat.S_IMODE(status.st_mode)), path=path,
                   fix=fix or "Check what is in it, then: chmod go-w %s. Or name another path." % path)


def _parts(path):
    """Return the components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_target(descriptor, here, name):
    """Return where a link in an open directory leads, or None where the name is no link.

    Raise PkiError where a user other than root and the one of this process could have placed the link.
    """
    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        return None
    directory, allowed = os.fstat(descriptor), (0, os.geteuid())
    kept = not others_can_write(directory) or directory.st_mode & stat.S_ISVTX
    if status.st_uid not in allowed or directory.st_uid not in allowed or not kept:
        raise UntrustedLink("is a symbolic link that another user could have placed: the directory %s belongs to user %d and has "
                            "the mode %04o, and the link belongs to user %d. It is not followed" % (
                                here, directory.st_uid, stat.S_IMODE(directory.st_mode), status.st_uid),
                            path=os.path.join(here, name),
                            fix="Name the path that it leads to, or give link and directory to root (chown -h root, chmod go-w).")
    return os.readlink(name, dir_fd=descriptor)


class UntrustedLink(PkiError):
    """A symbolic link that another user could have placed."""


def _walk(path):
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
                    raise PkiError("is a symbolic link to a place that does not exist", path=beyond[0],
                                   fix="Mount or create that place, or remove the link.") from None
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
    descriptor, here, missing = _walk(directory)
    try:
        if missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        yield descriptor, here
    finally:
        os.close(descriptor)


def real_directory(path):
    """Return the real path of a directory as opened() finds it; what does not exist stays in it as it is. Raises PkiError."""
    try:
        descriptor, here, missing = _walk(path)
    except OSError as error:
        raise explain(error, path) from error
    os.close(descriptor)
    return os.path.join(here, *missing)


def resolve(path, replace=False):
    """Return the real path of a file that is to be written: links that no other user could have placed are followed.

    replace: a last component that is another link is left in the path, to be renamed over. Raise PkiError for other links.
    What does not exist stays in the path as it is.
    """
    for _number in range(_MOST_LINKS):
        directory, name = os.path.split(path)
        try:
            descriptor, here, missing = _walk(directory)
        except OSError as error:
            raise explain(error, path) from error
        try:
            if missing:
                return os.path.join(here, *missing, name)
            target = _link_target(descriptor, here, name)
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


# --- writing -----------------------------------------------------------------------------------------------------------------


def sync_directory(directory):
    """Make renames and removals in a directory durable (fsync(2) on the directory)."""
    try:
        with opened(directory) as (parent, _here):
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
        descriptor, here, missing = _walk(current)
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


def _is_placed(status, directory):
    """Return whether a user may have placed a file in a directory that several users can write to. Takes the status of both."""
    return others_can_write(directory) and status.st_uid not in (0, os.geteuid(), directory.st_uid)


def _attributes(descriptor, name, mode, owner):
    """Return mode and owner for a new version of a file: what is asked, else what it has, else 0600 and this process's."""
    try:
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError:
        status = None
    # A user who placed the file would be given what is written, or could read it.
    if status is None or not stat.S_ISREG(status.st_mode) or _is_placed(status, os.fstat(descriptor)):
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
        with opened(directory) as (descriptor, _here):
            return os.path.join(directory, _stage(descriptor, name, data, mode, owner, suffix))
    except OSError as error:
        raise _unwritten(error, path) from error


def _unwritten(error, path):
    if error.errno == errno.ENOENT:
        return PkiError("the directory %s does not exist" % os.path.dirname(path), path=path,
                        fix="Create it, or correct the path.")
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
    path = resolve(path, replace=True)
    home, name = os.path.split(path)
    try:
        with opened(home) as (directory, _here):
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
    with opened(before) as (origin, _here), opened(after) as (target, _there):
        os.rename(old, new, src_dir_fd=origin, dst_dir_fd=target)


def unlink(path):
    """Remove a file or link as rename() renames one. Raises OSError or PkiError. The directory is not synced."""
    home, name = os.path.split(path)
    with opened(home) as (directory, _here):
        os.unlink(name, dir_fd=directory)


def symlink(target, path):
    """Make a symbolic link as rename() renames one. Raises OSError or PkiError. The directory is not synced."""
    home, name = os.path.split(path)
    with opened(home) as (directory, _here):
        os.symlink(target, name, dir_fd=directory)


def remove(path):
    """Remove a file or link durably. Gives whether there was one. Raises PkiError."""
    home, name = os.path.split(path)
    try:
        with opened(home) as (directory, _here):
            os.unlink(name, dir_fd=directory)
            _sync(directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explain(error, path) from error
    return True


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
                raise PkiError("belongs to user %d, so it may be a trap. It is not used" % status.st_uid, path=path,
                               fix="Remove it, or name a directory to which only you can write.")
            if status.st_mode & 0o177 or status.st_nlink != 1:
                raise PkiError("other users may have read it (mode %04o, %d names). It is not used" % (
                    stat.S_IMODE(status.st_mode), status.st_nlink), path=path, fix="Remove it, and run again for a new one.")
            return handle.read(_LARGEST_KEY)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PkiError("is a symbolic link where a file of this user is expected. It is not used", path=path,
                           fix="Remove it, or name a directory to which only you can write.") from error
        raise explain(error, path) from error


def read_own(path):
    """Return the bytes of a file as read_if_exists() does, unless another user may have placed it.

    Raises PkiError for a file of another user in a directory that several can write to, and for a link that resolve() refuses.
    """
    try:
        with _regular(resolve(path)) as (handle, status, around):
            if _is_placed(status, around):
                raise PkiError("belongs to user %d, in a directory that other users can write to, so it may be a trap. "
                               "It is not used" % status.st_uid, path=path,
                               fix="Remove it, or name a directory to which only you can write.")
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
                raise PkiError("has %d names (hard links), so that another file would change with it" % status.st_nlink,
                               path=path, fix="Give it a file of its own: put a copy in its place.")
            os.fchown(handle.fileno(), owner[0], owner[1])
            os.fchmod(handle.fileno(), mode)
    except OSError as error:
        raise explain(error, path) from error


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


@contextlib.contextmanager
def lock(state_dir=STATE_DIR, seconds=60, what="another kubepki job", check=False):
    """Hold the node's lock, so that two runs never change one node at a time.

    state_dir: where the lock file lies (made 0700 when missing). seconds: how long to wait for another run.
    check: hold none, since nothing will be changed, not even that directory.
    The kernel releases the lock with the process, however it ends. Raises PkiError when the time is up, and for a directory
    that other users can change: what is found there says what is done to the node.
    """
    if check:
        yield
        return
    make_directory(state_dir)
    require_trusted(state_dir)
    path = os.path.join(state_dir, "lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise explain(error, path) from error
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise PkiError("%s is running on this node since before this one began" % what, path=path,
                                   fix="Wait for it to end (`fuser -v %s` shows it), then run again." % path) from error
                time.sleep(0.1)
        yield
    finally:
        os.close(handle)


class Journal:
    """What a multi-step job has begun, on disk, so that the next run can finish or undo it.

    state_dir: the folder for journals (a `journal` folder is made in it, 0700). name: the job's.
    """

    def __init__(self, name, state_dir=STATE_DIR):
        self.directory = os.path.join(state_dir, "journal")
        self.path = os.path.join(self.directory, name + ".json")

    def load(self):
        """Give the recorded mapping, or None where nothing was begun. Raises PkiError on a damaged journal, or another user's."""
        data = read_if_exists(self.path, limited=False)
        if data is None:
            return None
        require_trusted(self.path)
        try:
            record = json.loads(data.decode("utf-8"))
        except ValueError as error:
            raise PkiError("the journal is not JSON", path=self.path,
                           fix="Compare the files it concerns with the newest backup set, then remove it.") from error
        if not isinstance(record, dict):
            raise PkiError("the journal is not a mapping", path=self.path,
                           fix="Compare the files it concerns with the newest backup set, then remove it.")
        return record

    def save(self, record):
        """Record a mapping durably, replacing the one before. Holds no key material: only paths and checksums."""
        make_directory(self.directory)
        require_trusted(self.directory)
        write(self.path, json.dumps(record, sort_keys=True, indent=1).encode("utf-8"), mode=0o600)

    def sweep(self):
        """Remove what a run that was killed while it recorded something left beside the journal."""
        prefix = TEMPORARY % (os.path.basename(self.path), "")
        with contextlib.suppress(OSError):
            for name in os.listdir(self.directory):
                if name.startswith(prefix):
                    os.unlink(os.path.join(self.directory, name))

    def clear(self):
        """Say that nothing is under way any more."""
        remove(self.path)


def host_name():
    """Return the name of this host, as a backup set records it."""
    return os.uname().nodename


_SET_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[a-z0-9-]+")


def create_backup(paths, job, backup_dir=BACKUP_DIR, keep=5):
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
    make_directory(backup_dir)
    require_trusted(backup_dir)
    now = datetime.datetime.now(datetime.timezone.utc)
    name = "%s-%s" % (now.strftime("%Y%m%dT%H%M%S.%fZ"), job)
    partial = os.path.join(backup_dir, ".partial-" + name)
    entries = []
    try:
        make_directory(partial)
        for path in sorted({os.path.abspath(path) for path in paths}):
            entries.append(_back_up_one(path, partial))
        document = {"schema": 1, "job": job, "host": host_name(), "created_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "entries": entries}
        write(os.path.join(partial, "manifest.json"), json.dumps(document, indent=1).encode("utf-8"), mode=0o600)
        final = os.path.join(backup_dir, name)
        os.rename(partial, final)
        sync_directory(backup_dir)
    except (OSError, PkiError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, PkiError):
            raise PkiError("no backup could be made (%s), so nothing was changed" % error.message, path=error.path,
                           fix=error.fix) from error
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
    data, status = read_regular(path)
    entry.update(mode=status.st_mode & 0o777, uid=status.st_uid, gid=status.st_gid)
    copy = os.path.join(partial, "files", path.lstrip("/"))
    make_directory(os.path.dirname(copy))
    write(copy, data, mode=0o600)
    entry.update(type="file", sha256=sha256(data), size=len(data))
    return entry


def list_backups(backup_dir=BACKUP_DIR):
    """Give the complete backup sets, oldest first, as directories."""
    try:
        names = os.listdir(backup_dir)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explain(error, backup_dir) from error
    return [os.path.join(backup_dir, name) for name in sorted(names) if _SET_NAME.fullmatch(name)]
