# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about a node's clock, by which certificates become valid and expire."""

from __future__ import annotations

from . import finding
from .finding import Finding

# etcd complains about a second, leases and tokens about more; ssh and a loaded controller explain most of this.
CLOCK_WARNING_SECONDS, CLOCK_ERROR_SECONDS = 30, 300


def check(offset: float | None) -> list[Finding]:
    """Return the finding of a clock that differs from the controller's.

    offset: seconds that the node is ahead, negative when it is behind, None when unknown.
    """
    if offset is None or abs(offset) < CLOCK_WARNING_SECONDS:
        return []
    return [
        finding.make(
            finding.ERROR if abs(offset) >= CLOCK_ERROR_SECONDS else finding.WARNING,
            "clock-off",
            "clock",
            "the node's clock is %s %s the controller's"
            % (finding.duration_text(offset), "ahead of" if offset > 0 else "behind"),
            "Set both from the same time servers (timedatectl, chronyc tracking): the validity of certificates depends on it.",
        )
    ]
