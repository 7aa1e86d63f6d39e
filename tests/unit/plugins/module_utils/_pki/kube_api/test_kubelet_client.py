# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API as a kubelet asks it: whom it takes for the API server, and what becomes of a request."""

from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import csr_object, kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_sign

from tests.unit.support import throwaway
from tests.unit.support.fake_api import CA, FakeApi


@pytest.fixture
def api(tmp_path):
    fake = FakeApi(requester="system:node:w1", tls=tmp_path)
    fake.put("/api/v1/nodes/w1", {})
    yield fake
    fake.stop()


def test_a_strict_client_takes_the_api_server_alone(api):
    """Any node's serving certificate is signed by the same CA; only the name tells them apart."""
    other = api.url.replace("127.0.0.1", "localhost")
    assert kubelet_client.KubeletApi(api.url, CA.pem, None, strict=True).node("w1").status == 200
    assert kubelet_client.KubeletApi(other, CA.pem, None).node("w1").status == 200
    with pytest.raises(PkiError, match="is not valid for 'localhost'"):
        kubelet_client.KubeletApi(other, CA.pem, None, strict=True).node("w1")
    stranger = ca_sign.build_ca("kubernetes", throwaway.key("stranger"), 10)
    with pytest.raises(PkiError, match="not signed by the CA"):
        kubelet_client.KubeletApi(api.url, stranger.pem, None).node("w1")


@pytest.mark.parametrize(("signer", "usage"), [(kubelet_client.CLIENT, "client auth"), (kubelet_client.SERVING, "server auth")])
def test_a_request_is_for_its_signer_and_says_how_long(api, signer, usage):
    request = x509_sign.build_request(x509_sign.Profile("system:node:w1", ["system:nodes"], (), ()), throwaway.key("asks"))
    asks = kubelet_client.KubeletApi(api.url, CA.pem, None)
    name = kubelet_client.request_certificate(asks, request.pem.decode(), signer, 30, "again", "kubepki-one")
    ask = csr_object.decode(api.csr(name))
    assert (name, ask.signer, ask.expiration_seconds) == ("kubepki-one", signer, 30 * 86400)
    assert sorted(ask.usages) == sorted(csr_object.USAGES[signer]) and usage in ask.usages
    assert ask.request.key_sha256 == request.key_sha256
    with pytest.raises(PkiError, match="not approved.*See the policy"):
        kubelet_client.wait_certificate(asks, name, 0, "No.", "See the policy.")
    del api.objects[api.csr_path(name)]
    with pytest.raises(PkiError, match="is gone"):
        kubelet_client.wait_certificate(asks, name, 5, "No.", "See the policy.")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1970-01-01T00:00:10Z", 10.0), ("1970-01-01T00:00:10.250000Z", 10.25), ("yesterday", 0.0), (None, 0.0), ("", 0.0)],
)
def test_epoch(text, wanted):
    assert kubelet_client.epoch(text) == wanted
