# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says to the module who this run is, and takes the Lease of an earlier run of this controller that has ended."""

from __future__ import annotations

__metaclass__ = type

from ansible.plugins.action import ActionBase
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _controller, _registered


class ActionModule(ActionBase):
    """The action before kubepki.lifecycle.run_lease."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Return the module's result."""
        result = super().run(tmp, task_vars)
        options = dict(self._task.args)
        options.setdefault("holder", _controller.identity())
        found = _registered.from_node(self._execute_module(module_args=options, task_vars=task_vars))
        holder = found.get("holder")
        if options.get("state", "held") == "held" and holder and _controller.has_ended(holder):
            found = _registered.from_node(self._execute_module(module_args=dict(options, instead_of=holder), task_vars=task_vars))
        result.update(found)
        return result
