#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of a cluster whose CA is elsewhere, signed through the Certificates API."""

from __future__ import annotations

DOCUMENTATION = r"""
module: csr_sign
short_description: Have many certificate requests signed through the Certificates API
version_added: 0.1.0
author:
  - The kubepki.lifecycle authors (@kubepki)
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Creates a CertificateSigningRequest for each request, approves them, and waits until their signer has signed all of them.
  - One call of the API lists them all, however many there are; one each creates and approves those that need it. A second run
    finds the same objects, because the name holds a digest of the key.
  - Kubernetes forgets an approved request after an hour, and a pending one after a day.
options:
  requests:
    description: The requests, as M(kubepki.lifecycle.internal.external_bundle) returns them.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: The host whose request it is.
        type: str
        required: true
      name:
        description: The name of the certificate.
        type: str
        required: true
      ca:
        description: The CA that has to sign it.
        type: str
        required: true
      request:
        description: The request (PKCS#10), PEM.
        type: str
        required: true
      days:
        description: The validity to ask for. Kubernetes before 1.22 does not know it.
        type: float
        default: 365
  signer_name:
    description:
      - Who has to sign, such as V(example.com/{ca}), in which C({ca}) stands for the name of the authority.
      - Kubernetes' own signers give no certificates for servers of the control plane, and need the CA's key on a node.
    type: str
    required: true
  approve:
    description: Whether they are approved here. Otherwise they are created, and those that were approved elsewhere are returned.
    type: bool
    default: true
  wait_timeout:
    description: How many seconds the signer may take for all of them.
    type: float
    default: 300
extends_documentation_fragment:
  - kubepki.lifecycle.api
attributes:
  check_mode:
    support: full
    description: Reports what would be created and approved.
  diff_mode:
    support: none
    description: RV(created) and RV(approved) name what changed.
  idempotent:
    support: full
    description: What is signed already is returned.
notes:
  - Needs the Python library cryptography, and PyYAML, where the task runs.
seealso:
  - module: kubepki.lifecycle.cert_csr
  - module: kubepki.lifecycle.internal.external_bundle
"""

EXAMPLES = r"""
- name: Signed by a controller of our own
  kubepki.lifecycle.internal.csr_sign:
    requests: "{{ bundle.unsigned }}"
    signer_name: example.com/{ca}
    kubeconfig: /etc/kubernetes/admin.conf
  register: signed
"""

RETURN = r"""
certificates:
  description: What is signed, as O(kubepki.lifecycle.internal.external_bundle#module:certificates) takes it.
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: The host whose request it was.
      type: str
      returned: success
    name:
      description: The name of the certificate.
      type: str
      returned: success
    certificate:
      description: The certificate, PEM.
      type: str
      returned: success
created:
  description: The CertificateSigningRequests that were made.
  returned: success
  type: list
  elements: str
approved:
  description: Those that were approved.
  returned: success
  type: list
  elements: str
awaited:
  description: Those that are not signed yet.
  returned: success
  type: list
  elements: str
api_calls:
  description: How many calls of the API it took.
  returned: success
  type: int
seconds:
  description: How long it took.
  returned: always
  type: float
"""

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.csr_ops import csr_signing
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import run


def main() -> None:
    """Build the options, hand them to the library."""
    texts = {name: {"type": "str", "required": True} for name in ("host", "name", "ca", "request")}
    options = dict(
        requests={
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": dict(texts, days={"type": "float", "default": 365}),
        },
        signer_name={"type": "str", "required": True},
        approve={"type": "bool", "default": True},
        wait_timeout={"type": "float", "default": 300},
        **api_connection.connection_options(env_fallback),
    )
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    run(module, lambda active: csr_signing.sign_many(active.params, active.check_mode))


if __name__ == "__main__":
    main()
