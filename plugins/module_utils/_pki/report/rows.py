# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree as plain data for the controller: one row per certificate, one per live endpoint, and digests for comparing nodes."""

from __future__ import annotations

from ..errors import PkiError
from ..kubeadm import catalogue, pki_tree
from ..x509.x509_read import now as current
from ..x509.x509_read import serial_text, timestamp

# kubeadm's order: leaves and kubeconfigs by name, then what it does not list, then the authorities; what is not its comes last.
_ORDER = {catalogue.LEAF: 0, catalogue.KUBECONFIG: 0, catalogue.KUBELET: 1, catalogue.CA: 2, catalogue.OTHER: 3}


def certificates(tree, served=None, now=None, warn_days=30, critical_days=7):
    """Give the rows of report.json for a Tree: [{"name", "kind", "path", "ca", ... }] in kubeadm's order.

    served: {endpoint name: Certificate or PkiError} as probe.served gives it, or None. now: datetime in UTC.
    "status" is "critical" for a file that is there and cannot be read; "problem" then says why. residual_seconds: int,
    negative once expired. "bundle" counts the certificates of the file.
    """
    now = now or current()
    rows = [_row(tree, item, served or {}, now, warn_days, critical_days) for item in [*tree.items.values(), *tree.others]]
    return sorted(rows, key=lambda row: (_ORDER[row["kind"]], row["name"]))


def _row(tree, item, served, now, warn_days, critical_days):
    without = "missing" if item.missing else "ok" if item.other_login else "critical"
    row = {
        "name": item.name,
        "kind": item.kind,
        "path": item.path,
        "ca": item.ca,
        "subject": None,
        "issuer": None,
        "serial": None,
        "sans": [],
        "not_before": None,
        "not_after": None,
        "residual_seconds": None,
        "status": without,
        "externally_managed": item.externally_managed,
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
        subject=certificate.subject,
        issuer=certificate.issuer,
        serial=serial_text(certificate.serial),
        sans=list(certificate.sans),
        not_before=timestamp(certificate.not_before),
        not_after=timestamp(certificate.not_after),
        residual_seconds=int((certificate.not_after - now).total_seconds()),
        sha256=certificate.sha256,
        key_type=certificate.key_type,
        signed_by=signer.sha256 if signer is not None else None,
        status=pki_tree.state_of(certificate, now, warn_days, critical_days),
    )
    return row


def endpoints(found, served, tree):
    """Give one row per live endpoint: [{"name", "address", "certificate", "served_sha256", "not_after", "matches", "error"}].

    found: [probe.Endpoint]; served: as for certificates(). certificate: the catalogue name of what it reads from disk, None
    where it makes its own in memory. matches: whether it serves what is on disk, None where there is nothing to compare.
    """
    rows = []
    for endpoint in found:
        seen = served.get(endpoint.name)
        row = {
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
            row.update(served_sha256=seen.sha256, subject=seen.subject, not_after=timestamp(seen.not_after))
            item = tree.items.get(endpoint.item)
            if item is not None and item.certificate is not None:
                row["matches"] = seen.sha256 == item.certificate.sha256
        rows.append(row)
    return rows


def facts(tree, clock=None, controller_clock=None):
    """Give what the controller compares between nodes: names, addresses and digests, never key material.

    clock, controller_clock: seconds since 1970 at about the same moment, or None. "cas" has for each authority the SHA-256 of
    its first certificate ("signer"), of that one's public key ("signer_key"), of all in the file ("trusted"), and of the
    public half of the private key beside it ("key", None where there is none). "sa" has the public digests of sa.key
    ("signer") and sa.pub ("trusted"). "verifies_kubelets": whether this node's API server does, with the cluster's CA;
    "kubelet_serving": {"path", "verifies"} of what its kubelet serves, or None.
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
    authority = layout.flags.get("kube-apiserver", {}).get("--kubelet-certificate-authority")
    return {
        "verifies_kubelets": bool(authority) and "ca" in layout.paths and layout.at(authority) == layout.paths["ca"][0],
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
        "sa": {"signer": tree.sa[0], "trusted": list(tree.sa[1]), "path": layout.sa_key},
        "clock": clock,
        "clock_offset": None if clock is None or not controller_clock else round(clock - controller_clock, 1),
    }
