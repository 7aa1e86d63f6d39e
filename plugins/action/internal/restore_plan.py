# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says, on the controller, which backup set each node goes back to, and refuses sets that do not belong together."""

from __future__ import annotations

import os

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import backups
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _registered, answers

display = Display()


class ActionModule(ActionBase):
    """The action behind kubepki.lifecycle.restore_plan."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Give the task's result."""
        result = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "hosts": {"type": "list", "elements": "str", "required": True},
                "plans": {"type": "str", "required": True},
            }
        )
        plans = {
            host: _registered.registered(task_vars, host, options["plans"], ("set", "restored")) for host in options["hosts"]
        }
        faults = {host: answers.fault(plan, answers.RESTORE) for host, plan in plans.items()}
        wrong = ["%s %s" % (host, answers.sentence(fault)) for host, fault in faults.items() if fault]
        if wrong:
            result.update(changed=False, failed=True, msg="Nothing was changed: " + " ".join(wrong))
            return result
        sets = {host: plan["set"] for host, plan in plans.items() if plan.get("set")}
        result.update(changed=False, sets=sets)
        display.display(
            "\n".join(
                "%s: %s, which changes %d files"
                % (host, printable(os.path.basename(sets[host])), len(plans[host].get("restored") or []))
                for host in sets
            )
        )
        obstacle = backups.mixed(sets)
        if obstacle:
            result.update(failed=True, msg=obstacle + " Nothing was changed.")
        return result
