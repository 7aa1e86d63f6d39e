# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests that are out of their directory: the journal that knows them, and the way back.

A manifest leaves by a rename to a hidden name in its own directory, which the kubelet ignores, and comes back by a rename. What
comes back is staged durably before that, so that a full disk never keeps a manifest out. A copy lies in the state directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import Any

from ..errors import PkiError, combine_errors
from ..fileio import atomic, journals, reading
from ..kubeadm import manifest_edits

JOURNAL = "static-pods"

PARKED = "parked"

# What the journal has of each manifest.
_RECORDED = {"name": str, "path": str, "parked": str, "token": str, "sha256": str, "mode": int, "uid": int, "gid": int}


def hidden(path: str, token: str) -> str:
    """Return the name under which a manifest that will be placed is staged, beside it."""
    return os.path.join(os.path.dirname(path), atomic.TEMPORARY % (os.path.basename(path), token))


def kept(path: str, token: str) -> str:
    """Return the name that a manifest has while it is out, beside its place."""
    return hidden(path, token + "-out")


def stage(path: str, data: bytes, mode: int, owner: tuple[int, int], token: str) -> str:
    """Write a manifest durably, with its name, under hidden(). Return that name. Raises PkiError."""
    with contextlib.suppress(OSError):
        os.unlink(hidden(path, token))  # of a run that ended between the two steps
    staged = atomic.stage(path, data, mode, owner, suffix=token)
    atomic.sync_directory(os.path.dirname(path))
    return staged


def take_out(path: str, token: str) -> None:
    """Rename a manifest to kept(), durably. Raises PkiError."""
    try:
        os.rename(path, kept(path, token))
    except OSError as error:
        raise reading.explain(error, path) from error
    atomic.sync_directory(os.path.dirname(path))


def place(source: str, path: str) -> None:
    """Rename a staged manifest, or one that is out, into its place, durably. Raises PkiError."""
    try:
        os.rename(source, path)
    except OSError as error:
        raise reading.explain(error, path) from error
    atomic.sync_directory(os.path.dirname(path))


def restore_manifest(path: str, data: bytes, mode: int, owner: tuple[int, int], token: str) -> None:
    """Write a manifest into its place atomically: staged, then renamed. Raises PkiError; what is in its place then stays."""
    staged = stage(path, data, mode, owner, token)
    try:
        place(staged, path)
    except PkiError:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        raise


def bring_back(path: str, token: str, copy: str, cause: PkiError) -> None:
    """Rename a manifest that is out back into its place, as it was: the last way, which needs no space on the disk.

    copy: path of the copy in the state directory. cause: why nothing better could be done. Raises PkiError.
    """
    try:
        place(kept(path, token), path)
    except PkiError as error:
        if not os.path.lexists(path):
            raise PkiError(
                "is out of the manifest directory and could not be put back (%s: %s)" % (cause.path, cause.message),
                path=path,
                fix="Correct the cause, then run again: the next run puts it back first. Its copy is %s." % copy,
            ) from error


def clear_away(path: str, token: str) -> None:
    """Remove every hidden file of one run beside a manifest that is in its place. Raises PkiError."""
    directory, prefix = os.path.split(hidden(path, token))
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise reading.explain(error, directory) from error
    for name in names:
        if name.startswith(prefix):
            atomic.remove(os.path.join(directory, name))


def recover(state_dir: str = atomic.STATE_DIR) -> list[dict]:
    """Put back every manifest that a killed run left out. Return [{"name", "path", "action": "restored" or "kept"}].

    A manifest that is in its place already, as it was or as it was written since, stays as it is. Raises PkiError after all were
    tried: then the journal keeps those that could not be put back.
    """
    journal = journals.Journal(JOURNAL, state_dir)
    journal.sweep()
    record = journal.load()
    if record is None:
        _remove_copies(state_dir)
        return []
    pods = record.get("pods")
    results, bad, errors = [], [], []
    for entry in pods if isinstance(pods, list) else [pods]:
        try:
            results.append(_recover_one(entry, journal, state_dir))
        except PkiError as error:
            bad.append(entry)
            errors.append(error)
    if errors:
        restored = [item["path"] for item in results if item["action"] == "restored"]
        with contextlib.suppress(PkiError):  # on a full disk the journal stays as it is, and what is in its place is kept
            journal.save({"pods": bad})
        trouble = combine_errors(errors)
        if restored:
            trouble = PkiError("%s (put back: %s)" % (trouble.message, ", ".join(restored)), path=trouble.path, fix=trouble.fix)
        raise trouble
    journal.clear()
    _remove_copies(state_dir)
    return results


def _remove_copies(state_dir: str) -> None:
    # Only after the journal is gone: no journal needs the copies any more.
    shutil.rmtree(os.path.join(state_dir, PARKED), ignore_errors=True)


def _sound(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in _RECORDED.items())


def _recover_one(entry: Any, journal: journals.Journal, state_dir: str) -> dict[str, str]:
    """Put one manifest back where it is out. Return the result of recover() for it. Raises PkiError."""
    if not _sound(entry):
        raise PkiError(
            "the journal of static pods is damaged",
            path=journal.path,
            fix="Compare %s with the manifest directory, put back what is missing, then remove the journal."
            % os.path.join(state_dir, PARKED),
        )
    path, token, action = entry["path"], entry["token"], "kept"
    if not os.path.lexists(path):
        _bring_back(entry, journal)
        action = "restored"
    clear_away(path, token)
    return {"name": entry["name"], "path": path, "action": action}


def _bring_back(entry: dict[str, Any], journal: journals.Journal) -> None:
    """Put a manifest that is out into its place, with another annotation where the disk has space for it. Raises PkiError."""
    path, token = entry["path"], entry["token"]
    data = None
    with contextlib.suppress(PkiError):  # the copy may still be readable
        data = reading.read_if_exists(kept(path, token))
    if data is None or atomic.sha256(data) != entry["sha256"]:
        data = reading.read(entry["parked"])
    if atomic.sha256(data) != entry["sha256"]:
        raise PkiError(
            "the parked manifest does not match its checksum",
            path=entry["parked"],
            fix="Put %s back from a backup set, then remove %s." % (path, journal.path),
        )
    try:
        restore_manifest(
            path, manifest_edits.annotated_or_same(data, path)[0], entry["mode"], (entry["uid"], entry["gid"]), token
        )
    except PkiError as error:
        # Where it is there, it was renamed, and only the directory is not yet known to be durable.
        if not os.path.lexists(path):
            bring_back(path, token, entry["parked"], error)


def pending(state_dir: str = atomic.STATE_DIR) -> list[str]:
    """Return the paths of manifests that a killed run left out and recover() would put back. Raises PkiError."""
    pods = (journals.Journal(JOURNAL, state_dir).load() or {}).get("pods", [])
    return (
        [
            entry["path"]
            for entry in pods
            if isinstance(entry, dict) and isinstance(entry.get("path"), str) and not os.path.lexists(entry["path"])
        ]
        if isinstance(pods, list)
        else []
    )
