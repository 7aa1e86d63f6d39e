# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reissue of kubelets over all nodes, on the controller: what is signed, which nodes are unreachable, the summary."""

from __future__ import annotations

import re
import time
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError, printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import node_binding

from . import answers

Result = Mapping[str, Any]  # registered, {} where the host was not asked
ByHost = Mapping[str, Result]
Servings = Mapping[str, Tuple[Result, Result]]  # (request, installation) of serving certificates

_SHOWN = 10

_LONGEST = 2000  # of what one node says, on a screen

_SIGNING = ("node", "request", "previous", "voucher")


def batches(planes: Sequence[str], workers: Sequence[str], size: str) -> List[List[str]]:
    """Return the batches in which kubelets are restarted: [[host]].

    planes, workers: hosts; one that is both counts as the former. size: how many workers at a time, "5" or "10%" of all workers,
    and at least one. The first control-plane node goes alone, before any other node; each other one goes with a batch of workers
    and with no other control-plane node. Raise PkiError.
    """
    match = re.fullmatch(r"([1-9][0-9]*)(%?)", size.strip())
    if not match:
        raise PkiError(
            "%s is neither a count of workers nor a percentage of them" % size, fix="Set kubepki_batch to 5 or 10%, say."
        )
    workers = [host for host in workers if host not in planes]
    count = int(match.group(1)) if not match.group(2) else max(1, len(workers) * int(match.group(1)) // 100)
    rest = [workers[start : start + count] for start in range(0, len(workers), count)]
    first, others = [[host] for host in planes[:1]], planes[1:]
    return first + [[host] + (rest.pop(0) if rest else []) for host in others] + rest


def why(registered: Result) -> Optional[str]:
    """Return why a host's registered result cannot be used, safe to display, or None where it can."""
    if registered.get("unreachable"):
        return "did not answer"
    if registered.get("failed"):
        return printable(registered.get("msg") or "failed", _LONGEST).rstrip(".")
    return None


def usable(requests: ByHost) -> Dict[str, Result]:
    """Return the results of hosts, with a failure instead of one that has not the form of the module's result.

    requests: {host: registered result}. One host's malformed answer is the failure of that host alone.
    """
    found: Dict[str, Result] = {}
    for host, result in requests.items():
        fault = answers.fault(result, answers.KUBELET)
        found[host] = {"failed": True, "msg": answers.sentence(fault)} if fault else result
    return found


def bound(requests: ByHost, inventory: Collection[str] = ()) -> Dict[str, Result]:
    """Do as usable(), and replace the result of a host that says it is another's Node, or two Nodes, by a failure that says so.

    inventory: the names of all hosts of the cluster, asked or not.
    """
    requests = requested_hosts(usable(requests))
    claims, differing = {}, {}
    for host, result in requests.items():
        said = [result.get("node")] + [(result.get(key) or {}).get("node") for key in ("signing", "answer")]
        names = list(dict.fromkeys(name for name in said if name))
        if why(result) or not names:
            continue
        if len(names) > 1:
            text = "it says that it is %s" % " and ".join("the Node " + printable(name) for name in names)
            differing[host] = {"failed": True, "msg": answers.sentence(text)}
        else:
            claims[host] = names[0]
    wrong = node_binding.contradictions(claims, inventory)
    failures = dict(differing, **{host: {"failed": True, "msg": text} for host, text in wrong.items()})
    return {host: failures.get(host, result) for host, result in requests.items()}


def collect(
    requests: ByHost, needed: Collection[str], inventory: Collection[str] = ()
) -> Tuple[List[Dict[str, str]], Dict[str, str], Optional[str]]:
    """Sort what the hosts answered to the request. requests: {host: registered result, empty when it was not asked}.

    needed: hosts that have to answer when they were asked. inventory: all hosts of the cluster. Gives (signing, absent,
    obstacle): [{"host", "node", "request", "previous", "voucher"}] in the order of the hosts, each under the host that the
    answer came from, whatever it says; {host: why it is left out}; and one message why nothing may be done at all, or None. A
    host that says it is another's Node is left out.
    """
    requests = bound(requests, inventory)
    absent = _reasons(requests)
    signing = [
        dict({key: result["signing"].get(key) or "" for key in _SIGNING}, host=host)
        for host, result in requests.items()
        if host not in absent and result.get("signing")
    ]
    missing = [host for host in needed if host in absent]
    obstacle = None
    if missing:
        obstacle = "No kubelet was changed: every one of these nodes has to answer first. " + " ".join(
            "%s: %s." % (host, absent[host]) for host in missing
        )
    elif requests and len(absent) == len(requests):
        obstacle = "No kubelet was changed, because no node answered: %s" % listed(absent)
    return signing, absent, obstacle


def serving_answers(requests: ByHost, inventory: Collection[str] = ()) -> Tuple[List[Dict[str, str]], Dict[str, str]]:
    """Return ([{"host", "node", "key"}], {host: why it is left out}) of what hosts answered about their serving certificates.

    requests: {host: registered result of kubelet_serving, empty when it was not asked}. inventory: as for collect(), and each
    answer stands under the host that it came from. A host that says it is another's Node has no answer.
    """
    requests = bound(requests, inventory)
    absent = _reasons(requests)
    found = [
        {"host": host, "node": result["answer"]["node"], "key": result["answer"]["key"]}
        for host, result in requests.items()
        if host not in absent and result.get("answer")
    ]
    return found, absent


def _reasons(requests: ByHost) -> Dict[str, str]:
    """Return {host: why its result cannot be used}."""
    found = {host: why(result) for host, result in requests.items()}
    return {host: reason for host, reason in found.items() if reason}


def requested_hosts(requests: ByHost) -> Dict[str, Result]:
    """Return the results without the hosts that the play did not run on (--limit)."""
    return {host: result for host, result in requests.items() if result}


def listed(absent: Mapping[str, str]) -> str:
    """Return "w1: did not answer; w2: ..."."""
    hosts = sorted(absent)
    text = "; ".join("%s: %s" % (host, absent[host]) for host in hosts[:_SHOWN])
    return text + (" and %d more" % (len(hosts) - _SHOWN) if len(hosts) > _SHOWN else "")


def summarise(
    name: str,
    requests: ByHost,
    installs: ByHost,
    began: Optional[float] = None,
    servings: Optional[Servings] = None,
    apiservers: int = 0,
    inventory: Collection[str] = (),
) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """Return (artifact, skipped) of a run that has finished.

    requests, installs: {host: registered result}. began: epoch seconds or None. servings: {host: (registered request, registered
    installation)} of the serving certificates, for the hosts that were asked for one. apiservers: how many got another flag.
    inventory: as for collect().
    artifact: {"job", "state", "changed", "nodes", "reissued", "restarted", "kept", "due", "serving", "serving_due", "apiservers",
    "unreachable": [host], "failed": [host], "seconds"}; "due" and "serving_due" count what check mode would do. skipped:
    {host: why} of all that were left out or failed.
    """
    skipped: Dict[str, str] = {}
    counts = {"reissued": 0, "restarted": 0, "kept": 0, "due": 0, "serving": 0, "serving_due": 0, "apiservers": apiservers}
    unreachable: List[str] = []
    failed: List[str] = []
    requests, installs, servings = _all_bound(requests, installs, servings, inventory)
    for host in requests:
        request, install = requests[host], installs.get(host) or {}
        serving = servings.get(host) or ({}, {})
        reason = next(filter(None, map(why, (request, install, *serving))), None)
        if reason:
            skipped[host] = reason
            lost = any(result.get("unreachable") for result in (request, install, *serving))
            (unreachable if lost else failed).append(host)
            continue
        counts["serving"] += serving[1].get("action") == "installed"
        counts["serving_due"] += serving[0].get("action") == "reissue" and not serving[1].get("action")
        if install.get("action") == "installed":
            counts["reissued"] += 1
        elif install.get("action") == "restarted":
            counts["restarted"] += 1
        elif request.get("action") == "keep":
            counts["kept"] += 1
        else:
            counts["due"] += 1
    changed = bool(counts["reissued"] or counts["restarted"] or counts["serving"] or apiservers)
    state = "failed" if failed else "warning" if unreachable else "changed" if changed else "ok"
    artifact = dict(
        counts,
        job=name,
        state=state,
        changed=changed,
        nodes=len(requests),
        unreachable=sorted(unreachable),
        failed=sorted(failed),
        seconds=round(time.time() - began, 1) if began else None,
    )
    return artifact, skipped


def table(requests: ByHost, installs: ByHost, servings: Optional[Servings] = None, inventory: Collection[str] = ()) -> str:
    """Return what happened on every node as lines of text, the kept nodes as one line. Arguments as in summarise()."""
    lines, kept = [], 0
    requests, installs, servings = _all_bound(requests, installs, servings, inventory)
    for host in requests:
        request, install = requests[host], installs.get(host) or {}
        serving = servings.get(host) or ({}, {})
        reason = next(filter(None, map(why, (request, install, *serving))), None)
        if serving[0].get("reasons") and not why(serving[1]):
            lines.append("%s: %s" % (host, _served(*serving)))
        if reason:
            lines.append("%s: NOT DONE: %s" % (host, reason))
        elif request.get("action") == "keep" and not install.get("changed"):
            kept += 1
        else:
            lines.append("%s: %s" % (host, _what(request, install)))
    if kept:
        lines.append("%d kubelets have a credential that is not due." % kept)
    return "\n".join(printable(line, _LONGEST) for line in lines)


def _all_bound(
    requests: ByHost, installs: ByHost, servings: Optional[Servings], inventory: Collection[str]
) -> Tuple[Dict[str, Result], Dict[str, Result], Dict[str, Tuple[Result, Result]]]:
    servings = servings or {}
    first = bound({host: pair[0] for host, pair in servings.items()}, inventory)
    second = usable({host: pair[1] for host, pair in servings.items()})
    return bound(requests, inventory), usable(installs), {host: (first.get(host, {}), second[host]) for host in servings}


def _what(request: Result, install: Result) -> str:
    reasons = ", ".join(request.get("reasons") or [])
    if not install.get("action"):
        return "a new credential is due (%s)" % reasons
    after, proof = install.get("after") or {}, install.get("proof") or {}
    text = "%s (%s)" % (install["action"], reasons)
    if install["action"] == "installed" and after:
        text += ", valid until %s" % after.get("not_after")
    if proof:
        text += ", kubelet proven after %.1f s" % proof.get("seconds", 0)
    return text


def _served(request: Result, install: Result) -> str:
    reasons = ", ".join(request["reasons"])
    if request.get("action") == "keep":
        return "serving certificate left alone: %s" % reasons
    if not install.get("action"):
        return "a serving certificate is due (%s)" % reasons
    after, proof = install.get("after") or {}, install.get("proof") or {}
    return "serving certificate %s (%s)%s, served after %.1f s" % (
        install["action"],
        reasons,
        ", valid until %s" % after["not_after"] if after else "",
        proof.get("seconds", 0) + proof.get("served_seconds", 0),
    )


def sentence(artifact: Mapping[str, Any]) -> str:
    """Return the last line of the run's output."""
    parts = ["%d kubelets" % artifact["nodes"]]
    for key, text in (
        ("reissued", "%d got a new credential"),
        ("restarted", "%d restarted"),
        ("kept", "%d kept theirs"),
        ("due", "%d are due"),
        ("serving", "%d got a serving certificate"),
        ("serving_due", "%d serving certificates are due"),
        ("apiservers", "%d API servers got another flag"),
    ):
        if artifact.get(key):
            parts.append(text % artifact[key])
    for key, text in (("unreachable", "no answer from %s"), ("failed", "failed on %s")):
        if artifact[key]:
            parts.append(text % ", ".join(artifact[key]))
    ending = ", %.0f s" % artifact["seconds"] if artifact["seconds"] is not None else ""
    return "%s: %s. %s%s." % (artifact["job"], artifact["state"], ", ".join(parts), ending)
