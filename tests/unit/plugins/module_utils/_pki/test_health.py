# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""health against apiservers and etcd members that are HTTPS servers in threads, each at a loopback address of its own."""

from __future__ import annotations

import datetime
import json
import threading
import types
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import health, kubeconfig, pki_tree, x509
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from tlsservers import Authority, Server, free_port

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


class Cluster:
    """Three apiservers at one port of three addresses, three members of etcd; pages can be changed while they run."""

    def __init__(self, directory):
        self.authority = Authority(directory)
        self.pair = self.authority.leaf("server")
        self.client = self.authority.leaf("client", usages=("client",))
        self.api = free_port()
        self.ready = {host: {"/readyz": (200, b"ok")} for host in HOSTS}
        self.servers = [Server(self.pair, self.ready[host], client_ca=self.authority.path, host=host, port=self.api)
                        for host in HOSTS]
        self.member = {host: {"/health": (200, b'{"health":"true"}'), "/v3/maintenance/status": (200, b'{"leader":"2"}')}
                       for host in HOSTS}
        self.etcds = [Server(self.pair, self.member[host], host=host) for host in HOSTS]
        members = [{"ID": str(count), "name": "cp%d" % count, "clientURLs": ["https://%s:%d" % (host, etcd.port)],
                    "peerURLs": ["https://%s:1" % host]} for count, (host, etcd) in enumerate(zip(HOSTS, self.etcds), 1)]
        self.list = (200, json.dumps({"members": members}).encode())
        self.member[HOSTS[0]]["/v3/cluster/member/list"] = self.list

    def layout(self, kubernetes_dir="/nonexistent"):
        pair = self.client[:2]
        flags = {"kube-apiserver": {"--secure-port": str(self.api)},
                 "etcd": {"--listen-client-urls": "https://127.0.0.1:%d" % self.etcds[0].port}}
        return types.SimpleNamespace(
            role=pki_tree.CONTROL_PLANE, flags=flags, kubernetes_dir=str(kubernetes_dir),
            parsed=dict.fromkeys(flags), advertise_address="127.0.0.1",
            paths={"ca": (self.authority.path, None), "etcd-ca": (self.authority.path, None), "etcd-healthcheck-client": pair,
                   "apiserver-kubelet-client": pair})

    def close(self):
        for server in self.servers + self.etcds:
            server.close()


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.close()


def test_all_well(cluster):
    result = health.look(cluster.layout())
    assert (result["healthy"], result["problems"]) == (True, [])
    assert [(item["address"], item["ready"]) for item in result["apiservers"]] == [
        ("%s:%d" % (host, cluster.api), True) for host in HOSTS]
    assert (result["etcd"]["healthy"], result["etcd"]["quorum"]) == (3, 2)
    assert [item["name"] for item in result["etcd"]["members"] if item["leader"]] == ["cp2"]


def test_an_apiserver_that_is_not_ready_and_a_member_that_is_ill_are_named(cluster):
    cluster.ready["127.0.0.2"]["/readyz"] = (500, b"[-]etcd failed: reason withheld\n")
    cluster.member["127.0.0.3"]["/health"] = (503, b'{"health":"false","reason":"RAFT NO LEADER"}')
    result = health.look(cluster.layout())
    assert result["healthy"] is False and result["etcd"]["healthy"] == 2
    assert "apiserver at 127.0.0.2:%d" % cluster.api in result["problems"][0] and "(etcd)" in result["problems"][0]
    assert "etcd's member cp3" in result["problems"][1] and "RAFT NO LEADER" in result["problems"][1]
    with pytest.raises(PkiError) as error:
        health.require(dict(result, waited=0.0))
    assert "127.0.0.2" in str(error.value) and "cp3" in str(error.value)


@pytest.mark.parametrize("status", [401, 403])
def test_an_apiserver_that_tells_nobody_whether_it_is_ready_is_not_taken_for_ready(cluster, status):
    cluster.ready["127.0.0.2"]["/readyz"] = (status, b"Forbidden")
    result = health.look(cluster.layout())
    assert result["healthy"] is False
    assert "127.0.0.2" in result["problems"][0] and "HTTP %d" % status in result["problems"][0]


def test_admin_conf_is_asked_where_the_others_may_not(cluster, tmp_path):
    admin = cluster.authority.leaf("admin", usages=("client",))
    pair = [Path(path).read_bytes() for path in admin[:2]]
    (tmp_path / "admin.conf").write_text(kubeconfig.build("https://127.0.0.1:1", b"x", "kubernetes-admin", *pair))
    cluster.ready["127.0.0.2"]["/readyz"] = lambda peer: (200, b"ok") if "admin" in str(peer) else (403, b"Forbidden")
    result = health.look(cluster.layout(tmp_path))
    assert result["healthy"] is True, result["problems"]


def test_skipped_addresses_are_not_asked(cluster):
    cluster.ready["127.0.0.2"]["/readyz"] = (500, b"")
    cluster.member["127.0.0.2"]["/health"] = (503, b"")
    result = health.wait(cluster.layout(), 0, expect=3, skip=["127.0.0.2"])
    assert result["healthy"] and len(result["apiservers"]) == 2 and len(result["etcd"]["members"]) == 2
    assert not cluster.servers[1].asked


def test_an_expired_serving_certificate_is_named(cluster):
    old = cluster.authority.leaf("old", days=1.0, start=x509.now() - datetime.timedelta(days=9))
    cluster.servers[2].context.load_cert_chain(old[0], old[1])
    result = health.look(cluster.layout())
    assert result["problems"] == ["the apiserver at 127.0.0.3:%d is not ready: serves an expired certificate" % cluster.api]


@pytest.mark.parametrize("known", [1, 2])
def test_a_slice_of_the_inventory_is_refused_at_once(cluster, known):
    result = health.wait(cluster.layout(), 60, expect=known, known=known)
    assert not result["healthy"] and result["waited"] < 30
    assert result["problems"] == [
        "etcd has 3 members (cp1, cp2, cp3), and the inventory of this run names only %d nodes that can be one; run it with the "
        "whole inventory, and in AWX without job slices" % known]


@pytest.mark.parametrize("known", [0, 3, 4])
def test_an_inventory_of_all_members_is_not_refused(cluster, known):
    assert health.wait(cluster.layout(), 0, known=known)["problems"] == []


def test_missing_nodes_are_counted(cluster):
    result = health.wait(cluster.layout(), 0, expect=5)
    assert [problem for problem in result["problems"] if "expected" in problem] == [
        "3 apiservers are known, where 5 control-plane nodes are expected",
        "etcd has 3 members, where 5 control-plane nodes are expected"]


def test_no_member_list_is_a_problem_and_no_crash(cluster):
    cluster.member[HOSTS[0]]["/v3/cluster/member/list"] = (500, b"")
    result = health.look(cluster.layout())
    assert result["etcd"] is None and "members are unknown" in result["problems"][0]


def test_waiting_ends_when_it_is_well_again(cluster):
    cluster.ready["127.0.0.2"]["/readyz"] = (500, b"")
    threading.Timer(0.5, lambda: cluster.ready["127.0.0.2"].update({"/readyz": (200, b"ok")})).start()
    result = health.wait(cluster.layout(), 20, expect=3)
    assert result["healthy"] and 0.4 < result["waited"] < 20
