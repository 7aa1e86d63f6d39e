#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_files
short_description: The files of one phase of a CA rotation, on one node
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Brings the files of a control-plane node into a state of a CA rotation - the CA that signs, the trust bundles, and the
    leaves - in one transaction after one backup set. A second run changes nothing. A run that was killed at any point is
    finished or undone by the next one.
  - Restarts nothing. RV(restart), RV(reload) and RV(edits) say what has to happen next, also when an earlier run was
    interrupted before it happened. What the kubelet reads is the job of M(kubepki.lifecycle.internal.kubelet_credential).
  - One phase has to be complete on all control-plane nodes before the next begins; M(kubepki.lifecycle.cluster_pki) derives it.
options:
  state:
    description:
      - V(staged) makes a new CA for each of O(names) in C(/etc/kubernetes/pki.next), or installs that of O(material). A new CA
        that is staged already is used; there is never a third.
      - V(prepared) trusts both, and signs with the old CA. On a switched node it restores what the old CA had signed.
      - V(switched) signs with the new CA, and trusts both. The old CA is kept in C(/etc/kubernetes/pki.previous).
      - V(completed) trusts the new CA alone. What is removed stays in the backup set.
      - V(rolled_back) is as before the rotation. From V(switched), go back to V(prepared) first, on all control-plane nodes.
      - V(cross_signed) writes the new CA's certificate, signed by the old CA, to O(path), for clients that cannot be
        given the new CA in time. Append it to a server's certificate.
    type: str
    required: true
    choices: [staged, prepared, switched, completed, rolled_back, cross_signed]
  names:
    description:
      - The CAs of the cluster. Those that the node does not have are passed over.
      - V(etcd-ca) is refused where etcd is external, which means that C(kube-apiserver) uses one that is no static pod of this
        node.
    type: list
    elements: str
    choices: [ca, front-proxy-ca, etcd-ca, sa]
    default: [ca, front-proxy-ca, etcd-ca, sa]
  material:
    description:
      - With O(state=staged), new CAs that were made elsewhere, as RV(material) of another node or by the user. A mapping of
        the CA's name to C(certificate) and C(key), both in PEM. Checked before they are taken - an expired CA, a
        certificate that is none, a key that does not match and name constraints that forbid what must be signed are refused.
      - Where it is given, it has to hold every one of O(names) that the node has, so that the node makes none itself.
      - Use it under C(no_log) only.
    type: dict
  known:
    description:
      - RV(kubepki.lifecycle.cluster_pki#module:known), what all nodes together show of each CA - C(old) and C(new), the
        digests of the two keys, and C(drop), those that have to be dropped from every trust bundle. Without it, only this node is
        known.
    type: dict
    default: {}
  export:
    description: With O(state=staged), return the staged pairs as RV(material). Use it under C(no_log) only.
    type: bool
    default: false
  ca_days:
    description: For how many days a new CA is made. 73,000 is possible.
    type: float
    default: 3650
  key_type:
    description: The type of a new CA's key. Without it, that of the present one, or rsa-2048. A service-account key is RSA-2048.
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
  leaf_days:
    description: For how many days the leaves are issued that change their signer.
    type: float
    default: 365
  leaf_key_type:
    description: The type of their new keys. Without it each is of the type it has today.
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
  path:
    description: With O(state=cross_signed), the file of the certificate.
    type: path
attributes:
  check_mode:
    description: Reports what would change; nothing is made or written.
    support: full
  diff_mode:
    description: Shows the CA that signs, the trusted CAs and the leaves before and after, and never a key.
    support: full
  idempotent:
    description: A node that is in the state already is left alone.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.cluster_pki
  - module: kubepki.lifecycle.static_pod_restart
  - module: kubepki.lifecycle.internal.kubelet_credential
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
  - kubepki.lifecycle.node.backup
"""

EXAMPLES = r"""
- name: Trust the old and the new CAs
  kubepki.lifecycle.internal.rotation_files:
    state: prepared
  register: prepared
"""

RETURN = r"""
authorities:
  description: What the node holds now, by name - C(signer), C(next), C(previous) and C(bundle), as digests of the public keys.
  returned: for the CAs of a cluster
  type: dict
notes:
  description: What changed, as sentences.
  returned: always
  type: list
  elements: str
leaves:
  description: The leaves that changed their signer, before and after.
  returned: for the CAs of a cluster
  type: list
  elements: dict
restart:
  description: The static pods that have to be restarted, because they do not take these files up by themselves, or an earlier run
    ended before they were. Also others than the control plane's own, which mount one of these files (kube-vip with
    C(admin.conf)).
  returned: for the CAs of a cluster
  type: list
  elements: str
reload:
  description: The static pods that take a new leaf up by themselves, which can be proven.
  returned: for the CAs of a cluster
  type: list
  elements: str
edits:
  description: The flags that have to change in the manifests, as M(kubepki.lifecycle.static_pod_restart) takes them.
  returned: for the CAs of a cluster
  type: dict
ca_bundle:
  description: The certificates of the cluster CA in PEM that every client has to trust now.
  returned: for the CAs of a cluster, where the node has a cluster CA
  type: str
recovered:
  description: What became of a run that was killed - C(nothing), C(undone) or C(finished).
  returned: for the CAs of a cluster
  type: str
material:
  description: The staged pairs, secret.
  returned: with O(export=true)
  type: dict
certificate:
  description: The certificate, described.
  returned: with O(state=cross_signed)
  type: dict
backup:
  description: The backup set that was made first.
  returned: when files were changed
  type: str
seconds:
  description: How long the module took.
  returned: always
  type: float
"""


from typing import Any, Dict, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic, node_lock, reading
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import file_users
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import (
    ca_facts,
    ca_files,
    declaration,
    desired_state,
    new_ca,
    obstacles,
)

KEY_TYPES = ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"]
LEVELS = {"prepared": 1, "switched": 2, "completed": 3, "rolled_back": 0}

PHASES = {"prepared": "prepare", "switched": "switch", "completed": "complete", "rolled_back": "rollback of prepare"}


def ensure(module: AnsibleModule) -> Dict[str, Any]:
    """Bring the files of the node into the state and return the module's result. Raise PkiError."""
    with node_lock.lock(module.params["state_dir"], check=module.check_mode):
        return _cluster(module, module.params)


def _cluster(module: AnsibleModule, options: Dict[str, Any]) -> Dict[str, Any]:
    recovered = "nothing"
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    if not module.check_mode:
        recovered = declaration.recover(layout, options["state_dir"])
        if recovered != "nothing":
            layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    if layout.role not in (layouts.CONTROL_PLANE, layouts.ETCD):
        raise PkiError(
            "is no control-plane node: there is no CA on it",
            path=options["kubernetes_dir"],
            fix="Run this on the hosts of the group kube_control_plane; workers follow with kubelet_credential.",
        )
    obstacles.refuse_external_etcd(layout, options["names"])
    obstacles.refuse_external_signer(layout, options["names"])
    tree = pki_tree.read_tree(layout)
    if options["state"] == "cross_signed":
        return _cross_signed(module, options, layout)
    material = None
    if options["state"] == "staged":
        declared, staged = new_ca.declare_staged(
            tree, options["names"], _material(options), options["ca_days"], options["key_type"], _known(options)
        )
        if options["export"]:
            material = {
                name: {"certificate": signer.certificate_pem.decode("ascii"), "key": signer.key_pem.decode("ascii")}
                for name, signer in staged.items()
            }
    else:
        declared = desired_state.declare(
            tree,
            options["names"],
            LEVELS[options["state"]],
            options["leaf_days"],
            options["leaf_key_type"],
            options["state_dir"],
            _known(options),
        )
    result = {
        "recovered": recovered,
        "notes": declared.notes,
        "leaves": declared.leaves,
        "edits": declared.edits,
        "reload": sorted(declared.reloads - declared.restarts),
        "changed": declared.changed or recovered != "nothing",
    }
    before = ca_facts.facts(tree, options["state_dir"])
    waiting = set(declared.restarts) | set(before["pending"])
    if not module.check_mode:
        backup = declaration.apply(
            layout,
            declared,
            "cert-ca-" + options["state"].replace("_", "-"),
            options["state_dir"],
            options["backup_dir"],
            options["backup_keep"],
            PHASES.get(options["state"]),
        )
        if backup:
            result["backup"] = backup
            after = ca_facts.facts(
                pki_tree.read_tree(layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])), options["state_dir"]
            )
        else:
            after = before
        waiting = set(declared.edits) | set(after["pending"])
        result["authorities"] = _shown(after)
    else:
        result["authorities"] = _shown(before)
    written = list(declared.writes) + declared.removals
    result["restart"] = sorted(waiting & set(layout.manifests) | set(file_users.due(layout, written)))
    bundle = declared.trust.get("ca") or reading.read_if_exists(ca_files.places(layout, "ca", ca_files.CURRENT)[0])
    if bundle:
        result["ca_bundle"] = bundle.decode("utf-8")
    if material is not None:
        result["material"] = material
    if module._diff and (declared.notes or declared.leaves):
        result["diff"] = _diff(declared)
    return result


def _shown(facts: Dict[str, Any]) -> Dict[str, Any]:
    return {
        name: {key: view[key] for key in ("signer", "next", "previous", "bundle")} for name, view in facts["authorities"].items()
    }


def _diff(declared: desired_state.Declaration) -> Dict[str, str]:
    before = ["%s: %s" % (leaf["name"], _leaf_line(leaf["before"])) for leaf in declared.leaves]
    after = ["%s: %s" % (leaf["name"], _leaf_line(leaf["after"])) for leaf in declared.leaves]
    return {"before": "\n".join(before) + "\n", "after": "\n".join(after + declared.notes) + "\n"}


def _leaf_line(leaf: Dict[str, Any]) -> str:
    return "%s, until %s, sha256 %s" % (leaf["subject"], leaf["not_after"], leaf["sha256"][:16])


def _known(options: Dict[str, Any]) -> Dict[str, Any]:
    known = options["known"]
    if not all(isinstance(entry, dict) and {"old", "new", "drop"} <= set(entry) for entry in known.values()):
        raise PkiError("known has to give each CA old, new and drop", fix="Pass what cluster_pki returns as known.")
    return known


def _material(options: Dict[str, Any]) -> Optional[Dict[str, Tuple[bytes, bytes]]]:
    given = options["material"]
    if given is None:
        return None
    pairs = {}
    for name, pair in given.items():
        if not isinstance(pair, dict) or not isinstance(pair.get("key"), str):
            raise PkiError("material has to give each CA a certificate and a key", path=name)
        pairs[name] = (pair.get("certificate", "").encode("ascii", "replace"), pair["key"].encode("ascii", "replace"))
    return pairs


def _cross_signed(module: AnsibleModule, options: Dict[str, Any], layout: layouts.Layout) -> Dict[str, Any]:
    if not options["path"] or len(options["names"]) != 1 or options["names"] == ["sa"]:
        raise PkiError("a cross-signed certificate needs a path and one name of a CA", fix="Give path, and names with one CA.")
    certificate = new_ca.cross_signed(layout, options["names"][0])
    existing = reading.read_if_exists(options["path"])
    if existing is not None and new_ca.is_same_cross_sign(existing, certificate):
        return {"changed": False, "notes": [], "certificate": certificate.describe()}
    if not module.check_mode:
        atomic.write(options["path"], certificate.pem, mode=0o644)
    return {"changed": True, "notes": ["%s written" % options["path"]], "certificate": certificate.describe()}


def main() -> None:
    """Run the module."""
    spec = runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir", "backup_keep")
    spec.update(
        state={
            "type": "str",
            "required": True,
            "choices": ["staged", "prepared", "switched", "completed", "rolled_back", "cross_signed"],
        },
        names={
            "type": "list",
            "elements": "str",
            "choices": list(catalogue.ROTATABLE),
            "default": list(catalogue.ROTATABLE),
        },
        material={"type": "dict", "no_log": True},
        known={"type": "dict", "default": {}},
        export={"type": "bool", "default": False},
        ca_days={"type": "float", "default": 3650},
        key_type={"type": "str", "choices": KEY_TYPES, "no_log": False},
        leaf_days={"type": "float", "default": 365},
        leaf_key_type={"type": "str", "choices": KEY_TYPES, "no_log": False},
        path={"type": "path"},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), ensure)


if __name__ == "__main__":
    main()
