# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check SANs against the name constraints of a CA (RFC 5280 4.2.1.10), before a certificate is signed that no client accepts.

Hand-written, because `cryptography` compares names with them only while it verifies a whole chain, and old versions verify none.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Iterable

from .crypto_library import x509
from .x509_read import Certificate


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
