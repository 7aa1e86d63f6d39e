# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private and public keys: read, generated, compared."""

from __future__ import annotations

from ..errors import PkiError
from . import crypto_library, pem
from .crypto_library import ec, ed25519, load_private_key, rsa, serialization
from .x509_read import key_type as _key_type
from .x509_read import load_public_keys
from .x509_read import public_key_digest as _key_sha256

KEY_TYPES = ("rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384")


class PrivateKey:
    """A private key. pem is what goes to the file; repr and str never show it.

    key_type and key_sha256 as in Certificate, so that a pair matches when both digests are equal.
    """

    def __init__(self, raw, pem=None):
        self.raw = raw
        public_key = raw.public_key()
        self.key_sha256 = _key_sha256(public_key)
        self.key_type = _key_type(public_key)
        self._pem = pem

    @property
    def pem(self):
        """PEM in the form kubeadm writes: PKCS#1 for RSA, SEC 1 for ECDSA (client-go util/keyutil)."""
        if self._pem is None:
            self._pem = self.raw.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        return self._pem

    @property
    def public_pem(self):
        """The public half, as in sa.pub (PKIX, "PUBLIC KEY")."""
        return self.raw.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def matches(self, certificate):
        """Tell whether a Certificate (or PublicKey, Request) holds the public half of this key."""
        return self.key_sha256 == certificate.key_sha256


class PublicKey:
    """A public key from sa.pub: key_type, key_sha256 and pem."""

    def __init__(self, raw):
        self.raw = raw
        self.key_sha256 = _key_sha256(raw)
        self.key_type = _key_type(raw)
        self.pem = raw.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def parse_private_key(data, path=None):
    """Return the private key of a PEM file (PKCS#1, SEC 1 or PKCS#8). Raises PkiError: none, truncated, encrypted."""
    block = pem.private_block(data, path)
    try:
        raw = load_private_key(block.text)
    except crypto_library.UNREADABLE:
        # The library's own text can quote what it read.
        raise PkiError("the private key is damaged or truncated", path=path, fix=pem.KEY_FIX) from None
    if not isinstance(raw, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise PkiError("the private key is of a kind Kubernetes does not use", path=path, fix=pem.KEY_FIX)
    return PrivateKey(raw, block.text if block.text.endswith(b"\n") else block.text + b"\n")


def parse_public_keys(data, path=None):
    """Return every public key of a PEM file such as sa.pub, in order. Certificates and private keys count, too."""
    return [PublicKey(key) for key in load_public_keys(data, path)]


def generate_key(key_type="rsa-2048"):
    """Make a private key of one of KEY_TYPES. Raises PkiError for any other word."""
    if key_type not in KEY_TYPES:
        raise PkiError("the key type %s is not one of %s" % (key_type, ", ".join(KEY_TYPES)))
    family, size = key_type.split("-")
    if family == "rsa":
        return PrivateKey(rsa.generate_private_key(public_exponent=65537, key_size=int(size)))
    return PrivateKey(ec.generate_private_key(ec.SECP256R1() if size == "p256" else ec.SECP384R1()))


def nearest_key_type(key_type):
    """Give the one of KEY_TYPES for a key that takes over from one of a type that may not be made here.

    A weak RSA key, Ed25519, P-521: the nearest that every component takes.
    """
    nearest = {"ecdsa-p521": "ecdsa-p384", "ed25519": "ecdsa-p256"}.get(key_type, "rsa-2048")
    return key_type if key_type in KEY_TYPES else nearest
