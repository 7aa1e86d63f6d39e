# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about validity: expired, soon expired, not yet valid, and leaves that outlive their CA."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from ..kubeadm import catalogue, pki_tree
from ..x509 import x509_read
from . import finding, remedies, self_signed
from .finding import Finding

if TYPE_CHECKING:
    from ..kubeadm.pki_tree import Item, Tree
    from ..x509.x509_read import Certificate

# Replacing a CA takes planning (external clients, pinned copies): half a year before it expires is the time to begin.
CA_LEAD_DAYS = 180

_EXPIRES = {"expired": ("expired", "expired"), "warning": ("expires-soon", "expires"), "critical": ("expires-soon", "expires")}


def check_item(tree: Tree, item: Item, now: datetime.datetime, warn_days: float, critical_days: float) -> list[Finding]:
    """Return the findings about the validity of one certificate of the catalogue. now: in UTC."""
    certificate = item.certificate
    if item.kind == catalogue.CA:
        return _check_ca(item, now, critical_days)
    if certificate.not_before > now:
        return [not_yet_valid(finding.ERROR, item.path, item.name, certificate, remedies.for_item(item), item.name)]
    state = pki_tree.state_of(certificate, now, warn_days, critical_days)
    if state == "ok":
        return []
    when = x509_read.timestamp(certificate.not_after)
    code, verb = _EXPIRES[state]
    if self_signed.is_kubelet_self_signed(item.name, certificate):
        message = (
            "%s, which the kubelet signed itself and does not renew, %s on %s; the API server does not verify it, programs that "
            "read the kubelet's metrics may" % (item.name, verb, when)
        )
        fix = remedies.BOOTSTRAP_SERVING + " Or remove the file and restart the kubelet: it makes a new one for a year."
        return [finding.warning(code, item.path, message, fix, item.name)]
    if state == "expired":
        return [finding.error(code, item.path, "%s expired on %s" % (item.name, when), remedies.for_item(item), item.name)]
    left = finding.duration_text((certificate.not_after - now).total_seconds())
    message = "%s expires on %s, in %s" % (item.name, when, left)
    if item.name == "kubelet-client" and tree.layout.kubelet["rotate"]:
        message += "; the kubelet renews it itself much earlier, and has not"
    severity = finding.ERROR if state == "critical" else finding.WARNING
    return [finding.make(severity, code, item.path, message, remedies.for_item(item), item.name)]


def check_unmanaged(item: Item, now: datetime.datetime, warn_days: float, critical_days: float) -> list[Finding]:
    """Return the findings about a certificate that the catalogue does not know. Nothing but its validity is judged."""
    what = "%s, which is not kubeadm's," % item.name
    if item.problem is not None:
        return [finding.warning("unreadable", item.path, item.problem.message, remedies.RENEW_UNMANAGED, item.name)]
    if item.certificate.not_before > now:
        return [not_yet_valid(finding.WARNING, item.path, what, item.certificate, remedies.RENEW_UNMANAGED, item.name)]
    state = pki_tree.state_of(item.certificate, now, warn_days, critical_days)
    if state == "ok":
        return []
    code, verb = _EXPIRES[state]
    message = "%s %s on %s" % (what, verb, x509_read.timestamp(item.certificate.not_after))
    return [finding.warning(code, item.path, message, remedies.RENEW_UNMANAGED, item.name)]


def check_outlives_ca(tree: Tree, item: Item) -> list[Finding]:
    """Return the finding of a leaf that is valid for longer than the CA that signed it."""
    signer = tree.signer(item) if item.kind != catalogue.CA else None
    if signer is None or item.certificate.not_after <= signer.not_after:
        return []
    message = "expires on %s, but its CA already on %s: clients reject it from then on" % (
        x509_read.timestamp(item.certificate.not_after),
        x509_read.timestamp(signer.not_after),
    )
    fix = "Replace the CA before that day: run the playbook rotate_ca with kubepki_cas=%s." % (item.ca or "ca")
    return [finding.error("leaf-outlives-ca", item.path, message, fix, item.name)]


def not_yet_valid(severity: str, path: str, what: str, certificate: Certificate, fix: str, name: str | None) -> Finding:
    """Return the finding of a certificate whose validity has not begun. what: the beginning of the message."""
    return finding.make(
        severity,
        "not-yet-valid",
        path,
        "%s is not valid before %s" % (what, x509_read.timestamp(certificate.not_before)),
        "Check this node's clock (timedatectl). If it is right: " + fix[:1].lower() + fix[1:],
        name,
    )


def _check_ca(item: Item, now: datetime.datetime, critical_days: float) -> list[Finding]:
    found = []
    for index, ca in enumerate(item.bundle):
        which = item.name if index == 0 else "certificate %d of %s" % (index + 1, item.name)
        if ca.not_before > now:
            # Clients reject every chain that ends at the first one. Another one that is only trusted matters once it signs.
            severity = finding.ERROR if index == 0 else finding.WARNING
            fix = remedies.RENEW_CA_ELSEWHERE if item.externally_managed else remedies.RESTORE_EARLIER_CA
            found.append(not_yet_valid(severity, item.path, "the CA %s" % which, ca, fix, item.name))
            continue
        state = pki_tree.state_of(ca, now, CA_LEAD_DAYS, critical_days)
        when = x509_read.timestamp(ca.not_after)
        fix = remedies.RENEW_CA_ELSEWHERE if item.externally_managed else remedies.ROTATE_CA % item.name
        if state == "expired" and index > 0:
            # A retired CA at the end of a bundle is trusted for nothing any more; removing it is enough.
            found.append(finding.info("ca-expired", item.path, "the CA %s expired on %s" % (which, when), fix, item.name))
        elif state == "expired":
            if not item.externally_managed:
                fix = "Run the playbook recover: it renews the CA with the key it has, and restarts the cluster."
            found.append(finding.error("ca-expired", item.path, "the CA %s expired on %s" % (which, when), fix, item.name))
        elif state != "ok" and index == 0:
            left = finding.duration_text((ca.not_after - now).total_seconds())
            message = "the CA %s expires on %s, in %s, and with it everything that it signed" % (which, when, left)
            severity = finding.ERROR if state == "critical" else finding.WARNING
            found.append(finding.make(severity, "ca-expires", item.path, message, fix, item.name))
    return found
