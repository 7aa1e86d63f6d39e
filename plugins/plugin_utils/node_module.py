# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module of this collection on its node, and take nothing from the result that is for Ansible instead of the caller."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _registered


class ActionModule(ActionBase):
    """The action of every module that runs on nodes and needs no more on the controller (plugins/action).

    Does what ansible.builtin.normal does. Of a task with async, the module's own result is read by ansible.builtin.async_status
    later, which this cannot see: no role or playbook of the collection uses async.
    """

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict:
        """Return the module's result without the keys that a node must not set (from_node)."""
        result = super().run(tmp, task_vars)
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        result.update(_registered.from_node(self._execute_module(task_vars=task_vars, wrap_async=wrap_async)))
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result
