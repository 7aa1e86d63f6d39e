#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: client_acceptance
short_description: Prove which CAs' clients the components of a node accept
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Connects to the components of a control-plane node with a client certificate of each CA, and fails unless all of them answer
    as O(expect) says. A component that reloads its files by itself gets 75 seconds.
options:
  names:
    description: The CAs whose clients are shown.
    type: list
    elements: str
    choices: [ca, front-proxy-ca, etcd-ca, sa]
    default: [ca, front-proxy-ca, etcd-ca, sa]
  expect:
    description:
      - With V(accepted), shows a client certificate of the staged new CA, or else of the CA that signs. It has to be accepted.
      - With V(refused), shows one of the CA that was dropped, which the phase complete has left for that. It has to be rejected.
    type: str
    required: true
    choices: [accepted, refused]
  components:
    description: The components that are asked. A kubelet that was not restarted takes up to a minute to follow.
    type: list
    elements: str
    choices: [apiserver, etcd-server, kubelet]
    default: [apiserver, etcd-server, kubelet]
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
  - module: kubepki.lifecycle.cluster_pki
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
"""

EXAMPLES = r"""
- name: Prove that the components of this node accept clients of the new CAs
  kubepki.lifecycle.internal.client_acceptance:
    expect: accepted
"""

RETURN = r"""
proven:
  description: What was asked and seen - C(authority), C(endpoint), C(seen), C(right).
  returned: always
  type: list
  elements: dict
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import client_acceptance


def look(module: AnsibleModule) -> Dict[str, Any]:
    """Wait until the components answer as expected and return the module's result. Raise PkiError where they do not."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    accepted = options["expect"] == "accepted"
    proven = client_acceptance.wait_until_proven(layout, options["names"], accepted, options["state_dir"], options["components"])
    return {"changed": False, "proven": proven}


def main() -> None:
    """Run the module."""
    names, components = list(catalogue.ROTATABLE), list(client_acceptance.COMPONENTS)
    spec = runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir")
    spec.update(
        names={"type": "list", "elements": "str", "choices": names, "default": list(names)},
        expect={"type": "str", "choices": ["accepted", "refused"], "required": True},
        components={"type": "list", "elements": "str", "choices": components, "default": components},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), look)


if __name__ == "__main__":
    main()
