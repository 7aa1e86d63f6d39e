# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps from one phase of a CA rotation to another: what is refused, and what is to be done on each node."""

from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.catalogue import LEAVE_ETCD_OUT

from . import rotation_state


class Step:
    """What one phase does on one node.

    phase: "prepare", "switch", "complete", "rollback of prepare" or "rollback of switch". level: the level it leads to.
    node, role: str. authorities: [names]. stage: [names whose successor has to be brought to the node]. files: [names whose
    files change]. restarts: [static pods]. kubelet: bool, and new_client: bool, whether it gets a new client certificate.
    """

    def __init__(self, phase, level, node, role):
        self.phase, self.level, self.node, self.role = phase, level, node, role
        self.authorities, self.stage, self.files, self.restarts = [], [], [], []
        self.kubelet = self.new_client = False

    def as_dict(self):
        """Give the step as JSON can hold it."""
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

    def text(self):
        """Give the step as one line for people."""
        parts = []
        if self.stage:
            parts.append("stage the successor of %s" % ", ".join(self.stage))
        if self.files:
            parts.append("files of %s" % ", ".join(self.files))
        if self.restarts:
            parts.append("restart %s" % ", ".join(self.restarts))
        if self.kubelet:
            parts.append("restart the kubelet%s" % (" on a new client certificate" if self.new_client else ""))
        return "%s: %s" % (self.node, "; ".join(parts) or "nothing to do")


def refuse(states, target, fresh=False):
    """Raise PkiError where a target cannot be reached from these States. target: one of TARGETS; fresh as in plan()."""
    goal = rotation_state.TARGETS[target]
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
        reached = rotation_state.highest_level(state)
        # Where they stand at different places, no phase is right for all of them.
        alone = " kubepki_cas=%s" % name if len({other.phase for other in states.values()}) > 1 else ""
        if state.new is None:
            _refuse_without_successor(state, goal, fresh, alone)
        elif goal == 0 and reached == 3:
            raise PkiError(
                "its completion has begun, and there is no way back from that",
                path=name,
                fix="Go on with kubepki_phase=complete%s." % alone,
            )
        elif goal == 0 and reached == 2 and state.without_former:
            raise PkiError(
                "%s signs with its successor and does not have the former authority, so there is no way back for it"
                % " and ".join(sorted(state.without_former)),
                path=name,
                fix="Copy /etc/kubernetes/pki.previous to it from another control-plane node, or go on with "
                "kubepki_phase=complete%s." % alone,
            )
        elif 0 < goal < reached:
            raise PkiError(
                "it is %s, which is past %s" % (state.phase, rotation_state.PHASES[goal - 1]),
                path=name,
                fix="Go on with kubepki_phase=%s%s%s."
                % (rotation_state.PHASES[reached - 1], alone, "" if reached == 3 else ", or go back with kubepki_phase=rollback"),
            )
        elif goal - reached > 1 and not fresh:
            raise PkiError(
                "it is %s%s" % (state.phase, _who(state)),
                path=name,
                fix="Run kubepki_phase=%s%s first." % (rotation_state.PHASES[reached], alone),
            )
        elif goal - reached == 1 and goal > 1 and not state.settled and not fresh:
            raise PkiError(
                "it is %s: not every node is there yet%s" % (state.phase, _who(state)),
                path=name,
                fix="Run kubepki_phase=%s%s again first." % (rotation_state.PHASES[reached - 1], alone),
            )


def _refuse_without_successor(state, goal, fresh, alone):
    if state.phase == rotation_state.COMPLETING and goal in (1, 2):
        raise PkiError(
            "there are leftovers of another authority%s" % _who(state),
            path=state.authority,
            fix="Run kubepki_phase=complete%s first, which drops them." % alone,
        )
    if state.phase == rotation_state.STABLE and goal == 2 and not fresh:
        raise PkiError("it has no successor yet", path=state.authority, fix="Run kubepki_phase=prepare%s first." % alone)


def _who(state):
    nodes = sorted(node for node, items in state.pending.items() if items)
    return " (still to be done on %s)" % ", ".join(nodes) if nodes else ""


def _fix(state):
    if state.external_etcd:
        return LEAVE_ETCD_OUT
    if state.external_signer:
        return (
            "Rotate the signing key in the external signer, as its documentation says; the CAs with "
            "kubepki_cas=ca,front-proxy-ca,etcd-ca."
        )
    if state.phase == rotation_state.EXTERNAL:
        return "Leave it out of kubepki_cas, or rotate it where its key is kept."
    if state.phase == rotation_state.ABSENT:
        return "Leave it out of kubepki_cas."
    if state.unused:
        return (
            "Run kubepki_phase=rollback kubepki_cas=%s, which removes the new CAs that no node trusts. Then run again."
            % state.authority
        )
    if state.damaged:
        return "Put that right, then run again."
    return "Compare the nodes named, and put the odd one right from its newest backup set (playbook restore)."


def under_way(states):
    """Give the names of those that are in a rotation, or that have leftovers of one."""
    return [name for name in states if not states[name].refused and states[name].phase != rotation_state.STABLE]


def plan(nodes, names, target, fresh=False):
    """Give the [Step] that lead from the facts of all nodes to a target, phase by phase, control plane before workers.

    names: authorities. target: "prepared", "switched", "completed" or "rolled_back". fresh: whether an authority that is
    stable gets a successor on the way (always so for "prepared"), and several phases may follow one another. Steps with
    nothing to do are left out; a control-plane node that was away is brought through the phases it missed, a worker goes to
    where the control plane is. Raises PkiError as refuse().
    """
    states = rotation_state.derive_all(nodes, names)
    fresh = fresh or target == "prepared"
    refuse(states, target, fresh)
    order = sorted(nodes, key=lambda facts: {"etcd": 0, "control-plane": 1}.get(facts["role"], 2))
    tracks = [_Track(state, nodes, fresh) for state in states.values()]
    goal = rotation_state.TARGETS[target]
    backwards = not goal
    # A rollback that was interrupted has left workers ahead of the control plane.
    furthest = max((level for state in states.values() for level in state.levels.values() if level is not None), default=0)
    path = list(range(1, goal + 1) if goal else range(max(furthest - 1, 0), -1, -1))
    if path == [0] and any("client" in kinds for state in states.values() for kinds in state.kinds.values()):
        path = [1, 0]  # what is left of the way back from the switch comes before the way back from prepare
    steps = []
    for level in path:
        phase = rotation_state.UNDO[level + 1] if backwards else rotation_state.PHASES[level - 1]
        for facts in order:
            step = Step(phase, level, facts["node"], facts["role"])
            for track in tracks:
                if track.state.authority in facts["authorities"]:
                    track.add(step, facts, level == path[-1], backwards)
            if step.authorities:
                step.restarts.sort(
                    key=lambda name: (
                        rotation_state.RESTART_ORDER.index(name)
                        if name in rotation_state.RESTART_ORDER
                        else len(rotation_state.RESTART_ORDER),
                        name,
                    )
                )
                steps.append(step)
    return steps


def work(steps):
    """Say what each phase of a plan concerns: {phase: {"names": [authorities], "nodes": {node: [authorities]}}}, in their order.

    An authority that is elsewhere in its rotation, or a node that is there already, is not in it: the files of a phase are made
    for any level that is asked for, the way back included.
    """
    found = {}
    for step in steps:
        phase = found.setdefault(step.phase, {"names": [], "nodes": {}})
        phase["names"] = rotation_state.unique(phase["names"] + step.authorities)
        phase["nodes"][step.node] = list(step.authorities)
    return found


def holders(states, nodes):
    """Give {authority: the node that gives the new CA to the others}: one that has it, else the first that can make one.

    Asked for each CA: a node may have the new one of one and lack that of another. The first by name: two controllers whose
    inventories have the nodes in another order choose the same one.
    """
    found = {}
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
    """One authority's way through a plan: its State, and where each node stands after the steps so far."""

    def __init__(self, state, nodes, fresh):
        self.state = state
        self.levels = dict(state.levels)
        self.successor = state.new is not None or (fresh and state.phase == rotation_state.STABLE)
        self.finished = state.phase == rotation_state.STABLE and state.new is not None
        self.keepers_at = min(
            [state.levels[facts["node"]] for facts in nodes if facts["node"] in state.levels and facts["role"] != "worker"],
            default=0,
        )

    def add(self, step, facts, last, backwards):
        """Add what this authority needs on a node in this step."""
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
            skipped = facts["role"] == "worker" and level < self.keepers_at
            moves = not skipped and not self.finished and (now is None or now < level or self._returns(now, level, last))
            kinds = self.state.kinds.get(step.node, set()) if now == level else set()
            if not last and level < rotation_state.highest_level(self.state):
                kinds = kinds & {"stage"}  # it follows others who are further: what it lacks of this level, the next one brings
        if moves or kinds:
            self._fill(step, facts, view, moves, kinds, backwards)
            self.levels[step.node] = level if self.successor else now

    def _returns(self, now: int, level: int, last: bool) -> bool:
        """Return whether a worker that an interrupted rollback left ahead of the control plane goes back to it."""
        return last and now > level == rotation_state.highest_level(self.state)

    def _fill(self, step, facts, view, moves, kinds, backwards):
        name, level = self.state.authority, step.level
        step.authorities.append(name)
        if facts["role"] != "worker" and not backwards and ("stage" in kinds or (moves and level == 1 and not view["next"])):
            step.stage.append(name)
        if moves or kinds & {"files", "tidy", "stage"}:
            step.files.append(name)
        if facts["role"] == "control-plane":
            phase = {rotation_state.UNDO[1]: "prepare", rotation_state.UNDO[2]: "switch"}.get(step.phase, step.phase)
            flagged = ["kube-apiserver" if name == "sa" else "kube-controller-manager"] if "flags" in kinds else []
            wanted = list(rotation_state.restarts_of(name, phase, facts)) if moves else flagged
            wanted += [component for component in facts["pending"] if component in rotation_state.components_of(name, facts)]
            step.restarts = rotation_state.unique(step.restarts + wanted)
        if moves or "pods" in kinds:
            step.restarts = rotation_state.unique(step.restarts + rotation_state.users_of(name, facts))
        if name == "ca" and facts["role"] != "etcd" and (moves or kinds & {"kubelet", "client", "files"}):
            step.kubelet = True
            step.new_client = (
                (moves and step.phase in ("switch", rotation_state.UNDO[2]))
                or "client" in kinds
                or self.levels[step.node] is None
                or self.levels[step.node] > step.level == 1
            )
