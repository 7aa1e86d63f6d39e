# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks, on the controller and before anything else, at the variables that a person set for a playbook."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Mapping

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _registered, _variables

display = Display()
_GROUPS = ("kube_control_plane", "kube_node", "etcd")
_COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class ActionModule(ActionBase):
    """The action behind kubepki.lifecycle.variable_check."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Give the task's result."""
        result = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={"playbook": {"type": "str"}, "facts_only": {"type": "bool", "default": False}},
            required_if=[("facts_only", False, ["playbook"])],
        )
        result["changed"] = False
        # First, because a fact goes before what is looked at below.
        facts = _from_facts(task_vars)
        if facts or options["facts_only"]:
            if facts:
                result.update(failed=True, msg=" ".join(facts))
            return result
        playbook = options["playbook"]
        given = load_extra_vars(self._loader)
        extra = {name for name in given if _variables.concerns(name, extra=True)}
        forbidden = _variables.templates(playbook, {name: given[name] for name in extra})
        if forbidden:  # before any of them is looked at, which would evaluate it
            result.update(failed=True, msg=" ".join(forbidden) + " Nothing was changed.")
            return result
        names, values = set(extra), []
        for host in self._hosts(task_vars):
            known = task_vars["hostvars"][host]
            ours = [name for name in known if _variables.concerns(name)]
            names.update(ours)
            values.extend(_values(playbook, known, ours, host, extra))
        obstacles, warnings = _variables.review(playbook, names, values, extra)
        for warning in warnings:
            display.warning(warning)
        if obstacles:
            result.update(failed=True, msg=" ".join(obstacles) + " Correct it, or leave it out. Nothing was changed.")
        return result

    @staticmethod
    def _hosts(task_vars):
        """Give the hosts whose variables count: the cluster's that are in the play, and the controller."""
        cluster = {host for group in _GROUPS for host in task_vars["groups"].get(group, ())}
        return ["localhost"] + [host for host in task_vars["ansible_play_hosts_all"] if host in cluster and host != "localhost"]


def _from_facts(task_vars: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each host, of the play or the cluster, whose facts are variables of this collection."""
    cluster = [host for group in _GROUPS for host in task_vars["groups"].get(group, ())]
    hosts = dict.fromkeys(["localhost", *task_vars["ansible_play_hosts_all"], *cluster])
    prefixes = _variables.own_prefixes(_COLLECTION)
    found = {host: _variables.from_facts(task_vars["hostvars"][host], prefixes) for host in hosts}
    return [_variables.refusal(host, names) for host, names in found.items() if names]


def _values(playbook, given, names, host, extra):
    """Give [(name, value, host)] of what the playbook reads and can be known now."""
    found = []
    for name in names:
        if _variables.specification(name, playbook):
            # What is made of something that only a later task knows is left to the task that reads it.
            with contextlib.suppress(AnsibleError, KeyError):
                value = _registered.plain(given[name])
                # ansible-core 2.18 gives it as it is written.
                if not (isinstance(value, str) and "{{" in value):
                    found.append((name, value, None if name in extra else host))
    return found
