# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a recovery of a cluster with expired certificates (issue 4), made on the controller. Pure functions.

It is made from what every node returned about itself (recovery_look, cert_expiry); nothing here reads or changes a node.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, List, Mapping, Sequence

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue

from . import recovery_checks, recovery_text
from .recovery_checks import Look, Looks


def decide(looks: Looks, silent: Mapping[str, str], control_planes: Sequence[str], partial: bool = False) -> Dict[str, Any]:
    """Return the diagnosis and the plan for a cluster as JSON data.

    looks: {host: what recovery_look returned, and under "node" what cert_expiry did}. silent: {host: why it returned nothing}.
    control_planes: the inventory's hosts of that group; the first ones sign. partial: whether the user allows that control-plane
    nodes are left out that cannot take part.
    The result: {"needed": whether anything is to be done, "refusal": why nothing may be done, or "", "diagnosis", "steps":
    [sentences], "absent": {host: why it is left out}, "authorities": {name: {"signer": host, "certificate": PEM or ""}} of the
    CAs that are copied to all nodes (an empty certificate has to be made, with the same key), "signer": host that signs for
    kubelets, or "", "first": host on which the cluster's API is called, "trust": whether the API's trust objects change,
    "hosts": {host: {"node", "role", "restart": [components], "leaves", "kubelet", "serving": bool}} of those that take part}.
    serving: the kubelet's own serving certificate has expired. A host whose look is malformed counts as silent.
    """
    looks, silent = recovery_checks.well_formed(looks, silent)
    planes = [host for host in control_planes if host in looks]
    absent, refusals = recovery_checks.find_absent(looks, silent, control_planes, partial)
    present = {host: look for host, look in looks.items() if host not in absent}
    planes = [host for host in planes if host in present]
    clocks, trouble = recovery_checks.check_clocks(present), recovery_checks.check_files(present)
    authorities, more = recovery_checks.check_cas(present, planes)
    trouble += more
    hosts = {host: _decide_host(look) for host, look in present.items()}
    needed = (
        bool(authorities)
        or any(host["expired"] or host["pending"] is not None for host in hosts.values())
        or any((look.get("kubelet") or {}).get("action") == "restart" for look in present.values())
    )
    signer = next((host for host in planes if recovery_checks.has_key(present[host], "ca")), "")
    for host, plan in hosts.items():
        _finish_decision(plan, present[host], needed, authorities, signer)
    trouble += recovery_checks.check_signers(present, hosts, signer)
    # Missing nodes and damaged files are no reason to refuse where there is nothing to do. A wrong clock always is: it may hide
    # that certificates have expired.
    refusals = refusals + clocks + trouble if needed or not planes else clocks
    trust = bool({"ca", "front-proxy-ca"} & set(authorities)) or any(look["trust"] for look in present.values())
    return {
        "needed": needed,
        "refusal": " ".join(printable(text, recovery_checks.LONGEST) for text in refusals),
        "diagnosis": recovery_text.diagnose(looks, silent, control_planes),
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


def _decide_host(look: Look) -> Dict[str, Any]:
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


def _finish_decision(plan: Dict[str, Any], look: Look, needed: bool, authorities: Collection[str], signer: str) -> None:
    """Fill in what is to be done on a node. needed: whether anything is to be done in the cluster."""
    if not needed:
        plan["serving"] = False
        return
    kubelet = look.get("kubelet") or {}
    # A running kubelet whose certificate only expires soon can wait for reissue_kubelets.
    dead = bool(plan["expired"] or authorities or plan["pending"] is not None) or kubelet.get("unit") != "active"
    plan["kubelet"] = (
        kubelet.get("action") == "restart"
        or plan["serving"]
        or (bool(signer) and ("ca" in authorities or (kubelet.get("action") == "reissue" and dead)))
    )
    if plan["role"] == recovery_checks.WORKER:
        return
    own = [row for row in plan["expired"] if row["kind"] in (catalogue.LEAF, catalogue.KUBECONFIG)]
    components = {catalogue.BY_NAME[row["name"]].consumer for row in own if row["name"] in catalogue.BY_NAME}
    components |= set(plan["pending"] or [])
    # An unhealthy component in a cluster with expired certificates holds an old file, or waits in its crash back-off.
    components |= {name for name, seen in look["health"].items() if not seen["healthy"]}
    if authorities:
        components |= set(recovery_checks.PODS)
    plan["restart"] = [name for name in recovery_checks.PODS if name in components and name in look["health"]]
    plan["leaves"] = bool(own or authorities or plan["pending"] is not None)


def _steps(
    hosts: Mapping[str, Mapping[str, Any]],
    authorities: Mapping[str, Mapping[str, str]],
    absent: Mapping[str, str],
    planes: Sequence[str],
    trust: bool,
) -> List[str]:
    lines: List[str] = []
    made = [name for name in catalogue.CA_NAMES if authorities.get(name) and not authorities[name]["certificate"]]
    copied = [name for name in catalogue.CA_NAMES if authorities.get(name) and authorities[name]["certificate"]]
    if made:
        lines.append(
            "Renew the CA %s with the same key on %s, and bring it to every node: what it has signed stays valid."
            % (", ".join(made), authorities[made[0]]["signer"])
        )
    if copied:
        lines.append(
            "Bring the CA %s of %s, which is renewed already, to every node."
            % (", ".join(copied), authorities[copied[0]]["signer"])
        )
    leaves = [host for host in planes if hosts[host]["leaves"]]
    if leaves:
        lines.append("Renew the leaves and kubeconfigs on %s." % ", ".join(leaves))
    kubelets = [host for host in planes if hosts[host]["kubelet"]]
    if kubelets:
        lines.append("Issue the kubelets' certificates of %s." % ", ".join(kubelets))
    for name in recovery_checks.PODS:
        on = [host for host in planes if name in hosts[host]["restart"]]
        if on:
            lines.append("Start %s again on %s%s." % (name, ", ".join(on), ", and wait for its quorum" if name == "etcd" else ""))
    workers = sorted(host for host in hosts if hosts[host]["role"] == recovery_checks.WORKER and hosts[host]["kubelet"])
    if workers:
        lines.append("Issue the kubelets' certificates of the workers %s." % _some(workers))
    lines.append("Wait until every node that takes part is Ready.")
    if trust:
        lines.append("Bring the API's objects in line with the renewed CAs, and restart the workloads that read them only once.")
    if absent:
        lines.append("Left out: %s." % "; ".join("%s (%s)" % (host, absent[host].rstrip(".")) for host in sorted(absent)))
    return lines


def _some(names: Sequence[str], count: int = 10) -> str:
    return ", ".join(names[:count]) + (" and %d more" % (len(names) - count) if len(names) > count else "")
