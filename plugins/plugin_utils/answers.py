# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the form of what a node returned, so that one node's answer cannot break the whole job.

A node may be damaged or in other hands: a missing field, an unknown word or a text of megabytes is that host's fault, and is
named as such. Shapes are plain Python values: a type, with Moment for a timestamp; None; a set of words; a tuple of alternatives;
[shape] for a list; {name: shape} for a mapping that has at least these fields; Each(shape) for a mapping with any names;
Optional(shape) for a field that may be absent.
"""

from __future__ import annotations

import datetime
import math
import re
from typing import Any, Dict

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report.finding import SEVERITIES

# More than any node has: a CA bundle of some hundred certificates is a text of a few hundred kilobytes.
LONGEST_TEXT = 1 << 20

MOST_VALUES = 200000

DEEPEST = 20

CODE = "malformed-answer"

_FIX = "Look at what runs on that host: its answer is not what this collection's module returns."


class Each:
    """A mapping with any names, whose values all have one shape."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


class Optional:
    """A field of a mapping that may be absent."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


class Empty:
    """A mapping without fields."""


class Moment:
    """A timestamp of a report: 2026-11-21T19:00:00Z."""


class Clock:
    """A clock's time in seconds since 1970, that a date can show."""


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

_TEXT = (str, None)

_TIME = (Moment, None)

_SEVERITIES = set(SEVERITIES)

_ROW = {
    "name": str,
    "kind": str,
    "path": str,
    "ca": _TEXT,
    "subject": _TEXT,
    "issuer": _TEXT,
    "serial": _TEXT,
    "sans": [str],
    "not_before": _TIME,
    "not_after": _TIME,
    "residual_seconds": (int, None),
    "status": {"ok", "warning", "critical", "expired", "missing"},
    "externally_managed": bool,
    "kubelet_self_signed": bool,
    "sha256": _TEXT,
    "served_sha256": _TEXT,
    "problem": _TEXT,
}

FINDING = {"severity": _SEVERITIES, "code": str, "name": Optional(_TEXT), "path": _TEXT, "message": str, "fix": _TEXT}

_DIGESTS = [str]

_VIEW = {
    "signer": _TEXT,
    "bundle": _DIGESTS,
    "next": _TEXT,
    "previous": _TEXT,
    "trust": Each(_DIGESTS),
    "leaves": Each(_TEXT),
    "split": (bool, None),
    "signing": (_DIGESTS, None),
    "lookup_off": Optional(bool),
    "problems": [str],
}

# What cluster_pki returns as "node".
ROTATION = {
    "node": str,
    "role": str,
    "journal": _TEXT,
    "pending": [str],
    "authorities": Each(_VIEW),
    "external_etcd": Optional(_TEXT),
    "verifies_kubelets": Optional(bool),
    "seconds": Optional(Each(float)),
    "certificates": Optional(Each({"subject": str, "not_after": Optional(_TEXT), "sha256": Optional(str)})),
    "token_signer": Optional(_TEXT),
    "pods": Optional(Each({"cas": [str], "stale": bool, "why": _TEXT})),
    "tokens": Optional(Each([str])),
}

_CA_FACTS = {"signer": str, "signer_key": str, "trusted": [str], "key": _TEXT, "path": str}

_FACTS = {
    "role": Optional(_TEXT),
    "minor": Optional((int, None)),
    "advertise_address": Optional(_TEXT),
    "control_plane_endpoint": Optional(_TEXT),
    "cas": Optional(Each(_CA_FACTS)),
    "sa": Optional(({"signer": _TEXT, "trusted": [str], "path": _TEXT}, None)),
    "clock": Optional((Clock, None)),
    "clock_offset": Optional((float, None)),
    "verifies_kubelets": Optional(bool),
    "kubelet_serving": Optional(({"path": str, "verifies": bool}, None)),
    "rotation": Optional((ROTATION, None)),
}

# What cert_expiry returns as "node".
REPORT = {"certificates": [_ROW], "endpoints": Optional([dict]), "findings": [FINDING], "facts": _FACTS}

_HELD = {"key": _TEXT, "not_after": Moment, "has_key": bool, "self_signed": bool, "issuer": str, "path": str, "certificate": str}

# What recovery_look returns as "look", and of what cert_expiry returns as "node" the part that a recovery needs.
LOOK = {
    "authorities": Each(_HELD),
    "etcd": ({"data": bool, "path": str}, None),
    "health": Each({"healthy": bool, "seen": _TEXT}),
    "kubelet": ({"action": _TEXT, "reasons": [str], "unit": _TEXT, "error": _TEXT}, None),
    "pending": ([str], None),
    "trust": bool,
    "problems": [str],
    "node": {
        "certificates": [
            {"name": str, "kind": str, "path": str, "ca": _TEXT, "not_before": _TIME, "not_after": _TIME, "status": str}
        ],
        "findings": [FINDING],
        "facts": {"node_name": str, "role": str, "clock": Clock, "clock_offset": Optional((float, None))},
    },
}

_PROOF = Optional(({"seconds": Optional(float), "served_seconds": Optional(float)}, None))

_SIGNING = {"node": str, "request": str, "previous": Optional(str), "voucher": Optional(str)}

# What kubelet_credential and kubelet_serving return; every field may be absent, as the task may have failed or been skipped.
KUBELET = {
    "unreachable": Optional(bool),
    "failed": Optional(bool),
    "skipped": Optional(bool),
    "changed": Optional(bool),
    "msg": Optional(object),
    "action": Optional(_TEXT),
    "node": Optional(str),
    "signing": Optional((_SIGNING, Empty)),
    "answer": Optional(({"node": str, "key": str}, Empty)),
    "reasons": Optional(([str], None)),
    "after": Optional(({"not_after": Optional(_TIME)}, None)),
    "proof": _PROOF,
}

_LEAF = {"name": str, "action": str, "consumer": Optional(_TEXT), "takes_up": Optional(_TEXT)}

# What the modules return that work on a node, as far as the summary of a job counts it.
DONE = {
    "changed": Optional(bool),
    "leaves": Optional([_LEAF]),
    "pods": Optional([{"name": str, "action": str}]),
    "restored": Optional(list),
}

# What cert_leaf returns of the requests for an external CA.
EXTERNAL = {
    "leaves": Optional(([{"name": str, "action": str}], None)),
    "requests": Optional(([{"name": str, "path": str, "ca": str, "request": str, "ca_certificate": str, "days": float}], None)),
}

# What file_backup returns of the set that a node would go back to.
RESTORE = {"set": Optional(_TEXT), "restored": Optional(([object], None))}


def fault(value: Any, shape: Any) -> str | None:
    """Return what of an answer does not have a shape, as text for people, or None where all of it has.

    Also bounds any answer: its depth, its number of values, the length of each text.
    """
    return _too_much(value) or _fault(value, shape, "")


def sentence(why: str) -> str:
    """Return why a host's answer cannot be used, as the reports show it. why: what fault() returned."""
    return "gave a malformed answer (%s). %s" % (why, _FIX)


def finding(why: str) -> Dict[str, Any]:
    """Return the finding about a host whose answer is malformed. why: what fault() returned."""
    return {
        "severity": "error",
        "code": CODE,
        "name": None,
        "path": None,
        "message": "the node gave a malformed answer (%s), so nothing else is known of it" % why,
        "fix": _FIX,
    }


def _too_much(value: Any) -> str | None:
    waiting, count = [(value, 0)], 0
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if depth > DEEPEST:
            return "it is nested more than %d levels deep" % DEEPEST
        if count > MOST_VALUES:
            return "it has more than %d values" % MOST_VALUES
        if isinstance(item, str) and len(item) > LONGEST_TEXT:
            return "it has a text of %d characters" % len(item)
        if isinstance(item, dict):
            waiting += [(one, depth + 1) for pair in item.items() for one in pair]
        elif isinstance(item, (list, tuple)):
            waiting += [(one, depth + 1) for one in item]
    return None


def _fault(value: Any, shape: Any, where: str) -> str | None:
    if isinstance(shape, tuple):
        found = [_fault(value, one, where) for one in shape]
        return None if None in found else next((why for why, one in zip(found, shape) if _is_near(value, one)), found[0])
    if isinstance(shape, (dict, list, Each)):
        return _fault_inside(value, shape, where)
    if _is(value, shape):
        return None
    if isinstance(shape, set):
        return "%s is %s" % (where or "it", printable(repr(value), 60))
    return "%s is no %s" % (where or "it", _NAMES.get(shape, "null"))


def _fault_inside(value: Any, shape: Any, where: str) -> str | None:
    if isinstance(shape, list):
        if not isinstance(value, list):
            return "%s is no list" % (where or "it")
        pairs = [(item, shape[0], "%s[%d]" % (where, number)) for number, item in enumerate(value)]
    elif not isinstance(value, dict):
        return "%s is no mapping" % (where or "it")
    elif isinstance(shape, Each):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None:
            return "%s has the name %s" % (where or "it", printable(repr(odd), 60))
        pairs = [(item, shape.shape, _under(where, key)) for key, item in value.items()]
    else:
        pairs = []
        for key, inner in shape.items():
            if key in value:
                pairs.append((value[key], inner.shape if isinstance(inner, Optional) else inner, _under(where, key)))
            elif not isinstance(inner, Optional):
                return "%s is missing" % _under(where, key)
    return next(filter(None, (_fault(*pair) for pair in pairs)), None)


def _under(where: str, key: Any) -> str:
    return printable("%s.%s" % (where, key) if where else key, 120)


def _is(value: Any, shape: Any) -> bool:
    if shape is None:
        return value is None
    if isinstance(shape, set):
        return isinstance(value, str) and value in shape
    if shape is Moment:
        return isinstance(value, str) and _is_moment(value)
    if shape is Clock:
        return _is(value, float) and 0 <= value < 253402300800  # the year 10000
    if shape is Empty:
        return value == {}
    if shape is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15 and math.isfinite(value)
    if shape is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15
    return isinstance(value, shape)


def _is_moment(text: str) -> bool:
    if not _MOMENT.fullmatch(text):
        return False
    try:
        datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return False
    return True


def _is_near(value: Any, shape: Any) -> bool:
    """Return whether a value is of the kind of a shape, so that its fault says more than that of another alternative."""
    return isinstance(value, dict) and isinstance(shape, (dict, Each)) or isinstance(value, list) and isinstance(shape, list)


_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "truth value",
    dict: "mapping",
    list: "list",
    Moment: "time",
    Clock: "time",
}
