# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CertificateSigningRequest asks for, and whether a policy grants it. Pure functions over API objects.

What is in a request was written by whoever made it, and may be meant to deceive: nothing here raises for it, nothing of
it reaches a screen unescaped, and where two readers could see two things in it, it is refused.
"""

from __future__ import annotations

__metaclass__ = type

import base64
import datetime
import ipaddress
import re
from typing import Container, Iterable, NamedTuple

from . import profiles, x509, yamltext
from .errors import PkiError, printable

# staging/src/k8s.io/api/certificates/v1/types.go
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"

PENDING, APPROVED, ISSUED, DENIED, FAILED = "pending", "approved", "issued", "denied", "failed"
APPROVE, DENY, LEAVE = "approve", "deny", "leave"

# What the built-in signers accept (pkg/controller/certificates/signer/signer.go, pkg/apis/certificates/v1beta1/defaults.go).
_SERVER_USAGES = ("digital signature", "key encipherment", "server auth")
_CLIENT_USAGES = ("digital signature", "key encipherment", "client auth")
USAGES = {CLIENT: _CLIENT_USAGES, KUBELET_CLIENT: _CLIENT_USAGES, KUBELET_SERVING: _SERVER_USAGES}

# The API's usages that are extended key usages, as x509.Request spells those (pkg/controller/certificates/authority).
EXTENDED_USAGES = {
    "client auth": "client", "server auth": "server", "any": "2.5.29.37.0", "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4", "s/mime": "1.3.6.1.5.5.7.3.4", "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6", "ipsec user": "1.3.6.1.5.5.7.3.7", "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9", "microsoft sgc": "1.3.6.1.4.1.311.10.3.3", "netscape sgc": "2.16.840.1.113730.4.1"}

# Groups that RBAC lets do everything: by the authorizer itself, and by kubeadm's ClusterRoleBinding (1.29+).
_ADMINISTRATORS = ("system:masters", "kubeadm:cluster-admins")
_NODE, _NODES = "system:node:", "system:nodes"
# The users of the control plane's own certificates: RBAC and --requestheader-allowed-names know them by these names.
_CONTROL_PLANE = {entry.common_name for entry in profiles.CATALOGUE
                  if entry.kind in (profiles.LEAF, profiles.KUBECONFIG) and "{" not in entry.common_name}
_RESERVED_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")

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


class Ask:
    """A CertificateSigningRequest as data.

    name, uid, version (resourceVersion): str. signer: str. usages: [str] as the API spells them. requester: str, the user
    name; requester_groups: [str]. expiration_seconds: int or None. created: datetime or None. labels: {str: str}.
    state: "pending", "approved" (not issued yet), "issued", "denied" or "failed"; reason, message: of that state.
    request: x509.Request, or None where problem (PkiError) says why not. certificate: PEM bytes or None. item: the object.
    """

    def __init__(self, item):
        self.item = item
        metadata, spec, status = (_mapping(item.get(key)) for key in ("metadata", "spec", "status"))
        self.name, self.uid = _text(metadata.get("name")), _text(metadata.get("uid"))
        self.version = _text(metadata.get("resourceVersion"))
        self.created = _moment(metadata.get("creationTimestamp"))
        self.labels = {str(key): str(value) for key, value in _mapping(metadata.get("labels")).items()}
        # Before 1.18 there were no signer names, and the controller manager signed everything.
        self.signer = _text(spec.get("signerName")) or LEGACY
        self.usages = [_text(usage) for usage in _list(spec.get("usages"))]
        self.requester = _text(spec.get("username"))
        self.requester_groups = [_text(group) for group in _list(spec.get("groups"))]
        seconds = spec.get("expirationSeconds")
        self.expiration_seconds = seconds if isinstance(seconds, int) and not isinstance(seconds, bool) else None
        self.certificate = _decoded(status.get("certificate")) or None
        self.state, self.reason, self.message = _state(status, self.certificate)
        self.request = self.problem = None
        try:
            self.request = _request(spec.get("request"), self.name)
        except PkiError as error:
            self.problem = error

    @property
    def path(self):
        """How messages name it."""
        return "CertificateSigningRequest %s" % printable(self.name)


def decode(item):
    """Give an Ask for an object of the API (v1 or v1beta1), however damaged. Never raises."""
    return Ask(item if isinstance(item, dict) else {})


def _request(text, name):
    path = "CertificateSigningRequest %s" % printable(name)
    fix = "Deny or delete it, and have it made again."
    data = _decoded(text)
    if data is None:
        raise PkiError("its request is not base64", path=path, fix=fix)
    return _parse(data, path, fix)


def _parse(data, path, fix):
    data = data.strip()
    # Go passes over a block that it finds malformed and takes the next one (encoding/pem), which Python might not.
    if (data.count(b"-----BEGIN") != 1 or not data.startswith(b"-----BEGIN CERTIFICATE REQUEST-----")
            or not data.endswith(b"-----END CERTIFICATE REQUEST-----")):
        raise PkiError("its request is not exactly one PEM block of type CERTIFICATE REQUEST", path=path, fix=fix)
    try:
        return x509.parse_request(data, path)
    except PkiError as error:
        raise PkiError(printable(error.message), path=path, fix=fix) from None
    except Exception as error:  # whatever a parser's fault is, a request that cannot be read is not approved
        raise PkiError("its request cannot be read (%s)" % type(error).__name__, path=path, fix=fix) from None


def _state(status, certificate):
    conditions = {}
    for condition in _list(status.get("conditions")):
        condition = _mapping(condition)
        # v1beta1 knew no status of a condition: it was there, or it was not.
        if _text(condition.get("status")) in ("", "True"):
            conditions.setdefault(_text(condition.get("type")), condition)
    for kind, state in (("Denied", DENIED), ("Failed", FAILED)):
        if kind in conditions:
            return state, _text(conditions[kind].get("reason")), _text(conditions[kind].get("message"))
    approval = conditions.get("Approved")
    if approval is None:
        return PENDING, "", ""
    return (ISSUED if certificate else APPROVED), _text(approval.get("reason")), _text(approval.get("message"))


# --- what no policy can grant ------------------------------------------------------------------------------------------------

class Danger(NamedTuple):
    """What a request would give away that no policy may grant.

    names: what a person has to allow by its exact name (users, groups, extension OIDs, SANs); without any, nothing can allow it.
    text: a sentence without a full stop.
    """

    names: tuple[str, ...]
    text: str


def find_dangers(request: x509.Request, usages: Iterable[str] = (), requester: str = "",
                 requester_groups: Iterable[str] = ()) -> list[Danger]:
    """Return what a request would give away that no policy may grant.

    A group that may do everything, a name of the system's own, the identity of a node for a requester who is not that node, a
    CA, a subject that readers could read differently, an extension that is not known here, usages that the object does not name.
    usages: of the API object, as the API spells them; empty where there is no object. Names are compared without case: a reader
    that follows X.520 sees no difference.
    """
    names = [name for name in request.common_names if isinstance(name, str)]
    groups = [group for group in request.organizations if isinstance(group, str)]
    found = [Danger((group,), "it would be a member of %s, which may do everything" % printable(group)) for group in groups
             if group.lower() in _ADMINISTRATORS]
    node = [name for name in names if name.lower().startswith(_NODE)] + [group for group in groups if group.lower() == _NODES]
    if node and not _is_that_node(request, requester, requester_groups):
        who = printable(requester or "nobody")
        found.append(Danger(tuple(node), "it would be a node, and %s, who asks, is not that node" % who))
    reserved = [name for name in names + groups
                if _is_reserved(name) and name not in node and name.lower() not in _ADMINISTRATORS]
    found += [Danger((name,), "%s is a name that Kubernetes keeps for itself" % printable(name)) for name in reserved]
    if request.wants_ca or {"cert sign", "crl sign"} & set(usages):
        found.append(Danger((), "it would be a certificate authority"))
    if request.ambiguities:
        found.append(Danger((), "it can be read in two ways (%s)" % "; ".join(request.ambiguities)))
    found += [Danger((oid,), "it asks for the extension %s, which is not known here" % oid) for oid in request.unknown_extensions]
    found += [Danger((san,), "it asks for a name of a kind that is not known here (%s)" % printable(san)) for san in request.sans
              if san.startswith("other:")]
    unseen = sorted(set(request.extended_usages) - extended_usages(usages)) if usages else []
    if unseen:
        # Kubernetes' own signers look at the object alone, others at the request.
        found.append(Danger((), "its request asks for usages that its object does not name (%s)" % printable(", ".join(unseen))))
    return found


def extended_usages(usages: Iterable[str]) -> set[str]:
    """Return the extended key usages that the API's usages stand for, as x509.Request spells them."""
    return {EXTENDED_USAGES[usage] for usage in usages if usage in EXTENDED_USAGES}


def dangers(ask):
    """Give what find_dangers() finds in an Ask, as a list of sentences without full stops; nothing where it cannot be read."""
    return [danger.text for danger in _dangers(ask)]


def _dangers(ask):
    return [] if ask.request is None else find_dangers(ask.request, ask.usages, ask.requester, ask.requester_groups)


class _EveryName:
    """Holds every name: for a request that was itself named by a person."""

    def __contains__(self, name):
        return True


EVERY_NAME = _EveryName()


def _not_allowed(found, allowed):
    return [danger.text for danger in found if not danger.names or not all(name in allowed for name in danger.names)]


def refuse_dangerous_ask(ask: Ask, allowed: Container[str] = ()) -> None:
    """Raise PkiError unless an Ask may be approved: it can be read, and every danger in it is allowed by its exact name.

    allowed: names (users, groups, extension OIDs), or EVERY_NAME. Nothing allows a CA or what can be read in two ways.
    """
    if ask.problem:
        raise ask.problem
    refused = _not_allowed(_dangers(ask), allowed)
    if refused:
        raise PkiError("; ".join(refused), path=ask.path, fix="Deny it, or allow each of these names by name where that is "
                       "meant. Nothing allows a CA, nor a request that can be read in two ways.")


def refuse_dangerous_request(pem: bytes | str, signer: str = "", allowed: Container[str] = (), path: str | None = None,
                             usages: Iterable[str] = ()) -> x509.Request:
    """Return the x509.Request of a PEM file, where a signer may have it. Raise PkiError for any other one.

    To call before a request is handed to any signer: the cluster's, the Certificates API, a command, another CA. pem: exactly
    one PEM block. signer: a signer name of the API where there is one; what it does not give is refused. allowed: the exact
    names (users, groups, extension OIDs) that this very request may have although no policy may grant them, such as
    profiles.subject_names("admin.conf"). path: what messages call it. usages: those of the API object that it is for, if any.
    CA:TRUE, keyCertSign and what can be read in two ways cannot be allowed.
    """
    data = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
    fix = "See who made it, and have it made again without that. Nothing was signed."
    request = _parse(data, path, fix)
    found = find_dangers(request, usages)
    if signer in USAGES:
        beyond = sorted(set(request.extended_usages) - extended_usages(USAGES[signer]))
        found += [Danger((), "it asks for the usage %s, which %s does not give" % (printable(usage), signer)) for usage in beyond]
    refused = _not_allowed(found, allowed)
    if refused:
        raise PkiError("; ".join(refused), path=path, fix=fix)
    return request


def refuse_reserved_identity(user: str, groups: Iterable[str] = ()) -> None:
    """Raise PkiError for a user name or a group that Kubernetes or kubeadm keeps for itself.

    To call before anything is given to a user, also where no request is made: a role binding for such a name gives the role to
    others (system:anonymous is every client without a credential). Names are compared without case, as in find_dangers().
    """
    reserved = [name for name in [user, *groups] if _is_reserved(name) or name.lower() in _ADMINISTRATORS]
    hidden = [name for name in [user, *groups] if not name or not name.isprintable() or name != name.strip()]
    if reserved or hidden:
        raise PkiError(("%s is a name that Kubernetes keeps for itself" % printable(reserved[0])) if reserved else
                       "%s is no name that can be told from another one (a blank at an end, a control character, or empty)"
                       % printable(repr(hidden[0])), path=printable(user),
                       fix="Give users names and groups of their own. kubeadm makes what the system needs; for anything else there is "
                           "cert_csr, where the request is named. Nothing was changed.")


def _is_reserved(name):
    return name.lower().startswith(("system:", "kubeadm:")) or name.lower() in _CONTROL_PLANE


def _is_that_node(request, requester, requester_groups):
    names = request.common_names
    return (len(names) == 1 and names[0].startswith(_NODE) and len(names[0]) > len(_NODE) and requester == names[0]
            and _NODES in requester_groups and request.organizations == [_NODES])


# --- policies ----------------------------------------------------------------------------------------------------------------

_APPROVE_KEYS = {"name", "decision", "signer", "requester", "requester_groups", "common_name", "organizations", "sans", "usages",
                 "max_days", "key_types", "node_matches"}
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
        for what, value, key in (("signer", ask.signer, "signer"), ("requester", ask.requester, "requester"),
                                 ("common name", request.common_name or "", "common_name")):
            if key in self.body and not _any_glob(self.body[key], value):
                return "the %s is %s" % (what, printable(value) or "empty")
        # This signer checks nothing, so that a rule has to name it.
        if self.decision == APPROVE and ask.signer == LEGACY and LEGACY not in self.body["signer"]:
            return "the signer is %s, which a rule has to name in full" % LEGACY
        if self.decision == DENY:
            wanted = self.body.get("organizations")
            if wanted is not None and not any(_any_glob(wanted, group) for group in request.organizations):
                return "no organization matches"
            return None
        return self._too_much(ask, request) or (node_mismatch(ask, nodes) if self.body["node_matches"] else None)

    def _too_much(self, ask, request):
        for group in self.body["requester_groups"]:
            if group not in ask.requester_groups:
                return "the requester is not in the group %s" % group
        for group in request.organizations:
            if not _any_glob(self.body["organizations"], group):
                return "the organization %s is not allowed" % printable(group)
        if request.further_attributes:
            return "the subject has further attributes (%s)" % ", ".join(request.further_attributes)
        usages = self.body["usages"] or USAGES.get(ask.signer, ())
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
    document = yamltext.load_mapping(text, path, several=False)
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
        raise _wrong("%s has %s, which is not known there (known: %s)" % (
            what, ", ".join(printable(key) for key in unknown), ", ".join(sorted(keys))), path)


def _rule(rule, number, path):
    if not isinstance(rule, dict):
        raise _wrong("rule %d is not a mapping" % number, path)
    name = rule.get("name")
    if not isinstance(name, str) or not name:
        raise _wrong("rule %d has no name" % number, path)
    what = "rule %s" % printable(name)
    decision = rule.get("decision", APPROVE)
    if decision not in (APPROVE, DENY):
        raise _wrong("%s: decision has to be approve or deny" % what, path)
    _known(rule, _APPROVE_KEYS if decision == APPROVE else _DENY_KEYS, what, path)
    body = {key: _strings(rule, key, what, path) for key in _DENY_KEYS - {"name", "decision"} if key in rule}
    if decision == DENY:
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


def _glob(pattern, star):
    return re.compile("".join(star if part == "*" else re.escape(part) for part in re.split(r"(\*)", pattern)), re.DOTALL)


def _any_glob(patterns, value):
    return any(_glob(pattern, ".*").fullmatch(value) for pattern in patterns)


def _dns_glob(pattern, value):
    # A star is one label or a part of one. It never stands for the star of a wildcard name: that is written \*.
    parts = [_glob(part, "[a-z0-9_-]+").pattern for part in pattern.lower().split("\\*")]
    return re.fullmatch(re.escape("*").join(parts), value.lower()) is not None


def _san_allowed(san, allowed):
    kind, _colon, value = san.partition(":")
    if kind == "DNS":
        return any(_dns_glob(pattern, value) for pattern in allowed.get("dns", ()))
    if kind == "IP":
        address = x509.address(value)
        return address is not None and any(address in network for network in allowed.get("ip", ()))
    key = {"URI": "uri", "email": "email"}.get(kind)
    return key is not None and _any_glob(allowed.get(key, ()), value)


# --- nodes -------------------------------------------------------------------------------------------------------------------

class Nodes:
    """What is known of the cluster's nodes, for serving certificates.

    A kubelet writes the addresses of its Node object itself, so these alone prove little: the inventory, where there is one,
    has to know the node and counts more, and nobody gets what belongs to another node, to the API or to the cluster's Services.
    """

    def __init__(self, items, inventory=(), reserved=(), service_networks=(), domains=("cluster.local",)):
        """Take Node objects (dicts) and the inventory ([{"name", "addresses": [str], "control_plane": bool}], empty for none).

        reserved: names and addresses of the API (the SANs of its servers' certificates), which only control-plane nodes may have.
        service_networks: the networks of Services (CIDR), from which no node has an address. domains: the cluster's domains, in
        which a node has only a name that the inventory gives it.
        """
        self.with_inventory = bool(inventory)
        self.inventory = list(inventory)
        self.reserved = {x509.same_name(entry) for entry in reserved if entry}
        self.service_networks = [ipaddress.ip_network(network, strict=False) for network in service_networks]
        self.domains = {x509.same_name(domain) for domain in domains if domain}
        self.claims = {}
        self._control_plane = {}
        for item in items:
            metadata = _mapping(_mapping(item).get("metadata"))
            name = _text(metadata.get("name"))
            addresses = _list(_mapping(_mapping(item).get("status")).get("addresses"))
            self.claims[name] = {x509.same_name(_text(_mapping(entry).get("address"))) for entry in addresses} - {""}
            labels = _mapping(metadata.get("labels"))
            # NodeRestriction keeps a kubelet from giving itself these (kubernetes.io/docs: node-role.kubernetes.io).
            self._control_plane[name] = any("node-role.kubernetes.io/" + role in labels for role in ("control-plane", "master"))
        self.hosts = _match(self.claims, inventory)
        self._nodes_by_name = _index((name, {name} | self.claims[name] | self.granted(name)) for name in self.claims)
        self._hosts_by_name = _index((number, _names_of(host)) for number, host in enumerate(self.inventory))
        self._labels = _index([(name, {_label(name)}) for name in self.claims]
                              + [(host["name"], {_label(host["name"])}) for host in self.inventory])

    def is_control_plane(self, name):
        """Tell whether a node is one of the control plane: in the inventory, or where there is none, by its label."""
        if self.with_inventory:
            return bool(name in self.hosts and self.hosts[name].get("control_plane"))
        return self._control_plane.get(name, False)

    def granted(self, name):
        """Give the names and addresses that the inventory gives to a node."""
        host = self.hosts.get(name)
        return {x509.same_name(entry) for entry in _names_of(host)} if host else set()

    def why_not(self, name, wanted):
        """Tell why a node may not have a name or an address (str as in SANs, without the kind), or None."""
        wanted = x509.same_name(wanted)
        granted = self.granted(name)
        if wanted in self.reserved and not self.is_control_plane(name):
            return "belongs to the API or to every machine"
        why = self._why_for_no_node(wanted, granted)
        if why:
            return why
        if wanted == x509.same_name(name) or wanted in granted:
            return self._why_another_hosts(name, wanted)
        if wanted not in self.claims[name]:
            return "is not an address of the Node object, nor of the inventory"
        return self._why_another_nodes(name, wanted) or self._why_another_hosts(name, wanted)

    def _why_for_no_node(self, wanted, granted):
        """Tell why no node at all may have a name or an address, not even one of the control plane, or None."""
        found = x509.address(wanted)
        if found is not None:
            if found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast:
                return "belongs to the API or to every machine"
            if any(found in network for network in self.service_networks):
                return "is an address of the cluster's Services"
            return None
        if wanted in _RESERVED_NAMES or _is_below(wanted, _RESERVED_DOMAINS):
            return "belongs to the API or to every machine"
        if _is_below(wanted, ["svc"]) or _is_below(wanted, ["svc." + domain for domain in self.domains]):
            return "is a name of the cluster's Services"
        if _is_below(wanted, self.domains) and wanted not in granted:
            return "is in the cluster's own domain, and the inventory does not give it to the node"
        return None

    def _why_another_hosts(self, name, wanted):
        """Tell which other host the inventory gives a name or an address (str), or None; it need not be a node."""
        for number in sorted(self._hosts_by_name.get(wanted, ())):
            if self.inventory[number] is not self.hosts.get(name):
                return "belongs to the host %s of the inventory" % printable(self.inventory[number]["name"])
        return None

    def _why_another_nodes(self, name, wanted):
        owners = self._nodes_by_name.get(wanted, set()) - {name}
        if not owners and x509.address(wanted) is None and _label(wanted) != _label(name):
            # w2.example is w2, as far as anybody can tell.
            owners = self._labels.get(_label(wanted), set())
        return "belongs to the node %s" % printable(sorted(owners)[0]) if owners else None


# Names of every machine (RFC 6761 6.3; some systems' /etc/hosts), and those of the API within the cluster.
_RESERVED_DOMAINS = ("localhost", "localdomain", "localhost6", "localdomain6", "ip6-localhost", "ip6-loopback")


def _is_below(name, domains):
    return any(name == domain or name.endswith("." + domain) for domain in domains)


def _label(name):
    return "" if x509.address(name) is not None else x509.same_name(name).partition(".")[0]


def _names_of(host):
    return [host["name"], *host.get("addresses", ())]


def _index(entries):
    """Give {name or address as compared: set of whose it is} of (whose, names) pairs."""
    found = {}
    for whose, names in entries:
        for name in names:
            if name:
                found.setdefault(x509.same_name(name), set()).add(whose)
    return found


def _match(claims, inventory):
    """Give {node name: inventory host}: by name, by the name's first label, and only then by an address nobody else claims."""
    hosts = {}
    free = list(inventory)
    for same in (lambda host, node: host["name"] == node,
                 lambda host, node: _first_label(host["name"]) == _first_label(node),
                 lambda host, node: any(x509.same_name(entry) in claims[node] for entry in host.get("addresses", ()))):
        pairs = [(host, node) for host in free for node in claims if node not in hosts and same(host, node)]
        for host, node in pairs:
            # Two hosts that could be one node, or two nodes that could be one host, prove nothing.
            if sum(other is host for other, _node in pairs) == 1 and sum(other == node for _host, other in pairs) == 1:
                hosts[node] = host
        free = [host for host in free if not any(host is taken for taken in hosts.values())]
    return hosts


def _first_label(name):
    return name if x509.address(name) is not None else name.split(".")[0]


def node_mismatch(ask, nodes):
    """Tell what in a serving request does not belong to the node that asks (str), or None. nodes: Nodes or None."""
    request = ask.request
    name = (request.common_name or "")[len(_NODE):]
    if not _is_that_node(request, ask.requester, ask.requester_groups):
        return "it is not a node's request for itself"
    if nodes is None or name not in nodes.claims:
        return "there is no Node named %s" % printable(name)
    if nodes.with_inventory and name not in nodes.hosts:
        return "the node %s is not in the inventory" % printable(name)
    if not request.sans:
        return "it names no address to serve"
    for san in request.sans:
        kind, _colon, value = san.partition(":")
        if kind not in ("DNS", "IP") or "*" in value:
            return "the name %s is of a kind no kubelet serves" % printable(san)
        why = nodes.why_not(name, value)
        if why:
            return "%s %s" % (printable(san), why)
    return None


def serving_fault(ask, nodes, longest=None):
    """Tell what in a readable kubelet-serving request is more than its node may have (str), or None; the key is not looked at.

    nodes: Nodes. longest: the validity in seconds that may be asked for, and has to be said, or None where the API knows no
    expirationSeconds (before 1.22). Every name has to be in the Node object, and none may be contradicted by the inventory.
    """
    request = ask.request
    if request.wants_ca or request.ambiguous or request.further_attributes:
        return "it asks for more than a kubelet does (an authority, or a subject with further attributes)"
    fault = node_mismatch(ask, nodes)
    if fault:
        return fault
    claims = nodes.claims[request.common_name[len(_NODE):]]
    for san in request.sans:
        if x509.same_name(san.partition(":")[2]) not in claims:
            return "%s is not an address of the Node object" % printable(san)
    # pkg/apis/certificates/helpers.go: ValidateKubeletServingCSR; a key of another type than RSA enciphers no keys.
    asked, wanted = sorted(ask.usages), set(_SERVER_USAGES)
    if asked != sorted(wanted) and (request.key_type.startswith("rsa") or asked != sorted(wanted - {"key encipherment"})):
        return "the usages are %s" % (printable(", ".join(ask.usages)) or "none")
    if request.extended_usages not in ([], ["server"]):
        return "its extended usages are %s" % printable(", ".join(request.extended_usages))
    if longest is None:
        return None
    if ask.expiration_seconds is None:
        return "it does not say how long it shall be valid"
    if not 0 < ask.expiration_seconds <= longest:
        return "it shall be valid for %d seconds, and at most %d are allowed" % (ask.expiration_seconds, longest)
    return None


def decide_serving(ask, nodes, keys, longest=None):
    """Give the Decision about a kubelet-serving request by those who made the keys on the nodes: approve, deny or leave.

    nodes: Nodes. keys: {inventory host: (node name, digest of the public key that waits there)} of the nodes that asked in this
    run. longest: as in serving_fault(). Whatever is wrong is denied. Only what its node might have made by itself, when that was
    not asked now, is left: a kubelet keeps the key of its request in memory, where nobody can compare it.
    """
    if ask.state != PENDING or ask.signer != KUBELET_SERVING:
        return Decision(ask, LEAVE, "it is %s already" % ask.state if ask.state != PENDING else "it is for another signer")
    if ask.problem:
        return Decision(ask, DENY, ask.problem.message, refused=True)
    name = (ask.request.common_name or "")[len(_NODE):]
    host = nodes.hosts.get(name)
    asked = keys.get(host["name"]) if host else None
    mine = asked is not None and asked[0] == name and asked[1] == ask.request.key_sha256
    # A kubelet that asks by itself names no validity.
    fault = serving_fault(ask, nodes, longest if mine or ask.expiration_seconds is not None else None) or "; ".join(dangers(ask))
    if fault:
        return Decision(ask, DENY, fault, refused=True)
    if mine:
        return Decision(ask, APPROVE, "its key is the one on %s" % printable(host["name"]))
    if asked is not None:
        return Decision(ask, DENY, "its key is not the one that waits on %s" % printable(host["name"]), refused=True)
    return Decision(ask, LEAVE, "%s was not asked in this run, so its key could not be compared" % printable(name))


# --- decisions ---------------------------------------------------------------------------------------------------------------

class Decision:
    """What is to be done with an Ask. action: "approve", "deny" or "leave". why: a sentence without a full stop.

    rule: the name of the rule that said so, or None. refused: something no policy may grant stands in the way.
    """

    def __init__(self, ask, action, why, rule=None, refused=False):
        self.ask, self.action, self.why, self.rule, self.refused = ask, action, why, rule, refused


def decide(ask, wanted, policy, nodes=None, named=False):
    """Give the Decision about one Ask.

    wanted: "approve" or "deny", what this run is for. policy: a Policy, or None where the requests were selected by a label
    and no policy was given: then everything selected is denied, and nothing is approved, because the requester writes the label.
    nodes: Nodes or None. named: this very request was named. A request that cannot be read, that asks for a CA or that can be
    read in two ways is never approved; what else dangers() lists is approved only when it is named.
    """
    if ask.state != PENDING:
        return Decision(ask, LEAVE, "it is %s already" % ask.state)
    if wanted == DENY:
        return _denial(ask, policy, nodes, named)
    if ask.problem:
        return Decision(ask, LEAVE, ask.problem.message, refused=True)
    found = _dangers(ask)
    never, refused = _not_allowed(found, EVERY_NAME), _not_allowed(found, EVERY_NAME if named else ())
    if refused:
        hint = "nothing allows that" if never else "name this request to approve it all the same"
        return Decision(ask, LEAVE, "%s: %s" % ("; ".join(never or refused), hint), refused=True)
    if named:
        return Decision(ask, APPROVE, "it was named")
    if policy is None:
        return Decision(ask, LEAVE, "its label is the requester's own word, and there is no policy")
    rule, misses = policy.first(ask, nodes)
    if rule is not None and rule.decision == APPROVE:
        return Decision(ask, APPROVE, "the policy allows it", rule.name)
    if rule is not None:
        return Decision(ask, LEAVE, "the policy denies it", rule.name)
    return Decision(ask, LEAVE, "no rule allows it (%s)" % "; ".join("%s: %s" % (printable(name), why) for name, why in misses))


def _denial(ask, policy, nodes, named):
    if named:
        return Decision(ask, DENY, "it was named")
    if policy is None:
        return Decision(ask, DENY, "it was selected by its label")
    found = [ask.problem.message] if ask.problem else dangers(ask)
    if found:
        return Decision(ask, DENY, "; ".join(found), refused=True)
    rule, _misses = policy.first(ask, nodes)
    if rule is not None and rule.decision == DENY:
        return Decision(ask, DENY, "the policy denies it", rule.name)
    return Decision(ask, LEAVE, "no rule denies it")


# --- for people --------------------------------------------------------------------------------------------------------------

def row(ask, now):
    """Give what an Ask asks for as plain data, every string safe to print. now: datetime, for the age."""
    request = ask.request
    return {
        "name": printable(ask.name), "state": ask.state, "reason": printable(ask.reason), "message": printable(ask.message),
        "signer": printable(ask.signer), "requester": printable(ask.requester),
        "requester_groups": [printable(group) for group in ask.requester_groups],
        "usages": [printable(usage) for usage in ask.usages], "expiration_seconds": ask.expiration_seconds,
        "age_seconds": max(0, int((now - ask.created).total_seconds())) if ask.created else None,
        "labels": {printable(key): printable(value) for key, value in ask.labels.items()},
        "subject": printable(request.subject) if request else None,
        "common_name": printable(request.common_name or "") if request else None,
        "organizations": [printable(group) for group in request.organizations] if request else [],
        "sans": [printable(san) for san in request.sans] if request else [],
        "key_type": request.key_type if request else None,
        "key_sha256": request.key_sha256 if request else None,
        "problem": ask.problem.message if ask.problem else None,
        "dangers": dangers(ask),
    }


def age(seconds):
    """Give an age as kubectl would: 45s, 12m, 5h, 3d."""
    if seconds is None:
        return "?"
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return "%d%s" % (seconds // size, letter)
    return "%ds" % seconds


def table(rows):
    """Give rows (of row(), with "decision" and "why" where there are decisions) as the lines of a table."""
    if not rows:
        return ["There are no certificate signing requests."]
    lines = [("NAME", "STATE", "AGE", "SIGNER", "REQUESTER", "SUBJECT", "NAMES", "USAGES")]
    for entry in rows:
        lines.append((entry["name"], entry["state"], age(entry["age_seconds"]), entry["signer"], entry["requester"],
                      entry["subject"] if entry["subject"] is not None else "unreadable", ",".join(entry["sans"]) or "-",
                      ",".join(entry["usages"]) or "-"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    text = []
    for number, line in enumerate(lines):
        text.append("  ".join([cell.ljust(width) for cell, width in zip(line, widths)] + [line[-1]]))
        entry = rows[number - 1] if number else {}
        if entry.get("decision"):
            text.append("    %s: %s" % (entry["decision"], entry["why"]))
        elif entry.get("state") == PENDING and (entry["problem"] or entry["dangers"]):
            text.append("    %s" % (entry["problem"] or "; ".join(entry["dangers"])))
    return text


# --- small things ------------------------------------------------------------------------------------------------------------

def _mapping(value):
    return value if isinstance(value, dict) else {}


def _list(value):
    return value if isinstance(value, list) else []


def _text(value):
    return value if isinstance(value, str) else ""


def _decoded(value):
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return None


def _moment(value):
    try:
        return datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    except (TypeError, ValueError):
        return None
