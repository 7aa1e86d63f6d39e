# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks before a recovery: nodes that take part, wrong clocks, unusable files, expired CAs. Pure functions."""

from __future__ import annotations

import datetime
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import clock_findings, finding

from . import answers

Look = Mapping[str, Any]  # what recovery_look returned of a node, and under "node" what cert_expiry did (answers.LOOK)
Looks = Mapping[str, Look]

CONTROL_PLANE, WORKER = "control-plane", "worker"

# A foreign manifest would become part of the control plane; a CA that cannot be read cannot be judged.
_BLOCKING = ("unreadable-ca", "foreign-manifest")

# A certificate's beginning is backdated by five minutes (x509.BACKDATE, kubeadm the same): this much later is a clock.
_BEFORE_SECONDS = 60

LONGEST = 4000  # characters of one line on a screen

PODS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def well_formed(looks: Looks, silent: Mapping[str, str]) -> Tuple[Dict[str, Look], Dict[str, str]]:
    """Return (looks, silent), where each host whose look is malformed is among the silent ones. silent: {host: reason}."""
    faults = {host: answers.fault(look, answers.LOOK) for host, look in looks.items()}
    return (
        {host: look for host, look in looks.items() if not faults[host]},
        dict(silent, **{host: answers.sentence(fault) for host, fault in faults.items() if fault}),
    )


def find_absent(
    looks: Looks, silent: Mapping[str, str], control_planes: Sequence[str], partial: bool
) -> Tuple[Dict[str, str], List[str]]:
    """Return ({host: why it is left out}, [refusals]). Control-plane nodes may be left out only if etcd has its quorum."""
    absent = dict(silent)
    # A worker on which nothing can be done does not stop the recovery of the others.
    for host, look in looks.items():
        if host not in control_planes and _problems(look):
            absent[host] = " ".join(_problems(look))
    members = [host for host in control_planes if host in silent or has_etcd(looks.get(host))]
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


def has_etcd(look: Optional[Look]) -> bool:
    """Return whether a node is an etcd member."""
    return look is not None and look.get("etcd") is not None


def check_clocks(looks: Looks) -> List[str]:
    """Return the refusals for wrong clocks, by which certificates would be judged and issued."""
    offsets = {host: look["node"]["facts"].get("clock_offset") for host, look in looks.items()}
    offsets = {host: offset for host, offset in offsets.items() if offset is not None}
    found: List[str] = []
    named: Set[str] = set()
    if offsets:
        inner = sorted(offsets.values())[(len(offsets) - 1) // 2 : len(offsets) // 2 + 1]
        # Where one half of the nodes differs from the other, the controller's clock decides.
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
                    format_moment(_median_clock(looks)),
                    finding.duration_text(middle),
                    "ahead of" if middle > 0 else "behind",
                    format_moment(_median_clock(looks) - middle),
                )
            )
    for host, look in sorted(looks.items()):
        future = [row for row in look["node"]["certificates"] if _seconds_until(row, look) > _BEFORE_SECONDS]
        if future and host not in named:
            row = max(future, key=lambda one: one["not_before"])
            found.append(
                "The clock of %s says %s, and its certificate %s (%s) begins only on %s."
                % (host, format_moment(look["node"]["facts"]["clock"]), row["name"], row["path"], row["not_before"])
            )
    if found:
        found.append(
            "Nothing is issued by a wrong clock: set it right (`timedatectl`, `chronyc tracking`), and run again; what "
            "seems to have expired may be valid."
        )
    return found


def _median_clock(looks: Looks) -> float:
    clocks = sorted(look["node"]["facts"]["clock"] for look in looks.values() if look["node"]["facts"].get("clock"))
    return clocks[len(clocks) // 2]


def _seconds_until(row: Mapping[str, Any], look: Look) -> float:
    """Return in how many seconds a certificate becomes valid, by the node's own clock."""
    clock = look["node"]["facts"].get("clock")
    return _epoch(row["not_before"]) - clock if row.get("not_before") and clock else 0.0


def check_files(looks: Looks) -> List[str]:
    """Return the refusals for files that no recovery may start from, and for what nodes report as a problem."""
    found: List[str] = []
    for host, look in sorted(looks.items()):
        for item in look["node"]["findings"]:
            if item["code"] in _BLOCKING and item["severity"] == finding.ERROR and look["node"]["facts"]["role"] != WORKER:
                found.append("%s: %s: %s. %s" % (host, item["path"], item["message"].rstrip("."), item["fix"]))
        found += ["%s: %s" % (host, problem) for problem in _problems(look)]
    return found


def _problems(look: Look) -> List[str]:
    """Return why nothing can be done on a node, as the node reports it."""
    error = (look.get("kubelet") or {}).get("error")
    return look["problems"] + ([error] if error else [])


def check_cas(looks: Looks, planes: Sequence[str]) -> Tuple[Dict[str, Dict[str, str]], List[str]]:
    """Return ({name: {"signer", "certificate"}} of the CAs that have expired on any node, [refusals]).

    signer: the host that renews it, or has renewed it. certificate: PEM of one that is renewed already, or "".
    planes: hosts of the control plane that take part.
    """
    wanted: Dict[str, Dict[str, str]] = {}
    found: List[str] = []
    for name in catalogue.CA_NAMES:
        holding = [host for host in planes if name in looks[host]["authorities"]]
        if not holding:
            continue
        keys = {looks[host]["authorities"][name]["key"] for host in holding}
        if len(keys) > 1:
            found.append(
                "The CA %s has another key on %s: copy certificate and key from a node whose pair is the right one "
                "(backup sets hold older ones)." % (name, " than on ".join(_group_by_key(looks, holding, name)))
            )
            continue
        everyone = holding + [host for host in looks if host not in planes and name in looks[host]["authorities"]]
        if not [host for host in everyone if is_ca_expired(looks[host], name)]:
            continue
        valid = [host for host in holding if not is_ca_expired(looks[host], name)]
        if valid:
            # An earlier run or the user has renewed it: never renew it twice.
            newest = max(valid, key=lambda host: looks[host]["authorities"][name]["not_after"])
            wanted[name] = {"signer": newest, "certificate": looks[newest]["authorities"][name]["certificate"]}
            continue
        able = [host for host in holding if has_key(looks[host], name)]
        if not able:
            found.append(
                "The CA %s has expired, and its key is on none of the control-plane nodes: renew it with the same key "
                "where that is, copy the certificate to %s on every node, and run again."
                % (name, looks[holding[0]]["authorities"][name]["path"])
            )
        elif not looks[able[0]]["authorities"][name]["self_signed"]:
            found.append(
                "The CA %s has expired, and another CA has signed it (%s): have it renewed there with the same "
                "key, copy the certificate to every node, and run again." % (name, looks[able[0]]["authorities"][name]["issuer"])
            )
        else:
            wanted[name] = {"signer": able[0], "certificate": ""}
    return wanted, found


def _group_by_key(looks: Looks, hosts: Sequence[str], name: str) -> List[str]:
    """Return the hosts that have the same key of a CA, as one text for each key, the smallest group first."""
    seen: Dict[str, List[str]] = {}
    for host in hosts:
        seen.setdefault(looks[host]["authorities"][name]["key"], []).append(host)
    groups = sorted(seen.values(), key=len)
    return [", ".join(group) for group in groups]


def is_ca_expired(look: Look, name: str) -> bool:
    """Return whether a node's CA certificate has expired, by the node's clock."""
    held = look["authorities"].get(name)
    return held is not None and _epoch(held["not_after"]) <= look["node"]["facts"]["clock"]


def has_key(look: Look, name: str) -> bool:
    """Return whether a node has the key of a CA."""
    held = look["authorities"].get(name)
    return held is not None and held["has_key"]


def check_signers(looks: Looks, hosts: Mapping[str, Mapping[str, Any]], signer: str) -> List[str]:
    """Return the refusals for certificates that have to be signed where no key of their CA is. hosts: as in decide()."""
    found: List[str] = []
    for host, plan in sorted(hosts.items()):
        wanted = {row["ca"] for row in plan["expired"] if row["kind"] in (catalogue.LEAF, catalogue.KUBECONFIG)}
        for name in sorted(wanted & set(looks[host]["authorities"])):
            if not has_key(looks[host], name):
                found.append(
                    "%s: certificates of the CA %s have expired, and its key is not on this node: have them issued "
                    "where it is, or copy the key here from another control-plane node." % (host, name)
                )
    if not signer and any(row["name"] == "kubelet-client" for plan in hosts.values() for row in plan["expired"]):
        found.append(
            "The kubelets' certificates have to be signed, and the key of the cluster's CA is on none of the control-plane nodes."
        )
    return found


def _epoch(text: str) -> float:
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return (moment - datetime.datetime(1970, 1, 1)).total_seconds()


def format_moment(epoch: float) -> str:
    """Return seconds since 1970 as 2026-11-21T19:00:00Z."""
    return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(epoch))).strftime("%Y-%m-%dT%H:%M:%SZ")
