#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the component that signs approved requests."""

from __future__ import annotations

DOCUMENTATION = r"""
module: signer_check
short_description: Read and verify the signers of approved CertificateSigningRequests
version_added: 0.1.0
author:
  - The kubepki.lifecycle authors (@kubepki)
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Reads C(--cluster-signing-cert-file), C(--cluster-signing-key-file) and the flags for single signers in the manifest of
    kube-controller-manager, and verifies each pair. The file holds exactly one certificate, the key belongs to it, it is an
    CA that has not expired, and the API server trusts it.
  - Where no component signs, returns the flags that let the cluster's CA sign, which
    M(kubepki.lifecycle.static_pod_restart) takes as C(edits).
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
notes:
  - Needs root on a control-plane node, and the Python libraries cryptography and PyYAML there.
seealso:
  - module: kubepki.lifecycle.cert_csr
  - module: kubepki.lifecycle.static_pod_restart
extends_documentation_fragment:
  - kubepki.lifecycle.node
"""

EXAMPLES = r"""
- name: Check the signers
  kubepki.lifecycle.internal.signer_check:
  register: signers

- name: Let the cluster's CA sign where no component does
  kubepki.lifecycle.static_pod_restart:
    names: [kube-controller-manager]
    edits: "{{ signers.edits }}"
  when: signers.edits | length > 0
"""

RETURN = r"""
signers:
  description: Kubernetes' own signers on this node.
  returned: success
  type: list
  elements: dict
  contains:
    signer: {description: The signer's name., type: str, returned: always}
    works: {description: Whether nothing is wrong with it., type: bool, returned: always}
    certificate_path: {description: What it signs with., type: str, returned: always}
    key_path: {description: The key of that., type: str, returned: always}
    certificate: {description: "Subject, validity and fingerprint of that.", type: dict, returned: always}
    problems: {description: What is wrong and what to do., type: list, elements: dict, returned: always}
problems:
  description: What is wrong with all of them.
  returned: success
  type: list
  elements: dict
works:
  description: Whether all of them work.
  returned: success
  type: bool
edits:
  description: The flags that are missing, as M(kubepki.lifecycle.static_pod_restart) takes them. Empty when none are.
  returned: success
  type: dict
edits_problem:
  description: Why missing flags cannot simply be set, or null.
  returned: success
  type: str
table:
  description: The same as lines for people.
  returned: success
  type: list
  elements: str
seconds:
  description: How long it took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import csr_signers
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import path_options, run
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read


def check(module: AnsibleModule) -> Dict[str, Any]:
    """Check the signers and return the module's result. Raise PkiError."""
    layout = layouts.find_layout(module.params["kubernetes_dir"], module.params["kubelet_dir"])
    found, common = csr_signers.inspect(layout, x509_read.now())
    edits, trouble = {}, None
    try:
        edits = csr_signers.enabling_edits(layout, found)
    except PkiError as error:
        trouble = str(error)
    return {
        "changed": False,
        "signers": [signer.row() for signer in found],
        "problems": [dict(problem.as_result(), message=str(problem)) for problem in common],
        "works": not common and not any(signer.problems for signer in found),
        "edits": edits,
        "edits_problem": trouble,
        "table": csr_signers.table(found, common, layout.flags[csr_signers.MANAGER]),
    }


def main() -> None:
    """Run the module."""
    run(AnsibleModule(argument_spec=path_options("kubernetes_dir", "kubelet_dir"), supports_check_mode=True), check)


if __name__ == "__main__":
    main()
