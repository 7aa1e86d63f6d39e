# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes in the text of a static pod's manifest: every byte stays but what has to change."""

from __future__ import annotations

import datetime
from typing import Dict, Optional, Tuple

from ..errors import PkiError
from ..fileio import yaml_edit, yaml_load
from . import manifests

ANNOTATION = "kubepki.io/restartedAt"


def annotated(data: bytes, path: str, moment: Optional[str] = None) -> bytes:
    """Return a manifest's bytes with one annotation changed, so that the pod's UID changes; every other byte stays.

    data: bytes. moment: str for the annotation, or None for now. Raises PkiError where the text cannot be edited safely.
    """
    document = yaml_edit.YamlText(data, path)
    if document.text.encode("utf-8") != data:
        raise PkiError("is not plain UTF-8", path=path)
    moment = moment or datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    before = yaml_load.load(data, path)
    document.set(("metadata", "annotations", ANNOTATION), moment)
    after = yaml_load.load(document.text, path)
    if document.get(("metadata", "annotations", ANNOTATION)) != moment:
        raise PkiError("cannot be annotated", path=path)
    # Nothing but the annotation may differ: this file is the control plane.
    for tree in (before, after):
        metadata = tree.get("metadata") or {}
        notes = metadata.get("annotations")
        if isinstance(notes, dict):
            notes.pop(ANNOTATION, None)
        if not notes:
            metadata.pop("annotations", None)
        if not metadata:
            tree.pop("metadata", None)
    if before != after:
        raise PkiError("cannot be annotated without changing more", path=path)
    return bytes(document)


def with_flags(data: bytes, path: str, component: str, flags: Dict[str, Optional[str]]) -> bytes:
    """Return a manifest's bytes with flags of the component's command changed; every other byte stays.

    flags: {"--flag": value, or None to take it away}. A flag that is not there is put behind the last word of the command.
    Raises PkiError where the text cannot be edited safely, or where the component would not see the change.
    """
    if not flags:
        return data
    edited = _edited(data, path, component, flags)
    wanted = dict(manifests.parse_manifest(data, path).flags, **flags)
    if manifests.parse_manifest(edited, path).flags != {flag: value for flag, value in wanted.items() if value is not None}:
        raise PkiError(
            "%s cannot be changed here: its command is the text of a shell's -c, or its flags are not told from words "
            "of their own" % " and ".join(sorted(flags)),
            path=path,
            fix="Let %s be the command itself, with one word for each flag, then run again." % component,
        )
    return edited


def _edited(data: bytes, path: str, component: str, flags: Dict[str, Optional[str]]) -> bytes:
    document = yaml_edit.YamlText(data, path)
    containers = document.get(("spec", "containers"))
    if not isinstance(containers, list) or not containers or not all(isinstance(item, dict) for item in containers):
        raise PkiError("has no containers", path=path, fix="Restore it from a backup, or let kubeadm write it again.")
    index = next((number for number, item in enumerate(containers) if item.get("name") == component), 0)
    for flag, value in flags.items():
        places = [
            ("spec", "containers", index, key, number)
            for key in ("command", "args")
            for number, word in enumerate(document.get(("spec", "containers", index, key)) or [])
            if str(word).split("=", 1)[0] == flag
        ]
        if any("=" not in document.get(place) for place in places):
            raise PkiError("%s and its value are two words" % flag, path=path, fix="Write it as %s=VALUE, then run again." % flag)
        for place in reversed(places):
            if value is None:
                document.remove(place)
            else:
                document.set(place, "%s=%s" % (flag, value))
        if value is not None and not places:
            key = "command" if document.get(("spec", "containers", index, "command")) else "args"
            words = document.get(("spec", "containers", index, key)) or []
            document.insert(("spec", "containers", index, key, len(words)), "%s=%s" % (flag, value))
    return bytes(document)


def annotated_or_same(data: bytes, path: str) -> Tuple[bytes, bool]:
    """Return (bytes, True) as annotated() does, or (the same bytes, False) where the text cannot be edited safely."""
    try:
        return annotated(data, path), True
    except (PkiError, KeyError, TypeError, AttributeError):
        return data, False
