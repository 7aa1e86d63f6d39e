# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a node still depends on another CA than the one that signs."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence

from ..endpoint import tls_handshake
from ..errors import PkiError, short
from ..fileio import guarded_read
from ..kubeadm import component_configs, kubeconfig
from ..node import cni_kubeconfigs, file_users
from ..x509.x509_read import parse_certificate, parse_certificates
from . import ca_files, ca_view, local_ca

if TYPE_CHECKING:
    from ..kubeadm.component_configs import Trust
    from ..kubeadm.layouts import Layout
    from ..kubeadm.pki_tree import Tree
    from .local_ca import LocalCa, Trusted

Dependent = Dict[str, str]  # {"what", "path", "why"}

_HOMES = ("/root/.kube/config", "/home/*/.kube/config")

_MOST = 500  # kubeconfigs in home directories


def find(tree: Tree) -> List[Dependent]:
    """Return what on this node still depends on another CA than the one that signs.

    Kubeconfigs of kubeadm, of CNI plugins and in home directories, leaves, and what the endpoints serve. Changes nothing.
    """
    layout = tree.layout
    found: List[Dependent] = []
    cas = local_ca.local_cas(layout, with_keys=False)
    cluster = cas.get("ca")
    if cluster and cluster.bundle:
        signer = _signer(cluster)
        elsewhere = cni_kubeconfigs.kubeconfigs(layout)
        elsewhere += [path for pattern in _HOMES for path in sorted(glob.glob(layout.at(pattern)))[:_MOST]]
        for path in ca_files.trust_kubeconfigs(layout) + elsewhere:
            why = _depends(path, signer, cluster.known())
            if why:
                found.append({"what": "kubeconfig", "path": path, "why": why})
    for name, local in cas.items():
        for leaf, signed in sorted(ca_view.view_of(tree, local)["leaves"].items()):
            if signed and signed != _signer(local):
                found.append({"what": "leaf", "path": tree.items[leaf].path, "why": "signed by %s of %s" % (short(signed), name)})
    return found + _configured(layout, cluster) + file_users.left(layout) + _served(layout, cas)


def _signer(local: LocalCa) -> Optional[str]:
    if local.current:
        return local.current.id
    return local.bundle[0].key_sha256 if local.bundle else None


def _configured(layout: Layout, cluster: Optional[LocalCa]) -> List[Dependent]:
    """Return what flags of the components make them trust beside kubeadm's files (component_configs)."""
    if not cluster or not cluster.bundle:
        return []
    found: List[Dependent] = []
    for trust in component_configs.find(layout):
        if os.path.realpath(trust.path) not in {os.path.realpath(path) for path in ca_files.trust_kubeconfigs(layout)}:
            found += [
                {"what": "%s of %s" % (trust.flag, trust.component), "path": trust.path, "why": why}
                for why in _reasons(trust, cluster)
            ]
    return found


def _reasons(trust: Trust, cluster: LocalCa) -> List[str]:
    if trust.problem is not None:
        return ["cannot be read, so it is unknown which CAs it trusts (%s: %s)" % (trust.problem.path, trust.problem.message)]
    found, keys = [], {item.key_sha256 for item in trust.trusted}
    signer, known = _signer(cluster), {item.key_sha256 for item in cluster.known()}
    if keys & known and signer not in keys:
        found.append(
            "does not trust the CA that signs: put its certificate beside the other one, then restart %s" % trust.component
        )
    signed = local_ca.find_signer(trust.client, cluster.known()) if trust.client else None
    if signed and signed != signer:
        found.append("its client certificate is signed by %s: issue it again" % short(signed))
    if trust.kms and len(known) > 1:
        found.append(
            "the KMS plugin %s (%s) may verify its server with the cluster's CA, which cannot be seen from here: let it "
            "trust both" % trust.kms
        )
    return found


def _served(layout: Layout, cas: Mapping[str, LocalCa]) -> List[Dependent]:
    found: List[Dependent] = []
    for endpoint, certificate in sorted(tls_handshake.served(layout).items()):
        if isinstance(certificate, PkiError):
            continue  # a finding of cert_expiry
        for name, local in cas.items():
            signer = local.current.id if local.current else None
            signed = local_ca.find_signer(certificate, local.known())
            if signed and signer and signed != signer:
                found.append(
                    {"what": "served certificate", "path": endpoint, "why": "signed by %s of %s" % (short(signed), name)}
                )
    return found


def _depends(path: str, signer: Optional[str], known: Sequence[Trusted]) -> Optional[str]:
    try:
        config = kubeconfig.Kubeconfig(guarded_read.read(path), path, plain=True)
        bundles, leaves = config.embedded()
        trusts = [{item.key_sha256 for item in parse_certificates(data, path)} for data in bundles]
        signed = [local_ca.find_signer(parse_certificate(data, path), known) for data in leaves]
    except PkiError:
        return "cannot be read"
    ours = {item.key_sha256 for item in known}
    # Of several clusters in one file only those count that share a CA with this one, whichever is current.
    if any(signer not in keys and (len(trusts) == 1 or keys & ours) for keys in trusts):
        return "does not trust the CA that signs"
    other = next((one for one in signed if one and one != signer), None)
    return "its client certificate is signed by %s" % short(other) if other else None
