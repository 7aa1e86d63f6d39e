# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and sign certificates and requests (RFC 5280, RFC 2986)."""

from __future__ import annotations

import datetime
import ipaddress
import os

from ..errors import PkiError
from . import csr_read, general_names
from .crypto_library import UTC, ExtendedKeyUsageOID, ec, ed25519, hashes, serialization
from .crypto_library import x509 as _x509
from .x509_read import USAGES, Certificate, now

# kubeadm backdates what it issues, for nodes whose clocks are a little behind (cmd/kubeadm/app/util/pkiutil).
BACKDATE = datetime.timedelta(minutes=5)

# RFC 5280 4.1.2.5: 99991231235959Z stands for "no well-defined expiration".
LATEST = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def validity(days, backdate_to=None, start=None):
    """Give (not_before, not_after) for something that shall live for `days` (float or int) from now on.

    not_before lies five minutes back, but not before backdate_to (the CA's own beginning). Raises PkiError unless days
    is a number above 0.
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


class Profile:
    """What a leaf says beside its key: subject, SANs and usages.

    common_name: str; organizations: list; sans: list of "DNS:..." and "IP:..."; extended_usages: "server", "client" or
    OIDs; usages as in Certificate (default digital_signature and key_encipherment, as kubeadm).
    Raises PkiError for a name, SAN or usage that a certificate cannot hold.
    """

    def __init__(self, common_name, organizations=(), sans=(), extended_usages=("client",), usages=None):
        self.subject = general_names.subject_name(common_name, organizations)
        self.sans = (_x509.SubjectAlternativeName([general_names.general_name(text) for text in sans]), False) if sans else None
        names = ("digital_signature", "key_encipherment") if usages is None else usages
        self.usages = (_key_usage(names), True)
        values = [_extended_usage(name) for name in extended_usages]
        self.extended_usages = (_x509.ExtendedKeyUsage(values), False) if values else None

    def differences(self, certificate):
        """Give what a Certificate says otherwise: a list out of "subject", "SANs", "usages". Order does not count."""
        found = {item.oid: item.value for item in certificate.raw.extensions}
        different = ["subject"] if certificate.raw.subject != self.subject else []
        if set(self.sans[0] if self.sans else ()) != set(found.get(_x509.SubjectAlternativeName.oid, ())):
            different.append("SANs")
        extended = set(self.extended_usages[0] if self.extended_usages else ())
        if self.usages[0] != found.get(_x509.KeyUsage.oid) or extended != set(found.get(_x509.ExtendedKeyUsage.oid, ())):
            different.append("usages")
        return different

    @classmethod
    def of(cls, source):
        """Take everything from an existing Certificate or from a Request, extensions bit by bit, but for what makes a CA."""
        profile = cls.__new__(cls)
        profile.subject = source.raw.subject
        found = {item.oid: (item.value, item.critical) for item in source.raw.extensions}
        profile.sans = found.get(_x509.SubjectAlternativeName.oid)
        profile.usages = found.get(_x509.KeyUsage.oid) or (_key_usage(("digital_signature", "key_encipherment")), True)
        if profile.usages[0].key_cert_sign or profile.usages[0].crl_sign:
            kept = [name for name in USAGES if getattr(profile.usages[0], name) and name not in ("key_cert_sign", "crl_sign")]
            profile.usages = (_key_usage(kept), profile.usages[1])
        profile.extended_usages = found.get(_x509.ExtendedKeyUsage.oid)
        return profile


def sign_leaf(profile, public_key, ca, ca_key, days, start=None):
    """Sign a leaf certificate.

    profile: a Profile. public_key: anything with `raw` that is or has a public key (PrivateKey, Request, Certificate).
    ca, ca_key: the signer's Certificate and PrivateKey. days: validity from now (or from start).
    Gives a Certificate with a random 63-bit serial (kubeadm: NewSignedCert), basicConstraints CA:FALSE and the
    signer's key identifier. Raises PkiError when ca_key is not the CA's key or the CA may not sign, and for a Request that asks
    to be a CA or that is ambiguous: it is not signed, whatever the profile takes from it.
    """
    check_signer(ca, ca_key)
    if isinstance(public_key, csr_read.Request):
        refuse_unfit(public_key, profile)
    raw_key = public_key.raw.public_key() if hasattr(public_key.raw, "public_key") else public_key.raw
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
    """Raise PkiError for a request that no CA here signs: it asks to be a CA, or two readers could read it differently.

    profile: what is taken from it, or None for the request alone.
    """
    found = ["it asks to be a CA (CA:TRUE, keyCertSign or cRLSign)"] if request.wants_ca else []
    ambiguities = request.ambiguities or (csr_read.subject_ambiguities(profile.subject) if profile is not None else [])
    if ambiguities:
        found.append("it can be read in two ways (%s)" % "; ".join(ambiguities))
    if found:
        raise PkiError("; ".join(found), path=request.path, fix="See who made this request. Nothing was signed.")


def check_signer(ca, ca_key):
    """Raise PkiError unless ca (a Certificate) may sign certificates and ca_key is its key."""
    if not ca.is_ca or (ca.usages and "key_cert_sign" not in ca.usages):
        raise PkiError("%s is not a certificate authority" % ca.subject, path=ca.path, fix="Name a CA certificate.")
    if not ca_key.matches(ca):
        raise PkiError(
            "the key beside it is not the key of this CA certificate",
            path=ca.path,
            fix="Put back the key that belongs to it (a backup set holds it) before anything is signed.",
        )


def forbidden_name(ca, sans):
    """Give the first of sans ("DNS:...", "IP:...") that a CA's name constraints forbid (RFC 5280 4.2.1.10), or None."""
    found = next((item.value for item in ca.raw.extensions if item.oid == _x509.NameConstraints.oid), None)
    if found is None:
        return None
    for text in sans:
        kind, _colon, value = text.partition(":")
        permitted, excluded = (_constraints(trees, kind) for trees in (found.permitted_subtrees, found.excluded_subtrees))
        if any(_constrained(value, item) for item in excluded) or (
            permitted and not any(_constrained(value, item) for item in permitted)
        ):
            return text
    return None


def _constraints(trees, kind):
    types = {"DNS": _x509.DNSName, "IP": _x509.IPAddress}
    return [tree.value for tree in trees or () if kind in types and isinstance(tree, types[kind])]


def _constrained(value, constraint):
    if isinstance(constraint, str):
        domain = constraint.lstrip(".").lower()
        return not domain or value.lower() == domain or value.lower().endswith("." + domain)
    return ipaddress.ip_address(value) in constraint


def build_request(profile, key):
    """Make a certificate request for a Profile, signed with a PrivateKey. Gives a Request."""
    builder = _x509.CertificateSigningRequestBuilder().subject_name(profile.subject)
    for extension in (profile.sans, profile.usages, profile.extended_usages):
        if extension:
            builder = builder.add_extension(extension[0], critical=extension[1])
    return csr_read.Request(builder.sign(key.raw, _digest(key)))


def build_ca(common_name, key, days, parent=None, parent_key=None, organizations=(), start=None):
    """Make a CA certificate in kubeadm's profile: critical CA:TRUE without path length, SAN DNS=CN, ten years usually.

    A common name that is no host name (Corporate Root CA) has no such SAN.
    key: the CA's PrivateKey. days: validity from now. parent, parent_key: who signs it; itself when missing.
    Gives a Certificate.
    """
    subject = general_names.subject_name(common_name, organizations)
    extensions = [
        (_key_usage(("digital_signature", "key_encipherment", "key_cert_sign")), True),
        (_x509.BasicConstraints(ca=True, path_length=None), True),
        (_x509.SubjectKeyIdentifier.from_public_key(key.raw.public_key()), False),
    ]
    if general_names.is_host(common_name):
        extensions.append((_x509.SubjectAlternativeName([general_names.general_name("DNS:" + common_name)]), False))
    return _sign_ca(subject, extensions, key, days, parent, parent_key, start)


def renew_ca(certificate, key, days, start=None, parent=None, parent_key=None):
    """Make a CA certificate again with the same key, subject and extensions, for `days` from now on.

    parent, parent_key: who signs it; itself when missing. Everything the old one signed stays valid below the new one, because
    subject, key and key identifier are the same; what bounds it (path length, name constraints) bounds the new one, too.
    """
    check_signer(certificate, key)
    return _sign_ca(certificate.raw.subject, _extensions_of(certificate), key, days, parent, parent_key, start)


def cross_sign(certificate, issuer, issuer_key):
    """Certify another CA's name and key with issuer: whoever trusts only issuer then accepts what that CA signs.

    The result lives as long as both do. Gives a Certificate with the subject, key and bounds of `certificate`.
    """
    check_signer(issuer, issuer_key)
    days = (min(certificate.not_after, issuer.not_after) - now()).total_seconds() / 86400.0
    extensions = [pair for pair in _extensions_of(certificate) if not isinstance(pair[0], _of_the_issuer())]
    return _sign_ca(certificate.raw.subject, extensions, certificate, days, issuer, issuer_key, None)


def _extensions_of(certificate):
    """Give [(extension, critical)] of a certificate, in order, but for the identifier of the key that signed it."""
    return [
        (item.value, item.critical)
        for item in certificate.raw.extensions
        if not isinstance(item.value, (_x509.AuthorityKeyIdentifier, _x509.PrecertificateSignedCertificateTimestamps))
    ]


def _of_the_issuer():
    # What another issuer says otherwise: where its revocations and its own certificate are, and its further names.
    return (_x509.CRLDistributionPoints, _x509.FreshestCRL, _x509.AuthorityInformationAccess, _x509.IssuerAlternativeName)


def _sign_ca(subject, extensions, key, days, parent, parent_key, start):
    if parent:
        check_signer(parent, parent_key)
    signer = parent_key or key
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
        # Go leaves the authority's key identifier out of self-signed certificates, and so does kubeadm.
        place = [isinstance(extension, _x509.SubjectKeyIdentifier) for extension, _critical in extensions] + [True]
        extensions.insert(place.index(True) + 1, (_authority_key_identifier(parent), False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return _certificate(builder.sign(signer.raw, _digest(signer)))


def _certificate(raw):
    return Certificate(raw.public_bytes(serialization.Encoding.DER), raw=raw)


def _naive(moment):
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0)


def _digest(key):
    # As Go chooses (crypto/x509: signingParamsForKey): the hash follows the size of the signing curve.
    if isinstance(key.raw, ed25519.Ed25519PrivateKey):
        return None
    size = key.raw.curve.key_size if isinstance(key.raw, ec.EllipticCurvePrivateKey) else 0
    return hashes.SHA384() if size == 384 else hashes.SHA512() if size == 521 else hashes.SHA256()


def _serial():
    # RFC 5280 4.1.2.2: positive. kubeadm draws 63 bits.
    return (int.from_bytes(os.urandom(8), "big") >> 1) or 1


def _authority_key_identifier(ca):
    try:
        digest = ca.raw.extensions.get_extension_for_class(_x509.SubjectKeyIdentifier).value.digest
    except _x509.ExtensionNotFound:
        digest = _x509.SubjectKeyIdentifier.from_public_key(ca.raw.public_key()).digest
    return _x509.AuthorityKeyIdentifier(key_identifier=digest, authority_cert_issuer=None, authority_cert_serial_number=None)


def _extended_usage(name):
    known = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    if name in known:
        return known[name]
    try:
        return _x509.ObjectIdentifier(name)
    except ValueError:
        raise PkiError("the usage %s is not known" % name, fix="Write server, client or an OID in numbers.") from None


def _key_usage(names):
    unknown = sorted(set(names) - set(USAGES))
    if unknown:
        raise PkiError("the key usage %s is not known" % unknown[0], fix="Choose among %s." % ", ".join(USAGES))
    return _x509.KeyUsage(encipher_only=False, decipher_only=False, **{name: name in names for name in USAGES})
