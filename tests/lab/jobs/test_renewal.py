# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report and renewal on a real cluster, under clients that count."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.layer import PYTHON_IMAGE
from tests.lab.playbook import play

from .clients import assert_unnoticed
from .conftest import snapshot, snapshots

# A playbook takes seconds, and much longer on a machine that does other things.
pytestmark = pytest.mark.timeout(1200)


def report_of(lab: Lab, tmp_path, **variables) -> dict:
    """Run check_expiry and give report.json."""
    play(lab, "check_expiry", {"kubepki_report_dir": tmp_path, **variables}).require_success()
    return json.loads((tmp_path / "report.json").read_text())


def rows(report: dict, node: str) -> dict[str, dict]:
    return {row["name"]: row for row in report["nodes"][node]["certificates"]}


def test_report_agrees_with_kubeadm_row_by_row(lab, tmp_path):
    report = report_of(lab, tmp_path)
    assert set(report["nodes"]) == set(lab.addresses)
    for node in lab.control_planes:
        table = lab.run(node, "kubeadm certs check-expiration 2>/dev/null").stdout
        ours = rows(report, node)
        theirs = re.findall(r"^(\S+)\s+(\w{3} \d\d, \d{4} \d\d:\d\d) UTC\s+(\S+)\s+(\S*)\s*(yes|no)\s*$", table, re.MULTILINE)
        assert len(theirs) >= 13, table
        for name, ends, _left, _ca, external in theirs:
            row = ours[name]
            assert time.strftime("%b %d, %Y %H:%M", time.strptime(row["not_after"], "%Y-%m-%dT%H:%M:%SZ")) == ends, name
            assert row["externally_managed"] == (external == "yes"), name
    served = {row["name"] for row in report["nodes"]["cp1"]["certificates"] if row.get("served_sha256")}
    assert {"apiserver", "etcd-server", "etcd-peer", "kubelet-serving"} <= served
    for node in report["nodes"].values():
        for row in node["certificates"]:
            assert row.get("served_sha256") in (None, row["sha256"]), row


def test_check_mode_shows_the_plan_and_changes_nothing(lab):
    before = snapshots(lab)
    outcome = play(lab, "renew_leaves", {"kubepki_force": "true"}, "--check", "--diff").require_success()
    assert snapshots(lab) == before
    assert "apiserver" in outcome.output and "not_after" in outcome.output
    assert "PRIVATE KEY" not in outcome.output


def test_renewal_of_everything_goes_unnoticed(lab, tmp_path):
    before = report_of(lab, tmp_path)
    with lab.watch() as watch:
        outcome = play(
            lab, "renew_leaves", {"kubepki_renew_below_days": 1400, "kubepki_leaf_days": 1500, "kubepki_report_dir": tmp_path}
        )
    outcome.require_success()
    counts = watch.counts()
    after = json.loads((tmp_path / "report.json").read_text())
    assert_unnoticed(lab, counts)
    renewed = 0
    for node in lab.control_planes:
        old, new = rows(before, node), rows(after, node)
        for name, row in new.items():
            # super-admin.conf is on the first node only, and from 1.29 on.
            if row["kind"] in ("leaf", "kubeconfig") and row["status"] != "missing":
                renewed += 1
                assert row["serial"] != old[name]["serial"], (node, name)
                assert (row["subject"], row["sans"]) == (old[name]["subject"], old[name]["sans"])
                assert row["residual_seconds"] > 1499 * 86400
            assert row.get("served_sha256") in (None, row["sha256"]), (node, row)
    assert outcome.artifact["state"] == "changed"
    assert outcome.artifact["renewed"] == renewed >= 10 * len(lab.control_planes)

    again = play(lab, "renew_leaves", {"kubepki_renew_below_days": 1400, "kubepki_leaf_days": 1500}).require_success()
    assert set(again.changed.values()) == {0}, again.output[-3000:]
    assert again.artifact["state"] == "ok"


def test_a_new_client_works_after_renewal(lab):
    for node in lab.control_planes:
        assert "Ready" in lab.kubectl("get", "nodes", node=node)
    # The controller-manager makes the pod and the scheduler places it, with their new kubeconfigs; a kubelet starts it.
    lab.kubectl("delete", "deployment", "kubepki-probe", "--ignore-not-found")
    lab.kubectl(
        "create",
        "deployment",
        "kubepki-probe",
        "--image",
        PYTHON_IMAGE,
        "--",
        "/usr/bin/python3",
        "-c",
        "import signal; signal.signal(15, lambda *_: exit()); signal.pause()",
    )
    try:
        lab.kubectl("wait", "--for=condition=Available", "--timeout=120s", "deployment/kubepki-probe")
    finally:
        lab.kubectl("delete", "deployment", "kubepki-probe")


def test_unreachable_node_stops_everything_before_anything_is_touched(lab):
    before = snapshots(lab)
    lab.unplug("cp2")
    try:
        outcome = play(lab, "renew_leaves", {"kubepki_force": "true"})
    finally:
        lab.plug("cp2")
    assert outcome.code != 0
    assert "cp2" in outcome.output and "Nothing was changed" in outcome.output
    assert outcome.artifact["state"] == "failed"
    assert snapshots(lab) == before
    lab.up()


def test_node_lost_on_the_way_stops_the_roll(lab):
    """cp2 goes away while cp1 is being renewed: cp2 and cp3 stay as they are."""
    before = {name: snapshot(lab, name) for name in ("cp2", "cp3")}
    gone = threading.Event()

    def watch_progress(line: str) -> None:
        # cp1's certificates are being written now; the gate over all nodes is long past.
        if "Renew what is due" in line and not gone.is_set():
            gone.set()
            lab.unplug("cp2")

    try:
        outcome = play(
            lab, "renew_leaves", {"kubepki_force": "true", "kubepki_names": "front-proxy-client"}, on_line=watch_progress
        )
    finally:
        lab.plug("cp2")
    assert gone.is_set()
    assert outcome.code != 0
    lab.up()
    assert {name: snapshot(lab, name) for name in ("cp2", "cp3")} == before


def journal(name: str) -> Callable[[Path], bool]:
    return lambda root: (root / "var/lib/kubepki/journal" / name).exists()


def touched(path: Path, since: Path) -> bool:
    """Whether a file is away, or newer than another one, which is there."""
    try:
        begun = since.stat().st_mtime
    except FileNotFoundError:
        return False  # nothing is under way; it may have ended between two looks
    try:
        return path.stat().st_mtime > begun
    except FileNotFoundError:
        return True


#: What cp1's files (below its root) look like in the moment of the kill.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "files change": journal("leaves.json"),
    "manifests are parked": journal("static-pods.json"),
    "a manifest is out": lambda root: not (root / "etc/kubernetes/manifests/kube-scheduler.yaml").exists(),
    "etcd is restarted": lambda root: touched(
        root / "etc/kubernetes/manifests/etcd.yaml", root / "var/lib/kubepki/journal/static-pods.json"
    ),
}


def kill_module(lab: Lab, node: str, seen: Callable[[Path], bool], ended: threading.Event) -> bool:
    """Wait for the moment, then kill -9 Ansible's module on the node in it. False when the run ended before it came.

    What a former kill has left may look like the moment: first that has to be healed.
    """
    machine = lab.node(node)
    for looks_like_it in (True, False):
        while seen(machine.root) is looks_like_it:
            if ended.is_set():
                return False
            time.sleep(0.001)
    machine.cgroup.freeze(True)
    try:
        caught = seen(machine.root)
        # Only Ansible's modules are Python on a node.
        for pid in machine.cgroup.processes():
            if Path(f"/proc/{pid}/comm").read_text().strip().startswith("python3"):
                os.kill(pid, signal.SIGKILL)
    finally:
        machine.cgroup.freeze(False)
    return caught


def killed_at(lab: Lab, moment: str, playbook: str, variables: dict) -> None:
    """Run a playbook whose module dies on the first node in that moment, as by kill -9, and see that it says so."""
    ended = threading.Event()
    killed: list[bool] = []
    killer = threading.Thread(target=lambda: killed.append(kill_module(lab, "cp1", MOMENTS[moment], ended)))
    killer.start()
    try:
        outcome = play(lab, playbook, variables)
    finally:
        ended.set()
        killer.join()
    assert killed == [True], moment
    assert outcome.code != 0, f"{moment}: a module died, and the run did not say so"


def test_modules_killed_one_after_the_other_are_healed_by_a_rerun(lab, tmp_path):
    """Each run finds what the killed one before it had begun; the last one ends it all, and nothing is out of place."""
    names = "etcd-server,etcd-peer,front-proxy-client,controller-manager.conf,scheduler.conf"
    for number, moment in enumerate(MOMENTS):
        days = {"kubepki_names": names, "kubepki_leaf_days": 600 + number}
        # Nobody has to restart etcd for a new certificate; the pods' restart is what that moment lies in.
        killed_at(
            lab,
            moment,
            *(("restart_static_pods", {}) if moment.startswith("etcd") else ("renew_leaves", {**days, "kubepki_force": "true"})),
        )
    play(lab, "renew_leaves", {**days, "kubepki_force": "true"}).require_success()
    due = {**days, "kubepki_renew_below_days": days["kubepki_leaf_days"] - 1, "kubepki_report_dir": tmp_path}
    again = play(lab, "renew_leaves", due).require_success()
    assert set(again.changed.values()) == {0}, again.output[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    for node in lab.control_planes:
        for row in rows(report, node).values():
            assert row.get("served_sha256") in (None, row["sha256"]), row
            if row["name"] in names.split(","):
                assert row["residual_seconds"] > (days["kubepki_leaf_days"] - 1) * 86400, row
        assert [f for f in report["nodes"][node]["findings"] if f["severity"] == "error"] == []
        manifests = sorted(path for path in snapshot(lab, node) if path.startswith("/etc/kubernetes/manifests/"))
        assert manifests == [
            "/etc/kubernetes/manifests/%s.yaml" % name
            for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
        ]


def test_restart_of_all_static_pods_is_no_outage(lab):
    with lab.watch() as watch:
        outcome = play(lab, "restart_static_pods").require_success()
    assert outcome.artifact["restarted"] == 4 * len(lab.control_planes)
    assert_unnoticed(lab, watch.counts(), rolls=1, etcd_rolls=1)


def test_restore_puts_the_files_back(lab):
    def files() -> dict[str, list]:
        # A restart leaves its annotation in the manifest.
        return {path: seen for path, seen in snapshot(lab, "cp1").items() if not path.startswith("/etc/kubernetes/manifests/")}

    before = files()
    play(lab, "renew_leaves", {"kubepki_force": "true", "kubepki_names": "admin.conf,scheduler.conf"}).require_success()
    assert files() != before
    refused = play(lab, "restore")
    assert refused.code != 0 and "kubepki_confirm" in refused.output
    restored = play(lab, "restore", {"kubepki_confirm": "true"}).require_success()
    assert files() == before
    # The scheduler reads its kubeconfig once; admin.conf is nobody's.
    assert restored.artifact["restarted"] == len(lab.control_planes)


def test_threshold_fails_the_report_for_a_scheduler(lab):
    outcome = play(lab, "check_expiry", {"kubepki_fail_below_days": 100000})
    assert outcome.code != 0
    assert "days left" in outcome.output
    assert outcome.artifact["job"] == "check_expiry" and outcome.artifact["state"] != "failed"
