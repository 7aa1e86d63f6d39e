# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy by which certificate requests are approved or denied (docs/requests.md has its format)."""

from __future__ import annotations

import ipaddress

from ..errors import PkiError, printable
from ..fileio import yaml_load
from ..x509 import general_names
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
    """One rule of a policy. why_not(ask, nodes) gives None where it matches, else the first thing that does not fit."""

    def __init__(self, name, decision, body):
        self.name, self.decision = name, decision
        self.body = body

    def why_not(self, ask, nodes):
        """Tell what of a readable Ask does not fit this rule (str), or None. nodes: Nodes or None."""
        request = ask.request
        for what, value, key in (
            ("signer", ask.signer, "signer"),
            ("requester", ask.requester, "requester"),
            ("common name", request.common_name or "", "common_name"),
        ):
            if key in self.body and not _any_glob(self.body[key], value):
                return "the %s is %s" % (what, printable(value) or "empty")
        # This signer checks nothing, so that a rule has to name it.
        if (
            self.decision == csr_object.APPROVE
            and ask.signer == csr_object.LEGACY
            and csr_object.LEGACY not in self.body["signer"]
        ):
            return "the signer is %s, which a rule has to name in full" % csr_object.LEGACY
        if self.decision == csr_object.DENY:
            wanted = self.body.get("organizations")
            if wanted is not None and not any(_any_glob(wanted, group) for group in request.organizations):
                return "no organization matches"
            return None
        return self._too_much(ask, request) or (node_identity.node_mismatch(ask, nodes) if self.body["node_matches"] else None)

    def _too_much(self, ask, request):
        for group in self.body["requester_groups"]:
            if group not in ask.requester_groups:
                return "the requester is not in the group %s" % group
        for group in request.organizations:
            if not _any_glob(self.body["organizations"], group):
                return "the organization %s is not allowed" % printable(group)
        if request.further_attributes:
            return "the subject has further attributes (%s)" % ", ".join(request.further_attributes)
        usages = self.body["usages"] or csr_object.USAGES.get(ask.signer, ())
        for usage in ask.usages:
            if usage not in usages:
                return "the usage %s is not allowed" % printable(usage)
        if self.body["key_types"] and request.key_type not in self.body["key_types"]:
            return "the key is %s" % request.key_type
        # A serving certificate's names are the node's, and node_mismatch looks at each of them.
        for san in [] if self.body["node_matches"] and not self.body["sans"] else request.sans:
            if not _san_allowed(san, self.body["sans"]):
                return "the name %s is not allowed" % printable(san)
        return self._too_long(ask)

    def _too_long(self, ask):
        days = self.body["max_days"]
        if days is None:
            return None
        if ask.expiration_seconds is None:
            return "it does not say how long it shall be valid, and at most %g days are allowed" % days
        if ask.expiration_seconds > days * 86400:
            return "it shall be valid for %g days, and at most %g are allowed" % (ask.expiration_seconds / 86400.0, days)
        return None


class Policy:
    """Rules in order; the first that matches decides. rules: [Rule]."""

    def __init__(self, rules):
        self.rules = rules

    def first(self, ask, nodes):
        """Give (the first Rule that matches, or None, and why each one before it does not: [(rule name, str)])."""
        misses = []
        for rule in self.rules:
            why = rule.why_not(ask, nodes)
            if why is None:
                return rule, misses
            misses.append((rule.name, why))
        return None, misses


def parse_policy(text, path):
    """Give the Policy of a YAML document (see docs/requests.md for its format).

    A rule that approves has to say who may ask whom for which name; what it leaves out is not allowed, except validity and key
    type. Raises PkiError for anything it does not know, so that a misspelt word never widens what is granted.
    """
    document = yaml_load.load_mapping(text, path, several=False)
    _known(document, {"version", "rules"}, "the policy", path)
    if document.get("version") != 1:
        raise _wrong("version has to be 1", path)
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules:
        raise _wrong("rules has to be a list with at least one rule", path)
    return Policy([_rule(rule, number, path) for number, rule in enumerate(rules, 1)])


def built_in_policy():
    """Give the policy that grants only what a kubelet may have by itself: its serving certificate, for its own names."""
    return parse_policy(BUILT_IN_POLICY, "the built-in policy")


def _wrong(message, path):
    return PkiError(message, path=path, fix="Correct the policy; docs/requests.md describes its format.")


def _known(mapping, keys, what, path):
    unknown = sorted(str(key) for key in mapping if key not in keys)
    if unknown:
        raise _wrong(
            "%s has %s, which is not known there (known: %s)"
            % (what, ", ".join(printable(key) for key in unknown), ", ".join(sorted(keys))),
            path,
        )


def _rule(rule, number, path):
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
    body = {key: _strings(rule, key, what, path) for key in _DENY_KEYS - {"name", "decision"} if key in rule}
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


def _strings(mapping, key, what, path):
    value = mapping.get(key, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry for entry in value):
        raise _wrong("%s: %s has to be a string or a list of strings" % (what, key), path)
    return value


def _sans(value, what, path):
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong("%s: sans has to be a mapping (%s)" % (what, ", ".join(sorted(_SAN_KINDS))), path)
    _known(value, set(_SAN_KINDS), "%s: sans" % what, path)
    found = {key: _strings(value, key, "%s: sans" % what, path) for key in value}
    try:
        found["ip"] = [ipaddress.ip_network(entry) for entry in found.get("ip", [])]
    except ValueError as error:
        raise _wrong("%s: sans: ip: %s" % (what, error), path) from None
    return found


def _days(value, what, path):
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


def _any_glob(patterns, value):
    return any(_glob(pattern.split("*"), value, 0) for pattern in patterns)


_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


def _dns_glob(pattern, value):
    # A star is one label or a part of one. It never stands for the star of a wildcard name: that is written \*.
    literals = [""]
    for number, part in enumerate(pattern.lower().split("\\*")):
        first, *rest = part.split("*")
        literals[-1] += ("*" if number else "") + first
        literals += rest
    return _glob(literals, value.lower(), 1, _LABEL_CHARACTERS)


def _san_allowed(san, allowed):
    kind, _colon, value = san.partition(":")
    if kind == "DNS":
        return any(_dns_glob(pattern, value) for pattern in allowed.get("dns", ()))
    if kind == "IP":
        address = general_names.address(value)
        return address is not None and any(address in network for network in allowed.get("ip", ()))
    key = {"URI": "uri", "email": "email"}.get(kind)
    return key is not None and _any_glob(allowed.get(key, ()), value)
