# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""health against apiservers and etcd members that are HTTPS servers in threads, each at a loopback address of its own."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
import types
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import http_client, tls
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import control_plane_health
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read

from tests.unit.support import throwaway
from tests.unit.support.tlsservers import Authority, Server, free_port

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


class Cluster:
    """Three apiservers at one port of three addresses, three members of etcd; pages can be changed while they run."""

    def __init__(self, directory):
        self.authority = Authority(directory)
        self.pair = self.authority.leaf("server")
        self.client = self.authority.leaf("client", usages=("client",))
        self.api = free_port()
        self.ready = {host: {"/readyz": (200, b"ok")} for host in HOSTS}
        self.servers = [
            Server(self.pair, self.ready[host], client_ca=self.authority.path, host=host, port=self.api) for host in HOSTS
        ]
        self.member = {
            host: {"/health": (200, b'{"health":"true"}'), "/v3/maintenance/status": (200, b'{"leader":"2"}')} for host in HOSTS
        }
        self.etcds = [Server(self.pair, self.member[host], host=host) for host in HOSTS]
        members = [
            {
                "ID": str(count),
                "name": "cp%d" % count,
                "clientURLs": ["https://%s:%d" % (host, etcd.port)],
                "peerURLs": ["https://%s:1" % host],
            }
            for count, (host, etcd) in enumerate(zip(HOSTS, self.etcds), 1)
        ]
        self.list = (200, json.dumps({"members": members}).encode())
        self.member[HOSTS[0]]["/v3/cluster/member/list"] = self.list

    def layout(self, kubernetes_dir="/nonexistent"):
        pair = self.client[:2]
        flags = {
            "kube-apiserver": {"--secure-port": str(self.api)},
            "etcd": {"--listen-client-urls": "https://127.0.0.1:%d" % self.etcds[0].port},
        }
        return types.SimpleNamespace(
            role=layouts.CONTROL_PLANE,
            flags=flags,
            kubernetes_dir=str(kubernetes_dir),
            parsed=dict.fromkeys(flags),
            advertise_address="127.0.0.1",
            paths={
                "ca": (self.authority.path, None),
                "etcd-ca": (self.authority.path, None),
                "etcd-healthcheck-client": pair,
                "apiserver-kubelet-client": pair,
            },
        )

    def close(self):
        for server in self.servers + self.etcds:
            server.close()


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.close()


def test_all_well(cluster):
    result = control_plane_health.look(cluster.layout())
    assert (result["healthy"], result["problems"]) == (True, [])
    assert [(item["address"], item["ready"]) for item in result["apiservers"]] == [
        ("%s:%d" % (host, cluster.api), True) for host in HOSTS
    ]
    assert (result["etcd"]["healthy"], result["etcd"]["quorum"]) == (3, 2)
    assert [item["name"] for item in result["etcd"]["members"] if item["leader"]] == ["cp2"]


def test_an_apiserver_that_is_not_ready_and_a_member_that_is_ill_are_named(cluster):
    cluster.ready["127.0.0.2"]["/readyz"] = (500, b"[-]etcd failed: reason withheld\n")
    cluster.member["127.0.0.3"]["/health"] = (503, b'{"health":"false","reason":"RAFT NO LEADER"}')
    result = control_plane_health.look(cluster.layout())
    assert result["healthy"] is False and result["etcd"]["healthy"] == 2
    assert "apiserver at 127.0.0.2:%d" % cluster.api in result["problems"][0] and "(etcd)" in result["problems"][0]
    assert "etcd's member cp3" in result["problems"][1] and "RAFT NO LEADER" in result["problems"][1]
    with pytest.raises(PkiError) as error:
        control_plane_health.require(dict(result, waited=0.0))
    assert "127.0.0.2" in str(error.value) and "cp3" in str(error.value)


@pytest.mark.parametrize("status", [401, 403])
def test_an_apiserver_that_tells_nobody_whether_it_is_ready_is_not_taken_for_ready(cluster, status):
    cluster.ready["127.0.0.2"]["/readyz"] = (status, b"Forbidden")
    result = control_plane_health.look(cluster.layout())
    assert result["healthy"] is False
    assert "127.0.0.2" in result["problems"][0] and "HTTP %d" % status in result["problems"][0]


def test_admin_conf_is_asked_where_the_others_may_not(cluster, tmp_path):
    admin = cluster.authority.leaf("admin", usages=("client",))
    pair = [Path(path).read_bytes() for path in admin[:2]]
    (tmp_path / "admin.conf").write_text(kubeconfig.build("https://127.0.0.1:1", b"x", "kubernetes-admin", *pair))
    cluster.ready["127.0.0.2"]["/readyz"] = lambda peer: (200, b"ok") if "admin" in str(peer) else (403, b"Forbidden")
    result = control_plane_health.look(cluster.layout(tmp_path))
    assert result["healthy"] is True, result["problems"]


def test_readiness_is_asked_again_without_a_refused_client_certificate(cluster):
    for host, server in zip(HOSTS, cluster.servers):
        server.context.verify_mode = ssl.CERT_OPTIONAL
        cluster.ready[host]["/readyz"] = lambda peer: (401, b"") if peer else (200, b"ok")
    assert control_plane_health.look(cluster.layout())["problems"] == []
    assert [bool(peer) for _method, _path, peer in cluster.servers[1].asked] == [True, False]


@pytest.fixture
def clients(cluster):
    """One that has expired, the two halves of different pairs, and a good one; etcd asks for one of its authority's."""
    for server in cluster.etcds:
        server.context.load_verify_locations(cluster.authority.path)
        server.context.verify_mode = ssl.CERT_REQUIRED
    old = cluster.authority.leaf("expired", usages=("client",), days=1.0, start=x509_read.now() - datetime.timedelta(days=9))
    return {
        "expired": old[:2],
        "torn": (cluster.authority.leaf("other", usages=("client",))[0], cluster.client[1]),
        "good": cluster.client[:2],
    }


@pytest.mark.parametrize("first", ["expired", "torn"])
@pytest.mark.parametrize("good", ["apiserver-etcd-client", "etcd-server"])
def test_etcd_is_asked_with_the_next_client_where_one_is_not_let_in(cluster, clients, first, good):
    layout = cluster.layout()
    layout.paths.update({"etcd-healthcheck-client": clients[first], "apiserver-etcd-client": clients[first]})
    layout.paths[good] = clients["good"]
    result = control_plane_health.look(layout)
    assert result["problems"] == [] and result["etcd"]["healthy"] == 3
    assert [item["name"] for item in result["etcd"]["members"] if item["leader"]] == ["cp2"]


def test_etcd_says_why_where_it_lets_nobody_in(cluster, clients):
    for server in cluster.etcds:
        # In TLS 1.3 the client has sent its request by then, and the server's reason can be lost with the connection.
        server.context.maximum_version = ssl.TLSVersion.TLSv1_2
    layout = cluster.layout()
    layout.paths.update({"etcd-healthcheck-client": clients["expired"], "apiserver-etcd-client": clients["torn"]})
    result = control_plane_health.wait(layout, 0)
    assert "expired" in result["problems"][0]
    with pytest.raises(PkiError, match="playbook recover"):
        control_plane_health.require(result)


def test_the_first_client_that_is_let_in_is_the_only_one_that_asks(cluster, clients):
    layout = cluster.layout()
    layout.paths.update({"apiserver-etcd-client": clients["good"], "etcd-server": clients["good"]})
    control_plane_health.look(layout)
    assert [path for _method, path, _peer in cluster.etcds[1].asked] == ["/health"]
    assert [path for _method, path, _peer in cluster.servers[1].asked] == ["/readyz?verbose"]


@pytest.mark.parametrize("admin", [True, False])
def test_an_apiserver_is_asked_without_a_pair_that_does_not_belong_together(cluster, clients, tmp_path, admin):
    for server in cluster.servers:
        server.context.verify_mode = ssl.CERT_OPTIONAL
    if admin:
        pair = [Path(path).read_bytes() for path in clients["good"]]
        (tmp_path / "admin.conf").write_text(kubeconfig.build("https://127.0.0.1:1", b"x", "kubernetes-admin", *pair))
    layout = cluster.layout(tmp_path)
    layout.paths["apiserver-kubelet-client"] = clients["torn"]
    assert control_plane_health.look(layout)["problems"] == []
    assert [bool(peer) for _method, _path, peer in cluster.servers[1].asked] == [admin]


def test_nobody_who_does_not_answer_is_asked_again(cluster, clients, monkeypatch):
    layout = cluster.layout()
    layout.paths.update({"apiserver-etcd-client": clients["good"], "etcd-server": clients["good"]})
    cluster.etcds[2].close()
    tried, unreachable = [], tls.unreachable
    monkeypatch.setattr(
        http_client, "unreachable", lambda host, port, error: tried.append(port) or unreachable(host, port, error)
    )
    assert "connection refused" in control_plane_health.look(layout)["problems"][0]
    assert tried == [cluster.etcds[2].port]
    cluster.etcds.pop()


def test_skipped_addresses_are_not_asked(cluster):
    cluster.ready["127.0.0.2"]["/readyz"] = (500, b"")
    cluster.member["127.0.0.2"]["/health"] = (503, b"")
    result = control_plane_health.wait(cluster.layout(), 0, expect=3, skip=["127.0.0.2"])
    assert result["healthy"] and len(result["apiservers"]) == 2 and len(result["etcd"]["members"]) == 2
    assert not cluster.servers[1].asked


def test_an_expired_serving_certificate_is_named(cluster):
    old = cluster.authority.leaf("old", days=1.0, start=x509_read.now() - datetime.timedelta(days=9))
    cluster.servers[2].context.load_cert_chain(old[0], old[1])
    result = control_plane_health.look(cluster.layout())
    assert result["problems"] == ["the apiserver at 127.0.0.3:%d is not ready: serves an expired certificate" % cluster.api]
    with pytest.raises(PkiError) as error:
        control_plane_health.require(dict(result, waited=0.0))
    assert "playbook recover" in error.value.fix and "journalctl" not in error.value.fix


@pytest.mark.parametrize("known", [1, 2])
def test_a_slice_of_the_inventory_is_refused_at_once(cluster, known):
    result = control_plane_health.wait(cluster.layout(), 60, expect=known, known=known)
    assert not result["healthy"] and result["waited"] < 30
    assert result["problems"] == [
        "etcd has 3 members (cp1, cp2, cp3), and the inventory of this run names only %d nodes that can be one; run it with the "
        "whole inventory, and in AWX without job slices" % known
    ]


@pytest.mark.parametrize("known", [0, 3, 4])
def test_an_inventory_of_all_members_is_not_refused(cluster, known):
    assert control_plane_health.wait(cluster.layout(), 0, known=known)["problems"] == []


def test_missing_nodes_are_counted(cluster):
    result = control_plane_health.wait(cluster.layout(), 0, expect=5)
    assert [problem for problem in result["problems"] if "expected" in problem] == [
        "3 apiservers are known, where 5 control-plane nodes are expected",
        "etcd has 3 members, where 5 control-plane nodes are expected",
    ]


def test_no_member_list_is_a_problem_and_no_crash(cluster):
    cluster.member[HOSTS[0]]["/v3/cluster/member/list"] = (500, b"")
    result = control_plane_health.look(cluster.layout())
    assert result["etcd"] is None and "members are unknown" in result["problems"][0]


def test_waiting_ends_when_it_is_well_again(cluster):
    cluster.ready["127.0.0.2"]["/readyz"] = (500, b"")
    threading.Timer(0.5, lambda: cluster.ready["127.0.0.2"].update({"/readyz": (200, b"ok")})).start()
    result = control_plane_health.wait(cluster.layout(), 20, expect=3)
    assert result["healthy"] and 0.4 < result["waited"] < 20


class TestExternalEtcd:
    """No etcd among the static pods: the apiservers themselves say who they are."""

    PAGE = "/api/v1/namespaces/default/endpoints/kubernetes"

    @pytest.fixture
    def layout(self, cluster):
        found = cluster.layout()
        del found.flags["etcd"]
        found.parsed = {"kube-apiserver": None}
        servers = ["https://127.0.0.1:%d" % etcd.port for etcd in cluster.etcds[:1]]
        found.flags["kube-apiserver"]["--etcd-servers"] = ",".join(servers)
        found.paths["apiserver-etcd-client"] = found.paths.pop("etcd-healthcheck-client")
        self.registered(cluster, HOSTS)
        return found

    def registered(self, cluster, hosts):
        subset = {"addresses": [{"ip": host} for host in hosts], "ports": [{"port": cluster.api}]}
        cluster.ready["127.0.0.1"][self.PAGE] = (200, json.dumps({"kind": "Endpoints", "subsets": [subset]}).encode())

    @pytest.mark.parametrize("known", [0, 3, 6])
    def test_every_apiserver_is_asked_however_many_members_there_are(self, cluster, layout, known):
        result = control_plane_health.wait(layout, 0, expect=3, known=known)
        assert result["problems"] == [] and result["healthy"]
        assert [item["address"] for item in result["apiservers"]] == ["%s:%d" % (host, cluster.api) for host in HOSTS]
        assert all(server.asked for server in cluster.servers) and result["etcd"]["healthy"] == 3

    def test_one_apiserver_before_more_members_than_the_inventory_has_hosts(self, cluster, layout):
        self.registered(cluster, HOSTS[:1])
        assert control_plane_health.wait(layout, 0, expect=1, known=1)["problems"] == []

    def test_one_that_is_not_ready_or_has_ended_is_told(self, cluster, layout):
        cluster.ready["127.0.0.2"]["/readyz"] = (500, b"")
        assert "apiserver at 127.0.0.2" in control_plane_health.wait(layout, 0, expect=3)["problems"][0]
        cluster.ready["127.0.0.2"]["/readyz"] = (200, b"ok")
        self.registered(cluster, ["127.0.0.1", "127.0.0.3"])
        assert control_plane_health.wait(layout, 0, expect=3)["problems"] == [
            "2 apiservers are known, where 3 control-plane nodes are expected"
        ]

    def test_this_nodes_own_is_asked_before_it_has_registered(self, cluster, layout):
        self.registered(cluster, HOSTS[1:])
        assert control_plane_health.wait(layout, 0, expect=3)["healthy"]

    def test_a_slice_of_the_inventory_is_refused(self, layout):
        (problem,) = control_plane_health.wait(layout, 0, expect=2, known=5)["problems"]
        assert problem.startswith("there are 3 apiservers (127.0.0.1:") and "names only 2 control-plane nodes" in problem
        assert control_plane_health.wait(layout, 0, expect=2)["healthy"]  # nobody asked for the whole inventory

    @pytest.mark.parametrize("status", [401, 403, 500])
    def test_why_the_others_are_not_known_is_told(self, cluster, layout, status):
        cluster.ready["127.0.0.1"][self.PAGE] = (status, b"{}")
        (problem,) = control_plane_health.wait(layout, 0, expect=3)["problems"]
        assert "1 apiservers are known" in problem and "HTTP %d for %s" % (status, self.PAGE) in problem
        assert control_plane_health.wait(layout, 0, expect=1)["healthy"]  # a single one knows itself

    def test_admin_conf_asks_where_the_kubelets_client_may_not(self, cluster, layout, tmp_path):
        admin = cluster.authority.leaf("admin", usages=("client",))
        pair = [Path(path).read_bytes() for path in admin[:2]]
        (tmp_path / "admin.conf").write_text(kubeconfig.build("https://127.0.0.1:1", b"x", "kubernetes-admin", *pair))
        page = cluster.ready["127.0.0.1"][self.PAGE]
        cluster.ready["127.0.0.1"][self.PAGE] = lambda peer: page if "admin" in str(peer) else (403, b"Forbidden")
        layout.kubernetes_dir = str(tmp_path)
        assert control_plane_health.wait(layout, 0, expect=3)["healthy"]

    def test_an_etcd_that_keeps_its_members_to_itself_answers_at_the_addresses_named(self, cluster, layout):
        cluster.member[HOSTS[0]].clear()
        cluster.member[HOSTS[0]]["/health"] = (200, b'{"health":"true"}')
        result = control_plane_health.look(layout)
        assert result["healthy"] and [item["url"] for item in result["etcd"]["members"]] == [
            "https://127.0.0.1:%d" % cluster.etcds[0].port
        ]
        cluster.member[HOSTS[0]]["/health"] = (503, b'{"health":"false"}')
        assert "is not healthy" in control_plane_health.look(layout)["problems"][0]


class TestHostOfEtcd:
    """From a node of an external etcd its members are asked, and nobody else."""

    @pytest.fixture
    def layout(self, cluster):
        found = cluster.layout()
        del found.flags["kube-apiserver"]
        found.parsed, found.role = {"etcd": None}, layouts.ETCD
        return found

    def test_all_members_and_no_apiserver_are_asked(self, cluster, layout):
        result = control_plane_health.wait(layout, 0, expect=5)
        assert (result["problems"], result["apiservers"], result["etcd"]["healthy"]) == ([], [], 3)
        assert not any(server.asked for server in cluster.servers)

    def test_a_member_that_is_ill_is_named(self, cluster, layout):
        cluster.member["127.0.0.3"]["/health"] = (503, b'{"health":"false"}')
        (problem,) = control_plane_health.wait(layout, 0, expect=1)["problems"]
        assert "etcd's member cp3" in problem

    @pytest.mark.parametrize("role", ["etcd", "none"])
    def test_a_host_without_a_static_pod_is_not_refused(self, tmp_path, role):
        node = throwaway.Node(tmp_path, role=role)
        found = (
            layouts.find_layout(root=str(node.root))
            if role == "etcd"
            else layouts.find_layout(str(tmp_path / "nothing"), str(tmp_path / "none"))
        )
        assert (found.role, found.parsed) == ({"etcd": layouts.ETCD, "none": layouts.NONE}[role], {})
        result = control_plane_health.wait(found, 0, expect=3)
        assert (result["healthy"], result["etcd"], result["apiservers"]) == (True, None, [])
