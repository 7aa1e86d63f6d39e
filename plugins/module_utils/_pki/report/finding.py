# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding of the report, and the order of severities."""

from __future__ import annotations

from typing import Iterable, List, Optional, TypedDict

ERROR, WARNING, INFO = "error", "warning", "info"

SEVERITIES = (ERROR, WARNING, INFO)  # the most severe first


class Finding(TypedDict):
    """One entry of "findings" in report.json.

    severity: one of SEVERITIES. code: stable, for programs. name: of the certificate, or None. path: file or host:port, or
    None. message: what is wrong, without a full stop at the end. fix: what to do, as sentences.
    """

    severity: str
    code: str
    name: Optional[str]
    path: Optional[str]
    message: str
    fix: Optional[str]


def make(severity: str, code: str, path: str | None, message: str, fix: str | None, name: str | None = None) -> Finding:
    """Return a finding. Arguments: see Finding."""
    return {"severity": severity, "code": code, "name": name, "path": path, "message": message, "fix": fix}


def error(code: str, path: str | None, message: str, fix: str | None, name: str | None = None) -> Finding:
    """Return a finding of severity error."""
    return make(ERROR, code, path, message, fix, name)


def warning(code: str, path: str | None, message: str, fix: str | None, name: str | None = None) -> Finding:
    """Return a finding of severity warning."""
    return make(WARNING, code, path, message, fix, name)


def info(code: str, path: str | None, message: str, fix: str | None, name: str | None = None) -> Finding:
    """Return a finding of severity info."""
    return make(INFO, code, path, message, fix, name)


def rank(one: Finding) -> int:
    """Return 0 for the highest severity, for sorting."""
    return SEVERITIES.index(one["severity"])


def sort_by_severity(found: Iterable[Finding]) -> List[Finding]:
    """Return findings with the most severe first; those of one severity keep their order."""
    return sorted(found, key=rank)


def duration_text(seconds: float) -> str:
    """Return a time in words, without its sign: "3 days", "5 hours", "20 seconds"."""
    seconds = abs(seconds)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return "%d %ss" % (seconds // size, unit)
    return "%d seconds" % seconds
