# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and compare certificates and pairs (RFC 5280). What makes or signs anything is in x509."""

from __future__ import annotations

import datetime
import hashlib
import ssl

from ..errors import PkiError
from ..fileio import memfd
from . import pem
from .crypto_library import SKIPS_PRIME_TESTS, UTC, ec, ed25519, load_private_key, rsa, serialization, validity_of, verifies
from .crypto_library import x509 as library

_FIX = "Restore it from a backup, or issue it again."

# No certificate of a cluster has more; a parser's time grows with the size.
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


def now():
    """Return the current time in UTC, to the second, as X.509 can hold it."""
    return datetime.datetime.now(UTC).replace(microsecond=0)


def timestamp(moment):
    """Return a datetime as the reports show it: 2026-11-21T19:00:00Z."""
    # Not strftime, which prints the years before 1000 in fewer than four digits; Go writes a time that was never set as year 1.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def serial_text(serial):
    """Return a serial number as the reports show it: hexadecimal with 0x."""
    return hex(serial)


class Certificate:
    """A parsed certificate. None of its attributes holds key material.

    raw: cryptography's own object, for building on it. pem, der: bytes. sha256: hex digest of the DER. subject, issuer: RFC 4514
    strings ("CN=kubernetes-admin,O=..."). common_name: str or None; organizations: list. serial: int.
    sans: ["DNS:a", "IP:1.2.3.4", ...]. not_before, not_after: datetime in UTC. is_ca: bool; path_length: int or None.
    usages: names as in RFC 5280 4.2.1.3 with underscores; extended_usages: "server", "client" or a dotted OID.
    key_type: "rsa-2048", "ecdsa-p256", ...; key_sha256: hex digest of the public key (SubjectPublicKeyInfo DER).
    subject_key_id, authority_key_id: hex str or None. self_issued: subject equals issuer.
    """

    def __init__(self, der, path=None, raw=None):
        """Take the DER, the path that errors name, and cryptography's object of it where there is one. Raises PkiError."""
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
        except Exception as error:  # old versions of the library raise more than ValueError
            raise PkiError("holds a certificate that cannot be read (%s)" % _first_line(error), path=path, fix=_FIX) from None

    def _read(self):
        raw = self.raw
        self.serial = raw.serial_number
        self.not_before, self.not_after = validity_of(raw)
        self.subject, self.issuer = raw.subject.rfc4514_string(), raw.issuer.rfc4514_string()
        # Go compares the bytes of issuer and subject (crypto/x509: isValid), not what they mean.
        self._issuer_der, self._subject_der = raw.issuer.public_bytes(), raw.subject.public_bytes()
        self.self_issued = self._issuer_der == self._subject_der
        flat = [(item.oid.dotted_string, item.value) for item in raw.subject]
        self.common_name = next((value for kind, value in flat if kind == _COMMON_NAME), None)
        self.organizations = [value for kind, value in flat if kind == _ORGANIZATION]
        public_key = raw.public_key()
        self.key_type, self.key_sha256 = key_type(public_key), public_key_digest(public_key)
        found = {item.oid: item.value for item in raw.extensions}
        constraints = found.get(library.BasicConstraints.oid)
        self.is_ca, self.path_length = (constraints.ca, constraints.path_length) if constraints else (False, None)
        usage = found.get(library.KeyUsage.oid)
        self.usages = [name for name in USAGES if getattr(usage, name)] if usage else []
        purposes = [oid.dotted_string for oid in found.get(library.ExtendedKeyUsage.oid, ())]
        self.extended_usages = [_EXTENDED.get(oid, oid) for oid in purposes]
        self.sans = [san_text(name) for name in found.get(library.SubjectAlternativeName.oid, ())]
        key_id, issuer_id = found.get(library.SubjectKeyIdentifier.oid), found.get(library.AuthorityKeyIdentifier.oid)
        self.subject_key_id = key_id.digest.hex() if key_id else None
        self.authority_key_id = issuer_id.key_identifier.hex() if issuer_id and issuer_id.key_identifier else None

    @property
    def pem(self):
        """The certificate as PEM, one line break at the end."""
        return self.raw.public_bytes(serialization.Encoding.PEM)

    def describe(self):
        """Return what a diff shows of a certificate: names, validity and fingerprints, never key material."""
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

    def signed_by(self, issuer):
        """Return whether issuer (a Certificate) names itself as this one's issuer and its key made the signature."""
        return self._issuer_der == issuer._subject_der and self.verified_by_key(issuer)

    def verified_by_key(self, issuer):
        """Return whether the signature was made by the issuer's key, whatever names the two carry."""
        try:
            return verifies(self.raw, issuer.raw.public_key())
        except Exception:  # what the library refuses to read it has not verified
            return False


def public_key_digest(public_key):
    """Return the SHA-256 of a public key of the library (its SubjectPublicKeyInfo as DER), as lower-case hexadecimal."""
    return hashlib.sha256(
        public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def key_type(public_key):
    """Return the type of a public key of the library as the reports show it: "rsa-2048", "ecdsa-p256", "ed25519", "unknown"."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return "rsa-%d" % public_key.key_size
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}.get(
            public_key.curve.name, "ecdsa-" + public_key.curve.name
        )
    return "ed25519" if isinstance(public_key, ed25519.Ed25519PublicKey) else "unknown"


def san_text(name):
    """Return a name of the library as the reports show it: "DNS:a", "IP:1.2.3.4", "URI:...", "email:...", "other:KIND"."""
    kinds = (
        (library.DNSName, "DNS"),
        (library.IPAddress, "IP"),
        (library.UniformResourceIdentifier, "URI"),
        (library.RFC822Name, "email"),
    )
    kind = next((word for known, word in kinds if isinstance(name, known)), None)
    return "%s:%s" % (kind, name.value) if kind else "other:%s" % type(name).__name__


def parse_certificates(data, path=None):
    """Return every certificate of a PEM file, in order, as Certificates. Other PEM blocks are passed over.

    data: bytes. Raises PkiError when there is none, when one cannot be read, and for a form that Kubernetes cannot read
    (pem.select).
    """
    found = pem.select(data, lambda kind: kind == "CERTIFICATE", "certificate", path, _FIX)
    return [Certificate(block.der, path) for block in found]


def parse_certificate(data, path=None):
    """Return the first certificate of a PEM file: the leaf of a chain, the signer of a CA bundle."""
    return parse_certificates(data, path)[0]


def parse_der_certificate(der, path=None):
    """Return a Certificate from DER, as a TLS handshake delivers it."""
    try:
        return Certificate(der, path)
    except PkiError as error:
        raise PkiError(error.message.replace("holds", "serves", 1), path=path) from None


def bundle(certificates):
    """Return one PEM of several Certificates, in order, each once."""
    seen, found = set(), []
    for certificate in certificates:
        if certificate.sha256 not in seen:
            seen.add(certificate.sha256)
            found.append(certificate.pem)
    return b"".join(found)


def private_key_digest(data, path=None, likely=None):
    """Return the key_sha256 of a PEM file's private key, for comparing a pair. Raises PkiError: none, damaged, encrypted.

    likely: the Certificate that it should belong to, or None. Where the library cannot leave the primes of an RSA key untested,
    OpenSSL is asked first whether the two belong together, which takes a millisecond instead of forty; a node has 17 keys.
    """
    block = pem.private_block(data, path)
    if likely is not None and not SKIPS_PRIME_TESTS and likely.key_type.startswith("rsa") and belongs_to(likely, block.text):
        return likely.key_sha256
    try:
        return public_key_digest(load_private_key(block.text, trusted=True).public_key())
    except Exception:  # the library's own text can quote what it read
        raise PkiError("the private key is damaged or truncated", path=path, fix=pem.KEY_FIX) from None


def belongs_to(certificate, key_pem):
    """Return whether an unencrypted private key (PEM bytes) is that of a Certificate, as OpenSSL compares them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or small keys and SHA-1 would be refused, which is not the question
        with memfd.path_of(certificate.pem + key_pem) as path:
            context.load_cert_chain(path, password="")  # never asks at the terminal
    except (OSError, ValueError, TypeError):  # ssl.SSLError is an OSError
        return False
    return True


def public_key_digests(data, path=None):
    """Return the key_sha256 of every public key of a PEM file such as sa.pub, in order; certificates and private keys count."""
    return [public_key_digest(key) for key in load_public_keys(data, path)]


def load_public_keys(data, path=None):
    """Return the library's public keys of a PEM file, in order; certificates and private keys count. Raises PkiError."""
    fix = "Restore it from a backup."
    found = []
    for block in pem.select(
        data, lambda kind: kind == "CERTIFICATE" or kind.endswith(("PRIVATE KEY", "PUBLIC KEY")), "public key", path, fix
    ):
        try:
            if block.kind == "CERTIFICATE":
                found.append(library.load_der_x509_certificate(block.der).public_key())
            elif block.kind.endswith("PRIVATE KEY"):
                found.append(load_private_key(block.text, trusted=True).public_key())
            else:
                found.append(serialization.load_pem_public_key(block.text))
        except Exception:  # the library's own text can quote what it read
            raise PkiError("holds a damaged key", path=path, fix=fix) from None
    return found


def _first_line(error):
    return (str(error).splitlines() or ["unreadable"])[0][:120]
