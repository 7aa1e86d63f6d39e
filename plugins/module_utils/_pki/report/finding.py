# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding of the report: severity, code, sentence and remedy."""

from __future__ import annotations

ERROR, WARNING, INFO = "error", "warning", "info"

_RANK = {ERROR: 0, WARNING: 1, INFO: 2}


def finding(severity, code, path, message, fix, name=None):
    """Give one finding. path: file or host:port; fix: what to do, as a sentence."""
    return {"severity": severity, "code": code, "name": name, "path": path, "message": message, "fix": fix}


def ordered(found):
    """Give findings with the most severe first, and otherwise in the order in which they were made."""
    return sorted(found, key=lambda one: _RANK[one["severity"]])


def span(seconds):
    """Give a time in words: "3 days", "5 hours", "20 seconds"."""
    seconds = abs(seconds)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return "%d %ss" % (seconds // size, unit)
    return "%d seconds" % seconds
