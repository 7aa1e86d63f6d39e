# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes return and hosts register, for action plugins: without keys that change the run, as plain and printable data."""

from __future__ import annotations

from typing import Any, Collection, Dict, Iterable, List, Mapping, Optional, Tuple

from ansible.errors import AnsibleError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable

_LONGEST = 2000  # characters of what one node says, in a message
# What Ansible takes from the result of any module (ansible.plugins.strategy: _process_pending_results).
_FOR_ANSIBLE = ("ansible_facts", "add_host", "add_group", "ansible_stats")
_DISCOVERED = "discovered_interpreter_"


def sanitize_result(result: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the result of a module that ran on a node, without the keys that change hosts, groups, facts and statistics.

    A fact takes precedence over variables of the inventory and role defaults, so a compromised node could set
    kubepki_external_ca_command, which runs on the controller. Two things stay: the interpreter that the controller discovered
    (_execute_module adds it after it has removed such facts of the node), and _ansible_parsed, which _execute_module sets.
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


def _without_keys_for_ansible(result: Mapping[str, Any]) -> Dict[str, Any]:
    found = {key: value for key, value in result.items() if key not in _FOR_ANSIBLE and not str(key).startswith("_ansible")}
    items = found.get("results")
    if isinstance(items, (list, tuple)):
        found["results"] = [_without_keys_for_ansible(item) if isinstance(item, Mapping) else item for item in items]
    return found


def to_plain(value: Any) -> Any:
    """Return Ansible's containers and texts as Python's own, without tags and without templates to evaluate."""
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def to_printable(value: Any) -> Any:
    """Return what a node said as plain data (to_plain) in which control and formatting characters are escaped.

    Line breaks stay, for PEM. Code that shows a text as one line escapes those as well (errors.printable). Every action plugin
    passes what nodes said through this function.
    """
    if isinstance(value, dict):
        return {_escape(str(key)): to_printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_printable(item) for item in value]
    return _escape(str(value)) if isinstance(value, str) else value


def _escape(text: str) -> str:
    if text.replace("\n", "").isprintable():
        return text
    return "\n".join(printable(line, len(text) * 10) for line in text.split("\n"))


def read_registered(
    task_vars: Mapping[str, Any], host: str, name: Optional[str], fields: Optional[Collection[str]] = None
) -> Any:
    """Return what a host registered under a name, as to_printable() returns it; {} where it registered nothing.

    fields: only these of it.
    """
    try:
        value = task_vars["hostvars"][host][name] if name else {}
    except KeyError:
        return {}
    return to_printable(value) if fields is None else {key: to_printable(value[key]) for key in fields if key in value}


def sort_registered(
    task_vars: Mapping[str, Any], hosts: Iterable[str], name: str, key: str
) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """Return ({host: what it registered under name, there under key}, {host: why there is nothing}).

    key: a field of the result of a module that worked. A host that was unreachable, failed or skipped the task has a reason.
    """
    found, reasons = {}, {}
    for host in hosts:
        value = read_registered(task_vars, host, name, (key, "unreachable", "msg"))
        if value.get(key):
            found[host] = value[key]
        elif value.get("unreachable"):
            reasons[host] = "did not answer"
        else:
            reasons[host] = printable(value.get("msg") or "gave no answer", _LONGEST)
    return found, reasons


def inventory_addresses(task_vars: Mapping[str, Any]) -> Dict[str, str]:
    """Return {host: its ansible_host or ""} of all nodes in the inventory, whether the play runs on them or not."""
    groups = task_vars.get("groups") or {}
    hosts: List[str] = [str(host) for group in ("kube_control_plane", "kube_node") for host in groups.get(group) or ()]
    found = {}
    for host in dict.fromkeys(hosts):
        try:
            found[host] = str(task_vars["hostvars"][host].get("ansible_host") or "")
        except (AnsibleError, KeyError):  # a template of something that only a later task knows
            found[host] = ""
    return found


def run_statistics(artifact: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the run-level statistics in the form of set_stats. AWX shows them as the job's artifacts."""
    return {"data": {"kubepki": artifact}, "per_host": False, "aggregate": False}
