# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check, on the controller and before anything else, the variables that the user set for a playbook."""

from __future__ import annotations

import contextlib
from typing import Any, Collection, Dict, Iterable, List, Mapping, Optional, Tuple

from ansible.errors import AnsibleError
from ansible.utils.vars import load_extra_vars
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import node_results, playbook_variables, variable_review
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction

_GROUPS = ("kube_control_plane", "kube_node", "etcd")


class ActionModule(LifecycleAction):
    """The action behind kubepki.lifecycle.internal.variable_check."""

    _requires_connection = False

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Fail with one message that names each variable with a fault and its remedy."""
        options = self.check_arguments(
            {"playbook": {"type": "str"}, "facts_only": {"type": "bool", "default": False}},
            required_if=[("facts_only", False, ["playbook"])],
        )
        result["changed"] = False
        # First, because a fact takes precedence over the variables that are read below.
        facts = _from_facts(task_vars)
        if facts or options["facts_only"]:
            if facts:
                result.update(failed=True, msg=" ".join(facts))
            return
        playbook = options["playbook"]
        given = load_extra_vars(self._loader)
        extra = {name for name in given if variable_review.is_ours(name, extra=True)}
        templates = variable_review.find_templates(playbook, {name: given[name] for name in extra})
        if templates:  # before any of them is read, which would evaluate it
            result.update(failed=True, msg=" ".join(templates) + " Nothing was changed.")
            return
        names, values = set(extra), []
        for host in self._hosts(task_vars):
            known = task_vars["hostvars"][host]
            ours = [name for name in known if variable_review.is_ours(name)]
            names.update(ours)
            values.extend(_values(playbook, known, ours, host, extra))
        obstacles, warnings = variable_review.review(playbook, names, values, extra)
        for warning in warnings:
            self._display.warning(warning)
        if obstacles:
            result.update(failed=True, msg=" ".join(obstacles) + " Correct it, or leave it out. Nothing was changed.")

    @staticmethod
    def _hosts(task_vars: Mapping[str, Any]) -> List[str]:
        """Return the hosts whose variables count: the cluster's that are in the play, and the controller."""
        cluster = {host for group in _GROUPS for host in task_vars["groups"].get(group, ())}
        return ["localhost"] + [host for host in task_vars["ansible_play_hosts_all"] if host in cluster and host != "localhost"]


def _from_facts(task_vars: Mapping[str, Any]) -> List[str]:
    """Return one sentence for each host, of the play or the cluster, whose facts are variables of this collection."""
    cluster = [host for group in _GROUPS for host in task_vars["groups"].get(group, ())]
    hosts = dict.fromkeys(["localhost", *task_vars["ansible_play_hosts_all"], *cluster])
    prefixes = variable_review.own_prefixes()
    found = {host: variable_review.from_facts(task_vars["hostvars"][host], prefixes) for host in hosts}
    return [variable_review.describe_facts(host, names) for host, names in found.items() if names]


def _values(
    playbook: str, given: Mapping[str, Any], names: Iterable[str], host: str, extra: Collection[str]
) -> List[Tuple[str, Any, Optional[str]]]:
    """Return [(name, value, host, or None for an extra variable)] of what the playbook reads and can be known now."""
    found = []
    for name in names:
        if playbook_variables.find_specification(name, playbook):
            # A template of something that only a later task knows is left to the task that reads it.
            with contextlib.suppress(AnsibleError, KeyError):
                value = node_results.to_plain(given[name])
                # ansible-core 2.18 returns it unevaluated.
                if not (isinstance(value, str) and "{{" in value):
                    found.append((name, value, None if name in extra else host))
    return found
