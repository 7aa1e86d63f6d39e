# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read certificates and the public halves of keys (RFC 5280), and check whether two belong together. x509_sign signs."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from typing import Any, Iterable

from ..errors import PkiError
from ..fileio import memfd
from . import pem
from .crypto_library import (
    SKIPS_PRIME_TESTS,
    UNREADABLE,
    UTC,
    ec,
    ed25519,
    first_line,
    load_private_key,
    rsa,
    serialization,
    validity_of,
    verifies,
)
from .crypto_library import x509 as library

_FIX = "Restore it from a backup, or issue it again."

# No certificate of a cluster is larger, and the time of a parser grows with the size.
_LARGEST = 256 * 1024

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)

_COMMON_NAME, _ORGANIZATION = "2.5.4.3", "2.5.4.10"

_EXTENDED = {"1.3.6.1.5.5.7.3.1": "server", "1.3.6.1.5.5.7.3.2": "client"}


def now() -> datetime.datetime:
    """Return the current time in UTC, to the second, as X.509 can hold it."""
    return datetime.datetime.now(UTC).replace(microsecond=0)


def timestamp(moment: datetime.datetime) -> str:
    """Return a datetime as the reports show it: 2026-11-21T19:00:00Z."""
    # Go writes a time that was never set as year 1, which strftime prints as "1".
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def serial_text(serial: int) -> str:
    """Return a serial number as the reports show it: hexadecimal with 0x."""
    return hex(serial)


class Certificate:
    """A parsed certificate, without key material.

    raw: the library's object. pem, der: bytes. sha256: hex digest of the DER. subject, issuer: RFC 4514
    strings ("CN=kubernetes-admin,O=..."). common_name, issuer_common_name: str or None; organizations: list. serial: int.
    sans: ["DNS:a", "IP:1.2.3.4", ...]. not_before, not_after: datetime in UTC. is_ca: bool; path_length: int or None.
    usages: names as in RFC 5280 4.2.1.3 with underscores; extended_usages: "server", "client" or a dotted OID.
    key_type: "rsa-2048", "ecdsa-p256", ...; key_sha256: hex digest of the public key (SubjectPublicKeyInfo DER).
    subject_key_id, authority_key_id: hex str or None. self_issued: subject equals issuer.
    """

    def __init__(self, der: bytes, path: str | None = None, raw: library.Certificate | None = None) -> None:
        """Parse DER. path: for messages. raw: the library's object of the same bytes, where the caller has it. Raise PkiError."""
        self.path = path
        self.der = der
        self.sha256 = hashlib.sha256(der).hexdigest()
        try:
            if len(der) > _LARGEST:
                raise ValueError("it has more than %d KiB" % (_LARGEST >> 10))
            self.raw = raw if raw is not None else library.load_der_x509_certificate(der)
            self._read()
        except PkiError:
            raise
        except UNREADABLE as error:
            raise PkiError("holds a certificate that cannot be read (%s)" % first_line(error), path=path, fix=_FIX) from None

    def _read(self) -> None:
        raw = self.raw
        self.serial = raw.serial_number
        self.not_before, self.not_after = validity_of(raw)
        self.subject, self.issuer = raw.subject.rfc4514_string(), raw.issuer.rfc4514_string()
        # As Go does, which compares the bytes of issuer and subject (crypto/x509: isValid).
        self._issuer_der, self._subject_der = raw.issuer.public_bytes(), raw.subject.public_bytes()
        self.self_issued = self._issuer_der == self._subject_der
        issuer: list[tuple[str, Any]] = [(item.oid.dotted_string, item.value) for item in raw.issuer]
        self.issuer_common_name: str | None = next((value for kind, value in issuer if kind == _COMMON_NAME), None)
        flat: list[tuple[str, Any]] = [(item.oid.dotted_string, item.value) for item in raw.subject]
        self.common_name: str | None = next((value for kind, value in flat if kind == _COMMON_NAME), None)
        self.organizations: list[str] = [value for kind, value in flat if kind == _ORGANIZATION]
        public_key = raw.public_key()
        self.key_type, self.key_sha256 = key_type(public_key), public_key_digest(public_key)
        found: dict[library.ObjectIdentifier, Any] = {item.oid: item.value for item in raw.extensions}
        constraints = found.get(library.BasicConstraints.oid)
        self.is_ca: bool = constraints.ca if constraints else False
        self.path_length: int | None = constraints.path_length if constraints else None
        usage = found.get(library.KeyUsage.oid)
        self.usages = [name for name in USAGES if getattr(usage, name)] if usage else []
        purposes = [oid.dotted_string for oid in found.get(library.ExtendedKeyUsage.oid, ())]
        self.extended_usages = [_EXTENDED.get(oid, oid) for oid in purposes]
        self.sans = [san_text(name) for name in found.get(library.SubjectAlternativeName.oid, ())]
        key_id, issuer_id = found.get(library.SubjectKeyIdentifier.oid), found.get(library.AuthorityKeyIdentifier.oid)
        self.subject_key_id: str | None = key_id.digest.hex() if key_id else None
        self.authority_key_id: str | None = issuer_id.key_identifier.hex() if issuer_id and issuer_id.key_identifier else None

    @property
    def pem(self) -> bytes:
        """The certificate as PEM, one line break at the end."""
        return self.raw.public_bytes(serialization.Encoding.PEM)

    def describe(self) -> dict[str, Any]:
        """Return the names, the validity and the fingerprint, for a diff."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "serial": hex(self.serial),
            "sans": list(self.sans),
            "usages": list(self.extended_usages),
            "key_type": self.key_type,
            "not_before": timestamp(self.not_before),
            "not_after": timestamp(self.not_after),
            "sha256": self.sha256,
        }

    def signed_by(self, issuer: Certificate) -> bool:
        """Return whether issuer has the name that this certificate states as its issuer, and its key made the signature."""
        return self._issuer_der == issuer._subject_der and self.verified_by_key(issuer)

    def verified_by_key(self, issuer: Certificate) -> bool:
        """Return whether the issuer's key made the signature. The names are not compared."""
        try:
            return verifies(self.raw, issuer.raw.public_key())
        except UNREADABLE:
            return False


def public_key_digest(public_key: Any) -> str:
    """Return the SHA-256 of a public key of the library (its SubjectPublicKeyInfo as DER), as lower-case hexadecimal."""
    return hashlib.sha256(
        public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def key_type(public_key: object) -> str:
    """Return the type of a public key of the library as the reports show it: "rsa-2048", "ecdsa-p256", "ed25519", "unknown"."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return "rsa-%d" % public_key.key_size
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}.get(
            public_key.curve.name, "ecdsa-" + public_key.curve.name
        )
    return "ed25519" if isinstance(public_key, ed25519.Ed25519PublicKey) else "unknown"


def san_text(name: library.GeneralName) -> str:
    """Return a name of the library as the reports show it: "DNS:a", "IP:1.2.3.4", "URI:...", "email:...", "other:KIND"."""
    kinds = (
        (library.DNSName, "DNS"),
        (library.IPAddress, "IP"),
        (library.UniformResourceIdentifier, "URI"),
        (library.RFC822Name, "email"),
    )
    kind = next((word for known, word in kinds if isinstance(name, known)), None)
    return "%s:%s" % (kind, name.value) if kind else "other:%s" % type(name).__name__


def parse_certificates(data: bytes, path: str | None = None) -> list[Certificate]:
    """Return every certificate of a PEM file in order. Other PEM blocks are skipped.

    Raise PkiError when there is none, when one cannot be read, and for a form that Kubernetes cannot read (pem.select).
    """
    found = pem.select(data, lambda kind: kind == "CERTIFICATE", "certificate", path, _FIX)
    return [Certificate(block.der or b"", path) for block in found]


def parse_certificate(data: bytes, path: str | None = None) -> Certificate:
    """Return the first certificate of a PEM file: the leaf of a chain, the issuing CA of a bundle. Raise PkiError."""
    return parse_certificates(data, path)[0]


def parse_der_certificate(der: bytes, path: str | None = None) -> Certificate:
    """Return the certificate that a TLS handshake delivers as DER. Raise PkiError."""
    try:
        return Certificate(der, path)
    except PkiError as error:
        raise PkiError(error.message.replace("holds", "serves", 1), path=path) from None


def bundle(certificates: Iterable[Certificate]) -> bytes:
    """Return the PEM of several certificates in order, each once."""
    seen: set[str] = set()
    found = []
    for certificate in certificates:
        if certificate.sha256 not in seen:
            seen.add(certificate.sha256)
            found.append(certificate.pem)
    return b"".join(found)


def private_key_digest(data: bytes, path: str | None = None, likely: Certificate | None = None) -> str:
    """Return the key_sha256 of a PEM file's private key, to compare a pair. Raise PkiError: none, damaged, encrypted.

    likely: the certificate that the key should belong to. Where the library cannot skip the prime tests of an RSA key (40 ms),
    OpenSSL compares the two first (1 ms). A node has 17 keys.
    """
    block = pem.private_block(data, path)
    if likely is not None and not SKIPS_PRIME_TESTS and likely.key_type.startswith("rsa") and belongs_to(likely, block.text):
        return likely.key_sha256
    try:
        return public_key_digest(load_private_key(block.text, trusted=True).public_key())
    except UNREADABLE:  # its text can quote key material
        raise PkiError("the private key is damaged or truncated", path=path, fix=pem.KEY_FIX) from None


def belongs_to(certificate: Certificate, key_pem: bytes) -> bool:
    """Return whether an unencrypted private key (PEM) is that of a certificate. OpenSSL compares them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # otherwise it also refuses small keys and SHA-1
        with memfd.path_of(certificate.pem + key_pem) as path:
            context.load_cert_chain(path, password="")  # no prompt at the terminal
    except (OSError, ValueError, TypeError):  # ssl.SSLError is an OSError
        return False
    return True


def public_key_digests(data: bytes, path: str | None = None) -> list[str]:
    """Return the key_sha256 of each public key in a PEM file such as sa.pub, in order. As load_public_keys()."""
    return [public_key_digest(key) for key in load_public_keys(data, path)]


def load_public_keys(data: bytes, path: str | None = None) -> list[Any]:
    """Return the library's public keys of a PEM file in order, also those of its certificates and private keys.

    Raise PkiError.
    """
    fix = "Restore it from a backup."
    found: list[Any] = []
    for block in pem.select(
        data, lambda kind: kind == "CERTIFICATE" or kind.endswith(("PRIVATE KEY", "PUBLIC KEY")), "public key", path, fix
    ):
        try:
            if block.kind == "CERTIFICATE":
                found.append(library.load_der_x509_certificate(block.der or b"").public_key())
            elif block.kind.endswith("PRIVATE KEY"):
                found.append(load_private_key(block.text, trusted=True).public_key())
            else:
                found.append(serialization.load_pem_public_key(block.text))
        except UNREADABLE:  # its text can quote key material
            raise PkiError("holds a damaged key", path=path, fix=fix) from None
    return found
