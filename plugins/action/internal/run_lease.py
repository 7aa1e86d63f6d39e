# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says to the module who this run is, and takes the Lease of an earlier run of this controller that has ended."""

from __future__ import annotations

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _controller, _registered


class ActionModule(ActionBase):
    """The action before kubepki.lifecycle.run_lease."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Return the module's result."""
        result = super().run(tmp, task_vars)
        options = dict(self._task.args)
        options.setdefault("holder", _controller.identity())
        try:
            found = _registered.from_node(self._execute_module(module_args=options, task_vars=task_vars))
        except AnsibleConnectionFailure as error:
            # Not "unreachable": of a task with run_once that ends the play for all of its hosts, also where it is ignored.
            host = self._task.delegate_to or (task_vars or {}).get("inventory_hostname")
            said = "%s did not answer, so that the Lease of the run is not looked after there: %s" % (host, printable(error, 200))
            return dict(result, changed=False, held=False, unanswered=True, warnings=[said])
        holder = found.get("holder")
        if options.get("state", "held") == "held" and holder and _controller.has_ended(holder):
            found = _registered.from_node(self._execute_module(module_args=dict(options, instead_of=holder), task_vars=task_vars))
        result.update(found)
        return result
