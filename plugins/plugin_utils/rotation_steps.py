# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps from one phase of a CA rotation to another: what is refused, and what is to be done on each node."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Set

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.catalogue import LEAVE_ETCD_OUT

from . import rotation_model, rotation_state
from .rotation_model import CaState, Facts, Nodes, View


class Step:
    """What one phase does on one node.

    phase: "prepare", "switch", "complete", "rollback of prepare" or "rollback of switch". level: the level it leads to.
    node, role: str. authorities: [names]. stage: [names whose new CA has to be copied to the node]. files: [names whose
    files change]. restarts: [static pods]. kubelet: bool, and new_client: bool, whether it gets a new client certificate.
    """

    def __init__(self, phase: str, level: int, node: str, role: str) -> None:
        self.phase, self.level, self.node, self.role = phase, level, node, role
        self.authorities: List[str] = []
        self.stage: List[str] = []
        self.files: List[str] = []
        self.restarts: List[str] = []
        self.kubelet = self.new_client = False

    def as_dict(self) -> Dict[str, Any]:
        """Return the step as JSON data."""
        return {
            "phase": self.phase,
            "node": self.node,
            "authorities": self.authorities,
            "stage": self.stage,
            "files": self.files,
            "restarts": self.restarts,
            "kubelet": self.kubelet,
            "new_client": self.new_client,
        }

    def text(self) -> str:
        """Return the step as one line of text."""
        parts: List[str] = []
        if self.stage:
            parts.append("stage the successor of %s" % ", ".join(self.stage))
        if self.files:
            parts.append("files of %s" % ", ".join(self.files))
        if self.restarts:
            parts.append("restart %s" % ", ".join(self.restarts))
        if self.kubelet:
            parts.append("restart the kubelet%s" % (" on a new client certificate" if self.new_client else ""))
        return "%s: %s" % (self.node, "; ".join(parts) or "nothing to do")


def refuse(states: Mapping[str, CaState], target: str, fresh: bool = False) -> None:
    """Raise PkiError where a target cannot be reached. target: one of TARGETS. fresh: as in plan()."""
    goal = rotation_model.TARGETS[target]
    for name in sorted(states):
        state = states[name]
        if state.refused and not (state.unused and goal == 0):  # no order of phases helps these
            raise PkiError(
                "the state of %s does not allow a rotation (%s): %s" % (name, state.phase, "; ".join(state.evidence)),
                path=name,
                fix=_fix(state),
            )
    for name in sorted(states):
        state = states[name]
        reached = state.highest
        # Where they stand at different places, no phase is right for all of them.
        alone = " kubepki_cas=%s" % name if len({other.phase for other in states.values()}) > 1 else ""
        if state.new is None:
            _refuse_without_new_ca(state, goal, fresh, alone)
        elif goal == 0 and reached == 3:
            raise PkiError(
                "its completion has begun, and there is no way back from that",
                path=name,
                fix="Go on with kubepki_phase=complete%s." % alone,
            )
        elif goal == 0 and reached == 2 and state.without_former:
            raise PkiError(
                "%s signs with the new one and does not have the old one, so it cannot be rolled back"
                % " and ".join(sorted(state.without_former)),
                path=name,
                fix="Copy /etc/kubernetes/pki.previous to it from another control-plane node, or go on with "
                "kubepki_phase=complete%s." % alone,
            )
        elif 0 < goal < reached:
            raise PkiError(
                "it is %s, which is past %s" % (state.phase, rotation_model.PHASES[goal - 1]),
                path=name,
                fix="Go on with kubepki_phase=%s%s%s."
                % (rotation_model.PHASES[reached - 1], alone, "" if reached == 3 else ", or go back with kubepki_phase=rollback"),
            )
        elif goal - reached > 1 and not fresh:
            raise PkiError(
                "it is %s%s" % (state.phase, _who(state)),
                path=name,
                fix="Run kubepki_phase=%s%s first." % (rotation_model.PHASES[reached], alone),
            )
        elif goal - reached == 1 and goal > 1 and not state.is_complete and not fresh:
            raise PkiError(
                "it is %s: not every node is there yet%s" % (state.phase, _who(state)),
                path=name,
                fix="Run kubepki_phase=%s%s again first." % (rotation_model.PHASES[reached - 1], alone),
            )


def _refuse_without_new_ca(state: CaState, goal: int, fresh: bool, alone: str) -> None:
    if state.phase == rotation_model.COMPLETING and goal in (1, 2):
        raise PkiError(
            "there are leftovers of another authority%s" % _who(state),
            path=state.authority,
            fix="Run kubepki_phase=complete%s first, which drops them." % alone,
        )
    if state.phase == rotation_model.STABLE and goal == 2 and not fresh:
        raise PkiError("it has no successor yet", path=state.authority, fix="Run kubepki_phase=prepare%s first." % alone)


def _who(state: CaState) -> str:
    nodes = sorted(node for node, items in state.pending.items() if items)
    return " (still to be done on %s)" % ", ".join(nodes) if nodes else ""


def _fix(state: CaState) -> str:
    if state.external_etcd:
        return LEAVE_ETCD_OUT
    if state.external_signer:
        return (
            "Rotate the signing key in the external signer, as its documentation says; the CAs with "
            "kubepki_cas=ca,front-proxy-ca,etcd-ca."
        )
    if state.phase == rotation_model.EXTERNAL:
        return "Leave it out of kubepki_cas, or rotate it where its key is kept."
    if state.phase == rotation_model.ABSENT:
        return "Leave it out of kubepki_cas."
    if state.unused:
        return (
            "Run kubepki_phase=rollback kubepki_cas=%s, which removes the new CAs that no node trusts. Then run again."
            % state.authority
        )
    if state.damaged:
        return "Put that right, then run again."
    return "Compare the nodes named, and put the odd one right from its newest backup set (playbook restore)."


def under_way(states: Mapping[str, CaState]) -> List[str]:
    """Return the names of the CAs that are in a rotation, or that have leftovers of one."""
    return [name for name in states if not states[name].refused and states[name].phase != rotation_model.STABLE]


def plan(nodes: Nodes, names: Iterable[str], target: str, fresh: bool = False) -> List[Step]:
    """Return the steps that lead from the facts of all nodes to a target, phase by phase, control plane before workers.

    names: of CAs. target: "prepared", "switched", "completed" or "rolled_back". fresh: whether a CA that is stable gets a new CA
    on the way (always so for "prepared"), and several phases may follow one another. Steps with nothing to do are left out. A
    control-plane node that was unreachable passes through the phases that it missed; a worker goes to the level of the control
    plane. Raise PkiError as refuse().
    """
    states = rotation_state.derive_all(nodes, names)
    fresh = fresh or target == "prepared"
    refuse(states, target, fresh)
    order = sorted(nodes, key=lambda facts: {"etcd": 0, "control-plane": 1}.get(facts["role"], 2))
    tracks = [_Track(state, nodes, fresh) for state in states.values()]
    goal = rotation_model.TARGETS[target]
    backwards = not goal
    # A rollback that was interrupted has left workers ahead of the control plane.
    furthest = max((level for state in states.values() for level in state.levels.values() if level is not None), default=0)
    path = list(range(1, goal + 1) if goal else range(max(furthest - 1, 0), -1, -1))
    if path == [0] and any("client" in kinds for state in states.values() for kinds in state.kinds.values()):
        path = [1, 0]  # what is left of the way back from the switch comes before the way back from prepare
    steps = []
    for level in path:
        phase = rotation_model.UNDO[level + 1] if backwards else rotation_model.PHASES[level - 1]
        for facts in order:
            step = Step(phase, level, facts["node"], facts["role"])
            for track in tracks:
                if track.state.authority in facts["authorities"]:
                    track.add(step, facts, level == path[-1], backwards)
            if step.authorities:
                step.restarts.sort(
                    key=lambda name: (
                        rotation_model.RESTART_ORDER.index(name)
                        if name in rotation_model.RESTART_ORDER
                        else len(rotation_model.RESTART_ORDER),
                        name,
                    )
                )
                steps.append(step)
    return steps


def work(steps: Iterable[Step]) -> Dict[str, Dict[str, Any]]:
    """Return what each phase of a plan concerns: {phase: {"names": [CAs], "nodes": {node: [CAs]}}}, in their order.

    A CA that is at another level, or a node that is at the phase's level already, is not in it: a module would write the files of
    any level that it is given, also one of a rollback.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for step in steps:
        phase = found.setdefault(step.phase, {"names": [], "nodes": {}})
        phase["names"] = rotation_model.unique(phase["names"] + step.authorities)
        phase["nodes"][step.node] = list(step.authorities)
    return found


def holders(states: Mapping[str, CaState], nodes: Nodes) -> Dict[str, str]:
    """Return {CA: the node from which the others get the new CA}: one that has it, else the first that can make it.

    A node may have the new one of one CA and lack that of another. The first by name, so that two controllers whose inventories
    have the nodes in another order choose the same one.
    """
    found: Dict[str, str] = {}
    by_name = sorted(nodes, key=lambda facts: facts["node"])
    for name, state in states.items():
        views = [
            (facts["node"], facts["authorities"][name])
            for facts in by_name
            if facts["role"] != "worker" and name in facts["authorities"]
        ]
        having = [node for node, view in views if state.new and state.new == view["next"]] + [
            node for node, view in views if state.new and state.new == view["signer"]
        ]
        for node in (having + [node for node, _view in views])[:1]:
            found[name] = node
    return found


class _Track:
    """One CA's way through a plan: its state, and the level of each node after the steps so far."""

    def __init__(self, state: CaState, nodes: Nodes, fresh: bool) -> None:
        self.state = state
        self.levels = dict(state.levels)
        self.successor = state.new is not None or (fresh and state.phase == rotation_model.STABLE)
        self.finished = state.phase == rotation_model.STABLE and state.new is not None
        levels = [state.levels.get(facts["node"]) for facts in nodes if facts["role"] != "worker"]
        self.lowest_of_control_plane = min([level for level in levels if level is not None], default=0)

    def add(self, step: Step, facts: Facts, last: bool, backwards: bool) -> None:
        """Add what this CA needs on a node in this step. last: the step leads to the target. backwards: it is a rollback."""
        view, level = facts["authorities"][self.state.authority], step.level
        now = self.levels[step.node]
        if not self.successor:
            moves = False
            kinds = self.state.kinds.get(step.node, set()) if last else set()
        elif backwards:
            moves = now is None or now > level
            kinds = self.state.kinds.get(step.node, set()) - {"stage"} if now == level else set()
            if level == 0 and (view["next"] or view["previous"]):
                kinds = kinds | {"files"}
        else:
            skipped = facts["role"] == "worker" and level < self.lowest_of_control_plane
            moves = not skipped and not self.finished and (now is None or now < level or self._returns(now, level, last))
            kinds = self.state.kinds.get(step.node, set()) if now == level else set()
            if not last and level < self.state.highest:
                kinds = kinds & {"stage"}  # other nodes are further: the next level brings what this node lacks
        if moves or kinds:
            self._fill(step, facts, view, moves, kinds, backwards)
            self.levels[step.node] = level if self.successor else now

    def _returns(self, now: int, level: int, last: bool) -> bool:
        """Return whether a worker that an interrupted rollback left ahead of the control plane goes back to it."""
        return last and now > level == self.state.highest

    def _fill(self, step: Step, facts: Facts, view: View, moves: bool, kinds: Set[str], backwards: bool) -> None:
        name, level, now = self.state.authority, step.level, self.levels[step.node]
        step.authorities.append(name)
        if facts["role"] != "worker" and not backwards and ("stage" in kinds or (moves and level == 1 and not view["next"])):
            step.stage.append(name)
        if moves or kinds & {"files", "tidy", "stage"}:
            step.files.append(name)
        if facts["role"] == "control-plane":
            phase = {rotation_model.UNDO[1]: "prepare", rotation_model.UNDO[2]: "switch"}.get(step.phase, step.phase)
            flagged = ["kube-apiserver" if name == "sa" else "kube-controller-manager"] if "flags" in kinds else []
            wanted = list(rotation_model.restarts_of(name, phase, facts)) if moves else flagged
            wanted += [component for component in facts["pending"] if component in rotation_model.components_of(name, facts)]
            step.restarts = rotation_model.unique(step.restarts + wanted)
        if moves or "pods" in kinds:
            step.restarts = rotation_model.unique(step.restarts + rotation_model.users_of(name, facts))
        if name == "ca" and facts["role"] != "etcd" and (moves or kinds & {"kubelet", "client", "files"}):
            step.kubelet = True
            step.new_client = (
                (moves and step.phase in ("switch", rotation_model.UNDO[2]))
                or "client" in kinds
                or now is None
                or now > step.level == 1
            )
