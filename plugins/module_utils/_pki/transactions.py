# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several files that change together, whatever interrupts it."""

from __future__ import annotations

__metaclass__ = type

import contextlib
import os
import stat

from . import files
from .errors import PkiError


class Transaction:
    """Several files that change together: after a crash, recover() makes all of them new or leaves all old.

    The new contents are first written beside their targets; when all are durable the journal is told to
    commit, and the renames follow within microseconds of one another. A certificate and its key are thus
    never both old-and-new for longer than two renames, and a crash between the two is healed by recover().
    """

    def __init__(self, name, state_dir=files.STATE_DIR):
        self._journal = files.Journal(name, state_dir)
        self._changes = []

    def write(self, path, data, mode=None, owner=None, follow=True):
        """Plan new bytes for path; mode and owner as in files.stage(). follow: a link stays, and what it names changes."""
        self._changes.append({"path": files.resolve(path) if follow else path, "data": data, "mode": mode, "owner": owner})

    def symlink(self, path, target):
        """Plan that path becomes a symbolic link to target."""
        self._changes.append({"path": path, "target": target})

    def remove(self, path):
        """Plan that path, a file or a symbolic link, goes. It may be gone already."""
        self._changes.append({"path": path, "remove": True})

    def paths(self):
        """Give the paths planned so far."""
        return [change["path"] for change in self._changes]

    def commit(self):
        """Make all planned changes. Raises PkiError with nothing changed when any of them cannot be made."""
        if not self._changes:
            return
        before = [_snapshot(change["path"]) for change in self._changes]
        # The temporary names are recorded before they exist, so that a crash while staging leaves no litter.
        token = os.urandom(4).hex()
        entries = [_entry(change, token) for change in self._changes]
        self._journal.save({"state": "staging", "entries": entries})
        try:
            _stage_all(self._changes, entries, token)
            self._journal.save({"state": "commit", "entries": entries})
        except PkiError:
            # What cannot be cleared now (the file system went read-only) stays in the journal for the next run.
            with contextlib.suppress(PkiError):
                _discard(entries)
                self._journal.clear()
            raise
        done = []
        try:
            _finish(entries, done)
        except PkiError:
            # An immutable file, a file that is a mount point: only the rename itself shows it.
            self._put_back(entries, dict(zip(done, before)))
            raise
        self._journal.clear()
        self._changes = []

    def _put_back(self, entries, before):
        """Undo the first renames of a commit as carefully as they were made. before: {path: its snapshot}."""
        token = os.urandom(4).hex()
        changes = [dict(snapshot, path=path) for path, snapshot in before.items()]
        undo = [_entry(change, token) for change in changes]
        _stage_all(changes, undo, token)
        self._journal.save({"state": "commit", "entries": undo, "discard": entries})
        _finish(undo, [])
        _discard(entries)
        self._journal.clear()

    @classmethod
    def recover(cls, name, state_dir=files.STATE_DIR):
        """Finish or undo what killed runs left: gives "nothing", "undone" or "finished". Raises PkiError.

        Also what another job left: finished after this one, it would put its old bytes over what this one writes.
        """
        return cls._summed(cls._recover_one(each, state_dir) for each in [name] + _interrupted(name, state_dir))

    @classmethod
    def recover_all(cls, state_dir=files.STATE_DIR):
        """Finish or undo what any job left, so that whoever looks at the node next sees no half of it. Gives as recover()."""
        return cls._summed([cls._recover_one(each, state_dir) for each in _interrupted(None, state_dir)])

    @staticmethod
    def _summed(found):
        found = set(found)
        return next((how for how in ("finished", "undone") if how in found), "nothing")

    @classmethod
    def _recover_one(cls, name, state_dir):
        journal = files.Journal(name, state_dir)
        journal.sweep()
        record = journal.load()
        if record is None:
            return "nothing"
        entries = record.get("entries")
        if not isinstance(entries, list) or not all(map(_sound, entries)):
            raise PkiError("the journal is damaged", path=journal.path,
                           fix="Compare the files it concerns with the newest backup set, then remove it.")
        if record.get("state") == "commit":
            _finish(entries, [])
            _discard(record.get("discard", []))
            journal.clear()
            return "finished"
        _discard(entries)
        journal.clear()
        return "undone"


def _sound(entry):
    """Tell whether an entry of a transaction's journal can be finished or undone."""
    return (isinstance(entry, dict) and isinstance(entry.get("path"), str)
            and (bool(entry.get("remove")) or isinstance(entry.get("staged"), str)))


def _interrupted(name, state_dir):
    """Give the jobs, but for the one named, whose journal holds a transaction; a damaged one is for its own job to refuse."""
    found = []
    with contextlib.suppress(OSError):
        for file_name in sorted(os.listdir(os.path.join(state_dir, "journal"))):
            job, ending = os.path.splitext(file_name)
            if ending == ".json" and not job.startswith(".") and job != name:
                with contextlib.suppress(PkiError):
                    record = files.Journal(job, state_dir).load() or {}
                    if record.get("state") in ("staging", "commit") and isinstance(record.get("entries"), list) \
                            and all(map(_sound, record["entries"])):
                        found.append(job)
    return found


def _entry(change, token):
    directory, name = os.path.split(change["path"])
    entry = {"path": change["path"]}
    if "remove" in change:
        return dict(entry, remove=True)
    entry["staged"] = os.path.join(directory, files.TEMPORARY % (name, token))
    if "target" in change:
        return dict(entry, target=change["target"])
    return entry


def _snapshot(path):
    """Give the change that would put a path back as it is now, without its path."""
    try:
        status = os.lstat(path)
    except OSError:
        return {"remove": True}
    if stat.S_ISLNK(status.st_mode):
        return {"target": os.readlink(path)}
    if stat.S_ISREG(status.st_mode):
        return {"data": files.read(path, limited=False), "mode": stat.S_IMODE(status.st_mode),
                "owner": (status.st_uid, status.st_gid)}
    raise PkiError("is a directory or a special file where a file is expected", path=path, fix="Move it away.")


def _stage_all(changes, entries, token):
    for change, entry in zip(changes, entries):
        if "target" in change:
            try:
                files.symlink(change["target"], entry["staged"])
            except OSError as error:
                raise files.explain(error, change["path"]) from error
        elif "data" in change:
            files.stage(change["path"], change["data"], change["mode"], change["owner"], suffix=token)


def _discard(entries):
    for entry in entries:
        # A read-only file system refuses to remove even what is not there.
        if "staged" in entry and os.path.lexists(entry["staged"]):
            try:
                files.unlink(entry["staged"])
            except OSError as error:
                raise files.explain(error, entry["staged"]) from error


def _finish(entries, done):
    """Make the renames and removals; done takes the paths of those that were made, in order."""
    for entry in entries:
        try:
            if entry.get("remove"):
                files.unlink(entry["path"])
            else:
                files.rename(entry["staged"], entry["path"])
        except FileNotFoundError:
            # Done before the crash; anything else in its place is somebody's later change, which stays.
            pass
        except OSError as error:
            raise files.explain(error, entry["path"]) from error
        done.append(entry["path"])
    for directory in sorted({os.path.dirname(entry["path"]) for entry in entries}):
        files.sync_directory(directory)
