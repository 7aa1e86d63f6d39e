# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person set for a playbook, judged by what is declared: names that nothing reads, and values that nothing can use."""

from __future__ import annotations

import difflib
import math
import os
import re
from typing import Any, Iterable, Mapping

from ansible.module_utils.common.validation import check_type_bool, check_type_float, check_type_int
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils._declared import VARIABLES

# A name this like a known one was meant to be it. Below, somebody may have variables of their own that begin like ours.
SURELY = 0.85
_MAYBE = 0.82
_LITTLE = 0.1
_PREFIX = re.compile(r"kubepki[_-]", re.IGNORECASE)
_MEANT = {True: ("true", "yes", "on"), False: ("false", "no", "off")}


def is_ours(name, extra=False):
    """Tell whether a variable is for this collection. extra: given with -e, where also a misspelt prefix is looked at."""
    return bool(_PREFIX.match(name)) or (extra and name not in VARIABLES and find_closest(name)[1] >= SURELY)


def own_prefixes(collection: str) -> tuple[str, ...]:
    """Return what the names of this collection's variables begin with: kubepki_, each role's name, each playbook's first word.

    collection: its folder.
    """
    roles = [name for name in os.listdir(os.path.join(collection, "roles")) if not name.startswith(".")]
    playbooks = [name for name in os.listdir(os.path.join(collection, "playbooks")) if name.endswith(".yml")]
    words = {name.lstrip("_").partition(".")[0].partition("_")[0] for name in playbooks}
    return tuple(sorted({"kubepki_"} | {name + "_" for name in [*roles, *words]}))


def from_facts(known: Mapping[str, Any], prefixes: Iterable[str]) -> list[str]:
    """Return the names of this collection's variables that are facts of a host. No playbook of it sets any.

    known: the host's variables, with ansible_facts. A fact that is no variable of the same name is left out: of an interface
    backup-net there is ansible_backup_net alone.
    """
    facts = known.get("ansible_facts")
    names = [str(name) for name in facts] if isinstance(facts, Mapping) else []
    return sorted(name for name in names if name.startswith(tuple(prefixes)) and name in known)


def describe_facts(host: str, names: list[str]) -> str:
    """Return the sentence about facts of a host that from_facts() names."""
    more = ", ..." if len(names) > 5 else ""
    return (
        "%s: facts of this host set variables of this collection: %s%s. Only the inventory and the command line may set them. "
        "Clear the fact cache (ansible-playbook --flush-cache), and look at what runs on this host: it may be compromised."
        % (host, ", ".join(printable(name) for name in names[:5]), more)
    )


def find_closest(name, playbook=None):
    """Give (the known variable that is most like the name, or None; how much the most like one is: 0 to 1).

    One that the playbook reads goes before others that are only a little more like it.
    """
    best = _most_like(name, VARIABLES)
    own = _most_like(name, [each for each in VARIABLES if find_specification(each, playbook)])
    return own[0] if own[1] > best[1] - _LITTLE else best[0], best[1]


def _most_like(name, known):
    found = difflib.get_close_matches(name.lower(), sorted(known), 1, _MAYBE)
    return (found[0], difflib.SequenceMatcher(None, found[0], name.lower()).ratio()) if found else (None, 0.0)


def find_specification(name, playbook):
    """Give what is declared of a variable for a playbook: {"type", "choices", "empty", ...}; None where it does not read it."""
    return next((spec for playbooks, spec in VARIABLES.get(name, ()) if playbook in playbooks), None)


def review(playbook, names, values, extra):
    """Judge what is set for a run.

    playbook: its name. names: of all variables of this collection (is_ours). values: [(name, value, host)] of what the playbook
    reads, host None for extra variables. extra: names of the extra variables among names.
    Gives (obstacles, warnings), lists of sentences; each obstacle names its variable and the remedy.
    """
    obstacles, unread, warnings = [], [], []
    for name in sorted(names):
        if name in VARIABLES:
            spec = find_specification(name, playbook)
            if spec and spec.get("of_play") and name not in extra:
                warnings.append("%s has no effect in the inventory, because it says what a play is like: give it with -e." % name)
            continue
        like, ratio = find_closest(name, playbook)
        if name in extra and ratio >= SURELY:
            obstacles.append(
                "There is no variable %s. Did you mean %s? If it is one of your own, give it another name." % (name, like)
            )
        else:
            unread.append(name + (" (did you mean %s?)" % like if like else ""))
    if unread:
        warnings.append("No playbook of kubepki.lifecycle reads %s." % ", ".join(unread))
    return obstacles + _wrong_values(playbook, values), warnings


def find_templates(playbook, raw):
    """Return one sentence for each extra variable that has to be literal and holds a template. Nothing of it is evaluated.

    raw: {name: value} of the extra variables, as they were given. Ansible evaluates Jinja in them at first use, so this comes
    before.
    """
    return [
        "%s holds a template, which is not evaluated here. Write the value itself." % name
        for name in sorted(raw)
        if any(spec.get("literal") for playbooks, spec in VARIABLES.get(name, ()) if playbook in playbooks)
        and any(mark in part for part in _strings(raw[name]) for mark in ("{{", "{%", "{#"))
    ]


def _strings(value):
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _strings(item)]
    return [str(value)]


def _wrong_values(playbook, values):
    """Give one sentence for each wrong value, with the hosts that have it."""
    found = {}
    for name, value, host in values:
        wrong = find_fault(value, find_specification(name, playbook) or {"type": "str"})
        if wrong:
            hosts = found.setdefault("%s is %s, which is no %s." % (name, format_value(value), wrong), [])
            hosts.extend([host] if host else [])
    return [
        "%s%s" % (said, " (%s)" % ", ".join(hosts[:3] + ["..."] * (len(hosts) > 3)) if hosts else "")
        for said, hosts in sorted(found.items())
    ]


def format_value(value):
    """Give a value as a person would write it, short."""
    text = "empty" if value is None or value == "" else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def find_fault(value, spec):
    """Give what the value is not ("number above 0"), or None. spec: as find_specification() gives it.

    Strings count as what they say, as Ansible and AWX's surveys have it.
    """
    if value is None or value == "" or value == []:
        return None if spec.get("empty") else _TYPES[spec["type"]](None, spec) or "value"
    if isinstance(value, dict):
        return "single value"
    return _TYPES[spec["type"]](value, spec)


def _bool(value, spec):
    try:
        check_type_bool(value)
    except TypeError:
        return "boolean"
    return None


def _number(value, spec):
    whole = spec["type"] == "int"
    said = "%snumber %s" % ("whole " if whole else "", "above 0" if spec.get("positive") else "of 0 or more")
    try:
        if isinstance(value, (bool, list)):
            raise TypeError(value)
        number = (check_type_int if whole else check_type_float)(value)
    except (TypeError, ValueError):
        return said
    return None if math.isfinite(number) and (number > 0 if spec.get("positive") else number >= 0) else said


def _text(value, spec):
    parts = [value]
    if spec["type"] == "list" or isinstance(value, list):
        if spec["type"] != "list" and "pattern" not in spec:
            return "single value"
        parts = value if isinstance(value, list) else str(value).split(",")
    said = spec.get("said") or "%s %s" % ("list of" if spec["type"] == "list" else "one of", ", ".join(spec.get("choices", ())))
    for part in parts:
        if "choices" in spec and not _chosen(part, spec["choices"]):
            return said
        if "pattern" in spec and not re.fullmatch(spec["pattern"], str(part).strip(" ")):
            return said
    return None


def _chosen(part, choices):
    words = _MEANT[part] if isinstance(part, bool) else (str(part).strip(),)
    return any(word in choices for word in words)


_TYPES = {"bool": _bool, "int": _number, "float": _number, "str": _text, "list": _text}
