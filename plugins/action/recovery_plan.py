# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides, on the controller, what is done about a dead cluster, from what all its nodes said."""

from __future__ import annotations

__metaclass__ = type

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import recovery

display = Display()


class ActionModule(ActionBase):
    """The action behind kubepki.lifecycle.recovery_plan."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Give the task's result."""
        result = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(argument_spec={
            "step": {"type": "str", "choices": ["plan", "report"], "default": "plan"},
            "hosts": {"type": "list", "elements": "str", "required": True},
            "control_planes": {"type": "list", "elements": "str", "required": True},
            "looks": {"type": "str", "required": True},
            "partial": {"type": "bool", "default": False},
            "plan": {"type": "dict"},
            "ready": {"type": "dict", "default": {}},
            "failed": {"type": "list", "elements": "str", "default": []},
            "began": {"type": "float"},
        })
        result["changed"] = False
        looks, silent = _looks(options["looks"], options["hosts"], task_vars)
        if options["step"] == "plan":
            plan = recovery.decide(looks, silent, options["control_planes"], options["partial"])
            display.display("\n".join(recovery.shown(plan)))
            result.update(plan=plan, question=recovery.question(plan))
            if plan["refusal"]:
                result.update(failed=True, msg="Nothing was changed anywhere. " + plan["refusal"])
            return result
        plan = _plain(options["plan"])
        seconds = round(time.time() - options["began"], 1) if options["began"] else None
        artifact = recovery.summarise(plan, looks, options["ready"], options["failed"], seconds, self._task.check_mode)
        display.display(recovery.sentence(artifact))
        result.update(artifact=artifact, incomplete=recovery.incomplete(plan, options["failed"]))
        # As set_stats gives it to the strategy; AWX shows run-level statistics as the job's artifacts.
        result["ansible_stats"] = {"data": {"kubepki": artifact}, "per_host": False, "aggregate": False}
        return result


def _looks(name, hosts, task_vars):
    """Give ({host: what it saw of itself}, {host: why it said nothing})."""
    looks, silent = {}, {}
    for host in hosts:
        try:
            registered = task_vars["hostvars"][host][name]
        except KeyError:
            registered = {}
        if registered.get("look"):
            looks[host] = _plain(registered["look"])
        elif registered.get("unreachable"):
            silent[host] = "did not answer"
        else:
            silent[host] = str(registered.get("msg") or "gave no answer")
    return looks, silent


def _plain(value):
    """Give Ansible's containers as Python's own, so that nothing is templated or tagged any more."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
