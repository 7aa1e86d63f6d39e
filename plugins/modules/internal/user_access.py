#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's credential needs of the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: user_access
short_description: Issue a user's certificate and give or take away roles
version_added: 0.1.0
author:
  - The kubepki.lifecycle authors (@kubepki)
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - The cluster's half of a user's credential. Has a request signed through the Certificates API, and makes role bindings.
    M(kubepki.lifecycle.internal.user_kubeconfig) is the other half, and keeps the key where the user is.
options:
  user:
    description: The user's name, which becomes the user name in the cluster.
    type: str
    required: true
  groups:
    description: The user's groups.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(queried) only returns the server and the CA that a kubeconfig needs.
      - V(present) issues for O(request), then makes the bindings. Names and groups that Kubernetes or kubeadm keep for
        themselves are refused before anything is done.
      - V(absent) removes the bindings that this module made for this user alone, and its requests, and returns which other
        bindings still name the user, one of O(groups), or a group in one of the user's requests. A certificate that was issued
        stays valid until it expires, because Kubernetes reads no revocation list.
    type: str
    choices: [queried, present, absent]
    default: present
  request:
    description: The request as PEM, for exactly this user and these groups.
    type: str
  days:
    description: Validity in days. Kubernetes before 1.22 issues for as long as its controller manager says.
    type: float
    default: 365
  cluster_roles:
    description: ClusterRoles to give the user, in O(namespace) where that is set, in the whole cluster otherwise.
    type: list
    elements: str
    default: []
  roles:
    description: Roles in O(namespace) to give the user.
    type: list
    elements: str
    default: []
  namespace:
    description: Where the roles are given.
    type: str
  server:
    description: URL of the API server for the kubeconfig, where people use another one than O(kubeconfig) says.
    type: str
  wait_timeout:
    description: How many seconds to wait for the certificate.
    type: int
    default: 60
extends_documentation_fragment:
  - kubepki.lifecycle.api
attributes:
  check_mode:
    support: full
    description: Reads, compares and says what would be done.
  diff_mode:
    support: none
    description: The result lists what was done.
  idempotent:
    support: full
    description: Bindings that are there stay. A request is signed each time one is given.
notes:
  - Needs the Python library cryptography, and PyYAML, where the task runs.
seealso:
  - module: kubepki.lifecycle.internal.user_kubeconfig
"""

EXAMPLES = r"""
- name: Sign alice's request and let her look at everything
  kubepki.lifecycle.internal.user_access:
    user: alice
    groups: [developers]
    request: "{{ alice.request }}"
    cluster_roles: [view]

- name: Take away what gives alice access
  kubepki.lifecycle.internal.user_access:
    user: alice
    groups: [developers]
    state: absent
"""

RETURN = r"""
server:
  description: URL of the API server.
  returned: success
  type: str
ca:
  description: The CA bundle of the cluster as PEM.
  returned: success
  type: str
minor:
  description: The 28 of Kubernetes 1.28.
  returned: success
  type: int
certificate:
  description: The certificate as PEM, or null.
  returned: success
  type: str
actions:
  description: What was done, in order.
  returned: success
  type: list
  elements: str
kubeconfig_name:
  description: A file name for the user's kubeconfig, made of user and API server.
  returned: success
  type: str
groups:
  description: The groups that were looked at, from O(groups) and from the user's requests.
  returned: when O(state=absent)
  type: list
  elements: str
summary:
  description: What still gives access, and what was not looked at, as lines.
  returned: when O(state=absent)
  type: list
  elements: str
remaining:
  description: Other bindings that name the user or one of the groups.
  returned: when O(state=absent)
  type: list
  elements: dict
seconds:
  description: How long it took.
  returned: always
  type: float
"""

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.csr_ops import user_credential
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import run


def main() -> None:
    """Build the options, hand them to the library."""
    options = dict(
        user={"type": "str", "required": True},
        groups={"type": "list", "elements": "str", "default": []},
        state={"type": "str", "choices": ["queried", "present", "absent"], "default": "present"},
        request={"type": "str"},
        days={"type": "float", "default": 365},
        cluster_roles={"type": "list", "elements": "str", "default": []},
        roles={"type": "list", "elements": "str", "default": []},
        namespace={"type": "str"},
        server={"type": "str"},
        wait_timeout={"type": "int", "default": 60},
        **api_connection.connection_options(env_fallback),
    )
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    run(module, lambda active: user_credential.user_access(active.params, active.check_mode))


if __name__ == "__main__":
    main()
