# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings that need the facts of several nodes: CAs, keys and clocks that differ. Runs on the controller."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import finding
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report.clock_findings import (
    CLOCK_ERROR_SECONDS,
    CLOCK_WARNING_SECONDS,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report.finding import ERROR, WARNING

Facts = Mapping[str, Mapping[str, Any]]  # {node: its facts}
Found = Dict[str, List[Any]]  # {node: [finding]}


def check_nodes(facts: Facts) -> Dict[str, List[Any]]:
    """Return the findings that need the facts of several nodes: {node: [finding]}.

    facts: {node: the mapping of rows.facts}. The node that differs from most others has the finding; of two, both have it.
    """
    found: Found = {node: [] for node in facts}
    control_planes = sorted(node for node, fact in facts.items() if fact.get("role") == layouts.CONTROL_PLANE)
    for name in catalogue.CA_NAMES:
        _compare(
            found,
            facts,
            [node for node in control_planes if name in facts[node].get("cas", {})],
            "ca-differs",
            _ca_fact(name, "signer_key"),
            _ca_fact(name, "path"),
            "the CA %s has another key than on %%s" % name,
            "Copy certificate and key from a node whose pair is the right one (backup sets hold older ones), then renew the "
            "leaves that the wrong one signed.",
            name,
        )
        _compare_trust(found, facts, name, control_planes)
    _compare(
        found,
        facts,
        [node for node in control_planes if (facts[node].get("sa") or {}).get("signer")],
        "sa-key-differs",
        lambda fact: fact["sa"]["signer"],
        lambda fact: fact["sa"]["path"],
        "the key that signs service-account tokens is not the one on %s, so each refuses the other's tokens",
        "Copy sa.key and sa.pub from a node whose pair is the right one, then restart kube-apiserver and "
        "kube-controller-manager here.",
        "sa",
    )
    _compare_kubelets(found, facts, control_planes)
    _compare_clocks(found, facts)
    return {node: finding.sort_by_severity(items) for node, items in found.items() if items}


def _ca_fact(name: str, key: str) -> Callable[[Any], Any]:
    return lambda fact: fact["cas"][name][key]


def _compare(
    found: Found,
    facts: Facts,
    nodes: Sequence[str],
    code: str,
    value: Callable[[Any], Any],
    path: Callable[[Any], str],
    message: str,
    fix: str,
    name: str,
) -> None:
    values = {node: value(facts[node]) for node in nodes}
    usual = _majority(list(values.values()))
    for node in nodes:
        others = [other for other in nodes if values[other] != values[node]]
        if others and values[node] != usual:
            found[node].append(finding.make(ERROR, code, path(facts[node]), message % ", ".join(others), fix, name))


def _compare_trust(found: Found, facts: Facts, name: str, control_planes: Sequence[str]) -> None:
    """Add a finding for each node that trusts other certificates of a CA than the control plane."""
    having = [node for node in sorted(facts) if name in facts[node].get("cas", {})]
    reference = _majority([tuple(sorted(facts[node]["cas"][name]["trusted"])) for node in having if node in control_planes])
    if reference is None:
        return
    for node in having:
        trusted = set(facts[node]["cas"][name]["trusted"])
        if any(one["code"] == "ca-differs" and one["name"] == name for one in found[node]) or trusted == set(reference):
            continue
        foreign = not trusted & set(reference)
        found[node].append(
            finding.make(
                ERROR if foreign else WARNING,
                "ca-differs",
                facts[node]["cas"][name]["path"],
                "the certificates of the CA %s are not those of the control plane%s"
                % (name, "" if foreign else " (some are, some are not)"),
                "Copy the file from a control-plane node; while a rotation of the CA is under way, let rotate_ca finish it.",
                name,
            )
        )


def _compare_kubelets(found: Found, facts: Facts, control_planes: Sequence[str]) -> None:
    verifying = [node for node in control_planes if facts[node].get("verifies_kubelets")]
    for node, fact in facts.items() if verifying else ():
        serving = fact.get("kubelet_serving")
        if serving and not serving["verifies"]:
            found[node].append(
                finding.make(
                    ERROR,
                    "kubelet-unverified",
                    serving["path"],
                    "the API server of %s verifies kubelets and refuses this one, whose serving certificate the cluster's CA has "
                    "not signed: no logs, no exec" % ", ".join(verifying),
                    "Run the playbook reissue_kubelets with kubepki_kubelet_serving=bootstrap.",
                    "kubelet-serving",
                )
            )


def _compare_clocks(found: Found, facts: Facts) -> None:
    offsets: Dict[str, float] = {}
    for node, fact in facts.items():
        if fact.get("clock_offset") is not None:
            offsets[node] = fact["clock_offset"]
    # Where the controller's clock is wrong, every node differs from it by the same: only differences between nodes count.
    if len(offsets) < 2:
        return
    middle = sorted(offsets.values())[len(offsets) // 2]
    for node, offset in sorted(offsets.items()):
        apart = offset - middle
        if abs(apart) >= CLOCK_WARNING_SECONDS and abs(offset) < CLOCK_WARNING_SECONDS:
            found[node].append(
                finding.make(
                    ERROR if abs(apart) >= CLOCK_ERROR_SECONDS else WARNING,
                    "clock-off",
                    "clock",
                    "the node's clock is %s %s the other nodes'"
                    % (finding.duration_text(apart), "ahead of" if apart > 0 else "behind"),
                    "Set all nodes from the same time servers.",
                )
            )


def _majority(values: Sequence[Any]) -> Any:
    """Return the most frequent value, or None where no value has more than another."""
    counts = sorted(((values.count(value), value) for value in set(values)), reverse=True)
    if not counts or (len(counts) > 1 and counts[0][0] == counts[1][0]):
        return None
    return counts[0][1]
