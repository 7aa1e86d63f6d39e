# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a cluster that no longer answers, what has to be done about it, and why not (issue 4). Pure functions.

The decision is made on the controller from what every node said of itself (recovery_look, node_report); nothing is looked at or
changed here.
"""

from __future__ import annotations

import datetime

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import clock_findings, finding

from . import answers

CONTROL_PLANE, WORKER = "control-plane", "worker"

# A file that nobody meant to be there would become the control plane; a CA that cannot be read cannot be judged.
_BLOCKING = ("unreadable-ca", "foreign-manifest")

# A certificate's beginning is backdated by five minutes (x509.BACKDATE, kubeadm the same): this much later is a clock.
_BEFORE_SECONDS = 60

# systemd's words for a unit; a kubelet that ends at once and is started again for ever is seen in either of two.
_UNIT = {"active": "runs", "activating": "does not stay up", "failed": "down", "inactive": "stopped"}

_LONGEST = 4000  # of one line, on a screen

_PODS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def decide(looks, silent, control_planes, partial=False):
    """Give the diagnosis and the plan for a cluster as a mapping of plain values.

    looks: {host: what recovery_look.look gave, and under "node" what node_report.read did}. silent: {host: why it said nothing}.
    control_planes: the inventory's hosts of that group, the first of which sign. partial: whether the user lets control-plane
    nodes be left behind that cannot take part.
    Gives {"needed": whether anything is to be done, "refusal": why nothing may be, or "", "diagnosis", "steps": [sentences],
    "absent": {host: why it is left out}, "authorities": {name: {"signer": host, "certificate": PEM or ""}} of the CAs that are
    brought to all nodes (an empty certificate has to be made, with the same key), "signer": host that signs for kubelets,
    or "", "first": host that speaks for the control plane, "trust": whether the API's objects have to follow a renewed CA,
    "hosts": {host: {"node", "role", "restart": [components], "leaves", "kubelet", "serving": bool}} of those that take part}.
    serving: the kubelet's own serving certificate has expired. A host whose look is malformed has said nothing.
    """
    looks, silent = well_formed(looks, silent)
    planes = [host for host in control_planes if host in looks]
    absent, refusals = _unreachable_hosts(looks, silent, control_planes, partial)
    present = {host: look for host, look in looks.items() if host not in absent}
    planes = [host for host in planes if host in present]
    clocks, trouble = _clocks(present), _blocking(present)
    authorities, more = _check_cas(present, planes)
    trouble += more
    hosts = {host: _host(look) for host, look in present.items()}
    needed = (
        bool(authorities)
        or any(host["expired"] or host["pending"] is not None for host in hosts.values())
        or any((look.get("kubelet") or {}).get("action") == "restart" for look in present.values())
    )
    signer = next((host for host in planes if _has_key(present[host], "ca")), "")
    for host, plan in hosts.items():
        _finish_decision(plan, present[host], needed, authorities, signer)
    trouble += _signable(present, hosts, signer)
    # Who is missing, or what is damaged, is no reason to refuse where there is nothing to do. A wrong clock always is: by it
    # nothing may seem to have expired.
    refusals = refusals + clocks + trouble if needed or not planes else clocks
    trust = bool({"ca", "front-proxy-ca"} & set(authorities)) or any(look["trust"] for look in present.values())
    return {
        "needed": needed,
        "refusal": " ".join(printable(text, _LONGEST) for text in refusals),
        "diagnosis": diagnosis(looks, silent, control_planes),
        "steps": _steps(hosts, authorities, absent, planes, trust) if needed and not refusals else [],
        "absent": absent,
        "authorities": authorities,
        "signer": signer,
        "first": next(iter(planes), ""),
        "trust": trust,
        "hosts": {
            host: {key: plan[key] for key in ("node", "role", "restart", "leaves", "kubelet", "serving")}
            for host, plan in hosts.items()
        },
    }


def well_formed(looks, silent):
    """Return (looks, silent) with each host whose look is malformed moved to the silent ones."""
    faults = {host: answers.fault(look, answers.LOOK) for host, look in looks.items()}
    return (
        {host: look for host, look in looks.items() if not faults[host]},
        dict(silent, **{host: answers.sentence(fault) for host, fault in faults.items() if fault}),
    )


def _unreachable_hosts(looks, silent, control_planes, partial):
    """Give ({host: why it is left out}, [refusals]): quorum decides whether control-plane nodes may be left out at all."""
    absent = dict(silent)
    # A worker on which nothing can be done keeps nobody else waiting.
    absent.update((host, " ".join(_wrong(look))) for host, look in looks.items() if host not in control_planes and _wrong(look))
    members = [host for host in control_planes if host in silent or _has_etcd(looks.get(host))]
    for host in members:
        if host in looks and not looks[host]["etcd"]["data"]:
            absent[host] = "has no etcd data in %s" % looks[host]["etcd"]["path"]
    missing = [host for host in control_planes if host in absent]
    if not missing:
        return absent, []
    with_data = [host for host in members if host not in absent]
    quorum = len(members) // 2 + 1
    why = "; ".join("%s: %s" % (host, absent[host].rstrip(".")) for host in missing)
    if not [host for host in control_planes if host not in absent]:
        return absent, ["No control-plane node can take part (%s). Without one of them there is nothing to recover." % why]
    if with_data and len(with_data) < quorum:
        return absent, [
            "etcd has its data on %d of %d members, and %d are needed (%s). Certificates cannot bring data back: "
            "bring the missing nodes back, or restore etcd from a snapshot first." % (len(with_data), len(members), quorum, why)
        ]
    if not partial:
        return absent, [
            "Not every control-plane node can take part (%s). etcd's quorum is there without them: bring them back, "
            "or set kubepki_recover_partial=true to go on without, and run again when they are back." % why
        ]
    return absent, []


def _has_etcd(look):
    return bool(look) and look.get("etcd") is not None


def _clocks(looks):
    """Give the refusals for clocks that are wrong: certificates would be judged, and issued, by them."""
    offsets = {host: look["node"]["facts"].get("clock_offset") for host, look in looks.items()}
    offsets = {host: offset for host, offset in offsets.items() if offset is not None}
    found, named = [], set()
    if offsets:
        inner = sorted(offsets.values())[(len(offsets) - 1) // 2 : len(offsets) // 2 + 1]
        # Where one half of the nodes stands against the other, the controller decides who is right.
        split = inner[-1] - inner[0] >= clock_findings.CLOCK_ERROR_SECONDS
        middle = 0.0 if split else inner[-1]
        for host, offset in sorted(offsets.items()):
            apart = offset - middle
            if abs(apart) >= clock_findings.CLOCK_ERROR_SECONDS:
                named.add(host)
                found.append(
                    "The clock of %s is %s %s the %s."
                    % (
                        host,
                        finding.duration_text(apart),
                        "ahead of" if apart > 0 else "behind",
                        "controller's" if split else "other nodes'",
                    )
                )
        if abs(middle) >= clock_findings.CLOCK_ERROR_SECONDS:
            named.update(offsets)
            found.append(
                "The clocks of the nodes (%s) are %s %s the controller's (%s)."
                % (
                    _moment(_clock_of(looks)),
                    finding.duration_text(middle),
                    "ahead of" if middle > 0 else "behind",
                    _moment(_clock_of(looks) - middle),
                )
            )
    for host, look in sorted(looks.items()):
        future = [row for row in look["node"]["certificates"] if _seconds_until(row, look) > _BEFORE_SECONDS]
        if future and host not in named:
            row = max(future, key=lambda one: one["not_before"])
            found.append(
                "The clock of %s says %s, and its certificate %s (%s) begins only on %s."
                % (host, _moment(look["node"]["facts"]["clock"]), row["name"], row["path"], row["not_before"])
            )
    if found:
        found.append(
            "Nothing is issued by a wrong clock: set it right (`timedatectl`, `chronyc tracking`), and run again; what "
            "seems to have expired may be valid."
        )
    return found


def _clock_of(looks):
    clocks = sorted(look["node"]["facts"]["clock"] for look in looks.values() if look["node"]["facts"].get("clock"))
    return clocks[len(clocks) // 2]


def _seconds_until(row, look):
    """How long a certificate is not valid yet, by the node's own clock."""
    clock = look["node"]["facts"].get("clock")
    return _epoch(row["not_before"]) - clock if row.get("not_before") and clock else 0.0


def _blocking(looks):
    found = []
    for host, look in sorted(looks.items()):
        for item in look["node"]["findings"]:
            if item["code"] in _BLOCKING and item["severity"] == finding.ERROR and look["node"]["facts"]["role"] != WORKER:
                found.append("%s: %s: %s. %s" % (host, item["path"], item["message"].rstrip("."), item["fix"]))
        found += ["%s: %s" % (host, problem) for problem in _wrong(look)]
    return found


def _wrong(look):
    """Why nothing can be done on a node, as the node itself says."""
    error = (look.get("kubelet") or {}).get("error")
    return look["problems"] + ([error] if error else [])


def _check_cas(looks, planes):
    """Give ({name: {"signer", "certificate"}} of the CAs that have expired on any node, [refusals])."""
    wanted, found = {}, []
    for name in catalogue.CA_NAMES:
        holding = [host for host in planes if name in looks[host]["authorities"]]
        if not holding:
            continue
        keys = {looks[host]["authorities"][name]["key"] for host in holding}
        if len(keys) > 1:
            found.append(
                "The CA %s has another key on %s: copy certificate and key from a node whose pair is the right one "
                "(backup sets hold older ones)." % (name, " than on ".join(_differing(looks, holding, name)))
            )
            continue
        everyone = holding + [host for host in looks if host not in planes and name in looks[host]["authorities"]]
        if not [host for host in everyone if _ca_dead(looks[host], name)]:
            continue
        valid = [host for host in holding if not _ca_dead(looks[host], name)]
        if valid:
            # A run that was killed, or somebody, has renewed it: there is never a second renewal.
            newest = max(valid, key=lambda host: looks[host]["authorities"][name]["not_after"])
            wanted[name] = {"signer": newest, "certificate": looks[newest]["authorities"][name]["certificate"]}
            continue
        able = [host for host in holding if _has_key(looks[host], name)]
        if not able:
            found.append(
                "The CA %s has expired, and its key is on none of the control-plane nodes: renew it with the same key "
                "where that is, copy the certificate to %s on every node, and run again."
                % (name, looks[holding[0]]["authorities"][name]["path"])
            )
        elif not looks[able[0]]["authorities"][name]["self_signed"]:
            found.append(
                "The CA %s has expired, and another authority has signed it (%s): have it renewed there with the same "
                "key, copy the certificate to every node, and run again." % (name, looks[able[0]]["authorities"][name]["issuer"])
            )
        else:
            wanted[name] = {"signer": able[0], "certificate": ""}
    return wanted, found


def _differing(looks, hosts, name):
    seen = {}
    for host in hosts:
        seen.setdefault(looks[host]["authorities"][name]["key"], []).append(host)
    groups = sorted(seen.values(), key=len)
    return [", ".join(group) for group in groups]


def _ca_dead(look, name):
    """Whether a node's CA certificate has ended, by its own clock."""
    held = look["authorities"].get(name)
    return held is not None and _epoch(held["not_after"]) <= look["node"]["facts"]["clock"]


def _has_key(look, name):
    held = look["authorities"].get(name)
    return held is not None and held["has_key"]


def _signable(looks, hosts, signer):
    """Give the refusals for what would have to be signed and cannot be."""
    found = []
    for host, plan in sorted(hosts.items()):
        wanted = {row["ca"] for row in plan["expired"] if row["kind"] in (catalogue.LEAF, catalogue.KUBECONFIG)}
        for name in sorted(wanted & set(looks[host]["authorities"])):
            if not _has_key(looks[host], name):
                found.append(
                    "%s: certificates of the CA %s have expired, and its key is not on this node: have them issued "
                    "where it is, or copy the key here from another control-plane node." % (host, name)
                )
    if not signer and any(row["name"] == "kubelet-client" for plan in hosts.values() for row in plan["expired"]):
        found.append(
            "The kubelets' certificates have to be signed, and the key of the cluster's CA is on none of the control-plane nodes."
        )
    return found


def _host(look):
    rows = [row for row in look["node"]["certificates"] if row["kind"] != catalogue.CA]
    expired = [row for row in rows if row["status"] == "expired"]
    return {
        "node": look["node"]["facts"]["node_name"],
        "role": look["node"]["facts"]["role"],
        "expired": expired,
        "pending": look["pending"],
        "restart": [],
        "leaves": False,
        "serving": any(row["name"] == "kubelet-serving" for row in expired),
        "kubelet": False,
    }


def _finish_decision(plan, look, needed, authorities, signer):
    """Fill in what is to be done on a node, once it is known whether anything is."""
    if not needed:
        plan["serving"] = False
        return
    kubelet = look.get("kubelet") or {}
    # One that is well, and whose certificate merely ends soon, can wait for reissue_kubelets.
    dead = bool(plan["expired"] or authorities or plan["pending"] is not None) or kubelet.get("unit") != "active"
    plan["kubelet"] = (
        kubelet.get("action") == "restart"
        or plan["serving"]
        or (bool(signer) and ("ca" in authorities or (kubelet.get("action") == "reissue" and dead)))
    )
    if plan["role"] == WORKER:
        return
    own = [row for row in plan["expired"] if row["kind"] in (catalogue.LEAF, catalogue.KUBECONFIG)]
    components = {catalogue.BY_NAME[row["name"]].consumer for row in own if row["name"] in catalogue.BY_NAME}
    components |= set(plan["pending"] or [])
    # One that is not well in a cluster with expired certificates holds an old file, or waits in its crash back-off.
    components |= {name for name, seen in look["health"].items() if not seen["healthy"]}
    if authorities:
        components |= set(_PODS)
    plan["restart"] = [name for name in _PODS if name in components and name in look["health"]]
    plan["leaves"] = bool(own or authorities or plan["pending"] is not None)


def diagnosis(looks, silent, control_planes):
    """Give what is wrong with the cluster as lines of text: one for each authority that has expired, and for each node."""
    lines = []
    members = [look["etcd"]["data"] for look in looks.values() if _has_etcd(look)]
    for name in catalogue.CA_NAMES:
        held = {host: look["authorities"][name] for host, look in looks.items() if name in look["authorities"]}
        dead = sorted(host for host in held if _ca_dead(looks[host], name))
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
            lines.append("%s: %s" % (host, _described(looks[host])))
        elif host in silent:
            lines.append("%s: %s" % (host, silent[host].rstrip(".")))
    return lines


def _described(look):
    rows = [row for row in look["node"]["certificates"] if row["kind"] != catalogue.CA and row["not_after"]]
    expired = sorted((row for row in rows if row["status"] == "expired"), key=lambda row: row["not_after"])
    parts = []
    if expired:
        parts.append("%d of %d certificates expired, %s" % (len(expired), len(rows), _when(expired)))
    elif rows:
        first = min(rows, key=lambda row: row["not_after"])
        parts.append(
            "no certificate of %d has expired, the first to end is %s on %s" % (len(rows), first["name"], first["not_after"])
        )
    facts = look["node"]["facts"]
    if facts.get("clock"):
        offset = facts.get("clock_offset")
        parts.append("clock %s%s" % (_moment(facts["clock"]), "" if offset is None else " (%+.0f s)" % offset))
    for name in _PODS:
        seen = look["health"].get(name)
        if seen is not None:
            parts.append("%s %s" % (name, "answers" if seen["healthy"] else "down"))
    if look.get("kubelet") is not None:
        parts.append("kubelet %s" % _UNIT.get(look["kubelet"].get("unit"), look["kubelet"].get("unit")))
    if look["pending"] is not None:
        parts.append("a recovery that did not end")
    return ", ".join(parts)


def _when(expired):
    first, last = expired[0], expired[-1]
    if first["not_after"] == last["not_after"]:
        return "on %s" % first["not_after"]
    return "from %s (%s) to %s (%s)" % (first["not_after"], first["name"], last["not_after"], last["name"])


def _steps(hosts, authorities, absent, planes, trust):
    lines = []
    made = [name for name in catalogue.CA_NAMES if authorities.get(name) and not authorities[name]["certificate"]]
    brought = [name for name in catalogue.CA_NAMES if authorities.get(name) and authorities[name]["certificate"]]
    if made:
        lines.append(
            "Renew the CA %s with the same key on %s, and bring it to every node: what it has signed stays valid."
            % (", ".join(made), authorities[made[0]]["signer"])
        )
    if brought:
        lines.append(
            "Bring the CA %s of %s, which is renewed already, to every node."
            % (", ".join(brought), authorities[brought[0]]["signer"])
        )
    leaves = [host for host in planes if hosts[host]["leaves"]]
    if leaves:
        lines.append("Renew the leaves and kubeconfigs on %s." % ", ".join(leaves))
    kubelets = [host for host in planes if hosts[host]["kubelet"]]
    if kubelets:
        lines.append("Issue the kubelets' certificates of %s." % ", ".join(kubelets))
    for name in _PODS:
        on = [host for host in planes if name in hosts[host]["restart"]]
        if on:
            lines.append("Start %s again on %s%s." % (name, ", ".join(on), ", and wait for its quorum" if name == "etcd" else ""))
    workers = sorted(host for host in hosts if hosts[host]["role"] == WORKER and hosts[host]["kubelet"])
    if workers:
        lines.append("Issue the kubelets' certificates of the workers %s." % _some(workers))
    lines.append("Wait until every node that takes part is Ready.")
    if trust:
        lines.append("Bring the API's objects in line with the renewed CAs, and restart the workloads that read them only once.")
    if absent:
        lines.append("Left out: %s." % "; ".join("%s (%s)" % (host, absent[host].rstrip(".")) for host in sorted(absent)))
    return lines


def _some(names, count=10):
    return ", ".join(names[:count]) + (" and %d more" % (len(names) - count) if len(names) > count else "")


def question(plan):
    """Give the question a person is asked before a plan is carried out."""
    parts = ["The cluster's certificates are issued again"]
    if plan["authorities"]:
        parts.append("its CAs %s are renewed with the same keys" % ", ".join(sorted(plan["authorities"])))
    restarted = sorted(host for host, todo in plan["hosts"].items() if todo["restart"])
    if restarted:
        parts.append("the control-plane pods of %s are ended and started again, all at once" % ", ".join(restarted))
    return "%s. Are the clocks above right?" % "; ".join(parts)


def shown(plan):
    """Give the diagnosis and what follows from it as lines for people, each safe to display."""
    lines = ["DIAGNOSIS"] + ["  " + line for line in plan["diagnosis"]]
    if plan["refusal"]:
        lines += ["NOTHING IS DONE", "  " + plan["refusal"]]
    elif not plan["needed"]:
        lines += ["NOTHING TO RECOVER", "  No certificate has expired."]
        if any(" down" in line for line in plan["diagnosis"]):
            lines.append("  What is down is down for another reason: see /var/log/pods and `journalctl -u kubelet`.")
    else:
        lines += ["PLAN"] + ["  %d. %s" % item for item in enumerate(plan["steps"], 1)]
    return [printable(line, 10 * _LONGEST) for line in lines]


def summarise(plan, looks, ready, failed, seconds, check=False):
    """Give the run-level artifact {"job", "state", "changed", "check", "expired", "absent", "failed", "authorities", "nodes",
    "all", "ready", "seconds"}.

    nodes: that answered; all: that were asked.
    looks: as for decide(), taken before the recovery. ready: names of the Nodes that were seen Ready at the end. failed: hosts
    that failed on the way. seconds: since the confirmation, or None.
    """
    looks, _silent = well_formed(looks, {})
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


def incomplete(plan, failed):
    """Give the hosts that are not done, and why, as one message; "" when all are."""
    missing = dict(plan["absent"], **{host: "failed on the way, see above" for host in failed})
    return "; ".join(printable("%s: %s" % (host, missing[host].rstrip(".")), _LONGEST) for host in sorted(missing))


def sentence(artifact):
    """Give the summary a person reads at the end."""
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


def _epoch(text):
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return (moment - datetime.datetime(1970, 1, 1)).total_seconds()


def _moment(epoch):
    return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(epoch))).strftime("%Y-%m-%dT%H:%M:%SZ")
