# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a CA rotation over all nodes, made on the controller: the state of each CA, and what each node does."""

from __future__ import annotations

from typing import Any, Collection, Dict, Iterable, List, Mapping, Sequence, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError, printable, short
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import node_binding

from . import answers, rotation_explain, rotation_model, rotation_state, rotation_steps
from .rotation_model import CaState, Nodes

States = Mapping[str, CaState]

TARGETS = {"prepare": "prepared", "switch": "switched", "complete": "completed", "rollback": "rolled_back", "all": "completed"}


def require_bound(nodes: Nodes, hosts: Sequence[str], control_planes: Collection[str], inventory: Mapping[str, str]) -> None:
    """Raise PkiError unless each host's facts are well formed and are those of the host that they came from.

    nodes: [facts]; hosts: the host of each, in the same order. control_planes: the inventory's hosts that may hold CAs
    (kube_control_plane and etcd): a worker that says it is one would be asked for the new CA. inventory: {host: its address} of
    all hosts.
    """
    if len(nodes) != len(hosts):
        raise PkiError(
            "there are %d nodes and %d hosts" % (len(nodes), len(hosts)),
            fix="Pass the registered results' node of every host, in the order of hosts.",
        )
    for host, facts in zip(hosts, nodes):
        fault = answers.fault(facts, answers.ROTATION)
        if fault:
            raise PkiError("%s Nothing was changed" % answers.sentence(fault), path=host)
        if facts["role"] != "worker" and host not in control_planes:
            raise PkiError(
                "says that its role is %s, and the inventory has it as a worker" % printable(facts["role"], 60),
                path=host,
                fix="Correct the inventory's groups; or look for what runs on that host.",
            )
    wrong = node_binding.contradictions({host: facts["node"] for host, facts in zip(hosts, nodes)}, inventory)
    for host in sorted(wrong):
        raise PkiError(
            wrong[host],
            path=host,
            fix="Correct the inventory or the kubelet's --hostname-override; or look for what runs on that host.",
        )


def derived(nodes: Nodes, names: Sequence[str], target: str, named: bool = True) -> Dict[str, Any]:
    """Return the result for the facts of all nodes: the phases, their explanation and the plan. Raise PkiError.

    named: whether the user named these CAs, so that one that cannot be planned is refused and not left out.
    """
    for number, facts in enumerate(nodes, 1):
        fault = answers.fault(facts, answers.ROTATION)
        if fault:
            raise PkiError(
                "nodes holds something that is not the node of this module's result (number %d: %s)" % (number, fault),
                fix="Pass the registered results' node of every host.",
            )
    twice = sorted({facts["node"] for facts in nodes if [other["node"] for other in nodes].count(facts["node"]) > 1})
    if twice:
        raise PkiError(
            "two hosts say that they are the Node %s" % printable(twice[0]),
            fix="One of the two is not what it says, or the inventory has it twice.",
        )
    states = rotation_state.derive_all(nodes, names)
    lines = [line for name in names for line in rotation_explain.explain(states[name])]
    result = {
        "changed": False,
        "phase": {name: state.phase for name, state in states.items()},
        "authorities": {name: state.as_dict() for name, state in states.items()},
        "explanation": lines,
        "cluster_dependents": _tokens(nodes),
        "plan": [],
        "plan_text": [],
        "phases": [],
        "new_clients": [],
        "names": list(names),
        "work": {},
        "holders": {},
        "known": {},
    }
    if target == "status":
        result["plan_text"] = _outlook(nodes, names, states, named)
        return result
    chosen, steps = _planned(nodes, names, states, target, named)
    phases = list(dict.fromkeys(step.phase for step in steps))
    result.update(
        names=chosen,
        plan=[step.as_dict() for step in steps],
        phases=phases,
        plan_text=_left(states, chosen, target) + _text(steps, phases, nodes),
        known={name: {"old": states[name].old, "new": states[name].new, "drop": states[name].leftovers} for name in chosen},
        work=rotation_steps.work(steps),
        holders=rotation_steps.holders({name: states[name] for name in chosen}, nodes),
        new_clients=[step.node for step in steps if step.new_client and step.phase == phases[0]],
    )
    return result


def _planned(
    nodes: Nodes, names: Sequence[str], states: States, target: str, named: bool
) -> Tuple[List[str], List[rotation_steps.Step]]:
    """Return (the names that take part, the steps to a target). Raise PkiError where it cannot be reached."""
    both = [facts["node"] for facts in nodes if facts["role"] == "etcd"]
    if both and "ca" in names:
        raise PkiError(
            "runs etcd in a static pod beside no apiserver, and is a node of the cluster at the same time: its "
            "kubelet would not be brought along",
            path=both[0],
            fix="Move etcd to a host of its own (group etcd), or take the node out of kube_node if it is none.",
        )
    _refuse_beside_unfinished_ca(nodes, names)
    chosen = _chosen(states, [name for name in names if named or not states[name].left_out], target)
    return chosen, rotation_steps.plan(nodes, chosen, TARGETS[target], fresh=target == "all") if chosen else []


def _outlook(nodes: Nodes, names: Sequence[str], states: States, named: bool) -> List[str]:
    """Return what a whole rotation would do from here, or why it would be refused, as lines. Change nothing."""
    try:
        chosen, steps = _planned(nodes, names, states, "all", named)
    except PkiError as error:
        return [printable("kubepki_phase=all would be refused: %s" % error, 4000)]
    phases = list(dict.fromkeys(step.phase for step in steps))
    if not phases:
        return []
    return (
        ["kubepki_phase=all would do the following. Nothing is done now."]
        + _left(states, chosen, "all")
        + _text(steps, phases, nodes)
    )


def _tokens(nodes: Nodes) -> List[Dict[str, str]]:
    """Return the kubeconfigs of CNI plugins whose token is not signed by the current key, which a worker does not know."""
    state = rotation_state.derive("sa", nodes)
    found: List[Dict[str, str]] = []
    signer = state.new if state.new and state.highest >= 2 else state.old
    for facts in nodes if signer else []:
        for path, keys in sorted((facts.get("tokens") or {}).items()):
            others = [key for key in keys if key != signer]
            if others:
                why = "its token is signed by %s of sa: restart the DaemonSet of the CNI plugin, which writes it again" % (
                    " and ".join(map(short, others))
                )
                found.append(
                    {"node": facts["node"], "what": "CNI kubeconfig", "path": printable(path, 300), "why": printable(why, 300)}
                )
    return found


def _refuse_beside_unfinished_ca(nodes: Nodes, names: Collection[str]) -> None:
    """Raise PkiError where a phase of the cluster's CA is incomplete and the CA is not among the names.

    Every phase updates the API's trust objects to what the nodes trust, and here the nodes trust different CAs.
    """
    state = rotation_state.derive("ca", nodes)
    if "ca" not in names and not state.refused and not state.is_complete:
        raise PkiError(
            "it is %s: not every node is there yet" % state.phase,
            path="ca",
            fix="Finish that first: the same phase with kubepki_cas=ca.",
        )


def _left(states: States, chosen: Collection[str], target: str) -> List[str]:
    """Return a line about the CAs that have to wait until another rotation is finished."""
    left = [name for name in states if name not in chosen and states[name].phase == rotation_model.STABLE]
    if not left or not chosen or target not in ("all", "switch"):
        return []
    return [
        "%s: left as it is. A rotation of %s is under way, and is finished first; run again for this one."
        % (", ".join(left), ", ".join(chosen))
    ]


def _chosen(states: States, names: List[str], target: str) -> List[str]:
    """Return the CAs that take part: those in a rotation. A new one begins only where none is under way, or with prepare.

    Where all that are under way are still preparing, the run that began them stopped before it came to the others.
    """
    unused = [name for name in names if states[name].unused] if target == "rollback" else []
    for name in names:
        if states[name].refused and states[name].phase != rotation_model.ABSENT and name not in unused:
            return names
    there = [name for name in names if states[name].phase != rotation_model.ABSENT]
    under_way = rotation_steps.under_way({name: states[name] for name in there})
    going = [name for name in there if name in under_way or name in unused]
    beginning = all(states[name].phase == rotation_model.PREPARING for name in going)  # also where none is under way
    if target == "prepare" or (target == "all" and beginning) or (target == "switch" and not going):
        return there
    return going


def _text(steps: Iterable[rotation_steps.Step], phases: Iterable[str], nodes: Nodes) -> List[str]:
    took = {facts["node"]: facts.get("seconds", {}) for facts in nodes}
    planes = [facts for facts in nodes if facts["role"] == "control-plane"]
    lines: List[str] = []
    for phase in phases:
        lines.append("%s:" % phase)
        for step in steps:
            if step.phase == phase:
                last = took.get(step.node, {}).get(phase)
                lines.append("  %s%s" % (step.text(), " (%.0f s last time)" % last if last else ""))
                if "kube-apiserver" in step.restarts and len(planes) == 1:
                    lines.append("    the API is away meanwhile: this cluster has no other control-plane node")
    return [printable(line, 4000) for line in lines]
