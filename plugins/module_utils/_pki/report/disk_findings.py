# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All findings about what is on a node's disk."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from ..x509 import x509_read
from . import (
    expiry_findings,
    file_findings,
    finding,
    kubelet_findings,
    manifest_findings,
    name_findings,
    trust_findings,
)
from .finding import Finding

if TYPE_CHECKING:
    from ..kubeadm.pki_tree import Tree


def check(
    tree: Tree, now: datetime.datetime | None = None, warn_days: float = 30, critical_days: float = 7, owner: int = 0
) -> list[Finding]:
    """Return the findings about a node's disk, the most severe first.

    now: in UTC. owner: the uid that files should have.
    """
    now = now or x509_read.now()
    layout = tree.layout
    found = [
        trust_findings.unreadable(error)
        for error in layout.problems
        if error.path not in layout.foreign or manifest_findings.is_manifest_name(error.path)
    ]
    for item in tree.items.values():
        if trust_findings.is_alias(tree, item):
            continue  # the same file under its other name has the findings
        found += file_findings.check_presence(tree, item)
        if item.certificate is not None:
            found += file_findings.check_pair(item)
            found += expiry_findings.check_item(tree, item, now, warn_days, critical_days)
            found += trust_findings.check_signature(tree, item)
            found += expiry_findings.check_outlives_ca(tree, item)
            found += file_findings.check_serials(item)
        found += file_findings.check_item_modes(tree, item, owner)
    for item in tree.others:
        found += expiry_findings.check_unmanaged(item, now, warn_days, critical_days)
    found += trust_findings.check_cas(tree)
    found += name_findings.check(tree)
    found += kubelet_findings.check(tree)
    found += trust_findings.check_kubeconfigs(tree)
    found += file_findings.check_service_account(tree, owner)
    found += manifest_findings.check_directory(layout)
    found += manifest_findings.check_signing_keys(layout)
    return finding.sort_by_severity(found)
