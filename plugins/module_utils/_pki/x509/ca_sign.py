# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make, renew and cross-sign CA certificates (RFC 5280)."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Iterable

from . import general_names
from .crypto_library import x509 as _x509
from .x509_read import Certificate, now
from .x509_sign import (
    authority_key_identifier,
    certificate_of,
    check_signer,
    key_usage,
    naive_utc,
    serial_number,
    signature_hash,
    validity,
)

if TYPE_CHECKING:
    from .private_keys import PrivateKey


def build_ca(
    common_name: str,
    key: PrivateKey,
    days: float,
    parent: Certificate | None = None,
    parent_key: PrivateKey | None = None,
    organizations: Iterable[str] = (),
    start: datetime.datetime | None = None,
) -> Certificate:
    """Return a new CA certificate in kubeadm's profile: critical CA:TRUE without path length, SAN DNS:CN.

    A common name that is not a host name gets no SAN. parent, parent_key: the issuer; without them it is self-signed. Raise
    PkiError where the parent may not sign.
    """
    subject = general_names.subject_name(common_name, organizations)
    extensions: list[tuple[Any, bool]] = [
        (key_usage(("digital_signature", "key_encipherment", "key_cert_sign")), True),
        (_x509.BasicConstraints(ca=True, path_length=None), True),
        (_x509.SubjectKeyIdentifier.from_public_key(key.raw.public_key()), False),
    ]
    if general_names.is_host(common_name):
        extensions.append((_x509.SubjectAlternativeName([general_names.general_name("DNS:" + common_name)]), False))
    return _sign_ca(subject, extensions, key, days, parent, parent_key, start)


def renew_ca(
    certificate: Certificate,
    key: PrivateKey,
    days: float,
    start: datetime.datetime | None = None,
    parent: Certificate | None = None,
    parent_key: PrivateKey | None = None,
) -> Certificate:
    """Return a CA certificate with the same key, subject and extensions, valid for `days` from start, or from now.

    parent, parent_key: as in build_ca(). What the old one signed is valid below the new one.
    """
    check_signer(certificate, key)
    return _sign_ca(certificate.raw.subject, _extensions_of(certificate), key, days, parent, parent_key, start)


def cross_sign(certificate: Certificate, issuer: Certificate, issuer_key: PrivateKey) -> Certificate:
    """Return a CA certificate with the subject, key and constraints of another, signed by issuer.

    A client that trusts only issuer then accepts what the other CA signs. Valid until the first of the two expires.
    """
    check_signer(issuer, issuer_key)
    days = (min(certificate.not_after, issuer.not_after) - now()).total_seconds() / 86400.0
    extensions = [pair for pair in _extensions_of(certificate) if not isinstance(pair[0], _extensions_of_issuer())]
    return _sign_ca(certificate.raw.subject, extensions, certificate, days, issuer, issuer_key, None)


def _extensions_of(certificate: Certificate) -> list[tuple[Any, bool]]:
    """Return [(extension, critical)] of a certificate in order, without those that its signature decides."""
    return [
        (item.value, item.critical)
        for item in certificate.raw.extensions
        if not isinstance(item.value, (_x509.AuthorityKeyIdentifier, _x509.PrecertificateSignedCertificateTimestamps))
    ]


def _extensions_of_issuer() -> tuple[type, ...]:
    # They hold the issuer's CRL, certificate and further names.
    return (_x509.CRLDistributionPoints, _x509.FreshestCRL, _x509.AuthorityInformationAccess, _x509.IssuerAlternativeName)


def _sign_ca(
    subject: _x509.Name,
    extensions: list[tuple[Any, bool]],
    key: PrivateKey | Certificate,
    days: float,
    parent: Certificate | None,
    parent_key: PrivateKey | None,
    start: datetime.datetime | None,
) -> Certificate:
    """Return a CA certificate. key: holds its public key; without a parent it is the private key that signs."""
    if parent:
        check_signer(parent, parent_key)
    signer: Any = parent_key or key
    not_before, not_after = validity(days, backdate_to=parent.not_before if parent else None, start=start)
    builder = (
        _x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.raw.subject if parent else subject)
        .public_key(key.raw.public_key())
        .serial_number(serial_number())
        .not_valid_before(naive_utc(not_before))
        .not_valid_after(naive_utc(not_after))
    )
    if parent:
        # Only with a parent: Go and kubeadm write no authority key identifier to a self-signed certificate.
        place = [isinstance(extension, _x509.SubjectKeyIdentifier) for extension, _critical in extensions] + [True]
        extensions.insert(place.index(True) + 1, (authority_key_identifier(parent), False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return certificate_of(builder.sign(signer.raw, signature_hash(signer)))
