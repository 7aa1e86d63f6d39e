# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node of a dead cluster: what is seen of it, and what the controller makes of that."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import kubelet_service
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.recovery import inspection, recovery_journal
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import node_report
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import recovery_plan

from tests.unit.support.dead_plane import Plane


@pytest.fixture
def plane(tmp_path):
    return Plane(tmp_path)


@pytest.fixture(autouse=True)
def unit(monkeypatch):
    monkeypatch.setattr(kubelet_service.Service, "state", lambda service: {"active": "activating"})


def seen(plane):
    return inspection.look(plane.layout, state_dir=plane.state)


def test_what_is_seen_of_a_dead_node_is_enough_to_decide(plane):
    look = seen(plane)
    assert look["etcd"] == {"data": False, "path": str(plane.node.path("/var/lib/etcd"))}
    plane.node.write("/var/lib/etcd/member/wal/0.wal", b"x")
    plane.node.write("/var/lib/etcd/member/snap/db", b"x")
    look = seen(plane)
    assert look["etcd"]["data"] and look["pending"] is None and look["trust"] is False and look["problems"] == []
    assert {name: seen["healthy"] for name, seen in look["health"].items()} == dict.fromkeys(
        ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"), False
    )
    assert look["authorities"]["ca"]["has_key"] and look["kubelet"]["reasons"]
    assert "PRIVATE KEY" not in str(look)
    report = node_report.read("/etc/kubernetes", "/var/lib/kubelet", live=False, controller_clock=time.time(), root=plane.root)
    plan = recovery_plan.decide({"cp1": dict(look, node=report)}, {}, ["cp1"])
    assert plan["refusal"] == "" and sorted(plan["authorities"]) == ["ca", "etcd-ca", "front-proxy-ca"]
    recovery_journal.begin(["etcd"], trust=True, state_dir=plane.state)
    again = seen(plane)
    assert again["pending"] == ["etcd"] and again["trust"]


@pytest.mark.parametrize(
    "file, left",
    [
        ("etcd/ca.crt", {"ca": True, "front-proxy-ca": True}),
        ("etcd/ca.key", {"ca": True, "front-proxy-ca": True, "etcd-ca": False}),
    ],
)
def test_an_authority_that_cannot_be_read_is_left_to_the_report(plane, file, left):
    plane.node.kubernetes("pki/" + file).write_text("no PEM")
    assert {name: held["has_key"] for name, held in seen(plane)["authorities"].items()} == left


def test_looking_changes_nothing(plane):
    before = plane.files()
    seen(plane)
    assert plane.files() == before and not os.path.exists(plane.state)


def test_a_renewal_is_rehearsed_where_it_could_be_done(plane, tmp_path):
    """Below a CA that has expired it cannot be; and where something stands in the way, that is said already."""
    assert not inspection.can_rehearse(plane.layout, seen(plane))
    alive = Plane(tmp_path / "alive", ca_left=1)
    found = seen(alive)
    assert found["problems"] == [] and inspection.can_rehearse(alive.layout, found)
    assert not inspection.can_rehearse(alive.layout, dict(found, problems=["read-only"]))
    worker = Plane(tmp_path / "worker", ca_left=1, role="worker")
    assert not inspection.can_rehearse(worker.layout, seen(worker))


def test_a_host_that_is_no_node(tmp_path):
    plane = Plane(tmp_path, role="none")
    for path in ("/etc/kubernetes", "/var/lib/kubelet"):
        subprocess.run(["rm", "-rf", str(plane.node.path(path))], check=True)
        plane.node.path(path).mkdir(parents=True)
    assert "no node of a kubeadm cluster" in seen(plane)["problems"][0]
