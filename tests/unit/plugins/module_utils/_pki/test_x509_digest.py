# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""private_key_digest must say what loading the key says, for every form, and find every damage."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import certificates, x509
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

RSA, EC = x509.generate_key("rsa-2048"), x509.generate_key("ecdsa-p256")
ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
UNIT = str(Path(__file__).resolve().parents[3])


def pem_of(body: bytes) -> bytes:
    return b"-----BEGIN EC PRIVATE KEY-----\n%s-----END EC PRIVATE KEY-----\n" % base64.encodebytes(body)


def written(key, form) -> bytes:
    return key.raw.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form),
                                 serialization.NoEncryption())


@pytest.mark.parametrize("key_type", ["rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384"])
@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_digest_is_that_of_the_loaded_key(key_type, form):
    key = RSA if key_type == "rsa-2048" else x509.generate_key(key_type)
    pem = written(key, form)
    assert x509.private_key_digest(pem) == x509.parse_private_key(pem).key_sha256 == key.key_sha256


def test_digest_is_the_certificates():
    certificate = x509.build_ca("kubernetes", RSA, 10)
    assert x509.private_key_digest(b"text before\n" + RSA.pem) == certificate.key_sha256


@pytest.mark.parametrize("key, form", [(RSA, "TraditionalOpenSSL"), (EC, "TraditionalOpenSSL"), (EC, "PKCS8")])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(key, form, data):
    first, *lines, last = written(key, form).splitlines()
    body = bytearray(base64.b64decode(b"".join(lines)))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    damaged = b"%s\n%s%s\n" % (first, base64.encodebytes(bytes(body)), last)
    with pytest.raises(PkiError):
        x509.private_key_digest(damaged, "/x.key")


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.integers(1, 40), st.integers(ORDER - 40, ORDER - 1), st.integers(1, ORDER - 1)))
def test_the_public_half_of_a_key_on_p_256_is_made_from_the_private_one(number):
    library = ec.derive_private_key(number, ec.SECP256R1())
    wanted = hashlib.sha256(library.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    for form in (serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8):
        pem = library.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        assert x509.private_key_digest(pem) == wanted
    alone = certificates.element(0x30, b"\2\1\1" + certificates.element(0x04, number.to_bytes(32, "big")) + bytes.fromhex(
        "a00a06082a8648ce3d030107"))  # without the public half, which is optional (RFC 5915 3)
    assert x509.private_key_digest(pem_of(alone)) == wanted


@pytest.mark.parametrize("number", [0, ORDER, ORDER + 5, (1 << 256) - 1])
def test_a_number_that_is_no_key_on_p_256_is_refused(number):
    body = certificates.element(0x30, b"\2\1\1" + certificates.element(0x04, number.to_bytes(32, "big")) + bytes.fromhex(
        "a00a06082a8648ce3d030107"))
    with pytest.raises(PkiError, match="damaged"):
        x509.private_key_digest(pem_of(body), "/x.key")


@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_a_key_with_a_compressed_public_half_is_read(form):
    pem = subprocess.run(["openssl", "ec", "-conv_form", "compressed"], input=written(EC, form), capture_output=True,
                         check=True).stdout
    assert x509.private_key_digest(pem) == x509.parse_private_key(pem).key_sha256


def test_a_kubelets_key_is_read_without_the_library():
    code = "import sys; from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import certificates as c; " \
           "print(c.private_key_digest(sys.stdin.buffer.read())); assert 'cryptography.hazmat' not in sys.modules"
    code = "import sys; sys.path[:0] = [%r]; import conftest; %s" % (UNIT, code)
    done = subprocess.run([sys.executable, "-c", code], input=EC.pem, capture_output=True, check=True)
    assert done.stdout.decode().strip() == EC.key_sha256


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
