# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests that are out of their directory: the journal that knows them, and the way back.
"""

from __future__ import annotations

__metaclass__ = type

import contextlib
import os
import shutil

from . import files, manifest_edits
from .errors import PkiError

JOURNAL = "static-pods"
PARKED = "parked"


def put_back(path, data, mode, owner, token):
    """Place a manifest atomically: written under a hidden name, which the kubelet ignores, then renamed. Raises PkiError."""
    with contextlib.suppress(OSError):
        os.unlink(hidden(path, token))  # of a run that ended between the two steps
    staged = files.stage(path, data, mode, owner, suffix=token)
    try:
        os.rename(staged, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        raise files.explain(error, path) from error
    files.sync_directory(os.path.dirname(path))


def hidden(path, token):
    """Give the name under which files.stage() writes a manifest before it is placed."""
    return os.path.join(os.path.dirname(path), ".%s.kubepki-%s" % (os.path.basename(path), token))


def recover(state_dir=files.STATE_DIR):
    """Put back every manifest that a killed run left out. Gives [{"name", "path", "action": "restored" or "kept"}].

    A manifest that is in its place already, as it was or as somebody wrote it since, stays as it is. Raises PkiError.
    """
    journal = files.Journal(JOURNAL, state_dir)
    record = journal.load()
    results = []
    for entry in (record or {}).get("pods", []):
        try:
            path, parked, token = entry["path"], entry["parked"], entry["token"]
            mode, owner, digest, name = entry["mode"], (entry["uid"], entry["gid"]), entry["sha256"], entry["name"]
        except (KeyError, TypeError):
            raise PkiError("the journal of static pods is damaged", path=journal.path,
                           fix="Compare %s with the manifest directory, put back what is missing, then remove the journal." %
                           os.path.join(state_dir, PARKED)) from None
        with contextlib.suppress(OSError):
            os.unlink(hidden(path, token))
        action = "kept"
        if not os.path.lexists(path):
            data = files.read(parked)
            if files.sha256(data) != digest:
                raise PkiError("the parked manifest does not match its checksum", path=parked,
                               fix="Put %s back from a backup set, then remove %s." % (path, journal.path))
            put_back(path, manifest_edits.annotated_or_same(data, path)[0], mode, owner, token)
            action = "restored"
        results.append({"name": name, "path": path, "action": action})
    if record is not None:
        journal.clear()
    # Only after the journal is gone: a parked copy without a journal is nobody's.
    shutil.rmtree(os.path.join(state_dir, PARKED), ignore_errors=True)
    return results


def pending(state_dir=files.STATE_DIR):
    """Give the paths of manifests that a killed run left out and recover() would put back. Raises PkiError."""
    record = files.Journal(JOURNAL, state_dir).load() or {}
    return [entry["path"] for entry in record.get("pods", []) if isinstance(entry, dict) and "path" in entry
            and not os.path.lexists(entry["path"])]
