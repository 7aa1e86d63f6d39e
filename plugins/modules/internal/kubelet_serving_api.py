#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_serving_api
short_description: The API's part in the certificates that kubelets serve
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Decides, on a control-plane node, what M(kubepki.lifecycle.internal.kubelet_serving) asked for on the nodes.
  - A request is approved only when the node asks for itself, C(O=system:nodes, CN=system:node:NAME); its usages are those of the
    signer; every name in it is in the Node object, and the inventory gives none to another host; its validity is no longer than
    O(days); and its key is the one on that node. Otherwise it is denied, and the reason is in the request. Only what a node that
    did not ask in this run may have asked for itself is left.
options:
  state:
    description:
      - With V(decided), decides all pending requests of the signer C(kubernetes.io/kubelet-serving).
      - With V(published), switches C(serverTLSBootstrap) on in the ConfigMap C(kubelet-config) (C(kubelet-config-1.NN) before
        1.24), from which nodes that join or are upgraded get their configuration.
    type: str
    choices: [decided, published]
    required: true
  kubeconfig:
    description: The kubeconfig of an administrator, where the task runs.
    type: path
    default: /etc/kubernetes/admin.conf
  answers:
    description: With O(state=decided), what the nodes returned as RV(kubepki.lifecycle.internal.kubelet_serving#module:answer).
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: The inventory's name for the node.
        type: str
        required: true
      node:
        description: The name that the node has in the API.
        type: str
        required: true
      key:
        description: The digest of the public key that waits on the node.
        type: str
        required: true
  days:
    description: With O(state=decided), the longest validity that is approved. Before 1.22 the cluster decides.
    type: float
    default: 365
  hosts:
    description: With O(state=decided), the inventory, as host name and address.
    type: dict
    default: {}
  control_plane_hosts:
    description: With O(state=decided), the hosts in O(hosts) that are control-plane nodes.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Reports what would be done; nothing is decided or changed.
    support: full
  diff_mode:
    description: The table shows what is decided.
    support: none
  idempotent:
    description: What is decided, or switched on, is left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.internal.kubelet_serving
  - module: kubepki.lifecycle.internal.csr_review
"""

EXAMPLES = r"""
- name: Gather the keys, each under the host that it came from
  kubepki.lifecycle.internal.kubelet_summary:
    step: answers
    hosts: "{{ ansible_play_hosts }}"
    requests: serving
  run_once: true
  register: gathered

- name: Approve what is right, deny what is not
  kubepki.lifecycle.internal.kubelet_serving_api:
    state: decided
    answers: "{{ gathered.answers }}"
    hosts: {cp1: 192.0.2.11, w1: 192.0.2.21}
    control_plane_hosts: [cp1]
  delegate_to: "{{ groups['kube_control_plane'][0] }}"
  run_once: true

- name: Nodes that join or are upgraded ask, too
  kubepki.lifecycle.internal.kubelet_serving_api:
    state: published
"""

RETURN = r"""
requests:
  description: The requests that were looked at, as M(kubepki.lifecycle.internal.csr_review) returns them.
  returned: with O(state=decided)
  type: list
  elements: dict
table:
  description: The same as lines of a table for people.
  returned: with O(state=decided)
  type: list
  elements: str
counts:
  description: How many were approved, denied and left.
  returned: with O(state=decided)
  type: dict
api_calls:
  description: How many calls of the API it took.
  returned: with O(state=decided)
  type: int
config_map:
  description: The ConfigMap that had to change; empty when none had.
  returned: with O(state=published)
  type: str
seconds:
  description: How long the module took.
  returned: always
  type: float
  sample: 0.3
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.csr_ops import csr_review
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubelet_config_map


def decided(module: AnsibleModule) -> Dict[str, Any]:
    """Decide all pending requests."""
    return csr_review.serving_requests(
        api_connection.from_kubeconfig(module.params["kubeconfig"]), module.params, module.check_mode
    )


def published(module: AnsibleModule) -> Dict[str, Any]:
    """Switch serverTLSBootstrap on for nodes that join or are upgraded."""
    name = kubelet_config_map.publish(api_connection.from_kubeconfig(module.params["kubeconfig"]), module.check_mode)
    return {"changed": name is not None, "config_map": name or ""}


def main() -> None:
    """Run the module."""
    suboptions = {name: {"type": "str", "required": True, "no_log": False} for name in ("host", "node", "key")}
    spec = {
        "state": {"type": "str", "choices": ["decided", "published"], "required": True},
        "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
        "answers": {"type": "list", "elements": "dict", "default": [], "options": suboptions},
        "days": {"type": "float", "default": 365},
        "hosts": {"type": "dict", "default": {}},
        "control_plane_hosts": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    runner.run(module, {"decided": decided, "published": published}[module.params["state"]])


if __name__ == "__main__":
    main()
