#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_pki
short_description: Derive the phase of a CA rotation from all nodes, and plan the next
version_added: 0.1.0
description:
  - Without O(nodes), reads the CAs of the node it runs on and returns RV(node), from which a phase is derived. It holds digests
    and names, no key material.
  - With O(nodes), the RV(node) of all nodes, derives the phase of each CA, explains it, and plans the way to O(target). That
    is done on the controller.
  - The phase is stored nowhere, so that any run on any controller knows where an interrupted one stopped. A state that cannot be
    explained is named and refused with the evidence.
  - Reads only.
options:
  nodes:
    description: RV(node) of every node of the cluster.
    type: list
    elements: dict
  hosts:
    description:
      - With O(nodes), the host that each of them came from, in the same order. What a node says about its name and role is then
        checked against the inventory.
    type: list
    elements: str
  names:
    description: The CAs to look at.
    type: list
    elements: str
    choices: [ca, front-proxy-ca, etcd-ca, sa]
    default: [ca, front-proxy-ca, etcd-ca, sa]
  named:
    description:
      - With O(nodes), whether the user named O(names). Otherwise the CA of an external etcd is left out of the plan, and not
        refused.
    type: bool
    default: true
  target:
    description:
      - With O(nodes), where to plan to. V(status) plans nothing.
      - V(all) goes on with what is under way until it is complete; where nothing is, it plans all three phases.
    type: str
    choices: [status, prepare, switch, complete, rollback, all]
    default: status
  dependents:
    description: Without O(nodes), also list what on this node still depends on another CA than the one that signs.
    type: bool
    default: false
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.cert_expiry
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
"""

EXAMPLES = r"""
- name: Read every node
  kubepki.lifecycle.cluster_pki:
  register: read

- name: Show the phase, and plan a whole rotation
  kubepki.lifecycle.cluster_pki:
    nodes: "{{ ansible_play_hosts | map('extract', hostvars, ['read', 'node']) | list }}"
    hosts: "{{ ansible_play_hosts }}"
    target: all
  run_once: true
  register: cluster
"""

RETURN = r"""
node:
  description: The facts of the node.
  returned: without O(nodes)
  type: dict
dependents:
  description: What on the node still depends on another CA than the one that signs - C(what), C(path), C(why).
  returned: with O(dependents)
  type: list
  elements: dict
cluster_dependents:
  description: With O(nodes) that were read with O(dependents), what on them only all nodes together show - C(node), C(what),
    C(path), C(why). These are kubeconfigs of CNI plugins whose token another service-account key signed than the one that signs.
  returned: with O(nodes)
  type: list
  elements: dict
phase:
  description: The phase of each CA.
  returned: with O(nodes)
  type: dict
  sample: {"ca": "prepared", "etcd-ca": "stable"}
names:
  description: The CAs that the plan is for.
  returned: with O(nodes)
  type: list
  elements: str
authorities:
  description: The whole derivation of each CA - C(phase), C(old), C(new), C(levels), C(pending), C(behind), C(evidence).
  returned: with O(nodes)
  type: dict
explanation:
  description: The same for people, line by line.
  returned: with O(nodes)
  type: list
  elements: str
plan:
  description: The steps to O(target), in order.
  returned: with O(nodes)
  type: list
  elements: dict
plan_text:
  description: The same for people, line by line.
  returned: with O(nodes)
  type: list
  elements: str
phases:
  description: The phases that the plan goes through, in order.
  returned: with O(nodes)
  type: list
  elements: str
work:
  description: What each of these phases concerns - C(names), its CAs, and C(nodes), those of each node.
  returned: with O(nodes)
  type: dict
  sample: {"switch": {"names": ["ca", "sa"], "nodes": {"cp1": ["ca", "sa"], "w1": ["ca"]}}}
holders:
  description: The node that holds the new CA of each CA, from which the others get it.
  returned: with O(nodes)
  type: dict
known:
  description:
    - What all nodes together show of each of RV(names) - C(old) and C(new), the digests of its keys, and C(drop), those that have
      to be dropped from every trust bundle, for O(kubepki.lifecycle.internal.rotation_files#module:known).
  returned: with O(nodes)
  type: dict
new_clients:
  description: The nodes whose kubelets get a new client certificate in the first of these phases.
  returned: with O(nodes)
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
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import cni_kubeconfigs
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import ca_facts, stale_trust


def look(module: AnsibleModule) -> Dict[str, Any]:
    """Read the CAs of this node and return the module's result. Raise PkiError where they cannot be read."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    tree = pki_tree.read_tree(layout)
    result = {"changed": False, "node": ca_facts.facts(tree, options["state_dir"])}
    if options["dependents"]:
        result["dependents"] = stale_trust.find(tree)
        result["node"]["tokens"] = cni_kubeconfigs.token_signers(layout)
    return result


def main() -> None:
    """Run the module."""
    spec = runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir")
    names = list(catalogue.ROTATABLE)
    spec.update(
        nodes={"type": "list", "elements": "dict"},
        hosts={"type": "list", "elements": "str"},
        names={"type": "list", "elements": "str", "choices": names, "default": list(names)},
        target={"type": "str", "choices": ["status", "prepare", "switch", "complete", "rollback", "all"], "default": "status"},
        named={"type": "bool", "default": True},
        dependents={"type": "bool", "default": False},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    runner.run(module, look)


if __name__ == "__main__":
    main()
