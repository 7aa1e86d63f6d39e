# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job over all nodes as a whole: what stands in its way, what it did, in which state it left the cluster."""

from __future__ import annotations

import time
from typing import Any, Collection, Dict, Iterable, List, Mapping, Optional, Sequence

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import due_rows, remedies

from . import answers, cluster_report

Results = List[Mapping[str, Any]]  # of the modules that worked on one host


def obstacles(nodes: Mapping[str, Any], silent: Mapping[str, str], codes: Collection[str]) -> Optional[str]:
    """Return in one message why a job must not start, or None.

    nodes: {host: node} of a report. silent: {host: reason} of hosts that returned nothing. codes: of the findings that
    stand in the way; a malformed answer always does.
    """
    lines = []
    for host in sorted(silent):
        lines.append(
            "%s: %s. Bring it back, or take it out of the inventory if it is gone for good." % (host, silent[host].rstrip("."))
        )
    for host in sorted(nodes):
        for finding in nodes[host].get("findings", []):
            if finding["code"] in codes or finding["code"] == answers.CODE:
                where = "%s: " % finding["path"] if finding.get("path") else ""
                lines.append("%s: %s%s. %s" % (host, where, finding["message"].rstrip("."), finding.get("fix") or ""))
    if not lines:
        return None
    return "Nothing was changed anywhere, because: " + " ".join(printable(line.strip(), 4000) for line in lines)


def summarise(
    name: str, document: cluster_report.Report, done: Mapping[str, Results], began: Optional[float] = None, check: bool = False
) -> Dict[str, Any]:
    """Return the run-level artifact of a job that has finished.

    document: the report. done: {host: [result mappings of the modules that worked on it]}. began: epoch seconds or None.
    check: nothing was done, and the counts are those of a real run. Return {"job", "check", "state", "status", "phase", "nodes",
    "unreachable", "certificates", "findings", "renewed", "requested", "restarted", "reloaded", "restored", "seconds"}: flat
    counts, no names of files, nothing secret. "requested": how many certificates wait for an external CA.
    """
    results = [result for host in done for result in done[host] if result]
    certificates = [row for node in document["nodes"].values() for row in node.get("certificates", [])]
    leaves = [leaf for result in results for leaf in result.get("leaves", [])]
    pods = [pod for result in results for pod in result.get("pods", [])]

    def count(rows: Iterable[Mapping[str, Any]], *actions: str) -> int:
        return sum(1 for row in rows if row.get("action") in actions)

    changed = any(result.get("changed") for result in results)
    requested = sum(_requested(done[host]) for host in done)
    state = {"expired": "critical"}.get(document["status"], document["status"])
    if state == "ok" and changed:
        state = "changed"
    if state in ("ok", "changed") and requested:
        state = "warning"
    return {
        "job": name,
        "check": check,
        "state": state,
        "status": document["status"],
        "changed": changed,
        "phase": document["cluster"]["phase"],
        "nodes": len(document["nodes"]),
        "unreachable": sorted(document.get("unreachable", {})),
        "certificates": len(certificates),
        "findings": sum(len(node.get("findings", [])) for node in document["nodes"].values()),
        "renewed": count(leaves, "renewed", "created"),
        "requested": requested,
        "restarted": count(pods, "restarted"),
        "reloaded": sum(_reloaded(done[host]) for host in done),
        "restored": sum(len(result.get("restored", [])) for result in results),
        "seconds": round(time.time() - began, 1) if began else None,
    }


def _requested(results: Results) -> int:
    """Return how many certificates of one node are requested and not there yet."""
    rows = [leaf for result in results if result for leaf in result.get("leaves", [])]
    return len(
        {row["name"] for row in rows if row.get("action") == "requested"}
        - {row["name"] for row in rows if row.get("action") in ("renewed", "created")}
    )


def _reloaded(results: Results) -> int:
    """Return how many components of one node use a renewed certificate without having been restarted."""
    renewed = {
        leaf.get("consumer")
        for result in results
        if result
        for leaf in result.get("leaves", [])
        if leaf.get("action") in ("renewed", "created") and leaf.get("takes_up") == catalogue.RELOADS
    }
    return len(
        {
            pod["name"]
            for result in results
            if result
            for pod in result.get("pods", [])
            if pod.get("action") in ("kept", "reloaded")
        }
        & renewed
    )


def sentence(artifact: Mapping[str, Any], written: Sequence[str] = ()) -> str:
    """Return the summary at the end of a job. written: paths of the report's files."""
    parts = [
        "%s on %s"
        % (cluster_report.counted(artifact["certificates"], "certificate"), cluster_report.counted(artifact["nodes"], "node"))
    ]
    if artifact["renewed"]:
        parts.append("%d renewed" % artifact["renewed"])
    if artifact["requested"]:
        parts.append("%d wait to be signed elsewhere" % artifact["requested"])
    for key, noun, text in (
        ("restarted", "static pod", " restarted"),
        ("reloaded", "static pod", " picked up new certificates without a restart"),
        ("restored", "file", " restored"),
        ("findings", "finding", ""),
    ):
        if artifact[key]:
            parts.append(cluster_report.counted(artifact[key], noun) + text)
    if artifact["unreachable"]:
        parts.append("no answer from %s" % ", ".join(artifact["unreachable"]))
    text = "%s: %s. %s" % (artifact["job"], artifact["state"], ", ".join(parts))
    if artifact["check"]:
        text = "%s, check mode, nothing was changed; as planned: %s" % (artifact["job"], ", ".join(parts))
    if artifact["seconds"] is not None:
        text += ", %.0f s" % artifact["seconds"]
    text += "."
    if written:
        text += "\nWritten: %s" % ", ".join(written)
    return text


def below(document: cluster_report.Report, days: float) -> str:
    """Return which certificates have fewer days left than `days` (due_rows.find_due), as one message, or "". 0: none."""
    due = [
        (left, host, row, word)
        for host in sorted(document["nodes"])
        for left, row, word in due_rows.find_due(document["nodes"][host].get("certificates", []), days)
    ]
    if not due:
        return ""
    due.sort(key=lambda item: item[:2])
    named = ["%s on %s (%s)" % (row["name"], host, word) for _left, host, row, word in due[:5]]
    more = " and %d more" % (len(due) - 5) if len(due) > 5 else ""
    return "%s with less than %g days left: %s%s. %s" % (
        cluster_report.counted(len(due), "certificate"),
        days,
        ", ".join(named),
        more,
        remedies.for_rows(row for _l, _h, row, _w in due),
    )
