# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the module which run this is, and take over the Lease of an earlier run of this controller that has ended."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import run_identity
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction


class ActionModule(LifecycleAction):
    """The action before kubepki.lifecycle.internal.run_lease."""

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Fill in the module's result."""
        options = dict(self._task.args)
        options.setdefault("holder", run_identity.get_identity())
        try:
            found = self.run_module(task_vars, options)
        except AnsibleConnectionFailure as error:
            # Not "unreachable": for a task with run_once that ends the play for all of its hosts, also where it is ignored.
            host = self._task.delegate_to or task_vars.get("inventory_hostname")
            said = "%s did not answer, so that the Lease of the run is not looked after there: %s" % (host, printable(error, 200))
            result.update(changed=False, held=False, unanswered=True, warnings=[said])
            return
        holder = found.get("holder")
        if options.get("state", "held") == "held" and holder and run_identity.has_ended(holder):
            found = self.run_module(task_vars, dict(options, instead_of=holder))
        result.update(found)
