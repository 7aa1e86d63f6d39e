# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job over all nodes says of itself: what stood in its way, what it did, what it waits for."""

from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import run_summary

DOCUMENT = {"status": "ok", "cluster": {"phase": {}}, "nodes": {"cp1": {"certificates": []}, "cp2": {"certificates": []}}}


def leaf(name, action):
    return {"name": name, "action": action, "consumer": None, "takes_up": "nobody"}


def artifact(done, **more):
    return run_summary.summarise("renew_leaves", dict(DOCUMENT, **more), done)


def test_what_waits_to_be_signed_is_a_warning_and_is_counted():
    asked = {"changed": True, "leaves": [leaf("apiserver", "requested"), leaf("etcd-server", "held"), leaf("admin.conf", "kept")]}
    found = artifact({"cp1": [asked, {}], "cp2": [{"changed": False, "leaves": [leaf("apiserver", "requested")]}, {}]})
    assert (found["state"], found["requested"], found["renewed"]) == ("warning", 2, 0)
    assert "2 wait to be signed elsewhere" in run_summary.sentence(found)


def test_what_came_back_waits_no_more():
    asked = {"changed": False, "leaves": [leaf("apiserver", "requested"), leaf("admin.conf", "requested")]}
    renewed = {"changed": True, "leaves": [leaf("apiserver", "renewed"), leaf("admin.conf", "created")]}
    found = artifact({"cp1": [asked, renewed]})
    assert (found["state"], found["requested"], found["renewed"]) == ("changed", 0, 2)
    assert "wait" not in run_summary.sentence(found)


def test_a_worse_state_stays():
    asked = {"changed": False, "leaves": [leaf("apiserver", "requested")]}
    assert artifact({"cp1": [asked]}, status="expired")["state"] == "critical"


def test_a_finding_that_stands_in_the_way_is_named_with_its_remedy():
    nodes = {"cp1": {"findings": [{"code": "signing-key-missing", "path": "/k", "message": "is gone", "fix": "Put it back."}]}}
    assert run_summary.obstacles(nodes, {}, ["clock-off"]) is None
    said = run_summary.obstacles(nodes, {}, ["signing-key-missing"])
    assert "cp1: /k: is gone. Put it back." in said and said.startswith("Nothing was changed")


def document(*rows):
    return dict(
        DOCUMENT,
        nodes={
            "cp1": {
                "certificates": [
                    {
                        "name": name,
                        "kind": kind,
                        "status": status,
                        "residual_seconds": seconds,
                        "problem": problem,
                        "kubelet_self_signed": False,
                    }
                    for name, kind, status, seconds, problem in rows
                ]
            }
        },
    )


def test_what_has_too_few_days_left_is_named_with_the_playbook_that_helps():
    well = ("apiserver", "leaf", "ok", 40 * 86400, None)
    assert run_summary.below(document(well), 30) == "" and run_summary.below(document(well), 0) == ""
    said = run_summary.below(document(well, ("kubelet-client", "kubelet", "warning", 20 * 86400, None)), 30)
    assert said.startswith("1 certificate with less than 30 days left") and "kubelet-client on cp1 (20.0 days)" in said
    assert "reissue_kubelets" in said and "renew_leaves" not in said
    said = run_summary.below(document(well, ("ca", "ca", "warning", 20 * 86400, None)), 45)
    assert "apiserver on cp1 (40.0 days)" in said and "renew_leaves and kubepki.lifecycle.rotate_ca" in said


def test_what_nobody_can_read_or_find_has_no_days_left():
    rows = [
        ("apiserver", "leaf", "missing", None, "is not PEM"),
        ("scheduler.conf", "kubeconfig", "missing", None, None),
        ("etcd-peer", "leaf", "expired", None, None),
        ("super-admin.conf", "kubeconfig", "missing", None, None),
    ]
    said = run_summary.below(document(*rows), 1)
    for word in (
        "3 certificates",
        "apiserver on cp1 (unreadable)",
        "scheduler.conf on cp1 (missing)",
        "etcd-peer on cp1 (expired)",
    ):
        assert word in said


def test_what_helps_depends_on_whose_a_certificate_is():
    def said(**row):
        whole = dict(
            {"kubelet_self_signed": False, "name": "x", "kind": "leaf", "status": "warning", "residual_seconds": 60}, **row
        )
        return run_summary.below(dict(DOCUMENT, nodes={"cp1": {"certificates": [whole]}}), 30)

    assert "rotate_ca" in said(kind="ca") and "recover" in said(kind="ca", status="expired")
    assert "kubepki_renew_below_days" in said() and "kubepki_renew_below_days" not in said(kind="ca")
    assert "reissue_kubelets (kubepki_renew_below_days" in said(kind="kubelet", name="kubelet-client")
    assert "reissue_kubelets with kubepki_kubelet_serving=renew" in said(kind="kubelet", name="kubelet-serving")
    own = said(kind="ca", externally_managed=True)
    assert "where its key is" in own and "playbook" not in own
    brought = said(kind="other", name="pki/apiserver-sni.crt")
    assert "where it was issued" in brought and "playbook" not in brought


def test_what_a_kubelet_made_for_itself_fails_no_schedule():
    row = {"name": "kubelet-serving", "kind": "kubelet", "status": "expired", "residual_seconds": -60}
    assert "reissue_kubelets" in run_summary.below(
        dict(DOCUMENT, nodes={"w1": {"certificates": [dict(row, kubelet_self_signed=False)]}}), 7
    )
    own = dict(row, kubelet_self_signed=True)
    assert run_summary.below(dict(DOCUMENT, nodes={"w1": {"certificates": [own]}}), 7) == ""
