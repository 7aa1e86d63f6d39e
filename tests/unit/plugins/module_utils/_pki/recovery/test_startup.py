# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node of a dead cluster: processes that end and begin again, and who is well and Ready then."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import journals
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import kubelet_service
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.recovery import recovery_journal, startup

from tests.unit.support.dead_plane import Plane


@pytest.fixture
def plane(tmp_path):
    return Plane(tmp_path)


class Processes:
    """Real child processes in the place of containers."""

    def __init__(self):
        self.children = {}

    def run(self, component, stubborn=False):
        code = "import signal, time\n%sprint(1, flush=True)\ntime.sleep(60)" % (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
        )
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        child.stdout.readline()
        self.children[component] = child

    def instances(self, manifest):
        child = self.children.get(manifest.component)
        return [SimpleNamespace(pid=child.pid, component=manifest.component)] if child and child.poll() is None else []

    def alive(self, instance):
        return self.children[instance.component].poll() is None

    def container_status(self, manifest):
        return ""


@pytest.fixture
def processes():
    found = Processes()
    yield found
    for child in found.children.values():
        child.kill()
        child.wait()


class Unit:
    """A kubelet's unit that says what was done to it, in order."""

    def __init__(self, processes=None):
        self.active, self.done, self.processes = "active", [], processes

    def state(self):
        return {"load": "loaded", "active": self.active, "sub": "running", "pid": os.getpid(), "result": "success"}

    def stop(self, timeout):
        self.done.append("stop")

    def restart(self, timeout):
        living = [name for name, child in (self.processes.children if self.processes else {}).items() if child.poll() is None]
        self.done.append("start, with %s" % living)

    def complaint(self):
        return ""


@pytest.fixture
def proven(monkeypatch):
    monkeypatch.setattr(kubelet_service.Proof, "wait", lambda self, deadline: {"healthz": "ok"})


def test_processes_end_between_the_stop_and_the_start_of_the_kubelet(plane, processes, proven):
    for component in ("etcd", "kube-apiserver", "kube-scheduler"):
        processes.run(component)
    unit = Unit(processes)
    recovery_journal.begin(["etcd", "kube-apiserver"], state_dir=plane.state)
    done = startup.start(plane.layout, None, 5, plane.state, unit, processes)
    assert unit.done == ["stop", "start, with ['kube-scheduler']"] and done["ended"] == ["etcd", "kube-apiserver"]
    assert done["since"] > 0 and journals.Journal(journals.KUBELET_RESTART, plane.state).load() is None
    # A run that is killed later does not start them once more.
    assert recovery_journal.load(plane.state) == {"restart": [], "trust": False}
    assert startup.start(plane.layout, None, 5, plane.state, unit, processes) == {"kubelet": {}, "ended": [], "since": 0.0}
    assert len(unit.done) == 2


def test_a_kubelet_that_does_not_run_is_started_and_one_whose_restart_is_due_too(plane, processes, proven):
    unit = Unit()
    unit.active = "activating"
    assert startup.start(plane.layout, [], 5, plane.state, unit, processes)["since"] > 0
    unit.active = "active"
    journals.Journal(journals.KUBELET_RESTART, plane.state).save({"files": []})
    assert startup.start(plane.layout, [], 5, plane.state, unit, processes)["since"] > 0
    assert len(unit.done) == 4


def test_the_kubelet_is_started_even_when_a_process_does_not_end(plane, processes, proven, monkeypatch):
    def never(*_given):
        raise PkiError("cannot be ended")

    monkeypatch.setattr(startup, "end", never)
    unit = Unit()
    recovery_journal.begin(["etcd"], state_dir=plane.state)
    with pytest.raises(PkiError, match="cannot be ended"):
        startup.start(plane.layout, None, 5, plane.state, unit, processes)
    assert unit.done == ["stop", "start, with []"] and recovery_journal.load(plane.state)["restart"] == ["etcd"]
    assert journals.Journal(journals.KUBELET_RESTART, plane.state).load() is not None


def test_who_ignores_the_request_to_end_is_killed(plane, processes):
    processes.run("etcd", stubborn=True)
    processes.run("kube-scheduler")
    assert startup.end(list(plane.layout.parsed.values()), processes, grace=0.3) == ["etcd", "kube-scheduler"]
    assert processes.children["etcd"].wait() == -signal.SIGKILL and processes.children["kube-scheduler"].wait() == -signal.SIGTERM


def test_what_is_not_well_in_time_is_named_and_a_back_off_is_cut_short_once(plane, processes, proven, monkeypatch):
    monkeypatch.setattr(startup, "_BACKOFF_SECONDS", 0.2)
    processes.run("kube-scheduler")
    unit = Unit()
    with pytest.raises(PkiError) as caught:
        startup.wait_well(plane.layout, ["etcd", "kube-scheduler"], 1.0, unit, processes)
    assert re.search(r"etcd is not well: .*kube-scheduler is not well: ", str(caught.value)) and len(unit.done) == 1
    assert startup.wait_well(plane.layout, ["no-such-pod"], 1.0, unit, processes) == []


def test_well_is_who_is_healthy(plane, processes, monkeypatch):
    monkeypatch.setattr(startup, "_well", lambda endpoints: None)
    (done,) = startup.wait_well(plane.layout, ["etcd"], 1.0, Unit(), processes)
    assert done["name"] == "etcd"


# --- the proof ----------------------------------------------------------------------------------------------------------------


class Cloud:
    """An API with Nodes: {name: (Ready, seconds from now of the lease, of the heartbeat)}."""

    server = "https://api.example:6443"

    def __init__(self, nodes):
        self.nodes = nodes

    @staticmethod
    def _text(shift):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + shift)) + ".500000Z"

    def lease(self, name):
        return SimpleNamespace(status=200, json=lambda: {"spec": {"renewTime": self._text(self.nodes[name][1])}})

    def node(self, name):
        ready, _lease, beat = self.nodes[name]
        return SimpleNamespace(
            status=200,
            json=lambda: {
                "status": {
                    "conditions": [
                        {"type": "Ready", "status": ready, "lastHeartbeatTime": self._text(beat), "message": "kubelet is posting"}
                    ]
                }
            },
        )


@pytest.mark.parametrize(
    "node, ago, missing",
    [
        (("True", 5, -3000), None, None),
        (("True", -30, 0), None, "its lease was last renewed"),
        (("True", 5, -3000), 100, "condition was last reported"),
        (("Unknown", 5, 5), None, "is not Ready"),
    ],
)
def test_ready_is_whose_kubelet_is_heard_of_now(plane, monkeypatch, node, ago, missing):
    since = 0 if ago is None else time.time() - ago
    cloud = Cloud({"w1": node, "cp1": ("True", 5, 5)})
    monkeypatch.setattr(kubelet_client.KubeletApi, "of", lambda config: cloud)
    if missing is None:
        assert sorted(startup.wait_ready(plane.layout, {"w1": since, "cp1": 0}, 1.0)) == ["cp1", "w1"]
    else:
        with pytest.raises(PkiError, match="w1: .*" + missing):
            startup.wait_ready(plane.layout, {"w1": since, "cp1": 0}, 0.5)
