# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Summarise, on the controller, what the nodes returned about their kubelets' credentials."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import kubelet_run, node_results
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction

# The fields of a registered result that the summary needs.
_FIELDS = (
    "unreachable",
    "failed",
    "msg",
    "action",
    "changed",
    "node",
    "signing",
    "answer",
    "reasons",
    "after",
    "proof",
    "skipped",
)


class ActionModule(LifecycleAction):
    """The action behind kubepki.lifecycle.internal.kubelet_summary."""

    _requires_connection = False

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Collect requests or answers for the next task, or report what happened on each node."""
        options = self.check_arguments(
            {
                "job": {"type": "str", "default": "reissue_kubelets"},
                "step": {"type": "str", "choices": ["requests", "answers", "report"], "default": "report"},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "needed": {"type": "list", "elements": "str", "default": []},
                "requests": {"type": "str", "required": True},
                "installs": {"type": "str"},
                "serving_requests": {"type": "str"},
                "serving_installs": {"type": "str"},
                "authorities": {"type": "str"},
                "began": {"type": "float"},
            }
        )
        result["changed"] = False
        requests = {
            host: node_results.read_registered(task_vars, host, options["requests"], _FIELDS) for host in options["hosts"]
        }
        inventory = node_results.inventory_addresses(task_vars)
        if options["step"] == "requests":
            signing, absent, obstacle = kubelet_run.collect(requests, options["needed"], inventory)
            result.update(signing=signing, absent=absent, inventory=inventory)
            if obstacle:
                result.update(failed=True, msg=obstacle)
            return
        if options["step"] == "answers":
            found, absent = kubelet_run.serving_answers({host: _done(said) for host, said in requests.items()}, inventory)
            result.update(answers=found, absent=absent, inventory=inventory)
            return
        installs, asked, served, flags = (
            {host: _done(node_results.read_registered(task_vars, host, options[name], _FIELDS)) for host in options["hosts"]}
            for name in ("installs", "serving_requests", "serving_installs", "authorities")
        )
        flagged = [] if self._task.check_mode else [host for host in flags if flags[host].get("changed")]
        servings = {host: (asked[host], served[host]) for host in asked if asked[host]}
        artifact, skipped = kubelet_run.summarise(
            options["job"], requests, installs, options["began"], servings, len(flagged), inventory
        )
        self._display.display(kubelet_run.table(requests, installs, servings, inventory))
        self._display.display(kubelet_run.sentence(artifact))
        # The caller fails in a task of its own: of a failed task Ansible keeps no statistics, and the artifact would be lost.
        result.update(artifact=artifact, skipped_hosts=skipped, incomplete=kubelet_run.listed(skipped) if skipped else "")
        result["ansible_stats"] = node_results.run_statistics(artifact)


def _done(registered: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a result, or {} for that of a task that was skipped."""
    return {} if registered.get("skipped") else registered
