# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's tree as plain data for the controller: one row per certificate and per live endpoint."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Iterable, List, Mapping, Optional, TypedDict

from ..errors import PkiError
from ..kubeadm import catalogue, pki_tree
from ..rotation import ca_view, local_ca
from ..x509 import x509_read
from ..x509.x509_read import serial_text, timestamp
from . import self_signed

if TYPE_CHECKING:
    from ..endpoint.discovery import Endpoint
    from ..kubeadm.pki_tree import Item, Tree
    from ..x509.x509_read import Certificate

# kubeadm's order: leaves and kubeconfigs by name, then the kubelet's, then the CAs; what kubeadm does not know is last.
_ORDER = {catalogue.LEAF: 0, catalogue.KUBECONFIG: 0, catalogue.KUBELET: 1, catalogue.CA: 2, catalogue.OTHER: 3}


class Row(TypedDict):
    """One certificate in report.json. What is None is unknown, because the file is missing or cannot be read.

    status: "ok", "warning", "critical", "expired" or "missing"; "critical" for a file that cannot be read, and problem then says
    why. not_before, not_after: timestamps; with _epoch, seconds since 1970. residual_seconds: negative once expired.
    organization: of several the last one. kubelet_self_signed: see self_signed.is_kubelet_self_signed. signed_by: SHA-256 of the
    CA certificate. bundle: number of certificates in the file.
    """

    name: str
    kind: str
    path: str
    ca: Optional[str]
    subject: Optional[str]
    issuer: Optional[str]
    common_name: Optional[str]
    organization: Optional[str]
    issuer_common_name: Optional[str]
    serial: Optional[str]
    sans: List[str]
    not_before: Optional[str]
    not_after: Optional[str]
    not_before_epoch: Optional[int]
    not_after_epoch: Optional[int]
    residual_seconds: Optional[int]
    status: str
    externally_managed: bool
    kubelet_self_signed: bool
    sha256: Optional[str]
    served_sha256: Optional[str]
    key_type: Optional[str]
    signed_by: Optional[str]
    bundle: int
    problem: Optional[str]


class EndpointRow(TypedDict):
    """One live endpoint in report.json.

    certificate: the catalogue's name of the certificate that it reads from disk, None where it makes its own in memory. matches:
    whether it serves what is on disk, None where there is nothing to compare.
    """

    name: str
    address: str
    certificate: Optional[str]
    served_sha256: Optional[str]
    subject: Optional[str]
    not_after: Optional[str]
    matches: Optional[bool]
    error: Optional[str]


def certificates(
    tree: Tree,
    served: Mapping[str, Certificate | PkiError] | None = None,
    now: datetime.datetime | None = None,
    warn_days: float = 30,
    critical_days: float = 7,
) -> list[Row]:
    """Return the rows of a Tree in kubeadm's order.

    served: {endpoint's name: what tls_handshake.collect_certificates returned}. now: in UTC.
    """
    now = now or x509_read.now()
    rows = [_row(tree, item, served or {}, now, warn_days, critical_days) for item in [*tree.items.values(), *tree.others]]
    return sorted(rows, key=lambda row: (_ORDER[row["kind"]], row["name"]))


def epoch_seconds(moment: datetime.datetime) -> int:
    """Return a datetime with a time zone as seconds since 1970. Works from year 1 on."""
    return int(moment.timestamp())


def _row(
    tree: Tree,
    item: Item,
    served: Mapping[str, Certificate | PkiError],
    now: datetime.datetime,
    warn_days: float,
    critical_days: float,
) -> Row:
    row: Row = {
        "name": item.name,
        "kind": item.kind,
        "path": item.path,
        "ca": item.ca,
        "subject": None,
        "issuer": None,
        "common_name": None,
        "organization": None,
        "issuer_common_name": None,
        "serial": None,
        "sans": [],
        "not_before": None,
        "not_after": None,
        "not_before_epoch": None,
        "not_after_epoch": None,
        "residual_seconds": None,
        "status": "missing" if item.missing else "ok" if item.other_login else "critical",
        "externally_managed": item.externally_managed,
        "kubelet_self_signed": self_signed.is_kubelet_self_signed(item.name, item.certificate),
        "sha256": None,
        "served_sha256": None,
        "key_type": None,
        "signed_by": None,
        "bundle": len(item.bundle),
        "problem": item.problem.message if item.problem is not None and not item.missing else None,
    }
    seen = served.get(item.entry.endpoint)
    if seen is not None and not isinstance(seen, PkiError):
        row["served_sha256"] = seen.sha256
    certificate = item.certificate
    if certificate is None:
        return row
    signer = None if item.kind in (catalogue.CA, catalogue.OTHER) else tree.signer(item)
    if signer is not None and item.ca is None:
        row["ca"] = "ca"
    row.update(
        {
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "common_name": certificate.common_name,
            "organization": certificate.organizations[-1] if certificate.organizations else None,
            "issuer_common_name": certificate.issuer_common_name,
            "serial": serial_text(certificate.serial),
            "sans": list(certificate.sans),
            "not_before": timestamp(certificate.not_before),
            "not_after": timestamp(certificate.not_after),
            "not_before_epoch": epoch_seconds(certificate.not_before),
            "not_after_epoch": epoch_seconds(certificate.not_after),
            "residual_seconds": int((certificate.not_after - now).total_seconds()),
            "sha256": certificate.sha256,
            "key_type": certificate.key_type,
            "signed_by": signer.sha256 if signer is not None else None,
            "status": pki_tree.state_of(certificate, now, warn_days, critical_days),
        }
    )
    return row


def endpoints(found: Iterable[Endpoint], served: Mapping[str, Certificate | PkiError], tree: Tree) -> list[EndpointRow]:
    """Return one row per live endpoint. served: as for certificates()."""
    rows = []
    for endpoint in found:
        seen = served.get(endpoint.name)
        row: EndpointRow = {
            "name": endpoint.name,
            "address": endpoint.address,
            "certificate": endpoint.item,
            "served_sha256": None,
            "subject": None,
            "not_after": None,
            "matches": None,
            "error": None,
        }
        if isinstance(seen, PkiError):
            row["error"] = seen.message
        elif seen is not None:
            row.update({"served_sha256": seen.sha256, "subject": seen.subject, "not_after": timestamp(seen.not_after)})
            item = tree.items.get(endpoint.item) if endpoint.item else None
            if item is not None and item.certificate is not None:
                row["matches"] = seen.sha256 == item.certificate.sha256
        rows.append(row)
    return rows


def facts(tree: Tree, clock: float | None = None, controller_clock: float | None = None) -> dict[str, Any]:
    """Return what the controller compares between nodes: names, addresses and digests, never key material.

    clock, controller_clock: seconds since 1970 at about the same moment, or None. "cas" has for each CA the SHA-256 of
    its first certificate ("signer"), of that one's public key ("signer_key"), of all in the file ("trusted"), and of the
    public half of the private key beside it ("key", None where there is none). "sa" has the public digests of sa.key
    ("signer") and sa.pub ("trusted"). "verifies_kubelets": whether this node's API server does, with the cluster's CA;
    "kubelet_serving": {"path", "verifies"} of what its kubelet serves, or None. "rotation": what the controller derives the phase
    of each CA from (ca_view.read), without restarts that are due.
    """
    layout = tree.layout
    cas = {}
    for name in catalogue.CA_NAMES:
        item = tree.items.get(name)
        if item is not None and item.certificate is not None:
            cas[name] = {
                "signer": item.certificate.sha256,
                "signer_key": item.certificate.key_sha256,
                "trusted": [one.sha256 for one in item.bundle],
                "key": item.key_sha256,
                "path": item.path,
            }
    serving = tree.items.get("kubelet-serving")
    kubelet_ca = layout.flags.get("kube-apiserver", {}).get("--kubelet-certificate-authority")
    return {
        "verifies_kubelets": bool(kubelet_ca) and "ca" in layout.paths and layout.at(kubelet_ca) == layout.paths["ca"][0],
        "kubelet_serving": None
        if serving is None
        else {"path": serving.path, "verifies": serving.certificate is not None and tree.signer(serving) is not None},
        "node_name": layout.node_name,
        "role": layout.role,
        "minor": layout.image_minor,
        "advertise_address": layout.advertise_address,
        "control_plane_endpoint": layout.control_plane_endpoint,
        "kubelet_running": layout.kubelet["running"],
        "cas": cas,
        "rotation": dict(ca_view.read(tree, local_ca.local_cas(layout, with_keys=False)), journal=None, pending=[]),
        "sa": {"signer": tree.sa[0], "trusted": list(tree.sa[1]), "path": layout.sa_key},
        "clock": clock,
        "clock_offset": None if clock is None or not controller_clock else round(clock - controller_clock, 1),
    }
