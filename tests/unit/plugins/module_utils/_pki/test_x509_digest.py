# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""private_key_digest must say what loading the key says, for every form, and find every damage."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import x509
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

RSA = x509.generate_key("rsa-2048")


@pytest.mark.parametrize("key_type", ["rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384"])
@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_digest_is_that_of_the_loaded_key(key_type, form):
    key = RSA if key_type == "rsa-2048" else x509.generate_key(key_type)
    pem = key.raw.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form),
                                serialization.NoEncryption())
    assert x509.private_key_digest(pem) == x509.parse_private_key(pem).key_sha256 == key.key_sha256


def test_digest_is_the_certificates():
    certificate = x509.build_ca("kubernetes", RSA, 10)
    assert x509.private_key_digest(b"text before\n" + RSA.pem) == certificate.key_sha256


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found(data):
    body = bytearray(base64.b64decode(b"".join(RSA.pem.splitlines()[1:-1])))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    damaged = b"-----BEGIN RSA PRIVATE KEY-----\n%s-----END RSA PRIVATE KEY-----\n" % base64.encodebytes(bytes(body))
    with pytest.raises(PkiError):
        x509.private_key_digest(damaged, "/x.key")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(RSA.pem) - 30))
def test_a_truncated_key_is_a_clear_error(length):
    with pytest.raises(PkiError) as caught:
        x509.private_key_digest(RSA.pem[:length], "/etc/kubernetes/pki/x.key")
    assert "/etc/kubernetes/pki/x.key" in str(caught.value) and caught.value.fix


@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_an_encrypted_key_says_so(form):
    pem = RSA.raw.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form),
                                serialization.BestAvailableEncryption(b"secret"))
    with pytest.raises(PkiError, match="encrypted"):
        x509.private_key_digest(pem, "/x.key")


@given(st.binary(max_size=300))
def test_garbage_never_raises_anything_else(data):
    for wrapped in (data, b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(data) + b"-----END PRIVATE KEY-----\n"):
        with pytest.raises(PkiError):
            x509.private_key_digest(wrapped, "/x")
