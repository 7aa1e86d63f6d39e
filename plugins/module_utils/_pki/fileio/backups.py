# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets as a person uses them: what belongs in one, which one is meant, and putting one back."""

from __future__ import annotations

import datetime
import json
import os
import stat

from ..errors import PkiError, printable
from . import atomic, backup_set, guarded_paths, reading, transactions

# What a set's manifest holds of each kind of entry, beside its path.
_FILED = {"mode": int, "uid": int, "gid": int}

_RECORDED = {"file": dict(_FILED, sha256=str), "symlink": dict(_FILED, target=str), "absent": {}}

# A set of what a restore replaced; "latest" never means one, or two restores in a row would undo each other.
BEFORE_RESTORE = "before-restore"

# Within this many seconds one job has gone over all control-plane nodes; two runs that far apart are two jobs.
_ONE_JOB = 3600


def default_paths(kubernetes_dir="/etc/kubernetes", kubelet_dir="/var/lib/kubelet", elsewhere=()):
    """Give every file and link that makes the node what it is: certificates, keys, kubeconfigs, manifests, the kubelet's.

    elsewhere: directories of certificates and manifests that the node has in other places.
    """
    found = []
    for directory in {
        os.path.join(kubernetes_dir, "pki"),
        os.path.join(kubernetes_dir, "manifests"),
        os.path.join(kubelet_dir, "pki"),
        *elsewhere,
    }:
        found.extend(below(directory))
    if os.path.isdir(kubernetes_dir):
        found.extend(os.path.join(kubernetes_dir, name) for name in os.listdir(kubernetes_dir) if name.endswith(".conf"))
    for name in ("config.yaml", "kubeadm-flags.env"):
        if os.path.lexists(os.path.join(kubelet_dir, name)):
            found.append(os.path.join(kubelet_dir, name))
    return sorted(set(found))


def below(directory):
    """Give the files and links below a directory, not through links to other directories.

    Temporary files are left out, and what has no content to keep: pipes, sockets, devices.
    """
    found = []
    for home, directories, names in os.walk(directory):
        links = [name for name in directories if os.path.islink(os.path.join(home, name))]
        found.extend(os.path.join(home, name) for name in names + links if ".kubepki-" not in name)
    return [path for path in found if os.path.islink(path) or os.path.isfile(path)]


def expand(paths):
    """Give files for a list of files and directories. Raises PkiError for one that does not exist or is not absolute."""
    found = []
    for path in paths:
        if not os.path.isabs(path):
            raise PkiError("is not an absolute path", path=path, fix="Write it from the root.")
        if not os.path.lexists(path):
            raise PkiError("does not exist", path=path, fix="Correct the path, or leave it out.")
        found.extend(below(path) if os.path.isdir(path) and not os.path.islink(path) else [path])
    return sorted(set(found))


def same(directory, paths):
    """Tell whether a set holds exactly these paths as they are now."""
    plan = plan_restore(directory)
    return sorted(entry["path"] for entry, _differs in plan) == sorted(paths) and not any(differs for _entry, differs in plan)


def create(paths, job="backup", backup_dir=atomic.BACKUP_DIR, keep=5, check=False):
    """Make a set, unless the newest one holds the same. Gives (directory or None in a check, changed, number of entries)."""
    if not paths:
        raise PkiError(
            "there is nothing to back up", path=backup_dir, fix="Name the paths, or the directory that holds the cluster's files."
        )
    sets = backup_set.list_backups(backup_dir)
    if sets:
        try:
            if same(sets[-1], paths):
                return sets[-1], False, len(paths)
        except PkiError:
            pass  # a damaged set is no reason not to make a good one
    return (None if check else backup_set.create_backup(paths, job, backup_dir, keep)), True, len(paths)


def listing(backup_dir=atomic.BACKUP_DIR):
    """Give [{"name", "path", "job", "created_at", "entries", "usable", "problem"}], the newest first."""
    found = []
    for directory in reversed(backup_set.list_backups(backup_dir)):
        row = {
            "name": os.path.basename(directory),
            "path": directory,
            "job": None,
            "created_at": None,
            "entries": 0,
            "usable": True,
            "problem": None,
        }
        try:
            document = read_backup(directory)
            row.update(job=document.get("job"), created_at=document.get("created_at"), entries=len(document["entries"]))
        except PkiError as error:
            row.update(usable=False, problem=str(error))
        found.append(row)
    return found


def find(name, backup_dir=atomic.BACKUP_DIR):
    """Give the directory of a set: by its name, by its path, or "latest". Raises PkiError that lists what there is."""
    sets = backup_set.list_backups(backup_dir)
    if name == "latest":
        candidates = [each for each in sets if not each.endswith("-" + BEFORE_RESTORE)]
        if candidates:
            return candidates[-1]
        raise PkiError(
            "there is no backup set", path=backup_dir, fix="Name the directory that holds them, or leave this node out (--limit)."
        )
    for directory in sets:
        if name in (directory, os.path.basename(directory)):
            return directory
    raise PkiError(
        "there is no backup set %s" % name,
        path=backup_dir,
        fix="There are: %s." % (", ".join(os.path.basename(each) for each in sets) or "none"),
    )


def mixed(sets):
    """Say what is wrong with putting these sets back together, or give None.

    sets: {host: a set's name or directory}. What different jobs left on different nodes is a state that the cluster never had.
    A set does not know its run, so that sets are of one job when the name says the same job, and its time the same hour.
    """
    if not sets:
        return None
    made = {host: _made(os.path.basename(sets[host])) for host in sets}
    newest = max(made.values())
    of_it = sorted(
        host for host, (stamp, job) in made.items() if job == newest[1] and (newest[0] - stamp).total_seconds() <= _ONE_JOB
    )
    if len(of_it) == len(sets):
        return None
    listed = "; ".join("%s: %s" % (host, os.path.basename(sets[host])) for host in sorted(sets))
    return (
        "The newest backup sets of the nodes are not of one job: %s. Together they would be a state that the cluster never "
        "had. To take the newest job back, add --limit %s to the command; for another state, restore each node by itself, "
        "with --limit and kubepki_backup_set." % (listed, ",".join(of_it))
    )


def _made(name):
    stamp, _dash, job = name.partition("-")
    return datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%S.%fZ"), job


def restore(directory, paths=None, backup_dir=atomic.BACKUP_DIR, state_dir=atomic.STATE_DIR, check=False):
    """Put a set back, or only what lies at or below paths, after a set was made of what that replaces.

    Gives (changed paths, directory of the new set or None, all paths that were looked at). Raises PkiError with nothing changed:
    the set is damaged, or holds none of the paths.
    """
    plan = plan_restore(directory)
    if paths:
        plan = [(entry, differs) for entry, differs in plan if any(_at_or_below(entry["path"], path) for path in paths)]
        if not plan:
            raise PkiError(
                "the set holds none of: %s" % ", ".join(paths), path=directory, fix="Choose another set or other paths."
            )
    changing = [entry["path"] for entry, differs in plan if differs]
    for path in changing:
        _target(path)  # what cannot be written is known in a check, too
    considered = [entry["path"] for entry, _differs in plan]
    if check or not changing:
        return changing, None, considered
    # keep=0: the set that is being restored may be the oldest one.
    before = backup_set.create_backup(changing, BEFORE_RESTORE, backup_dir, keep=0)
    return restore_backup(directory, set(changing), state_dir), before, considered


def _target(path):
    """Return where an entry of a set is on this node: links to its directory are followed, and the entry may be a link itself."""
    return os.path.join(guarded_paths.real_directory(os.path.dirname(path)), os.path.basename(path))


def _at_or_below(path, parent):
    return path == parent.rstrip("/") or path.startswith(parent.rstrip("/") + "/")


def read_backup(directory):
    """Give a set's manifest after checking every file in it against its checksum. Raises PkiError if one differs.

    Also for a set that another user can change, that another host made, or that records a mode beyond 0777. A set of an earlier
    version records no host.
    """
    path = os.path.join(directory, "manifest.json")
    _require_own(directory)
    try:
        document = json.loads(reading.read(path, limited=False).decode("utf-8"))
        entries = document["entries"]
        kinds = {entry["type"] for entry in entries}
        if kinds <= set(_RECORDED) and not all(map(_complete, entries)):
            raise ValueError("incomplete")
    except (ValueError, KeyError, TypeError) as error:
        raise PkiError("the manifest of this backup set is damaged", path=path, fix="Choose another set.") from error
    if not kinds <= set(_RECORDED):
        raise PkiError("the manifest of this backup set is of a newer kind", path=path, fix="Use a newer kubepki.")
    _require_this_host(document, path)
    for entry in entries:
        _require_plain(entry, path)
        if entry["type"] == "file":
            copy = copy_of(directory, entry)
            data = reading.read_if_exists(copy, limited=False)
            if data is None:
                raise PkiError("the copy is gone from the backup set", path=copy, fix="Choose another set: this one is damaged.")
            if atomic.sha256(data) != entry["sha256"]:
                raise PkiError(
                    "the copy in the backup set does not match its checksum",
                    path=copy,
                    fix="Choose another set: this one is damaged.",
                )
    return document


def records_host(directory):
    """Return whether a set records the host that it was made on, as those of earlier versions do not. Raises PkiError."""
    return read_backup(directory).get("host") is not None


def copy_of(directory, entry):
    """Return the path of the copy that a set holds of a file. It is below the path that the set recorded."""
    return os.path.join(directory, "files", entry["path"].lstrip("/"))


def _require_own(directory):
    """Raise PkiError where a user other than root (or the one of this process) can change anything in a set."""
    fix = "Choose another set. What is in this one can come from another user."
    guarded_paths.require_trusted(directory, fix=fix)
    for home, directories, names in os.walk(directory):
        for name in directories + names:
            path = os.path.join(home, name)
            if os.path.islink(path):
                raise PkiError("is a symbolic link, and a backup set holds none", path=path, fix=fix)
            guarded_paths.require_own(path, fix=fix)


def _require_this_host(document, path):
    host = document.get("host")
    if host is not None and host != atomic.host_name():
        raise PkiError(
            "this backup set was made on the host %s, and this is %s" % (printable(host), atomic.host_name()),
            path=path,
            fix="Choose a set of this host. Where the host has a new name since, correct `host` in this file.",
        )


def _require_plain(entry, path):
    if entry["type"] == "file" and not (0 <= entry["mode"] <= 0o777 and entry["uid"] >= 0 and entry["gid"] >= 0):
        raise PkiError(
            "records the mode %04o and the owner %d:%d for %s, which no file of a node has"
            % (entry["mode"], entry["uid"], entry["gid"], printable(entry["path"])),
            path=path,
            fix="Choose another set: this one is damaged.",
        )


def _complete(entry):
    return (
        os.path.isabs(entry["path"])
        and os.path.normpath(entry["path"]) == entry["path"]
        and all(entry[key].__class__ is kind for key, kind in _RECORDED[entry["type"]].items())
    )


def plan_restore(directory, paths=None):
    """Compare a backup set with the node: gives [(entry, differs)] for every entry (or those in paths).

    An entry differs when content, type, link target, mode or owner is not what the set recorded.
    """
    plan = []
    for entry in read_backup(directory)["entries"]:
        if paths is None or entry["path"] in paths:
            plan.append((entry, _differs(entry)))
    return plan


def _differs(entry):
    path = entry["path"]
    try:
        status = os.lstat(path)
    except OSError:
        return entry["type"] != "absent"
    if entry["type"] == "absent":
        return True
    if entry["type"] == "symlink":
        return not stat.S_ISLNK(status.st_mode) or os.readlink(path) != entry["target"]
    if not stat.S_ISREG(status.st_mode):
        return True
    data, status = guarded_paths.read_regular(path)
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != (
        entry["mode"],
        entry["uid"],
        entry["gid"],
    ) or atomic.sha256(data) != entry["sha256"]


def restore_backup(directory, paths=None, state_dir=atomic.STATE_DIR):
    """Put back what a backup set holds (all, or the given paths) and give the paths that changed.

    Files and links that are as recorded stay untouched; what was absent is removed. All files change
    in one Transaction named "restore"; Transaction.recover("restore") finishes one that was killed.
    """
    changes = [entry for entry, differs in plan_restore(directory, paths) if differs]
    transaction = transactions.Transaction("restore", state_dir)
    for entry in changes:
        # A set can hold a file under both names, where its directory is reached through a link (pki -> elsewhere).
        target = _target(entry["path"])
        if target in transaction.paths():
            continue
        if entry["type"] == "absent":
            transaction.remove(target)
            continue
        atomic.make_directory(os.path.dirname(target), 0o755)
        if entry["type"] == "file":
            data = reading.read(copy_of(directory, entry), limited=False)
            transaction.write(target, data, entry["mode"], (entry["uid"], entry["gid"]), follow=False)
        else:
            transaction.symlink(target, entry["target"])
    transaction.commit()
    return [entry["path"] for entry in changes]
