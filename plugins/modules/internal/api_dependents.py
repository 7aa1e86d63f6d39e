#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: api_dependents
short_description: What of a cluster a change of trust has to reach, as its API shows it
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Runs on a control-plane node, with its C(admin.conf), and changes nothing.
  - Without O(nodes), lists what does not trust the CA that signs. M(kubepki.lifecycle.internal.cluster_trust) brings most
    of it in
    line; pods that have read their CA before it changed, and webhooks with a bundle of their own, are for their operators.
options:
  nodes:
    description:
      - The names of Nodes that are covered. Fails where the API has another one, or where one is not Ready, and lists nothing.
    type: list
    elements: str
  bundle_files:
    description:
      - List instead where pods have mounted a ClusterTrustBundle that kube-controller-manager publishes (Kubernetes 1.33 and
        newer), as O(kubepki.lifecycle.internal.mounted_trust#module:bundles) takes it. Pods are read only where there is one.
    type: bool
    default: false
attributes:
  check_mode:
    description: Does the same in check mode.
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
  - module: kubepki.lifecycle.internal.cluster_trust
  - module: kubepki.lifecycle.cluster_pki
extends_documentation_fragment:
  - kubepki.lifecycle.node
"""

EXAMPLES = r"""
- name: Who does not trust the CA that signs
  kubepki.lifecycle.internal.api_dependents:
  register: depending

- name: Every Node of the cluster is known here, and Ready
  kubepki.lifecycle.internal.api_dependents:
    nodes: [cp1, w1]
"""

RETURN = r"""
dependents:
  description: What does not trust the CA that signs - C(what), C(path), C(why). Empty with O(nodes) and O(bundle_files).
  returned: success
  type: list
  elements: dict
bundle_files:
  description: By the name of the Node, C(uid), C(volume) and C(path) of each such file.
  returned: with O(bundle_files)
  type: dict
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import reading
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection, trust_audit
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read


def look(module: AnsibleModule) -> Dict[str, Any]:
    """Ask the API. Raises PkiError."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    api = api_connection.from_kubeconfig(layout.paths["admin.conf"][0])
    if options["nodes"] is not None:
        trust_audit.check_nodes(api, options["nodes"])
        return {"changed": False, "dependents": []}
    if options["bundle_files"]:
        return {"changed": False, "dependents": [], "bundle_files": trust_audit.bundle_files(api)}
    bundle = reading.read(layout.paths["ca"][0])
    return {"changed": False, "dependents": trust_audit.find(api, bundle, x509_read.parse_certificate(bundle).key_sha256)}


def main() -> None:
    """Run the module."""
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir"),
        nodes={"type": "list", "elements": "str"},
        bundle_files={"type": "bool", "default": False},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), look)


if __name__ == "__main__":
    main()
