# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of all action plugins: options, errors, results of modules."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import action_base, node_module

SPEC = {"days": {"type": "float", "required": True}, "step": {"type": "str", "choices": ["a", "b"], "default": "a"}}


class Checking(action_base.LifecycleAction):
    """An action that connects to no node and returns its options."""

    _requires_connection = False

    def execute(self, result, task_vars):
        options = self.check_arguments(SPEC)
        if options["step"] == "b":
            raise PkiError("the disk is full", path="/x", fix="Make room.")
        result.update(changed=True, options=options, host=task_vars.get("inventory_hostname"))


def action(of, **arguments):
    task = Task()
    task.action, task.args, task.async_val = "kubepki.lifecycle.cert_expiry", arguments, 0
    context = PlayContext()
    return of(task, connection_loader.get("local", context, "/dev/null"), context, DataLoader(), None, None)


def test_options_have_the_types_and_defaults_of_the_spec():
    result = action(Checking, days="2").run(task_vars={"inventory_hostname": "cp1"})
    assert (result["changed"], result["options"], result["host"]) == (True, {"days": 2.0, "step": "a"}, "cp1")


@pytest.mark.parametrize("arguments", [{}, {"days": "soon"}, {"days": 1, "step": "c"}, {"days": 1, "stepp": "a"}])
def test_options_that_ansible_refuses_end_the_task(arguments):
    with pytest.raises(AnsibleError):
        action(Checking, **arguments).run()


def test_an_option_that_means_nothing_is_a_message():
    result = action(Checking, days="nan").run()
    assert result["failed"] and "the option days is nan" in result["msg"]


def test_a_pki_error_is_a_message_and_no_traceback():
    result = action(Checking, days=1, step="b").run()
    assert result["failed"] and result["changed"] is False
    assert result["msg"] == "/x: the disk is full. Make room."
    assert (result["path"], result["reason"], result["fix"]) == ("/x", "the disk is full", "Make room.")


def test_the_result_of_a_module_is_cleaned(monkeypatch):
    returned = {"changed": True, "ansible_facts": {"kubepki_leaf_days": 1}, "add_host": {"host_name": "x"}}
    asked = []
    monkeypatch.setattr(node_module.ActionModule, "_execute_module", lambda _self, **options: asked.append(options) or returned)
    result = action(node_module.ActionModule).run(task_vars={"a": 1})
    assert result["changed"] and not {"ansible_facts", "add_host"} & set(result)
    assert asked == [{"module_args": None, "task_vars": {"a": 1}, "wrap_async": False}]
