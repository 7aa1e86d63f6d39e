# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about what live endpoints serve, and about clocks."""

from __future__ import annotations

from ..errors import PkiError
from ..kubeadm import pki_tree
from ..x509 import x509_read
from . import finding, findings

# etcd complains about a second, leases and tokens about more; ssh and a loaded controller make up for most of this.
CLOCK_WARNING_SECONDS, CLOCK_ERROR_SECONDS = 30, 300


def check_served(tree, endpoints, served, now=None, critical_days=7):
    """Give the findings of what live endpoints serve. endpoints: [probe.Endpoint]; served: {name: Certificate or PkiError}."""
    now = now or x509_read.now()
    found = []
    for endpoint in endpoints:
        seen = served.get(endpoint.name)
        if isinstance(seen, PkiError):
            code, fix = "endpoint-down", seen.fix or "See the log of %s." % endpoint.component
            if endpoint.component == "kubelet":
                code, fix = "kubelet-down", "See `systemctl status kubelet` and `journalctl -u kubelet`; start it again."
            message = "%s does not answer: %s" % (endpoint.component, seen.message)
            found.append(finding.finding(finding.ERROR, code, endpoint.address, message, fix, endpoint.item))
            continue
        if seen is None:
            continue
        item = tree.items.get(endpoint.item)
        state = pki_tree.state_of(seen, now, critical_days, critical_days)
        if item is not None and item.certificate is not None:
            if item.certificate.sha256 != seen.sha256:
                found.append(
                    finding.finding(
                        finding.ERROR if state != "ok" else finding.WARNING,
                        "served-differs",
                        endpoint.address,
                        "%s serves a certificate that ends %s, while the one in %s ends %s"
                        % (
                            endpoint.component,
                            x509_read.timestamp(seen.not_after),
                            item.path,
                            x509_read.timestamp(item.certificate.not_after),
                        ),
                        findings.restart_remedy(endpoint.component),
                        item.name,
                    )
                )
        elif seen.not_before > now:
            found.append(
                findings.not_yet_valid(
                    finding.ERROR,
                    endpoint.address,
                    "%s serves a certificate that" % endpoint.component,
                    seen,
                    findings.restart_remedy(endpoint.component),
                    endpoint.item,
                )
            )
        elif state != "ok" and not findings.own_serving(endpoint.item, seen.issuer):
            found.append(
                finding.finding(
                    finding.ERROR,
                    "expired" if state == "expired" else "expires-soon",
                    endpoint.address,
                    "%s serves a certificate that %s %s"
                    % (endpoint.component, "ended" if state == "expired" else "ends", x509_read.timestamp(seen.not_after)),
                    findings.restart_remedy(endpoint.component),
                    endpoint.item,
                )
            )
    return finding.ordered(found)


def check_clock(offset):
    """Give the finding of a clock that is `offset` seconds ahead of (negative: behind) the controller's. None: unknown."""
    if offset is None or abs(offset) < CLOCK_WARNING_SECONDS:
        return []
    return [
        finding.finding(
            finding.ERROR if abs(offset) >= CLOCK_ERROR_SECONDS else finding.WARNING,
            "clock-off",
            "clock",
            "the node's clock is %s %s the controller's" % (finding.span(offset), "ahead of" if offset > 0 else "behind"),
            "Set both from the same time servers (timedatectl, chronyc tracking): certificates begin and end by this clock.",
        )
    ]
