# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of all action plugins: options, errors as messages, modules whose results cannot change the run."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import check_options
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import node_results


class LifecycleAction(ActionBase):
    """An action that runs on the controller, around a module or instead of one.

    A subclass implements execute(). One that connects to no node sets _requires_connection to False.
    """

    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
        """Return the task's result. A PkiError becomes `msg`, `path`, `reason` and `fix` of a failed task."""
        result = super().run(tmp, task_vars)
        try:
            self.execute(result, task_vars or {})
        except PkiError as error:
            result.update(error.as_result(), failed=True, msg=str(error))
            result.setdefault("changed", False)
        return result

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Do the task and fill in its result. task_vars: the variables of the host, with hostvars and groups.

        Raise PkiError for what the operator can act on.
        """
        raise NotImplementedError

    def check_arguments(self, spec: Mapping[str, Any], **rules: Any) -> Dict[str, Any]:
        """Return the task's options, checked as those of a module are.

        spec: an argument spec. rules: required_if and the like. Raise AnsibleError for an option that Ansible refuses, PkiError
        for a value that no option means ("nan" days).
        """
        _result, options = self.validate_argument_spec(argument_spec=spec, **rules)
        check_options(spec, options)
        return options

    def run_module(
        self, task_vars: Mapping[str, Any], options: Optional[Mapping[str, Any]] = None, wrap_async: bool = False
    ) -> Dict[str, Any]:
        """Run the module of the task's name on the node and return its result, without what is for Ansible (sanitize_result).

        options: of the module, where they are not the task's. All actions of the collection run modules through this method.
        """
        return node_results.sanitize_result(
            self._execute_module(
                module_args=None if options is None else dict(options), task_vars=task_vars, wrap_async=wrap_async
            )
        )
