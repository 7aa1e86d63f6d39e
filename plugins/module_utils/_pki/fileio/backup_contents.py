# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a backup set, and check it: complete, unchanged, of this host, writable by no other user."""

from __future__ import annotations

import json
import os
from typing import Any, Mapping

from ..errors import PkiError, printable
from . import atomic, path_trust, reading

_STATUS: dict[str, type] = {"mode": int, "uid": int, "gid": int}

# The fields of each kind of entry in a set's manifest, beside "path".
_FIELDS: dict[str, dict[str, type]] = {"file": dict(_STATUS, sha256=str), "symlink": dict(_STATUS, target=str), "absent": {}}


def read_backup(directory: str) -> dict[str, Any]:
    """Return a set's manifest. Raise PkiError where a file differs from its checksum.

    Also for a set that another user can change, that another host made, or with a mode beyond 0777. A set of an earlier version
    records no host.
    """
    path = os.path.join(directory, "manifest.json")
    _require_own(directory)
    try:
        document: dict[str, Any] = json.loads(reading.read(path, limited=False).decode("utf-8"))
        entries = document["entries"]
        kinds = {entry["type"] for entry in entries}
        if kinds <= set(_FIELDS) and not all(map(_is_complete, entries)):
            raise ValueError("incomplete")
    except (ValueError, KeyError, TypeError) as error:
        raise PkiError("the manifest of this backup set is damaged", path=path, fix="Choose another set.") from error
    if not kinds <= set(_FIELDS):
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


def records_host(directory: str) -> bool:
    """Return whether a set records its host. Sets of earlier versions do not. Raise PkiError."""
    return read_backup(directory).get("host") is not None


def copy_of(directory: str, entry: Mapping[str, Any]) -> str:
    """Return the path of a file's copy in a set."""
    return os.path.join(directory, "files", entry["path"].lstrip("/"))


def _require_own(directory: str) -> None:
    """Raise PkiError where a user other than root or the one of this process can change anything in a set."""
    fix = "Choose another set. What is in this one can come from another user."
    path_trust.require_trusted(directory, fix=fix)
    for home, directories, names in os.walk(directory):
        for name in directories + names:
            path = os.path.join(home, name)
            if os.path.islink(path):
                raise PkiError("is a symbolic link, and a backup set holds none", path=path, fix=fix)
            path_trust.require_own(path, fix=fix)


def _require_this_host(document: Mapping[str, Any], path: str) -> None:
    host = document.get("host")
    if host is not None and host != atomic.host_name():
        raise PkiError(
            "this backup set was made on the host %s, and this is %s" % (printable(host), atomic.host_name()),
            path=path,
            fix="Choose a set of this host. Where the host has a new name since, correct `host` in this file.",
        )


def _require_plain(entry: Mapping[str, Any], path: str) -> None:
    if entry["type"] == "file" and not (0 <= entry["mode"] <= 0o777 and entry["uid"] >= 0 and entry["gid"] >= 0):
        raise PkiError(
            "records the mode %04o and the owner %d:%d for %s, which no file of a node has"
            % (entry["mode"], entry["uid"], entry["gid"], printable(entry["path"])),
            path=path,
            fix="Choose another set: this one is damaged.",
        )


def _is_complete(entry: Mapping[str, Any]) -> bool:
    return (
        os.path.isabs(entry["path"])
        and os.path.normpath(entry["path"]) == entry["path"]
        and all(entry[key].__class__ is kind for key, kind in _FIELDS[entry["type"]].items())
    )
