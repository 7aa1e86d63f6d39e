#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_authority
short_description: Whether this node's API server verifies the kubelets it speaks to
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - By itself, kube-apiserver takes any certificate that a kubelet serves. With C(--kubelet-certificate-authority) it verifies
    them, so that logs, exec and port-forward reach the right kubelet.
  - This module returns what to change and proves the result; M(kubepki.lifecycle.static_pod_restart) changes the manifest.
options:
  value:
    description: Whether the flag shall be there.
    type: str
    choices: [set, remove]
    required: true
  step:
    description:
      - With V(check), returns the edits of the manifest, and with O(value=set) fails where a kubelet serves a certificate that
        does not verify for the address that this API server would dial (C(--kubelet-preferred-address-types)).
      - With V(prove), has this API server speak to the kubelet of every node, as C(kubectl logs) does.
      - With V(record), makes the ConfigMap C(kubeadm-config) say the flag, so that C(kubeadm upgrade) keeps it.
    type: str
    choices: [check, prove, record]
    required: true
  timeout:
    description: With O(step=check), how many seconds a kubelet may take to answer.
    type: int
    default: 10
  wait:
    description: With O(step=prove), for how many seconds it is tried.
    type: int
    default: 60
attributes:
  check_mode:
    description: Reports what would change. Kubelets that would be refused are a warning, as they may be due in the same run.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: A flag that is as it should be is left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.internal.kubelet_serving
extends_documentation_fragment:
  - kubepki.lifecycle.node
"""

EXAMPLES = r"""
- name: Every kubelet would be verified
  kubepki.lifecycle.internal.kubelet_authority:
    value: set
    step: check
  register: authority

- name: The API server restarts with the flag
  kubepki.lifecycle.static_pod_restart:
    names: [kube-apiserver]
    edits: "{{ authority.edits }}"
  when: authority.edits | length > 0

- name: Logs can be read
  kubepki.lifecycle.internal.kubelet_authority:
    value: set
    step: prove
"""

RETURN = r"""
edits:
  description: The change of the manifest, as M(kubepki.lifecycle.static_pod_restart) takes it. Empty when there is none.
  returned: with O(step=check)
  type: dict
verified:
  description: How many kubelets were verified, or reached.
  returned: with O(step=check) and O(step=prove)
  type: int
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import reading
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection, kubeadm_config
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import serving_verification


def work(module: AnsibleModule) -> Dict[str, Any]:
    """Do one step."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    wanted = options["value"] == "set"
    authority = serving_verification.KubeletVerification(layout)
    api = api_connection.from_kubeconfig(layout.paths["admin.conf"][0], server=authority.server)
    if options["step"] == "record":
        changed = kubeadm_config.publish_kubeadm_config(
            api, "apiServer", serving_verification.FLAG, authority.path if wanted else None, module.check_mode
        )
        return {"changed": changed}
    nodes = api.list("/api/v1/nodes")
    if options["step"] == "prove":
        serving_verification.wait_reached(api, nodes, options["wait"])
        return {"changed": False, "verified": len(nodes)}
    edits = authority.edits(wanted)
    result = {"changed": bool(edits), "edits": edits, "verified": 0}
    if wanted:
        try:
            serving_verification.require_verified(nodes, authority.types, reading.read(authority.path), options["timeout"])
            result["verified"] = len(nodes)
        except PkiError as error:
            if not module.check_mode:
                raise
            result["warnings"] = ["As things are now, nothing could be changed: %s" % error]
    return result


def main() -> None:
    """Run the module."""
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir"),
        value={"type": "str", "choices": ["set", "remove"], "required": True},
        step={"type": "str", "choices": ["check", "prove", "record"], "required": True},
        timeout={"type": "int", "default": 10},
        wait={"type": "int", "default": 60},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
