#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: control_plane_health
short_description: Check that every API server is ready and etcd has all its members
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Asks, from one control-plane node, every apiserver at its own address for C(/readyz), and every member of etcd for C(/health),
    which makes a linearizable read.
  - Changes nothing. It is the gate before a node is touched.
author:
  - The kubepki.lifecycle authors (@kubepki)
attributes:
  check_mode:
    description: Reads only, so that it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so that there is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
options:
  addresses:
    description:
      - Addresses of the apiservers. By default those of etcd's members, where etcd runs in static pods of the control-plane
        nodes, and otherwise those that the apiservers have registered themselves (the endpoints of the service C(kubernetes)).
    type: list
    elements: str
    default: []
  skip:
    description: Addresses that are not asked.
    type: list
    elements: str
    default: []
  expect:
    description: How many control-plane nodes there have to be; V(0) does not count.
    type: int
    default: 0
  known:
    description:
      - How many hosts of the inventory can be members of etcd; V(0) does not ask.
      - More members mean that the run does not see the whole cluster, as in a slice of a job. With an external etcd, more
        apiservers than O(expect) mean that.
    type: int
    default: 0
  wait:
    description: For how many seconds to look until all is well; V(0) looks once.
    type: int
    default: 0
  fail:
    description: Whether to fail when something is not well.
    type: bool
    default: true
extends_documentation_fragment:
  - kubepki.lifecycle.node
"""

EXAMPLES = r"""
- name: The control plane is healthy before the node is touched
  kubepki.lifecycle.internal.control_plane_health:
    expect: "{{ groups['kube_control_plane'] | length }}"
    wait: 60
"""

RETURN = r"""
healthy:
  description: Whether all is well.
  returned: success
  type: bool
apiservers:
  description: Every apiserver asked, with C(address), C(ready) and C(seen).
  returned: success
  type: list
  elements: dict
etcd:
  description: C(members) with C(name), C(url), C(healthy), C(seen), C(leader); how many are C(healthy), and the C(quorum).
  returned: success
  type: dict
problems:
  description: What is not well, one sentence each.
  returned: success
  type: list
  elements: str
waited:
  description: For how long it looked, in seconds.
  returned: success
  type: float
seconds:
  description: How long it took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import path_options, run
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import control_plane_health


def look(module: AnsibleModule) -> Dict[str, Any]:
    """Wait until the control plane is healthy and return the module's result. Raise PkiError."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    result = control_plane_health.wait(
        layout, options["wait"], options["expect"], options["addresses"], options["skip"], known=options["known"]
    )
    if options["fail"]:
        control_plane_health.require(result)
    return dict(result, changed=False)


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec=dict(
            path_options("kubernetes_dir", "kubelet_dir"),
            addresses={"type": "list", "elements": "str", "default": []},
            skip={"type": "list", "elements": "str", "default": []},
            expect={"type": "int", "default": 0},
            known={"type": "int", "default": 0},
            wait={"type": "int", "default": 0},
            fail={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    run(module, look)


if __name__ == "__main__":
    main()
