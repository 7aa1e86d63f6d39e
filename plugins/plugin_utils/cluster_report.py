# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a whole cluster, made on the controller from what every node said: data, table, JSON.

The HTML page is made by report_html.
"""

from __future__ import annotations

import datetime
import json
import textwrap
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import due_rows, finding

from . import answers, node_comparison, rotation_model, rotation_state

SCHEMA = 1

Report = Mapping[str, Any]  # report.json
Node = Mapping[str, Any]  # one of its nodes
Row = Mapping[str, Any]  # one certificate
Finding = Mapping[str, Any]

_LONGEST = 4000  # of one line, or of one text of a node

_RANK = {"expired": 0, "critical": 1, "missing": 2, "warning": 3, "ok": 4}

_OF_SEVERITY = {"error": "critical", "warning": "warning", "info": "ok"}

_ROLE_RANK = {"control-plane": 0, "etcd": 1, "worker": 2}

ROLES = {"control-plane": "control plane", "etcd": "etcd", "worker": "worker"}

_COLUMNS = ("CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE AUTHORITY", "STATUS", "SERVED", "EXTERNALLY MANAGED")


def build(
    nodes: Mapping[str, Any],
    silent: Optional[Mapping[str, str]] = None,
    warn_below_days: float = 30,
    critical_below_days: float = 7,
    now: Optional[float] = None,
    phases: Optional[Mapping[str, str]] = None,
) -> Report:
    """Return report.json as a mapping (schema 1).

    nodes: {host: the "node" that cert_expiry returned}. silent: {host: why it said nothing}. now: seconds since 1970, or None.
    phases: {CA: phase} where the caller derived them; otherwise they are derived from the files of the nodes, here.
    Adds the findings that need the facts of several nodes. A node whose answer is malformed has that as its one finding
    (answers.CODE).
    """
    nodes = {host: _well_formed(node) for host, node in nodes.items()}
    moment = (
        datetime.datetime.now(datetime.timezone.utc)
        if now is None
        else datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    )
    facts = {host: node["facts"] for host, node in nodes.items()}
    compared = node_comparison.check_nodes(facts)
    described: Dict[str, Dict[str, Any]] = {}
    for host in sorted(nodes, key=lambda host: (_ROLE_RANK.get(facts[host].get("role"), 3), host)):
        node = nodes[host]
        described[host] = {
            "role": facts[host].get("role"),
            "certificates": list(node.get("certificates", [])),
            "endpoints": list(node.get("endpoints", [])),
            "facts": facts[host],
            "findings": finding.sort_by_severity(list(node.get("findings", [])) + compared.get(host, [])),
        }
        described[host]["status"] = _worst(described[host])
    document: Dict[str, Any] = {
        "schema": SCHEMA,
        "generated_at": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "status": "ok",
        "thresholds": {"warn_below_days": warn_below_days, "critical_below_days": critical_below_days},
        "cluster": {
            "endpoint": _common([fact.get("control_plane_endpoint") for fact in facts.values()]),
            "phase": phases or _phases(facts),
        },
        "nodes": described,
        "unreachable": dict(silent or {}),
    }
    words = [node["status"] for node in described.values()] + (["warning"] if silent else [])
    document["status"] = min(words, key=lambda word: _RANK[word]) if words else "ok"
    document["cluster"]["counts"] = counts(document)
    document["cluster"]["next"] = _next(document)
    return document


def _well_formed(node: Any) -> Node:
    """Return the answer of a node, or in its place one with the finding that it is malformed."""
    fault = answers.fault(node, answers.REPORT)
    return {"certificates": [], "findings": [answers.finding(fault)], "facts": {}} if fault else node


def as_json(document: Report) -> str:
    """Return the text of report.json."""
    return json.dumps(document, indent=1, sort_keys=False) + "\n"


def text(document: Report, width: int = 120) -> str:
    """Return the report for a terminal: a table per node as kubeadm prints it, then the findings with their remedies.

    The most urgent comes first: rows by status, findings by severity. width: columns; only findings are wrapped.
    """
    lines = [headline(document), ""]
    for host, node in document["nodes"].items():
        facts = node["facts"]
        title = "%s (%s%s)" % (
            host,
            ROLES.get(node["role"], "no Kubernetes node"),
            ", v1.%d" % facts["minor"] if facts.get("minor") else "",
        )
        if node["certificates"]:
            lines += [title] + _table([_COLUMNS] + [_cells(row) for row in urgent(node["certificates"])]) + [""]
        else:
            lines += [title, "  no certificates found", ""]
    for host, reason in sorted(document["unreachable"].items()):
        lines += ["%s: %s" % (host, _clean(reason)), ""]
    found = all_findings(document)
    if found:
        lines.append("FINDINGS")
        for hosts, one in found:
            lines += _finding_lines(hosts, one, width)
    else:
        lines.append("Nothing is wrong on the nodes that answered." if document["unreachable"] else "Nothing is wrong.")
    # A file's name may hold what a terminal would obey, and line breaks.
    return "\n".join(_clean(line) for line in lines).rstrip() + "\n"


def headline(document: Report) -> str:
    """Return the report in one line: the cluster, its status, the number of certificates, the first to expire."""
    cluster = document["cluster"]
    tally = cluster["counts"]
    parts = [
        "%s: %s" % (_clean(cluster["endpoint"] or "cluster"), document["status"].upper()),
        "%s on %s" % (counted(sum(tally["certificates"].values()), "certificate"), counted(len(document["nodes"]), "node")),
    ]
    parts += [
        "%d %s" % (tally["certificates"][word], word)
        for word in ("expired", "critical", "warning")
        if tally["certificates"][word]
    ]
    if tally["findings"]["error"]:
        parts.append(counted(tally["findings"]["error"], "error"))
    if cluster["next"]:
        parts.append(
            "next to end: %s on %s, %s"
            % (cluster["next"]["name"], cluster["next"]["node"], residual(cluster["next"]["residual_seconds"]))
        )
    return _clean(", ".join(parts) + " (as of %s)" % document["generated_at"])


def counted(number: int, noun: str) -> str:
    """Return "1 node" or "3 nodes"."""
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def all_findings(document: Report) -> List[Tuple[List[str], Finding]]:
    """Return [([hosts], finding)], the most severe first; the same finding on several nodes is one."""
    merged: Dict[Tuple[Any, ...], Tuple[List[str], Finding]] = {}
    for host, node in document["nodes"].items():
        for one in node["findings"]:
            key = (one["severity"], one["code"], one["path"], one["message"], one["fix"])
            merged.setdefault(key, ([], one))[0].append(host)
    return sorted(merged.values(), key=lambda pair: finding.rank(pair[1]))


def counts(document: Report) -> Dict[str, Dict[str, int]]:
    """Return {"certificates": {status: int}, "findings": {severity: int}}; optional ones that are missing do not count.

    A kubelet's own serving certificate counts as a warning at most, as in its finding.
    """
    certificates = dict.fromkeys(("ok", "warning", "critical", "expired", "missing"), 0)
    severities = dict.fromkeys(finding.SEVERITIES, 0)
    for node in document["nodes"].values():
        for row in node["certificates"]:
            if not due_rows.is_optional_and_missing(row):
                harmless = row["status"] in ("critical", "expired") and row["kubelet_self_signed"]
                certificates["warning" if harmless else row["status"]] += 1
        for one in node["findings"]:
            severities[one["severity"]] += 1
    return {"certificates": certificates, "findings": severities}


def urgent(rows: Iterable[Row]) -> List[Row]:
    """Return rows with the most urgent first. Those without a fault keep their order."""
    return sorted(rows, key=lambda row: 4 if due_rows.is_optional_and_missing(row) else _RANK[row["status"]])


def residual(seconds: Optional[float]) -> str:
    """Return a residual time as kubeadm shows it (apimachinery: ShortHumanDuration), and for the past how long ago."""
    if seconds is None:
        return "-"
    size = abs(seconds)
    units = ((60, 1, "s"), (3600, 60, "m"), (86400, 3600, "h"), (365 * 86400, 86400, "d"), (size + 1, 365 * 86400, "y"))
    unit, name = next((unit, name) for limit, unit, name in units if size < limit)
    short = "%d%s" % (size // unit, name)
    return short if seconds >= 0 else "%s ago" % short


def moment(timestamp: Optional[str]) -> str:
    """Return a timestamp as kubeadm shows it: Nov 21, 2027 18:36 UTC."""
    if not timestamp:
        return "-"
    parsed = datetime.datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ")
    # strftime's %b would follow the controller's language.
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[parsed.month - 1]
    return "%s %02d, %d %02d:%02d UTC" % (month, parsed.day, parsed.year, parsed.hour, parsed.minute)


def served(row: Row) -> str:
    """Return "yes", "differs" or "-": whether the live endpoint serves what is on disk."""
    if not row["served_sha256"]:
        return "-"
    return "yes" if row["served_sha256"] == row["sha256"] else "differs"


def _cells(row: Row) -> List[str]:
    authority = "" if row["kind"] == catalogue.CA else row["ca"] or "-"
    return [
        row["name"],
        moment(row["not_after"]),
        residual(row["residual_seconds"]),
        authority,
        row["status"] if not row["problem"] else "unreadable",
        served(row),
        "yes" if row["externally_managed"] else "no",
    ]


def _table(rows: Sequence[Sequence[str]]) -> List[str]:
    rows = [[_clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _finding_lines(hosts: Sequence[str], one: Finding, width: int) -> List[str]:
    head = "  %-7s %s  %s" % (one["severity"], one["code"], ", ".join(hosts))
    body = "%s: %s." % (one["path"], one["message"]) if one["path"] else one["message"] + "."
    lines = [head]
    for paragraph in (body, one["fix"] or ""):
        lines += textwrap.wrap(
            _clean(paragraph),
            width,
            initial_indent=" " * 10,
            subsequent_indent=" " * 10,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _clean(value: object) -> str:
    # A subject or a file's name may hold what a terminal would obey.
    return printable(value, _LONGEST)


def _worst(node: Node) -> str:
    words = [row["status"] for row in node["certificates"] if row["status"] != "missing" and not row["kubelet_self_signed"]]
    words += [_OF_SEVERITY[one["severity"]] for one in node["findings"]]
    return min(words, key=lambda word: _RANK[word]) if words else "ok"


def _next(document: Report) -> Optional[Dict[str, Any]]:
    rows = [
        (row["residual_seconds"], host, row)
        for host, node in document["nodes"].items()
        for row in node["certificates"]
        if row["residual_seconds"] is not None and not row["kubelet_self_signed"]
    ]
    if not rows:
        return None
    seconds, host, row = min(rows, key=lambda item: item[0])
    return {"node": host, "name": row["name"], "not_after": row["not_after"], "residual_seconds": seconds}


def _common(values: Iterable[Optional[str]]) -> Optional[str]:
    known = sorted({value for value in values if value})
    return max(known, key=lambda value: list(values).count(value)) if known else None


# A cluster has a handful of CAs. Comparing nodes takes time with the square of what one of them names.
_MOST_DIGESTS = 1000


def _phases(facts: Mapping[str, Mapping[str, Any]]) -> Dict[str, str]:
    """Return {CA: phase}, derived as for a rotation from what the nodes' files show.

    A node that contradicts itself about its role, or names more than _MOST_DIGESTS certificates, is left out.
    """
    nodes = [
        dict(fact["rotation"], node=host)
        for host, fact in facts.items()
        if fact.get("rotation") and fact["rotation"]["role"] == fact.get("role") and _digests(fact["rotation"]) <= _MOST_DIGESTS
    ]
    states = rotation_state.derive_all(nodes)
    return {name: state.phase for name, state in states.items() if state.phase != rotation_model.ABSENT}


def _digests(rotation: Mapping[str, Any]) -> int:
    """Return how many certificates a node names in its facts for a rotation."""
    views = rotation["authorities"].values()
    lists = [digests for view in views for digests in [view["bundle"], view.get("signing") or [], *view["trust"].values()]]
    return sum(map(len, lists)) + len(rotation.get("certificates") or {})
