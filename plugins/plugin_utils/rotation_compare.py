# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of each node with the level of a CA rotation that its trust bundle shows: what the node still lacks."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import short
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.catalogue import CATALOGUE, KUBECONFIG

from . import rotation_model
from .rotation_model import CaState, Facts, Nodes, View

Known = List[Tuple[Facts, View]]  # the nodes that hold or trust a CA

_AT = ("as before the rotation", rotation_model.PREPARED, rotation_model.SWITCHED, "completed")

_KUBECONFIGS = [entry.name for entry in CATALOGUE if entry.kind == KUBECONFIG]  # without the kubelet's


def read_subjects(nodes: Nodes) -> Dict[str, str]:
    """Return {digest: subject} of what nodes describe."""
    return {digest: item["subject"] for facts in nodes for digest, item in facts.get("certificates", {}).items()}


def _sort_others(state: CaState, known: Known, subjects: Mapping[str, str]) -> None:
    """Sort the other CAs that nodes trust into the user's own, which stay, and leftovers: by the nodes and by their subject."""
    ca_nodes = [view for facts, view in known if facts["role"] != "worker"]
    # A CA that all control-plane nodes trust besides is the user's own, whatever its subject.
    everywhere = [
        digest
        for digest in rotation_model.unique(ca_nodes[0]["bundle"])
        if digest not in (state.old, state.new) and all(digest in view["bundle"] for view in ca_nodes)
    ]
    state.extras += everywhere
    kept = [state.old, state.new] + everywhere
    for facts, view in known:
        holds_ca = facts["role"] != "worker"
        # A worker gets the control plane's bundle, and a kubelet that of its control-plane node: nothing else stays there.
        _sort_trust(state, facts, "its CA file for clients", set(view["bundle"]).difference(kept), holds_ca, subjects)
        given = kept + view["bundle"] if holds_ca else kept
        for name, digests in sorted(view["trust"].items()):
            _sort_trust(state, facts, name, set(digests).difference(given), name in _KUBECONFIGS, subjects)


def _sort_trust(
    state: CaState, facts: Facts, where: str, digests: Iterable[str], stays: bool, subjects: Mapping[str, str]
) -> None:
    own = read_subjects([facts])
    for digest in sorted(digests):
        # kubeadm and this collection give a new CA the subject of the old one. What a node says of itself counts only where no
        # control-plane node describes the certificate.
        previous = subjects.get(state.old or "")
        named = subjects.get(digest, own.get(digest, previous))
        if named == previous:
            # What a worker alone knows is replaced there with the control plane's bundle, and is dropped nowhere else.
            if facts["role"] != "worker" or digest in subjects:
                state.leftovers = rotation_model.unique(state.leftovers + [digest])
        elif stays:
            state.extras = rotation_model.unique(state.extras + [digest])
        else:
            state.damaged = True
            state.evidence.append(
                "%s: %s trusts %s (%s), which the control plane does not; it would be taken away. Put it into ca.crt of every "
                "control-plane node, or take it out" % (facts["node"], where, short(digest), named)
            )


def set_levels(state: CaState, known: Known, subjects: Mapping[str, str]) -> None:
    """Fill in the levels of all nodes, and what each still lacks. known: [(facts, view)]. subjects: {digest: subject}."""
    ca_nodes = [(facts, view) for facts, view in known if facts["role"] != "worker"]
    _sort_others(state, known, subjects)
    for facts, view in known:
        state.levels[facts["node"]] = _level(state, view["bundle"])
    ca_levels = [state.levels[facts["node"]] for facts, _view in ca_nodes]
    state.highest = max((level for level in ca_levels if level is not None), default=0)
    for facts, view in known:
        node, level = facts["node"], state.levels[facts["node"]]
        if level is None:
            state.behind.append(node)
            state.add(
                node,
                "files",
                "trusts only %s, which is neither of the two: it was away, or belongs to another cluster"
                % (", ".join(short(digest) for digest in view["bundle"]) or "nobody"),
            )
            continue
        lowest = min((value for value in ca_levels if value is not None), default=level)
        if level < (lowest if facts["role"] == "worker" else state.highest) - (0 if facts["role"] == "worker" else 1):
            state.behind.append(node)
        if level < state.highest:
            state.pending.setdefault(node, []).append("is still %s, while others are further" % _AT[level])
        elif level > state.highest:
            _check_ahead(state, node, level)
        _compare(state, facts, view, level)
    if state.without_former and not any(view["previous"] == state.old for _facts, view in ca_nodes):
        for node in state.without_former:
            state.add(node, "stage", "the old one %s is not kept for a rollback" % short(state.old))


def _check_ahead(state: CaState, node: str, level: int) -> None:
    """Note a worker that is further than every control-plane node.

    A rollback brings control-plane nodes back first, so that a run that was interrupted leaves workers one level ahead. No run
    leaves one that trusts only the new CA there, or two levels ahead.
    """
    if level == state.highest + 1 and level < 3:
        state.pending.setdefault(node, []).append("is still %s, while no control-plane node is" % _AT[level])
        return
    state.damaged = True
    state.evidence.append(
        "%s: says that it trusts %s the new CA %s, and no control-plane node is so far. Look at what runs on that host; then put "
        "its CA file and its kubelet's kubeconfig back from its newest backup set (playbook restore)"
        % (node, "only" if level == 3 else "first of all", short(state.new))
    )


def _level(state: CaState, bundle: Iterable[str]) -> Optional[int]:
    ours: List[Optional[str]] = []
    for digest in bundle:
        if digest in (state.old, state.new) and digest is not None and digest not in ours:
            ours.append(digest)
    table: Dict[Tuple[Optional[str], ...], int] = {(state.old,): 0}
    if state.new:
        table.update({(state.old, state.new): 1, (state.new, state.old): 2, (state.new,): 3})
    return table.get(tuple(ours))


def _compare(state: CaState, facts: Facts, view: View, level: int) -> None:
    """Note what a node lacks of the level its bundle says it has."""
    node = facts["node"]
    _compare_trust(state, facts, view, level)
    signer = rotation_model.signer_at(state, level)
    for name, digest in sorted(view["leaves"].items()):
        kubelet = name.startswith("kubelet")
        # Nothing accepts a kubelet whose certificate is of a CA that was removed, and the kubelet cannot renew it.
        if (
            digest is not None
            and digest != signer
            and (digest in (state.old, state.new) or kubelet and digest not in state.extras)
        ):
            state.add(node, "client" if kubelet else "files", "%s is still signed by %s" % (name, short(digest)))
    if facts["role"] != "worker":
        _compare_ca_node(state, facts, view, level)
    for component in facts["pending"]:
        if component == "kubelet" and state.authority == "ca":
            state.add(node, "kubelet", "the kubelet has not been restarted since its files changed")
        elif component in rotation_model.components_of(state.authority, facts):
            state.add(node, "pods", "%s has not been restarted since its files changed" % component)
    _compare_pods(state, facts)
    if facts["journal"]:
        state.add(node, "files", "a run ended while files were being replaced; the next one finishes them")


def _compare_pods(state: CaState, facts: Facts) -> None:
    """Add the static pods that still use previous files, during a rotation only."""
    for name, pod in sorted(facts.get("pods", {}).items()):
        if state.new and pod["stale"] and state.authority in pod["cas"] and name not in facts["pending"]:
            state.add(
                facts["node"],
                "pods",
                "the static pod %s has not been restarted since its files changed%s"
                % (name, "; restart it by hand, because %s" % pod["why"] if pod["why"] else ""),
            )


def _compare_trust(state: CaState, facts: Facts, view: View, level: int) -> None:
    node, wanted = facts["node"], rotation_model.trusted_at(state, level)
    foreign = [digest for digest in view["bundle"] if digest not in (state.old, state.new) and digest not in state.extras]
    if foreign:
        state.add(node, "files", "still trusts %s" % ", ".join(short(digest) for digest in foreign))
    for name, digests in sorted(view["trust"].items()):
        if [digest for digest in rotation_model.unique(digests) if digest in (state.old, state.new)] != wanted:
            state.add(node, "files", "%s trusts %s, where %s is right" % (name, _names(digests), _names(wanted)))


def _names(digests: Iterable[Optional[str]]) -> str:
    return "[%s]" % ", ".join(short(digest) for digest in rotation_model.unique(digests))


def _compare_ca_node(state: CaState, facts: Facts, view: View, level: int) -> None:
    node = facts["node"]
    if view["signer"] != rotation_model.signer_at(state, level) and not facts["journal"]:
        state.evidence.append("%s trusts %s first and signs with %s" % (node, short(view["bundle"][0]), short(view["signer"])))
    if view["next"] in state.unused:
        state.add(node, "tidy", "the new CA %s is staged, and another node has another one" % short(view["next"]))
    if state.new and level in (0, 1) and view["next"] != state.new:
        state.add(node, "stage", "the successor %s is not staged" % short(state.new))
    if state.new and level >= 2 and view["next"]:
        state.add(node, "tidy", "the successor is still staged, though it signs already")
    if level == 2 and state.new and view["previous"] != state.old:
        state.without_former.append(node)
    if level == 3 and view["previous"]:
        state.add(node, "tidy", "the old one is still kept for a rollback")
    if level < 2 and view["previous"]:
        state.add(node, "tidy", "an old one is still kept for a rollback")
    if view["split"] is not None:
        _compare_split(state, node, view, level)
    if view.get("lookup_off") and level not in (1, 2):
        state.add(node, "flags", "kube-apiserver still looks at a token's signature alone")


def _compare_split(state: CaState, node: str, view: View, level: int) -> None:
    split = level in (1, 2)
    if view["split"] != split:
        state.add(
            node,
            "flags",
            "kube-controller-manager signs with %s"
            % (
                "the trust bundle, where it needs a file with one certificate"
                if split
                else "a file of its own, where the authority's file is right again"
            ),
        )
    if split and view["signing"] != [rotation_model.signer_at(state, level)]:
        state.add(node, "files", "ca-signing.crt does not hold the signer")
    if not split and view["signing"] is not None:
        state.add(node, "tidy", "ca-signing.crt is left over")
