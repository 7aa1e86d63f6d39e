# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several files that change together, whatever interrupts it."""

from __future__ import annotations

import contextlib
import os
import stat

from ..errors import PkiError, combine_errors
from . import atomic, guarded_paths, journals, reading

# How far one entry of a committed transaction has come: made; not made yet; not made, and its staged file is gone; or its path
# was written by another program since.
_DONE, _OPEN, _LOST, _CHANGED = "done", "open", "lost", "changed"

_BELONG = (
    "Check that certificates and keys belong together (playbook check_expiry), restore a backup set where they do not, "
    "then run again."
)


class Transaction:
    """Several files that change together: after a crash, recover() makes all of them new or leaves all old.

    The new contents are first written beside their targets; when all are durable the journal is told to
    commit, and the renames follow within microseconds of one another. A certificate and its key are thus
    never both old-and-new for longer than two renames, and a crash between the two is healed by recover().
    The journal has the digests of the old and the new content of every path, so that recover() finishes only
    what is still as the transaction left it: what was written since is never overwritten.
    """

    def __init__(self, name, state_dir=atomic.STATE_DIR):
        self._journal = journals.Journal(name, state_dir)
        self._changes = []

    def write(self, path, data, mode=None, owner=None, follow=True):
        """Plan new bytes for path; mode and owner as in files.stage(). follow: a link stays, and what it names changes."""
        self._changes.append(
            {"path": guarded_paths.resolve(path) if follow else path, "data": data, "mode": mode, "owner": owner}
        )

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
        entries = [_entry(change, snapshot, token) for change, snapshot in zip(self._changes, before)]
        self._journal.save({"state": "staging", "entries": entries})
        try:
            _stage_all(self._changes, entries, token)
            _refuse_changed(entries)
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
        except PkiError as error:
            # An immutable file, a file that is a mount point: only the rename itself shows it.
            self._put_back(entries, self._changes[: len(done)], before, error)
            raise
        self._journal.clear()
        self._changes = []

    def _put_back(self, entries, made, before, cause):
        """Undo the first renames of a commit as carefully as they were made.

        made: the changes that were made. before: the snapshots of all. cause: the PkiError that stopped the commit. Raises
        PkiError when they cannot be undone now.
        """
        token = os.urandom(4).hex()
        changes = [dict(snapshot, path=change["path"]) for change, snapshot in zip(made, before)]
        undo = [_entry(change, done, token) for change, done in zip(changes, made)]
        try:
            # Until all is staged, the next run goes on with the transaction itself, and only clears away what is staged here.
            self._journal.save({"state": "commit", "entries": entries, "discard": undo})
            _stage_all(changes, undo, token)
            self._journal.save({"state": "commit", "entries": undo, "discard": entries})
            _finish(undo, [])
            _discard(entries)
            self._journal.clear()
        except PkiError as error:
            raise PkiError(
                "%s, and %s could not be put back yet (%s: %s)"
                % (cause.message, ", ".join(change["path"] for change in made) or "the journal", error.path, error.message),
                path=cause.path,
                fix="Correct the cause, then run again: the next run makes all of these files new or all old.",
            ) from error

    @classmethod
    def recover(cls, name: str, state_dir: str = atomic.STATE_DIR) -> str:
        """Finish or undo what killed runs left: gives "nothing", "undone" or "finished".

        Also what another job left: finished after this one, it would put its old bytes over what this one writes. Raises PkiError
        after all of them were looked at: a journal is damaged, a disk fails, or a file was changed since, so that what was staged
        was discarded.
        """
        return cls._recover_each([name] + _interrupted(name, state_dir), state_dir)

    @classmethod
    def recover_all(cls, state_dir: str = atomic.STATE_DIR) -> str:
        """Finish or undo what any job left, so that nothing on the node is seen half written. Gives and raises as recover()."""
        return cls._recover_each(_interrupted(None, state_dir), state_dir)

    @classmethod
    def _recover_each(cls, names, state_dir):
        found, errors = set(), []
        for name in names:
            try:
                found.add(cls._recover_one(name, state_dir))
            except PkiError as error:
                errors.append(error)
        if errors:
            raise combine_errors(errors)
        return next((how for how in ("finished", "undone") if how in found), "nothing")

    @classmethod
    def _recover_one(cls, name, state_dir):
        journal = journals.Journal(name, state_dir)
        journal.sweep()
        record = journal.load()
        if record is None:
            return "nothing"
        entries = record.get("entries")
        if not _sound_record(record):
            raise PkiError(
                "the journal is damaged",
                path=journal.path,
                fix="Compare the files it concerns with the newest backup set, then remove it.",
            )
        if record.get("state") != "commit":
            _discard(entries)
            journal.clear()
            return "undone"
        if not all("old" in entry for entry in entries):
            return _recover_without_digests(journal, entries, record)
        states = [_state_of(entry) for entry in entries]
        discard = record.get("discard", [])
        if _CHANGED in states or _LOST in states:
            outcome = _left_alone(entries, states, bool(discard))
            _discard(entries + discard)
            journal.clear()
            if isinstance(outcome, PkiError):
                raise outcome
            return outcome
        _finish([entry for entry, state in zip(entries, states) if state == _OPEN], [])
        _sync_directories(entries)
        _discard(discard)
        journal.clear()
        return "finished"


def _state_of(entry):
    """Give how far an entry of a committed transaction has come: one of the constants above."""
    now = _fingerprint(_snapshot(entry["path"], strict=False))
    if now not in (entry["old"], entry["new"]):
        return _CHANGED
    if entry.get("remove"):
        return _DONE if now == entry["new"] else _OPEN
    staged = _fingerprint(_snapshot(entry["staged"], strict=False))
    if staged == entry["new"]:
        return _OPEN
    return _DONE if now == entry["new"] else _LOST


def _left_alone(entries, states, undoing):
    """Give what a recovery that must not finish a transaction has to say: "finished", "undone" or a PkiError.

    undoing: whether the transaction was being undone, so that its first state is no complete one.
    """
    done = [entry["path"] for entry, state in zip(entries, states) if state == _DONE and entry["old"] != entry["new"]]
    waiting = [entry["path"] for entry, state in zip(entries, states) if state in (_OPEN, _LOST)]
    changed = [entry["path"] for entry, state in zip(entries, states) if state == _CHANGED]
    staged = [entry for entry in entries if "staged" in entry and os.path.lexists(entry["staged"])]
    if not waiting and not staged:
        return "finished"  # every rename was made, and the files were changed only after that
    if not changed and not done and not undoing:
        return "undone"  # nothing was renamed before what was staged went away
    first = (changed or waiting)[0]
    message = "a run of kubepki was interrupted while it replaced files, and %s, so what that run had staged was discarded" % (
        ("another program changed %s since" % ", ".join(changed)) if changed else "its staged files are gone or damaged"
    )
    if done:
        message += "; the version of that run is in %s" % ", ".join(done)
    if waiting:
        message += "; the version from before it is in %s" % ", ".join(waiting)
    return PkiError(message, path=first, fix=_BELONG)


def _recover_without_digests(journal, entries, record):
    """Recover a journal of version 0.1.0, which has no digests, where nothing can be overwritten. Raises PkiError otherwise."""
    discard = record.get("discard", [])
    waiting = [entry for entry in entries if os.path.lexists(entry["path"] if entry.get("remove") else entry["staged"])]
    if not waiting:
        _discard(discard)
        journal.clear()
        return "finished"
    # Entries are made in their order, so that the first one tells whether any was.
    if not discard and not entries[0].get("remove") and waiting[0] is entries[0]:
        _discard(entries)
        journal.clear()
        return "undone"
    done = [entry["path"] for entry in entries if entry not in waiting]
    todo = [
        "remove %s" % entry["path"] if entry.get("remove") else "rename %s to %s" % (entry["staged"], entry["path"])
        for entry in waiting
    ]
    raise PkiError(
        "the journal of an older version cannot tell whether the files were changed since its run was interrupted; replaced are: "
        "%s; still to do: %s" % (", ".join(done) or "none", ", ".join(todo)),
        path=journal.path,
        fix="Where no file was changed since, do what is still to do; otherwise remove those staged files. Then remove the "
        "journal and run again; the newest backup set has the earlier versions.",
    )


def _sound_record(record):
    """Tell whether a transaction's journal can be finished or undone."""
    lists = (record.get("entries"), record.get("discard", []))
    return all(isinstance(entries, list) and all(map(_sound, entries)) for entries in lists) and (
        bool(record["entries"]) or record.get("state") != "commit"
    )


def _sound(entry):
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and (bool(entry.get("remove")) or isinstance(entry.get("staged"), str))
        and isinstance(entry.get("old", ""), str)
        and isinstance(entry.get("new", ""), str)
        and ("old" in entry) == ("new" in entry)
    )


def _interrupted(name, state_dir):
    """Give the jobs, but for the one named, whose journal holds a transaction; a damaged one is for its own job to refuse."""
    found = []
    with contextlib.suppress(OSError):
        for file_name in sorted(os.listdir(os.path.join(state_dir, "journal"))):
            job, ending = os.path.splitext(file_name)
            if ending == ".json" and not job.startswith(".") and job != name:
                with contextlib.suppress(PkiError):
                    record = journals.Journal(job, state_dir).load() or {}
                    if record.get("state") in ("staging", "commit") and _sound_record(record):
                        found.append(job)
    return found


def _entry(change, before, token):
    """Give what the journal has of a change. before: the snapshot of its path. token: of the staged files' names."""
    directory, name = os.path.split(change["path"])
    entry = {"path": change["path"], "old": _fingerprint(before), "new": _fingerprint(change)}
    if "remove" in change:
        return dict(entry, remove=True)
    entry["staged"] = os.path.join(directory, atomic.TEMPORARY % (name, token))
    if "target" in change:
        return dict(entry, target=change["target"])
    return entry


def _fingerprint(change):
    """Give what tells one content of a path from another: for a change or a snapshot, without key material."""
    if "remove" in change:
        return "absent"
    if "target" in change:
        return "link:" + change["target"]
    return "sha256:" + atomic.sha256(change["data"]) if "data" in change else "other"


def _snapshot(path, strict=True):
    """Give the change that would put a path back as it is now, without its path.

    strict: raise PkiError for a directory or a special file; otherwise give {}.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"remove": True}
    except OSError as error:
        raise reading.explain(error, path) from error
    if stat.S_ISLNK(status.st_mode):
        return {"target": os.readlink(path)}
    if stat.S_ISREG(status.st_mode):
        # Between the look above and this one the file may have been replaced: bytes, mode and owner are of one file.
        data, status = guarded_paths.read_regular(path)
        return {
            "data": data,
            "mode": stat.S_IMODE(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
        }
    if not strict:
        return {}
    raise PkiError("is a directory or a special file where a file is expected", path=path, fix="Move it away.")


def _stage_all(changes, entries, token):
    """Write the new contents beside their targets, durably: also their names, before the journal says that they are there."""
    for change, entry in zip(changes, entries):
        if "target" in change:
            try:
                atomic.symlink(change["target"], entry["staged"])
            except OSError as error:
                raise reading.explain(error, change["path"]) from error
        elif "data" in change:
            atomic.stage(change["path"], change["data"], change["mode"], change["owner"], suffix=token)
    _sync_directories([entry for entry in entries if "staged" in entry])


def _refuse_changed(entries):
    """Raise PkiError where a path is no longer what it was when the transaction began."""
    for entry in entries:
        if _fingerprint(_snapshot(entry["path"], strict=False)) != entry["old"]:
            raise PkiError(
                "another program changed it while this was running",
                path=entry["path"],
                fix="Run again when it is not written by another program.",
            )


def _sync_directories(entries):
    for directory in sorted({os.path.dirname(entry["path"]) for entry in entries}):
        if os.path.isdir(directory):  # of a file that is to be removed even its directory may be gone
            atomic.sync_directory(directory)


def _discard(entries):
    for entry in entries:
        # A read-only file system refuses to remove even what is not there.
        if "staged" in entry and os.path.lexists(entry["staged"]):
            try:
                atomic.unlink(entry["staged"])
            except OSError as error:
                raise reading.explain(error, entry["staged"]) from error


def _finish(entries, done):
    """Make the renames and removals; done takes the paths of those that were made, in order."""
    for entry in entries:
        try:
            if entry.get("remove"):
                with contextlib.suppress(FileNotFoundError):
                    atomic.unlink(entry["path"])
            else:
                atomic.rename(entry["staged"], entry["path"])
        except FileNotFoundError as error:
            raise PkiError(
                "what was to be renamed to it is gone",
                path=entry["path"],
                fix="Another program removed %s: run again." % entry["staged"],
            ) from error
        except OSError as error:
            raise reading.explain(error, entry["path"]) from error
        done.append(entry["path"])
    _sync_directories(entries)
