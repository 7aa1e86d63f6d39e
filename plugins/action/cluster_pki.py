# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derives the phase of a rotation on the controller, from what the module of the same name saw on each node."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.catalogue import ROTATABLE
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _registered, rotation_plan


class ActionModule(ActionBase):
    """The action before kubepki.lifecycle.cluster_pki: with ``nodes`` nothing is asked of a node."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Give the task's result."""
        result = super().run(tmp, task_vars)
        if self._task.args.get("nodes") is None:
            result.update(_registered.from_node(self._execute_module(task_vars=task_vars)))
            return result
        began = time.monotonic()
        names = list(ROTATABLE)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "nodes": {"type": "list", "elements": "dict", "required": True},
                "hosts": {"type": "list", "elements": "str"},
                "names": {"type": "list", "elements": "str", "choices": names, "default": names},
                "target": {"type": "str", "choices": ["status", *rotation_plan.TARGETS], "default": "status"},
                "named": {"type": "bool", "default": True},
            }
        )
        try:
            nodes = _registered.heard(options["nodes"])
            if options["hosts"] is not None:
                groups = task_vars["groups"]
                keepers = [*groups.get("kube_control_plane", ()), *groups.get("etcd", ())]
                rotation_plan.require_bound(nodes, options["hosts"], keepers, _registered.addresses(task_vars))
            result.update(rotation_plan.derived(nodes, options["names"], options["target"], options["named"]))
        except PkiError as error:
            result.update(failed=True, changed=False, msg=str(error), **error.as_result())
        result["seconds"] = round(time.monotonic() - began, 3)
        return result
