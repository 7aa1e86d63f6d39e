#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many CertificateSigningRequests, decided by name, label or policy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: csr_review
short_description: List CertificateSigningRequests and decide the pending ones
version_added: 0.1.0
author:
  - The kubepki.lifecycle authors (@kubepki)
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Lists CertificateSigningRequests with what they ask for, decoded, and approves or denies them by name, by label, or by a
    policy.
  - One call lists several hundred requests; each one that is decided costs one more call, and each one that is left costs none.
  - Whatever a policy says, a request is left alone unless it is named when it would give C(system:masters) or another name that
    Kubernetes keeps for itself, or a node's identity to a requester who is not that node.
  - A request for a CA, and one that two programs could read differently, is never approved, named or not.
options:
  action:
    description:
      - V(list) only lists.
      - V(approve) approves what was named, or what the policy allows, and leaves the rest.
      - V(deny) denies what was named, what the label selects, or what the policy denies or could never allow, and leaves the
        rest.
    type: str
    choices: [list, approve, deny]
    default: list
  names:
    description:
      - The requests that are meant, one by one. Only requests that are named here pass in spite of what no policy may grant.
        All pending ones when empty.
    type: list
    elements: str
    default: []
  selector:
    description:
      - A label selector. With O(action=deny) and without a policy, everything it selects is denied.
      - With O(action=approve) it needs O(policy), O(policy_path) or O(names), because the requester writes the labels.
    type: str
  policy:
    description: A policy as YAML text. The collection's C(docs/requests.md) describes the format.
    type: str
  policy_path:
    description:
      - A file with the policy where the task runs; the name of the policy in messages where O(policy) is given.
      - Without names, label and policy, the built-in policy decides. It approves kubelets' serving certificates for their own
        names.
    type: path
  hosts:
    description:
      - The inventory, as host name and address. A serving certificate is then only for nodes in it.
    type: dict
    default: {}
  control_plane_hosts:
    description: The hosts in O(hosts) that are control-plane nodes. Only these may serve under the API's own address.
    type: list
    elements: str
    default: []
  reason:
    description: One word that says why they are approved or denied.
    type: str
  comment:
    description: A sentence that says so to people.
    type: str
extends_documentation_fragment:
  - kubepki.lifecycle.api
attributes:
  check_mode:
    support: full
    description: Decides and changes nothing.
  diff_mode:
    support: none
    description: The table shows what is decided.
  idempotent:
    support: full
    description: What is decided already is left alone.
notes:
  - Needs the Python library cryptography, and PyYAML, where the task runs.
seealso:
  - module: kubepki.lifecycle.cert_csr
"""

EXAMPLES = r"""
- name: Which requests are there
  kubepki.lifecycle.internal.csr_review:
  register: review

- name: Approve the serving certificates of the nodes in the inventory
  kubepki.lifecycle.internal.csr_review:
    action: approve
    hosts: {cp1: 192.0.2.11, w1: 192.0.2.21}
    control_plane_hosts: [cp1]

- name: Approve what a policy of one's own allows
  kubepki.lifecycle.internal.csr_review:
    action: approve
    policy_path: /etc/kubepki/policy.yml

- name: Deny two requests
  kubepki.lifecycle.internal.csr_review:
    action: deny
    names: [csr-8rq2l, csr-b6zvk]
    comment: Not agreed on
"""

RETURN = r"""
requests:
  description: The requests that were looked at, every text in them safe to print.
  returned: success
  type: list
  elements: dict
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
      description: The names in the request, such as C(DNS:a) and C(IP:192.0.2.1), at most 100 of them.
      type: list
      elements: str
      returned: always
    san_count: {description: How many names there are in the request., type: int, returned: always}
    key_type: {description: Type of the key., type: str, returned: always}
    key_sha256: {description: Digest of the public key., type: str, returned: always}
    problem: {description: Why the request cannot be read., type: str, returned: always}
    dangers: {description: What it would give away that no policy may grant., type: list, elements: str, returned: always}
    decision: {description: "C(approve), C(deny) or C(leave); null when listing.", type: str, returned: always}
    why: {description: Why that was decided., type: str, returned: always}
    rule: {description: The rule of the policy that decided., type: str, returned: always}
    refused: {description: Whether something no policy may grant stands in the way., type: bool, returned: always}
    error: {description: Why the decision could not be carried out., type: str, returned: always}
table:
  description: The same as lines of a table for people.
  returned: success
  type: list
  elements: str
counts:
  description: How many requests there are in each state, how many were approved, denied, left and refused.
  returned: success
  type: dict
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
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.csr_ops import csr_review
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import run


def main() -> None:
    """Build the options, hand them to the library."""
    options = dict(
        action={"type": "str", "choices": ["list", "approve", "deny"], "default": "list"},
        names={"type": "list", "elements": "str", "default": []},
        selector={"type": "str"},
        policy={"type": "str"},
        policy_path={"type": "path"},
        hosts={"type": "dict", "default": {}},
        control_plane_hosts={"type": "list", "elements": "str", "default": []},
        reason={"type": "str"},
        comment={"type": "str"},
        **api_connection.connection_options(env_fallback),
    )
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    run(module, lambda active: csr_review.many_requests(active.params, active.check_mode))


if __name__ == "__main__":
    main()
