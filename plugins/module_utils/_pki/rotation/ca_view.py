# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one node's files say about each CA: digests and names only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple, TypedDict

from ..errors import PkiError
from ..fileio import reading
from ..kubeadm import kubeconfig, layouts
from ..x509 import x509_read
from ..x509.private_keys import PublicKey
from ..x509.x509_read import Certificate
from . import ca_files, local_ca
from .local_ca import LocalCa, SigningCa, Trusted

if TYPE_CHECKING:
    from ..kubeadm.layouts import Layout
    from ..kubeadm.pki_tree import Tree


class CaView(TypedDict):
    """One CA on one node; digests of public keys.

    signer, next, previous: None where there is no pair. bundle: what the CA file trusts, the signer first. trust: {kubeconfig:
    what it trusts}. leaves: {name: which CA signed it, None for an unknown one}. split: whether kube-controller-manager signs
    with a file of its own, None where its flags say nothing. signing: what that file holds, None where there is none.
    lookup_off: see ca_files. problems: sentences that forbid a rotation.
    """

    signer: Optional[str]
    bundle: List[str]
    next: Optional[str]
    previous: Optional[str]
    trust: Dict[str, List[str]]
    leaves: Dict[str, Optional[str]]
    split: Optional[bool]
    signing: Optional[List[str]]
    lookup_off: bool
    problems: List[str]


def read(tree: Tree, cas: Mapping[str, LocalCa]) -> Dict[str, Any]:
    """Return the part of a node's facts that its files show, for deriving the phase of a rotation.

    cas: of local_ca.local_cas(). "authorities": {name: CaView}. "certificates": {digest: {"subject", "not_after", "sha256"}}.
    """
    layout = tree.layout
    certificates: Dict[str, Dict[str, Any]] = {}
    for name, local in cas.items():
        trusted = _kubeconfig_trust(layout).values() if name == "ca" else ()
        for item in [*(ca for bundle in trusted for ca in bundle), *local.known()]:
            certificates[item.key_sha256] = _describe(item)
    return {
        "node": layout.node_name,
        "role": layout.role,
        "verifies_kubelets": ca_files.reads_ca_once(layout),
        "external_etcd": layout.external_etcd,
        "token_signer": ca_files.token_signer(layout),
        "authorities": {name: view_of(tree, local) for name, local in cas.items()},
        "certificates": certificates,
    }


def view_of(tree: Tree, local: LocalCa) -> CaView:
    """Return what a node knows of one CA, without problems."""
    view: CaView = {
        "signer": _id(local.current),
        "bundle": [item.key_sha256 for item in local.bundle],
        "next": _id(local.next),
        "previous": _id(local.previous),
        "trust": {},
        "leaves": {},
        "split": None,
        "signing": None,
        "lookup_off": local.name == "sa" and ca_files.lookup_off(tree.layout),
        "problems": [],
    }
    for item in tree.items.values():
        if item.certificate is not None and (item.ca == local.name or (item.name == "kubelet-serving" and local.name == "ca")):
            signer = local_ca.find_signer(item.certificate, local.known())
            if signer is not None or item.name == "kubelet-client":
                view["leaves"][item.name] = signer
    if local.name == "ca":
        for path, trusted in _kubeconfig_trust(tree.layout).items():
            view["trust"][os.path.basename(path)] = [item.key_sha256 for item in trusted]
        if tree.layout.role == layouts.CONTROL_PLANE:
            view["split"], view["signing"] = _split(tree.layout, local)
    return view


def _id(signer: Optional[SigningCa]) -> Optional[str]:
    return signer.id if signer else None


def _describe(item: Trusted) -> dict[str, Any]:
    if isinstance(item, PublicKey):
        return {"subject": "service-account key", "not_after": None, "sha256": item.key_sha256}
    return {"subject": item.subject, "not_after": x509_read.timestamp(item.not_after), "sha256": item.sha256}


def _kubeconfig_trust(layout: Layout) -> dict[str, list[Certificate]]:
    found = {}
    for path in ca_files.trust_kubeconfigs(layout):
        try:
            config = kubeconfig.Kubeconfig(reading.read(path), path)
            if config.ca_data:
                found[path] = x509_read.parse_certificates(config.ca_data, path)
        except PkiError:
            continue  # a finding of cert_expiry; a phase that writes the file refuses it by name
    return found


def _split(layout: Layout, local: LocalCa) -> Tuple[Optional[bool], Optional[List[str]]]:
    flags = ca_files.signing_flags(layout, local.path)
    split = all(flags.values()) if flags else None
    data = reading.read_if_exists(ca_files.signing_path(layout))
    if data is None:
        return split, None
    try:
        return split, [item.key_sha256 for item in x509_read.parse_certificates(data, ca_files.SIGNING)]
    except PkiError:
        return split, []
