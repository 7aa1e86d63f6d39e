# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and sign certificates and requests (RFC 5280, RFC 2986)."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING, Any, Collection, Iterable

from ..errors import PkiError
from . import csr_read, general_names
from .crypto_library import UTC, ExtendedKeyUsageOID, ec, ed25519, hashes, serialization
from .crypto_library import x509 as _x509
from .x509_read import USAGES, Certificate, now

if TYPE_CHECKING:
    from .private_keys import PrivateKey, PublicKey

# kubeadm backdates certificates, for nodes whose clocks are slow (cmd/kubeadm/app/util/pkiutil).
BACKDATE = datetime.timedelta(minutes=5)

# RFC 5280 4.1.2.5: 99991231235959Z stands for "no well-defined expiration".
LATEST = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def validity(
    days: float, backdate_to: datetime.datetime | None = None, start: datetime.datetime | None = None
) -> tuple[datetime.datetime, datetime.datetime]:
    """Return (not_before, not_after) of a certificate that is valid for `days` from start, or from now.

    not_before is five minutes earlier, but not earlier than backdate_to (not_before of the CA). Raise PkiError unless days is
    above 0.
    """
    if not days > 0:
        raise PkiError("a validity of %s days is not possible" % days, fix="Give a number of days above 0.")
    start = start or now()
    not_before = start - BACKDATE
    if backdate_to is not None:
        not_before = min(max(not_before, backdate_to), start)
    try:
        not_after = start + datetime.timedelta(days=days)
    except OverflowError:
        not_after = LATEST
    return not_before, min(not_after, LATEST).replace(microsecond=0)


_LEAF_USAGES = ("digital_signature", "key_encipherment")


class Profile:
    """The subject, SANs and usages of a leaf.

    sans: "DNS:...", "IP:...". extended_usages: "server", "client" or OIDs. usages: as in Certificate; by default
    digital_signature and key_encipherment, as kubeadm. Raises PkiError for a name, SAN or usage that a certificate cannot hold.
    The attributes sans, usages and extended_usages are (extension of the library, critical), or None.
    """

    sans: tuple[_x509.SubjectAlternativeName, bool] | None
    usages: tuple[_x509.KeyUsage, bool]
    extended_usages: tuple[_x509.ExtendedKeyUsage, bool] | None

    def __init__(
        self,
        common_name: str,
        organizations: Iterable[str] = (),
        sans: Collection[str] = (),
        extended_usages: Iterable[str] = ("client",),
        usages: Collection[str] | None = None,
    ) -> None:
        self.subject = general_names.subject_name(common_name, organizations)
        self.sans = (_x509.SubjectAlternativeName([general_names.general_name(text) for text in sans]), False) if sans else None
        self.usages = (_key_usage(_LEAF_USAGES if usages is None else usages), True)
        values = [_extended_usage(name) for name in extended_usages]
        self.extended_usages = (_x509.ExtendedKeyUsage(values), False) if values else None

    def differences(self, certificate: Certificate | csr_read.Request) -> list[str]:
        """Return in what a certificate or request differs: any of "subject", "SANs", "usages". Order is ignored."""
        found: dict[_x509.ObjectIdentifier, Any] = {item.oid: item.value for item in certificate.raw.extensions}
        different = ["subject"] if certificate.raw.subject != self.subject else []
        if set(self.sans[0] if self.sans else ()) != set(found.get(_x509.SubjectAlternativeName.oid, ())):
            different.append("SANs")
        extended = set(self.extended_usages[0] if self.extended_usages else ())
        if self.usages[0] != found.get(_x509.KeyUsage.oid) or extended != set(found.get(_x509.ExtendedKeyUsage.oid, ())):
            different.append("usages")
        return different

    @classmethod
    def of(cls, source: Certificate | csr_read.Request) -> Profile:
        """Return the profile of a certificate or request, with its extensions as they are, without the usages of a CA."""
        profile = cls.__new__(cls)
        profile.subject = source.raw.subject
        found: dict[_x509.ObjectIdentifier, Any] = {item.oid: (item.value, item.critical) for item in source.raw.extensions}
        profile.sans = found.get(_x509.SubjectAlternativeName.oid)
        profile.usages = found.get(_x509.KeyUsage.oid) or (_key_usage(_LEAF_USAGES), True)
        if profile.usages[0].key_cert_sign or profile.usages[0].crl_sign:
            kept = [name for name in USAGES if getattr(profile.usages[0], name) and name not in ("key_cert_sign", "crl_sign")]
            profile.usages = (_key_usage(kept), profile.usages[1])
        profile.extended_usages = found.get(_x509.ExtendedKeyUsage.oid)
        return profile


def sign_leaf(
    profile: Profile,
    public_key: PrivateKey | PublicKey | csr_read.Request | Certificate,
    ca: Certificate,
    ca_key: PrivateKey,
    days: float,
    start: datetime.datetime | None = None,
) -> Certificate:
    """Return a leaf certificate, signed by a CA, with CA:FALSE and a random serial of 63 bits (kubeadm: NewSignedCert).

    public_key: the leaf's, or what holds it. days: validity from start, or from now.
    Raise PkiError when ca_key is not the CA's key or the CA may not sign, and for a request that asks to be a CA or is ambiguous.
    """
    check_signer(ca, ca_key)
    if isinstance(public_key, csr_read.Request):
        refuse_unfit(public_key, profile)
    raw_key: Any = public_key.raw.public_key() if hasattr(public_key.raw, "public_key") else public_key.raw
    not_before, not_after = validity(days, backdate_to=ca.not_before, start=start)
    builder = (
        _x509.CertificateBuilder()
        .subject_name(profile.subject)
        .issuer_name(ca.raw.subject)
        .public_key(raw_key)
        .serial_number(_serial())
        .not_valid_before(_naive(not_before))
        .not_valid_after(_naive(not_after))
    )
    for extension in (profile.usages, profile.extended_usages):
        if extension:
            builder = builder.add_extension(extension[0], critical=extension[1])
    builder = builder.add_extension(_x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_authority_key_identifier(ca), critical=False)
    if profile.sans:
        builder = builder.add_extension(profile.sans[0], critical=profile.sans[1])
    return _certificate(builder.sign(ca_key.raw, _digest(ca_key)))


def refuse_unfit(request: csr_read.Request, profile: Profile | None = None) -> None:
    """Raise PkiError for a request that asks to be a CA, or that two readers could read differently.

    profile: the profile to sign, whose subject is checked, too.
    """
    found = ["it asks to be a CA (CA:TRUE, keyCertSign or cRLSign)"] if request.wants_ca else []
    ambiguities = request.ambiguities or (csr_read.subject_ambiguities(profile.subject) if profile is not None else [])
    if ambiguities:
        found.append("it can be read in two ways (%s)" % "; ".join(ambiguities))
    if found:
        raise PkiError("; ".join(found), path=request.path, fix="See who made this request. Nothing was signed.")


def check_signer(ca: Certificate, ca_key: PrivateKey | None) -> None:
    """Raise PkiError unless a CA certificate may sign certificates and ca_key is its key."""
    if not ca.is_ca or (ca.usages and "key_cert_sign" not in ca.usages):
        raise PkiError("%s is not a certificate authority" % ca.subject, path=ca.path, fix="Name a CA certificate.")
    if ca_key is None or not ca_key.matches(ca):
        raise PkiError(
            "the key beside it is not the key of this CA certificate",
            path=ca.path,
            fix="Put back the key that belongs to it (a backup set holds it) before anything is signed.",
        )


def build_request(profile: Profile, key: PrivateKey) -> csr_read.Request:
    """Return a certificate signing request with a profile, signed with its key."""
    builder = _x509.CertificateSigningRequestBuilder().subject_name(profile.subject)
    for extension in (profile.sans, profile.usages, profile.extended_usages):
        if extension:
            builder = builder.add_extension(extension[0], critical=extension[1])
    return csr_read.Request(builder.sign(key.raw, _digest(key)))


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
        (_key_usage(("digital_signature", "key_encipherment", "key_cert_sign")), True),
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
        .serial_number(_serial())
        .not_valid_before(_naive(not_before))
        .not_valid_after(_naive(not_after))
    )
    if parent:
        # Only with a parent: Go and kubeadm write no authority key identifier to a self-signed certificate.
        place = [isinstance(extension, _x509.SubjectKeyIdentifier) for extension, _critical in extensions] + [True]
        extensions.insert(place.index(True) + 1, (_authority_key_identifier(parent), False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return _certificate(builder.sign(signer.raw, _digest(signer)))


def _certificate(raw: _x509.Certificate) -> Certificate:
    return Certificate(raw.public_bytes(serialization.Encoding.DER), raw=raw)


def _naive(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0)


def _digest(key: PrivateKey) -> Any:
    # As Go chooses it (crypto/x509: signingParamsForKey): the hash follows the size of the signing curve.
    if isinstance(key.raw, ed25519.Ed25519PrivateKey):
        return None
    size = key.raw.curve.key_size if isinstance(key.raw, ec.EllipticCurvePrivateKey) else 0
    return hashes.SHA384() if size == 384 else hashes.SHA512() if size == 521 else hashes.SHA256()


def _serial() -> int:
    # RFC 5280 4.1.2.2: positive. kubeadm draws 63 bits.
    return (int.from_bytes(os.urandom(8), "big") >> 1) or 1


def _authority_key_identifier(ca: Certificate) -> _x509.AuthorityKeyIdentifier:
    try:
        digest = ca.raw.extensions.get_extension_for_class(_x509.SubjectKeyIdentifier).value.digest
    except _x509.ExtensionNotFound:
        digest = _x509.SubjectKeyIdentifier.from_public_key(ca.raw.public_key()).digest
    return _x509.AuthorityKeyIdentifier(key_identifier=digest, authority_cert_issuer=None, authority_cert_serial_number=None)


def _extended_usage(name: str) -> _x509.ObjectIdentifier:
    known = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    if name in known:
        return known[name]
    try:
        return _x509.ObjectIdentifier(name)
    except ValueError:
        raise PkiError("the usage %s is not known" % name, fix="Write server, client or an OID in numbers.") from None


def _key_usage(names: Collection[str]) -> _x509.KeyUsage:
    unknown = sorted(set(names) - set(USAGES))
    if unknown:
        raise PkiError("the key usage %s is not known" % unknown[0], fix="Choose among %s." % ", ".join(USAGES))
    return _x509.KeyUsage(encipher_only=False, decipher_only=False, **{name: name in names for name in USAGES})
