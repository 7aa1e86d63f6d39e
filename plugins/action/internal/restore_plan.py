# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show, on the controller, which backup set each node restores, and refuse sets that do not belong together."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import backups
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import answers, node_results
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction


class ActionModule(LifecycleAction):
    """The action behind kubepki.lifecycle.internal.restore_plan."""

    _requires_connection = False

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Fill in {"sets": {host: path}}. Fail where they were made at different states of the cluster."""
        options = self.check_arguments(
            {
                "hosts": {"type": "list", "elements": "str", "required": True},
                "plans": {"type": "str", "required": True},
            }
        )
        plans = {
            host: node_results.read_registered(task_vars, host, options["plans"], ("set", "restored"))
            for host in options["hosts"]
        }
        faults = {host: answers.fault(plan, answers.RESTORE) for host, plan in plans.items()}
        wrong = ["%s %s" % (host, answers.sentence(fault)) for host, fault in faults.items() if fault]
        if wrong:
            result.update(changed=False, failed=True, msg="Nothing was changed: " + " ".join(wrong))
            return
        sets = {host: plan["set"] for host, plan in plans.items() if plan.get("set")}
        result.update(changed=False, sets=sets)
        self._display.display(
            "\n".join(
                "%s: %s, which changes %d files"
                % (host, printable(os.path.basename(sets[host])), len(plans[host].get("restored") or []))
                for host in sets
            )
        )
        obstacle = backups.explain_mixed_sets(sets)
        if obstacle:
            result.update(failed=True, msg=obstacle + " Nothing was changed.")
