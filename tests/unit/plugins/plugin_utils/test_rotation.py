# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase is derived from the facts of nodes alone, wherever a run ended, and its plan leads to the goal."""

from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import cni_kubeconfigs, pending_restarts
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import (
    answers,
    rotation_explain,
    rotation_model,
    rotation_plan,
    rotation_state,
    rotation_steps,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import malformed
from tests.unit.support.rotating import Nodes
from tests.unit.support.throwaway import key
from tests.unit.support.tokens_of import token_of

NAMES = catalogue.ROTATABLE
CONFS = ("admin.conf", "controller-manager.conf", "kubelet.conf", "scheduler.conf")


def identity(name: str, letter: str) -> str:
    return ("%s-%s" % (letter, name)).ljust(64, "0")


class Cluster:
    """What the roles do to a cluster, as facts: each operation is one module call, and may be the last one of a run."""

    def __init__(self, control_plane: int = 3, workers: int = 2, extras: bool = False):
        self.extras = [identity("extra", "X")] if extras else []
        self.nodes = [self._node("cp%d" % (number + 1), "control-plane") for number in range(control_plane)]
        self.nodes += [self._node("w%d" % (number + 1), "worker") for number in range(workers)]
        self.made: dict[str, list[str]] = {name: [identity(name, "A")] for name in NAMES}

    def _node(self, node: str, role: str) -> dict:
        facts = {"node": node, "role": role, "journal": None, "pending": [], "authorities": {}}
        for name in NAMES if role == "control-plane" else ("ca",):
            old = identity(name, "A")
            extras = self.extras if name == "ca" else []
            confs = CONFS if role == "control-plane" else ("kubelet.conf",)
            leaves = {"kubelet-client": old} if name == "ca" else {}
            if role == "control-plane" and name != "sa":
                leaves["leaf of " + name] = old
            facts["authorities"][name] = {
                "signer": old if role == "control-plane" else None,
                "bundle": [old] + extras,
                "next": None,
                "previous": None,
                "trust": {conf: [old] + extras for conf in confs} if name == "ca" else {},
                "leaves": leaves,
                "split": False if role == "control-plane" and name == "ca" else None,
                "signing": None,
                "problems": [],
            }
        return facts

    def facts(self, node: str) -> dict:
        return next(facts for facts in self.nodes if facts["node"] == node)

    def pair(self, name: str) -> tuple:
        """A and B as a person who knows the history would say."""
        made = self.made[name]
        return (made[-2], made[-1]) if len(made) > 1 else (made[-1], None)

    def generate(self, names) -> None:
        """The first control-plane node makes and stages what has no successor anywhere."""
        for name in names:
            if not any(facts["authorities"][name]["next"] for facts in self.nodes if facts["role"] != "worker"):
                self.made[name].append(identity(name, chr(ord("A") + len(self.made[name]))))
            self.stage(self.nodes[0]["node"], [name])

    def stage(self, node: str, names) -> None:
        for name in names:
            self.facts(node)["authorities"][name]["next"] = self.made[name][-1]

    def files(self, node: str, wanted: int, names) -> None:
        """One transaction: everything of one node and one phase, but the kubelet's certificate and the manifests."""
        facts = self.facts(node)
        for name in names:
            old, new = self.pair(name)
            level = wanted
            view = facts["authorities"].get(name)
            if view is None:
                continue
            if new is None:
                new, level = old, 0
            trusted = ([old], [old, new], [new, old], [new])[level] + (self.extras if name == "ca" else [])
            signer = new if level >= 2 else old
            if facts["role"] == "control-plane":
                assert level != 1 or view["next"] == new or view["signer"] == new, "nothing staged on %s" % node
                assert signer in (view["signer"], view["next"], view["previous"]), "%s has no key to sign with" % node
                if view["signer"] != signer or view["bundle"] != trusted:
                    self._pending(facts, name, level)
                view.update(signer=signer, next=new if level == 1 else None, previous=old if level == 2 else None)
                if name == "ca":
                    view["signing"] = [signer] if level in (1, 2) or view["split"] else None
                view["leaves"] = {
                    leaf: signed if leaf.startswith("kubelet") else signer for leaf, signed in view["leaves"].items()
                }
            elif view["bundle"] != trusted:
                facts["pending"] = sorted(set(facts["pending"]) | {"kubelet"})
            view["bundle"] = trusted
            view["trust"] = {conf: list(trusted) for conf in view["trust"]}

    def _pending(self, facts: dict, name: str, level: int) -> None:
        phase = rotation_model.PHASES[max(level - 1, 0)]
        facts["pending"] = sorted(
            set(facts["pending"]) | set(rotation_model.RESTARTS[name][phase]) | ({"kubelet"} if name == "ca" else set())
        )

    def pods(self, node: str, level: int, names, restarts) -> None:
        facts = self.facts(node)
        if "ca" in names and "kube-controller-manager" in restarts and facts["role"] == "control-plane":
            facts["authorities"]["ca"]["split"] = level in (1, 2) and len(self.made["ca"]) > 1
        facts["pending"] = [component for component in facts["pending"] if component not in restarts]

    def kubelet(self, node: str, level: int, new_client: bool) -> None:
        facts = self.facts(node)
        old, new = self.pair("ca")
        if new_client:
            facts["authorities"]["ca"]["leaves"]["kubelet-client"] = new if level >= 2 else old
        facts["pending"] = [component for component in facts["pending"] if component != "kubelet"]

    def operations(self, step: rotation_steps.Step) -> list:
        """What a role does for one step, call by call."""
        calls = [lambda: self.stage(step.node, step.stage)] if step.stage else []
        if step.files:
            calls.append(lambda: self.files(step.node, step.level, step.authorities))
        if step.restarts:
            calls.append(lambda: self.pods(step.node, step.level, step.authorities, step.restarts))
            calls.append(lambda: self.files(step.node, step.level, step.authorities))
        if step.kubelet:
            calls.append(lambda: self.kubelet(step.node, step.level, step.new_client))
        return calls

    def run(self, steps, until: int | None = None, away: tuple = ()) -> int:
        """Do a plan, or its first `until` calls. Nodes that are away are passed over. Gives how many calls were made."""
        done = 0
        for step in [step for step in steps if step.node not in away]:
            for call in self.operations(step):
                if until is not None and done >= until:
                    return done
                call()
                done += 1
        return done

    def plan(self, target: str, names=NAMES, fresh: bool = False) -> list:
        return rotation_steps.plan(self.nodes, names, target, fresh)

    def phases(self, names=NAMES) -> dict:
        return {name: state.phase for name, state in rotation_state.derive_all(self.nodes, names).items()}


def advance(cluster: Cluster, target: str, names=NAMES) -> None:
    if target == "prepared":
        cluster.generate(names)
    cluster.run(cluster.plan(target, names))


def test_a_fresh_cluster_is_stable_and_needs_nothing():
    cluster = Cluster()
    assert set(cluster.phases().values()) == {"stable"}
    assert cluster.plan("completed") == []
    assert cluster.plan("rolled_back") == []


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("names", [NAMES, ("ca",), ("front-proxy-ca",), ("etcd-ca", "sa")])
def test_three_phases_bring_in_the_successor(names, extras):
    cluster = Cluster(extras=extras)
    for target, phase in (("prepared", "prepared"), ("switched", "switched"), ("completed", "stable")):
        advance(cluster, target, names)
        assert set(cluster.phases(names).values()) == {phase}
        assert cluster.plan(target, names) == [] or target == "completed"
    for name in names:
        states = rotation_state.derive(name, cluster.nodes)
        assert (states.old, states.new) == (identity(name, "B"), None)
    assert cluster.phases() == {name: "stable" for name in NAMES}


def test_a_second_rotation_follows_the_first():
    cluster = Cluster()
    for letter in "BC":
        for target in ("prepared", "switched", "completed"):
            advance(cluster, target)
        assert rotation_state.derive("ca", cluster.nodes).old == identity("ca", letter)


@pytest.mark.parametrize("reached", ["prepared", "switched"])
def test_the_way_back_ends_where_it_began(reached):
    cluster, before = Cluster(), Cluster().nodes
    advance(cluster, "prepared")
    if reached == "switched":
        advance(cluster, "switched")
    cluster.run(cluster.plan("rolled_back"))
    assert cluster.nodes == before
    assert set(cluster.phases().values()) == {"stable"}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_prefix_of_any_phase_has_a_name_and_a_way_on_and_back(data):
    names = data.draw(st.sampled_from([NAMES, ("ca",), ("etcd-ca",), ("front-proxy-ca", "sa"), ("sa", "ca")]))
    cluster = Cluster(data.draw(st.sampled_from([1, 3])), data.draw(st.integers(0, 2)), data.draw(st.booleans()))
    target = data.draw(st.sampled_from(["prepared", "switched", "completed"]))
    for earlier in ("prepared", "switched"):
        if rotation_model.TARGETS[earlier] < rotation_model.TARGETS[target]:
            advance(cluster, earlier, names)
    if target == "prepared":
        cluster.generate(names)
    # A worker may be away (kubepki goes on without it when told so); a control-plane node may not.
    away = tuple(data.draw(st.sets(st.sampled_from(["w1", "w2"]))))
    steps = cluster.plan(target, names)
    total = sum(len(cluster.operations(step)) for step in steps)
    cluster.run(steps, data.draw(st.integers(0, total)), away)

    states = rotation_state.derive_all(cluster.nodes, names)
    allowed = {
        "prepared": {"stable", "preparing", "prepared"},
        "switched": {"prepared", "switching", "switched"},
        "completed": {"switched", "completing", "stable"},
    }[target]
    assert {state.phase for state in states.values()} <= allowed
    for state in states.values():
        text = "\n".join(rotation_explain.explain(state))
        assert state.is_complete or all(node in text for node, items in state.pending.items() if items)

    made = {name: list(ids) for name, ids in cluster.made.items()}
    back = data.draw(st.booleans())
    if back and not any(3 in state.levels.values() or state.new is None for state in states.values()):
        cluster.run(cluster.plan("rolled_back", names))
        assert set(cluster.phases(names).values()) == {"stable"}
        assert {rotation_state.derive(name, cluster.nodes).old[0] for name in names} == {"A"}
    else:
        advance(cluster, target, names)
        assert set(cluster.phases(names).values()) == {"stable" if target == "completed" else target}
        assert cluster.made == made, "a third authority was made"
        for later in ("switched", "completed"):
            if rotation_model.TARGETS[later] > rotation_model.TARGETS[target]:
                advance(cluster, later, names)
        assert {rotation_state.derive(name, cluster.nodes).old[0] for name in names} == {"B"}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_interrupted_way_back_can_be_gone_on_with_and_turned_round(data):
    cluster = Cluster()
    advance(cluster, "prepared")
    if data.draw(st.booleans()):
        advance(cluster, "switched")
    steps = cluster.plan("rolled_back")
    total = sum(len(cluster.operations(step)) for step in steps)
    cluster.run(steps, data.draw(st.integers(0, total)))
    states = rotation_state.derive_all(cluster.nodes)
    assert not any(state.refused for state in states.values()), [state.evidence for state in states.values()]
    cluster.run(cluster.plan("rolled_back"))
    assert cluster.nodes == Cluster().nodes


def drive(cluster: Cluster, names, target: str, until=None) -> None:
    """What rotate_ca does: whoever is under way goes on, each phase with those alone whom the plan names for it."""
    states = rotation_state.derive_all(cluster.nodes, names)
    names = rotation_steps.under_way(states) or names
    for name in names:
        if states[name].new is None:
            cluster.made[name] = [states[name].old]  # what was made besides is on no node any more
    steps = cluster.plan(target, names, fresh=True)
    left = until
    for phase, work in rotation_steps.work(steps).items():
        if phase == "prepare":
            states = rotation_state.derive_all(cluster.nodes, work["names"])
            for name, holder in rotation_steps.holders(states, cluster.nodes).items():
                if states[name].new is None:
                    cluster.made[name].append(identity(name, chr(ord("A") + len(cluster.made[name]))))
                else:
                    held = cluster.facts(holder)["authorities"][name]
                    assert cluster.made[name][-1] in (held["next"], held["signer"]), "a third one would be made"
                for facts in cluster.nodes:
                    if (
                        facts["role"] == "control-plane"
                        and name in work["nodes"].get(facts["node"], ())
                        and facts["authorities"][name]["signer"] != cluster.made[name][-1]
                    ):
                        cluster.stage(facts["node"], [name])
        done = cluster.run([step for step in steps if step.phase == phase], left)
        left = None if left is None else left - done
        if left == 0:
            return


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_authorities_that_stand_at_different_places_are_all_brought_to_the_end_or_refused(data):
    cluster = Cluster(data.draw(st.sampled_from([1, 3])), data.draw(st.integers(0, 2)))
    groups = data.draw(
        st.sampled_from([(("ca",), ("etcd-ca",)), (("ca", "sa"), ("etcd-ca",)), (("sa",), ("ca", "front-proxy-ca"))])
    )
    for names in groups:
        last = data.draw(st.sampled_from(["stable", "prepared", "switched", "completed", "rolled_back"]))
        for target in {
            "stable": (),
            "prepared": ("prepared",),
            "switched": ("prepared", "switched"),
            "rolled_back": ("prepared", "switched", "rolled_back"),
            "completed": ("prepared", "switched", "completed"),
        }[last]:
            if target == "prepared":
                cluster.generate(names)
            steps = cluster.plan(target, names)
            total = sum(len(cluster.operations(step)) for step in steps)
            cluster.run(steps, data.draw(st.integers(0, total)) if target == last else None)
    names = [name for group in groups for name in group]
    for target in ("completed", "rolled_back"):
        under_way = rotation_steps.under_way(rotation_state.derive_all(cluster.nodes, names))
        before = {name: rotation_state.derive(name, cluster.nodes) for name in under_way}
        if target == "rolled_back" and not under_way:
            continue
        try:
            drive(cluster, names, target)
        except PkiError as refused:
            assert "no way back" in str(refused) and target == "rolled_back"
            continue
        for name, was in before.items():
            now = rotation_state.derive(name, cluster.nodes)
            assert now.phase == "stable", (name, target, was.phase, now.pending)
            if was.new is not None:
                assert now.old == (was.new if target == "completed" else was.old)


def test_the_successor_comes_from_a_node_that_has_it_for_each_authority():
    cluster = Cluster()
    advance(cluster, "prepared")
    cluster.run(cluster.plan("rolled_back", ["ca"])[:1])  # killed after the first node: etcd-ca's successor still lies there
    assert cluster.facts("cp1")["authorities"]["ca"]["next"] is None
    states = rotation_state.derive_all(cluster.nodes, ["ca", "etcd-ca"])
    assert rotation_steps.holders(states, cluster.nodes) == {"ca": "cp2", "etcd-ca": "cp1"}
    assert rotation_steps.holders(rotation_state.derive_all(Cluster().nodes, ["sa"]), Cluster().nodes) == {"sa": "cp1"}


@pytest.mark.parametrize("target", ["completed", "rolled_back"])
def test_a_worker_left_on_a_certificate_of_the_dropped_authority_gets_another(target):
    cluster = Cluster()
    for phase in ("prepared", "switched"):
        advance(cluster, phase)
    lost = [dict(facts) for facts in cluster.nodes if facts["node"] == "w2"][0]
    steps = cluster.plan(target)
    cluster.run(steps, away=("w2",))
    cluster.nodes[-1].update(lost)
    ours, dropped = identity("ca", "B" if target == "completed" else "A"), identity("ca", "A" if target == "completed" else "B")
    cluster.facts("w2")["authorities"]["ca"].update(
        bundle=[ours, dropped], trust={"kubelet.conf": [ours, dropped]}, leaves={"kubelet-client": dropped}
    )
    steps = cluster.plan(target)
    assert [step.node for step in steps] == ["w2"] and steps[0].new_client
    cluster.run(steps)
    assert rotation_state.derive("ca", cluster.nodes).phase == "stable"


def test_a_kubelet_certificate_of_an_authority_that_all_trust_besides_is_the_users_own():
    cluster = Cluster(extras=True)
    for facts in cluster.nodes:
        facts["authorities"]["ca"]["leaves"]["kubelet-client"] = identity("extra", "X")
    assert rotation_state.derive("ca", cluster.nodes).phase == "stable"


def test_an_apiserver_that_verifies_kubelets_restarts_and_the_plan_says_so():
    cluster = Cluster(control_plane=1)
    cluster.nodes[0]["verifies_kubelets"] = True
    restarts = {
        step.phase: "kube-apiserver" in step.restarts
        for step in cluster.plan("completed", ["ca"], fresh=True)
        if step.role == "control-plane"
    }
    assert restarts == {"prepare": True, "switch": False, "complete": True}
    cluster.nodes[0]["pending"] = ["kube-apiserver"]
    assert rotation_state.derive("ca", cluster.nodes).phase == "completing"


def test_a_worker_that_was_away_is_named_and_brought_along():
    cluster = Cluster()
    cluster.generate(NAMES)
    cluster.run(cluster.plan("prepared"), away=("w2",))
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "preparing" and set(state.pending) == {"w2"}
    with pytest.raises(PkiError, match="w2"):
        cluster.plan("switched")


def test_a_worker_that_missed_a_whole_rotation_is_named_and_brought_along():
    cluster = Cluster()
    for target in ("prepared", "switched", "completed"):
        advance(cluster, target)
    cluster.nodes[-1] = Cluster().nodes[-1]
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "completing" and state.behind == ["w2"]
    steps = cluster.plan("completed")
    assert [step.node for step in steps] == ["w2"] and steps[0].files == ["ca"] and steps[0].new_client
    assert "was away" in "\n".join(rotation_explain.explain(state))


def worker_says(cluster: Cluster, letters: str, **more) -> None:
    """w1 says that its CA file and its kubelet's kubeconfig hold these CAs."""
    bundle = [identity("ca", letter) for letter in letters]
    cluster.facts("w1")["authorities"]["ca"].update(bundle=bundle, trust={"kubelet.conf": bundle}, **more)


@pytest.mark.parametrize(
    ("reached", "letters", "words"),
    [
        (None, "B", "trusts only the new CA"),
        (None, "BA", "trusts first of all the new CA"),
        ("prepared", "B", "trusts only the new CA"),
        ("switched", "B", "trusts only the new CA"),
    ],
)
def test_a_worker_that_is_further_than_any_run_leaves_it_is_refused_by_name(reached, letters, words):
    cluster = Cluster()
    cluster.generate(["ca"])
    for phase in ("prepared", "switched")[: ("prepared", "switched").index(reached) + 1 if reached else 0]:
        cluster.run(cluster.plan(phase, ["ca"]))
    highest = rotation_state.derive("ca", cluster.nodes).highest
    worker_says(cluster, letters)
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "impossible" and state.damaged and state.highest == highest
    for target in rotation_model.TARGETS:
        for fresh in (False, True):
            with pytest.raises(PkiError, match="w1: says that it %s .*, and no control-plane node is so far" % words) as refused:
                cluster.plan(target, ["ca"], fresh=fresh)
            assert "w2" not in str(refused.value)


def test_a_worker_on_the_new_ca_alone_is_no_damage_where_one_control_plane_node_was_put_back():
    cluster = Cluster()
    for phase in ("prepared", "switched"):
        advance(cluster, phase)
    saved = copy.deepcopy(cluster.facts("cp2"))
    advance(cluster, "completed")
    cluster.facts("cp2").update(saved)
    assert rotation_state.derive("ca", cluster.nodes).phase == "completing"


@pytest.mark.parametrize("target", ["switched", "completed"])
def test_one_worker_moves_no_phase_of_the_others(target):
    cluster = Cluster()
    advance(cluster, "prepared", ["ca"])
    worker_says(cluster, "BA")
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "preparing" and set(state.pending) == {"w1"}
    with pytest.raises(PkiError, match="kubepki_phase"):
        cluster.plan(target, ["ca"])
    assert {step.node for step in cluster.plan("prepared", ["ca"])} == {"w1"}


@pytest.mark.parametrize(
    ("targets", "phase", "letter"),
    [(["rolled_back"], "stable", "A"), (["prepared", "switched"], "switched", "B"), (["completed"], "stable", "B")],
)
@pytest.mark.parametrize("calls", range(9, 17))
def test_workers_that_an_interrupted_rollback_left_a_level_ahead_are_brought_along(targets, phase, letter, calls):
    """The control-plane nodes have their files of before the switch; at each position after that."""
    cluster = Cluster()
    advance(cluster, "prepared")
    advance(cluster, "switched")
    steps = [step for step in cluster.plan("rolled_back") if step.phase == "rollback of switch"]
    assert cluster.run(steps, calls) == calls
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.highest == 1
    assert state.phase == ("prepared" if calls == 16 else "preparing")
    for target in targets:
        cluster.run(cluster.plan(target, fresh=True))
    assert set(cluster.phases().values()) == {phase}
    for worker in ("w1", "w2"):
        assert cluster.facts(worker)["authorities"]["ca"]["leaves"]["kubelet-client"] == identity("ca", letter)


def test_a_worker_that_prepare_brings_back_gets_a_client_of_the_old_ca():
    cluster = Cluster()
    advance(cluster, "prepared", ["ca"])
    worker_says(cluster, "BA", leaves={"kubelet-client": identity("ca", "B")})
    cluster.run(cluster.plan("prepared", ["ca"]))
    assert cluster.facts("w1")["authorities"]["ca"]["leaves"] == {"kubelet-client": identity("ca", "A")}
    assert rotation_state.derive("ca", cluster.nodes).phase == "prepared"


# --- what concerns every node is read from control-plane nodes alone ----------------------------------------------------------


def with_users_own(subject: str) -> Cluster:
    """A CA of the user's own in one control-plane node's admin.conf; each node describes what it trusts."""
    cluster, own = Cluster(), identity("own", "X")
    cluster.facts("cp2")["authorities"]["ca"]["trust"]["admin.conf"] = [identity("ca", "A"), own]
    for facts in cluster.nodes:
        facts["certificates"] = {identity("ca", "A"): {"subject": "CN=kubernetes"}}
    cluster.facts("cp2")["certificates"][own] = {"subject": subject}
    return cluster


def dropped(cluster: Cluster) -> list:
    return rotation_plan.derived(cluster.nodes, ["ca"], "all")["known"]["ca"]["drop"]


def test_no_worker_says_what_the_users_own_ca_is_called():
    cluster = with_users_own("CN=balancer")
    assert dropped(cluster) == []
    cluster.facts("w1")["certificates"][identity("own", "X")] = {"subject": "CN=kubernetes"}
    assert dropped(cluster) == [] and rotation_state.derive("ca", cluster.nodes).extras == [identity("own", "X")]
    # Nor what the cluster's CA is called, with whose subject the others are compared.
    cluster.facts("w1")["certificates"] = {identity("ca", "A"): {"subject": "CN=balancer"}}
    assert dropped(cluster) == []
    # A worker that says that it trusts it, too, is refused with what the control plane calls it.
    cluster.facts("w1")["certificates"][identity("own", "X")] = {"subject": "CN=kubernetes"}
    cluster.facts("w1")["authorities"]["ca"]["bundle"].append(identity("own", "X"))
    with pytest.raises(PkiError, match="w1: its CA file for clients trusts .* \\(CN=balancer\\)"):
        dropped(cluster)


def test_a_leftover_that_a_control_plane_node_describes_is_dropped():
    assert dropped(with_users_own("CN=kubernetes")) == [identity("own", "X")]


def test_what_a_worker_alone_knows_is_dropped_on_no_other_node():
    cluster = with_users_own("CN=balancer")
    view, other = cluster.facts("w1")["authorities"]["ca"], identity("ca", "Z")
    view["bundle"] = [identity("ca", "A"), other]
    cluster.facts("w1")["certificates"][other] = {
        "subject": "CN=kubernetes"
    }  # as a rollback of prepare that was killed leaves it
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "completing" and state.leftovers == []
    assert {step.node for step in cluster.plan("rolled_back", ["ca"])} == {"w1"}
    cluster.facts("w1")["certificates"][other] = {"subject": "CN=site"}
    with pytest.raises(PkiError, match="w1: .* \\(CN=site\\)"):
        dropped(cluster)


def test_no_worker_says_that_an_external_signer_signs_the_tokens():
    cluster = Cluster()
    cluster.facts("w1")["token_signer"] = "/run/signer.sock"
    assert rotation_state.derive("sa", cluster.nodes).phase == "stable"
    assert "sa" in rotation_plan.derived(cluster.nodes, NAMES, "all", named=False)["names"]


def test_two_successors_are_refused_with_the_evidence():
    cluster = Cluster()
    cluster.stage("cp1", [])
    cluster.facts("cp1")["authorities"]["ca"]["next"] = identity("ca", "B")
    cluster.facts("cp2")["authorities"]["ca"]["next"] = identity("ca", "C")
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "impossible"
    assert any("cp1" in text for text in state.evidence) and any("cp2" in text for text in state.evidence)
    with pytest.raises(PkiError, match="cp2"):
        cluster.plan("prepared")


def two_new_cas(trusted_on: str | None = None) -> Cluster:
    """Two controllers prepared at the same time: cp1 and cp2 staged different new CAs. trusted_on: a node that trusts cp1's."""
    cluster = Cluster()
    cluster.generate(["ca"])
    cluster.facts("cp2")["authorities"]["ca"]["next"] = identity("ca", "C")
    if trusted_on:
        cluster.files(trusted_on, 1, ["ca"])
    return cluster


@pytest.mark.parametrize("trusted_on", [None, "cp1"])
def test_new_cas_that_two_runs_staged_are_dropped_by_a_rollback_and_by_nothing_else(trusted_on):
    cluster = two_new_cas(trusted_on)
    for target in ("prepared", "switched", "completed"):
        with pytest.raises(PkiError, match="there are 3 authorities") as refused:
            cluster.plan(target, ["ca"])
        assert "kubepki_phase=rollback kubepki_cas=ca" in refused.value.fix
    assert {"cp1", "cp2"} <= {step.node for step in cluster.plan("rolled_back", ["ca"])}
    cluster.run(cluster.plan("rolled_back", ["ca"]))
    assert not any(facts["authorities"]["ca"]["next"] for facts in cluster.nodes)
    assert rotation_state.derive("ca", cluster.nodes).phase == "stable"


@pytest.mark.parametrize(
    "also",
    [
        lambda cluster: cluster.facts("cp3")["authorities"]["ca"]["bundle"].append(identity("ca", "C")),
        lambda cluster: cluster.facts("cp3")["authorities"]["ca"].update(bundle=[identity("ca", "Z")]),
        lambda cluster: cluster.facts("w1")["authorities"]["ca"]["trust"].update({"kubelet.conf": [identity("ca", "C")]}),
        lambda cluster: cluster.facts("cp3")["authorities"]["ca"].update(previous=identity("ca", "Z")),
    ],
    ids=["trusted too", "another fault", "by a worker", "switched"],
)
def test_a_rollback_drops_no_new_ca_that_a_node_uses(also):
    cluster = two_new_cas("cp1")
    also(cluster)
    with pytest.raises(PkiError, match="there are . authorities") as refused:
        cluster.plan("rolled_back", ["ca"])
    assert "kubepki_phase=rollback" not in refused.value.fix


def test_the_new_ca_comes_from_the_first_node_by_name_in_whatever_order_the_inventory_has_them():
    cluster = Cluster()
    states = rotation_state.derive_all(cluster.nodes)
    assert set(rotation_steps.holders(states, cluster.nodes[::-1]).values()) == {"cp1"}
    advance(cluster, "prepared")
    states = rotation_state.derive_all(cluster.nodes)
    assert set(rotation_steps.holders(states, cluster.nodes[::-1]).values()) == {"cp1"}


def test_two_signers_that_nothing_connects_are_refused():
    cluster = Cluster()
    cluster.facts("cp3")["authorities"]["ca"].update(signer=identity("ca", "Z"), bundle=[identity("ca", "Z")])
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "impossible" and any("cp3" in text for text in state.evidence)


def test_a_signer_that_is_not_the_first_of_its_bundle_is_refused_unless_a_run_was_interrupted_there():
    cluster = Cluster()
    advance(cluster, "prepared")
    cluster.facts("cp2")["authorities"]["ca"]["bundle"].reverse()
    assert rotation_state.derive("ca", cluster.nodes).phase == "impossible"
    cluster.facts("cp2")["journal"] = "rotation"
    assert rotation_state.derive("ca", cluster.nodes).phase == "switching"


def test_keys_kept_elsewhere_are_named():
    cluster = Cluster()
    for facts in cluster.nodes[:3]:
        facts["authorities"]["ca"]["signer"] = None
    assert rotation_state.derive("ca", cluster.nodes).phase == "external"
    with pytest.raises(PkiError, match="kubepki_cas"):
        cluster.plan("prepared")
    cluster.facts("cp1")["authorities"]["ca"]["signer"] = identity("ca", "A")
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "impossible" and any("cp2" in text for text in state.evidence)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reached", [(), ("prepared",), ("prepared", "switched")])
def test_a_control_plane_node_that_lacks_an_authority_is_no_node_to_pass_over(name, reached):
    cluster = Cluster()
    for target in reached:
        advance(cluster, target)
    del cluster.facts("cp2")["authorities"][name]
    state = rotation_state.derive(name, cluster.nodes)
    assert state.phase == "impossible" and state.evidence == ["cp2: has no file of this authority, unlike cp1, cp3"]
    for target in rotation_model.TARGETS:
        with pytest.raises(PkiError, match="cp2: has no file"):
            rotation_steps.plan(cluster.nodes, (name,), target, fresh=True)
    others = [other for other in NAMES if other != name]
    assert not any(state.refused for state in rotation_state.derive_all(cluster.nodes, others).values())


def test_what_no_node_has_is_absent_and_hosts_of_an_external_etcd_keep_their_own():
    cluster = Cluster()
    for facts in cluster.nodes[:3]:
        del facts["authorities"]["front-proxy-ca"]
        facts["external_etcd"] = OUTSIDE
        view = facts["authorities"].pop("etcd-ca")
    assert rotation_state.derive("front-proxy-ca", cluster.nodes).phase == "absent"
    host = {"node": "etcd1", "role": "etcd", "journal": None, "pending": [], "authorities": {"etcd-ca": view}}
    assert rotation_state.derive("etcd-ca", cluster.nodes + [host]).phase == "stable"


def test_an_authority_kept_elsewhere_stays_external_where_one_node_lacks_its_certificate():
    cluster = Cluster()
    for facts in cluster.nodes[:3]:
        facts["authorities"]["ca"]["signer"] = None
    del cluster.facts("cp2")["authorities"]["ca"]
    assert rotation_state.derive("ca", cluster.nodes).phase == "external"


def test_a_worker_whose_trust_nobody_can_see_is_refused_and_not_cut_off():
    cluster = Cluster()
    del cluster.facts("w2")["authorities"]["ca"]
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "impossible" and len(state.evidence) == 1 and state.evidence[0].startswith("w2: ")
    with pytest.raises(PkiError, match="w2: .*clientCAFile"):
        cluster.plan("prepared")
    cluster.facts("w2")["role"] = "none"  # not joined yet
    assert rotation_state.derive("ca", cluster.nodes).phase == "stable"


def test_what_is_wrong_on_one_node_is_said_with_its_own_remedy_alone():
    cluster = Cluster()
    cluster.facts("cp2")["authorities"]["ca"]["problems"] = ["/x: is wrong. Mend it."]
    assert rotation_explain.explain(rotation_state.derive("ca", cluster.nodes)) == [
        "ca is impossible: something has to be put right first.",
        "  cp2: /x: is wrong. Mend it.",
    ]
    with pytest.raises(PkiError) as error:
        cluster.plan("prepared", ("ca",))
    assert str(error.value).endswith("cp2: /x: is wrong. Mend it. Put that right, then run again.")


OUTSIDE = "https://10.0.0.9:2379"


def outside(cluster: Cluster, with_key: bool) -> Cluster:
    """An etcd that is not kubeadm's; the key of its authority may lie on the control-plane nodes all the same."""
    for facts in cluster.nodes[:3]:
        facts["external_etcd"] = OUTSIDE
        if not with_key:
            facts["authorities"]["etcd-ca"]["signer"] = None
    return cluster


@pytest.mark.parametrize("with_key", [False, True])
@pytest.mark.parametrize("target", list(rotation_model.TARGETS))
def test_the_authority_of_an_external_etcd_is_refused_with_the_reason_and_the_others_are_not(with_key, target):
    cluster = outside(Cluster(), with_key)
    state = rotation_state.derive("etcd-ca", cluster.nodes)
    assert state.phase == "external" and state.refused and OUTSIDE in state.evidence[0]
    assert "not the cluster's own" in rotation_explain.explain(state)[0]
    with pytest.raises(PkiError, match="belong to whoever set that up.*kubepki_cas=ca,front-proxy-ca,sa"):
        rotation_steps.plan(cluster.nodes, NAMES, target, fresh=True)
    names = ("ca", "front-proxy-ca", "sa")
    assert {rotation_state.derive(name, cluster.nodes).phase for name in names} == {"stable"}
    if target != "rolled_back":
        steps = rotation_steps.plan(cluster.nodes, names, target, fresh=True)
        assert not any("etcd" in step.restarts for step in steps)
        assert {name for step in steps for name in step.authorities} == set(names)


@pytest.mark.parametrize("target", list(rotation_model.TARGETS))
@pytest.mark.parametrize("with_files", [True, False])
def test_an_external_token_signer_is_refused_with_the_reason_and_the_cas_are_not(target, with_files):
    cluster = Cluster()
    for facts in cluster.nodes[:3]:
        facts["token_signer"] = "/run/signer.sock"
        if not with_files:
            del facts["authorities"]["sa"]
    state = rotation_state.derive("sa", cluster.nodes)
    assert state.phase == "external" and state.left_out and "/run/signer.sock" in state.evidence[0]
    assert "external signer" in rotation_explain.explain(state)[0]
    with pytest.raises(PkiError, match="service-account-signing-endpoint.*kubepki_cas=ca,front-proxy-ca,etcd-ca"):
        rotation_steps.plan(cluster.nodes, NAMES, target, fresh=True)
    if target != "rolled_back":
        named = rotation_plan.derived(cluster.nodes, NAMES, "all", named=False)
        assert named["names"] == ["ca", "front-proxy-ca", "etcd-ca"] and named["phases"] == ["prepare", "switch", "complete"]


def test_the_status_shows_the_plan_of_a_whole_rotation_and_plans_nothing():
    found = rotation_plan.derived(Cluster().nodes, NAMES, "status")
    assert found["phases"] == [] and found["plan"] == [] and found["work"] == {} and found["holders"] == {}
    assert "Nothing is done now" in found["plan_text"][0]
    assert [line for line in found["plan_text"] if not line.startswith(" ")][1:] == ["prepare:", "switch:", "complete:"]


def test_the_status_of_a_damaged_cluster_says_why_nothing_could_be_planned():
    cluster = Cluster()
    cluster.facts("cp2")["authorities"]["ca"]["problems"] = ["/x: is wrong. Mend it."]
    found = rotation_plan.derived(cluster.nodes, NAMES, "status")
    assert found["phases"] == [] and len(found["plan_text"]) == 1
    assert (
        found["plan_text"][0].startswith("kubepki_phase=all would be refused: ca: ") and "/x: is wrong" in found["plan_text"][0]
    )


def test_an_etcd_that_is_external_for_some_nodes_alone_is_refused_with_the_evidence():
    cluster = outside(Cluster(), True)
    cluster.nodes[1]["external_etcd"] = None
    state = rotation_state.derive("etcd-ca", cluster.nodes)
    assert state.phase == "impossible" and not state.external_etcd
    assert state.evidence[0] == "cp2: etcd is a static pod" and OUTSIDE in state.evidence[2]


@pytest.mark.parametrize(
    "reached, target, words",
    [
        (None, "switched", "prepare"),
        ("prepared", "completed", "switch"),
        ("switched", "prepared", "rollback"),
        ("switched", "switched", None),
    ],
)
def test_a_phase_out_of_turn_is_refused_with_the_right_one(reached, target, words):
    cluster = Cluster()
    for earlier in ("prepared", "switched"):
        if reached and rotation_model.TARGETS[earlier] <= rotation_model.TARGETS[reached]:
            advance(cluster, earlier)
    if words is None:
        assert cluster.plan(target) == []
    else:
        with pytest.raises(PkiError, match=words):
            cluster.plan(target)


def test_there_is_no_way_back_once_completion_has_begun():
    cluster = Cluster()
    for target in ("prepared", "switched"):
        advance(cluster, target)
    cluster.run(cluster.plan("completed"), 1)
    with pytest.raises(PkiError, match="no way back"):
        cluster.plan("rolled_back")


def test_restarts_are_shared_between_authorities():
    cluster = Cluster()
    cluster.generate(NAMES)
    for step in cluster.plan("prepared"):
        wanted = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"] if step.role == "control-plane" else []
        assert step.restarts == wanted
    cluster.run(cluster.plan("prepared"))
    for step in cluster.plan("switched"):
        wanted = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] if step.role == "control-plane" else []
        assert step.restarts == wanted


def test_a_plan_of_the_whole_way_shows_all_phases_of_a_stable_cluster():
    steps = Cluster().plan("completed", fresh=True)
    assert [step.phase for step in steps] == ["prepare"] * 5 + ["switch"] * 5 + ["complete"] * 5
    assert "restart kube-apiserver" in steps[0].text() and "cp1" in steps[0].text()


def test_a_kubeconfig_that_kubeadm_renewed_is_found_out():
    cluster = Cluster()
    advance(cluster, "prepared")
    cluster.facts("cp2")["authorities"]["ca"]["trust"]["admin.conf"] = [identity("ca", "A")]
    state = rotation_state.derive("ca", cluster.nodes)
    assert state.phase == "preparing" and "admin.conf" in "".join(state.pending["cp2"])
    advance(cluster, "prepared")
    assert rotation_state.derive("ca", cluster.nodes).phase == "prepared"


# --- one node's facts are malformed, or another's ------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path, monkeypatch) -> Nodes:
    """cp1 and w1 with every fact that cluster_pki returns, none of them empty that may be filled."""
    monkeypatch.setattr(pending_restarts, "started", lambda component: -1)
    monkeypatch.setattr(pending_restarts, "phase_durations", lambda record: {"prepare": 12.0})
    nodes = Nodes(tmp_path, planes=1, workers=1)
    for host in nodes.hosts:
        manifest = AGENT % host.file("pki/ca.crt").relative_to(host.root)
        host.node.write("/etc/kubernetes/manifests/agent.yaml", manifest)
        host.node.write("/etc/cni/net.d/calico-kubeconfig", CNI % token_of(key("sa")).decode())
    return nodes


AGENT = """apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: kube-system}
spec:
  containers:
  - {name: agent, image: agent, volumeMounts: [{name: ca, mountPath: /ca.crt}]}
  volumes:
  - {name: ca, hostPath: {path: /%s}}
"""

CNI = """apiVersion: v1
kind: Config
users:
- {name: calico, user: {token: %s}}
"""


def answered(nodes: Nodes) -> list:
    """The facts as cluster_pki returns them, through JSON."""
    return [
        json.loads(json.dumps(dict(host.facts(), tokens=cni_kubeconfigs.token_signers(host.tree().layout))))
        for host in nodes.hosts
    ]


def unshaped(value, shape, where: str = "node") -> list:
    """The fields of an answer for which there is no shape."""
    if isinstance(shape, answers.Optional):
        return unshaped(value, shape.shape, where)
    if isinstance(shape, tuple):
        return min((unshaped(value, one, where) for one in shape if not answers.fault(value, one)), key=len, default=[])
    if isinstance(shape, answers.Each):
        return [field for name in value for field in unshaped(value[name], shape.shape, "%s.%s" % (where, name))]
    if isinstance(shape, list):
        return [field for item in value for field in unshaped(item, shape[0], where + "[]")]
    if isinstance(value, dict):
        return [
            field
            for name in value
            for field in (unshaped(value[name], shape[name], "%s.%s" % (where, name)) if name in shape else [where + "." + name])
        ]
    return []


def test_every_fact_of_a_real_node_has_a_shape(real):
    nodes = answered(real)
    for facts in nodes:
        assert answers.fault(facts, answers.ROTATION) is None
        assert unshaped(facts, answers.ROTATION) == []
        assert facts["pods"]["agent"]["cas"] and facts["tokens"] and facts["seconds"]
    assert set(answers.ROTATION) <= set(nodes[0])
    assert unshaped(dict(nodes[0], added=1), answers.ROTATION) == ["node.added"]


@pytest.mark.parametrize("number", [0, 1])
def test_no_facts_of_one_node_end_in_a_traceback_or_steer_the_terminal(real, number):
    answer = answered(real)
    hosts = [facts["node"] for facts in answer]
    for place, facts in malformed.variants(answer[number]):
        nodes = list(answer)
        nodes[number] = facts
        for target in ("status", "prepare"):
            try:
                rotation_plan.require_bound(nodes, hosts, ["cp1"], hosts)
                result = rotation_plan.derived(nodes, NAMES, target)
            except PkiError as error:
                assert str(error), place
            else:
                assert all(line.isprintable() for line in result["explanation"] + result["plan_text"]), place
                assert all(item[field].isprintable() for item in result["cluster_dependents"] for field in ("path", "why")), place


def test_the_path_and_the_keys_of_a_token_steer_no_terminal():
    cluster = Cluster()
    cluster.facts("w1")["tokens"] = {"/etc/\x1b[2J": ["\x1b[2J"]}
    (found,) = rotation_plan.derived(cluster.nodes, NAMES, "status")["cluster_dependents"]
    assert found["path"].isprintable() and found["why"].isprintable()


def test_a_worker_cannot_be_a_keeper_nor_another_node():
    cluster = Cluster(2, 2)
    hosts = [facts["node"] for facts in cluster.nodes]
    rotation_plan.require_bound(cluster.nodes, hosts, hosts[:2], hosts)
    for change, words in (
        ({"role": "control-plane"}, "the inventory has it as a worker"),
        ({"role": "etcd"}, "as a worker"),
        ({"node": "cp1"}, "which is the host cp1"),
        ({"node": "w2"}, "which is the host w2"),
        ({"pending": "x"}, "malformed answer"),
    ):
        nodes = [dict(facts, **change) if facts["node"] == "w1" else facts for facts in cluster.nodes]
        with pytest.raises(PkiError, match=words) as caught:
            rotation_plan.require_bound(nodes, hosts, hosts[:2], hosts)
        assert caught.value.path == "w1"
    # With --limit the other one is not there to contradict.
    with pytest.raises(PkiError, match="which is the host w2"):
        rotation_plan.require_bound([dict(cluster.facts("w1"), node="w2")], ["w1"], hosts[:2], hosts)
    with pytest.raises(PkiError, match="two hosts say that they are the Node w1"):
        rotation_plan.derived([*cluster.nodes, cluster.facts("w1")], NAMES, "status")
    with pytest.raises(PkiError, match="4 nodes and 3 hosts"):
        rotation_plan.require_bound(cluster.nodes, hosts[:3], hosts[:2], hosts)
