# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter for the library `cryptography`, from 3.4 to the newest. The only file that imports it."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Union

try:
    from cryptography import __version__ as _version
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    HAS_CRYPTOGRAPHY = True
    # unsafe_skip_rsa_key_validation came with 39. Older versions test the primes of every RSA key that they load: 40 ms each.
    SKIPS_PRIME_TESTS = int(_version.split(".")[0]) >= 39
except ImportError:  # runner.run() reports it, after it looked for another interpreter
    HAS_CRYPTOGRAPHY = SKIPS_PRIME_TESTS = False
    # The files that use these names must be importable, so that the module can report the missing library.
    for _name in (
        "ExtendedKeyUsageOID",
        "NameOID",
        "decode_dss_signature",
        "ec",
        "ed25519",
        "hashes",
        "padding",
        "rsa",
        "serialization",
        "x509",
    ):
        globals()[_name] = None
    globals()["InvalidSignature"] = Exception

__all__ = (
    "ExtendedKeyUsageOID",
    "HAS_CRYPTOGRAPHY",
    "NameOID",
    "SKIPS_PRIME_TESTS",
    "UNREADABLE",
    "UTC",
    "decode_dss_signature",
    "ec",
    "ed25519",
    "first_line",
    "hashes",
    "load_private_key",
    "padding",
    "rsa",
    "serialization",
    "validity_of",
    "verifies",
    "x509",
)

if TYPE_CHECKING:
    # The kinds of keys that Kubernetes uses.
    RawPrivateKey = Union[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey]
    RawPublicKey = Union[rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey]

UTC = datetime.timezone.utc

# Foreign bytes raise more than ValueError: versions 3.4 and 38 let InternalError and KeyError through.
UNREADABLE = Exception


def validity_of(raw: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    """Return (not before, not after) as datetimes in UTC. Before version 42 the library returns them without a time zone."""
    if hasattr(raw, "not_valid_after_utc"):
        return raw.not_valid_before_utc, raw.not_valid_after_utc
    return raw.not_valid_before.replace(tzinfo=UTC), raw.not_valid_after.replace(tzinfo=UTC)


def load_private_key(pem: bytes, trusted: bool = False) -> RawPrivateKey:
    """Return the private key of an unencrypted PEM block. Raise UNREADABLE.

    trusted: skip the prime tests of an RSA key where the library can. Only for a key that is read for its public half.
    """
    options = {"unsafe_skip_rsa_key_validation": True} if trusted and SKIPS_PRIME_TESTS else {}
    return serialization.load_pem_private_key(pem, password=None, **options)  # type: ignore[arg-type,return-value]


def verifies(raw: x509.Certificate, public_key: object) -> bool:
    """Return whether the private half of a public key made a certificate's signature. Raise UNREADABLE."""
    if not _names_one_algorithm(raw):
        return False
    try:
        if isinstance(public_key, rsa.RSAPublicKey):
            _verify_rsa(raw, public_key)
        elif isinstance(public_key, ec.EllipticCurvePublicKey):
            _verify_ecdsa(raw, public_key)
        elif isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(raw.signature, raw.tbs_certificate_bytes)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _names_one_algorithm(raw: x509.Certificate) -> bool:
    """Return whether the algorithm beside the signature equals the one in the signed part (RFC 5280 4.1.1.2).

    Go and OpenSSL reject a certificate where they differ. The library checks it only in its own verification of chains.
    """
    der, signed = raw.public_bytes(serialization.Encoding.DER), raw.tbs_certificate_bytes
    # The signed part is followed by the algorithm, a SEQUENCE of less than 128 bytes.
    behind = der[der.index(signed) + len(signed) :]
    return behind[: 2 + behind[1]] in signed


_PSS = "1.2.840.113549.1.1.10"


# Here a certificate is Any: older versions have fewer attributes, and raise for the hash algorithm of PSS.
def _verify_ecdsa(raw: Any, public_key: ec.EllipticCurvePublicKey) -> None:
    public_key.verify(raw.signature, raw.tbs_certificate_bytes, ec.ECDSA(raw.signature_hash_algorithm))


def _verify_rsa(raw: Any, public_key: rsa.RSAPublicKey) -> None:
    """Return where the key made the signature. Raise InvalidSignature otherwise."""
    if raw.signature_algorithm_oid.dotted_string != _PSS:
        public_key.verify(raw.signature, raw.tbs_certificate_bytes, padding.PKCS1v15(), raw.signature_hash_algorithm)
        return
    if hasattr(raw, "signature_algorithm_parameters"):  # 41 and later
        parameters = raw.signature_algorithm_parameters
        public_key.verify(raw.signature, raw.tbs_certificate_bytes, parameters, raw.signature_hash_algorithm)
        return
    # Older versions do not return the parameters (RFC 4055 3.1). In practice the salt is as long as the hash.
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512(), hashes.SHA1()):  # noqa: S303
        scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        try:
            public_key.verify(raw.signature, raw.tbs_certificate_bytes, scheme, algorithm)
            return
        except InvalidSignature:
            continue
    raise InvalidSignature("no known RSA-PSS parameters")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text for a message, at most 120 characters."""
    return (str(error).splitlines() or ["unreadable"])[0][:120]
