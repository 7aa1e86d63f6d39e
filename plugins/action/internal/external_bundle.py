# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of all nodes for an authority elsewhere: one folder on the controller, and what came back in it."""

from __future__ import annotations

import os

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import _registered, answers, csr_bundle

display = Display()
_TEXTS = ("name", "path", "ca", "request", "ca_certificate")


class ActionModule(ActionBase):
    """The action behind kubepki.lifecycle.external_bundle."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Give the task's result; a PkiError becomes its message."""
        result = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "directory": {"type": "path", "required": True},
                "step": {"type": "str", "choices": ["write", "collect", "close"], "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "result": {"type": "str", "required": True},
                "command": {"type": "str"},
                "seconds": {"type": "float", "default": 300},
                "days": {"type": "float"},
                "refuse_others": {"type": "bool", "default": False},
                "certificates": {"type": "list", "elements": "dict", "default": []},
            }
        )
        directory = os.path.abspath(os.path.expanduser(options["directory"]))
        result.update(changed=False, directory=directory)
        try:
            # Of the inventory: --limit takes hosts out of the play, and must not change what a host may request.
            groups = csr_bundle.Groups.of(task_vars.get("groups"))
            bundle = csr_bundle.Bundle(directory, groups, self._task.check_mode)
            said = {host: _asked(task_vars, host, options["result"]) for host in options["hosts"]}
            if options["step"] == "close":
                result["changed"] = bundle.close(_names(said, "renewed", "created"))
                return result
            asked = csr_bundle.entries({host: answer["requests"] for host, answer in said.items()}, groups, options["days"])
            result["changed"] = bundle.write(asked, {host: answer["looked"] for host, answer in said.items()})
            self._exchange(options, bundle, result)
        except PkiError as error:
            result.update(error.as_result(), failed=True, msg=str(error))
        return result

    def _exchange(self, options, bundle, result):
        for one in options["certificates"]:
            bundle.store(str(one["host"]), str(one["name"]), str(one["certificate"]))
            result["changed"] = True
        if options["refuse_others"] and bundle.unsigned():
            bundle.require_only_requested()
        if options["command"]:
            before = len(bundle.unsigned())
            bundle.sign(options["command"], options["seconds"])
            result["changed"] = result["changed"] or len(bundle.unsigned()) != before
        if options["step"] == "write":
            fields = ("host", "name", "ca", "days")
            result["unsigned"] = [dict({key: entry[key] for key in fields}, request=entry["pem"]) for entry in bundle.unsigned()]
            return
        result["certificates"], result["waiting"] = bundle.by_host()
        count = sum(1 for entry in bundle.asked if entry["host"] in result["waiting"])
        result["awaited"] = count
        if count:
            display.display(
                "%d requests of %s wait to be signed: see %s. Nothing was changed there; run the same again when the "
                "certificates are in it." % (count, ", ".join(result["waiting"]), bundle.at("README.txt"))
            )


def _names(said, *actions):
    return {host: [row["name"] for row in answer["leaves"] if row["action"] in actions] for host, answer in said.items()}


def _asked(task_vars, host, name):
    """Give what a host registered: {"requests", "leaves", "looked"}."""
    value = _registered.registered(task_vars, host, name, ("requests", "leaves"))
    fault = answers.fault(value, answers.EXTERNAL)
    if fault:
        raise PkiError(answers.sentence(fault), path=host)
    leaves = [{"name": str(row["name"]), "action": str(row["action"])} for row in value.get("leaves") or []]
    requests = [dict({key: str(one[key]) for key in _TEXTS}, days=float(one["days"])) for one in value.get("requests") or []]
    return {"requests": requests, "leaves": leaves, "looked": [row["name"] for row in leaves]}
