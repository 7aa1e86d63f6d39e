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

# Dotfiles: the kubelet reads every other name in its manifest directory (pkg/kubelet/config/file_linux.go).
TEMPORARY = ".%s.kubepki-%s"


def sha256(data):
    """Give the SHA-256 of bytes as lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sync_directory(directory):
    """Make renames and removals in a directory durable (fsync(2) on the directory)."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise explain(error, directory) from error
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a directory; their rename is durable by itself.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise explain(error, directory) from error
    finally:
        os.close(descriptor)


def make_directory(path, mode=0o700):
    """Make a directory (and its parents, with the same mode) unless it is there. Raises PkiError."""
    missing = []
    current = os.path.abspath(path)
    while not os.path.isdir(current):
        missing.append(current)
        current = os.path.dirname(current)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, mode)
            os.chmod(directory, mode)
        except FileExistsError as error:
            if os.path.isdir(directory):
                continue
            raise PkiError("is a file where a directory is expected", path=directory, fix="Move it away.") from error
        except OSError as error:
            raise explain(error, directory) from error
        sync_directory(os.path.dirname(directory))


def _keep_selinux_label(source, destination):
    # A rename keeps the label of the temporary file, which is the directory's default and not always the target's.
    with contextlib.suppress(OSError, AttributeError):
        os.setxattr(destination, "security.selinux", os.getxattr(source, "security.selinux"))


def _attributes(path, mode, owner):
    """Mode and owner for a new version of path: what is asked, else what it has, else 0600 and this process's."""
    try:
        status = os.stat(path)
    except OSError:
        return (0o600 if mode is None else mode), owner
    if mode is None:
        mode = stat.S_IMODE(status.st_mode)
    if owner is None:
        owner = (status.st_uid, status.st_gid)
    return mode, owner


def stage(path, data, mode=None, owner=None, suffix=None):
    """Write data durably beside path, under a hidden temporary name, and give that name.

    mode: permission bits; None keeps those of path, or 0600 where path is new. The bytes are never readable
    by others on the way: the file is 0600 from its creation. owner: (uid, gid), or None to keep path's.
    Raises PkiError and leaves nothing behind when the file cannot be written completely.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, TEMPORARY % (name, suffix or os.urandom(4).hex()))
    mode, owner = _attributes(path, mode, owner)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(data)
                handle.flush()
                if owner is not None and os.geteuid() == 0:
                    os.fchown(handle.fileno(), owner[0], owner[1])
                os.fchmod(handle.fileno(), mode)
                os.fsync(handle.fileno())
            _keep_selinux_label(path, temporary)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise PkiError("the directory %s does not exist" % directory, path=path,
                           fix="Create it, or correct the path.") from error
        raise explain(error, path) from error
    return temporary


def write(path, data, mode=None, owner=None):
    """Replace (or create) a file so that every reader, and every crash, sees the old bytes or the new ones.

    Takes bytes; mode and owner as in stage(). A symbolic link is followed: the file it names is replaced.
    Raises PkiError; the old file is then untouched.
    """
    path = os.path.realpath(path)
    temporary = stage(path, data, mode, owner)
    try:
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise explain(error, path) from error
    sync_directory(os.path.dirname(path))


def remove(path):
    """Remove a file or link durably. Gives whether there was one. Raises PkiError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explain(error, path) from error
    sync_directory(os.path.dirname(path))
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


@contextlib.contextmanager
def lock(state_dir=STATE_DIR, seconds=60, what="another kubepki job", check=False):
    """Hold the node's lock, so that two runs never change one node at a time.

    state_dir: where the lock file lies (made 0700 when missing). seconds: how long to wait for another run.
    check: hold none, since nothing will be changed, not even that directory.
    The kernel releases the lock with the process, however it ends. Raises PkiError when the time is up.
    """
    if check:
        yield
        return
    make_directory(state_dir)
    path = os.path.join(state_dir, "lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        """Give the recorded mapping, or None where nothing was begun. Raises PkiError on a damaged journal."""
        data = read_if_exists(self.path, limited=False)
        if data is None:
            return None
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


_SET_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[a-z0-9-]+")


def create_backup(paths, job, backup_dir=BACKUP_DIR, keep=5):
    """Copy files into a new backup set and give the set's directory.

    paths: files and symbolic links; one that does not exist is recorded as absent, so that restoring
    removes it. job: a word for the set's name. keep: how many sets of this job stay, the newest; the new
    one always does. Other jobs' sets stay, or a rotation's many would displace the one a person made before it.
    The set appears under its name only when it is complete and durable: directories are 0700, files 0600, and
    manifest.json holds path, type, mode, owner and SHA-256 of each.
    Raises PkiError (no space, read-only, ...) with no set made.
    """
    if not re.fullmatch(r"[a-z0-9-]+", job):
        raise PkiError("the name %r does not fit in the name of a backup set" % job, fix="Use a-z, 0-9 and hyphens.")
    make_directory(backup_dir)
    now = datetime.datetime.now(datetime.timezone.utc)
    name = "%s-%s" % (now.strftime("%Y%m%dT%H%M%S.%fZ"), job)
    partial = os.path.join(backup_dir, ".partial-" + name)
    entries = []
    try:
        make_directory(partial)
        for path in sorted({os.path.abspath(path) for path in paths}):
            entries.append(_back_up_one(path, partial))
        document = {"schema": 1, "job": job, "created_at": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "entries": entries}
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
    entry = {"path": path, "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid}
    if stat.S_ISLNK(status.st_mode):
        entry.update(type="symlink", target=os.readlink(path))
        return entry
    if not stat.S_ISREG(status.st_mode):
        raise PkiError("is neither a file nor a symbolic link", path=path, fix="Leave it out of the backup.")
    data = read(path, limited=False)
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
