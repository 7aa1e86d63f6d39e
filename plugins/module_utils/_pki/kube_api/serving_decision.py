# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision about requests of kubelets' serving certificates, by the keys that the nodes hold."""

from __future__ import annotations

from typing import Any, Mapping

from ..errors import printable
from ..x509 import general_names
from . import csr_dangers, csr_decision, csr_object, node_identity


def serving_fault(
    request: csr_object.CertificateSigningRequest, nodes: node_identity.Nodes, longest: int | None = None
) -> str | None:
    """Return what in a readable kubelet-serving request is more than its node may have, or None. The key is not checked.

    longest: the validity in seconds that may be asked for, and has to be said, or None where the API knows no
    expirationSeconds (before 1.22). Every name has to be in the Node object, and none may be contradicted by the inventory.
    """
    parsed = request.request
    if parsed.wants_ca or parsed.ambiguous or parsed.further_attributes:
        return "it asks for more than a kubelet does (an authority, or a subject with further attributes)"
    fault = node_identity.node_mismatch(request, nodes)
    if fault:
        return fault
    claims = nodes.claims[parsed.common_name[len(csr_dangers.NODE_PREFIX) :]]
    for san in parsed.sans:
        if general_names.same_name(san.partition(":")[2]) not in claims:
            return "%s is not an address of the Node object" % printable(san)
    # pkg/apis/certificates/helpers.go: ValidateKubeletServingCSR; a key of another type than RSA enciphers no keys.
    asked, wanted = sorted(request.usages), set(csr_object.SERVER_USAGES)
    if asked != sorted(wanted) and (parsed.key_type.startswith("rsa") or asked != sorted(wanted - {"key encipherment"})):
        return "the usages are %s" % (printable(", ".join(request.usages)) or "none")
    if parsed.extended_usages not in ([], ["server"]):
        return "its extended usages are %s" % printable(", ".join(parsed.extended_usages))
    if longest is None:
        return None
    if request.expiration_seconds is None:
        return "it does not say how long it shall be valid"
    if not 0 < request.expiration_seconds <= longest:
        return "it shall be valid for %d seconds, and at most %d are allowed" % (request.expiration_seconds, longest)
    return None


def decide_serving(
    request: csr_object.CertificateSigningRequest,
    nodes: node_identity.Nodes,
    keys: Mapping[str, tuple[str, str]],
    longest: int | None = None,
) -> csr_decision.CsrDecision:
    """Return the decision about a kubelet-serving request, for the run that made the keys on the nodes.

    keys: {inventory host: (node name, digest of the public key that waits there)} of the nodes that asked in this
    run. longest: as in serving_fault(). What is wrong is denied. The request of a Node that is not known (yet) here is left: an
    autoscaled node is in no inventory. Left, too, is what a node might have made by itself when it was not asked in this run: a
    kubelet keeps the key of its request in memory, where it cannot be compared.
    """
    if request.state != csr_object.PENDING or request.signer != csr_object.KUBELET_SERVING:
        return csr_decision.CsrDecision(
            request,
            csr_object.LEAVE,
            "it is %s already" % request.state if request.state != csr_object.PENDING else "it is for another signer",
        )
    if request.problem:
        return csr_decision.CsrDecision(request, csr_object.DENY, request.problem.message, refused=True)
    parsed = request.request
    name = (parsed.common_name or "")[len(csr_dangers.NODE_PREFIX) :]
    host: Any = nodes.hosts.get(name)
    asked = keys.get(host["name"]) if host else None
    mine = asked is not None and asked[0] == name and asked[1] == parsed.key_sha256
    # A kubelet that asks by itself names no validity.
    fault = serving_fault(request, nodes, longest if mine or request.expiration_seconds is not None else None)
    found = csr_dangers.dangers(request)
    if fault and not found and fault == node_identity.why_unknown(name, nodes):
        return csr_decision.CsrDecision(request, csr_object.LEAVE, fault)
    fault = fault or "; ".join(found)
    if fault:
        return csr_decision.CsrDecision(request, csr_object.DENY, fault, refused=True)
    if mine:
        return csr_decision.CsrDecision(request, csr_object.APPROVE, "its key is the one on %s" % printable(host["name"]))
    if asked is not None:
        return csr_decision.CsrDecision(
            request, csr_object.DENY, "its key is not the one that waits on %s" % printable(host["name"]), refused=True
        )
    return csr_decision.CsrDecision(
        request, csr_object.LEAVE, "%s was not asked in this run, so its key could not be compared" % printable(name)
    )
