# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead cluster: what is diagnosed, what is planned, and what is refused with which reason."""

from __future__ import annotations

import calendar
import copy
import json
import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import recovery_plan, recovery_text
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import malformed

NOW = calendar.timegm((2026, 11, 22, 12, 0, 0))
YEAR = 365 * 86400
PODS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]


def text(epoch):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def row(name, kind, ca, clock, left):
    return {
        "name": name,
        "kind": kind,
        "ca": ca,
        "path": "/etc/kubernetes/" + name,
        "not_before": text(clock + left - YEAR),
        "not_after": text(clock + left),
        "status": "expired" if left <= 0 else "ok",
    }


def authority(left=YEAR, key="K", has_key=True, clock=NOW, **more):
    return {
        "key": key,
        "not_after": text(clock + left),
        "has_key": has_key,
        "self_signed": True,
        "issuer": "CN=kubernetes",
        "path": "/etc/kubernetes/pki/ca.crt",
        "certificate": "PEM until %s" % text(clock + left),
        **more,
    }


def plane(left=-86400, ca_left=YEAR, clock=NOW, offset=0.2, healthy=False, data=True):
    """A control-plane node whose leaves have `left` seconds left."""
    rows = [
        row("apiserver", "leaf", "ca", clock, left),
        row("etcd-server", "leaf", "etcd-ca", clock, left),
        row("scheduler.conf", "kubeconfig", "ca", clock, left),
        row("kubelet-client", "kubelet", "ca", clock, left),
        row("ca", "ca", None, clock, ca_left),
    ]
    facts = {"node_name": "n", "role": "control-plane", "clock": clock, "clock_offset": offset}
    return {
        "node": {"certificates": rows, "findings": [], "facts": facts},
        "authorities": {name: authority(ca_left, "K-" + name, clock=clock) for name in ("ca", "front-proxy-ca", "etcd-ca")},
        "etcd": {"data": data, "path": "/var/lib/etcd"},
        "health": {name: {"healthy": healthy, "seen": "connection refused"} for name in PODS},
        "kubelet": {"action": "reissue" if left <= 0 else "keep", "reasons": [], "unit": "activating", "error": None},
        "pending": None,
        "trust": False,
        "problems": [],
    }


def worker(left=-86400, ca_left=YEAR, clock=NOW, offset=0.2):
    facts = {"node_name": "w", "role": "worker", "clock": clock, "clock_offset": offset}
    return {
        "node": {"certificates": [row("kubelet-client", "kubelet", "ca", clock, left)], "findings": [], "facts": facts},
        "authorities": {"ca": authority(ca_left, "K-ca", has_key=False, clock=clock)},
        "etcd": None,
        "health": {},
        "kubelet": {"action": "reissue" if left <= 0 else "keep", "reasons": [], "unit": "failed", "error": None},
        "pending": None,
        "trust": False,
        "problems": [],
    }


def three(**options):
    looks = {host: plane(**options) for host in ("cp1", "cp2", "cp3")}
    for host, look in looks.items():
        look["node"]["facts"]["node_name"] = host
    return looks


def decide(looks, silent=None, **options):
    planes = ["cp1", "cp2", "cp3"][: max(1, sum(host.startswith("cp") for host in [*looks, *(silent or {})]))]
    return recovery_plan.decide(looks, silent or {}, planes, **options)


def test_a_dead_cluster_is_planned_as_a_whole():
    plan = decide({**three(), "w1": worker()})
    assert plan["needed"] and plan["refusal"] == "" and plan["signer"] == "cp1" and plan["authorities"] == {}
    assert plan["hosts"]["cp2"] == {
        "node": "cp2",
        "role": "control-plane",
        "restart": PODS,
        "leaves": True,
        "kubelet": True,
        "serving": False,
    }
    assert plan["hosts"]["w1"]["kubelet"] and plan["hosts"]["w1"]["restart"] == []
    steps = "\n".join(plan["steps"])
    assert (
        steps.index("Renew the leaves")
        < steps.index("kubelets' certificates of cp1, cp2, cp3")
        < steps.index("Start etcd")
        < steps.index("Start kube-apiserver")
        < steps.index("workers w1")
        < steps.index("Ready")
    )
    assert "etcd: data on 3 of 3 members, 2 are needed" in plan["diagnosis"]
    assert any(
        line.startswith("cp1: 4 of 4 certificates expired, on 2026-11-21T12:00:00Z, clock 2026-11-22T12:00:00Z")
        for line in plan["diagnosis"]
    )


def test_the_plan_is_plain_data_for_ansible():
    plan = decide({**three(ca_left=-5), "w1": worker(ca_left=-5)})
    assert json.loads(json.dumps(plan)) == plan
    assert "renewed with the same keys" in recovery_text.format_question(plan)


def test_a_cluster_in_which_nothing_has_expired_is_left_alone():
    looks = {**three(left=YEAR), "w1": worker(left=YEAR)}
    plan = decide(looks)
    assert not plan["needed"] and plan["refusal"] == "" and plan["steps"] == []
    assert all(not host["restart"] and not host["leaves"] and not host["kubelet"] for host in plan["hosts"].values())
    lines = recovery_text.format_plan(plan)
    assert "  No certificate has expired." in lines and "another reason" in lines[-1]


def test_what_is_well_in_a_cluster_with_one_dead_node_is_not_touched():
    looks = three(left=YEAR, healthy=True)
    looks["cp2"] = plane()
    plan = decide(looks)
    assert plan["hosts"]["cp2"]["restart"] == PODS and plan["hosts"]["cp2"]["leaves"]
    assert plan["hosts"]["cp1"]["restart"] == [] and not plan["hosts"]["cp1"]["leaves"]
    assert "Start etcd again on cp2" in "\n".join(plan["steps"])


def test_only_consumers_of_what_expired_are_started_again_where_the_rest_is_well():
    look = plane(left=YEAR, healthy=True)
    look["node"]["certificates"][2] = row("scheduler.conf", "kubeconfig", "ca", NOW, -5)
    assert decide({"cp1": look})["hosts"]["cp1"]["restart"] == ["kube-scheduler"]


def test_kubelets_alone():
    plan = decide({"cp1": plane(left=YEAR, healthy=True), "w1": worker()})
    assert plan["needed"] and plan["hosts"]["w1"]["kubelet"] and plan["hosts"]["cp1"]["restart"] == []


def test_a_kubelet_that_is_well_and_ends_soon_is_not_touched():
    soon = worker(left=30 * 86400)
    soon["kubelet"].update(action="reissue", unit="active")
    looks = three(left=YEAR, healthy=True)
    looks["cp2"] = plane()
    assert not decide({**looks, "w1": soon})["hosts"]["w1"]["kubelet"]
    soon["kubelet"]["unit"] = "failed"
    assert decide({**looks, "w1": soon})["hosts"]["w1"]["kubelet"]
    soon["kubelet"].update(action="restart", unit="active")
    assert decide({**looks, "w1": soon})["hosts"]["w1"]["kubelet"]


def test_an_external_ca_does_not_keep_etcd_from_coming_back():
    looks = three(left=YEAR)
    for look in looks.values():
        look["authorities"]["ca"]["has_key"] = False
        look["node"]["certificates"][1] = row("etcd-server", "leaf", "etcd-ca", NOW, -5)
        look["kubelet"].update(action="reissue")
    plan = decide(looks)
    assert plan["refusal"] == "" and plan["signer"] == "" and plan["first"] == "cp1"
    assert not plan["hosts"]["cp1"]["kubelet"] and "etcd" in plan["hosts"]["cp1"]["restart"]


def test_a_run_that_was_killed_goes_on_where_nothing_has_expired_any_more():
    looks = three(left=YEAR, healthy=True)
    looks["cp2"]["pending"] = ["etcd", "kube-apiserver"]
    plan = decide(looks)
    assert plan["needed"] and plan["hosts"]["cp2"]["restart"] == ["etcd", "kube-apiserver"]
    assert plan["hosts"]["cp1"]["restart"] == []
    assert "a recovery that was interrupted" in "\n".join(plan["diagnosis"])
    # A worker on which the credential was installed, and the restart not made.
    other = {**three(left=YEAR, healthy=True), "w1": worker(left=YEAR)}
    other["w1"]["kubelet"]["action"] = "restart"
    assert decide(other)["needed"] and decide(other)["hosts"]["w1"]["kubelet"]
    # Before it had anything to restart, too.
    looks["cp2"]["pending"] = []
    assert decide(looks)["needed"] and not decide(looks)["trust"]
    # And where the API's objects did not follow the CA any more.
    looks["cp1"].update(pending=[], trust=True)
    assert decide(looks)["trust"] and "Bring the API's objects in line" in decide(looks)["steps"][-1]


# --- clocks -------------------------------------------------------------------------------------------------------------------


def test_one_node_whose_clock_differs_is_named():
    looks = three()
    looks["cp2"] = plane(clock=NOW + 400 * 86400, offset=400 * 86400.0)
    plan = decide(looks)
    assert "The clock of cp2 is 399 days ahead of the other nodes'." in plan["refusal"] and "cp1" not in plan["refusal"]
    assert plan["steps"] == []


@pytest.mark.parametrize("offset,word", [(7200.0, "2 hours ahead of"), (-7200.0, "2 hours behind")])
@pytest.mark.parametrize("wrong", ["cp1", "cp2"])
def test_of_two_nodes_that_disagree_the_controller_says_who_is_wrong(offset, word, wrong):
    looks = {host: plane(clock=NOW + offset * (host == wrong), offset=offset * (host == wrong)) for host in ("cp1", "cp2")}
    plan = decide(looks)
    right = "cp1" if wrong == "cp2" else "cp2"
    assert "The clock of %s is %s the controller's." % (wrong, word) in plan["refusal"]
    assert "The clock of " + right not in plan["refusal"] and "The clocks of the nodes" not in plan["refusal"]


def test_nodes_that_agree_with_each_other_and_not_with_the_controller():
    plan = decide(three(clock=NOW + 4000 * 86400, offset=4000 * 86400.0))
    assert "The clocks of the nodes" in plan["refusal"]
    assert "4000 days ahead of the controller's (2026-11-22T12:00:00Z)" in plan["refusal"]
    assert "may be valid" in plan["refusal"]


def test_a_clock_before_the_certificates_begin():
    look = plane(left=YEAR)
    look["node"]["certificates"][0] = row("apiserver", "leaf", "ca", NOW, 2 * YEAR)
    look["node"]["certificates"][1] = row("etcd-server", "leaf", "etcd-ca", NOW, -5)
    plan = decide({"cp1": look})
    assert "The clock of cp1 says 2026-11-22T12:00:00Z, and its certificate apiserver" in plan["refusal"]
    assert "begins only on 2027-11-22T12:00:00Z" in plan["refusal"]


def test_a_clock_that_was_set_back_is_named_although_nothing_has_expired_by_it():
    looks = three(left=2 * YEAR)
    plan = decide(looks)
    assert not plan["needed"] and "begins only on 2027-11-22T12:00:00Z" in plan["refusal"]
    assert "NOTHING IS DONE" in recovery_text.format_plan(plan)


def test_seconds_are_no_wrong_clock():
    looks = three()
    looks["cp2"]["node"]["facts"]["clock_offset"] = 40.0
    assert decide(looks)["refusal"] == ""


# --- who is missing -----------------------------------------------------------------------------------------------------------


def test_a_worker_that_does_not_answer_is_left_out_and_listed():
    plan = decide(three(), {"w1": "did not answer"})
    assert plan["refusal"] == "" and plan["absent"] == {"w1": "did not answer"}
    assert "Left out: w1 (did not answer)." in plan["steps"]
    assert recovery_text.list_incomplete(plan, []) == "w1: did not answer"


def test_a_control_plane_node_is_left_out_only_when_the_user_says_so():
    looks = three()
    del looks["cp3"]
    refused = decide(looks, {"cp3": "did not answer"})
    assert "kubepki_recover_partial=true" in refused["refusal"] and "cp3: did not answer" in refused["refusal"]
    plan = decide(looks, {"cp3": "did not answer"}, partial=True)
    assert plan["refusal"] == "" and sorted(plan["hosts"]) == ["cp1", "cp2"] and "cp3" in plan["absent"]
    assert any("data on 2 of 3 members, 2 are needed; unknown on cp3" in line for line in plan["diagnosis"])


@pytest.mark.parametrize("partial", [False, True])
def test_without_a_quorum_of_data_nothing_is_done(partial):
    looks = three()
    del looks["cp3"]
    looks["cp2"]["etcd"]["data"] = False
    plan = decide(looks, {"cp3": "did not answer"}, partial=partial)
    assert "etcd has its data on 1 of 3 members, and 2 are needed" in plan["refusal"] and "snapshot" in plan["refusal"]
    assert "cp2: has no etcd data in /var/lib/etcd" in plan["refusal"]


def test_a_member_without_data_is_a_node_that_cannot_take_part():
    looks = three()
    looks["cp1"]["etcd"]["data"] = False
    assert "kubepki_recover_partial" in decide(looks)["refusal"]
    plan = decide(looks, partial=True)
    assert plan["refusal"] == "" and plan["signer"] == "cp2" and "cp1" not in plan["hosts"]


def test_nobody_answers():
    plan = decide({"w1": worker()}, {"cp1": "did not answer"})
    assert "No control-plane node can take part" in plan["refusal"]


def test_a_worker_on_which_nothing_can_be_done_is_left_out():
    broken, bare = worker(), worker()
    broken["problems"] = ["/var/lib/kubelet/pki: the file system is read-only."]
    bare["kubelet"]["error"] = "systemd has no unit kubelet.service that it could start."
    plan = decide({**three(), "w1": broken, "w2": bare, "w3": worker()})
    assert plan["refusal"] == "" and sorted(plan["absent"]) == ["w1", "w2"] and "w3" in plan["hosts"]
    assert "read-only" in recovery_text.list_incomplete(plan, [])
    looks = three()
    looks["cp2"]["kubelet"]["error"] = "no kubelet is set up here."
    assert "cp2: no kubelet is set up here." in decide(looks)["refusal"]


# --- authorities --------------------------------------------------------------------------------------------------------------


def test_expired_authorities_are_renewed_once_and_brought_to_all():
    plan = decide({**three(ca_left=-5), "w1": worker(ca_left=-5)})
    assert {name: (ca["signer"], ca["certificate"]) for name, ca in plan["authorities"].items()} == dict.fromkeys(
        ("ca", "front-proxy-ca", "etcd-ca"), ("cp1", "")
    )
    assert plan["hosts"]["w1"]["kubelet"] and plan["hosts"]["cp3"]["restart"] == PODS
    assert "Renew the CA ca, front-proxy-ca, etcd-ca with the same key on cp1" in "\n".join(plan["steps"])


def test_what_a_killed_run_has_renewed_is_not_renewed_again():
    looks = {**three(left=YEAR, ca_left=-5, healthy=True), "w1": worker(left=YEAR, ca_left=-5)}
    looks["cp2"]["authorities"] = {name: authority(YEAR, "K-" + name) for name in looks["cp2"]["authorities"]}
    plan = decide(looks)
    assert plan["authorities"]["ca"] == {"signer": "cp2", "certificate": authority(YEAR)["certificate"]}
    assert "which is renewed already" in "\n".join(plan["steps"])
    # Also where only a worker still lacks it.
    looks.update(three(left=YEAR, healthy=True))
    plan = decide(looks)
    assert plan["authorities"]["ca"]["certificate"] and plan["hosts"]["w1"]["kubelet"]


def test_no_key_of_the_authority_anywhere():
    looks = three(ca_left=-5)
    for look in looks.values():
        look["authorities"]["ca"]["has_key"] = False
    plan = decide(looks)
    assert "The CA ca has expired, and its key is on none of the control-plane nodes" in plan["refusal"]


def test_leaves_of_an_authority_whose_key_is_elsewhere():
    looks = three()
    for look in looks.values():
        look["authorities"]["ca"]["has_key"] = False
    refusal = decide(looks)["refusal"]
    assert "cp1: certificates of the CA ca have expired, and its key is not on this node" in refusal
    assert "The kubelets' certificates have to be signed" in refusal


def test_an_authority_with_the_same_name_and_another_key():
    looks = three(ca_left=-5)
    looks["cp3"]["authorities"]["ca"]["key"] = "another"
    assert "The CA ca has another key on cp3 than on cp1, cp2" in decide(looks)["refusal"]


def test_an_intermediate_authority_is_renewed_above():
    looks = three(ca_left=-5)
    for look in looks.values():
        look["authorities"]["ca"].update(self_signed=False, issuer="CN=root")
    assert "another CA has signed it (CN=root)" in decide(looks)["refusal"]


def test_what_stands_in_the_way_on_a_node_is_said_and_only_where_something_is_to_be_done():
    for left, refused in ((-5, True), (YEAR, False)):
        looks = three(left=left)
        looks["cp2"]["problems"] = ["/etc/kubernetes: the file system is read-only."]
        looks["cp1"]["node"]["findings"] = [
            {"severity": "error", "code": "foreign-manifest", "path": "/m/x", "message": "is a copy", "fix": "Move it."}
        ]
        refusal = decide(looks)["refusal"]
        assert ("cp2: /etc/kubernetes: the file system is read-only." in refusal) is refused
        assert ("cp1: /m/x: is a copy. Move it." in refusal) is refused


# --- always -------------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    lefts=st.lists(st.sampled_from([-YEAR, -5, YEAR]), min_size=3, max_size=3),
    ca_left=st.sampled_from([-5, YEAR]),
    data=st.lists(st.booleans(), min_size=3, max_size=3),
    silent=st.sets(st.sampled_from(["cp1", "cp2", "cp3", "w1"])),
    offsets=st.lists(st.sampled_from([0.0, 20.0, 9000.0]), min_size=3, max_size=3),
    partial=st.booleans(),
)
def test_nothing_is_ever_planned_without_a_quorum_or_by_clocks_that_differ(lefts, ca_left, data, silent, offsets, partial):
    looks = {"w1": worker(lefts[0], ca_left)}
    for host, left, there, offset in zip(("cp1", "cp2", "cp3"), lefts, data, offsets):
        looks[host] = plane(left, ca_left, data=there, offset=offset)
    before = copy.deepcopy(looks)
    looks = {host: look for host, look in looks.items() if host not in silent}
    plan = recovery_plan.decide(looks, dict.fromkeys(silent, "did not answer"), ["cp1", "cp2", "cp3"], partial)
    assert looks == {host: look for host, look in before.items() if host not in silent}
    assert set(plan["hosts"]) | set(plan["absent"]) == {"cp1", "cp2", "cp3", "w1"}
    assert not set(plan["hosts"]) & set(plan["absent"])
    if not plan["steps"]:
        assert plan["refusal"] or not plan["needed"]
        return
    members = [host for host in plan["hosts"] if host != "w1"]
    assert plan["refusal"] == "" and len(members) >= (2 if partial else 3)
    shown = [before[host]["node"]["facts"]["clock_offset"] for host in members]
    assert max(shown) - min(shown) < 300
    assert plan["signer"] in members


def test_the_artifact_and_the_sentence():
    looks = {**three(), "w1": worker()}
    plan = decide(looks, {"w2": "did not answer"})
    done = recovery_text.summarise(plan, looks, ["cp1", "cp2", "cp3", "w"], [], 61.4)
    assert done["state"] == "warning" and done["expired"] == 13 and done["absent"] == ["w2"] and done["all"] == 5
    assert recovery_text.format_summary(done) == (
        "recover: warning. 4 of 5 nodes are Ready; expired certificates: 13; left out: w2, 61 s since the confirmation."
    )
    assert recovery_text.summarise(plan, looks, [], ["w1"], 61.4)["state"] == "failed"
    checked = recovery_text.summarise(plan, looks, [], [], None, check=True)
    assert not checked["changed"]
    assert "check mode, nothing was changed; expired certificates: 13" in recovery_text.format_summary(checked)
    assert "w1: failed on the way" in recovery_text.list_incomplete(plan, ["w1"])


def test_where_nobody_answers_nothing_is_concluded():
    plan = recovery_plan.decide({}, {"cp1": "did not answer", "w1": "did not answer"}, ["cp1"])
    assert "No control-plane node can take part (cp1: did not answer)" in plan["refusal"]
    assert not any("No certificate has expired" in line for line in recovery_text.format_plan(plan))


def test_a_host_whose_look_is_malformed_has_said_nothing():
    looks = {**three(), "w1": worker()}
    looks["w1"]["node"]["certificates"][0]["not_after"] = "soon"
    plan = decide(looks)
    assert plan["needed"] and plan["refusal"] == "" and "w1" not in plan["hosts"] and "malformed answer" in plan["absent"]["w1"]
    looks["cp2"]["authorities"]["ca"]["not_after"] = None
    plan = decide(looks)
    assert "cp2: gave a malformed answer (authorities.ca.not_after is no time)" in plan["refusal"]


@pytest.mark.parametrize("host", ["cp1", "w1"])
def test_no_look_of_one_host_ends_in_a_traceback_or_steers_the_terminal(host):
    looks = {**three(), "w1": worker()}
    for place, look in malformed.variants(looks[host]):
        plan = decide(dict(looks, **{host: look}), partial=True)
        lines = [
            *recovery_text.format_plan(plan),
            recovery_text.format_question(plan),
            recovery_text.list_incomplete(plan, [host]),
            plan["refusal"],
        ]
        artifact = recovery_text.summarise(plan, dict(looks, **{host: look}), {}, [], 3.0)
        assert all(line.isprintable() for line in [*lines, recovery_text.format_summary(artifact)]), place


def test_what_is_shown_is_printable_line_by_line():
    plan = {"diagnosis": [malformed.EVIL], "refusal": malformed.EVIL, "needed": True, "steps": [malformed.EVIL]}
    for each in (plan, dict(plan, refusal=""), dict(plan, refusal="", needed=False)):
        lines = recovery_text.format_plan(each)
        assert all(line.isprintable() for line in lines) and "\\x1b]0;pwned" in lines[1]
