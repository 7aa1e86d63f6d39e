# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library `cryptography`, from 3.4 to the newest: the differences between its versions end here."""

from __future__ import annotations

import datetime

try:
    from cryptography import __version__ as _version
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    HAS_CRYPTOGRAPHY = True
    # unsafe_skip_rsa_key_validation came with 39. Older versions test the primes of every RSA key that they load: 40 ms each.
    SKIPS_PRIME_TESTS = int(_version.split(".")[0]) >= 39
except ImportError:  # reported by the module, which can look for another interpreter first
    HAS_CRYPTOGRAPHY = SKIPS_PRIME_TESTS = False
    # So that the files that use them can be imported, and the module can say what is missing.
    for _name in ("ExtendedKeyUsageOID", "NameOID", "ec", "ed25519", "hashes", "padding", "rsa", "serialization", "x509"):
        globals()[_name] = None
    globals()["InvalidSignature"] = Exception

UTC = datetime.timezone.utc


def validity_of(raw):
    """Return (not before, not after) of a certificate of the library as datetimes in UTC. Before 42 they do not say that they
    are UTC."""
    if hasattr(raw, "not_valid_after_utc"):
        return raw.not_valid_before_utc, raw.not_valid_after_utc
    return raw.not_valid_before.replace(tzinfo=UTC), raw.not_valid_after.replace(tzinfo=UTC)


def load_private_key(pem, trusted=False):
    """Return the library's private key of an unencrypted PEM block. Raises what the library raises.

    trusted: do not test the primes of an RSA key again, where the library can leave that out. Only for reading what the key
    belongs to.
    """
    options = {"unsafe_skip_rsa_key_validation": True} if trusted and SKIPS_PRIME_TESTS else {}
    return serialization.load_pem_private_key(pem, password=None, **options)


def verifies(raw, public_key):
    """Return whether a public key made the signature of a certificate of the library. Raises what the library raises."""
    if not _names_one_algorithm(raw):
        return False
    try:
        if isinstance(public_key, rsa.RSAPublicKey):
            _verify_rsa(raw, public_key)
        elif isinstance(public_key, ec.EllipticCurvePublicKey):
            public_key.verify(raw.signature, raw.tbs_certificate_bytes, ec.ECDSA(raw.signature_hash_algorithm))
        elif isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(raw.signature, raw.tbs_certificate_bytes)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _names_one_algorithm(raw):
    """Return whether the algorithm beside the signature is the one inside of what is signed (RFC 5280 4.1.1.2).

    Go and OpenSSL refuse any other; the library leaves it to its own verification of names.
    """
    der, signed = raw.public_bytes(serialization.Encoding.DER), raw.tbs_certificate_bytes
    # What is signed is followed by the algorithm, a short SEQUENCE.
    behind = der[der.index(signed) + len(signed) :]
    return behind[: 2 + behind[1]] in signed


_PSS = "1.2.840.113549.1.1.10"


def _verify_rsa(raw, public_key):
    if raw.signature_algorithm_oid.dotted_string != _PSS:
        public_key.verify(raw.signature, raw.tbs_certificate_bytes, padding.PKCS1v15(), raw.signature_hash_algorithm)
        return
    if hasattr(raw, "signature_algorithm_parameters"):  # 41 and later
        parameters = raw.signature_algorithm_parameters
        public_key.verify(raw.signature, raw.tbs_certificate_bytes, parameters, raw.signature_hash_algorithm)
        return
    # Older versions do not say the parameters (RFC 4055 3.1). Those in use have the salt as long as the hash; the default is
    # SHA-1.
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512(), hashes.SHA1()):  # noqa: S303
        scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        try:
            public_key.verify(raw.signature, raw.tbs_certificate_bytes, scheme, algorithm)
            return
        except InvalidSignature:
            continue
    raise InvalidSignature("no known RSA-PSS parameters")


__all__ = (
    "ExtendedKeyUsageOID",
    "HAS_CRYPTOGRAPHY",
    "NameOID",
    "UTC",
    "ec",
    "ed25519",
    "hashes",
    "load_private_key",
    "rsa",
    "serialization",
    "validity_of",
    "verifies",
    "x509",
)

# What reading somebody else's bytes may raise: KeyError and InternalError came out of versions 38 and 3.4, too.
UNREADABLE = Exception


def first_line(error):
    return (str(error).splitlines() or ["unreadable"])[0][:120]
