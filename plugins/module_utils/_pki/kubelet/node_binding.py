# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host may be which Node: a node speaks only for itself.

What a node says about its name is checked against its host, the inventory, all other answers and the API.
Names may differ (--hostname-override, a full domain name in the inventory): then an address that the inventory
and the Node object share decides, or the key of the certificate that the node had before.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence

from ..errors import PkiError, printable
from ..kube_api import kubelet_client, node_identity
from ..x509 import csr_read, private_keys, x509_read, x509_sign
from ..x509.csr_read import Request
from ..x509.x509_read import Certificate
from . import kubelet_files

_FIX = "Correct the inventory or the kubelet's --hostname-override; or look for what runs on that host."


def inventory_of(addresses: Dict[str, str], control_planes: Collection[str] = ()) -> List[Dict[str, Any]]:
    """Return the inventory as node_identity.Nodes takes it. addresses: {host: ansible_host or ""}."""
    return [
        {"name": host, "addresses": [address] if address else [], "control_plane": host in control_planes}
        for host, address in sorted(addresses.items())
    ]


def contradictions(claims: Dict[str, str], inventory: Collection[str]) -> Dict[str, str]:
    """Return {host: why what it says cannot be right (str)} for those of claims that contradict the inventory or one another.

    claims: {host: the name of the Node that it says it is} of all hosts that answered. inventory: the names of all hosts of the
    cluster, asked or not. A Node belongs to the host of its name, or of its first label where only one has it; a Node that two
    hosts claim and that belongs to neither is refused for both.
    """
    hosts = sorted(set(inventory) | set(claims))
    names = sorted(set(claims.values()))
    owners = node_identity.Nodes([{"metadata": {"name": name}} for name in names], inventory_of(dict.fromkeys(hosts, ""))).hosts
    found = {}
    for host, name in sorted(claims.items()):
        owner = owners.get(name, {}).get("name")
        others = [other for other in sorted(claims) if other != host and claims[other] == name]
        if owner == host:
            continue
        if owner is not None:
            found[host] = "says that it is the Node %s, which is the host %s of the inventory" % (printable(name), owner)
        elif others:
            found[host] = "says that it is the Node %s, and so does %s" % (printable(name), ", ".join(others))
    return found


def vouch(request_pem: str, credential: Optional[kubelet_client.Credential]) -> Dict[str, str]:
    """Return what proves that the holder of a credential made a request: {"previous", "voucher"} as PEM, or {} without one.

    credential: Credential of the certificate in use, expired or not, or None. The voucher is a request for the digest
    of the new key, signed with the previous key.
    """
    if credential is None or credential.problem or credential.certificate is None:
        return {}
    try:
        digest = csr_read.parse_request(request_pem.encode("ascii")).key_sha256
        key = private_keys.parse_private_key(credential.pem[1], credential.path)
        voucher = x509_sign.build_request(x509_sign.Profile(digest), key)
    except PkiError:
        return {}
    return {"previous": credential.certificate.pem.decode("ascii"), "voucher": voucher.pem.decode("ascii")}


def is_vouched(entry: Mapping[str, str], request: Request, cas: Sequence[Certificate]) -> bool:
    """Return whether the key of a Node's previous certificate vouches for a request.

    entry: {"node", "previous", "voucher"}. request: the Request. cas: [Certificate] of which one has to have signed the
    previous certificate. Its dates do not matter: the key alone proves the Node.
    """
    if not entry.get("previous") or not entry.get("voucher"):
        return False
    try:
        previous = x509_read.parse_certificate(entry["previous"].encode("ascii", "replace"), "the previous certificate")
        voucher = csr_read.parse_request(entry["voucher"].encode("ascii", "replace"), "the voucher")
    except PkiError:
        return False
    return (
        kubelet_files.made_out_to(previous, entry["node"])
        and voucher.key_sha256 == previous.key_sha256
        and voucher.common_names == [request.key_sha256]
        and any(previous.signed_by(ca) for ca in cas)
    )


def require_bound(entry: Mapping[str, str], request: Request, nodes: node_identity.Nodes, cas: Sequence[Certificate]) -> None:
    """Raise PkiError unless it is proven that the host of an entry is the Node it says it is.

    entry: {"host", "node", "previous", "voucher"}. nodes: node_identity.Nodes, with the inventory. cas: as in is_vouched().
    """
    host, node = entry["host"], entry["node"]
    owner = nodes.hosts.get(node, {}).get("name")
    if owner == host or (owner is None and is_vouched(entry, request, cas)):
        return
    if owner is not None:
        raise PkiError(
            "says that it is the Node %s, which is the host %s of the inventory" % (printable(node), owner),
            path=host,
            fix="Nothing was signed. " + _FIX,
        )
    raise PkiError(
        "says that it is the Node %s, and neither its name or address in the inventory nor its previous certificate "
        "proves it" % printable(node),
        path=host,
        fix="Nothing was signed. Name the host in the inventory as the Node, or set ansible_host to an address of the "
        "Node; or leave the host out (--limit).",
    )
