# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""private_key_digest must say what loading the key says, for every form, and find every damage."""

from __future__ import annotations

import base64
import contextlib
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_read
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

RSA, EC = private_keys.generate_key("rsa-2048"), private_keys.generate_key("ecdsa-p256")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
UNIT = str(Path(__file__).resolve().parents[3])


def pem_of(body: bytes) -> bytes:
    return b"-----BEGIN EC PRIVATE KEY-----\n%s-----END EC PRIVATE KEY-----\n" % base64.encodebytes(body)


def written(key, form) -> bytes:
    return key.raw.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), serialization.NoEncryption()
    )


@pytest.mark.parametrize("key_type", ["rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384"])
@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_digest_is_that_of_the_loaded_key(key_type, form):
    key = RSA if key_type == "rsa-2048" else private_keys.generate_key(key_type)
    pem = written(key, form)
    assert x509_read.private_key_digest(pem) == private_keys.parse_private_key(pem).key_sha256 == key.key_sha256


def test_digest_is_the_certificates():
    certificate = ca_sign.build_ca("kubernetes", RSA, 10)
    assert x509_read.private_key_digest(b"text before\n" + RSA.pem) == certificate.key_sha256


@pytest.mark.parametrize("key, form", [(RSA, "TraditionalOpenSSL"), (EC, "TraditionalOpenSSL"), (EC, "PKCS8")])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found_before_a_key_signs(key, form, data):
    first, *lines, last = written(key, form).splitlines()
    body = bytearray(base64.b64decode(b"".join(lines)))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    damaged = b"%s\n%s%s\n" % (first, base64.encodebytes(bytes(body)), last)
    with pytest.raises(PkiError):
        assert private_keys.parse_private_key(damaged, "/x.key").key_sha256 == key.key_sha256
        raise PkiError("only what does not count was changed")
    # A look alone compares public halves: it does not take one key for another.
    with contextlib.suppress(PkiError):
        assert x509_read.private_key_digest(damaged, "/x.key") == key.key_sha256 or key is RSA


@pytest.mark.parametrize("skips", [True, False])
def test_a_pair_is_compared_in_the_same_way_by_openssl(monkeypatch, skips):
    """Where the library tests the primes of every key that it loads, OpenSSL is asked whether key and certificate belong
    together."""
    monkeypatch.setattr(x509_read, "SKIPS_PRIME_TESTS", skips)
    asked = []
    belongs = x509_read.belongs_to
    monkeypatch.setattr(x509_read, "belongs_to", lambda *given: asked.append(1) or belongs(*given))
    own, other = ca_sign.build_ca("a", RSA, 1), ca_sign.build_ca("b", private_keys.generate_key("rsa-2048"), 1)
    for likely in (own, other, None):
        assert x509_read.private_key_digest(RSA.pem, "/x", likely) == own.key_sha256
    assert len(asked) == (0 if skips else 2)
    with pytest.raises(PkiError, match="damaged"):
        x509_read.private_key_digest(b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "/x", own)


@pytest.mark.parametrize("number", [0, ORDER, ORDER + 5, (1 << 256) - 1])
def test_a_number_that_is_no_key_on_p_256_is_refused(number):
    body = b"\x30\x31\2\1\1\4\x20" + number.to_bytes(32, "big") + bytes.fromhex("a00a06082a8648ce3d030107")
    with pytest.raises(PkiError, match="damaged"):
        x509_read.private_key_digest(pem_of(body), "/x.key")


@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_a_key_with_a_compressed_public_half_is_read(form):
    pem = subprocess.run(
        ["openssl", "ec", "-conv_form", "compressed"], input=written(EC, form), capture_output=True, check=True
    ).stdout
    assert x509_read.private_key_digest(pem) == private_keys.parse_private_key(pem).key_sha256


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(RSA.pem) - 30))
def test_a_truncated_key_is_a_clear_error(length):
    with pytest.raises(PkiError) as caught:
        x509_read.private_key_digest(RSA.pem[:length], "/etc/kubernetes/pki/x.key")
    assert "/etc/kubernetes/pki/x.key" in str(caught.value) and caught.value.fix


@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_an_encrypted_key_says_so(form):
    pem = RSA.raw.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), serialization.BestAvailableEncryption(b"secret")
    )
    with pytest.raises(PkiError, match="encrypted"):
        x509_read.private_key_digest(pem, "/x.key")


@given(st.binary(max_size=300))
def test_garbage_never_raises_anything_else(data):
    for wrapped in (data, b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(data) + b"-----END PRIVATE KEY-----\n"):
        with pytest.raises(PkiError):
            x509_read.private_key_digest(wrapped, "/x")
