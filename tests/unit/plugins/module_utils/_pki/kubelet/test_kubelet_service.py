# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubelet that was restarted: what proves it, and what is said where the proof does not come."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import journals
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import kubelet_service

from tests.unit.support import throwaway
from tests.unit.support.worker import Said, Worker


@pytest.fixture
def worker(tmp_path):
    return Worker(tmp_path, throwaway.Cluster())


class Healthz(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def healthz(worker):
    server = HTTPServer(("127.0.0.1", 0), Healthz)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = worker.node.path("/var/lib/kubelet/config.yaml")
    config.write_text(config.read_text() + "healthzPort: %d\n" % server.server_port)
    yield server
    server.shutdown()
    server.server_close()


class Unit:
    """A unit that is restarted: process 100 becomes this test's own, which began before, or what the test says."""

    def __init__(self, pid=200, active="active", age=0.0):
        self.pid, self.active, self.age, self.restarts = 100, active, age, 0
        self.next = pid

    def state(self):
        return {"pid": self.pid, "active": self.active, "sub": "running", "result": "success", "load": "loaded"}

    def restart(self, timeout):
        self.restarts += 1
        self.pid = self.next

    def started(self, pid):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.age

    def complaint(self):
        return "E1121 bad certificate"


class Cloud:
    """An API with one Node. lease, heartbeat: seconds after the restart that it tells."""

    def __init__(self, lease=1.0, heartbeat=1.0, ready="True", status=200):
        self.offsets, self.ready_status, self.status = (lease, heartbeat), ready, status

    @staticmethod
    def _at(offset, pattern):
        return time.strftime(pattern, time.gmtime(time.time() + offset))

    def lease(self, name):
        return Said({"spec": {"renewTime": self._at(self.offsets[0], "%Y-%m-%dT%H:%M:%S.000000Z")}}, self.status)

    def node(self, name):
        heartbeat = self._at(self.offsets[1], "%Y-%m-%dT%H:%M:%SZ")
        ready = {
            "type": "Ready",
            "status": self.ready_status,
            "lastHeartbeatTime": heartbeat,
            "message": "container runtime is down",
        }
        return Said({"status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, ready]}})


def _restart(worker, monkeypatch, unit=None, cloud=None, ready=True):
    monkeypatch.setattr(
        kubelet_client.KubeletApi, "of", classmethod(lambda cls, config, timeout=5.0, strict=False: cloud or Cloud())
    )
    return kubelet_service.restart(worker.layout, 0.3, ready, worker.state, unit or Unit())


def test_a_restart_returns_what_was_seen(worker, healthz, monkeypatch):
    unit = Unit()
    seen = _restart(worker, monkeypatch, unit)
    assert unit.restarts == 1
    assert (seen["pid"], seen["healthz"], seen["ready"]) == (200, "ok", True)
    assert journals.Journal(journals.KUBELET_RESTART, worker.state).load() is None


@pytest.mark.parametrize(
    ("unit", "cloud", "text"),
    [
        (Unit(pid=100), None, "the old process 100 still runs"),
        (Unit(age=60.0), None, "the old process 200 still runs"),
        (Unit(active="activating"), None, "its unit is activating"),
        (None, Cloud(lease=-60), "lease was last renewed"),
        (None, Cloud(heartbeat=-60), "condition was last reported"),
        (None, Cloud(ready="False"), "not Ready (container runtime is down)"),
        (None, Cloud(status=401), "HTTP 401 about its lease"),
    ],
)
def test_without_proof_the_restart_stays_due(worker, healthz, monkeypatch, unit, cloud, text):
    with pytest.raises(PkiError) as caught:
        _restart(worker, monkeypatch, unit, cloud)
    assert text in str(caught.value) and "E1121 bad certificate" in str(caught.value)
    assert worker.examine()["action"] == "restart"


def test_a_kubelet_without_health_is_not_proven(worker, healthz, monkeypatch):
    healthz.shutdown()
    healthz.server_close()
    with pytest.raises(PkiError, match="healthz cannot be asked"):
        _restart(worker, monkeypatch)


def test_without_an_api_process_and_health_have_to_do(worker, healthz, monkeypatch):
    monkeypatch.setattr(
        kubelet_client.KubeletApi, "of", classmethod(lambda cls, config, timeout=5.0, strict=False: pytest.fail("asked"))
    )
    assert kubelet_service.restart(worker.layout, 0.3, False, worker.state, Unit())["healthz"] == "ok"


def test_the_time_at_which_a_process_began_is_its_own():
    started = kubelet_service.Service.started(os.getpid())
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 <= now - started < 3600
    child = subprocess.Popen(["sleep", "5"])
    try:
        assert kubelet_service.Service.started(child.pid) >= now - 0.02
    finally:
        child.kill()
        child.wait()
    assert kubelet_service.Service.started(child.pid) is None
