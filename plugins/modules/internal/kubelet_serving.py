#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_serving
short_description: The certificate that a kubelet serves, signed by the cluster
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Gives a kubelet a serving certificate that the cluster signs, in two calls on the node with one of
    M(kubepki.lifecycle.internal.kubelet_serving_api) between them. The node makes a key and asks the cluster, with the kubelet's
    own credential (O(state=requested)); a control-plane node decides what all nodes asked for; the node installs its certificate
    together with C(serverTLSBootstrap), restarts its kubelet, and proves that it serves it (O(state=installed)).
  - A kubelet that asks by itself keeps the key in memory until it has the certificate, so that it cannot be compared with the
    request. Here the node tells the digest of its key before anything is approved.
options:
  state:
    description:
      - With V(requested), judges what the node has and, when another one is due, makes a key and asks.
      - With V(installed), installs what O(name) was given, restarts the kubelet, and proves it.
    type: str
    choices: [requested, installed]
    required: true
  mode:
    description:
      - With O(state=requested), whom it concerns. V(renew) is for kubelets that have C(serverTLSBootstrap) on, V(bootstrap) for
        all.
      - A kubelet whose configuration names a certificate of the user's own (C(tlsCertFile)) is left alone with both.
    type: str
    choices: [renew, bootstrap]
    default: bootstrap
  key_type:
    description: With O(state=requested), the type of the new key. The default is what a kubelet makes, C(ecdsa-p256).
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
  days:
    description:
      - With O(state=requested), the validity that is asked for. Before 1.22 the cluster decides.
    type: float
    default: 365
  credential_due:
    description:
      - With O(state=requested) in check mode, that the node's kubelet would have got another client certificate before. Where
        the API cannot be asked with the present one, that is no error, and the names are not compared with the Node's.
    type: bool
    default: false
  name:
    description: With O(state=installed), the RV(name) of the request. Without it, only a restart that was left undone is done.
    type: str
  timeout:
    description: With O(state=installed), how many seconds the signature, the kubelet and its proof may take each.
    type: int
    default: 120
attributes:
  check_mode:
    description: Reports what would be done; nothing is requested or installed.
    support: full
  diff_mode:
    description: Shows subject, validity and fingerprint of the certificate before and after, and never a key.
    support: full
  idempotent:
    description: A certificate that is not due is left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.internal.kubelet_credential
  - module: kubepki.lifecycle.internal.kubelet_serving_api
extends_documentation_fragment:
  - kubepki.lifecycle.kubelet
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
  - kubepki.lifecycle.node.backup
"""

EXAMPLES = r"""
- name: A key and a request, where a serving certificate is due
  kubepki.lifecycle.internal.kubelet_serving:
    state: requested
    host: "{{ inventory_hostname }}"
  register: serving

- name: Gather the keys, each under the host that it came from
  kubepki.lifecycle.internal.kubelet_summary:
    step: answers
    hosts: "{{ ansible_play_hosts }}"
    requests: serving
  run_once: true
  register: gathered

- name: Approve what is right, deny what is not
  kubepki.lifecycle.internal.kubelet_serving_api:
    state: decided
    answers: "{{ gathered.answers }}"
  delegate_to: "{{ groups['kube_control_plane'][0] }}"
  run_once: true

- name: Install it, and prove the kubelet
  kubepki.lifecycle.internal.kubelet_serving:
    state: installed
    name: "{{ serving.name }}"
  when: serving.action != 'keep'
"""

RETURN = r"""
node:
  description: The name that the node has in the API.
  returned: always
  type: str
  sample: worker-1
action:
  description:
    - V(keep), V(reissue) or V(restart) with O(state=requested).
    - V(kept), V(installed) or V(restarted) with O(state=installed).
  returned: always
  type: str
  sample: reissue
reasons:
  description: Why a certificate is due, or why it is left alone.
  returned: with O(state=requested)
  type: list
  elements: str
  sample: ["serverTLSBootstrap is off"]
name:
  description: The request that was made; empty when none was.
  returned: with O(state=requested)
  type: str
answer:
  description: What the decision needs - C(host), C(node) and C(key), the key's digest. Empty when nothing was asked.
  returned: with O(state=requested)
  type: dict
before:
  description: The certificate before, without its key.
  returned: with O(state=requested)
  type: dict
after:
  description: The certificate that was installed, without its key.
  returned: with O(state=installed)
  type: dict
paths:
  description: The files that were changed.
  returned: with O(state=installed)
  type: list
  elements: str
backup:
  description: The backup set that was made first.
  returned: when files were changed
  type: str
proof:
  description: >-
    What was seen of the restarted kubelet, as M(kubepki.lifecycle.internal.kubelet_restart) returns it, and
    C(served_seconds).
  returned: when the kubelet was restarted
  type: dict
seconds:
  description: How long the module took.
  returned: always
  type: float
  sample: 3.1
"""

from typing import Any, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    atomic,
    journals,
    node_lock,
    transaction_recovery,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    kubelet_files,
    kubelet_service,
    serving_certificate,
)


def _layout(options: Dict[str, Any]) -> layouts.Layout:
    return layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])


def _node(module: AnsibleModule, layout: layouts.Layout) -> Tuple[Optional[Any], Optional[List[str]]]:
    """Return the API client of this kubelet and the SANs of its Node; neither in check mode without a valid credential."""
    try:
        api = serving_certificate.connect(layout)
        return api, serving_certificate.own_sans(layout, api)
    except PkiError:
        # In the run itself, the credential is installed and proven by now.
        if module.check_mode and module.params["credential_due"]:
            return None, None
        raise


def requested(module: AnsibleModule) -> Dict[str, Any]:
    """Judge the serving certificate, and ask for another when it is due."""
    options = module.params
    with node_lock.lock(options["state_dir"], check=module.check_mode):
        if not module.check_mode:
            transaction_recovery.recover(kubelet_files.JOB, options["state_dir"])
        layout = _layout(options)
        api, sans = _node(module, layout)
        result = serving_certificate.examine(
            layout, options["mode"], sans, options["renew_below_days"], options["force"], options["state_dir"]
        )
        result.update(changed=result["action"] != kubelet_files.KEEP, name="", answer={})
        if result["action"] == kubelet_files.REISSUE:
            if not module.check_mode:
                asked = serving_certificate.request_certificate(
                    layout, api, sans, options["days"], options["key_type"], options["state_dir"]
                )
                result["name"] = asked["name"]
                result["answer"] = {"host": options["host"] or layout.node_name, "node": layout.node_name, "key": asked["key"]}
            after = {"subject": "CN=system:node:%s,O=system:nodes" % layout.node_name, "reasons": result["reasons"]}
            after.update({} if sans is None else {"sans": sans})
            result["diff"] = {"before": result["before"] or {}, "after": after}
    return result


def installed(module: AnsibleModule) -> Dict[str, Any]:
    """Install what was signed, restart the kubelet, prove it."""
    options, state_dir = module.params, module.params["state_dir"]
    with node_lock.lock(state_dir, check=module.check_mode):
        if not module.check_mode:
            transaction_recovery.recover(kubelet_files.JOB, state_dir)
        layout = _layout(options)
        certificate = key = None
        api = serving_certificate.connect(layout)
        sans = serving_certificate.own_sans(layout, api)
        if options["name"]:
            certificate, key = serving_certificate.wait_for_certificate(
                layout, api, options["name"], sans, options["timeout"], state_dir
            )
        installation = serving_certificate.ServingInstallation(layout, certificate, key)
        due = bool(installation.changes) or journals.Journal(journals.KUBELET_RESTART, state_dir).load() is not None
        result = {
            "node": layout.node_name,
            "changed": due,
            "paths": installation.paths(),
            "after": certificate.describe() if certificate else {},
            "action": "installed" if certificate else "restarted" if due else "kept",
        }
        if module.check_mode or not due:
            return result
        backup = installation.apply(state_dir, options["backup_dir"], options["backup_keep"])
        if backup:
            result["backup"] = backup
        result["proof"] = kubelet_service.restart(layout, options["timeout"], True, state_dir)
        current = serving_certificate.installed_certificate(layout)
        if current is not None:
            result["proof"]["served_seconds"] = serving_certificate.wait_until_serving(
                _layout(options), current, sans, options["timeout"]
            )
        for path in kubelet_files.expired_files(serving_certificate.current_path(layout), options["keep_files"]):
            atomic.remove(path)
    return result


def main() -> None:
    """Run the module."""
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir", "backup_keep"),
        state={"type": "str", "choices": ["requested", "installed"], "required": True},
        mode={"type": "str", "choices": ["renew", "bootstrap"], "default": "bootstrap"},
        renew_below_days={"type": "float", "default": 90},
        force={"type": "bool", "default": False},
        key_type={"type": "str", "no_log": False, "choices": ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"]},
        days={"type": "float", "default": 365},
        host={"type": "str"},
        credential_due={"type": "bool", "default": False},
        name={"type": "str"},
        keep_files={"type": "int", "default": 3},
        timeout={"type": "int", "default": 120},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    runner.run(module, {"requested": requested, "installed": installed}[module.params["state"]])


if __name__ == "__main__":
    main()
