# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan, on the controller, the recovery of a cluster with expired certificates, from what all its nodes returned."""

from __future__ import annotations

import time
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import node_results, recovery_plan, recovery_text
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction


class ActionModule(LifecycleAction):
    """The action behind kubepki.lifecycle.internal.recovery_plan."""

    _requires_connection = False

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Plan the recovery, or report what it did."""
        options = self.check_arguments(
            {
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
        looks, silent = self._collect(task_vars, options)
        if options["step"] == "plan":
            plan = recovery_plan.decide(looks, silent, options["control_planes"], options["partial"])
            self._display.display("\n".join(recovery_text.format_plan(plan)))
            result.update(plan=plan, question=recovery_text.format_question(plan))
            if plan["refusal"]:
                result.update(failed=True, msg="Nothing was changed anywhere. " + plan["refusal"])
            return
        plan = node_results.to_plain(options["plan"])
        seconds = round(time.time() - options["began"], 1) if options["began"] else None
        artifact = recovery_text.summarise(plan, looks, options["ready"], options["failed"], seconds, self._task.check_mode)
        self._display.display(recovery_text.format_summary(artifact))
        result.update(artifact=artifact, incomplete=recovery_text.list_incomplete(plan, options["failed"]))
        result["ansible_stats"] = node_results.run_statistics(artifact)

    @staticmethod
    def _collect(task_vars: Mapping[str, Any], options: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, str]]:
        """Return ({host: what recovery_look returned, with its report}, {host: why there is none})."""
        looks, silent = node_results.sort_registered(task_vars, options["hosts"], options["looks"], "look")
        reports, unread = node_results.sort_registered(task_vars, list(looks), options["reports"], "node")
        silent.update(unread)
        looks = {
            host: dict(looks[host], node=report) if isinstance(looks[host], dict) else looks[host]
            for host, report in reports.items()
        }
        for host, look in looks.items():
            said = node_results.read_registered(
                task_vars, host, options["rehearsals"], ("leaves", "skipped", "unreachable", "msg")
            )
            # recovery_plan.decide() reports a malformed look.
            usable = isinstance(look, dict) and isinstance(look.get("problems"), list)
            if usable and said and "leaves" not in said and not said.get("skipped"):
                look["problems"] = look["problems"] + [said.get("msg") or "The renewal could not be rehearsed."]
        return looks, silent
