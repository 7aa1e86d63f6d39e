# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derive the phase of a rotation on the controller, from what the module of the same name returned for each node."""

from __future__ import annotations

import time
from typing import Any, Dict, Mapping

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.catalogue import ROTATABLE
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import node_results, rotation_plan
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction


class ActionModule(LifecycleAction):
    """The action before kubepki.lifecycle.cluster_pki. With ``nodes`` it connects to no node."""

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Fill in the module's result, or state and plan of the rotation. Raise PkiError where no plan leads to the target."""
        if self._task.args.get("nodes") is None:
            result.update(self.run_module(task_vars))
            return
        began = time.monotonic()
        names = list(ROTATABLE)
        options = self.check_arguments(
            {
                "nodes": {"type": "list", "elements": "dict", "required": True},
                "hosts": {"type": "list", "elements": "str"},
                "names": {"type": "list", "elements": "str", "choices": names, "default": names},
                "target": {"type": "str", "choices": ["status", *rotation_plan.TARGETS], "default": "status"},
                "named": {"type": "bool", "default": True},
            }
        )
        try:
            nodes = node_results.to_printable(options["nodes"])
            if options["hosts"] is not None:
                groups = task_vars["groups"]
                ca_nodes = [*groups.get("kube_control_plane", ()), *groups.get("etcd", ())]
                rotation_plan.require_bound(nodes, options["hosts"], ca_nodes, node_results.inventory_addresses(task_vars))
            result.update(rotation_plan.derived(nodes, options["names"], options["target"], options["named"]))
        finally:
            result["seconds"] = round(time.monotonic() - began, 3)
