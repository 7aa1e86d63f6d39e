# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of the variables that the user set for a playbook: unknown names, unusable values, templates, facts."""

from __future__ import annotations

import difflib
import math
import os
import re
from typing import Any, Callable, Collection, Dict, Iterable, List, Mapping, Optional, Tuple

from ansible.module_utils.common.validation import check_type_bool, check_type_float, check_type_int

from ..module_utils._pki.errors import printable
from .playbook_variables import COLLECTION, Specification, find_specification, read_variables

# From this likeness (0 to 1) on, the user meant a known name. Below, it may be a variable of the user's own with our prefix.
SURELY = 0.85
_MAYBE = 0.82
_LITTLE = 0.1
_PREFIX = re.compile(r"kubepki[_-]", re.IGNORECASE)
_WORDS_OF_BOOLEANS = {True: ("true", "yes", "on"), False: ("false", "no", "off")}


def is_ours(name: str, extra: bool = False) -> bool:
    """Return whether a variable is for this collection. extra: given with -e, where a misspelt prefix counts, too."""
    return bool(_PREFIX.match(name)) or (extra and name not in read_variables() and find_closest(name)[1] >= SURELY)


def own_prefixes() -> Tuple[str, ...]:
    """Return the prefixes of this collection's variables: kubepki_, each role's name, each playbook's first word."""
    roles = [name for name in os.listdir(os.path.join(COLLECTION, "roles")) if not name.startswith(".")]
    playbooks = [name for name in os.listdir(os.path.join(COLLECTION, "playbooks")) if name.endswith(".yml")]
    words = {name.lstrip("_").partition(".")[0].partition("_")[0] for name in playbooks}
    return tuple(sorted({"kubepki_"} | {name + "_" for name in [*roles, *words]}))


def from_facts(known: Mapping[str, Any], prefixes: Iterable[str]) -> List[str]:
    """Return the names of this collection's variables that are facts of a host. No playbook of it sets any.

    known: the host's variables, with ansible_facts. A fact that is no variable of the same name is left out: of an interface
    backup-net there is ansible_backup_net alone.
    """
    facts = known.get("ansible_facts")
    names = [str(name) for name in facts] if isinstance(facts, Mapping) else []
    return sorted(name for name in names if name.startswith(tuple(prefixes)) and name in known)


def describe_facts(host: str, names: List[str]) -> str:
    """Return the message about facts of a host that from_facts() returned."""
    more = ", ..." if len(names) > 5 else ""
    return (
        "%s: facts of this host set variables of this collection: %s%s. Only the inventory and the command line may set them. "
        "Clear the fact cache (ansible-playbook --flush-cache), and look at what runs on this host: it may be compromised."
        % (host, ", ".join(printable(name) for name in names[:5]), more)
    )


def find_closest(name: str, playbook: Optional[str] = None) -> Tuple[Optional[str], float]:
    """Return the known variable that is most like a name, or None, and the likeness of the most similar one (0 to 1).

    A variable that the playbook reads is preferred to others that are only a little more like the name.
    """
    known = read_variables()
    best = _most_like(name, known)
    own = _most_like(name, [each for each in known if find_specification(each, playbook)])
    return own[0] if own[1] > best[1] - _LITTLE else best[0], best[1]


def _most_like(name: str, known: Iterable[str]) -> Tuple[Optional[str], float]:
    found = difflib.get_close_matches(name.lower(), sorted(known), 1, _MAYBE)
    return (found[0], difflib.SequenceMatcher(None, found[0], name.lower()).ratio()) if found else (None, 0.0)


def review(
    playbook: str, names: Iterable[str], values: Iterable[Tuple[str, Any, Optional[str]]], extra: Collection[str]
) -> Tuple[List[str], List[str]]:
    """Return ([obstacle], [warning]) about what is set for a run. Each obstacle names its variable and the remedy.

    playbook: its name. names: of all variables of this collection (is_ours). values: [(name, value, host)] of what the playbook
    reads, host None for extra variables. extra: names of the extra variables among names.
    """
    known = read_variables()
    obstacles, unread, warnings = [], [], []
    for name in sorted(names):
        if name in known:
            spec = find_specification(name, playbook)
            if spec and spec.get("of_play") and name not in extra:
                warnings.append("%s has no effect in the inventory, because it sets a keyword of a play: give it with -e." % name)
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


def find_templates(playbook: str, raw: Mapping[str, Any]) -> List[str]:
    """Return one message for each extra variable that has to be literal and holds a template. Evaluate nothing.

    raw: {name: value} of the extra variables, as given. Ansible evaluates Jinja in them at first use, so this check comes first.
    """
    return [
        "%s holds a template, which is not evaluated here. Write the value itself." % name
        for name in sorted(raw)
        if (find_specification(name, playbook) or {}).get("literal")
        and any(mark in part for part in _strings(raw[name]) for mark in ("{{", "{%", "{#"))
    ]


def _strings(value: Any) -> List[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _strings(item)]
    return [str(value)]


def _wrong_values(playbook: str, values: Iterable[Tuple[str, Any, Optional[str]]]) -> List[str]:
    """Return one message for each wrong value, with the hosts that have it."""
    found: Dict[str, List[str]] = {}
    for name, value, host in values:
        wrong = find_fault(value, find_specification(name, playbook) or {"type": "str"})
        if wrong:
            hosts = found.setdefault("%s is %s, which is no %s." % (name, format_value(value), wrong), [])
            hosts.extend([host] if host else [])
    return [
        "%s%s" % (said, " (%s)" % ", ".join(hosts[:3] + ["..."] * (len(hosts) > 3)) if hosts else "")
        for said, hosts in sorted(found.items())
    ]


def format_value(value: Any) -> str:
    """Return a value as a user would write it, at most 60 characters."""
    text = "empty" if value is None or value == "" else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def find_fault(value: Any, spec: Specification) -> Optional[str]:
    """Return what a value is not, as in "is no number above 0", or None where it fits. spec: as find_specification() returns it.

    A string counts as the value that it spells, as in Ansible and in AWX's surveys.
    """
    check = _CHECKS[spec["type"]]
    if value is None or value == "" or value == []:
        return None if spec.get("empty") else check(None, spec) or "value"
    if isinstance(value, dict):
        return "single value"
    return check(value, spec)


def _check_bool(value: Any, _spec: Specification) -> Optional[str]:
    try:
        check_type_bool(value)
    except TypeError:
        return "boolean"
    return None


def _check_number(value: Any, spec: Specification) -> Optional[str]:
    whole = spec["type"] == "int"
    said = "%snumber %s" % ("whole " if whole else "", "above 0" if spec.get("positive") else "of 0 or more")
    try:
        if isinstance(value, (bool, list)):
            raise TypeError(value)
        number = (check_type_int if whole else check_type_float)(value)
    except (TypeError, ValueError):
        return said
    return None if math.isfinite(number) and (number > 0 if spec.get("positive") else number >= 0) else said


def _check_text(value: Any, spec: Specification) -> Optional[str]:
    parts = [value]
    if spec["type"] == "list" or isinstance(value, list):
        if spec["type"] != "list" and "pattern" not in spec:
            return "single value"
        parts = value if isinstance(value, list) else str(value).split(",")
    said = spec.get("said") or "%s %s" % ("list of" if spec["type"] == "list" else "one of", ", ".join(spec.get("choices", ())))
    for part in parts:
        if "choices" in spec and not _is_choice(part, spec["choices"]):
            return said
        if "pattern" in spec and not re.fullmatch(spec["pattern"], str(part).strip(" ")):
            return said
    return None


def _is_choice(part: Any, choices: Collection[str]) -> bool:
    words = _WORDS_OF_BOOLEANS[part] if isinstance(part, bool) else (str(part).strip(),)
    return any(word in choices for word in words)


_CHECKS: Dict[str, Callable[[Any, Specification], Optional[str]]] = {
    "bool": _check_bool,
    "int": _check_number,
    "float": _check_number,
    "str": _check_text,
    "list": _check_text,
}
