# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the requests of all nodes for an external CA to one folder on the controller, and read the certificates back."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import (
    answers,
    csr_bundle,
    csr_requests,
    node_results,
    signing_command,
)
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction

_TEXTS = ("name", "path", "ca", "request", "ca_certificate")


class ActionModule(LifecycleAction):
    """The action behind kubepki.lifecycle.internal.external_bundle."""

    _requires_connection = False

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Do one step with the folder. Raise PkiError for a request or a certificate that must not be used."""
        options = self.check_arguments(
            {
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
        # Of the inventory: --limit takes hosts out of the play, and must not change what a host may request.
        groups = csr_requests.Groups.of(task_vars.get("groups"))
        bundle = csr_bundle.Bundle(directory, groups, self._task.check_mode)
        said = {host: _read_answer(task_vars, host, options["result"]) for host in options["hosts"]}
        if options["step"] == "close":
            result["changed"] = bundle.close(_names(said, "renewed", "created"))
            return
        asked = csr_requests.read_requests({host: answer["requests"] for host, answer in said.items()}, groups, options["days"])
        result["changed"] = bundle.write(asked, {host: answer["looked"] for host, answer in said.items()})
        self._exchange(options, bundle, result)

    def _exchange(self, options: Mapping[str, Any], bundle: csr_bundle.Bundle, result: Dict[str, Any]) -> None:
        for one in options["certificates"]:
            bundle.store(str(one["host"]), str(one["name"]), str(one["certificate"]))
            result["changed"] = True
        if options["refuse_others"] and bundle.unsigned():
            bundle.require_only_requested()
        if options["command"]:
            before = len(bundle.unsigned())
            signing_command.sign(bundle, options["command"], options["seconds"])
            result["changed"] = result["changed"] or len(bundle.unsigned()) != before
        if options["step"] == "write":
            fields = ("host", "name", "ca", "days")
            result["unsigned"] = [dict({key: entry[key] for key in fields}, request=entry["pem"]) for entry in bundle.unsigned()]
            return
        result["certificates"], result["waiting"] = bundle.by_host()
        count = sum(1 for entry in bundle.asked if entry["host"] in result["waiting"])
        result["awaited"] = count
        if count:
            self._display.display(
                "%d requests of %s wait to be signed: see %s. Nothing was changed there; run the same again when the "
                "certificates are in it." % (count, ", ".join(result["waiting"]), bundle.at("README.txt"))
            )


def _names(said: Mapping[str, Any], *actions: str) -> Dict[str, List[str]]:
    return {host: [row["name"] for row in answer["leaves"] if row["action"] in actions] for host, answer in said.items()}


def _read_answer(task_vars: Mapping[str, Any], host: str, name: str) -> Dict[str, Any]:
    """Return what a host registered, as {"requests", "leaves", "looked"}. Raise PkiError for a malformed one."""
    value = node_results.read_registered(task_vars, host, name, ("requests", "leaves"))
    fault = answers.fault(value, answers.EXTERNAL)
    if fault:
        raise PkiError(answers.sentence(fault), path=host)
    leaves = [{"name": str(row["name"]), "action": str(row["action"])} for row in value.get("leaves") or []]
    requests = [dict({key: str(one[key]) for key in _TEXTS}, days=float(one["days"])) for one in value.get("requests") or []]
    return {"requests": requests, "leaves": leaves, "looked": [row["name"] for row in leaves]}
