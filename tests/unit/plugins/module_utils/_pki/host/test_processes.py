# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of since when components run."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host.processes import Processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node.containers import Runtime

from tests.unit.support.fake_proc import API_UID, BOOTED, STATIC_UID, UPTIME, FakeProc, unit


@pytest.fixture
def proc(tmp_path):
    return FakeProc(tmp_path)


def seen(proc, show=None):
    return Processes(str(proc.root), show)


class TestComponents:
    @pytest.fixture
    def reader(self, proc):
        proc.add(40, ["/usr/bin/kubelet", "--root-dir=%s" % proc.kubelet_dir], started=50)
        return seen(proc, unit(40))

    def test_since_when_they_run(self, proc, reader):
        proc.container(50, "etcd", started=200)
        proc.container(51, "etcd", command=["etcdctl"], started=300)  # a probe in the same container
        proc.container(52, "etcd", API_UID, started=400)
        proc.add(53, ["etcd"], started=500)
        assert reader.component_started("etcd") == 200
        assert reader.component_started("kubelet") == 50
        assert reader.component_started("kube-apiserver") == -1

    def test_whether_they_are_older_than_a_file(self, proc, reader, tmp_path):
        path = tmp_path / "scheduler.conf"
        path.write_text("x")
        words = ["kube-scheduler", "--kubeconfig=%s" % path]
        os.utime(path, (0, BOOTED + 300))
        proc.add(49, words)
        proc.add(48, words, uids="65534\t65534\t65534\t65534", pid_ns="pod", mnt_ns="pod")
        proc.container(51, "kube-scheduler", API_UID, words)
        assert not reader.older_than("kube-scheduler", str(path))
        proc.container(50, "kube-scheduler", command=words, started=200)
        assert reader.older_than("kube-scheduler", str(path))
        assert not reader.older_than("kube-controller-manager", str(path))
        assert not reader.older_than("kube-scheduler", str(tmp_path / "other.conf"))
        os.utime(path, (0, BOOTED + 201))
        assert not reader.older_than("kube-scheduler", str(path))

    def test_a_pod_of_the_api_with_a_static_pods_name_is_not_it(self, proc, reader, tmp_path):
        logs = tmp_path / "logs"
        for uid in (STATIC_UID, API_UID):
            (logs / ("kube-system_etcd-node_%s" % uid)).mkdir(parents=True)
        proc.container(50, "etcd", started=200)
        proc.container(51, "etcd", API_UID, started=400)
        runtime = Runtime(str(proc.kubelet_dir), str(logs), "node", seen=reader)
        etcd = SimpleNamespace(namespace="kube-system", name="etcd", component="etcd", data={"metadata": {"name": "etcd"}})
        assert [item.pid for item in runtime.instances(etcd)] == [50]
        assert runtime.age(runtime.instances(etcd)[0]) == UPTIME - 200
        # A manifest may name its pod's UID.
        etcd.data["metadata"]["uid"] = API_UID
        assert {item.pid for item in runtime.instances(etcd)} == {50, 51}
