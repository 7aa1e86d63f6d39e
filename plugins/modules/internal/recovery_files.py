#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_files
short_description: What a recovery changes in a node's files before leaves and kubelets
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Brings the CAs of a node of a dead cluster back to life with the keys that they have, and notes what has to be started
    again. Needs no API server.
  - Leaves and kubeconfigs are then for M(kubepki.lifecycle.cert_leaf), the kubelet's own certificate for
    M(kubepki.lifecycle.internal.kubelet_credential).
  - What has to be started again is noted durably before the first file changes, so that a run that was killed is continued by
    the next one.
options:
  state:
    description:
      - V(prepared) notes O(restart), installs the CAs in O(authorities), and takes away a serving certificate that the kubelet
        made for itself and that has expired.
      - V(finished) forgets what was noted.
    type: str
    required: true
    choices: [prepared, finished]
  authorities:
    description:
      - With O(state=prepared), a mapping of CAs (C(ca), C(front-proxy-ca), C(etcd-ca)) to the renewed certificate in PEM. Where
        it is empty, one that has expired is renewed here. The key stays the same, or nothing is changed.
    type: dict
    default: {}
  restart:
    description: With O(state=prepared), the static pods to start again afterwards.
    type: list
    elements: str
    default: []
  note:
    description:
      - With O(state=prepared), note that a recovery has begun here. Without, as for a worker, there is nothing that a later
        run has to continue.
    type: bool
    default: true
  ca_days:
    description: For how many days a CA is renewed.
    type: float
    default: 3650
attributes:
  check_mode:
    description: Reports what would change; nothing is written.
    support: full
  diff_mode:
    description: RV(paths) says which files got a renewed CA.
    support: none
  idempotent:
    description: What is valid is left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.internal.recovery_plan
  - module: kubepki.lifecycle.internal.recovery_start
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
  - kubepki.lifecycle.node.backup
"""

EXAMPLES = r"""
- name: The cluster's CA lives on with the key it has
  kubepki.lifecycle.internal.recovery_files:
    state: prepared
    authorities: {ca: ""}
    restart: [etcd, kube-apiserver, kube-controller-manager, kube-scheduler]
  register: prepared

- name: All is done
  kubepki.lifecycle.internal.recovery_files:
    state: finished
"""

RETURN = r"""
certificates:
  description: The CAs in O(authorities) as the node has them now, in PEM, by name.
  returned: with O(state=prepared)
  type: dict
paths:
  description: The files that got a renewed CA.
  returned: with O(state=prepared)
  type: list
  elements: str
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import node_lock
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.recovery import recovery_journal, renew_cas


def prepared(module: AnsibleModule) -> Dict[str, Any]:
    """Write the journal of the recovery, renew the CAs, and return the module's result. Raise PkiError."""
    options, check = module.params, module.check_mode
    places = {name: options[name] for name in ("state_dir", "backup_dir", "backup_keep")}
    wanted = {name: pem.encode("ascii", "replace") if pem else None for name, pem in options["authorities"].items()}
    with node_lock.lock(options["state_dir"], check=check):
        if options["note"] and not check:
            recovery_journal.begin(options["restart"], bool(wanted), options["state_dir"])
        layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
        result = renew_cas.extend(layout, wanted, options["ca_days"], check, **places)
        dropped = renew_cas.drop_serving(layout, check, **places)
    return dict(result, changed=result["changed"] or dropped)


def finished(module: AnsibleModule) -> Dict[str, Any]:
    """Forget what was noted."""
    if not module.check_mode:
        with node_lock.lock(module.params["state_dir"]):
            recovery_journal.finish(module.params["state_dir"])
    return {"changed": False}


def main() -> None:
    """Run the module."""
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir", "backup_keep"),
        state={"type": "str", "required": True, "choices": ["prepared", "finished"]},
        authorities={"type": "dict", "default": {}},
        restart={"type": "list", "elements": "str", "default": []},
        note={"type": "bool", "default": True},
        ca_days={"type": "float", "default": 3650},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    runner.run(module, {"prepared": prepared, "finished": finished}[module.params["state"]])


if __name__ == "__main__":
    main()
