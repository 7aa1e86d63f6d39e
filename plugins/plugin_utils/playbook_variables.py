# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubepki_ variables that users can set, read from the playbooks and the roles' meta/argument_specs.yml.

A playbook passes a variable to a role's option as `OPTION: "{{ kubepki_NAME | default(...) }}"`, so the variable has the type,
the choices and the description of the option. variable_rules.py adds what no argument spec says.
"""

from __future__ import annotations

import ast
import functools
import os
import re
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import yaml

from . import variable_rules

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMESPACE = "kubepki.lifecycle."
NAME = re.compile(r"\bkubepki_[a-z_]+")

# A default in the playbook's expression. With ", true" an empty value counts as unset.
_DEFAULT = re.compile(r"\bkubepki_[a-z_]+ \| default\((.*?)(?:, true)?\)")
# An expression whose value is that of a variable. One that only tests whether it is set says nothing about its meaning.
_VALUE = re.compile(r"\{\{.*(?<! defined )(?<! length > 0 )\}\}", re.DOTALL)
# Of several types, the first is right: a role may accept as text what its module reads as a number.
_TYPES = ["list", "float", "int", "bool", "str"]

# {"type", "choices", "empty", "of_play"} and the keys of a rule (variable_rules.py).
Specification = Dict[str, Any]


class Meaning(NamedTuple):
    """What a variable means for some playbooks: the role's option that it sets (None: the playbook reads it), and its spec."""

    playbooks: List[str]
    option: Optional[str]
    spec: Dict[str, Any]


class PlaybookVariable:
    """One variable. meanings: in the order of the playbooks' names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meanings: List[Meaning] = []

    @property
    def playbooks(self) -> List[str]:
        """Return the names of the playbooks that read it."""
        return sorted({playbook for meaning in self.meanings for playbook in meaning.playbooks})

    @property
    def types(self) -> List[str]:
        """Return the types of its options; that of a path is str."""
        return sorted({"str" if meaning.spec["type"] == "path" else meaning.spec["type"] for meaning in self.meanings})

    @property
    def choices(self) -> List[str]:
        """Return the values that it may have, or [] where any text is allowed."""
        declared = [str(choice) for meaning in self.meanings for choice in meaning.spec.get("choices", [])]
        return variable_rules.CHOICES.get(self.name, declared)

    def add(self, playbook: str, option: Optional[str], spec: Dict[str, Any]) -> None:
        """Add that a playbook reads it. One option has one meaning."""
        for meaning in self.meanings:
            if meaning.option == option:
                if playbook not in meaning.playbooks:
                    meaning.playbooks.append(playbook)
                return
        self.meanings.append(Meaning([playbook], option, spec))

    def specification(self, playbook: str) -> Specification:
        """Return what a value has to be for one of its playbooks."""
        specs = [meaning.spec for meaning in self.meanings if playbook in meaning.playbooks]
        found: Specification = {"type": min(self.types, key=_TYPES.index)}
        choices = variable_rules.CHOICES_OF_PLAYBOOK.get((self.name, playbook), self.choices)
        if choices and found["type"] != "bool":
            found["choices"] = tuple(choice for choice in choices if choice)
        if any(spec.get("empty") or spec.get("required") or spec.get("default") in ("", [], None) for spec in specs):
            found["empty"] = True
        if any(spec.get("of_play") for spec in specs):
            found["of_play"] = True
        stricter = variable_rules.STRICTER.get(self.name, {})
        found.update({key: value for key, value in stricter.items() if key not in ("pattern", "said") or "choices" not in found})
        return found


def read_yaml(*path: str) -> Any:
    """Return the data of a file of the collection."""
    with open(os.path.join(COLLECTION, *path), "rb") as file:
        return yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe loaders)


@functools.lru_cache(maxsize=None)
def read_playbooks() -> Dict[str, List[Dict[str, Any]]]:
    """Return {name: plays} of every playbook that users start, with the plays of those that it imports."""
    files = sorted(name for name in os.listdir(os.path.join(COLLECTION, "playbooks")) if name.endswith(".yml"))
    loaded = {name[: -len(".yml")]: read_yaml("playbooks", name) for name in files}

    def plays(name: str) -> List[Dict[str, Any]]:
        found: List[Dict[str, Any]] = []
        for play in loaded[name]:
            imported = play.get("ansible.builtin.import_playbook")
            found += plays(os.path.splitext(os.path.basename(imported))[0]) if imported else [play]
        return found

    return {name: plays(name) for name in loaded if not name.startswith("_")}


def flatten_tasks(tasks: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return the tasks of a list in their order, with those of its blocks instead of the blocks."""
    found = []
    for task in tasks:
        inner = [each for part in ("block", "rescue", "always") for each in task.get(part, [])]
        found += flatten_tasks(inner) if inner else [task]
    return found


def role_arguments(play: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Return [(a role's option, the expression of its value)] of all that a play passes to roles."""
    found = []
    for task in flatten_tasks(play.get("tasks", [])):
        if "ansible.builtin.include_role" in task or "ansible.builtin.import_role" in task:
            found += [(name, str(value)) for name, value in task.get("vars", {}).items()]
    return found


def role_options() -> Dict[str, Dict[str, Any]]:
    """Return {name: its spec} of every option of every role."""
    options: Dict[str, Dict[str, Any]] = {}
    for role in sorted(os.listdir(os.path.join(COLLECTION, "roles"))):
        if os.path.exists(os.path.join(COLLECTION, "roles", role, "meta", "argument_specs.yml")):
            for entry in read_yaml("roles", role, "meta", "argument_specs.yml")["argument_specs"].values():
                for name, option in entry.get("options", {}).items():
                    options.setdefault(name, option)
    return options


@functools.lru_cache(maxsize=None)
def read_variables() -> Dict[str, PlaybookVariable]:
    """Return {name: variable} of every variable that users can set, sorted by name. Reads files at the first call only."""
    options = role_options()
    found: Dict[str, PlaybookVariable] = {}
    for playbook, plays in read_playbooks().items():
        for play in plays:
            for option, expression in role_arguments(play):
                names = set(NAME.findall(expression))
                if len(names) == 1 and _VALUE.fullmatch(expression):
                    name = names.pop()
                    spec = _with_default(options[option], expression)
                    found.setdefault(name, PlaybookVariable(name)).add(playbook, option, spec)
            for name in {name for text in _texts(play) for name in NAME.findall(text)} & set(variable_rules.OF_PLAYBOOKS):
                found.setdefault(name, PlaybookVariable(name)).add(playbook, None, variable_rules.OF_PLAYBOOKS[name])
    return dict(sorted(found.items()))


def find_specification(name: str, playbook: Optional[str]) -> Optional[Specification]:
    """Return what a variable's value has to be for a playbook, or None where the playbook does not read it."""
    variable = read_variables().get(name)
    return variable.specification(playbook) if variable and playbook and playbook in variable.playbooks else None


def _with_default(option: Mapping[str, Any], expression: str) -> Dict[str, Any]:
    """Return an option's spec with the default of the playbook, where the playbook has one."""
    spec = dict(option)
    given = _DEFAULT.search(expression)
    if given:
        spec["default"] = _literal(given.group(1), spec.get("default"))
        spec["empty"] = given.group().endswith(", true)")
    return spec


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in YAML data."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _literal(text: str, otherwise: Any) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return otherwise
    return "" if value == [] else value
