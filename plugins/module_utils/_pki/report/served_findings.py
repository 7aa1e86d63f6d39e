# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about what live endpoints serve."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Iterable, Mapping

from ..errors import PkiError
from ..kubeadm import pki_tree
from ..x509 import x509_read
from . import expiry_findings, finding, remedies, self_signed
from .finding import Finding

if TYPE_CHECKING:
    from ..endpoint.discovery import Endpoint
    from ..kubeadm.pki_tree import Tree
    from ..x509.x509_read import Certificate


def check(
    tree: Tree,
    endpoints: Iterable[Endpoint],
    served: Mapping[str, Certificate | PkiError],
    now: datetime.datetime | None = None,
    critical_days: float = 7,
) -> list[Finding]:
    """Return the findings about live endpoints, the most severe first.

    served: {endpoint's name: what tls_handshake.collect_certificates returned}; one that is absent was not asked. now: in UTC.
    """
    now = now or x509_read.now()
    found = []
    for endpoint in endpoints:
        seen = served.get(endpoint.name)
        if isinstance(seen, PkiError):
            found.append(_down(endpoint, seen))
        elif seen is not None:
            found += _check_certificate(tree, endpoint, seen, now, critical_days)
    return finding.sort_by_severity(found)


def _down(endpoint: Endpoint, seen: PkiError) -> Finding:
    code, fix = "endpoint-down", seen.fix or "See the log of %s." % endpoint.component
    if endpoint.component == "kubelet":
        code, fix = "kubelet-down", "See `systemctl status kubelet` and `journalctl -u kubelet`; start it again."
    message = "%s did not respond: %s" % (endpoint.component, seen.message)
    return finding.error(code, endpoint.address, message, fix, endpoint.item)


def _check_certificate(
    tree: Tree, endpoint: Endpoint, seen: Certificate, now: datetime.datetime, critical_days: float
) -> list[Finding]:
    item = tree.items.get(endpoint.item) if endpoint.item else None
    state = pki_tree.state_of(seen, now, critical_days, critical_days)
    fix = remedies.restart(endpoint.component)
    if item is not None and item.certificate is not None:
        if item.certificate.sha256 == seen.sha256:
            return []
        message = "%s serves a certificate that expires on %s, while the one in %s expires on %s" % (
            endpoint.component,
            x509_read.timestamp(seen.not_after),
            item.path,
            x509_read.timestamp(item.certificate.not_after),
        )
        severity = finding.ERROR if state != "ok" else finding.WARNING
        return [finding.make(severity, "served-differs", endpoint.address, message, fix, item.name)]
    if seen.not_before > now:
        what = "%s serves a certificate that" % endpoint.component
        return [expiry_findings.not_yet_valid(finding.ERROR, endpoint.address, what, seen, fix, endpoint.item)]
    if state == "ok" or self_signed.is_kubelet_self_signed(endpoint.item, seen):
        return []
    code, verb = ("expired", "expired") if state == "expired" else ("expires-soon", "expires")
    message = "%s serves a certificate that %s on %s" % (endpoint.component, verb, x509_read.timestamp(seen.not_after))
    return [finding.error(code, endpoint.address, message, fix, endpoint.item)]
