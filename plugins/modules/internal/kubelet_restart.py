#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_restart
short_description: Restarts the kubelet of a node, and returns when it is proven to work
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Restarts the systemd unit C(kubelet), and waits until another process runs, its health endpoint answers and, asked with the
    kubelet's own credential, the API says that the Node has renewed its lease and is Ready since the restart.
  - The node's pods keep running meanwhile.
  - Do not move manifests of static pods at the same time; M(kubepki.lifecycle.static_pod_restart) waits for its own.
options:
  due_only:
    description: Restart only when an earlier run has changed the kubelet's files and has not restarted it.
    type: bool
    default: false
  ready:
    description:
      - Wait until the API says that the Node is Ready. Without, for a cluster whose API is down, its own health has to do.
    type: bool
    default: true
  timeout:
    description: How many seconds the kubelet may take until it is proven.
    type: int
    default: 120
attributes:
  check_mode:
    description: Reports whether the kubelet would be restarted.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Restarts every time, unless O(due_only=true).
    support: partial
    details: With O(due_only=true), a second run does nothing.
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.internal.kubelet_credential
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
"""

EXAMPLES = r"""
- name: Restart the kubelet
  kubepki.lifecycle.internal.kubelet_restart:
"""

RETURN = r"""
node:
  description: The name that the node has in the API.
  returned: always
  type: str
  sample: worker-1
proof:
  description: What was seen of the restarted kubelet - C(pid), C(healthz), C(lease), C(heartbeat), C(ready), C(seconds).
  returned: when it was restarted
  type: dict
seconds:
  description: How long the module took.
  returned: always
  type: float
  sample: 3.1
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import journals, node_lock, transaction_recovery
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import kubelet_files, kubelet_service


def restart(module: AnsibleModule) -> Dict[str, Any]:
    """Restart the kubelet and prove it."""
    options = module.params
    with node_lock.lock(options["state_dir"], check=module.check_mode):
        if not module.check_mode:
            transaction_recovery.recover(kubelet_files.JOB, options["state_dir"])
        layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
        due = not options["due_only"] or journals.Journal(journals.KUBELET_RESTART, options["state_dir"]).load() is not None
        result = {"changed": due, "node": layout.node_name}
        if due and not module.check_mode:
            result["proof"] = kubelet_service.restart(layout, options["timeout"], options["ready"], options["state_dir"])
    return result


def main() -> None:
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir"),
        due_only={"type": "bool", "default": False},
        ready={"type": "bool", "default": True},
        timeout={"type": "int", "default": 120},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), restart)


if __name__ == "__main__":
    main()
