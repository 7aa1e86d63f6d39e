# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request for a client certificate, what the cluster issues for it, and what of that is refused."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    client_request,
    kubelet_files,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import csr_read, private_keys, x509_read, x509_sign

from tests.unit.support import throwaway
from tests.unit.support.worker import Said, Worker


@pytest.fixture
def cluster():
    return throwaway.Cluster()


@pytest.fixture
def worker(tmp_path, cluster):
    found = Worker(tmp_path, cluster)
    # kubelet.conf of a joined worker names nobody ("default-auth"): the name comes from its certificate.
    assert found.layout.node_name == "w1"
    return found


def test_the_key_keeps_its_type_unless_another_is_asked_for(worker):
    worker.issue()
    assert (
        private_keys.parse_private_key(Path(client_request.staged_key_path(worker.state)).read_bytes()).key_type == "ecdsa-p256"
    )
    client_request.make_request(worker.layout, "rsa-2048", worker.state)
    assert private_keys.parse_private_key(Path(client_request.staged_key_path(worker.state)).read_bytes()).key_type == "rsa-2048"


def test_every_request_has_a_new_key(worker):
    first = client_request.make_request(worker.layout, None, worker.state)
    second = client_request.make_request(worker.layout, None, worker.state)

    def digest(text):
        return csr_read.parse_request(text.encode()).key_sha256

    assert digest(first) != digest(second)


def test_a_certificate_of_the_successor_is_taken_with_its_bundle_only(worker):
    new = throwaway.Cluster(label="successor")
    pem = worker.signed(new)
    with pytest.raises(PkiError, match="another key than those this node trusts"):
        client_request.check_issued(worker.layout, pem, None, worker.state)
    bundle = new.cas["ca"].pem + worker.cluster.cas["ca"].pem
    assert client_request.check_issued(worker.layout, pem, bundle, worker.state)[0].signed_by(new.cas["ca"])


def test_a_certificate_for_another_key_is_not_installed(worker):
    pem = worker.signed()
    client_request.make_request(worker.layout, None, worker.state)
    with pytest.raises(PkiError, match="not for the key that waits here"):
        client_request.check_issued(worker.layout, pem, None, worker.state)


def test_a_clock_that_is_behind_is_named(worker, monkeypatch):
    pem = worker.signed()
    past = x509_read.now() - x509_sign.datetime.timedelta(hours=1)
    monkeypatch.setattr(kubelet_files, "now", lambda: past)
    with pytest.raises(PkiError, match="this node's clock says"):
        client_request.check_issued(worker.layout, pem, None, worker.state)


class Cluster:
    """An API that takes requests and, after two looks, says what the test wants."""

    def __init__(self, status, created=201):
        self.status, self.created, self.looks, self.posted = status, created, 0, None

    server = "https://api.example:6443"

    def call(self, path, document=None):
        assert path.startswith("/apis/certificates.k8s.io/v1/certificatesigningrequests")
        if document is not None:
            self.posted = document
            return Said({"metadata": {"name": "kubepki-x7k2p"}, "message": "Unauthorized"}, self.created)
        assert path.endswith("/kubepki-x7k2p")
        self.looks += 1
        return Said({"status": self.status if self.looks > 2 else {}}, 200)


def _certify(worker, monkeypatch, cloud, timeout=5.0):
    monkeypatch.setattr(kubelet_client.KubeletApi, "of", classmethod(lambda cls, config, timeout=5.0, strict=False: cloud))
    monkeypatch.setattr(kubelet_client.time, "sleep", lambda seconds: None)
    request = client_request.make_request(worker.layout, None, worker.state)
    return client_request.request_certificate(worker.layout, request, 30, timeout), request


def test_the_cluster_signs_what_the_node_asks_for_itself(worker, monkeypatch):
    cloud = Cluster({"certificate": base64.b64encode(b"PEM").decode(), "conditions": [{"type": "Approved"}]})
    pem, request = _certify(worker, monkeypatch, cloud)
    assert pem == "PEM"
    spec = cloud.posted["spec"]
    assert base64.b64decode(spec["request"]).decode() == request
    assert spec["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    assert spec["expirationSeconds"] == 30 * 86400
    assert sorted(spec["usages"]) == ["client auth", "digital signature", "key encipherment"]


@pytest.mark.parametrize(
    ("cloud", "text"),
    [
        (Cluster({"conditions": [{"type": "Denied", "message": "by hand"}]}), "Denied (by hand)"),
        (Cluster({"conditions": [{"type": "Approved"}, {"type": "Failed", "message": "bad usages"}]}), "Failed (bad usages)"),
        (Cluster({}, created=401), "HTTP 401 (Unauthorized)"),
        (Cluster({"conditions": [{"type": "Approved"}]}), "approved, and not signed"),
        (Cluster({}), "not approved"),
    ],
)
def test_a_request_that_is_not_signed_says_why(worker, monkeypatch, cloud, text):
    with pytest.raises(PkiError) as caught:
        _certify(worker, monkeypatch, cloud, timeout=0.05)
    assert text in str(caught.value)
