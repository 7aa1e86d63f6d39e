#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cert_leaf
short_description: Issue and renew the certificates of a node, all in one call
version_added: 0.1.0
description:
  - Renews the certificates of a kubeadm node that are due - PEM pairs, and kubeconfigs with embedded or with separate
    certificates - and makes those that are missing.
  - Renewal keeps subject, SANs and usages of the existing certificate, and makes a new key. Everything else in a kubeconfig
    stays.
  - Issues any other certificate that is described in O(leaves), from a key on the host or from a request made elsewhere.
  - All keys and certificates are made and checked before the first file changes; a backup set comes next; then all files
    change together. A run that was killed at any point is finished or undone by the next one.
  - Restarts nothing. RV(restart) and RV(reload) say what has to happen next.
  - Where the key of a CA is not on the node, makes keys and requests for it, and installs what comes back
    (O(external_ca), O(certificates)).
options:
  names:
    description:
      - The certificates to look at, by the names that C(kubeadm certs check-expiration) uses (such as V(apiserver),
        V(etcd-server), V(admin.conf)), or V(all) for all of these.
      - V(kubelet-client) and V(kubelet-serving) are not part of V(all).
      - A certificate that the user brought (another issuer than the CA on the node), or one that cannot be read, is replaced only
        when it is named one by one.
      - Defaults to V(all) when O(leaves) is not given, else to nothing.
    type: list
    elements: str
  skip_missing:
    description:
      - Pass over those in O(names) that do not belong to a node of this role, such as V(apiserver) on a host of etcd alone.
        Otherwise they are refused.
    type: bool
    default: false
  renew_below_days:
    description: A certificate with fewer days left is due. For those in O(leaves) at most a third of their validity counts.
    type: float
    default: 90
  force:
    description: Whether all are due, whatever they have left.
    type: bool
    default: false
  leaf_days:
    description: For how many days certificates are issued.
    type: float
    default: 365
  key_type:
    description:
      - The type of new keys. Without it each is of the type it has today.
      - A certificate is not due because its key is of another type; add O(force=true) to change all.
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
  new_key:
    description: Whether a renewed certificate gets a new key.
    type: bool
    default: true
  embed_ca:
    description: Whether a renewed kubeconfig also gets the CA bundle that is on the node.
    type: bool
    default: false
  external_ca:
    description:
      - What to do when a certificate is due and the key of its CA is not on the node. It does not concern O(leaves).
      - V(refuse) fails with that reason and changes nothing.
      - V(request) makes a new key and a request for each, which wait below O(state_dir), 0600, returns RV(requests), and does
        nothing else. Further runs return the same requests.
      - V(install) does the same, installs O(certificates), and renews what can be signed here as well. As long as a certificate
        is awaited, nothing on the node is renewed.
    type: str
    choices: [refuse, request, install]
    default: refuse
  certificates:
    description:
      - With O(external_ca=install), the certificates in PEM that were made for RV(requests), by their names.
      - Each is checked against its request, its key, its usages, its CA and its dates before the first file changes. Those of a
        node come in together, or not at all.
    type: dict
    default: {}
  leaves:
    description: Further certificates, whatever they are for.
    type: list
    elements: dict
    suboptions:
      name:
        description: What to call it in the result.
        type: str
        required: true
      path:
        description: The file of the certificate, PEM. Give O(leaves[].key_path), or O(leaves[].request), with it.
        type: path
      key_path:
        description: The file of the private key, PEM, mode 0600.
        type: path
      kubeconfig:
        description: A kubeconfig, in which the pair is embedded. One that is not there is made with O(leaves[].server).
        type: path
      server:
        description: The URL of the API server for O(leaves[].kubeconfig).
        type: str
      combined:
        description: One file for both certificate and key, PEM, mode 0600.
        type: path
      ca_path:
        description: The certificate of the CA that signs. Of a bundle the first signs.
        type: path
        required: true
      ca_key_path:
        description: The private key of the CA.
        type: path
        required: true
      common_name:
        description: The common name in the subject. With a request it wins over the request's.
        type: str
      organizations:
        description: The organizations (for Kubernetes, groups) in the subject.
        type: list
        elements: str
      sans:
        description: >-
          Subject alternative names, as C(DNS:name), C(IP:address), C(URI:...), C(email:...), or a bare name or address.
        type: list
        elements: str
      usages:
        description: V(server), V(client) or the OID of another extended key usage. Without it V(client).
        type: list
        elements: str
      days:
        description: The validity. Without it O(leaf_days) counts.
        type: float
      key_type:
        description: The type of the key. A certificate whose key is of another type is issued again.
        type: str
        choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
      request:
        description: >-
          A certificate request (PKCS#10, PEM), as a path on the host or as the PEM itself. Its key stays where it was made.
        type: str
      request_takes:
        description: What is taken from the request where the options here do not say it. Never that it be a CA.
        type: list
        elements: str
        choices: [subject, sans, usages]
        default: [subject, sans]
      owner:
        description: The owner of the files, as name or number.
        type: str
      group:
        description: The group of the files, as name or number.
        type: str
      mode:
        description: The mode of the file that holds the key, in octal, such as V("0600").
        type: str
attributes:
  check_mode:
    description: Reports what a run would do. Serial numbers and fingerprints are not known before it.
    support: full
  diff_mode:
    description: Shows the certificates before and after, parsed - subject, SANs, validity, fingerprints - and never a key.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: partial
    details: With O(force=true), or with O(leaf_days) below O(renew_below_days), every run renews.
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.cert_expiry
  - module: kubepki.lifecycle.file_backup
  - module: kubepki.lifecycle.static_pod_restart
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
  - kubepki.lifecycle.node.backup
"""

EXAMPLES = r"""
- name: Renew what has less than 90 days left
  kubepki.lifecycle.cert_leaf:
  register: renewed

- name: Components that do not reload their certificates by themselves
  kubepki.lifecycle.static_pod_restart:
    names: "{{ renewed.restart }}"
    unless_reloaded: "{{ renewed.reload }}"

- name: Renew two of them now, with other keys
  kubepki.lifecycle.cert_leaf:
    names: [apiserver, admin.conf]
    force: true
    key_type: ecdsa-p256

- name: A certificate for 199 years, for a site without network
  kubepki.lifecycle.cert_leaf:
    names: [etcd-server, etcd-peer]
    force: true
    leaf_days: 72635

- name: Issue a serving certificate for a webhook, signed by a CA of your own
  kubepki.lifecycle.cert_leaf:
    leaves:
      - name: webhook
        path: /etc/webhook/tls.crt
        key_path: /etc/webhook/tls.key
        ca_path: /etc/webhook/ca.crt
        ca_key_path: /etc/webhook/ca.key
        common_name: webhook.default.svc
        sans: [webhook.default.svc, webhook]
        usages: [server]
        owner: webhook

- name: An administrator's kubeconfig
  kubepki.lifecycle.cert_leaf:
    leaves:
      - name: root
        kubeconfig: /root/admin.conf
        server: https://k8s.example.com:6443
        ca_path: /etc/kubernetes/pki/ca.crt
        ca_key_path: /etc/kubernetes/pki/ca.key
        common_name: root
        organizations: ["system:masters"]
        days: 7

- name: Keys and requests for a cluster whose CA is elsewhere
  kubepki.lifecycle.cert_leaf:
    external_ca: request
  register: asked

- name: What was signed is checked and installed
  kubepki.lifecycle.cert_leaf:
    external_ca: install
    certificates:
      apiserver: "{{ lookup('ansible.builtin.file', 'signed/apiserver.crt') }}"

- name: Sign a request that was made elsewhere
  kubepki.lifecycle.cert_leaf:
    leaves:
      - name: etcd-4
        path: /root/etcd-4.crt
        request: "{{ lookup('ansible.builtin.file', 'etcd-4.csr') }}"
        ca_path: /etc/kubernetes/pki/etcd/ca.crt
        ca_key_path: /etc/kubernetes/pki/etcd/ca.key
        usages: [server, client]
"""

RETURN = r"""
missing:
  description: What O(skip_missing) passed over, because it does not belong to a node of this role.
  returned: success
  type: list
  elements: str
  sample: [apiserver]
leaves:
  description: One mapping per certificate that was looked at.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: success
    path:
      description: Its file.
      type: str
      returned: success
    action:
      description: >-
        V(kept), V(renewed), V(created), V(refused) for one that is due and was left as it is, V(requested) for one whose request
        waits to be signed, or V(held) for one that could be signed here and waits for those.
      type: str
      returned: success
    reason:
      description: Why, and what was assumed where there was nothing to take names from.
      type: str
      returned: success
    before:
      description: The certificate that was there, parsed; null where there was none.
      type: dict
      returned: success
    after:
      description: The certificate that is there now, parsed.
      type: dict
      returned: success
    new_key:
      description: Whether it got a new key.
      type: bool
      returned: success
    ca:
      description: The CA that signs it.
      type: str
      returned: success
    consumer:
      description: The component that reads it; null where no component keeps it open.
      type: str
      returned: success
    takes_up:
      description: >-
        How the consumer reloads a new file - V(reloads) by itself, V(client) at a later handshake, V(restarts) only by a
        restart, V(nobody).
      type: str
      returned: success
  sample:
    - name: apiserver
      path: /etc/kubernetes/pki/apiserver.crt
      action: renewed
      reason: it has 12 days left
      new_key: true
      ca: ca
      consumer: kube-apiserver
      takes_up: reloads
restart:
  description:
    - Components that use the changed files only after a restart.
    - Also those that run since before their kubeconfig was last written.
    - Also static pods that are no component of the control plane and use a file that was replaced, now or since they started
      (kube-vip with C(admin.conf)). A mount of a single file never shows the new one.
  returned: success
  type: list
  elements: str
  sample: [kube-controller-manager, kube-scheduler]
reload:
  description:
    - Components that reload their certificates by themselves, which what they serve then proves.
    - Named whether anything changed or not, so that a run after an interrupted one proves them, too.
  returned: success
  type: list
  elements: str
  sample: [etcd, kube-apiserver]
backup:
  description: The backup set that was made before the change; null when nothing changed.
  returned: success
  type: str
  sample: /var/lib/kubepki/backups/20261121T190000.000000Z-cert-leaf
requests:
  description: Unless O(external_ca=refuse), what has to be signed elsewhere before anything on the node is renewed.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the certificate.
      type: str
      returned: success
    path:
      description: Its file.
      type: str
      returned: success
    request:
      description: The request (PKCS#10), PEM.
      type: str
      returned: success
    ca:
      description: The CA that has to sign it.
      type: str
      returned: success
    ca_certificate:
      description: The certificate of that CA, PEM.
      type: str
      returned: success
    subject:
      description: The subject asked for.
      type: str
      returned: success
    sans:
      description: The names asked for.
      type: list
      elements: str
      returned: success
    usages:
      description: The extended usages asked for.
      type: list
      elements: str
      returned: success
    key_type:
      description: The type of the key.
      type: str
      returned: success
    days:
      description: The validity asked for.
      type: float
      returned: success
adjusted:
  description: Files that got the owner and mode that O(leaves) asks for.
  returned: success
  type: list
  elements: str
path:
  description: The file that is wrong.
  returned: failure
  type: str
reason:
  description: What is wrong with it.
  returned: failure
  type: str
fix:
  description: What to do about it.
  returned: failure
  type: str
seconds:
  description: How long the module took.
  returned: always
  type: float
  sample: 0.9
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.leaf import (
    catalogue_leaf,
    external_csr,
    leaf_spec,
    model,
    renewal,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import file_users

KEY_TYPES = ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"]


def renew(module: AnsibleModule) -> Dict[str, Any]:
    """Renew the leaves that are due and return the module's result. Raise PkiError."""
    options = module.params
    names = options["names"]
    if not names:
        names = [] if options["leaves"] else ["all"]
    settings = model.Settings(
        below_days=options["renew_below_days"],
        leaf_days=options["leaf_days"],
        force=options["force"],
        new_key=options["new_key"],
        key_type=options["key_type"],
        embed_ca=options["embed_ca"],
        waiting=external_csr.Waiting(
            options["state_dir"],
            options["external_ca"] != "refuse",
            options["certificates"] if options["external_ca"] == "install" else None,
            only=options["external_ca"] == "request",
        ),
    )

    missing: List[str] = []
    trees: List[pki_tree.Tree] = []

    def find() -> List[Any]:
        found = leaf_spec.leaves(options["leaves"] or [], settings)
        if names:
            tree = pki_tree.read_tree(layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"]))
            trees[:] = [tree]
            missing[:] = catalogue_leaf.missing_here(tree, names) if options["skip_missing"] else []
            found = catalogue_leaf.catalogue_leaves(tree, {name.strip() for name in names}.difference(missing), settings) + found
        return found

    result = renewal.run(
        settings,
        find,
        check=module.check_mode,
        state_dir=options["state_dir"],
        backup_dir=options["backup_dir"],
        keep=options["backup_keep"],
    )
    for tree in trees:
        result["restart"] = sorted(set(result["restart"]).union(file_users.due(tree.layout, _written(tree, result["leaves"]))))
    return dict(result, missing=missing)


def _written(tree: pki_tree.Tree, rows: List[Dict[str, Any]]) -> List[str]:
    """Return the paths of the certificates and keys that were, or would be, replaced."""
    items = [tree.items[row["name"]] for row in rows if row["action"] in ("renewed", "created") and row["name"] in tree.items]
    return [path for item in items for path in (item.path, item.key_path) if path]


def main() -> None:
    """Run the module."""
    strings = {"type": "list", "elements": "str"}
    leaf = {
        "name": {"type": "str", "required": True},
        "path": {"type": "path"},
        "key_path": {"type": "path", "no_log": False},
        "kubeconfig": {"type": "path"},
        "server": {"type": "str"},
        "combined": {"type": "path"},
        "ca_path": {"type": "path", "required": True},
        "ca_key_path": {"type": "path", "required": True, "no_log": False},
        "common_name": {"type": "str"},
        "organizations": strings,
        "sans": strings,
        "usages": strings,
        "days": {"type": "float"},
        "key_type": {"type": "str", "choices": KEY_TYPES, "no_log": False},
        "request": {"type": "str"},
        "request_takes": dict(strings, choices=["subject", "sans", "usages"], default=["subject", "sans"]),
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "str"},
    }
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir", "backup_keep"),
        names=strings,
        skip_missing={"type": "bool", "default": False},
        renew_below_days={"type": "float", "default": 90},
        force={"type": "bool", "default": False},
        leaf_days={"type": "float", "default": 365},
        key_type={"type": "str", "choices": KEY_TYPES, "no_log": False},
        new_key={"type": "bool", "default": True, "no_log": False},
        embed_ca={"type": "bool", "default": False},
        external_ca={"type": "str", "choices": ["refuse", "request", "install"], "default": "refuse"},
        certificates={"type": "dict", "default": {}},
        leaves={"type": "list", "elements": "dict", "options": leaf},
    )
    runner.run(AnsibleModule(argument_spec=spec, supports_check_mode=True), renew)


if __name__ == "__main__":
    main()
