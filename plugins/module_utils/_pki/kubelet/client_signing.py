# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign kubelets' requests for client certificates with the cluster's CA, on a control-plane node."""

from __future__ import annotations

from typing import Callable, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import PkiError
from ..x509 import csr_read, x509_read, x509_sign
from ..x509.csr_read import Request
from ..x509.private_keys import PrivateKey
from ..x509.x509_read import Certificate
from . import kubelet_files

_DAY = 86400.0

Entry = Mapping[str, str]


def sign_requests(
    requests: Sequence[Entry],
    ca: Certificate,
    ca_key: PrivateKey,
    days: float,
    node_names: Optional[Collection[str]] = None,
    require_bound: Optional[Callable[[Entry, Request], None]] = None,
) -> Dict[str, str]:
    """Sign a list of requests with the cluster's CA. Return {host: certificate as PEM}.

    requests: [{"host": inventory name, "node", "request": PEM}] with what node_binding.vouch() returned. days: cut to the CA's.
    node_names: of the API's Nodes, or None. require_bound: see node_binding.require_bound(); None where the caller has checked.
    Raises one PkiError that names the host at fault, before the first is signed.
    """
    left = _remaining_days(ca, ca_key)
    parsed: List[Tuple[str, Request]] = []
    owners: Dict[str, str] = {}
    for entry in requests:
        request = _checked(entry, node_names)
        if require_bound is not None:
            require_bound(entry, request)
        parsed.append((entry["host"], request))
        other = owners.setdefault(entry["node"], entry["host"])
        if other != entry["host"]:
            raise PkiError(
                "%s and %s both say that they are the Node %s, so no request was signed" % (other, entry["host"], entry["node"]),
                fix="One of the two is not what it says, or the inventory has it twice.",
            )
    signed = {}
    for host, request in parsed:
        profile = x509_sign.Profile(request.common_name, [kubelet_files.NODES_GROUP], (), ("client",))
        signed[host] = x509_sign.sign_leaf(profile, request, ca, ca_key, min(days, left)).pem.decode("ascii")
    return signed


def _remaining_days(ca: Certificate, ca_key: PrivateKey) -> float:
    """Return for how many days a CA is still valid. Raises PkiError unless it can sign now."""
    x509_sign.check_signer(ca, ca_key)
    left = (ca.not_after - x509_read.now()).total_seconds() / _DAY
    if left <= 0:
        raise PkiError(
            "the CA expired on %s" % x509_read.timestamp(ca.not_after),
            path=ca.path,
            fix="Renew it first: the playbook kubepki.lifecycle.recover does.",
        )
    if ca.not_before > x509_read.now():
        raise PkiError(
            "the CA is not valid before %s" % x509_read.timestamp(ca.not_before),
            path=ca.path,
            fix="Set this node's clock right (`timedatectl`), then run again.",
        )
    return left


def _checked(entry: Entry, node_names: Optional[Collection[str]]) -> Request:
    host, node = entry["host"], entry["node"]
    kubelet_files.check_node_name(node)
    request = csr_read.parse_request(entry["request"].encode("utf-8"), "the request of %s" % host)
    # The whole subject, not its parts: another attribute would go unnoticed into the certificate of a laxer signer.
    wanted = x509_sign.Profile(kubelet_files.NODE_PREFIX + node, [kubelet_files.NODES_GROUP]).subject
    if request.raw.subject != wanted:
        raise PkiError(
            "the request asks for the subject %s, and only %s may be signed for it" % (request.subject, wanted.rfc4514_string()),
            path=host,
            fix="Nothing was signed. See who made that request.",
        )
    if request.sans or request.wants_ca or request.extended_usages not in ([], ["client"]):
        raise PkiError(
            "the request asks for more than a client certificate (names, other usages or a CA)",
            path=host,
            fix="Nothing was signed. See who made that request.",
        )
    x509_sign.refuse_unfit(request)
    if node_names is not None and node not in node_names:
        raise PkiError(
            "calls itself %s, and the API has no Node of that name (it has %s)" % (node, _first_names(node_names)),
            path=host,
            fix="Correct the kubelet's --hostname-override or the host's name; or join the host first.",
        )
    return request


def _first_names(names: Collection[str], count: int = 5) -> str:
    shown: List[str] = sorted(names)[:count]
    more = len(names) - len(shown)
    return ", ".join(shown) + (" and %d more" % more if more else "") if shown else "none"
