# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the keys of a CA to a node through memory, never through a file, whatever ansible.cfg says about pipelining."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction

_WHY = "the keys of the new CAs would be written to a file on their way to this node, because pipelining is not possible here"
_FIX = (
    "Unset ANSIBLE_KEEP_REMOTE_FILES if it is set, and become root by a way that allows pipelining (sudo does, su does not), "
    "then run again. Nothing was changed."
)


class ActionModule(LifecycleAction):
    """The action before kubepki.lifecycle.internal.rotation_files.

    Without pipelining, Ansible writes a module with its arguments into a temporary file on the controller and copies that to the
    node (ansible.plugins.action: _execute_module).
    """

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Fill in the module's result. Raise PkiError where a key would be written to a file."""
        if not self._task.args.get("material"):
            result.update(self.run_module(task_vars))
            return
        configured = self._connection.get_option("pipelining")
        self._connection.set_option("pipelining", True)
        try:
            if not self._is_pipelining_enabled("new"):
                raise PkiError(_WHY, fix=_FIX)
            result.update(self.run_module(task_vars))
        finally:
            self._connection.set_option("pipelining", configured)
