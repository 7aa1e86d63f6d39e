#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mounted_trust
short_description: Wait until the pods of a node have mounted what a phase of a CA rotation needs
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Waits until every pod of the node has the whole cluster trust in its mounted C(ca.crt), which the kubelet updates within about
    a minute and a half. Fails with the first pod that does not.
options:
  timeout:
    description: How many seconds to wait.
    type: int
    required: true
  ca:
    description:
      - The CA that these files have to hold, by the digest of its public key. Without it, all that this node trusts, of which a
        pod may lack the one that is being dropped.
    type: str
  old_sa:
    description:
      - Also wait until no pod of this node has a token mounted that this service-account key signed, given by its digest, and no
        kubeconfig of a CNI plugin (C(/etc/cni/net.d/*kubeconfig*)) holds one. A client with such a token is refused once the key
        is dropped.
    type: str
  bundles:
    description:
      - Also wait until these files of ClusterTrustBundle volumes hold the same, as
        RV(kubepki.lifecycle.internal.api_dependents#module:bundle_files) gives them for this node. Kubelets look every five
        minutes, which are added to O(timeout).
    type: list
    elements: dict
    default: []
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
"""

EXAMPLES = r"""
- name: Wait until every pod of this node has mounted the trust of the cluster
  kubepki.lifecycle.internal.mounted_trust:
    timeout: 180
"""

RETURN = r"""
mounted:
  description: C(files), how many service accounts' C(ca.crt) the pods of the node have mounted.
  returned: always
  type: dict
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import mounted_trust


def look(module: AnsibleModule) -> Dict[str, Any]:
    """Wait and return the module's result. Raise PkiError with the first pod that lacks what is waited for."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    count = mounted_trust.wait(layout, options["timeout"], options["ca"], options["old_sa"], options["bundles"])
    return {"changed": False, "mounted": {"files": count}}


def main() -> None:
    """Run the module."""
    spec = runner.path_options("kubernetes_dir", "kubelet_dir")
    spec.update(
        timeout={"type": "int", "required": True},
        ca={"type": "str"},
        old_sa={"type": "str"},
        bundles={"type": "list", "elements": "dict", "default": []},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), look)


if __name__ == "__main__":
    main()
