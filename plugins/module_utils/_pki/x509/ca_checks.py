# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether a CA can sign what it has to, before it signs certificates that no client accepts.

Name constraints (RFC 5280 4.2.1.10) are compared here, because `cryptography` compares names with them only while it verifies a
whole chain, and old versions verify none.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Iterable

from ..errors import PkiError
from . import x509_read, x509_sign
from .crypto_library import x509
from .private_keys import PrivateKey
from .x509_read import Certificate


def check_ca(
    certificate: Certificate,
    key: PrivateKey,
    sans: Iterable[str] = (),
    path: str | None = None,
    signs_cas: bool = False,
) -> None:
    """Raise PkiError unless a CA with its key can sign what it has to.

    sans: names of the leaves. signs_cas: whether it has to sign other CAs, which a path length of 0 forbids (RFC 5280 4.2.1.9).
    """
    x509_sign.check_signer(certificate, key)
    moment = x509_read.now()
    if certificate.not_after <= moment:
        raise PkiError(
            "the CA expired on %s" % x509_read.timestamp(certificate.not_after), path=path, fix="Provide one that is valid."
        )
    if certificate.not_before > moment:
        raise PkiError(
            "the CA is not valid before %s" % x509_read.timestamp(certificate.not_before),
            path=path,
            fix="Wait, correct the node's clock, or provide another.",
        )
    if signs_cas and certificate.path_length == 0:
        raise PkiError(
            "the CA's path length of 0 forbids it to sign another CA",
            path=path,
            fix="Provide one without a path length, or of at least 1.",
        )
    conflict = forbidden_name(certificate, sans)
    if conflict:
        raise PkiError(
            "the CA's name constraints forbid %s, which it has to sign" % conflict,
            path=path,
            fix="Provide a CA without that constraint.",
        )


def forbidden_name(ca: Certificate, sans: Iterable[str]) -> str | None:
    """Return the first of sans ("DNS:...", "IP:...") that a CA's name constraints forbid, or None."""
    found: Any = next((item.value for item in ca.raw.extensions if item.oid == x509.NameConstraints.oid), None)
    if found is None:
        return None
    for text in sans:
        kind, _colon, value = text.partition(":")
        permitted, excluded = (_constraints(trees, kind) for trees in (found.permitted_subtrees, found.excluded_subtrees))
        if any(_is_within(value, item) for item in excluded) or (
            permitted and not any(_is_within(value, item) for item in permitted)
        ):
            return text
    return None


def _constraints(trees: Iterable[x509.GeneralName] | None, kind: str) -> list[Any]:
    """Return the domains (str) or networks (ipaddress) of constraints of one kind of name."""
    types: dict[str, type] = {"DNS": x509.DNSName, "IP": x509.IPAddress}
    return [tree.value for tree in trees or () if kind in types and isinstance(tree, types[kind])]


def _is_within(value: str, constraint: Any) -> bool:
    if isinstance(constraint, str):
        domain = constraint.lstrip(".").lower()
        return not domain or value.lower() == domain or value.lower().endswith("." + domain)
    return ipaddress.ip_address(value) in constraint
