# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read certificate signing requests (RFC 2986), and find where two readers could see different names in one."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Sequence

from ..errors import PkiError, printable
from . import general_names, pem, x509_read
from .crypto_library import UNREADABLE, ExtendedKeyUsageOID, NameOID, first_line, serialization
from .crypto_library import x509 as _x509

# The OIDs, as DER, of attributes that carry extensions: PKCS #9 extensionRequest (RFC 2985 5.4.2) and Microsoft's. Go reads every
# attribute of the first kind and none of the second; cryptography reads one attribute of either kind.
_EXTENSION_REQUEST, _OTHER_EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e"), bytes.fromhex("060a2b06010401823702010e")

# The string types that all readers decode alike. Go removes a NUL at the end of a BMPString; T61String has several decodings.
_PLAIN_STRINGS = ("UTF8String", "PrintableString", "IA5String")

# More than any request of Kubernetes has; a DNS name has at most 253 characters (RFC 1035 2.3.4).
_MOST_NAMES, _LONGEST_NAME, _LONGEST_ATTRIBUTE = 1000, 253, 1024

_NOT_PRINTABLE_STRING = re.compile(r"[^A-Za-z0-9 '()+,./:=?-]")


class Request:
    """A parsed certificate signing request. subject, organizations, extended_usages, key_type, key_sha256: as in Certificate.

    raw: the library's object. common_name: the first CN; common_names: every CN in order (Go takes the last one,
    crypto/x509/pkix: FillFromRDNSequence). sans: as in Certificate, but ::ffff:10.0.0.1 is the IPv4 address, as in Go.
    further_attributes: dotted OIDs of subject attributes other than CN and O. wants_ca: whether it asks for CA:TRUE, or for a key
    usage that only a CA has. unknown_extensions: dotted OIDs of requested extensions that no leaf of Kubernetes has.
    ambiguities: why another reader could see other names or extensions ([str], without full stops).
    """

    def __init__(self, raw: _x509.CertificateSigningRequest, path: str | None = None) -> None:
        """Read the library's request. path: for messages. Raise PkiError: unreadable, or not signed by its own key."""
        self.raw = raw
        self.path = path
        try:
            self.subject = raw.subject.rfc4514_string()
            self.common_name = _one(raw.subject, NameOID.COMMON_NAME)
            self.common_names: list[Any] = [item.value for item in raw.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            self.organizations: list[Any] = [item.value for item in raw.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
            self.further_attributes = sorted(
                {item.oid.dotted_string for item in raw.subject}
                - {NameOID.COMMON_NAME.dotted_string, NameOID.ORGANIZATION_NAME.dotted_string}
            )
            public_key = raw.public_key()
            self.key_sha256 = x509_read.public_key_digest(public_key)
            self.key_type = x509_read.key_type(public_key)
            self._extensions: dict[_x509.ObjectIdentifier, Any] = {item.oid: item for item in raw.extensions}
            valid = raw.is_signature_valid
        except UNREADABLE as error:
            raise PkiError(
                "holds a request that cannot be read (%s)" % first_line(error),
                path=path,
                fix="Make the request again.",
            ) from None
        if not valid:
            raise PkiError(
                "the request is not signed by the key it carries",
                path=path,
                fix="Make the request again; it may have been altered on the way.",
            )
        known = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
        usages = self._extensions.get(_x509.ExtendedKeyUsage.oid)
        self.extended_usages = [known.get(oid, oid.dotted_string) for oid in usages.value] if usages else []
        names = self._extensions.get(_x509.SubjectAlternativeName.oid)
        self.sans = [_folded_san(name) for name in names.value] if names else []
        self.wants_ca = self._wants_ca()
        self.unknown_extensions = sorted(oid.dotted_string for oid in self._extensions if oid not in _leaf_extensions())
        self.ambiguities = subject_ambiguities(raw.subject) + self._ambiguities(list(names.value) if names else [])

    def _wants_ca(self) -> bool:
        constraints = self._extensions.get(_x509.BasicConstraints.oid)
        usage = self._extensions.get(_x509.KeyUsage.oid)
        return bool(constraints and constraints.value.ca) or bool(usage and (usage.value.key_cert_sign or usage.value.crl_sign))

    def _ambiguities(self, names: Sequence[_x509.GeneralName]) -> list[str]:
        der = self.raw.public_bytes(serialization.Encoding.DER)
        found = []
        if der.count(_EXTENSION_REQUEST) > 1 or der.count(_OTHER_EXTENSION_REQUEST):
            found.append("several sets of extensions, or one that Go does not read")
        if len(names) > _MOST_NAMES:
            return [*found, "%d names, of which at most %d are read" % (len(names), _MOST_NAMES)]
        for name in names:
            value = name.value
            if len(x509_read.san_text(name).partition(":")[2]) > _LONGEST_NAME:
                found.append("the name %s, longer than any name" % printable(x509_read.san_text(name), 100))
                continue
            if isinstance(value, str) and (not value or not value.isascii() or not value.isprintable() or " " in value):
                found.append("the name %s" % printable(x509_read.san_text(name)))
        return found

    @property
    def ambiguous(self) -> bool:
        """Whether two readers could see different names or extensions in it."""
        return bool(self.ambiguities)

    @property
    def pem(self) -> bytes:
        """The request as PEM."""
        return self.raw.public_bytes(serialization.Encoding.PEM)


def _folded_san(name: _x509.GeneralName) -> str:
    return "IP:" + general_names.same_name(str(name.value)) if isinstance(name, _x509.IPAddress) else x509_read.san_text(name)


def _leaf_extensions() -> tuple[_x509.ObjectIdentifier, ...]:
    return (
        _x509.SubjectAlternativeName.oid,
        _x509.KeyUsage.oid,
        _x509.ExtendedKeyUsage.oid,
        _x509.BasicConstraints.oid,
        _x509.SubjectKeyIdentifier.oid,
    )


def subject_ambiguities(name: _x509.Name) -> list[str]:
    """Return why two readers could read a subject differently, without full stops.

    Of several common names Go takes the last (crypto/x509/pkix: FillFromRDNSequence), other readers the first. Several
    organizations in one RDN are allowed, because Go writes them so.
    """
    found = []
    if len(list(name)) > _MOST_NAMES:
        return ["a subject of more than %d attributes" % _MOST_NAMES]
    if len(name.get_attributes_for_oid(NameOID.COMMON_NAME)) > 1:
        found.append("several common names")
    if any(len({item.oid for item in rdn}) > 1 for rdn in name.rdns):
        found.append("a part of the subject that holds several kinds of attributes")
    for item in name:
        why = _string_fault(item)
        if why:
            found.append(
                "the subject attribute %s=%s %s"
                % (_ATTRIBUTES.get(item.oid.dotted_string, item.oid.dotted_string), printable(item.value), why)
            )
    return found


_ATTRIBUTES = {"2.5.4.3": "CN", "2.5.4.10": "O"}


def _string_fault(item: _x509.NameAttribute[Any]) -> str | None:
    # The library has the type of a string only here. Where a version does not have it, nothing is signed.
    kind = getattr(getattr(item, "_type", None), "name", "an unknown type")
    value = item.value
    if kind not in _PLAIN_STRINGS or not isinstance(value, str):
        return "is written as %s" % kind
    if len(value) > _LONGEST_ATTRIBUTE:
        return "is longer than any name"
    if kind == "PrintableString" and _NOT_PRINTABLE_STRING.search(value) or kind == "IA5String" and not value.isascii():
        return "holds characters that its type %s does not have" % kind
    return text_fault(value)


def text_fault(value: str) -> str | None:
    """Return why two readers could read a name differently, or None: control characters, extra blanks, other normal forms."""
    if not value:
        return "is empty"
    if not value.isprintable():
        return "holds control or formatting characters"
    if value != " ".join(value.split()):  # RFC 4518 2.6.1: such blanks do not count in a comparison
        return "begins or ends with a blank, or has several in a row"
    if unicodedata.normalize("NFKC", value) != value:
        return "can be written in several ways (Unicode normalization)"
    return None


def parse_request(data: bytes, path: str | None = None) -> Request:
    """Return the request of a PEM file. Raise PkiError when there is none, or it is not signed by its own key."""
    fix = "Make the request again."
    block = pem.select(data, lambda kind: kind.endswith("CERTIFICATE REQUEST"), "certificate request", path, fix)[0]
    try:
        return Request(_x509.load_der_x509_csr(block.der or b""), path)
    except PkiError:
        raise
    except UNREADABLE as error:
        raise PkiError("holds a damaged request (%s)" % first_line(error), path=path, fix=fix) from None


def _one(name: _x509.Name, oid: _x509.ObjectIdentifier) -> Any:
    values = name.get_attributes_for_oid(oid)
    return values[0].value if values else None
