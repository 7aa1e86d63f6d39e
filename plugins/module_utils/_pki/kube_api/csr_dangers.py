# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a certificate request would give away that no policy may grant, and the one refusal before any signer gets a request."""

from __future__ import annotations

from typing import Container, Iterable, NamedTuple

from ..errors import PkiError, printable
from ..kubeadm import catalogue
from ..x509 import csr_read
from . import csr_object

# Groups that RBAC allows everything: by the authorizer itself, and by kubeadm's ClusterRoleBinding (1.29+).
_ADMINISTRATORS = ("system:masters", "kubeadm:cluster-admins")

NODE_PREFIX, NODES_GROUP = "system:node:", "system:nodes"

# The users of the control plane's own certificates: RBAC and --requestheader-allowed-names know them by these names.
_CONTROL_PLANE = {
    entry.common_name
    for entry in catalogue.CATALOGUE
    if entry.kind in (catalogue.LEAF, catalogue.KUBECONFIG) and "{" not in entry.common_name
}


class Danger(NamedTuple):
    """What a request would give away that no policy may grant.

    names: what the user has to allow by its exact name (users, groups, extension OIDs, SANs); without any, nothing can allow it.
    text: a sentence without a full stop.
    """

    names: tuple[str, ...]
    text: str


def find_dangers(
    request: csr_read.Request, usages: Iterable[str] = (), requester: str = "", requester_groups: Iterable[str] = ()
) -> list[Danger]:
    """Return what a request would give away that no policy may grant.

    A group that may do everything, a name of the system, the identity of a node for a requester who is not that node, a
    CA, a subject that readers could read differently, an extension that is not known here, usages that the object does not name.
    usages: of the API object, as the API spells them; empty where there is no object. Names are compared without case: a reader
    that follows X.520 sees no difference.
    """
    names = [name for name in request.common_names if isinstance(name, str)]
    groups = [group for group in request.organizations if isinstance(group, str)]
    found = [
        Danger((group,), "it would be a member of %s, which may do everything" % printable(group))
        for group in groups
        if group.lower() in _ADMINISTRATORS
    ]
    node = [name for name in names if name.lower().startswith(NODE_PREFIX)] + [
        group for group in groups if group.lower() == NODES_GROUP
    ]
    if node and not is_that_node(request, requester, requester_groups):
        who = printable(requester or "nobody")
        found.append(Danger(tuple(node), "it would be a node, and %s, who asks, is not that node" % who))
    reserved = [
        name for name in names + groups if _is_reserved(name) and name not in node and name.lower() not in _ADMINISTRATORS
    ]
    found += [Danger((name,), "%s is a name that Kubernetes keeps for itself" % printable(name)) for name in reserved]
    if request.wants_ca or {"cert sign", "crl sign"} & set(usages):
        found.append(Danger((), "it would be a certificate authority"))
    if request.ambiguities:
        found.append(Danger((), "it can be read in two ways (%s)" % "; ".join(request.ambiguities)))
    found += [Danger((oid,), "it asks for the extension %s, which is not known here" % oid) for oid in request.unknown_extensions]
    found += [
        Danger((san,), "it asks for a name of a kind that is not known here (%s)" % printable(san))
        for san in request.sans
        if san.startswith("other:")
    ]
    unseen = sorted(set(request.extended_usages) - extended_usages(usages)) if usages else []
    if unseen:
        # Kubernetes' own signers look at the object alone, others at the request.
        found.append(Danger((), "its request asks for usages that its object does not name (%s)" % printable(", ".join(unseen))))
    return found


def extended_usages(usages: Iterable[str]) -> set[str]:
    """Return the extended key usages that the API's usages stand for, as x509.Request spells them."""
    return {csr_object.EXTENDED_USAGES[usage] for usage in usages if usage in csr_object.EXTENDED_USAGES}


def dangers(request: csr_object.CertificateSigningRequest) -> list[str]:
    """Return the texts of dangers_of()."""
    return [danger.text for danger in dangers_of(request)]


def dangers_of(request: csr_object.CertificateSigningRequest) -> list[Danger]:
    """Return what find_dangers() finds in a request; [] where it cannot be read."""
    if request.request is None:
        return []
    return find_dangers(request.request, request.usages, request.requester, request.requester_groups)


class _EveryName:
    """Contains every name: for a request that the user named."""

    def __contains__(self, name: object) -> bool:
        return True


EVERY_NAME = _EveryName()


def not_allowed(found: Iterable[Danger], allowed: Container[str]) -> list[str]:
    """Return the texts of the dangers that are not allowed by all of their names."""
    return [danger.text for danger in found if not danger.names or not all(name in allowed for name in danger.names)]


def refuse_dangerous_ask(request: csr_object.CertificateSigningRequest, allowed: Container[str] = ()) -> None:
    """Raise PkiError unless a request may be approved: it can be read, and every danger in it is allowed by its exact name.

    allowed: names (users, groups, extension OIDs), or EVERY_NAME. Nothing allows a CA or what can be read in two ways.
    """
    if request.problem:
        raise request.problem
    refused = not_allowed(dangers_of(request), allowed)
    if refused:
        raise PkiError(
            "; ".join(refused),
            path=request.path,
            fix="Deny it, or allow each of these names by name where that is "
            "meant. Nothing allows a CA, nor a request that can be read in two ways.",
        )


def refuse_dangerous_request(
    pem: bytes | str, signer: str = "", allowed: Container[str] = (), path: str | None = None, usages: Iterable[str] = ()
) -> csr_read.Request:
    """Return the x509.Request of a PEM file, where a signer may have it. Raise PkiError for any other one.

    To call before any signer gets a request: the cluster's, the Certificates API, a command, another CA. pem: exactly one PEM
    block. signer: a signer name of the API, if any; usages that it does not issue are refused. allowed: exact names (users,
    groups, extension OIDs) that this request may have although no policy may grant them. path: for messages. usages: those of
    the API object, if any. CA:TRUE, keyCertSign and what can be read in two ways cannot be allowed.
    """
    data = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
    fix = "See who made it, and have it made again without that. Nothing was signed."
    request = csr_object.parse_request_text(data, path, fix)
    found = find_dangers(request, usages)
    if signer in csr_object.USAGES:
        beyond = sorted(set(request.extended_usages) - extended_usages(csr_object.USAGES[signer]))
        found += [Danger((), "it asks for the usage %s, which %s does not give" % (printable(usage), signer)) for usage in beyond]
    refused = not_allowed(found, allowed)
    if refused:
        raise PkiError("; ".join(refused), path=path, fix=fix)
    return request


def refuse_reserved_identity(user: str, groups: Iterable[str] = ()) -> None:
    """Raise PkiError for a user name or a group that Kubernetes or kubeadm keeps for itself.

    Also where no request is made: a role binding for such a name gives the role to others (system:anonymous is every client
    without a credential). Names are compared without case, as in find_dangers().
    """
    reserved = [name for name in [user, *groups] if _is_reserved(name) or name.lower() in _ADMINISTRATORS]
    hidden = [name for name in [user, *groups] if not name or not name.isprintable() or name != name.strip()]
    if reserved or hidden:
        raise PkiError(
            ("%s is a name that Kubernetes keeps for itself" % printable(reserved[0]))
            if reserved
            else "%s is no name that can be told from another one (a blank at an end, a control character, or empty)"
            % printable(repr(hidden[0])),
            path=printable(user),
            fix="Give users names and groups of their own. kubeadm makes what the system needs; for anything else there is "
            "cert_csr, where the request is named. Nothing was changed.",
        )


def _is_reserved(name: str) -> bool:
    return name.lower().startswith(("system:", "kubeadm:")) or name.lower() in _CONTROL_PLANE


def is_that_node(request: csr_read.Request, requester: str, requester_groups: Iterable[str]) -> bool:
    """Return whether a request is for exactly the node that makes it."""
    names = request.common_names
    return (
        len(names) == 1
        and names[0].startswith(NODE_PREFIX)
        and len(names[0]) > len(NODE_PREFIX)
        and requester == names[0]
        and NODES_GROUP in requester_groups
        and request.organizations == [NODES_GROUP]
    )
