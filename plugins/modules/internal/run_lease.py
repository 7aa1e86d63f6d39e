#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lease
short_description: Holds a Lease while a job changes the cluster, so that two controllers do not work on it at the same time
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Takes, renews and releases the Lease C(kubepki-run) in C(kube-system), through the C(admin.conf) of a control-plane node.
  - Where another run holds it, the task fails and names the holder, since when it has it, and when it expires. An expired Lease
    is taken. So is that of a run which started on the same controller and whose process has ended.
  - Where the API does not answer, or does not allow it, the task warns and does not fail. A job that works without the API then
    runs without a Lease.
  - The Lease is not counted as a change.
  - Used by the playbooks. Its options may change.
author:
  - The kubepki.lifecycle authors (@kubepki)
attributes:
  check_mode:
    description: Writes nothing. A Lease that another run holds is a warning.
    support: full
  diff_mode:
    description: Shows no diff.
    support: none
  idempotent:
    description: The Lease of the same run is renewed.
    support: full
options:
  state:
    description:
      - V(held) takes it.
      - V(renewed) fails where this run does not hold it any more. The gate before each node does that.
      - V(released) gives it back.
    type: str
    choices: [held, renewed, released]
    default: held
  job:
    description: The playbook, for the message that another run gets.
    type: str
    default: a job
  take_over:
    description: Take it also from another run. That run stops before its next node.
    type: bool
    default: false
  holder:
    description: Identity of the run. By default the user, the host and the process of the controller.
    type: str
  instead_of:
    description: A holder that has ended, and that it is taken from.
    type: str
    default: ""
  kubeconfig:
    description: The kubeconfig of an administrator, on the node.
    type: path
    default: /etc/kubernetes/admin.conf
  api_timeout:
    description: For how long the API may take for an answer, in seconds.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Take the Lease of the run
  kubepki.lifecycle.internal.run_lease:
    job: renew_leaves
  delegate_to: "{{ groups['kube_control_plane'][0] }}"
  run_once: true
  register: lease
"""

RETURN = r"""
held:
  description: Whether this run holds the Lease now.
  returned: success
  type: bool
taken_from:
  description: The holder that it was taken from.
  returned: success
  type: str
holder:
  description: The other run that holds it.
  returned: when another run does
  type: str
unanswered:
  description: True. Nothing was done, because the host did not answer. The task does not count as unreachable.
  returned: when the host does not answer
  type: bool
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError, printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection, run_lease
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import run


def keep(module: AnsibleModule) -> dict:
    """Do what the state says and return the module's result. Raise PkiError only where another run holds the Lease."""
    options = module.params
    warnings: list[str] = []
    result = {"changed": False, "held": False, "taken_from": "", "warnings": warnings}
    try:
        api = api_connection.from_kubeconfig(options["kubeconfig"], timeout=options["api_timeout"])
        lease = run_lease.RunLease(api, options["holder"], options["job"])
        if options["state"] == "held":
            result["taken_from"] = lease.take(options["take_over"], options["instead_of"], module.check_mode)
        elif options["state"] == "renewed":
            lease.renew()
        elif not module.check_mode:
            lease.release()
        result["held"] = options["state"] != "released" and not module.check_mode
    except run_lease.LeaseRefused as refused:
        if not module.check_mode:
            raise
        warnings.append(str(refused))
        result["holder"] = refused.holder
    except PkiError as error:
        warnings.append(_NO_LEASE[options["state"]] % str(error))
        result["held"] = options["state"] == "renewed"
    if result["taken_from"] and not module.check_mode:
        warnings.append("The Lease of the run was taken from %s, which did not give it back." % printable(result["taken_from"]))
    return result


_NO_LEASE = {
    "held": "This run holds no Lease, so that another controller is not kept from working on this cluster: %s",
    "renewed": "The Lease of this run could not be renewed: %s",
    "released": "The Lease of this run could not be released, and expires by itself: %s",
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "renewed", "released"], "default": "held"},
            "job": {"type": "str", "default": "a job"},
            "take_over": {"type": "bool", "default": False},
            "holder": {"type": "str"},
            "instead_of": {"type": "str", "default": ""},
            "kubeconfig": {"type": "path", "default": api_connection.ADMIN_CONF},
            "api_timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    run(module, keep, needs=("yaml",))


if __name__ == "__main__":
    main()
