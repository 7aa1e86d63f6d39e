# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts together, on the controller, what the nodes said about their kubelets' credentials."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _registered, kubelet_run

display = Display()

# Of a registered result, what the summary looks at: the rest (requests, certificates, paths) stays where it is.
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


class ActionModule(ActionBase):
    """The action behind kubepki.lifecycle.kubelet_summary."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Give the task's result."""
        result = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
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
        requests = {host: _registered.registered(task_vars, host, options["requests"], _FIELDS) for host in options["hosts"]}
        inventory = _registered.addresses(task_vars)
        if options["step"] == "requests":
            signing, absent, obstacle = kubelet_run.collect(requests, options["needed"], inventory)
            result.update(signing=signing, absent=absent, inventory=inventory)
            if obstacle:
                result.update(failed=True, msg=obstacle)
            return result
        if options["step"] == "answers":
            found, absent = kubelet_run.serving_answers({host: _done(said) for host, said in requests.items()}, inventory)
            result.update(answers=found, absent=absent, inventory=inventory)
            return result
        installs, asked, served, flags = (
            {host: _done(_registered.registered(task_vars, host, options[name], _FIELDS)) for host in options["hosts"]}
            for name in ("installs", "serving_requests", "serving_installs", "authorities")
        )
        flagged = [] if self._task.check_mode else [host for host in flags if flags[host].get("changed")]
        servings = {host: (asked[host], served[host]) for host in asked if asked[host]}
        artifact, skipped = kubelet_run.summarise(
            options["job"], requests, installs, options["began"], servings, len(flagged), inventory
        )
        display.display(kubelet_run.table(requests, installs, servings, inventory))
        display.display(kubelet_run.sentence(artifact))
        # The caller fails in a task of its own: of a failed task Ansible keeps no statistics, and the artifact would be lost.
        result.update(artifact=artifact, skipped_hosts=skipped, incomplete=kubelet_run.listed(skipped) if skipped else "")
        result["ansible_stats"] = _registered.statistics(artifact)
        return result


def _done(registered):
    """Give a result, or {} for that of a task that was skipped."""
    return {} if registered.get("skipped") else registered
