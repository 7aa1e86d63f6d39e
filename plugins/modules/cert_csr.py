#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One CertificateSigningRequest, from the key to the certificate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cert_csr
short_description: Create, approve, deny, fetch and delete a Kubernetes CertificateSigningRequest
version_added: 0.1.0
author:
  - The kubepki.lifecycle authors (@kubepki)
description:
  - Makes a private key and a request (or takes a request), has it signed through the Certificates API, and returns and writes
    the certificate.
  - One person can create a request and another one approve it. Each uses this module with another O(state).
  - Speaks C(certificates.k8s.io/v1), and C(v1beta1) to servers that have nothing newer.
options:
  name:
    description: Name of the CertificateSigningRequest.
    type: str
    required: true
  state:
    description:
      - V(present) makes sure that the request is there. One that differs, was denied, that its signer refused, or whose
        certificate is about to expire is deleted and made again.
      - V(approved) approves it. With O(privatekey_path), O(request) or O(request_path) it is also made where it is missing.
        Without them, the request has to ask for exactly what the task says. O(common_name), O(organizations), O(sans) and
        O(expiration_seconds) that are not given mean none; O(signer_name) and O(usages) that are not given mean their defaults.
      - V(denied) denies it, with O(reason) and O(comment).
      - V(absent) deletes it.
    type: str
    choices: [present, approved, denied, absent]
    default: present
  request:
    description: The request as PEM.
    type: str
  request_path:
    description: A file with the request as PEM.
    type: path
  privatekey_path:
    description:
      - The private key to make a request with. It is made, with mode 0600, where it does not exist, and never replaced.
        Remove it to get a certificate for a new key.
    type: path
  key_type:
    description: Type of the key that is made.
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
    default: rsa-2048
  common_name:
    description: Common name in the request that is made. The API server takes it for the user name.
    type: str
  organizations:
    description: Organizations in the request that is made. The API server takes them for groups.
    type: list
    elements: str
  sans:
    description: Names in the request that is made, as C(DNS:name), C(IP:address), C(URI:uri) or C(email:address).
    type: list
    elements: str
  signer_name:
    description: Who is asked to sign. Signers of your own are supported; their controller has to sign what is approved.
    type: str
    default: kubernetes.io/kube-apiserver-client
  usages:
    description:
      - The usages asked for, as the API spells them. For signers of Kubernetes the default is what they are for.
      - A request that was made elsewhere and is approved may ask for fewer than the default, or for exactly those given here.
    type: list
    elements: str
  expiration_seconds:
    description:
      - The validity asked for, 600 at least. Kubernetes before 1.22 does not know it; the signer's own validity counts there, and
        the module says so.
    type: int
  allow_dangerous:
    description:
      - With O(state=approved), what the request may have although no policy may grant it, each by its exact name; users and
        groups such as C(system:masters), and OIDs of unknown extensions. Anything else of that kind is refused.
      - Nothing allows a request for a CA, or one that two programs could read differently.
    type: list
    elements: str
    default: []
  labels:
    description: Labels of the object.
    type: dict
    default: {}
  path:
    description: The file the certificate is written to. While it holds a certificate that serves, nothing is asked of the API.
    type: path
  renew_below_days:
    description: A certificate with fewer days left is renewed. When not given, one with less than a fifth of its validity left.
    type: float
  force:
    description: Make the request again, whatever is there.
    type: bool
    default: false
  wait:
    description: Whether to wait for the certificate. When not given, O(state=approved) waits and O(state=present) does not.
    type: bool
  wait_timeout:
    description: How many seconds to wait.
    type: int
    default: 60
  reason:
    description: One word that says why it is approved or denied.
    type: str
  comment:
    description: A sentence that says so to people.
    type: str
extends_documentation_fragment:
  - kubepki.lifecycle.api
attributes:
  check_mode:
    support: full
    description: Reads, compares and says what would be done.
  diff_mode:
    support: full
    description: Shows the decoded request before and after, never key material.
  idempotent:
    support: full
    description: The same request with a certificate that serves changes nothing.
notes:
  - Needs the Python library cryptography, and PyYAML, where the task runs.
seealso:
  - module: kubepki.lifecycle.internal.csr_review
"""

EXAMPLES = r"""
- name: A certificate for a robot, in one step
  kubepki.lifecycle.cert_csr:
    name: robot
    state: approved
    privatekey_path: /etc/robot/robot.key
    common_name: robot
    organizations: [robots]
    expiration_seconds: 86400
    path: /etc/robot/robot.crt

- name: Create the request, as one user
  kubepki.lifecycle.cert_csr:
    name: alice
    privatekey_path: ~/alice.key
    common_name: alice
    organizations: [developers]

- name: Approve exactly that request, as another user
  kubepki.lifecycle.cert_csr:
    name: alice
    state: approved
    common_name: alice
    organizations: [developers]

- name: Approve an administrator's request, who is named as such
  kubepki.lifecycle.cert_csr:
    name: break-glass
    state: approved
    signer_name: example.com/break-glass
    usages: [client auth]
    common_name: break-glass
    organizations: ["system:masters"]
    allow_dangerous: ["system:masters"]

- name: Deny a request
  kubepki.lifecycle.cert_csr:
    name: mallory
    state: denied
    reason: NotAgreed
    comment: The requester is unknown

- name: A webhook's serving certificate from a signer of one's own
  kubepki.lifecycle.cert_csr:
    name: webhook
    state: approved
    signer_name: example.com/serving
    usages: [digital signature, key encipherment, server auth]
    privatekey_path: /etc/webhook/tls.key
    common_name: webhook.default.svc
    sans: ["DNS:webhook.default.svc"]
    path: /etc/webhook/tls.crt
"""

RETURN = r"""
csr:
  description: The request as it is now, decoded. Null where there is none, or where the certificate file served already.
  returned: success
  type: dict
  contains:
    name: {description: Name of the request., type: str, returned: always}
    state: {description: "One of C(pending), C(approved), C(issued), C(denied), C(failed).", type: str, returned: always}
    reason: {description: The reason given with the state., type: str, returned: always}
    message: {description: The message given with the state., type: str, returned: always}
    signer: {description: Who is asked to sign., type: str, returned: always}
    requester: {description: The user who made the request., type: str, returned: always}
    requester_groups: {description: The groups of that user., type: list, elements: str, returned: always}
    usages: {description: The usages asked for., type: list, elements: str, returned: always}
    expiration_seconds: {description: The validity asked for., type: int, returned: always}
    age_seconds: {description: Time since the request was made., type: int, returned: always}
    labels: {description: Labels of the object., type: dict, returned: always}
    subject: {description: The subject in the request (RFC 4514)., type: str, returned: always}
    common_name: {description: The common name in the request., type: str, returned: always}
    organizations:
      description: The organizations in the request, which become groups.
      type: list
      elements: str
      returned: always
    sans:
      description: The names in the request, such as C(DNS:a) and C(IP:192.0.2.1).
      type: list
      elements: str
      returned: always
    key_type: {description: Type of the key., type: str, returned: always}
    key_sha256: {description: Digest of the public key., type: str, returned: always}
    problem: {description: Why the request cannot be read., type: str, returned: always}
    dangers: {description: What it would give away that no policy may grant., type: list, elements: str, returned: always}
certificate:
  description: The certificate as PEM, or null.
  returned: success
  type: str
certificate_info:
  description: Subject, names, validity and fingerprint of the certificate, or null.
  returned: success
  type: dict
actions:
  description: What was done, in order.
  returned: success
  type: list
  elements: str
seconds:
  description: How long it took.
  returned: always
  type: float
"""

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.csr_ops import one_csr
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import run
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import private_keys


def main() -> None:
    """Build the options, hand them to the library."""
    options = dict(
        name={"type": "str", "required": True},
        state={"type": "str", "choices": ["present", "approved", "denied", "absent"], "default": "present"},
        request={"type": "str"},
        request_path={"type": "path"},
        privatekey_path={"type": "path", "no_log": False},
        key_type={"type": "str", "choices": list(private_keys.KEY_TYPES), "default": "rsa-2048", "no_log": False},
        common_name={"type": "str"},
        organizations={"type": "list", "elements": "str"},
        sans={"type": "list", "elements": "str"},
        signer_name={"type": "str", "default": "kubernetes.io/kube-apiserver-client"},
        usages={"type": "list", "elements": "str"},
        expiration_seconds={"type": "int"},
        labels={"type": "dict", "default": {}},
        path={"type": "path"},
        renew_below_days={"type": "float"},
        force={"type": "bool", "default": False},
        wait={"type": "bool"},
        wait_timeout={"type": "int", "default": 60},
        allow_dangerous={"type": "list", "elements": "str", "default": []},
        reason={"type": "str"},
        comment={"type": "str"},
        **api_connection.connection_options(env_fallback),
    )
    module = AnsibleModule(
        argument_spec=options, supports_check_mode=True, mutually_exclusive=[("request", "request_path", "privatekey_path")]
    )
    run(module, lambda active: one_csr.one_request(active.params, active.check_mode))


if __name__ == "__main__":
    main()
