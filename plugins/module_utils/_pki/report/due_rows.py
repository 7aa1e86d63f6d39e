# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows of the report have too few days left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable

if TYPE_CHECKING:
    from .rows import Row

# kubeadm makes super-admin.conf on its first node only; a kubelet without a serving certificate makes one when it starts.
_OPTIONAL = ("super-admin.conf", "kubelet-serving")


def is_optional_and_missing(row: Row) -> bool:
    """Return whether a row is about a certificate that does not exist and does not have to."""
    return row["status"] == "missing" and row["name"] in _OPTIONAL


def find_due(rows: Iterable[Row], days: float | None) -> list[tuple[float, Row, str]]:
    """Return the rows that have fewer than `days` left as (seconds left, row, reason), the shortest time first.

    One that cannot be read, or is missing and should not be, has 0 seconds left. A certificate that a kubelet signed itself does
    not count. reason: "unreadable", "missing", "expired" or the days left. days: with 0 or less there are none.
    """
    if not days or days < 0:
        return []
    found = []
    for row in rows:
        left, reason = row.get("residual_seconds"), _failure(row)
        if not reason and left is not None and left < days * 86400:
            reason = "%.1f days" % (left / 86400.0)
        if reason and not row["kubelet_self_signed"]:
            found.append((left or 0, row, reason))
    return sorted(found, key=lambda item: item[0])


def _failure(row: Row) -> str:
    if row.get("problem"):
        return "unreadable"
    if row["status"] == "missing":
        return "" if is_optional_and_missing(row) else "missing"
    return "expired" if row["status"] == "expired" else ""
