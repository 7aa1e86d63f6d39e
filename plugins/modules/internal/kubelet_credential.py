#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_credential
short_description: The client certificate with which a kubelet speaks to the API server
version_added: 0.1.0
description:
  - "Internal: the playbooks of this collection call it. Its options may change in any release."
  - Replaces the client certificate of kubelets in three calls, and no private key leaves its node. A request is made on the
    node (O(state=requested)), a control-plane node signs the requests of any number of nodes at once (O(state=signed)),
    and the node installs what was signed, restarts its kubelet and proves that it works (O(state=installed)).
  - The certificate is made out to C(O=system:nodes, CN=system:node:NAME), where NAME is the name that the node has in the
    API, and to no other.
  - Key and certificate are written to one file with the mode 0600, C(kubelet-client-TIME.pem), as the kubelet does it, and the
    symbolic link C(kubelet-client-current.pem) is replaced atomically. A C(kubelet.conf) that holds its credential itself, that
    names other files or that is missing is put right, and so is a broken or missing link.
  - Before anything is changed, the API server is asked whether it takes the new credential.
options:
  state:
    description:
      - With V(requested), judges the credential of the node and, when another is due, makes a key and a request.
      - With V(signed), signs requests with the cluster's CA. For a control-plane node.
      - With V(installed), installs O(certificate) and O(ca_bundle), and restarts the kubelet when anything changed, or when a run
        that was killed had left the restart undone.
    type: str
    choices: [requested, signed, installed]
    required: true
  key_type:
    description: With O(state=requested), the type of the new key. The default is that of the present one.
    type: str
    choices: [rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384]
  ask_server:
    description: With O(state=requested), also ask the API server whether it takes the present credential.
    type: bool
    default: true
  method:
    description:
      - With O(state=requested), who signs. V(ca) is the key of the cluster's CA, on a control-plane node (O(state=signed)).
      - V(api) is the cluster itself, through the Certificates API, in the same call; the present credential has to be valid.
        Of use where the CA's key is not on the nodes.
    type: str
    choices: [ca, api]
    default: ca
  requests:
    description: With O(state=signed), what the nodes returned as RV(signing).
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: The inventory's name for the node.
        type: str
        required: true
      node:
        description: The name that the node says it has in the API.
        type: str
        required: true
      request:
        description: The request, in PEM.
        type: str
        required: true
      previous:
        description: The certificate that the node had before, in PEM.
        type: str
        default: ""
      voucher:
        description: What the key of O(requests[].previous) signed to vouch for the new key, in PEM.
        type: str
        default: ""
  hosts:
    description:
      - With O(state=signed), the inventory, as host name and address. A request is signed only when the host is the Node that it
        says it is - by its name in the inventory, by its address where the Node has that, too, or by the key of the certificate
        that it had before.
      - Without it, the hosts in O(requests) are the inventory.
    type: dict
    default: {}
  days:
    description: The validity in days. It is cut to that of the CA; through the Certificates API, the cluster decides.
    type: float
    default: 365
  check_nodes:
    description: With O(state=signed), refuse a name that no Node in the API has.
    type: bool
    default: true
  certificate:
    description: With O(state=installed), the signed certificate, in PEM. Without it the credential stays as it is.
    type: str
  ca_bundle:
    description:
      - With O(state=installed), the certificates in PEM that C(kubelet.conf), C(bootstrap-kubelet.conf) and, on a worker, the
        kubelet's C(clientCAFile) have to hold. Without it, they stay as they are.
    type: str
  spare_ca:
    description:
      - With O(state=installed), the CA in PEM for a C(kubelet.conf) or C(bootstrap-kubelet.conf) that names only dead ones, or
        that has to be made from nothing.
    type: str
  server:
    description: With O(state=installed), the URL of the API server for a C(kubelet.conf) that has to be made from nothing.
    type: str
  restart:
    description:
      - With O(state=installed), restart the kubelet when that is due. Without,
        M(kubepki.lifecycle.internal.kubelet_restart) has to.
    type: bool
    default: true
  ready:
    description:
      - With O(state=installed), ask the API server beforehand whether it takes the new credential, and wait until the Node is
        Ready again. Without, for a cluster whose API is down, the kubelet's own health has to do.
    type: bool
    default: true
  timeout:
    description: With O(state=installed), how many seconds the restarted kubelet may take until it is proven.
    type: int
    default: 120
attributes:
  check_mode:
    description: Reports what would be done; nothing is requested, signed or installed.
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
  - module: kubepki.lifecycle.internal.kubelet_restart
extends_documentation_fragment:
  - kubepki.lifecycle.kubelet
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
  - kubepki.lifecycle.node.backup
"""

EXAMPLES = r"""
- name: A request, where a new certificate is due
  kubepki.lifecycle.internal.kubelet_credential:
    state: requested
    host: "{{ inventory_hostname }}"
  register: requested

- name: Sign the requests of all nodes
  kubepki.lifecycle.internal.kubelet_credential:
    state: signed
    requests: "{{ gathered.signing }}"
    hosts: "{{ gathered.inventory }}"
  delegate_to: "{{ groups['kube_control_plane'][0] }}"
  run_once: true
  register: signed
"""

RETURN = r"""
node:
  description: The name that the node has in the API.
  returned: unless O(state=signed)
  type: str
  sample: worker-1
action:
  description:
    - V(keep), V(reissue) or V(restart) with O(state=requested).
    - V(kept), V(installed) or V(restarted) with O(state=installed).
  returned: unless O(state=signed)
  type: str
  sample: reissue
reasons:
  description: Why a certificate is due.
  returned: with O(state=requested)
  type: list
  elements: str
  sample: ["12.5 days of its 365 are left"]
signing:
  description:
    - What a control-plane node needs for signing - C(host), C(node), C(request), C(previous) and C(voucher). Empty when nothing
      is to be signed.
  returned: with O(state=requested)
  type: dict
certificate:
  description: The certificate in PEM that the cluster signed; empty when none is due.
  returned: with O(state=requested) and O(method=api)
  type: str
certificates:
  description: The signed certificates in PEM, by host.
  returned: with O(state=signed)
  type: dict
ca:
  description: The cluster's CA certificates in PEM, as O(spare_ca) takes them.
  returned: with O(state=signed)
  type: str
server:
  description: The URL of the cluster's API, as O(server) takes it; empty when it is not known.
  returned: with O(state=signed)
  type: str
  sample: https://api.example:6443
before:
  description: The certificate before, without its key.
  returned: unless O(state=signed)
  type: dict
after:
  description: The certificate that was installed, without its key.
  returned: with O(state=installed)
  type: dict
restart:
  description: The static pods that mount one of these files and have to be restarted
    (M(kubepki.lifecycle.static_pod_restart)), also those that have run since before an earlier change.
  returned: with O(state=installed)
  type: list
  elements: str
paths:
  description: The files that were changed.
  returned: with O(state=installed)
  type: list
  elements: str
removed:
  description: The older credential files that were removed.
  returned: with O(state=installed)
  type: list
  elements: str
backup:
  description: The backup set that was made first.
  returned: when files were changed
  type: str
user:
  description: As whom the API server sees the node with its new certificate (from Kubernetes 1.28 on).
  returned: when it was asked, and could tell
  type: str
  sample: system:node:worker-1
proof:
  description: What was seen of the restarted kubelet - C(pid), C(healthz), C(lease), C(heartbeat), C(ready), C(seconds).
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
    reading,
    transaction_recovery,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client, node_identity
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    client_certificate,
    client_installation,
    client_request,
    client_signing,
    kubelet_files,
    kubelet_service,
    node_binding,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import file_users
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import private_keys, x509_read


def requested(module: AnsibleModule) -> Dict[str, Any]:
    """Judge the credential and make a request when another is due."""
    options = module.params
    with node_lock.lock(options["state_dir"], check=module.check_mode):
        if not module.check_mode:
            transaction_recovery.recover(kubelet_files.JOB, options["state_dir"])
        layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])

        def find_refusal(config: kubeconfig.Kubeconfig, pair: client_certificate.Pair) -> Optional[str]:
            return client_certificate.refusal(config, pair, layout.node_name)

        result = client_certificate.examine(
            layout,
            options["renew_below_days"],
            options["force"],
            options["state_dir"],
            find_refusal if options["ask_server"] else None,
        )
        result.update(changed=result["action"] != kubelet_files.KEEP, signing={})
        if result["action"] == kubelet_files.REISSUE:
            if not module.check_mode:
                request = client_request.make_request(layout, options["key_type"], options["state_dir"])
                if options["method"] == "api":
                    result["certificate"] = client_request.request_certificate(layout, request, options["days"])
                else:
                    credential = client_certificate.credential_in_use(layout)
                    result["signing"] = dict(
                        node_binding.vouch(request, credential),
                        request=request,
                        node=result["node"],
                        host=options["host"] or result["node"],
                    )
            after = {"subject": "CN=system:node:%s,O=system:nodes" % layout.node_name, "reasons": result["reasons"]}
            result["diff"] = {"before": result["before"] or {}, "after": after}
    return result


def signed(module: AnsibleModule) -> Dict[str, Any]:
    """Sign a list of requests with the cluster's CA."""
    options = module.params
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    path, key_path = layout.paths.get("ca") or (None, None)
    if not path or layout.role != layouts.CONTROL_PLANE:
        raise PkiError(
            "this is no control-plane node, so there is no CA to sign with",
            path=options["kubernetes_dir"],
            fix="Sign on a host of the group kube_control_plane.",
        )
    bundle = x509_read.parse_certificates(reading.read(path), path)
    key_data = reading.read_if_exists(key_path)
    if key_data is None:
        raise PkiError(
            "the key of the cluster's CA is not on this node: its CA is an external one",
            path=key_path,
            fix="Let the Certificates API sign (kubepki_kubelet_method=api), or sign where the key is.",
        )
    items = _nodes(layout) if options["check_nodes"] and options["requests"] else None
    known = None if items is None else {item["metadata"]["name"] for item in items}
    key = private_keys.parse_private_key(key_data, key_path)
    nodes = _inventory(options, items)

    def require_bound(entry: Dict[str, str], request: Any) -> None:
        # During a rotation the previous certificate may be of the other CA in the bundle.
        node_binding.require_bound(entry, request, nodes, bundle)

    certificates = client_signing.sign_requests(options["requests"], bundle[0], key, options["days"], known, require_bound)
    endpoint = layout.control_plane_endpoint
    return {
        "changed": False,
        "certificates": {} if module.check_mode else certificates,
        "ca": x509_read.bundle(bundle).decode("ascii"),
        "server": "https://" + endpoint if endpoint else "",
    }


def _inventory(options: Dict[str, Any], items: Optional[List[Dict[str, Any]]]) -> node_identity.Nodes:
    """Return requests.Nodes of the API's Nodes, or of those that the hosts say they are where the API was not asked."""
    addresses = {str(host): str(address or "") for host, address in options["hosts"].items()} or {
        entry["host"]: "" for entry in options["requests"]
    }
    if items is None:
        items = [{"metadata": {"name": name}} for name in sorted({entry["node"] for entry in options["requests"]})]
    return node_identity.Nodes(items, node_binding.inventory_of(addresses))


def _nodes(layout: layouts.Layout) -> List[Dict[str, Any]]:
    config = layout.reader.kubeconfig(layout.paths["admin.conf"][0])
    try:
        return kubelet_client.KubeletApi.of(config).nodes()
    except PkiError as error:
        raise PkiError(
            "the API could not be asked which Nodes there are (%s), so nothing was signed" % error.message,
            path=error.path,
            fix="See that the API answers and admin.conf is valid (kubepki.lifecycle.renew_leaves), "
            "or run kubepki.lifecycle.recover when the API is down.",
        ) from None


def installed(module: AnsibleModule) -> Dict[str, Any]:
    """Install a certificate and trust, restart the kubelet, prove it."""
    options = module.params
    state_dir = options["state_dir"]
    with node_lock.lock(state_dir, check=module.check_mode):
        if not module.check_mode:
            transaction_recovery.recover(kubelet_files.JOB, state_dir)
        layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
        installation, user = _prepared(layout, options)
        before = client_certificate.certificate_in_use(layout)
        after = installation.certificate or before
        result = {
            "node": layout.node_name,
            "paths": installation.paths(),
            "removed": [],
            "before": before.describe() if before else {},
            "after": after.describe() if after else {},
        }
        if user:
            result["user"] = user
        due = bool(installation.changes) or journals.Journal(journals.KUBELET_RESTART, state_dir).load() is not None
        result["changed"] = due
        result["action"] = "installed" if installation.changes else "restarted" if due and options["restart"] else "kept"
        if installation.changes:
            result["diff"] = {"before": result["before"], "after": dict(result["after"], paths=result["paths"])}
        if module.check_mode or not due:
            return dict(result, restart=file_users.due(layout, installation.paths()))
        if installation.changes:
            result["backup"] = installation.apply(state_dir, options["backup_dir"], options["backup_keep"])
        if options["restart"]:
            result["proof"] = kubelet_service.restart(layout, options["timeout"], options["ready"], state_dir)
        for path in kubelet_files.expired_files(client_certificate.current_path(layout), options["keep_files"]):
            atomic.remove(path)
            result["removed"].append(path)
        result["restart"] = file_users.due(layout, installation.paths())
    return result


def _prepared(layout: layouts.Layout, options: Dict[str, Any]) -> Tuple[client_installation.ClientInstallation, Optional[str]]:
    """Return (installation, user name or None) after all checks. The API server is asked unless it is known to be down."""

    def text(name: str) -> Optional[bytes]:
        return options[name].encode("utf-8") if options[name] else None

    certificate = key = user = None
    if options["certificate"]:
        certificate, key = client_request.check_issued(layout, text("certificate"), text("ca_bundle"), options["state_dir"])

    def plan(bundle: Optional[bytes]) -> client_installation.ClientInstallation:
        return client_installation.ClientInstallation(layout, certificate, key, bundle, options["server"], text("spare_ca"))

    installation = plan(text("ca_bundle"))
    if installation.changes and options["ready"]:
        try:
            user = client_installation.check_accepted(installation)
        except PkiError as error:
            if not kubelet_client.untrusted(error) or options["ca_bundle"] or not options["spare_ca"]:
                raise
            installation = plan(text("spare_ca"))
            user = client_installation.check_accepted(installation)
    return installation, user


def main() -> None:
    """Run the module."""
    suboptions = {name: {"type": "str", "required": True} for name in ("host", "node", "request")}
    suboptions.update((name, {"type": "str", "default": ""}) for name in ("previous", "voucher"))
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir", "backup_keep"),
        state={"type": "str", "choices": ["requested", "signed", "installed"], "required": True},
        host={"type": "str"},
        renew_below_days={"type": "float", "default": 90},
        force={"type": "bool", "default": False},
        key_type={"type": "str", "no_log": False, "choices": ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"]},
        ask_server={"type": "bool", "default": True},
        method={"type": "str", "choices": ["ca", "api"], "default": "ca"},
        requests={"type": "list", "elements": "dict", "default": [], "options": suboptions},
        hosts={"type": "dict", "default": {}},
        days={"type": "float", "default": 365},
        check_nodes={"type": "bool", "default": True},
        certificate={"type": "str"},
        ca_bundle={"type": "str"},
        spare_ca={"type": "str"},
        server={"type": "str"},
        keep_files={"type": "int", "default": 3},
        restart={"type": "bool", "default": True},
        ready={"type": "bool", "default": True},
        timeout={"type": "int", "default": 120},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    runner.run(module, {"requested": requested, "signed": signed, "installed": installed}[module.params["state"]])


if __name__ == "__main__":
    main()
