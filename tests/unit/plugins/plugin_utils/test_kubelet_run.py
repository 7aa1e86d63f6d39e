# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reissue over all nodes: who is signed for, who stops it, what the artifact says."""

from __future__ import annotations

import json

import pytest
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import kubelet_run

AWAY = {"unreachable": True, "msg": "timed out"}
BROKEN = {"failed": True, "msg": "read-only file system."}
KEPT = {"action": "keep", "signing": {}, "reasons": []}


def _due(host):
    return {"action": "reissue", "reasons": ["asked for"], "signing": {"host": host, "node": host, "request": "R"}}


def _installed(seconds=2.5):
    return {"action": "installed", "changed": True, "after": {"not_after": "2027-01-01T00:00:00Z"}, "proof": {"seconds": seconds}}


def test_only_who_is_due_and_answered_is_signed_for():
    requests = {"cp1": KEPT, "w1": _due("w1"), "w2": AWAY, "w3": BROKEN, "w4": _due("w4"), "not-in-limit": {}}
    signing, absent, obstacle = kubelet_run.collect(requests, ["cp1"])
    assert [entry["host"] for entry in signing] == ["w1", "w4"]
    assert absent == {"w2": "did not answer", "w3": "read-only file system"}
    assert obstacle is None


def test_an_absent_control_plane_node_stops_everything():
    _signing, _absent, obstacle = kubelet_run.collect({"cp1": AWAY, "w1": _due("w1")}, ["cp1"])
    assert "No kubelet was changed" in obstacle and "cp1: did not answer" in obstacle


def test_when_nobody_answers_nothing_is_done():
    _signing, _absent, obstacle = kubelet_run.collect({"w1": AWAY, "w2": BROKEN}, [])
    assert "w1: did not answer; w2: read-only file system" in obstacle


def test_a_control_plane_node_outside_of_the_limit_is_not_missed():
    assert kubelet_run.collect({"cp1": {}, "w1": _due("w1")}, ["cp1"])[2] is None


def test_the_artifact_counts_each_host_once_and_holds_nothing_secret():
    requests = {
        "cp1": KEPT,
        "w1": _due("w1"),
        "w2": AWAY,
        "w3": _due("w3"),
        "w4": _due("w4"),
        "w5": _due("w5"),
        "w6": {"action": "restart", "reasons": ["undone"]},
        "out": {},
    }
    installs = {"w1": _installed(), "w3": BROKEN, "w5": AWAY, "w6": {"action": "restarted", "changed": True}}
    artifact, skipped = kubelet_run.summarise("reissue_kubelets", requests, installs)
    assert (artifact["reissued"], artifact["restarted"], artifact["kept"], artifact["due"]) == (1, 1, 1, 1)
    assert (artifact["unreachable"], artifact["failed"], artifact["nodes"]) == (["w2", "w5"], ["w3"], 7)
    assert artifact["state"] == "failed" and artifact["changed"] is True
    assert sorted(skipped) == ["w2", "w3", "w5"]
    assert "request" not in json.dumps(artifact).lower()


def test_the_state_follows_the_worst():
    def state(requests, installs):
        return kubelet_run.summarise("j", requests, installs)[0]["state"]

    assert state({"w1": KEPT}, {}) == "ok"
    assert state({"w1": _due("w1")}, {"w1": _installed()}) == "changed"
    assert state({"w1": _due("w1"), "w2": AWAY}, {"w1": _installed()}) == "warning"
    assert state({"w1": _due("w1"), "w2": BROKEN}, {"w1": _installed()}) == "failed"


def test_the_table_names_what_was_done_and_counts_the_rest():
    text = kubelet_run.table({"cp1": KEPT, "w0": KEPT, "w1": _due("w1"), "w2": AWAY, "w3": _due("w3")}, {"w1": _installed()})
    assert "w1: installed (asked for), valid until 2027-01-01T00:00:00Z, kubelet proven after 2.5 s" in text
    assert "w2: NOT DONE: did not answer" in text
    assert "w3: a new credential is due (asked for)" in text
    assert "2 kubelets have a credential that is not due." in text


def test_a_long_list_is_cut():
    absent = {"w%02d" % number: "did not answer" for number in range(14)}
    assert kubelet_run.listed(absent).endswith("w09: did not answer and 4 more")


def test_the_sentence_names_the_hosts_that_are_not_done():
    requests = {"w1": _due("w1"), "w2": AWAY, "w3": BROKEN}
    artifact, _skipped = kubelet_run.summarise("reissue_kubelets", requests, {"w1": _installed()})
    assert kubelet_run.sentence(artifact) == (
        "reissue_kubelets: failed. 3 kubelets, 1 got a new credential, no answer from w2, failed on w3."
    )


def test_serving_certificates_are_counted_apart_and_a_failed_one_is_not_done():
    requests = {"w1": KEPT, "w2": KEPT, "w3": KEPT, "w4": KEPT}
    due = {"action": "reissue", "reasons": ["serverTLSBootstrap is off"]}
    served = {
        "action": "installed",
        "changed": True,
        "after": {"not_after": "2027-01-01T00:00:00Z"},
        "proof": {"seconds": 2.0, "served_seconds": 0.5},
    }
    servings = {
        "w1": (due, served),
        "w2": (due, {}),
        "w3": (due, {"failed": True, "msg": "it was denied."}),
        "w4": ({"action": "keep", "reasons": ["its serving certificate is the user's own (x)"]}, {}),
    }
    artifact, skipped = kubelet_run.summarise("j", requests, {}, None, servings)
    assert (artifact["serving"], artifact["serving_due"], artifact["failed"]) == (1, 1, ["w3"])
    assert artifact["changed"] and artifact["state"] == "failed" and skipped == {"w3": "it was denied"}
    text = kubelet_run.table(requests, {}, servings)
    assert "w1: serving certificate installed (serverTLSBootstrap is off), valid until 2027-01-01T00:00:00Z" in text
    assert "served after 2.5 s" in text
    assert "w2: a serving certificate is due (serverTLSBootstrap is off)" in text and "w3: NOT DONE: it was denied" in text
    assert "w4: serving certificate left alone: its serving certificate is the user's own (x)" in text
    assert "1 got a serving certificate, 1 serving certificates are due, failed on w3" in kubelet_run.sentence(artifact)


# --- a host speaks only for itself ------------------------------------------------------------------------------------------


def _says(host, node, said_host=None):
    return dict(_due(host), node=node, signing={"host": said_host or host, "node": node, "request": "R"})


def _keeps(node):
    return dict(KEPT, node=node)


def test_a_request_stands_under_the_host_it_came_from_whatever_it_says():
    signing, absent, _obstacle = kubelet_run.collect({"w1": _says("w1", "w1", said_host="cp1")}, [], ["w1", "cp1"])
    assert signing == [{"host": "w1", "node": "w1", "request": "R", "previous": "", "voucher": ""}] and absent == {}


def test_the_name_of_a_node_that_is_not_due_cannot_be_claimed():
    requests = {"w1": _says("w1", "w2"), "w2": _keeps("w2"), "w3": _says("w3", "w3")}
    signing, absent, obstacle = kubelet_run.collect(requests, [], ["w1", "w2", "w3"])
    assert [entry["host"] for entry in signing] == ["w3"] and obstacle is None
    assert list(absent) == ["w1"] and "the Node w2, which is the host w2 of the inventory" in absent["w1"]
    artifact, skipped = kubelet_run.summarise("j", requests, {"w3": _installed()}, inventory=["w1", "w2", "w3"])
    assert artifact["state"] == "failed" and list(skipped) == ["w1"] and artifact["due"] == 0


def test_the_name_of_a_host_that_was_not_asked_cannot_be_claimed_either():
    requests = {"w1": _says("w1", "cp1"), "w2": AWAY}
    assert kubelet_run.collect(requests, [], ["w1", "w2", "cp1"])[0] == []
    assert kubelet_run.collect({"w1": _says("w1", "w2.example.com"), "w2": AWAY}, [], ["w1", "w2"])[0] == []
    # --limit w1
    assert kubelet_run.collect({"w1": _says("w1", "w2"), "w2": {}}, [], ["w1", "w2.example.com"])[0] == []


def test_a_host_that_names_two_nodes_is_left_out_and_no_other():
    requests = {"w1": {"node": "w1", "signing": {"node": "w2", "request": "R"}}, "w2": _says("w2", "w2")}
    signing, absent, obstacle = kubelet_run.collect(requests, [], ["w1", "w2"])
    assert [entry["host"] for entry in signing] == ["w2"] and obstacle is None
    assert list(absent) == ["w1"] and "malformed answer" in absent["w1"] and "w1 and the Node w2" in absent["w1"]


def test_a_control_plane_nodes_name_cannot_be_claimed_and_the_control_plane_is_not_stopped_by_it():
    requests = {"cp1": _says("cp1", "cp1"), "w1": _says("w1", "cp1")}
    signing, absent, obstacle = kubelet_run.collect(requests, ["cp1"], ["cp1", "w1"])
    assert [entry["host"] for entry in signing] == ["cp1"] and list(absent) == ["w1"] and obstacle is None


def test_two_hosts_that_claim_a_name_of_neither_are_both_left_out():
    requests = {"a": _says("a", "n1"), "b": _keeps("n1"), "c": _says("c", "n3")}
    signing, absent, _obstacle = kubelet_run.collect(requests, [], ["a", "b", "c"])
    assert [entry["host"] for entry in signing] == ["c"] and sorted(absent) == ["a", "b"]


def test_names_that_differ_legitimately_are_taken():
    said = {"w1.example.com": "w1", "w2": "w2.internal", "bastion-3": "n3", "10.0.0.5": "10.0.0.7", "10.0.0.7": "n7"}
    requests = {host: _says(host, node) for host, node in said.items()}
    signing, absent, _obstacle = kubelet_run.collect(
        {host: said for host, said in requests.items() if not host.startswith("10.")}, [], requests
    )
    assert len(signing) == 3 and absent == {}
    assert list(kubelet_run.collect(requests, [], requests)[1]) == ["10.0.0.5"]


def test_keys_of_serving_certificates_stand_under_their_hosts():
    said = {
        "w1": {"action": "reissue", "node": "w2", "answer": {"host": "w2", "node": "w2", "key": "K1"}, "reasons": []},
        "w2": {"action": "reissue", "node": "w2", "answer": {"host": "w2", "node": "w2", "key": "K2"}, "reasons": []},
        "w3": {"action": "keep", "node": "w3", "answer": {}, "reasons": []},
        "w4": AWAY,
        "w5": {},
    }
    found, absent = kubelet_run.serving_answers(said, ["w1", "w2", "w3", "w4", "w5"])
    assert found == [{"host": "w2", "node": "w2", "key": "K2"}] and sorted(absent) == ["w1", "w4"]


@pytest.mark.parametrize(
    "said",
    [
        {"action": ["x"]},
        {"signing": "R"},
        {"signing": {"node": "w1"}},
        {"signing": {"node": 7, "request": "R"}},
        {"reasons": "x"},
        {"reasons": [None]},
        {"reasons": 5},
        {"proof": {"seconds": "x"}},
        {"proof": [1]},
        {"after": 3},
        {"after": {"not_after": "x"}},
        {"node": {}},
        {"answer": [1]},
        {"msg": "x" * (1 << 21)},
        {"failed": "no"},
    ],
)
def test_a_malformed_answer_is_its_hosts_failure_and_nobody_elses(said):
    requests = {"w1": dict(_due("w1"), **said), "w2": _due("w2")}
    signing, absent, obstacle = kubelet_run.collect(requests, [], ["w1", "w2"])
    assert [entry["host"] for entry in signing] == ["w2"] and "malformed answer" in absent["w1"] and obstacle is None
    for installs in ({}, {"w2": _installed()}, {"w1": said, "w2": _installed()}):
        artifact, skipped = kubelet_run.summarise("j", requests, installs, None, {"w1": (said, said)})
        assert artifact["failed"] == ["w1"] and len(skipped["w1"]) < 3000
        assert "w1: NOT DONE: " in kubelet_run.table(requests, installs, {"w1": (said, said)})


def test_what_a_node_says_cannot_steer_the_terminal():
    evil = "x\x1b]0;pwned\x07\x9b2J\u202e\ncp1: NOT DONE"
    requests = {"w1": dict(BROKEN, msg=evil), "w2": dict(_due("w2"), reasons=[evil]), "w3": {"action": "keep", "reasons": []}}
    artifact, skipped = kubelet_run.summarise("j", requests, {}, None, {"w3": ({"action": "keep", "reasons": [evil]}, {})})
    text = kubelet_run.table(requests, {}, {"w3": ({"action": "keep", "reasons": [evil]}, {})})
    assert len(text.splitlines()) == 4
    for shown in (
        *text.splitlines(),
        kubelet_run.listed(skipped),
        kubelet_run.sentence(artifact),
        kubelet_run.collect(requests, ["w1"])[2],
    ):
        assert shown.isprintable()
