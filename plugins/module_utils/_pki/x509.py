# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and sign keys, certificates and requests, and read what `certificates` does not (RFC 5280, RFC 2986).

With certificates and tokens the only room that imports cryptography; it works with every version from 3.4 on, and the differences
between versions end here.
"""

from __future__ import annotations

__metaclass__ = type

import datetime
import ipaddress
import os
import re
import unicodedata

from . import pem as _pem

# Reading is certificates' part; its names are this module's, too.
from .certificates import (
    USAGES,
    Certificate,
    bundle,
    load_public_keys,
    now,
    parse_certificate,
    parse_certificates,
    parse_der_certificate,
    private_key_digest,
    serial_text,
    timestamp,
)
from .certificates import (
    key_type as _key_type,
)
from .certificates import (
    public_key_digest as _key_sha256,
)
from .certificates import (
    san_text as _san_text,
)
from .crypto_library import UTC, ExtendedKeyUsageOID, NameOID, ec, ed25519, hashes, load_private_key, rsa, serialization
from .crypto_library import x509 as _x509
from .errors import PkiError, printable

# Imported for those who use this module alone.
__all__ = ("bundle", "parse_certificate", "parse_certificates", "parse_der_certificate", "private_key_digest",
           "serial_text", "timestamp")

# What reading somebody else's bytes may raise: KeyError and InternalError came out of versions 38 and 3.4, too.
_UNREADABLE = Exception

KEY_TYPES = ("rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384")

# kubeadm backdates what it issues, for nodes whose clocks are a little behind (cmd/kubeadm/app/util/pkiutil).
BACKDATE = datetime.timedelta(minutes=5)
# RFC 5280 4.1.2.5: 99991231235959Z stands for "no well-defined expiration".
LATEST = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")

# Attributes of a request that carry extensions: PKCS #9 extensionRequest (RFC 2985 5.4.2) and Microsoft's, as DER. Go reads the
# first kind only, and of that kind all of them; cryptography reads one of either kind.
_EXTENSION_REQUEST, _OTHER_EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e"), bytes.fromhex("060a2b06010401823702010e")
# The string types that all readers decode alike. Go cuts a NUL off a BMPString; T61String is read in several ways.
_PLAIN_STRINGS = ("UTF8String", "PrintableString", "IA5String")
_NOT_PRINTABLE_STRING = re.compile(r"[^A-Za-z0-9 '()+,./:=?-]")


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
            self._pem = self.raw.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                               serialization.NoEncryption())
        return self._pem

    @property
    def public_pem(self):
        """The public half, as in sa.pub (PKIX, "PUBLIC KEY")."""
        return self.raw.public_key().public_bytes(serialization.Encoding.PEM,
                                                  serialization.PublicFormat.SubjectPublicKeyInfo)

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


class Request:
    """A parsed certificate signing request: subject, common_name, organizations, sans, extended_usages, key_sha256.

    common_names: every CN, in order (Go takes the last one, crypto/x509/pkix: FillFromRDNSequence; common_name is the first).
    further_attributes: dotted OIDs of subject attributes that are neither CN nor O. wants_ca: it asks for CA:TRUE, or for a key
    usage that only a CA has. ambiguities: why another reader might see other names or extensions in it than this one does
    ([str], sentences without full stops); ambiguous: whether there are any. unknown_extensions: dotted OIDs of the extensions it
    asks for that no leaf of Kubernetes has. SANs are folded: ::ffff:10.0.0.1 is the IPv4 address, as in Go.
    """

    def __init__(self, raw, path=None):
        self.raw = raw
        self.path = path
        try:
            self.subject = raw.subject.rfc4514_string()
            self.common_name = _one(raw.subject, NameOID.COMMON_NAME)
            self.common_names = [item.value for item in raw.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            self.organizations = [item.value for item in raw.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
            self.further_attributes = sorted({item.oid.dotted_string for item in raw.subject}
                                             - {NameOID.COMMON_NAME.dotted_string, NameOID.ORGANIZATION_NAME.dotted_string})
            public_key = raw.public_key()
            self.key_sha256 = _key_sha256(public_key)
            self.key_type = _key_type(public_key)
            self._extensions = {item.oid: item for item in raw.extensions}
            valid = raw.is_signature_valid
        except _UNREADABLE as error:
            raise PkiError("holds a request that cannot be read (%s)" % _first_line(error), path=path,
                           fix="Make the request again.") from None
        if not valid:
            raise PkiError("the request is not signed by the key it carries", path=path,
                           fix="Make the request again; it may have been altered on the way.")
        known = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
        usages = self._extensions.get(_x509.ExtendedKeyUsage.oid)
        self.extended_usages = [known.get(oid, oid.dotted_string) for oid in usages.value] if usages else []
        names = self._extensions.get(_x509.SubjectAlternativeName.oid)
        self.sans = [_folded_san(name) for name in names.value] if names else []
        self.wants_ca = self._wants_ca()
        self.unknown_extensions = sorted(oid.dotted_string for oid in self._extensions if oid not in _leaf_extensions())
        self.ambiguities = subject_ambiguities(raw.subject) + self._ambiguities(names.value if names else ())

    def _wants_ca(self):
        constraints = self._extensions.get(_x509.BasicConstraints.oid)
        usage = self._extensions.get(_x509.KeyUsage.oid)
        return bool(constraints and constraints.value.ca) or bool(usage and (usage.value.key_cert_sign or usage.value.crl_sign))

    def _ambiguities(self, names):
        der = self.raw.public_bytes(serialization.Encoding.DER)
        found = []
        if der.count(_EXTENSION_REQUEST) > 1 or der.count(_OTHER_EXTENSION_REQUEST):
            found.append("several sets of extensions, or one that Go does not read")
        for name in names:
            value = name.value
            if isinstance(value, str) and (not value or not value.isascii() or not value.isprintable() or " " in value):
                found.append("the name %s" % printable(_san_text(name)))
        return found

    @property
    def ambiguous(self):
        """Whether two readers could read it differently."""
        return bool(self.ambiguities)

    @property
    def pem(self):
        """The request as PEM."""
        return self.raw.public_bytes(serialization.Encoding.PEM)


def _folded_san(name):
    return "IP:" + same_name(str(name.value)) if isinstance(name, _x509.IPAddress) else _san_text(name)


def _leaf_extensions():
    return (_x509.SubjectAlternativeName.oid, _x509.KeyUsage.oid, _x509.ExtendedKeyUsage.oid, _x509.BasicConstraints.oid,
            _x509.SubjectKeyIdentifier.oid)


def subject_ambiguities(name) -> list[str]:
    """Return why two readers could read a subject (cryptography's x509.Name) differently, as sentences without full stops.

    Go takes the last of several common names (crypto/x509/pkix: FillFromRDNSequence), others the first. Several organizations in
    one RDN are usual: Go writes them so.
    """
    found = []
    if len(name.get_attributes_for_oid(NameOID.COMMON_NAME)) > 1:
        found.append("several common names")
    if any(len({item.oid for item in rdn}) > 1 for rdn in name.rdns):
        found.append("a part of the subject that holds several kinds of attributes")
    for item in name:
        why = _string_fault(item)
        if why:
            found.append("the subject attribute %s=%s %s" % (
                _ATTRIBUTES.get(item.oid.dotted_string, item.oid.dotted_string), printable(item.value), why))
    return found


_ATTRIBUTES = {"2.5.4.3": "CN", "2.5.4.10": "O"}


def _string_fault(item):
    # Which type a string had is nowhere else; a version of the library that does not say it gets nothing signed.
    kind = getattr(getattr(item, "_type", None), "name", "an unknown type")
    value = item.value
    if kind not in _PLAIN_STRINGS or not isinstance(value, str):
        return "is written as %s" % kind
    if kind == "PrintableString" and _NOT_PRINTABLE_STRING.search(value) or kind == "IA5String" and not value.isascii():
        return "holds characters that its type %s does not have" % kind
    return text_fault(value)


def text_fault(value: str) -> str | None:
    """Return why two readers could read a name differently, or None: control characters, blanks at its ends, look-alikes."""
    if not value:
        return "is empty"
    if not value.isprintable():
        return "holds control or formatting characters"
    if value != " ".join(value.split()):  # RFC 4518 2.6.1: such blanks do not count in a comparison
        return "begins or ends with a blank, or has several in a row"
    if unicodedata.normalize("NFKC", value) != value:
        return "can be written in several ways (Unicode normalization)"
    return None


def parse_private_key(data, path=None):
    """Return the private key of a PEM file (PKCS#1, SEC 1 or PKCS#8). Raises PkiError: none, truncated, encrypted."""
    block = _pem.private_block(data, path)
    try:
        raw = load_private_key(block.text)
    except _UNREADABLE:
        # The library's own text can quote what it read.
        raise PkiError("the private key is damaged or truncated", path=path, fix=_pem.KEY_FIX) from None
    if not isinstance(raw, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise PkiError("the private key is of a kind Kubernetes does not use", path=path, fix=_pem.KEY_FIX)
    return PrivateKey(raw, block.text if block.text.endswith(b"\n") else block.text + b"\n")


def parse_public_keys(data, path=None):
    """Return every public key of a PEM file such as sa.pub, in order. Certificates and private keys count, too."""
    return [PublicKey(key) for key in load_public_keys(data, path)]


def parse_request(data, path=None):
    """Return the request of a PEM file. Raises PkiError when there is none, or it is not signed by its own key."""
    fix = "Make the request again."
    block = _pem.select(data, lambda kind: kind.endswith("CERTIFICATE REQUEST"), "certificate request", path, fix)[0]
    try:
        return Request(_x509.load_der_x509_csr(block.der), path)
    except PkiError:
        raise
    except _UNREADABLE as error:
        raise PkiError("holds a damaged request (%s)" % _first_line(error), path=path, fix=fix) from None


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
        self.subject = _subject(common_name, organizations)
        self.sans = (_x509.SubjectAlternativeName([_san(text) for text in sans]), False) if sans else None
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
    if isinstance(public_key, Request):
        refuse_unfit(public_key, profile)
    raw_key = public_key.raw.public_key() if hasattr(public_key.raw, "public_key") else public_key.raw
    not_before, not_after = validity(days, backdate_to=ca.not_before, start=start)
    builder = (_x509.CertificateBuilder().subject_name(profile.subject).issuer_name(ca.raw.subject).public_key(raw_key)
               .serial_number(_serial()).not_valid_before(_naive(not_before)).not_valid_after(_naive(not_after)))
    for extension in (profile.usages, profile.extended_usages):
        if extension:
            builder = builder.add_extension(extension[0], critical=extension[1])
    builder = builder.add_extension(_x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_authority(ca), critical=False)
    if profile.sans:
        builder = builder.add_extension(profile.sans[0], critical=profile.sans[1])
    return _certificate(builder.sign(ca_key.raw, _digest(ca_key)))


def refuse_unfit(request: Request, profile: Profile | None = None) -> None:
    """Raise PkiError for a request that no CA here signs: it asks to be a CA, or two readers could read it differently.

    profile: what is taken from it, or None for the request alone.
    """
    found = ["it asks to be a CA (CA:TRUE, keyCertSign or cRLSign)"] if request.wants_ca else []
    ambiguities = request.ambiguities or (subject_ambiguities(profile.subject) if profile is not None else [])
    if ambiguities:
        found.append("it can be read in two ways (%s)" % "; ".join(ambiguities))
    if found:
        raise PkiError("; ".join(found), path=request.path, fix="See who made this request. Nothing was signed.")


def check_signer(ca, ca_key):
    """Raise PkiError unless ca (a Certificate) may sign certificates and ca_key is its key."""
    if not ca.is_ca or (ca.usages and "key_cert_sign" not in ca.usages):
        raise PkiError("%s is not a certificate authority" % ca.subject, path=ca.path, fix="Name a CA certificate.")
    if not ca_key.matches(ca):
        raise PkiError("the key beside it is not the key of this CA certificate", path=ca.path,
                       fix="Put back the key that belongs to it (a backup set holds it) before anything is signed.")


def forbidden_name(ca, sans):
    """Give the first of sans ("DNS:...", "IP:...") that a CA's name constraints forbid (RFC 5280 4.2.1.10), or None."""
    found = next((item.value for item in ca.raw.extensions if item.oid == _x509.NameConstraints.oid), None)
    if found is None:
        return None
    for text in sans:
        kind, _colon, value = text.partition(":")
        permitted, excluded = (_constraints(trees, kind) for trees in (found.permitted_subtrees, found.excluded_subtrees))
        if any(_constrained(value, item) for item in excluded) or (
                permitted and not any(_constrained(value, item) for item in permitted)):
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
    return Request(builder.sign(key.raw, _digest(key)))


def build_ca(common_name, key, days, parent=None, parent_key=None, organizations=(), start=None):
    """Make a CA certificate in kubeadm's profile: critical CA:TRUE without path length, SAN DNS=CN, ten years usually.

    A common name that is no host name (Corporate Root CA) has no such SAN.
    key: the CA's PrivateKey. days: validity from now. parent, parent_key: who signs it; itself when missing.
    Gives a Certificate.
    """
    subject = _subject(common_name, organizations)
    extensions = [(_key_usage(("digital_signature", "key_encipherment", "key_cert_sign")), True),
                  (_x509.BasicConstraints(ca=True, path_length=None), True),
                  (_x509.SubjectKeyIdentifier.from_public_key(key.raw.public_key()), False)]
    if _is_host(common_name):
        extensions.append((_x509.SubjectAlternativeName([_san("DNS:" + common_name)]), False))
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
    return [(item.value, item.critical) for item in certificate.raw.extensions
            if not isinstance(item.value, (_x509.AuthorityKeyIdentifier, _x509.PrecertificateSignedCertificateTimestamps))]


def _of_the_issuer():
    # What another issuer says otherwise: where its revocations and its own certificate are, and its further names.
    return (_x509.CRLDistributionPoints, _x509.FreshestCRL, _x509.AuthorityInformationAccess, _x509.IssuerAlternativeName)


def _sign_ca(subject, extensions, key, days, parent, parent_key, start):
    if parent:
        check_signer(parent, parent_key)
    signer = parent_key or key
    not_before, not_after = validity(days, backdate_to=parent.not_before if parent else None, start=start)
    builder = (_x509.CertificateBuilder().subject_name(subject).issuer_name(parent.raw.subject if parent else subject)
               .public_key(key.raw.public_key()).serial_number(_serial())
               .not_valid_before(_naive(not_before)).not_valid_after(_naive(not_after)))
    if parent:
        # Go leaves the authority's key identifier out of self-signed certificates, and so does kubeadm.
        place = [isinstance(extension, _x509.SubjectKeyIdentifier) for extension, _critical in extensions] + [True]
        extensions.insert(place.index(True) + 1, (_authority(parent), False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return _certificate(builder.sign(signer.raw, _digest(signer)))


def _certificate(raw):
    return Certificate(raw.public_bytes(serialization.Encoding.DER), raw=raw)


def _first_line(error):
    return (str(error).splitlines() or ["unreadable"])[0][:120]


def _naive(moment):
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0)


def _one(name, oid):
    values = name.get_attributes_for_oid(oid)
    return values[0].value if values else None






def _digest(key):
    # As Go chooses (crypto/x509: signingParamsForKey): the hash follows the size of the signing curve.
    if isinstance(key.raw, ed25519.Ed25519PrivateKey):
        return None
    size = key.raw.curve.key_size if isinstance(key.raw, ec.EllipticCurvePrivateKey) else 0
    return hashes.SHA384() if size == 384 else hashes.SHA512() if size == 521 else hashes.SHA256()


def _serial():
    # RFC 5280 4.1.2.2: positive. kubeadm draws 63 bits.
    return (int.from_bytes(os.urandom(8), "big") >> 1) or 1


def _authority(ca):
    try:
        digest = ca.raw.extensions.get_extension_for_class(_x509.SubjectKeyIdentifier).value.digest
    except _x509.ExtensionNotFound:
        digest = _x509.SubjectKeyIdentifier.from_public_key(ca.raw.public_key()).digest
    return _x509.AuthorityKeyIdentifier(key_identifier=digest, authority_cert_issuer=None, authority_cert_serial_number=None)


def _subject(common_name, organizations):
    try:
        if not 0 < len(common_name) <= 64:  # newer versions of the library check this, older ones do not
            raise ValueError("%d characters in the common name" % len(common_name))
        attributes = [_x509.NameAttribute(NameOID.ORGANIZATION_NAME, text) for text in organizations]
        return _x509.Name(attributes + [_x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except (ValueError, TypeError) as error:
        raise PkiError("the subject CN=%s, O=%s is not possible (%s)" % (common_name, ", ".join(map(str, organizations)), error),
                       fix="RFC 5280 allows 1 to 64 characters in each name.") from None


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


def address(text):
    """Give a text as an ipaddress.IPv4Address or IPv6Address, or None where it is neither.

    An IPv4 address written as IPv6 (::ffff:10.0.0.1) is the IPv4 address, as in Go (net.IP.Equal); a zone (fe80::1%eth0) does not
    count.
    """
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def same_name(text):
    """Give a name or an address, without its kind, in the one form that is compared (str)."""
    found = address(text)
    return str(found) if found is not None else text.lower().rstrip(".")


def _is_host(text):
    """Tell whether text is a host name (RFC 1123 2.1; with underscores, which Go's clients accept, too)."""
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def _san(text):
    kind, _colon, value = text.partition(":")
    if not value:
        raise PkiError("the SAN %s has no value" % text, fix="Write it as DNS:name or IP:address.")
    try:
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("a blank, or a character beyond ASCII" if value.isprintable() else "a control character")
        if kind == "DNS":
            if not _is_host(value[2:] if value.startswith("*.") else value):
                raise ValueError("no host name")
            return _x509.DNSName(value)
        if kind == "IP":
            if "%" in value:  # Python takes a zone, for which a certificate has no place
                raise ValueError("an address with a zone")
            return _x509.IPAddress(address(str(ipaddress.ip_address(value))))
        if kind == "URI":
            return _x509.UniformResourceIdentifier(value)
        if kind == "email":
            return _x509.RFC822Name(value)
    except ValueError as error:
        raise PkiError("the SAN %s is not valid (%s)" % (text, error), fix="Write it as DNS:name or IP:address.") from None
    raise PkiError("the SAN %s has no known kind" % text, fix="Write it as DNS:name or IP:address.")

