# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of the modules that run on nodes and need nothing else on the controller."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction


class ActionModule(LifecycleAction):
    """Run the module of the task's name on its node, as ansible.builtin.normal does.

    With async, ansible.builtin.async_status reads the module's result later, out of reach of sanitize_result. No role or playbook
    of the collection uses async.
    """

    _supports_check_mode = True
    _supports_async = True

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Fill in the module's result."""
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        result.update(self.run_module(task_vars, wrap_async=wrap_async))
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
