# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a node still depends on another authority than the one that signs."""

from __future__ import annotations

import glob
import os

from ..endpoint import tls_handshake
from ..errors import PkiError, short
from ..fileio import guarded_read
from ..kubeadm import component_configs, kubeconfig
from ..node import cni_kubeconfigs, file_users
from ..x509.x509_read import parse_certificate, parse_certificates
from . import ca_store

_HOMES = ("/root/.kube/config", "/home/*/.kube/config")

_MOST = 500  # kubeconfigs in home directories


def find(tree):
    """Give what on this node still depends on another authority than the one that signs: [{"what", "path", "why"}].

    Kubeconfigs of kubeadm, of CNI plugins and in home directories, leaves, and what the endpoints serve. Changes nothing.
    """
    layout, found = tree.layout, []
    held = ca_store.local_cas(layout, with_keys=False)
    cluster = held.get("ca")
    if cluster and cluster.bundle:
        signer = cluster.current.id if cluster.current else cluster.bundle[0].key_sha256
        elsewhere = cni_kubeconfigs.kubeconfigs(layout)
        elsewhere += [path for pattern in _HOMES for path in sorted(glob.glob(layout.at(pattern)))[:_MOST]]
        for path in ca_store.trust_kubeconfigs(layout) + elsewhere:
            why = _depends(path, signer, cluster.known())
            if why:
                found.append({"what": "kubeconfig", "path": path, "why": why})
    for name, view in ca_store.facts(tree)["authorities"].items():
        signer = view["signer"] or (view["bundle"] or [None])[0]
        for leaf, signed in sorted(view["leaves"].items()):
            if signed and signed != signer:
                found.append({"what": "leaf", "path": tree.items[leaf].path, "why": "signed by %s of %s" % (short(signed), name)})
    return found + _configured(layout, cluster) + file_users.left(layout) + _served(layout, held)


def _configured(layout, cluster):
    """What flags of the components make them trust beside kubeadm's files (component_configs)."""
    if not cluster or not cluster.bundle:
        return []
    signer = cluster.current.id if cluster.current else cluster.bundle[0].key_sha256
    known, found = {item.key_sha256 for item in cluster.known()}, []
    for trust in component_configs.find(layout):
        if os.path.realpath(trust.path) not in {os.path.realpath(path) for path in ca_store.trust_kubeconfigs(layout)}:
            found += [
                {"what": "%s of %s" % (trust.flag, trust.component), "path": trust.path, "why": why}
                for why in _wrong(trust, signer, known, cluster)
            ]
    return found


def _wrong(trust, signer, known, cluster):
    if trust.problem is not None:
        return [
            "cannot be read, so that nothing is known of whom it trusts (%s: %s)" % (trust.problem.path, trust.problem.message)
        ]
    found, keys = [], {item.key_sha256 for item in trust.trusted}
    if keys & known and signer not in keys:
        found.append(
            "does not trust the CA that signs: put its certificate beside the other one, then restart %s" % trust.component
        )
    signed = ca_store.signed_by(trust.client, cluster.known()) if trust.client else None
    if signed and signed != signer:
        found.append("its client certificate is signed by %s: issue it again" % short(signed))
    if trust.kms and len(known) > 1:
        found.append(
            "the KMS plugin %s (%s) may verify its server with the cluster's CA, which cannot be seen from here: let it "
            "trust both" % trust.kms
        )
    return found


def _served(layout, held):
    found = []
    for endpoint, certificate in sorted(tls_handshake.served(layout).items()):
        if isinstance(certificate, PkiError):
            continue  # a finding of cert_expiry
        for name, authority in held.items():
            signer = authority.current.id if authority.current else None
            signed = ca_store.signed_by(certificate, authority.known())
            if signed and signer and signed != signer:
                found.append(
                    {"what": "served certificate", "path": endpoint, "why": "signed by %s of %s" % (short(signed), name)}
                )
    return found


def _depends(path, signer, known):
    try:
        config = kubeconfig.Kubeconfig(guarded_read.read(path), path, plain=True)
        bundles, shown = config.embedded()
        trusts = [{item.key_sha256 for item in parse_certificates(data, path)} for data in bundles]
        signed = [ca_store.signed_by(parse_certificate(data, path), known) for data in shown]
    except PkiError:
        return "cannot be read"
    ours = {item.key_sha256 for item in known}
    # Of several clusters in one file those count that have to do with this one, whichever is current.
    if any(signer not in keys and (len(trusts) == 1 or keys & ours) for keys in trusts):
        return "does not trust the authority that signs"
    other = next((one for one in signed if one and one != signer), None)
    return "its client certificate is signed by %s" % short(other) if other else None
