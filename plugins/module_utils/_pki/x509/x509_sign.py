# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and sign leaf certificates and requests (RFC 5280, RFC 2986). ca_sign makes CA certificates."""

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
        self.usages = (key_usage(_LEAF_USAGES if usages is None else usages), True)
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
        profile.usages = found.get(_x509.KeyUsage.oid) or (key_usage(_LEAF_USAGES), True)
        if profile.usages[0].key_cert_sign or profile.usages[0].crl_sign:
            kept = [name for name in USAGES if getattr(profile.usages[0], name) and name not in ("key_cert_sign", "crl_sign")]
            profile.usages = (key_usage(kept), profile.usages[1])
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
        .serial_number(serial_number())
        .not_valid_before(naive_utc(not_before))
        .not_valid_after(naive_utc(not_after))
    )
    for extension in (profile.usages, profile.extended_usages):
        if extension:
            builder = builder.add_extension(extension[0], critical=extension[1])
    builder = builder.add_extension(_x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(authority_key_identifier(ca), critical=False)
    if profile.sans:
        builder = builder.add_extension(profile.sans[0], critical=profile.sans[1])
    return certificate_of(builder.sign(ca_key.raw, signature_hash(ca_key)))


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
    return csr_read.Request(builder.sign(key.raw, signature_hash(key)))


def certificate_of(raw: _x509.Certificate) -> Certificate:
    """Return the Certificate of one that was just signed."""
    return Certificate(raw.public_bytes(serialization.Encoding.DER), raw=raw)


def naive_utc(moment: datetime.datetime) -> datetime.datetime:
    """Return a time as the builders of `cryptography` take it: UTC without a time zone, in whole seconds."""
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0)


def signature_hash(key: PrivateKey) -> Any:
    """Return the hash that a key signs with; None for Ed25519."""
    # As Go chooses it (crypto/x509: signingParamsForKey): the hash follows the size of the signing curve.
    if isinstance(key.raw, ed25519.Ed25519PrivateKey):
        return None
    size = key.raw.curve.key_size if isinstance(key.raw, ec.EllipticCurvePrivateKey) else 0
    return hashes.SHA384() if size == 384 else hashes.SHA512() if size == 521 else hashes.SHA256()


def serial_number() -> int:
    """Return a random serial number."""
    # RFC 5280 4.1.2.2: positive. kubeadm draws 63 bits.
    return (int.from_bytes(os.urandom(8), "big") >> 1) or 1


def authority_key_identifier(ca: Certificate) -> _x509.AuthorityKeyIdentifier:
    """Return the extension that names a CA's key in what the CA signs."""
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


def key_usage(names: Collection[str]) -> _x509.KeyUsage:
    """Return the extension with these usages. Raise PkiError with one that is not known."""
    unknown = sorted(set(names) - set(USAGES))
    if unknown:
        raise PkiError("the key usage %s is not known" % unknown[0], fix="Choose among %s." % ", ".join(USAGES))
    return _x509.KeyUsage(encipher_only=False, decipher_only=False, **{name: name in names for name in USAGES})
