# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase of a CA rotation, derived from the files of all nodes. Pure functions over facts."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import short
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.catalogue import ROTATABLE

from . import rotation_compare, rotation_model
from .rotation_compare import Known
from .rotation_model import COMPLETING, EXTERNAL, IMPOSSIBLE, PREPARING, STABLE, CaState, Nodes


def derive(authority: str, nodes: Nodes) -> CaState:
    """Return the state of one CA. nodes: [facts] of all nodes in any order. Never raise."""
    state = CaState(authority)
    known = [(facts, facts["authorities"][authority]) for facts in nodes if authority in facts["authorities"]]
    ca_nodes = [(facts, view) for facts, view in known if facts["role"] != "worker"]
    if authority == "sa" and not _signs_tokens(state, nodes):
        return state
    if not ca_nodes:
        return state
    if authority == "etcd-ca" and not _stacked(state, ca_nodes):
        return state
    if not _identify(state, ca_nodes, nodes):
        return state
    rotation_compare.set_levels(state, known, rotation_compare.read_subjects(rotation_model.ca_node_facts(nodes)))
    _name(state, ca_nodes)
    return state


def _stacked(state: CaState, ca_nodes: Known) -> bool:
    """Return whether etcd runs in static pods of the control-plane nodes."""
    places: Dict[str, str] = {}
    for facts, _view in ca_nodes:
        if facts["role"] == "control-plane":
            places[facts["node"]] = facts.get("external_etcd") or ""
    outside = sorted(node for node in places if places[node])
    if not outside:
        return True
    inside = sorted(set(places) - set(outside))
    if inside:
        return _refuse(
            state,
            IMPOSSIBLE,
            ["%s: etcd is a static pod" % node for node in inside]
            + ["%s: etcd is no static pod, the apiserver goes to %s" % (node, places[node]) for node in outside],
        )
    state.external_etcd = True
    servers = list(dict.fromkeys(places[node] for node in outside))
    return _refuse(
        state,
        EXTERNAL,
        [
            "etcd is no static pod of %s: the apiservers go to %s, whose authority and members belong "
            "to whoever set that up" % (", ".join(outside), " and ".join(servers))
        ],
    )


def _signs_tokens(state: CaState, nodes: Nodes) -> bool:
    """Return whether the API servers sign tokens with a key file. An external signer keeps its key outside the cluster
    (KEP-740)."""
    signers = {facts["node"]: facts["token_signer"] for facts in rotation_model.ca_node_facts(nodes) if facts.get("token_signer")}
    if not signers:
        return True
    state.external_signer = True
    return _refuse(
        state,
        EXTERNAL,
        [
            "%s: kube-apiserver has service-account tokens signed by %s (--service-account-signing-endpoint)"
            % (node, signers[node])
            for node in sorted(signers)
        ],
    )


def derive_all(nodes: Nodes, names: Iterable[str] = ROTATABLE) -> Dict[str, CaState]:
    """Return {name: state} of several CAs."""
    return {name: derive(name, nodes) for name in names}


def _refuse(state: CaState, phase: str, evidence: Iterable[str]) -> bool:
    """Set a phase that is refused, and return False."""
    state.phase = phase
    state.evidence.extend(evidence)
    return False


def _distinct(ca_nodes: Known, key: str) -> List[str]:
    found: List[str] = []
    for _facts, view in ca_nodes:
        if view[key] and view[key] not in found:
            found.append(view[key])
    return found


def _where(ca_nodes: Known, key: str, digest: str) -> str:
    return ", ".join(facts["node"] for facts, view in ca_nodes if view[key] == digest)


def _lacking(authority: str, nodes: Nodes) -> List[str]:
    """Return one sentence for each node without files of a CA: the plan would skip it, and it would trust only the old one."""
    planes = [facts for facts in nodes if facts["role"] == "control-plane"]
    there = [facts["node"] for facts in planes if authority in facts["authorities"]]
    found = [
        "%s: has no file of this authority, unlike %s" % (facts["node"], ", ".join(there))
        for facts in planes
        if there and authority not in facts["authorities"]
    ]
    if authority == "ca":
        found += [
            "%s: has no CA file that could be told from its kubelet's configuration (clientCAFile), so it would be cut off"
            % facts["node"]
            for facts in nodes
            if facts["role"] == "worker" and authority not in facts["authorities"]
        ]
    return found


def _identify(state: CaState, ca_nodes: Known, nodes: Nodes) -> bool:
    """Find the old and the new CA in the facts of the control-plane nodes. Return False where the state is refused."""
    damaged = ["%s: %s" % (facts["node"], problem.rstrip(".")) for facts, view in ca_nodes for problem in view["problems"]]
    if damaged:
        state.damaged = True
        return _refuse(state, IMPOSSIBLE, damaged)
    signers, staged, kept = (_distinct(ca_nodes, key) for key in ("signer", "next", "previous"))
    keyless = [facts["node"] for facts, view in ca_nodes if not view["signer"]]
    if not signers:
        return _refuse(state, EXTERNAL, ["no control-plane node holds the key of this authority, so it is kept elsewhere"])
    if keyless:
        return _refuse(
            state, IMPOSSIBLE, ["%s: the key of this authority is not there, while others have it" % name for name in keyless]
        )
    broken = _lacking(state.authority, nodes)
    contradiction = _contradiction(ca_nodes, signers, staged, kept)
    if contradiction and not broken:
        state.unused = _unused(state.authority, nodes, signers, staged, kept)
    if broken or (contradiction and not state.unused):
        return _refuse(state, IMPOSSIBLE, broken or contradiction)
    state.contradiction = contradiction
    staged = [digest for digest in staged if digest not in state.unused]
    if len(signers) == 2:
        state.old, state.new = _order(ca_nodes, signers)
        if state.old is None:
            return _refuse(state, IMPOSSIBLE, _two_signers(ca_nodes, signers))
    else:
        one = signers[0]
        successor = [digest for digest in staged if digest != one]
        former = [digest for digest in kept if digest != one]
        if successor:
            state.old, state.new = one, successor[0]
        elif former:
            state.old, state.new = former[0], one
        else:
            state.old = one
    return True


def _contradiction(ca_nodes: Known, signers: List[str], staged: List[str], kept: List[str]) -> List[str]:
    everyone: List[str] = []
    for digest in signers + staged + kept:
        if digest not in everyone:
            everyone.append(digest)
    if len(everyone) > 2:
        evidence = []
        for key, words in (("signer", "signs on"), ("next", "is staged on"), ("previous", "is kept for the way back on")):
            for digest in _distinct(ca_nodes, key):
                evidence.append("%s %s %s" % (short(digest), words, _where(ca_nodes, key, digest)))
        return ["there are %d authorities, and a rotation has two" % len(everyone)] + evidence
    return []


def _unused(authority: str, nodes: Nodes, signers: List[str], staged: List[str], kept: List[str]) -> List[str]:
    """Return the new CAs that no node trusts or uses, where without them at most one is left and no CA has changed yet."""
    views = [facts["authorities"][authority] for facts in nodes if authority in facts["authorities"]]
    used = set(signers)
    for view in views:
        used.update(view["bundle"], view["signing"] or (), view["leaves"].values(), *view["trust"].values())
    new = [digest for digest in staged if digest not in signers]
    unused = [digest for digest in new if digest not in used]
    switched = len(signers) > 1 or any(digest not in signers for digest in kept)
    return [] if switched or len(new) - len(unused) > 1 else unused


def _two_signers(ca_nodes: Known, signers: List[str]) -> List[str]:
    return ["%s signs on %s" % (short(digest), _where(ca_nodes, "signer", digest)) for digest in signers] + [
        "neither is staged or kept anywhere as the successor of the other"
    ]


def _order(ca_nodes: Known, signers: List[str]) -> Tuple[Optional[str], Optional[str]]:
    """Return (old, new) of two signers: the old one signs while the other is staged. (None, None) where nodes disagree."""
    votes = set()
    for _facts, view in ca_nodes:
        other = next(digest for digest in signers if digest != view["signer"])
        if view["next"] == other:
            votes.add((view["signer"], other))
        elif view["previous"] == other:
            votes.add((other, view["signer"]))
    return votes.pop() if len(votes) == 1 else (None, None)


def _name(state: CaState, ca_nodes: Known) -> None:
    """Set the phase from the levels of the nodes."""
    levels = {state.levels[facts["node"]] for facts, _view in ca_nodes}
    if state.evidence or None in levels:
        state.unused = []
    state.evidence = state.contradiction + state.evidence
    if None in levels:
        _refuse(
            state,
            IMPOSSIBLE,
            [
                "%s: trusts neither authority it could have" % facts["node"]
                for facts, _view in ca_nodes
                if state.levels[facts["node"]] is None
            ],
        )
        return
    if state.evidence:
        state.phase = IMPOSSIBLE
        return
    everyone = {level for level in state.levels.values() if level is not None}
    highest = state.highest
    done = len(everyone) == 1 and not state.behind and not any(state.pending.values())
    if state.new is None:
        # Leftovers of a rotation whose other authority nobody holds any more: only dropping them is left.
        state.phase = STABLE if done else COMPLETING
    elif highest == 0:
        state.phase = PREPARING
    elif highest == 3 and done:
        state.phase = STABLE
    else:
        state.phase = rotation_model.LEVELS[highest] if done else rotation_model.ON_THE_WAY[highest]
