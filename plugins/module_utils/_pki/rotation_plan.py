# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation over all nodes as a whole, on the controller: where each authority stands, and who does what."""

from __future__ import annotations

__metaclass__ = type

from . import rotation
from .errors import PkiError

TARGETS = {"prepare": "prepared", "switch": "switched", "complete": "completed", "rollback": "rolled_back", "all": "completed"}


def derived(nodes, names, target, named=True):
    """Give the result for the facts of all nodes: the phases, their explanation and the plan. Raises PkiError.

    named: whether a person asked for these names, so that what cannot be planned is refused and not left out.
    """
    for facts in nodes:
        if not isinstance(facts, dict) or not {"node", "role", "authorities", "pending", "journal"} <= set(facts):
            raise PkiError("nodes holds something that is not the node of this module's result",
                           fix="Pass the registered results' node of every host.")
    states = rotation.derive_all(nodes, names)
    lines = [line for name in names for line in rotation.explain(states[name])]
    result = {"changed": False, "phase": {name: state.phase for name, state in states.items()},
              "authorities": {name: state.as_dict() for name, state in states.items()}, "explanation": lines,
              "plan": [], "plan_text": [], "phases": [], "new_clients": [], "names": list(names), "work": {}, "holders": {},
              "known": {}}
    if target == "status":
        return result
    both = [facts["node"] for facts in nodes if facts["role"] == "etcd"]
    if both and "ca" in names:
        raise PkiError("runs etcd in a static pod beside no apiserver, and is a node of the cluster at the same time: its "
                       "kubelet would not be brought along", path=both[0],
                       fix="Move etcd to a host of its own (group etcd), or take the node out of kube_node if it is none.")
    _one_after_the_other(nodes, names)
    chosen = _chosen(states, [name for name in names if named or not states[name].external_etcd], target)
    steps = rotation.plan(nodes, chosen, TARGETS[target], fresh=target == "all") if chosen else []
    phases = list(dict.fromkeys(step.phase for step in steps))
    result.update(names=chosen, plan=[step.as_dict() for step in steps], phases=phases,
                  plan_text=_left(states, chosen, target) + _text(steps, phases, nodes),
                  known={name: {"old": states[name].old, "new": states[name].new, "drop": states[name].leftovers}
                         for name in chosen},
                  work=rotation.work(steps), holders=rotation.holders({name: states[name] for name in chosen}, nodes),
                  new_clients=[step.node for step in steps if step.new_client and step.phase == phases[0]])
    return result


def _one_after_the_other(nodes, names):
    """Raise PkiError where the cluster's CA is in the midst of a phase and not among the names.

    Every phase brings the API's objects to what the nodes trust, and the nodes do not agree about this one.
    """
    state = rotation.derive("ca", nodes)
    if "ca" not in names and not state.refused and not state.settled:
        raise PkiError("it is %s: not every node is there yet" % state.phase, path="ca",
                       fix="Finish that first: the same phase with kubepki_cas=ca.")


def _left(states, chosen, target):
    """Name those that were asked for and that another rotation has to be waited for."""
    left = [name for name in states if name not in chosen and states[name].phase == rotation.STABLE]
    if not left or not chosen or target not in ("all", "switch"):
        return []
    return ["%s: left as it is. A rotation of %s is under way, and is finished first; run again for this one." % (
        ", ".join(left), ", ".join(chosen))]


def _chosen(states, names, target):
    """Whoever is in a rotation goes on; a successor is only made where nothing is under way, or where prepare is asked for.

    Where all that is under way has not been prepared yet, the run that began it ended before it came to the others.
    """
    unused = [name for name in names if states[name].unused] if target == "rollback" else []
    for name in names:
        if states[name].refused and states[name].phase != rotation.ABSENT and name not in unused:
            return names
    there = [name for name in names if states[name].phase != rotation.ABSENT]
    under_way = rotation.under_way({name: states[name] for name in there})
    going = [name for name in there if name in under_way or name in unused]
    beginning = all(states[name].phase == rotation.PREPARING for name in going)  # also where none is under way
    if target == "prepare" or (target == "all" and beginning) or (target == "switch" and not going):
        return there
    return going


def _text(steps, phases, nodes):
    took = {facts["node"]: facts.get("seconds", {}) for facts in nodes}
    planes = [facts for facts in nodes if facts["role"] == "control-plane"]
    lines = []
    for phase in phases:
        lines.append("%s:" % phase)
        for step in steps:
            if step.phase == phase:
                last = took.get(step.node, {}).get(phase)
                lines.append("  %s%s" % (step.text(), " (%.0f s last time)" % last if last else ""))
                if "kube-apiserver" in step.restarts and len(planes) == 1:
                    lines.append("    the API is away meanwhile: this cluster has no other control-plane node")
    return lines
