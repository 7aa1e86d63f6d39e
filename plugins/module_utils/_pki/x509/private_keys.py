# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read, generate and compare private and public keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import PkiError
from . import pem, x509_read
from .crypto_library import UNREADABLE, ec, ed25519, load_private_key, rsa, serialization

if TYPE_CHECKING:
    from .crypto_library import RawPrivateKey
    from .csr_read import Request

KEY_TYPES = ("rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384")


class PrivateKey:
    """A private key. pem is the text of its file; repr and str do not show it.

    raw: the library's object. key_type, key_sha256: as in Certificate. A pair has the same key_sha256.
    """

    def __init__(self, raw: RawPrivateKey, pem: bytes | None = None) -> None:
        self.raw = raw
        public_key = raw.public_key()
        self.key_sha256 = x509_read.public_key_digest(public_key)
        self.key_type = x509_read.key_type(public_key)
        self._pem = pem

    @property
    def pem(self) -> bytes:
        """PEM in the form kubeadm writes: PKCS#1 for RSA, SEC 1 for ECDSA (client-go util/keyutil)."""
        if self._pem is None:
            self._pem = self.raw.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        return self._pem

    @property
    def public_pem(self) -> bytes:
        """The public half, as in sa.pub (PKIX, "PUBLIC KEY")."""
        return self.raw.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def matches(self, certificate: x509_read.Certificate | PublicKey | Request) -> bool:
        """Return whether a certificate, request or public key holds the public half of this key."""
        return self.key_sha256 == certificate.key_sha256


class PublicKey:
    """A public key, as in sa.pub. key_type, key_sha256: as in Certificate. pem: PKIX."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.key_sha256 = x509_read.public_key_digest(raw)
        self.key_type = x509_read.key_type(raw)
        self.pem: bytes = raw.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def parse_private_key(data: bytes, path: str | None = None) -> PrivateKey:
    """Return the private key of a PEM file (PKCS#1, SEC 1 or PKCS#8). Raise PkiError: none, truncated, encrypted."""
    block = pem.private_block(data, path)
    try:
        raw = load_private_key(block.text)
    except UNREADABLE:  # its text can quote key material
        raise PkiError("the private key is damaged or truncated", path=path, fix=pem.KEY_FIX) from None
    if not isinstance(raw, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise PkiError("the private key is of a kind Kubernetes does not use", path=path, fix=pem.KEY_FIX)
    return PrivateKey(raw, block.text if block.text.endswith(b"\n") else block.text + b"\n")


def parse_public_keys(data: bytes, path: str | None = None) -> list[PublicKey]:
    """Return each public key of a PEM file such as sa.pub, in order, also those of its certificates and private keys."""
    return [PublicKey(key) for key in x509_read.load_public_keys(data, path)]


def generate_key(key_type: str = "rsa-2048") -> PrivateKey:
    """Return a new private key. key_type: one of KEY_TYPES. Raise PkiError for another."""
    if key_type not in KEY_TYPES:
        raise PkiError("the key type %s is not one of %s" % (key_type, ", ".join(KEY_TYPES)))
    family, size = key_type.split("-")
    if family == "rsa":
        return PrivateKey(rsa.generate_private_key(public_exponent=65537, key_size=int(size)))
    return PrivateKey(ec.generate_private_key(ec.SECP256R1() if size == "p256" else ec.SECP384R1()))


def nearest_key_type(key_type: str) -> str:
    """Return the type for the replacement of a key: the same, or for a type not in KEY_TYPES (weak RSA, Ed25519, P-521) the
    nearest one that every component accepts."""
    nearest = {"ecdsa-p521": "ecdsa-p384", "ed25519": "ecdsa-p256"}.get(key_type, "rsa-2048")
    return key_type if key_type in KEY_TYPES else nearest
