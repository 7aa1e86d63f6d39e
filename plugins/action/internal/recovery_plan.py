# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides, on the controller, what is done about a dead cluster, from what all its nodes said."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _registered, recovery_plan

display = Display()


class ActionModule(ActionBase):
    """The action behind kubepki.lifecycle.recovery_plan."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Give the task's result."""
        result = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "step": {"type": "str", "choices": ["plan", "report"], "default": "plan"},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "control_planes": {"type": "list", "elements": "str", "required": True},
                "looks": {"type": "str", "required": True},
                "reports": {"type": "str", "required": True},
                "rehearsals": {"type": "str"},
                "partial": {"type": "bool", "default": False},
                "plan": {"type": "dict"},
                "ready": {"type": "dict", "default": {}},
                "failed": {"type": "list", "elements": "str", "default": []},
                "began": {"type": "float"},
            }
        )
        result["changed"] = False
        looks, silent = self._seen(task_vars, options)
        if options["step"] == "plan":
            plan = recovery_plan.decide(looks, silent, options["control_planes"], options["partial"])
            display.display("\n".join(recovery_plan.shown(plan)))
            result.update(plan=plan, question=recovery_plan.question(plan))
            if plan["refusal"]:
                result.update(failed=True, msg="Nothing was changed anywhere. " + plan["refusal"])
            return result
        plan = _registered.plain(options["plan"])
        seconds = round(time.time() - options["began"], 1) if options["began"] else None
        artifact = recovery_plan.summarise(plan, looks, options["ready"], options["failed"], seconds, self._task.check_mode)
        display.display(recovery_plan.sentence(artifact))
        result.update(artifact=artifact, incomplete=recovery_plan.incomplete(plan, options["failed"]))
        result["ansible_stats"] = _registered.statistics(artifact)
        return result

    @staticmethod
    def _seen(task_vars, options):
        """Put together what the modules saw of each host: ({host: look, with its report}, {host: why there is none})."""
        looks, silent = _registered.answers(task_vars, options["hosts"], options["looks"], "look")
        reports, unread = _registered.answers(task_vars, list(looks), options["reports"], "node")
        silent.update(unread)
        looks = {
            host: dict(looks[host], node=report) if isinstance(looks[host], dict) else looks[host]
            for host, report in reports.items()
        }
        for host, look in looks.items():
            said = _registered.registered(task_vars, host, options["rehearsals"], ("leaves", "skipped", "unreachable", "msg"))
            # Whether a look has its form at all is for recovery.decide.
            usable = isinstance(look, dict) and isinstance(look.get("problems"), list)
            if usable and said and "leaves" not in said and not said.get("skipped"):
                look["problems"] = look["problems"] + [said.get("msg") or "The renewal could not be rehearsed."]
        return looks, silent
