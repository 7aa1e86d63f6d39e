# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy by which certificate requests are approved or denied (docs/requests.md has its format)."""

from __future__ import annotations

import ipaddress
from typing import Any, Collection, Iterable, Mapping

from ..errors import PkiError, printable
from ..fileio import yaml_load
from ..x509 import csr_read, general_names
from . import csr_object, node_identity

BUILT_IN_POLICY = """\
version: 1
rules:
  - name: kubelet-serving
    signer: kubernetes.io/kubelet-serving
    requester: "system:node:*"
    requester_groups: ["system:nodes"]
    common_name: "system:node:*"
    organizations: ["system:nodes"]
    node_matches: true
"""

_APPROVE_KEYS = {
    "name",
    "decision",
    "signer",
    "requester",
    "requester_groups",
    "common_name",
    "organizations",
    "sans",
    "usages",
    "max_days",
    "key_types",
    "node_matches",
}

_DENY_KEYS = {"name", "decision", "signer", "requester", "common_name", "organizations"}

_SAN_KINDS = {"dns": "DNS", "ip": "IP", "uri": "URI", "email": "email"}


class Rule:
    """One rule of a policy. decision: "approve" or "deny". body: its conditions, {key: value}."""

    def __init__(self, name: str, decision: str, body: dict[str, Any]) -> None:
        self.name, self.decision = name, decision
        self.body = body

    def why_not(self, request: csr_object.CertificateSigningRequest, nodes: node_identity.Nodes | None) -> str | None:
        """Return the first thing of a readable request that does not fit this rule, or None where the rule matches."""
        parsed = request.request
        for what, value, key in (
            ("signer", request.signer, "signer"),
            ("requester", request.requester, "requester"),
            ("common name", parsed.common_name or "", "common_name"),
        ):
            if key in self.body and not _any_glob(self.body[key], value):
                return "the %s is %s" % (what, printable(value) or "empty")
        # This signer checks nothing, so that a rule has to name it.
        if (
            self.decision == csr_object.APPROVE
            and request.signer == csr_object.LEGACY
            and csr_object.LEGACY not in self.body["signer"]
        ):
            return "the signer is %s, which a rule has to name in full" % csr_object.LEGACY
        if self.decision == csr_object.DENY:
            wanted = self.body.get("organizations")
            if wanted is not None and not any(_any_glob(wanted, group) for group in parsed.organizations):
                return "no organization matches"
            return None
        return self._too_much(request, parsed) or (
            node_identity.node_mismatch(request, nodes) if self.body["node_matches"] else None
        )

    def _too_much(self, request: csr_object.CertificateSigningRequest, parsed: csr_read.Request) -> str | None:
        for group in self.body["requester_groups"]:
            if group not in request.requester_groups:
                return "the requester is not in the group %s" % group
        for group in parsed.organizations:
            if not _any_glob(self.body["organizations"], group):
                return "the organization %s is not allowed" % printable(group)
        if parsed.further_attributes:
            return "the subject has further attributes (%s)" % ", ".join(parsed.further_attributes)
        usages = self.body["usages"] or csr_object.USAGES.get(request.signer, ())
        for usage in request.usages:
            if usage not in usages:
                return "the usage %s is not allowed" % printable(usage)
        if self.body["key_types"] and parsed.key_type not in self.body["key_types"]:
            return "the key is %s" % parsed.key_type
        # A serving certificate's names are the node's, and node_mismatch looks at each of them.
        for san in [] if self.body["node_matches"] and not self.body["sans"] else parsed.sans:
            if not _san_allowed(san, self.body["sans"]):
                return "the name %s is not allowed" % printable(san)
        return self._too_long(request)

    def _too_long(self, request: csr_object.CertificateSigningRequest) -> str | None:
        days = self.body["max_days"]
        if days is None:
            return None
        if request.expiration_seconds is None:
            return "it does not say how long it shall be valid, and at most %g days are allowed" % days
        if request.expiration_seconds > days * 86400:
            return "it shall be valid for %g days, and at most %g are allowed" % (request.expiration_seconds / 86400.0, days)
        return None


class Policy:
    """Rules in order; the first that matches decides. rules: [Rule]."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules

    def first(
        self, request: csr_object.CertificateSigningRequest, nodes: node_identity.Nodes | None
    ) -> tuple[Rule | None, list[tuple[str, str]]]:
        """Return (the first Rule that matches, or None, and why each one before it does not: [(rule name, str)])."""
        misses: list[tuple[str, str]] = []
        for rule in self.rules:
            why = rule.why_not(request, nodes)
            if why is None:
                return rule, misses
            misses.append((rule.name, why))
        return None, misses


def parse_policy(text: str | bytes, path: str) -> Policy:
    """Return the Policy of a YAML document (see docs/requests.md for its format).

    A rule that approves has to name requester, signer and common name; what it leaves out is not allowed, except validity and
    key type. Raise PkiError for unknown keys and values: a misspelt word never widens what is granted.
    """
    document = yaml_load.load_mapping(text, path, several=False)
    _known(document, {"version", "rules"}, "the policy", path)
    if document.get("version") != 1:
        raise _wrong("version has to be 1", path)
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules:
        raise _wrong("rules has to be a list with at least one rule", path)
    return Policy([_rule(rule, number, path) for number, rule in enumerate(rules, 1)])


def built_in_policy() -> Policy:
    """Return the policy that approves only a kubelet's serving certificate for its own names."""
    return parse_policy(BUILT_IN_POLICY, "the built-in policy")


def _wrong(message: str, path: str) -> PkiError:
    return PkiError(message, path=path, fix="Correct the policy; docs/requests.md describes its format.")


def _known(mapping: Mapping[Any, Any], keys: Collection[str], what: str, path: str) -> None:
    unknown = sorted(str(key) for key in mapping if key not in keys)
    if unknown:
        raise _wrong(
            "%s has %s, which is not known there (known: %s)"
            % (what, ", ".join(printable(key) for key in unknown), ", ".join(sorted(keys))),
            path,
        )


def _rule(rule: Any, number: int, path: str) -> Rule:
    if not isinstance(rule, dict):
        raise _wrong("rule %d is not a mapping" % number, path)
    name = rule.get("name")
    if not isinstance(name, str) or not name:
        raise _wrong("rule %d has no name" % number, path)
    what = "rule %s" % printable(name)
    decision = rule.get("decision", csr_object.APPROVE)
    if decision not in (csr_object.APPROVE, csr_object.DENY):
        raise _wrong("%s: decision has to be approve or deny" % what, path)
    _known(rule, _APPROVE_KEYS if decision == csr_object.APPROVE else _DENY_KEYS, what, path)
    body: dict[str, Any] = {key: _strings(rule, key, what, path) for key in _DENY_KEYS - {"name", "decision"} if key in rule}
    if decision == csr_object.DENY:
        if not body:
            raise _wrong("%s would deny everything: say which signer, requester, common_name or organizations" % what, path)
        return Rule(name, decision, body)
    for key in ("signer", "requester", "common_name"):
        if not body.get(key):
            raise _wrong("%s does not say which %s it is for" % (what, key), path)
    body.setdefault("organizations", [])
    for key in ("requester_groups", "usages", "key_types"):
        body[key] = _strings(rule, key, what, path)
    body["sans"] = _sans(rule.get("sans"), what, path)
    body["max_days"] = _days(rule.get("max_days"), what, path)
    body["node_matches"] = rule.get("node_matches", False)
    if not isinstance(body["node_matches"], bool):
        raise _wrong("%s: node_matches has to be true or false" % what, path)
    return Rule(name, decision, body)


def _strings(mapping: Mapping[str, Any], key: str, what: str, path: str) -> list[str]:
    value = mapping.get(key, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry for entry in value):
        raise _wrong("%s: %s has to be a string or a list of strings" % (what, key), path)
    return value


def _sans(value: Any, what: str, path: str) -> dict[str, list[Any]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong("%s: sans has to be a mapping (%s)" % (what, ", ".join(sorted(_SAN_KINDS))), path)
    _known(value, set(_SAN_KINDS), "%s: sans" % what, path)
    found: dict[str, list[Any]] = {key: _strings(value, key, "%s: sans" % what, path) for key in value}
    try:
        found["ip"] = [ipaddress.ip_network(entry) for entry in found.get("ip", [])]
    except ValueError as error:
        raise _wrong("%s: sans: ip: %s" % (what, error), path) from None
    return found


def _days(value: Any, what: str, path: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise _wrong("%s: max_days has to be a number above zero" % what, path)
    return float(value)


def _glob(literals: list[str], value: str, least: int, allowed: frozenset[str] | None = None) -> bool:
    """Return whether a value is these literals in order, with a star between each two.

    least: how many characters a star stands for at least. allowed: of which kind these are, None for any. Each literal is looked
    for once, so that no pattern takes more than linear time; the leftmost place is always as good as any later one.
    """
    if len(literals) == 1:
        return value == literals[0]
    first, *between, last = literals
    position, end = len(first), len(value) - len(last)
    if not value.startswith(first) or not value.endswith(last):
        return False
    for number, literal in enumerate([*between, last]):
        at = end if number == len(between) else value.find(literal, position + least, end)
        if at < position + least or (allowed is not None and not allowed.issuperset(value[position:at])):
            return False
        position = at + len(literal)
    return True


def _any_glob(patterns: Iterable[str], value: str) -> bool:
    return any(_glob(pattern.split("*"), value, 0) for pattern in patterns)


_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


def _dns_glob(pattern: str, value: str) -> bool:
    # A star is one label or a part of one. It never stands for the star of a wildcard name: that is written \*.
    literals = [""]
    for number, part in enumerate(pattern.lower().split("\\*")):
        first, *rest = part.split("*")
        literals[-1] += ("*" if number else "") + first
        literals += rest
    return _glob(literals, value.lower(), 1, _LABEL_CHARACTERS)


def _san_allowed(san: str, allowed: Mapping[str, list[Any]]) -> bool:
    kind, _colon, value = san.partition(":")
    if kind == "DNS":
        return any(_dns_glob(pattern, value) for pattern in allowed.get("dns", ()))
    if kind == "IP":
        address = general_names.address(value)
        return address is not None and any(address in network for network in allowed.get("ip", ()))
    key = {"URI": "uri", "email": "email"}.get(kind)
    return key is not None and _any_glob(allowed.get(key, ()), value)
