#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_trust
short_description: The API objects that carry the cluster's trust, as the node's files have it
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Runs on a control-plane node, with its C(admin.conf), and brings the API objects in line with the CA files of that node.
  - The ConfigMap C(cluster-info) gets the trust bundle, and C(kubeadm-config) says where kube-controller-manager's signing
    certificate lies while two CAs are trusted, so that a C(kubeadm upgrade) does not undo it. Another file that it names,
    such as an intermediate of your own, stays.
  - C(kube-root-ca.crt) of every namespace and the service-account token secrets are waited for; kube-controller-manager writes
    them.
  - Token secrets that another service-account key signed than the one that signs now are signed again.
  - C(extension-apiserver-authentication) is waited for. With O(exact=true), what it trusts too much is taken out, because the API
    servers only ever add to it, and taken out again while one that has not read its files yet puts it back.
  - Workloads of O(restart_namespaces) are restarted once for each change of trust, and waited for. Those whose pods are not
    replaced by themselves (paused, C(OnDelete), a C(partition)) are left alone, and a warning names them.
options:
  exact:
    description:
      - Whether C(extension-apiserver-authentication) may hold no other CA. To be used after the last API server has dropped the
        old CA. While a new or an old CA is on the node, two may be held whatever this says.
    type: bool
    default: false
  renewed:
    description:
      - For CAs that were renewed with their keys. The objects then have to hold these very certificates, and the workloads are
        restarted although nobody else is trusted; usually they are compared by key.
    type: bool
    default: false
  restart_namespaces:
    description: The namespaces whose Deployments, DaemonSets and StatefulSets are restarted, as they read the trust only once.
    type: list
    elements: str
    default: []
  wait:
    description:
      - Wait also for C(extension-apiserver-authentication) and for the workloads. When false, they go on by themselves, and a
        later call sees to their end.
    type: bool
    default: true
  timeout:
    description: How many seconds each of these may take to follow, and a rollout may stand still.
    type: int
    default: 120
attributes:
  check_mode:
    description: Reports what would change, and waits for nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Objects that are as they should be are left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.internal.api_dependents
  - module: kubepki.lifecycle.cert_ca
extends_documentation_fragment:
  - kubepki.lifecycle.node
"""

EXAMPLES = r"""
- name: The API's objects follow the files
  kubepki.lifecycle.internal.cluster_trust:
    restart_namespaces: [kube-system]
  run_once: true
"""

RETURN = r"""
changes:
  description: What changed, as sentences.
  returned: success
  type: list
  elements: str
left:
  description: The workloads that were not restarted, with the reason, as their pods are not replaced by themselves.
  returned: success
  type: list
  elements: str
waited:
  description: Seconds until C(kube-root-ca.crt) and the token secrets had followed.
  returned: success
  type: float
seconds:
  description: How long the module took.
  returned: always
  type: float
"""

import os
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import reading
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import (
    api_connection,
    kubeadm_config,
    trust_objects,
    workloads,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import local_ca
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import private_keys


def bring(module: AnsibleModule) -> Dict[str, Any]:
    """Bring the trust objects up to date and return the module's result. Raise PkiError."""
    options, check = module.params, module.check_mode
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    api = api_connection.from_kubeconfig(layout.paths["admin.conf"][0])
    bundle = reading.read(layout.paths["ca"][0])
    header = reading.read(layout.paths["front-proxy-ca"][0])
    changes = []
    if trust_objects.publish_cluster_info(api, bundle, check):
        changes.append("cluster-info trusts what ca.crt trusts")
    signing = os.path.join(os.path.dirname(layout.paths["ca"][0]), "ca-signing.crt")
    named = layout.flags.get("kube-controller-manager", {}).get("--cluster-signing-cert-file") == signing
    if kubeadm_config.publish_signing(api, signing, layout.paths["ca"][0], named, check):
        changes.append("kubeadm-config says where the signing certificate is")
    held = local_ca.local_cas(layout, ["ca", "front-proxy-ca", "sa"], with_keys=False)
    sa = held.pop("sa", None)
    if sa is not None and sa.current is not None:
        for secret in trust_objects.renew_tokens(api, private_keys.parse_private_key(sa.current.key_pem, sa.key_path), check):
            changes.append("token secret %s signed again" % secret)
    of = trust_objects.certificates_in if options["renewed"] else trust_objects.digests
    waited = 0.0 if check else trust_objects.wait_followers(api, bundle, options["timeout"], of)
    name = trust_objects.trust_name(bundle, of)
    several = options["renewed"] or len(trust_objects.digests(bundle)) > 1
    restarted, left = workloads.restart_workloads(api, options["restart_namespaces"], name, several, check)
    changes += ["%s restarted" % workload for workload in restarted]
    # Meanwhile the pods are replaced: they need kube-root-ca.crt, and this only the API servers.
    exact = options["exact"] and not any(one.next or one.previous for one in held.values())
    if options["wait"] and trust_objects.wait_extension(api, bundle, header, exact, options["timeout"], check, of):
        changes.append("extension-apiserver-authentication does not trust the old CA any more")
    if options["wait"] and not check:
        workloads.wait_workloads(api, options["restart_namespaces"], options["timeout"])
    warnings = (
        [
            "Not restarted, as their pods are not replaced by themselves; restart the pods that read ca.crt only once: %s"
            % ", ".join(left)
        ]
        if left
        else []
    )
    return {"changed": bool(changes), "changes": changes, "waited": waited, "left": left, "warnings": warnings}


def main() -> None:
    """Run the module."""
    spec = runner.path_options("kubernetes_dir", "kubelet_dir")
    spec.update(
        exact={"type": "bool", "default": False},
        renewed={"type": "bool", "default": False},
        restart_namespaces={"type": "list", "elements": "str", "default": []},
        wait={"type": "bool", "default": True},
        timeout={"type": "int", "default": 120},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), bring)


if __name__ == "__main__":
    main()
