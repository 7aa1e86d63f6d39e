#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's kubeconfig, made where it lives."""

from __future__ import annotations

DOCUMENTATION = r"""
module: user_kubeconfig
short_description: Make, renew and prove a user's kubeconfig, with a key that never leaves its host
version_added: 0.1.0
author:
  - The kubepki.lifecycle authors (@kubepki)
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - The user's half of a credential. Makes the key and the request on the host where the kubeconfig will lie, and writes the
    kubeconfig when the request is signed. M(kubepki.lifecycle.internal.user_access) is the cluster's half.
  - The key waits in a hidden file with mode 0600 beside the kubeconfig until there is a certificate for it. An interrupted
    run goes on with the same key.
options:
  path:
    description:
      - The kubeconfig. Written with mode 0600. One of another user, or of another cluster (neither O(server) nor a CA of O(ca)
        is in it), is never overwritten or removed.
    type: path
    required: true
  user:
    description: The user's name.
    type: str
    required: true
  groups:
    description: The user's groups.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(requested) says whether a certificate is needed (none is there, it is about to expire, the groups differ, the
        CA was replaced), and gives the request for it.
      - V(present) writes the kubeconfig with O(certificate), and corrects server and CA of one that is there.
      - V(absent) removes it.
    type: str
    choices: [requested, present, absent]
    default: present
  certificate:
    description: The certificate that was issued for the request, as PEM.
    type: str
  ca:
    description: The CA bundle of the cluster, as PEM.
    type: str
  server:
    description: URL of the API server.
    type: str
  key_type:
    description: Type of the key that is made.
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
    default: rsa-2048
  renew_below_days:
    description: A certificate with fewer days left is renewed. When not given, one with less than a fifth of its validity left.
    type: float
  force:
    description: Renew it, whatever is left.
    type: bool
    default: false
  prove:
    description:
      - Whether the kubeconfig is tried with a request. V(auto) tries it, fails when the API refuses it, and warns when the API
        cannot be reached from this host. V(yes) fails then, too.
    type: str
    choices: ["auto", "yes", "no"]
    default: auto
  api_timeout:
    description: Seconds that this request may take.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Reports what would be done, and makes no key that stays.
  diff_mode:
    support: full
    description: Shows the certificate before and after, never key material.
  idempotent:
    support: full
    description: A kubeconfig that serves is left alone.
notes:
  - Needs the Python library cryptography, and PyYAML, where the task runs.
seealso:
  - module: kubepki.lifecycle.internal.user_access
"""

EXAMPLES = r"""
- name: Does alice need a certificate
  kubepki.lifecycle.internal.user_kubeconfig:
    path: ~/alice.kubeconfig
    user: alice
    groups: [developers]
    state: requested
  delegate_to: localhost
  register: alice

- name: Have it signed on a control-plane node
  kubepki.lifecycle.internal.user_access:
    user: alice
    groups: [developers]
    request: "{{ alice.request | default(omit, true) }}"
    kubeconfig: /etc/kubernetes/admin.conf
  register: signed

- name: Write the kubeconfig and try it
  kubepki.lifecycle.internal.user_kubeconfig:
    path: ~/alice.kubeconfig
    user: alice
    groups: [developers]
    certificate: "{{ signed.certificate | default(omit, true) }}"
    ca: "{{ signed.ca }}"
    server: "{{ signed.server }}"
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The kubeconfig.
  returned: success
  type: str
needed:
  description: Whether a certificate is needed.
  returned: success
  type: bool
why:
  description: Why it is needed, or null.
  returned: success
  type: str
request:
  description: The request to have signed, as PEM, or null.
  returned: success
  type: str
certificate_info:
  description: Subject, validity and fingerprint of the certificate, or null.
  returned: success
  type: dict
groups:
  description: The groups in the certificate of the kubeconfig that is removed.
  returned: when O(state=absent)
  type: list
  elements: str
proof:
  description: How the API answered (C(how), C(user), C(groups)), or null where it was not asked.
  returned: success
  type: dict
seconds:
  description: How long it took.
  returned: always
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.csr_ops import user_credential
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import run
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import private_keys


def main() -> None:
    """Build the options, hand them to the library."""
    options = {
        "path": {"type": "path", "required": True},
        "user": {"type": "str", "required": True},
        "groups": {"type": "list", "elements": "str", "default": []},
        "state": {"type": "str", "choices": ["requested", "present", "absent"], "default": "present"},
        "certificate": {"type": "str"},
        "ca": {"type": "str"},
        "server": {"type": "str"},
        "key_type": {"type": "str", "choices": list(private_keys.KEY_TYPES), "default": "rsa-2048", "no_log": False},
        "renew_below_days": {"type": "float"},
        "force": {"type": "bool", "default": False},
        "prove": {"type": "str", "choices": ["auto", "yes", "no"], "default": "auto"},
        "api_timeout": {"type": "int", "default": 10},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    run(module, lambda active: user_credential.user_kubeconfig(active.params, active.check_mode))


if __name__ == "__main__":
    main()
