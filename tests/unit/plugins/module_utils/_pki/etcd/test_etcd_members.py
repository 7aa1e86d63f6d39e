# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd's members, against HTTP servers that answer as its JSON gateway does."""

from __future__ import annotations

import json

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import discovery, health_checks
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.etcd import etcd_members

from tests.unit.support.tlsservers import Server, free_port


@pytest.fixture
def serve():
    """Start servers with pages; they end with the test."""
    running = []

    def start(pages=None):
        running.append(Server(None, pages or {}))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.mark.parametrize(
    "status, body, healthy",
    [
        (200, b'{"health":"true","reason":""}', True),
        (200, b'{"health": "false"}', False),
        (503, b'{"health":"false","reason":"RAFT NO LEADER"}', False),
    ],
)
def test_etcd_health(serve, status, body, healthy):
    server = serve(pages={"/health": (status, body)})
    assert etcd_members.health(server.url())[0] is healthy
    endpoint = discovery.Endpoint("etcd-server", "etcd", "127.0.0.1", server.port, health=server.url("/health"))
    assert health_checks.health(endpoint)[0] is healthy


MEMBERS = {
    "header": {},
    "members": [
        {
            "ID": "9372538179322589801",
            "name": "cp1",
            "peerURLs": ["https://10.0.0.1:2380"],
            "clientURLs": ["https://10.0.0.1:2379"],
        },
        {"ID": "10501334649042878790", "name": "", "peerURLs": ["https://10.0.0.2:2380"], "isLearner": True},
    ],
}


def test_etcd_members_from_the_gateway_old_gateway_and_peer(serve):
    expected = [
        {
            "id": "9372538179322589801",
            "name": "cp1",
            "client_urls": ["https://10.0.0.1:2379"],
            "peer_urls": ["https://10.0.0.1:2380"],
            "learner": False,
        },
        {"id": "10501334649042878790", "name": "", "client_urls": [], "peer_urls": ["https://10.0.0.2:2380"], "learner": True},
    ]
    body = json.dumps(MEMBERS).encode()
    assert etcd_members.members(serve(pages={"/v3/cluster/member/list": (200, body)}).url()) == expected
    assert etcd_members.members(serve(pages={"/v3beta/cluster/member/list": (200, body)}).url() + "/") == expected
    peers = json.dumps(
        [
            {
                "id": 9372538179322589801,
                "peerURLs": ["https://10.0.0.1:2380"],
                "name": "cp1",
                "clientURLs": ["https://10.0.0.1:2379"],
            }
        ]
    ).encode()
    broken, peer = serve(pages={}), serve(pages={"/members": (200, peers)})
    assert etcd_members.members(broken.url(), peer_url=peer.url()) == expected[:1]
    with pytest.raises(PkiError) as error:
        etcd_members.members(broken.url())
    assert "404" in str(error.value)


def test_leader(serve):
    assert etcd_members.leader(serve(pages={"/v3/maintenance/status": (200, b'{"leader":"42"}')}).url()) == "42"
    assert etcd_members.leader(serve(pages={"/v3/maintenance/status": (200, b'{"leader":"0"}')}).url()) is None
    assert etcd_members.leader("http://127.0.0.1:%d" % free_port()) is None


@pytest.fixture
def cluster(serve):
    """Three members; 1 is asked. started: {ID: when}; without one, a member serves no metrics."""

    def make(leader, started, version="v3"):
        others = {
            key: serve({"/metrics": (200, b"# HELP x\nprocess_start_time_seconds %s\n" % moment) if moment else (404, b"")})
            for key, moment in started.items()
        }
        members = [{"ID": "1", "name": "cp1", "clientURLs": ["http://127.0.0.1:1"]}] + [
            {"ID": key, "name": "cp" + key, "clientURLs": [server.url()]} for key, server in others.items()
        ]
        status = {"header": {"member_id": "1"}, "leader": leader}
        own = serve(
            {
                "/%s/%s" % (version, name): (200, json.dumps(answer).encode())
                for name, answer in {
                    "maintenance/status": status,
                    "cluster/member/list": {"members": members},
                    "maintenance/transfer-leadership": {},
                }.items()
            }
        )
        own.moved = lambda: [path for _method, path, _peer in own.asked if path.endswith("transfer-leadership")]
        return own

    return make


def test_the_leadership_goes_to_the_member_that_was_started_last(cluster):
    own = cluster("1", {"2": b"1.7637e+09", "3": b"1.7638e+09"})
    assert etcd_members.hand_over(own.url()) == "cp3"
    assert own.moved() == ["/v3/maintenance/transfer-leadership"]
    assert etcd_members.hand_over(cluster("1", {"2": b"5.5", "3": b"4"}, version="v3beta").url()) == "cp2"


def test_a_member_that_does_not_answer_is_given_nothing(cluster):
    assert etcd_members.hand_over(cluster("1", {"2": b"1e9", "3": None}).url()) == "cp2"
    silent = cluster("1", {"2": None, "3": None})
    assert etcd_members.hand_over(silent.url()) is None and silent.moved() == []


def test_a_member_that_does_not_lead_or_is_alone_or_away_hands_nothing_over(cluster):
    follower = cluster("2", {"2": b"1e9", "3": b"2e9"})
    assert etcd_members.hand_over(follower.url()) is None and follower.moved() == []
    single = cluster("1", {})
    assert etcd_members.hand_over(single.url()) is None and single.moved() == []
    assert etcd_members.hand_over("http://127.0.0.1:%d" % free_port()) is None
