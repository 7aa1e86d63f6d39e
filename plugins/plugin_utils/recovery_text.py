# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery as text: the diagnosis, the question before it, and the summary."""

from __future__ import annotations

from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue

from . import recovery_checks
from .recovery_checks import Look, Looks

# systemd's words for a unit; a kubelet that ends at once and is started again for ever is seen in either of two.
_UNIT = {"active": "runs", "activating": "does not stay up", "failed": "down", "inactive": "stopped"}


def diagnose(looks: Looks, silent: Mapping[str, str], control_planes: Sequence[str]) -> List[str]:
    """Return what is wrong with the cluster as lines of text: one for each CA and for each node."""
    lines: List[str] = []
    members = [look["etcd"]["data"] for look in looks.values() if recovery_checks.has_etcd(look)]
    for name in catalogue.CA_NAMES:
        held = {host: look["authorities"][name] for host, look in looks.items() if name in look["authorities"]}
        dead = sorted(host for host in held if recovery_checks.is_ca_expired(looks[host], name))
        if dead:
            lines.append("CA %s: expired on %s (on %s)" % (name, held[dead[0]]["not_after"], ", ".join(dead)))
        elif held:
            lines.append("CA %s: valid until %s" % (name, min(one["not_after"] for one in held.values())))
    away = [host for host in control_planes if host in silent]
    if members or away:
        lines.append(
            "etcd: data on %d of %d members, %d are needed%s"
            % (
                sum(members),
                len(members) + len(away),
                (len(members) + len(away)) // 2 + 1,
                "; unknown on %s" % ", ".join(away) if away else "",
            )
        )
    order = list(control_planes) + sorted(set(looks) | set(silent))
    for host in dict.fromkeys(order):
        if host in looks:
            lines.append("%s: %s" % (host, _describe(looks[host])))
        elif host in silent:
            lines.append("%s: %s" % (host, silent[host].rstrip(".")))
    return lines


def _describe(look: Look) -> str:
    rows = [row for row in look["node"]["certificates"] if row["kind"] != catalogue.CA and row["not_after"]]
    expired = sorted((row for row in rows if row["status"] == "expired"), key=lambda row: row["not_after"])
    parts: List[str] = []
    if expired:
        parts.append("%d of %d certificates expired, %s" % (len(expired), len(rows), _when(expired)))
    elif rows:
        first = min(rows, key=lambda row: row["not_after"])
        parts.append(
            "no certificate of %d has expired, the first to expire is %s on %s" % (len(rows), first["name"], first["not_after"])
        )
    facts = look["node"]["facts"]
    if facts.get("clock"):
        offset = facts.get("clock_offset")
        parts.append(
            "clock %s%s" % (recovery_checks.format_moment(facts["clock"]), "" if offset is None else " (%+.0f s)" % offset)
        )
    for name in recovery_checks.PODS:
        seen = look["health"].get(name)
        if seen is not None:
            parts.append("%s %s" % (name, "answers" if seen["healthy"] else "down"))
    if look.get("kubelet") is not None:
        parts.append("kubelet %s" % _UNIT.get(look["kubelet"].get("unit"), look["kubelet"].get("unit")))
    if look["pending"] is not None:
        parts.append("a recovery that was interrupted")
    return ", ".join(parts)


def _when(expired: Sequence[Mapping[str, Any]]) -> str:
    first, last = expired[0], expired[-1]
    if first["not_after"] == last["not_after"]:
        return "on %s" % first["not_after"]
    return "from %s (%s) to %s (%s)" % (first["not_after"], first["name"], last["not_after"], last["name"])


def format_question(plan: Mapping[str, Any]) -> str:
    """Return the question that the user has to confirm before the plan is carried out."""
    parts = ["The cluster's certificates are issued again"]
    if plan["authorities"]:
        parts.append("its CAs %s are renewed with the same keys" % ", ".join(sorted(plan["authorities"])))
    restarted = sorted(host for host, todo in plan["hosts"].items() if todo["restart"])
    if restarted:
        parts.append("the control-plane pods of %s are stopped and started again, all at once" % ", ".join(restarted))
    return "%s. Are the clocks above right?" % "; ".join(parts)


def format_plan(plan: Mapping[str, Any]) -> List[str]:
    """Return the diagnosis and the plan as lines of text, each safe to display."""
    lines = ["DIAGNOSIS"] + ["  " + line for line in plan["diagnosis"]]
    if plan["refusal"]:
        lines += ["NOTHING IS DONE", "  " + plan["refusal"]]
    elif not plan["needed"]:
        lines += ["NOTHING TO RECOVER", "  No certificate has expired."]
        if any(" down" in line for line in plan["diagnosis"]):
            lines.append("  What is down is down for another reason: see /var/log/pods and `journalctl -u kubelet`.")
    else:
        lines += ["PLAN"] + ["  %d. %s" % item for item in enumerate(plan["steps"], 1)]
    return [printable(line, 10 * recovery_checks.LONGEST) for line in lines]


def summarise(
    plan: Mapping[str, Any],
    looks: Looks,
    ready: Collection[str],
    failed: Collection[str],
    seconds: Optional[float],
    check: bool = False,
) -> Dict[str, Any]:
    """Return the run-level artifact {"job", "state", "changed", "check", "expired", "absent", "failed", "authorities", "nodes",
    "all", "ready", "seconds"}.

    nodes: how many responded; all: how many were asked. looks: as for decide(), taken before the recovery. ready: names of the
    Nodes that were Ready at the end. failed: hosts whose recovery failed. seconds: since the confirmation, or None.
    """
    looks, _silent = recovery_checks.well_formed(looks, {})
    expired = sum(1 for look in looks.values() for row in look["node"]["certificates"] if row["status"] == "expired")
    changed = bool(plan["needed"] and seconds is not None and not check)
    state = "failed" if plan["refusal"] or failed else "warning" if plan["absent"] else "changed" if changed else "ok"
    return {
        "job": "recover",
        "state": state,
        "changed": changed,
        "check": check,
        "expired": expired,
        "nodes": len(looks),
        "all": len(set(looks) | set(plan["absent"])),
        "absent": sorted(plan["absent"]),
        "failed": sorted(failed),
        "authorities": sorted(plan["authorities"]),
        "ready": sorted(ready),
        "seconds": seconds,
    }


def list_incomplete(plan: Mapping[str, Any], failed: Collection[str]) -> str:
    """Return the hosts that are not recovered, and why, as one message; "" when all are."""
    missing = dict(plan["absent"], **{host: "failed on the way, see above" for host in failed})
    return "; ".join(printable("%s: %s" % (host, missing[host].rstrip(".")), recovery_checks.LONGEST) for host in sorted(missing))


def format_summary(artifact: Mapping[str, Any]) -> str:
    """Return the last line of the run's output."""
    if artifact["seconds"] is None:
        why = "check mode, nothing was changed" if artifact["check"] and artifact["expired"] else "nothing was to be done"
        return "recover: %s. %s; expired certificates: %d." % (artifact["state"], why, artifact["expired"])
    parts = ["%d of %d nodes are Ready" % (len(artifact["ready"]), artifact["all"])]
    parts.append("expired certificates: %d" % artifact["expired"])
    if artifact["authorities"]:
        parts.append("renewed with the same keys: %s" % ", ".join(artifact["authorities"]))
    for key, text in (("absent", "left out: %s"), ("failed", "failed: %s")):
        if artifact[key]:
            parts.append(text % ", ".join(artifact[key]))
    return "recover: %s. %s, %.0f s since the confirmation." % (artifact["state"], "; ".join(parts), artifact["seconds"])
