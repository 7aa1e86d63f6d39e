#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_look
short_description: What a node of a dead cluster is like
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Looks at what a recovery needs to know of a node beside its certificates, which M(kubepki.lifecycle.cert_expiry) lists - its
    CAs, etcd's data, static pods and kubelet, and what stands in the way of any change. Needs no API server.
  - M(kubepki.lifecycle.internal.recovery_plan) decides on it.
options:
  renew_below_days:
    description: A kubelet's certificate that has fewer days left is due.
    type: float
    default: 90
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
  - module: kubepki.lifecycle.internal.recovery_plan
  - module: kubepki.lifecycle.cert_expiry
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
"""

EXAMPLES = r"""
- name: What the node is like
  kubepki.lifecycle.internal.recovery_look:
  register: looked
"""

RETURN = r"""
look:
  description: What the node is like, for M(kubepki.lifecycle.internal.recovery_plan).
  returned: success
  type: dict
rehearse:
  description:
    - Whether M(kubepki.lifecycle.cert_leaf) can rehearse the renewal of the node's leaves in check mode. It cannot below a CA
      that has expired.
  returned: success
  type: bool
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.recovery import inspection


def look(module: AnsibleModule) -> Dict[str, Any]:
    """Look at the node."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    found = inspection.look(layout, options["renew_below_days"], options["state_dir"])
    return {"changed": False, "look": found, "rehearse": inspection.can_rehearse(layout, found)}


def main() -> None:
    """Run the module."""
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir"), renew_below_days={"type": "float", "default": 90}
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), look)


if __name__ == "__main__":
    main()
