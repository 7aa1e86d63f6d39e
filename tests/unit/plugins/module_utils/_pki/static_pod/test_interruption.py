# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals during a restart put the manifests back first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import (
    manifest_mover,
    pod_restart,
)

from tests.unit.support.fakekubelet import KILLER, FakeKubelet, Node
from tests.unit.support.restarting import assert_whole, restart


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_puts_the_manifest_back_first(tmp_path, number):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    with FakeKubelet(node, stop_seconds=3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLER, str(tmp_path), "kube-scheduler", "0", "20"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 10
        while path.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        _out, err = process.communicate(timeout=10)
        assert process.returncode != 0 and "stopped by %s" % signal.Signals(number).name in err
        assert_whole(node)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_manifests_are_put_back_leaves_none_out(tmp_path, monkeypatch, number):
    node = Node(tmp_path)
    for name in ("kube-scheduler", "kube-controller-manager"):
        node.add(name)
    real = manifest_mover.ManifestMover.put_back

    def interrupted(mover, pod):
        os.kill(os.getpid(), number)
        real(mover, pod)

    def fails(_run, pod):
        yield from ()  # a generator, as the real one is
        raise PkiError("the test stops here", path=pod.path)

    def prepare(mover, pods):
        real_prepare(mover, pods)
        for pod in pods:
            os.unlink(pod.path)
            pod.is_out = True

    real_prepare = manifest_mover.ManifestMover.prepare
    monkeypatch.setattr(manifest_mover.ManifestMover, "put_back", interrupted)
    monkeypatch.setattr(pod_restart._Run, "_process_pod", fails)
    monkeypatch.setattr(manifest_mover.ManifestMover, "prepare", prepare)
    before = signal.getsignal(number)
    with FakeKubelet(node), pytest.raises(PkiError, match="the test stops here"):
        restart(node, ["kube-scheduler", "kube-controller-manager"])
    assert_whole(node)
    assert signal.getsignal(number) is before
