# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the keys of a CA to a node through memory: never by way of a file, whatever ansible.cfg says about pipelining."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _registered

_WHY = "the keys of the successors would lie in a file on their way to this node, as pipelining is not possible here"
_FIX = (
    "Unset ANSIBLE_KEEP_REMOTE_FILES if it is set, and become root by a way that allows pipelining (sudo does, su does not), "
    "then run again. Nothing was changed."
)


class ActionModule(ActionBase):
    """The action before kubepki.lifecycle.cert_ca.

    Without pipelining, Ansible writes a module with its arguments into a temporary file on the controller and copies that to the
    node (ansible.plugins.action: _execute_module).
    """

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Give the module's result."""
        result = super().run(tmp, task_vars)
        if not self._task.args.get("material"):
            result.update(_registered.from_node(self._execute_module(task_vars=task_vars)))
            return result
        usual = self._connection.get_option("pipelining")
        self._connection.set_option("pipelining", True)
        try:
            if self._is_pipelining_enabled("new"):
                result.update(_registered.from_node(self._execute_module(task_vars=task_vars)))
            else:
                result.update(failed=True, changed=False, msg="%s. %s" % (_WHY, _FIX), reason=_WHY, fix=_FIX)
        finally:
            self._connection.set_option("pipelining", usual)
        return result
