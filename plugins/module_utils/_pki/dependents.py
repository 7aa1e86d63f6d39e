# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a node still depends on another authority than the one that signs."""

from __future__ import annotations

__metaclass__ = type

import glob

from . import authorities, files, kubeconfig, serving
from .certificates import parse_certificate, parse_certificates
from .errors import PkiError, short

_ELSEWHERE = ("/etc/cni/net.d/*kubeconfig*", "/etc/cni/net.d/*/*kubeconfig*", "/root/.kube/config", "/home/*/.kube/config")


def find(tree):
    """Give what on this node still depends on another authority than the one that signs: [{"what", "path", "why"}].

    Kubeconfigs of kubeadm, of CNI plugins and in home directories, leaves, and what the endpoints serve. Changes nothing.
    """
    layout, found = tree.layout, []
    held = authorities.held_here(layout, with_keys=False)
    cluster = held.get("ca")
    if cluster and cluster.bundle:
        signer = cluster.current.id if cluster.current else cluster.bundle[0].key_sha256
        elsewhere = [path for pattern in _ELSEWHERE for path in sorted(glob.glob(layout.at(pattern)))]
        for path in authorities.trust_kubeconfigs(layout) + elsewhere:
            why = _depends(path, signer, cluster.known())
            if why:
                found.append({"what": "kubeconfig", "path": path, "why": why})
    for name, view in authorities.facts(tree)["authorities"].items():
        signer = view["signer"] or (view["bundle"] or [None])[0]
        for leaf, signed in sorted(view["leaves"].items()):
            if signed and signed != signer:
                found.append({"what": "leaf", "path": tree.items[leaf].path, "why": "signed by %s of %s" % (
                    short(signed), name)})
    return found + _served(layout, held)


def _served(layout, held):
    found = []
    for endpoint, certificate in sorted(serving.served(layout).items()):
        if isinstance(certificate, PkiError):
            continue  # a finding of cert_expiry
        for name, authority in held.items():
            signer = authority.current.id if authority.current else None
            signed = authorities.signed_by(certificate, authority.known())
            if signed and signer and signed != signer:
                found.append({"what": "served certificate", "path": endpoint, "why": "signed by %s of %s" % (
                    short(signed), name)})
    return found


def _depends(path, signer, known):
    try:
        config = kubeconfig.Kubeconfig(files.read(path), path)
        bundles, shown = config.embedded()
        trusts = [{item.key_sha256 for item in parse_certificates(data, path)} for data in bundles]
        signed = [authorities.signed_by(parse_certificate(data, path), known) for data in shown]
    except PkiError:
        return "cannot be read"
    ours = {item.key_sha256 for item in known}
    # Of several clusters in one file those count that have to do with this one, whichever is current.
    if any(signer not in keys and (len(trusts) == 1 or keys & ours) for keys in trusts):
        return "does not trust the authority that signs"
    other = next((one for one in signed if one and one != signer), None)
    return "its client certificate is signed by %s" % short(other) if other else None
