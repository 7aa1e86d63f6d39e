# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide requests by a policy, and show the decisions."""

from __future__ import annotations

import datetime
from typing import Any

from ..errors import printable
from . import csr_dangers, csr_object, csr_policy, node_identity

# What is shown of a request, which may be a megabyte long.
_MOST_LISTED, _MOST_IN_CELL, _LONGEST_CELL, _LONGEST_LINE = 100, 5, 100, 1000


class CsrDecision:
    """What is to be done with a request (ask). action: "approve", "deny" or "leave". why: a sentence without a full stop.

    rule: the name of the rule that decided, or None. refused: it has something that no policy may grant.
    """

    def __init__(
        self, request: csr_object.CertificateSigningRequest, action: str, why: str, rule: str | None = None, refused: bool = False
    ) -> None:
        self.ask, self.action, self.why, self.rule, self.refused = request, action, why, rule, refused


def decide(
    request: csr_object.CertificateSigningRequest,
    wanted: str,
    policy: csr_policy.Policy | None,
    nodes: node_identity.Nodes | None = None,
    named: bool = False,
) -> CsrDecision:
    """Return the decision about one request.

    wanted: "approve" or "deny", what this run is for. policy: a Policy, or None where the requests were selected by a label
    and no policy was given: then everything selected is denied, and nothing is approved, because the requester writes the label.
    named: this very request was named. A request that cannot be read, that asks for a CA or that can be
    read in two ways is never approved; what else dangers() lists is approved only when it is named.
    """
    if request.state != csr_object.PENDING:
        return CsrDecision(request, csr_object.LEAVE, "it is %s already" % request.state)
    if wanted == csr_object.DENY:
        return _denial(request, policy, nodes, named)
    if request.problem:
        return CsrDecision(request, csr_object.LEAVE, request.problem.message, refused=True)
    found = csr_dangers.dangers_of(request)
    never, refused = (
        csr_dangers.not_allowed(found, csr_dangers.EVERY_NAME),
        csr_dangers.not_allowed(found, csr_dangers.EVERY_NAME if named else ()),
    )
    if refused:
        hint = "nothing allows that" if never else "name this request to approve it all the same"
        return CsrDecision(request, csr_object.LEAVE, "%s: %s" % ("; ".join(never or refused), hint), refused=True)
    if named:
        return CsrDecision(request, csr_object.APPROVE, "it was named")
    if policy is None:
        return CsrDecision(request, csr_object.LEAVE, "its label is the requester's own word, and there is no policy")
    rule, misses = policy.first(request, nodes)
    if rule is not None and rule.decision == csr_object.APPROVE:
        return CsrDecision(request, csr_object.APPROVE, "the policy allows it", rule.name)
    if rule is not None:
        return CsrDecision(request, csr_object.LEAVE, "the policy denies it", rule.name)
    return CsrDecision(
        request, csr_object.LEAVE, "no rule allows it (%s)" % "; ".join("%s: %s" % (printable(name), why) for name, why in misses)
    )


def _denial(
    request: csr_object.CertificateSigningRequest,
    policy: csr_policy.Policy | None,
    nodes: node_identity.Nodes | None,
    named: bool,
) -> CsrDecision:
    if named:
        return CsrDecision(request, csr_object.DENY, "it was named")
    if policy is None:
        return CsrDecision(request, csr_object.DENY, "it was selected by its label")
    found = [request.problem.message] if request.problem else csr_dangers.dangers(request)
    if found:
        return CsrDecision(request, csr_object.DENY, "; ".join(found), refused=True)
    rule, _misses = policy.first(request, nodes)
    if rule is not None and rule.decision == csr_object.DENY:
        return CsrDecision(request, csr_object.DENY, "the policy denies it", rule.name)
    return CsrDecision(request, csr_object.LEAVE, "no rule denies it")


def row(request: csr_object.CertificateSigningRequest, now: datetime.datetime) -> dict[str, Any]:
    """Return a request as plain data, every string safe to print. now: for its age."""
    parsed = request.request
    return {
        "name": printable(request.name),
        "state": request.state,
        "reason": printable(request.reason),
        "message": printable(request.message),
        "signer": printable(request.signer),
        "requester": printable(request.requester),
        "requester_groups": _some(request.requester_groups),
        "usages": _some(request.usages),
        "expiration_seconds": request.expiration_seconds,
        "age_seconds": max(0, int((now - request.created).total_seconds())) if request.created else None,
        "labels": {printable(key): printable(value) for key, value in list(request.labels.items())[:_MOST_LISTED]},
        "subject": printable(parsed.subject) if parsed else None,
        "common_name": printable(parsed.common_name or "") if parsed else None,
        "organizations": _some(parsed.organizations) if parsed else [],
        "sans": _some(parsed.sans) if parsed else [],
        "san_count": len(parsed.sans) if parsed else 0,
        "key_type": parsed.key_type if parsed else None,
        "key_sha256": parsed.key_sha256 if parsed else None,
        "problem": request.problem.message if request.problem else None,
        "dangers": [printable(danger, _LONGEST_LINE) for danger in csr_dangers.dangers(request)[:_MOST_LISTED]],
    }


def _some(texts: list[str]) -> list[str]:
    return [printable(text) for text in texts[:_MOST_LISTED]]


def _cell(text: str, longest: int = _LONGEST_CELL) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _names(texts: list[str], count: int) -> str:
    shown = texts[:_MOST_IN_CELL]
    more = " and %d more" % (count - len(shown)) if count > len(shown) else ""
    return _cell(",".join(shown) or "-", _LONGEST_CELL - len(more)) + more


def age(seconds: int | None) -> str:
    """Return an age as kubectl would: 45s, 12m, 5h, 3d."""
    if seconds is None:
        return "?"
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return "%d%s" % (seconds // size, letter)
    return "%ds" % seconds


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows (of row(), with "decision" and "why" where there are decisions) as the lines of a table."""
    if not rows:
        return ["There are no certificate signing requests."]
    lines = [("NAME", "STATE", "AGE", "SIGNER", "REQUESTER", "SUBJECT", "NAMES", "USAGES")]
    for entry in rows:
        lines.append(
            (
                _cell(entry["name"]),
                entry["state"],
                age(entry["age_seconds"]),
                _cell(entry["signer"]),
                _cell(entry["requester"]),
                _cell(entry["subject"] if entry["subject"] is not None else "unreadable"),
                _names(entry["sans"], entry["san_count"]),
                _names(entry["usages"], len(entry["usages"])),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    text = []
    for number, line in enumerate(lines):
        text.append("  ".join([cell.ljust(width) for cell, width in zip(line, widths)] + [line[-1]]))
        entry = rows[number - 1] if number else {}
        if entry.get("decision"):
            text.append("    %s: %s" % (entry["decision"], _cell(entry["why"], _LONGEST_LINE)))
        elif entry.get("state") == csr_object.PENDING and (entry["problem"] or entry["dangers"]):
            text.append("    %s" % _cell(entry["problem"] or "; ".join(entry["dangers"]), _LONGEST_LINE))
    return text
