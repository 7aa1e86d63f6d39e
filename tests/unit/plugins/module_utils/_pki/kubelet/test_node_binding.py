# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host is which Node, and what proves it."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import node_identity
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    client_certificate,
    client_request,
    client_signing,
    node_binding,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import csr_read, x509_sign

from tests.unit.support import throwaway
from tests.unit.support.worker import Worker, signing_entry


@pytest.fixture
def cluster():
    return throwaway.Cluster()


@pytest.fixture
def worker(tmp_path, cluster):
    found = Worker(tmp_path, cluster)
    # kubelet.conf of a joined worker names nobody ("default-auth"): the name comes from its certificate.
    assert found.layout.node_name == "w1"
    return found


KEY = throwaway.key("requester")


def _nodes(names, hosts, addresses=None):
    items = [
        {
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}] if (address := (addresses or {}).get(name)) else []
            },
        }
        for name in names
    ]
    return node_identity.Nodes(items, node_binding.inventory_of(hosts))


def vouch(worker, request):
    return node_binding.vouch(request, client_certificate.credential_in_use(worker.layout))


def _signed(cluster, entry, nodes, cas=()):
    def require_bound(entry, request):
        node_binding.require_bound(entry, request, nodes, cas or [cluster.cas["ca"]])

    return client_signing.sign_requests([entry], cluster.cas["ca"], cluster.keys["ca"], 30, None, require_bound)


OWN = x509_sign.Profile("system:node:w1", ["system:nodes"])


@pytest.mark.parametrize(
    ("host", "hosts", "addresses"),
    [
        ("w1", {"w1": "", "w2": ""}, {}),
        ("w1.example.com", {"w1.example.com": "", "w2": ""}, {}),
        ("blade-7", {"blade-7": "10.0.0.5", "w2": ""}, {"w1": "10.0.0.5"}),
    ],
)
def test_a_host_is_its_node_by_name_or_by_an_address_that_both_have(cluster, host, hosts, addresses):
    assert _signed(cluster, signing_entry(OWN, KEY, host), _nodes(["w1", "w2"], hosts, addresses))


@pytest.mark.parametrize(
    ("host", "hosts", "addresses"),
    [
        ("w2", {"w1": "", "w2": ""}, {}),
        ("w2", {"w1.example.com": "", "w2": ""}, {}),
        ("blade-7", {"blade-7": "10.0.0.5", "w2": ""}, {}),
        ("blade-7", {"blade-7": "10.0.0.5", "blade-8": "10.0.0.6"}, {"w1": "10.0.0.6"}),
        ("blade-7", {"blade-7": "10.0.0.5"}, {"w1": "10.0.0.5", "w2": "10.0.0.5"}),
        ("not-there", {"w2": ""}, {}),
    ],
)
def test_a_node_that_is_not_proven_to_be_the_hosts_is_not_signed_for(cluster, host, hosts, addresses):
    with pytest.raises(PkiError, match="says that it is the Node w1") as caught:
        _signed(cluster, signing_entry(OWN, KEY, host), _nodes(["w1", "w2"], hosts, addresses))
    assert caught.value.path == host


def test_the_key_of_the_certificate_before_vouches_for_another_name_in_the_inventory(worker):
    request = client_request.make_request(worker.layout, None, worker.state)
    nodes = _nodes(["w1"], {"blade-7": "", "w2": ""})
    entry = dict(vouch(worker, request), host="blade-7", node="w1", request=request)
    assert "PRIVATE" not in str(entry) and _signed(worker.cluster, entry, nodes)
    worker.put(days=-10, began=300)  # expired, and still that node's
    expired = dict(vouch(worker, request), host="blade-7", node="w1", request=request)
    assert expired["voucher"] and _signed(worker.cluster, expired, nodes)
    # The inventory counts more: another host of that name is that Node.
    with pytest.raises(PkiError, match="the host w1 of the inventory"):
        _signed(worker.cluster, entry, _nodes(["w1"], {"blade-7": "", "w1": ""}))


def test_what_does_not_vouch(worker, cluster):
    request = client_request.make_request(worker.layout, None, worker.state)
    good = dict(vouch(worker, request), host="blade-7", node="w1", request=request)
    nodes = _nodes(["w1"], {"blade-7": ""})
    other = x509_sign.build_request(OWN, KEY).pem.decode()
    stranger = throwaway.key("stranger")
    digest = csr_read.parse_request(request.encode()).key_sha256
    impostor = throwaway.Cluster(label="impostor")
    foreign = x509_sign.sign_leaf(OWN, stranger, impostor.cas["ca"], impostor.keys["ca"], 9)
    neighbour = x509_sign.sign_leaf(
        x509_sign.Profile("system:node:w2", ["system:nodes"]), stranger, cluster.cas["ca"], cluster.keys["ca"], 9
    )
    by_stranger = x509_sign.build_request(x509_sign.Profile(digest), stranger).pem.decode()
    for change in (
        {"request": other},
        {"voucher": ""},
        {"previous": ""},
        {"voucher": "junk"},
        {"previous": "junk"},
        {"voucher": by_stranger},
        {"voucher": request},
        {"previous": foreign.pem.decode(), "voucher": by_stranger},
        {"previous": neighbour.pem.decode(), "voucher": by_stranger},
    ):
        with pytest.raises(PkiError, match="blade-7"):
            _signed(worker.cluster, dict(good, **change), nodes)
    assert _signed(worker.cluster, good, nodes)


def test_the_previous_certificate_may_be_of_the_old_ca_during_a_rotation(worker):
    request = client_request.make_request(worker.layout, None, worker.state)
    entry = dict(vouch(worker, request), host="blade-7", node="w1", request=request)
    new, nodes = throwaway.Cluster(label="new"), _nodes(["w1"], {"blade-7": ""})
    with pytest.raises(PkiError, match="blade-7"):
        _signed(new, entry, nodes)
    assert _signed(new, entry, nodes, [new.cas["ca"], worker.cluster.cas["ca"]])


def test_without_a_credential_nothing_vouches(worker):
    request = client_request.make_request(worker.layout, None, worker.state)
    os.unlink(worker.current)
    assert vouch(worker, request) == {}
    os.unlink(worker.conf)
    assert vouch(worker, request) == {}
