# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names, addresses and subjects as certificates hold them (RFC 5280 4.1.2.4, 4.2.1.6)."""

from __future__ import annotations

import ipaddress
import re
from typing import Iterable

from ..errors import PkiError
from .crypto_library import NameOID
from .crypto_library import x509 as _x509

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def subject_name(common_name: str, organizations: Iterable[str]) -> _x509.Name:
    """Return the subject O=..., CN=... as kubeadm orders it. Raise PkiError for names that RFC 5280 does not allow."""
    try:
        if not 0 < len(common_name) <= 64:  # newer versions of the library check this, older ones do not
            raise ValueError("%d characters in the common name" % len(common_name))
        attributes = [_x509.NameAttribute(NameOID.ORGANIZATION_NAME, text) for text in organizations]
        return _x509.Name(attributes + [_x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except (ValueError, TypeError) as error:
        raise PkiError(
            "the subject CN=%s, O=%s is not possible (%s)" % (common_name, ", ".join(map(str, organizations)), error),
            fix="RFC 5280 allows 1 to 64 characters in each name.",
        ) from None


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a text is, or None.

    ::ffff:10.0.0.1 is the IPv4 address, as in Go (net.IP.Equal). A zone (fe80::1%eth0) is ignored.
    """
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return _unmapped(found)


def _unmapped(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return getattr(found, "ipv4_mapped", None) or found


def same_name(text: str) -> str:
    """Return a host name or an address in the form in which two are compared."""
    found = address(text)
    return str(found) if found is not None else text.lower().rstrip(".")


def is_host(text: str) -> bool:
    """Return whether a text is a host name (RFC 1123 2.1, and underscores, which Go's clients accept)."""
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def general_name(text: str) -> _x509.GeneralName:
    """Return the library's name for a SAN: "DNS:name", "IP:address", "URI:..." or "email:...". Raise PkiError."""
    kind, _colon, value = text.partition(":")
    if not value:
        raise PkiError("the SAN %s has no value" % text, fix="Write it as DNS:name or IP:address.")
    try:
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("a blank, or a character beyond ASCII" if value.isprintable() else "a control character")
        if kind == "DNS":
            if not is_host(value[2:] if value.startswith("*.") else value):
                raise ValueError("not a host name")
            return _x509.DNSName(value)
        if kind == "IP":
            if "%" in value:  # Python accepts a zone; a certificate cannot hold one
                raise ValueError("an address with a zone")
            return _x509.IPAddress(_unmapped(ipaddress.ip_address(value)))
        if kind == "URI":
            return _x509.UniformResourceIdentifier(value)
        if kind == "email":
            return _x509.RFC822Name(value)
    except ValueError as error:
        raise PkiError("the SAN %s is not valid (%s)" % (text, error), fix="Write it as DNS:name or IP:address.") from None
    raise PkiError("the SAN %s has no known kind" % text, fix="Write it as DNS:name or IP:address.")
