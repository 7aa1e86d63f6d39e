# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts registered, for action plugins that put it together on the controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable

_LONGEST = 2000  # of what one node says, in a message
# What Ansible takes from the result of any module (ansible.plugins.strategy: _process_pending_results).
_FOR_ANSIBLE = ("ansible_facts", "add_host", "add_group", "ansible_stats")
_DISCOVERED = "discovered_interpreter_"


def from_node(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a module that ran on a node, without the keys that change hosts, groups, facts and statistics.

    A fact is a variable that goes before the inventory's and before role defaults, so a compromised node could set
    kubepki_external_ca_command, which runs on the controller. Kept are the interpreter that the controller discovered, which
    _execute_module adds after it has removed such facts of the node, and _ansible_parsed, which it sets itself.
    """
    found = _without_keys_for_ansible(result)
    if "_ansible_parsed" in result:
        found["_ansible_parsed"] = result["_ansible_parsed"]
    facts = result.get("ansible_facts")
    if isinstance(facts, Mapping):
        discovered = {key: value for key, value in facts.items() if str(key).startswith(_DISCOVERED)}
        if discovered:
            found["ansible_facts"] = discovered
    return found


def _without_keys_for_ansible(result):
    found = {key: value for key, value in result.items() if key not in _FOR_ANSIBLE and not str(key).startswith("_ansible")}
    items = found.get("results")
    if isinstance(items, (list, tuple)):
        found["results"] = [_without_keys_for_ansible(item) if isinstance(item, Mapping) else item for item in items]
    return found


def plain(value):
    """Give Ansible's containers as Python's own, so that nothing is templated or tagged any more."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def heard(value):
    """Return what a node said as plain data that no terminal obeys: plain(), with control and formatting characters escaped.

    Line breaks stay, for PEM; who shows a text as one line escapes those as well (errors.printable). Every action plugin takes
    what nodes said through here.
    """
    if isinstance(value, dict):
        return {_harmless(str(key)): heard(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [heard(item) for item in value]
    return _harmless(str(value)) if isinstance(value, str) else value


def _harmless(text):
    if text.replace("\n", "").isprintable():
        return text
    return "\n".join(printable(line, len(text) * 10) for line in text.split("\n"))


def registered(task_vars, host, name, fields=None):
    """Return what a host registered under a name, as heard() gives it; {} where it registered nothing.

    fields: only these of it.
    """
    try:
        value = task_vars["hostvars"][host][name] if name else {}
    except KeyError:
        return {}
    return heard(value) if fields is None else {key: heard(value[key]) for key in fields if key in value}


def answers(task_vars, hosts, name, key):
    """Sort what hosts registered: ({host: what is under the key}, {host: why there is nothing}).

    key: what a module that worked gives. A host that did not answer, failed or was not asked says so instead.
    """
    found, silent = {}, {}
    for host in hosts:
        value = registered(task_vars, host, name, (key, "unreachable", "msg"))
        if value.get(key):
            found[host] = value[key]
        elif value.get("unreachable"):
            silent[host] = "did not answer"
        else:
            silent[host] = printable(value.get("msg") or "gave no answer", _LONGEST)
    return found, silent


def addresses(task_vars):
    """Return {host: its ansible_host or ""} of all nodes in the inventory, whether the play runs on them or not."""
    groups = task_vars.get("groups") or {}
    hosts = dict.fromkeys(str(host) for group in ("kube_control_plane", "kube_node") for host in groups.get(group) or ())
    found = {}
    for host in hosts:
        # What is made of something that only a later task knows says nothing now.
        try:
            found[host] = str(task_vars["hostvars"][host].get("ansible_host") or "")
        except (AnsibleError, KeyError):
            found[host] = ""
    return found


def statistics(artifact):
    """Give the run-level statistics as set_stats gives them to the strategy; AWX shows them as the job's artifacts."""
    return {"data": {"kubepki": artifact}, "per_host": False, "aggregate": False}
