# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reissue over all nodes: who is signed for, who stops it, what the artifact says."""

from __future__ import annotations

import json

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import kubelet_job

AWAY = {"unreachable": True, "msg": "timed out"}
BROKEN = {"failed": True, "msg": "read-only file system."}
KEPT = {"action": "keep", "signing": {}, "reasons": []}


def _due(host):
    return {"action": "reissue", "reasons": ["asked for"], "signing": {"host": host, "node": host, "request": "R"}}


def _installed(seconds=2.5):
    return {"action": "installed", "changed": True, "after": {"not_after": "2027-01-01T00:00:00Z"}, "proof": {"seconds": seconds}}


def test_only_who_is_due_and_answered_is_signed_for():
    requests = {"cp1": KEPT, "w1": _due("w1"), "w2": AWAY, "w3": BROKEN, "w4": _due("w4"), "not-in-limit": {}}
    signing, absent, obstacle = kubelet_job.collect(requests, ["cp1"])
    assert [entry["host"] for entry in signing] == ["w1", "w4"]
    assert absent == {"w2": "did not answer", "w3": "read-only file system"}
    assert obstacle is None


def test_an_absent_control_plane_node_stops_everything():
    _signing, _absent, obstacle = kubelet_job.collect({"cp1": AWAY, "w1": _due("w1")}, ["cp1"])
    assert "No kubelet was changed" in obstacle and "cp1: did not answer" in obstacle


def test_when_nobody_answers_nothing_is_done():
    _signing, _absent, obstacle = kubelet_job.collect({"w1": AWAY, "w2": BROKEN}, [])
    assert "w1: did not answer; w2: read-only file system" in obstacle


def test_a_control_plane_node_outside_of_the_limit_is_not_missed():
    assert kubelet_job.collect({"cp1": {}, "w1": _due("w1")}, ["cp1"])[2] is None


def test_the_artifact_counts_each_host_once_and_holds_nothing_secret():
    requests = {"cp1": KEPT, "w1": _due("w1"), "w2": AWAY, "w3": _due("w3"), "w4": _due("w4"), "w5": _due("w5"),
                "w6": {"action": "restart", "reasons": ["undone"]}, "out": {}}
    installs = {"w1": _installed(), "w3": BROKEN, "w5": AWAY, "w6": {"action": "restarted", "changed": True}}
    artifact, skipped = kubelet_job.summarise("reissue_kubelets", requests, installs)
    assert (artifact["reissued"], artifact["restarted"], artifact["kept"], artifact["due"]) == (1, 1, 1, 1)
    assert (artifact["unreachable"], artifact["failed"], artifact["nodes"]) == (["w2", "w5"], ["w3"], 7)
    assert artifact["state"] == "failed" and artifact["changed"] is True
    assert sorted(skipped) == ["w2", "w3", "w5"]
    assert "request" not in json.dumps(artifact).lower()


def test_the_state_follows_the_worst():
    def state(requests, installs):
        return kubelet_job.summarise("j", requests, installs)[0]["state"]

    assert state({"w1": KEPT}, {}) == "ok"
    assert state({"w1": _due("w1")}, {"w1": _installed()}) == "changed"
    assert state({"w1": _due("w1"), "w2": AWAY}, {"w1": _installed()}) == "warning"
    assert state({"w1": _due("w1"), "w2": BROKEN}, {"w1": _installed()}) == "failed"


def test_the_table_names_what_was_done_and_counts_the_rest():
    text = kubelet_job.table({"cp1": KEPT, "w0": KEPT, "w1": _due("w1"), "w2": AWAY, "w3": _due("w3")}, {"w1": _installed()})
    assert "w1: installed (asked for), valid until 2027-01-01T00:00:00Z, kubelet proven after 2.5 s" in text
    assert "w2: NOT DONE: did not answer" in text
    assert "w3: a new credential is due (asked for)" in text
    assert "2 kubelets have a credential that is not due." in text


def test_a_long_list_is_cut():
    absent = {"w%02d" % number: "did not answer" for number in range(14)}
    assert kubelet_job.listed(absent).endswith("w09: did not answer and 4 more")


def test_the_sentence_names_the_hosts_that_are_not_done():
    requests = {"w1": _due("w1"), "w2": AWAY, "w3": BROKEN}
    artifact, _skipped = kubelet_job.summarise("reissue_kubelets", requests, {"w1": _installed()})
    assert kubelet_job.sentence(artifact) == (
        "reissue_kubelets: failed. 3 kubelets, 1 got a new credential, no answer from w2, failed on w3.")


def test_serving_certificates_are_counted_apart_and_a_failed_one_is_not_done():
    requests = {"w1": KEPT, "w2": KEPT, "w3": KEPT, "w4": KEPT}
    due = {"action": "reissue", "reasons": ["serverTLSBootstrap is off"]}
    served = {"action": "installed", "changed": True, "after": {"not_after": "2027-01-01T00:00:00Z"},
              "proof": {"seconds": 2.0, "served_seconds": 0.5}}
    servings = {"w1": (due, served), "w2": (due, {}), "w3": (due, {"failed": True, "msg": "it was denied."}),
                "w4": ({"action": "keep", "reasons": ["its serving certificate is the user's own (x)"]}, {})}
    artifact, skipped = kubelet_job.summarise("j", requests, {}, None, servings)
    assert (artifact["serving"], artifact["serving_due"], artifact["failed"]) == (1, 1, ["w3"])
    assert artifact["changed"] and artifact["state"] == "failed" and skipped == {"w3": "it was denied"}
    text = kubelet_job.table(requests, {}, servings)
    assert "w1: serving certificate installed (serverTLSBootstrap is off), valid until 2027-01-01T00:00:00Z" in text
    assert "served after 2.5 s" in text
    assert "w2: a serving certificate is due (serverTLSBootstrap is off)" in text and "w3: NOT DONE: it was denied" in text
    assert "w4: serving certificate left alone: its serving certificate is the user's own (x)" in text
    assert "1 got a serving certificate, 1 serving certificates are due, failed on w3" in kubelet_job.sentence(artifact)
