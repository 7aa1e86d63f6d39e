# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names and addresses belong to which Node, for requests of kubelets' serving certificates."""

from __future__ import annotations

import ipaddress
from typing import Any, Iterable, Mapping, Sequence

from ..errors import printable
from ..x509 import general_names
from . import csr_dangers, csr_object

_RESERVED_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")

Host = Mapping[str, Any]  # of the inventory: {"name", "addresses": [str], "control_plane": bool}


class Nodes:
    """What is known of the cluster's nodes, for serving certificates.

    A kubelet writes the addresses of its Node object itself, so these alone prove little: the inventory, where there is one,
    has to know the node and counts more. No node gets what belongs to another node, to the API or to the cluster's Services.
    """

    def __init__(
        self,
        items: Iterable[Any],
        inventory: Sequence[Host] = (),
        reserved: Iterable[str] = (),
        service_networks: Iterable[str] = (),
        domains: Iterable[str] = ("cluster.local",),
    ) -> None:
        """Take Node objects (dicts) and the inventory (empty for none).

        reserved: names and addresses of the API (the SANs of its servers' certificates), which only control-plane nodes may have.
        service_networks: the networks of Services (CIDR), from which no node has an address. domains: the cluster's domains, in
        which a node has only a name that the inventory gives it.
        """
        self.with_inventory = bool(inventory)
        self.inventory = list(inventory)
        self.reserved = {general_names.same_name(entry) for entry in reserved if entry}
        self.service_networks = [ipaddress.ip_network(network, strict=False) for network in service_networks]
        self.domains = {general_names.same_name(domain) for domain in domains if domain}
        self.claims: dict[str, set[str]] = {}
        self._control_plane: dict[str, bool] = {}
        for item in items:
            metadata = csr_object.as_mapping(csr_object.as_mapping(item).get("metadata"))
            name = csr_object.as_text(metadata.get("name"))
            addresses = csr_object.as_list(csr_object.as_mapping(csr_object.as_mapping(item).get("status")).get("addresses"))
            self.claims[name] = {
                general_names.same_name(csr_object.as_text(csr_object.as_mapping(entry).get("address"))) for entry in addresses
            } - {""}
            labels = csr_object.as_mapping(metadata.get("labels"))
            # NodeRestriction keeps a kubelet from giving itself these (kubernetes.io/docs: node-role.kubernetes.io).
            self._control_plane[name] = any("node-role.kubernetes.io/" + role in labels for role in ("control-plane", "master"))
        self.hosts, by_address = _match(self.claims, self._control_plane, inventory)
        # An address that a kubelet wrote itself finds a host, and proves nothing; the label is not the kubelet's to write.
        self._found_only = {
            name for name in by_address if not (self._control_plane[name] and self.hosts[name].get("control_plane"))
        }
        self._nodes_by_name = _index((name, {name} | self.claims[name] | self.granted(name)) for name in self.claims)
        self._hosts_by_name = _index((number, _names_of(host)) for number, host in enumerate(self.inventory))
        self._labels = _index(
            [(name, {_label(name)}) for name in self.claims] + [(host["name"], {_label(host["name"])}) for host in self.inventory]
        )

    def is_control_plane(self, name: str) -> bool:
        """Return whether a node is one of the control plane: by the inventory, or where there is none, by its label.

        Where the Node does not have the name of its host in the inventory, it needs both.
        """
        if self.with_inventory:
            return bool(name in self.hosts and name not in self._found_only and self.hosts[name].get("control_plane"))
        return self._control_plane.get(name, False)

    def granted(self, name: str) -> set[str]:
        """Return the names and addresses that the inventory gives to a node; none where only an address matches it to a host."""
        host = self.hosts.get(name) if name not in self._found_only else None
        return {general_names.same_name(entry) for entry in _names_of(host)} if host else set()

    def why_not(self, name: str, wanted: str) -> str | None:
        """Return why a node may not have a name or an address (as in SANs, without the kind), or None."""
        wanted = general_names.same_name(wanted)
        granted = self.granted(name)
        if wanted in self.reserved and not self.is_control_plane(name):
            return "belongs to the API or to every machine"
        own = {general_names.same_name(name)} if name in self.hosts else set()
        why = self._why_for_no_node(wanted, granted | own)
        if why:
            return why
        if wanted == general_names.same_name(name) or wanted in granted:
            return self._why_another_hosts(name, wanted)
        if wanted not in self.claims[name]:
            return "is not an address of the Node object, nor of the inventory"
        return self._why_another_nodes(name, wanted) or self._why_another_hosts(name, wanted)

    def _why_for_no_node(self, wanted: str, own: set[str]) -> str | None:
        """Return why no node at all may have a name or an address, not even one of the control plane, or None.

        own: what the node may have in the cluster's domain: its own name and what the inventory gives it.
        """
        found = general_names.address(wanted)
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
        if _is_below(wanted, self.domains) and wanted not in own:
            return "is in the cluster's own domain, and the inventory does not give it to the node"
        return None

    def _why_another_hosts(self, name: str, wanted: str) -> str | None:
        """Return which other host the inventory gives a name or an address (str), or None; it need not be a node."""
        # What was matched by an address may have this address, and not the host's DNS names.
        without = name in self._found_only and general_names.address(wanted) is None
        for number in sorted(self._hosts_by_name.get(wanted, ())):
            if without or self.inventory[number] is not self.hosts.get(name):
                return "belongs to the host %s of the inventory" % printable(self.inventory[number]["name"])
        return None

    def _why_another_nodes(self, name: str, wanted: str) -> str | None:
        owners = self._nodes_by_name.get(wanted, set()) - {name}
        if not owners and general_names.address(wanted) is None and _label(wanted) != _label(name):
            # w2.example counts as w2.
            owners = self._labels.get(_label(wanted), set())
        return "belongs to the node %s" % printable(sorted(owners)[0]) if owners else None


# Names of every machine (RFC 6761 6.3; some systems' /etc/hosts), and those of the API within the cluster.
_RESERVED_DOMAINS = ("localhost", "localdomain", "localhost6", "localdomain6", "ip6-localhost", "ip6-loopback")


def _is_below(name: str, domains: Iterable[str]) -> bool:
    return any(name == domain or name.endswith("." + domain) for domain in domains)


def _label(name: str) -> str:
    return "" if general_names.address(name) is not None else general_names.same_name(name).partition(".")[0]


def _names_of(host: Host) -> list[str]:
    return [host["name"], *host.get("addresses", ())]


def _index(entries: Iterable[tuple[Any, Iterable[str]]]) -> dict[str, set[Any]]:
    """Return {name or address as compared: {its owners}} of (owner, names) pairs."""
    found: dict[str, set[Any]] = {}
    for owner, names in entries:
        for name in names:
            if name:
                found.setdefault(general_names.same_name(name), set()).add(owner)
    return found


def _match(
    claims: Mapping[str, set[str]], labelled: Mapping[str, bool], inventory: Iterable[Host]
) -> tuple[dict[str, Host], set[str]]:
    """Return ({node name: inventory host}, {node names that were matched by an address}).

    Hosts are matched by name, by the name's first label, and only then by an address that no other Node claims. labelled:
    {node name: whether it has the label of the control plane}; without it, no address makes a Node a host of the control plane.
    """
    hosts: dict[str, Host] = {}
    by_address: set[str] = set()
    free = list(inventory)
    for same in (
        lambda host, node: host["name"] == node,
        lambda host, node: _first_label(host["name"]) == _first_label(node),
        lambda host, node: (
            (labelled[node] or not host.get("control_plane"))
            and any(general_names.same_name(entry) in claims[node] for entry in host.get("addresses", ()))
        ),
    ):
        by_name = set(hosts)
        pairs = [(host, node) for host in free for node in claims if node not in hosts and same(host, node)]
        for host, node in pairs:
            # Two hosts that could be one node, or two nodes that could be one host, prove nothing.
            if sum(other is host for other, _node in pairs) == 1 and sum(other == node for _host, other in pairs) == 1:
                hosts[node] = host
        free = [host for host in free if not any(host is taken for taken in hosts.values())]
        by_address = set(hosts) - by_name
    return hosts, by_address


def _first_label(name: str) -> str:
    return name if general_names.address(name) is not None else name.split(".")[0]


def node_mismatch(request: csr_object.CertificateSigningRequest, nodes: Nodes | None) -> str | None:
    """Return what in a readable serving request does not belong to the node that requests it, or None."""
    parsed = request.request
    name = (parsed.common_name or "")[len(csr_dangers.NODE_PREFIX) :]
    if not csr_dangers.is_that_node(parsed, request.requester, request.requester_groups):
        return "it is not a node's request for itself"
    unknown = why_unknown(name, nodes)
    if unknown or nodes is None:
        return unknown
    if not parsed.sans:
        return "it names no address to serve"
    for san in parsed.sans:
        kind, _colon, value = san.partition(":")
        if kind not in ("DNS", "IP") or "*" in value:
            return "the name %s is of a kind no kubelet serves" % printable(san)
        why = nodes.why_not(name, value)
        if why:
            return "%s %s" % (printable(san), why)
    return None


def why_unknown(name: str, nodes: Nodes | None) -> str | None:
    """Return why nothing is known of a node, or None."""
    if nodes is None or name not in nodes.claims:
        return "there is no Node named %s" % printable(name)
    if nodes.with_inventory and name not in nodes.hosts:
        return "the node %s is not in the inventory" % printable(name)
    return None
