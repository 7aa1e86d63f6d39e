# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leaves of kubeadm's catalogue, as a node has them."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from ..errors import PkiError
from ..kubeadm import addresses, catalogue, pki_tree
from ..kubeadm.layouts import Layout
from ..x509 import x509_sign
from . import issuing_ca, model


def missing_here(tree: pki_tree.Tree, names: Iterable[str]) -> List[str]:
    """Return those of some names of leaves that do not belong to a node of this role, sorted: no etcd-server without an etcd."""
    asked = {name.strip() for name in names}
    return sorted(
        entry.name
        for entry in catalogue.CATALOGUE
        if entry.name in asked and entry.kind != catalogue.CA and entry.name not in tree.items and not entry.optional
    )


def catalogue_leaves(tree: pki_tree.Tree, names: Iterable[str], settings: model.Settings) -> List[model.Leaf]:
    """Return the Leaf of every name, in the catalogue's order. names: of the catalogue, or "all".

    Raises PkiError that lists the valid names for one that is not known or not on a node of this role.
    """
    named = {name.strip() for name in names}
    wanted = set(named)
    known = [entry.name for entry in catalogue.CATALOGUE if entry.kind != catalogue.CA]
    for name in sorted(wanted - set(known) - {"all"}):
        if name in catalogue.CA_NAMES:
            raise PkiError("%s is an authority and no leaf" % name, fix="The playbook rotate_ca replaces authorities.")
        raise PkiError("%r is not the name of a certificate" % name, fix="Choose among: all, %s." % ", ".join(known))
    for name in missing_here(tree, wanted):
        here = [each for each in known if each in tree.items]
        raise PkiError(
            "%s does not belong to this node (%s, role %s)" % (name, tree.layout.node_name, tree.layout.role),
            fix="Its certificates are: %s." % (", ".join(here) or "none"),
        )
    if tree.layout.problems:
        problem = tree.layout.problems[0]
        raise PkiError(
            "%s, so where this node keeps its certificates is not certain. Nothing was changed" % problem.message,
            path=problem.path,
            fix=problem.fix,
        )
    if "all" in wanted:
        wanted.update(catalogue.RENEWABLE)
    signers: Dict[str, issuing_ca.IssuingCa] = {}
    found = []
    holders = _holders(tree)
    for entry in catalogue.CATALOGUE:
        if entry.name in wanted and entry.kind != catalogue.CA and entry.name in tree.items:
            ca = entry.ca or "ca"
            if ca not in signers:
                signers[ca] = _signer(tree, ca, settings.now)
            leaf = _catalogue_leaf(tree, tree.items[entry.name], signers[ca], entry.name in named)
            leaf.neighbours = [(what, paths) for what, paths in holders if what != entry.name]
            found.append(leaf)
    return found


def _holders(tree: pki_tree.Tree) -> List[Tuple[str, Set[str]]]:
    """Return [(what, {real paths of its files})] of everything that has a certificate or a key on this node."""
    layout = tree.layout
    found = [("the service accounts' key", model.real_paths([layout.sa_key] + layout.sa_pub))]
    for item in tree.items.values():
        paths = [item.path, item.key_path]
        if item.kubeconfig is not None:
            paths += [layout.at(path) for path in (item.kubeconfig.certificate_file, item.kubeconfig.key_file) if path]
        found.append((item.name, model.real_paths(paths)))
    return found


def _signer(tree: pki_tree.Tree, name: str, now: datetime.datetime) -> issuing_ca.IssuingCa:
    if name in tree.items:
        return issuing_ca.IssuingCa.of_item(tree.items[name], now)
    return issuing_ca.IssuingCa(
        name,
        None,
        None,
        problem=PkiError("the authority %s is not on this node" % name, fix="Have the certificate issued where it is."),
    )


def _catalogue_leaf(tree: pki_tree.Tree, item: pki_tree.Item, signer: issuing_ca.IssuingCa, named: bool) -> model.Leaf:
    entry = item.entry
    form = (
        model.KUBECONFIG
        if item.kubeconfig is not None or item.kind == catalogue.KUBECONFIG
        else model.PAIR
        if item.key_path
        else model.COMBINED
    )
    leaf = model.Leaf(item.name, form, item.path, signer)
    leaf.named = leaf.remake = named
    leaf.of_cluster = True
    leaf.optional = entry.optional
    # An external etcd's CA has no key on a control-plane node by the nature of it.
    leaf.outside = entry.ca == "etcd-ca" and "etcd" not in tree.layout.parsed and signer.problem is not None
    leaf.certificate, leaf.bundle, leaf.key_sha256 = item.certificate, item.bundle, item.key_sha256
    leaf.kubeconfig = item.kubeconfig
    leaf.problem = item.key_problem if item.missing else item.problem or item.key_problem
    leaf.missing, leaf.key_missing = item.missing, item.key_missing
    leaf.other_login = item.other_login
    if item.other_login:
        leaf.problem = PkiError("holds no client certificate", path=item.path)
    leaf.consumer, leaf.takes_up = entry.consumer, entry.takes_up
    leaf.profile = lambda: _from_catalogue(tree.layout, entry)
    if form == model.PAIR:
        leaf.certificate_path, leaf.key_path = item.path, item.key_path
    elif form == model.COMBINED:
        leaf.certificate_path = leaf.key_path = item.path
    elif item.kubeconfig is not None and item.kubeconfig.certificate_file and not item.kubeconfig.certificate_data:
        leaf.certificate_path = tree.layout.at(item.kubeconfig.certificate_file)
        leaf.key_path = tree.layout.at(item.kubeconfig.key_file or item.kubeconfig.certificate_file)
    if form == model.KUBECONFIG and item.kubeconfig is None:
        leaf.server = _server(tree.layout, entry)
    return leaf


def _server(layout: Layout, entry: catalogue.Entry) -> Optional[str]:
    """Return the URL that kubeadm gives a kubeconfig: kube-controller-manager and kube-scheduler use their own node's."""
    if entry.consumer in ("kube-controller-manager", "kube-scheduler") and layout.advertise_address:
        address = layout.advertise_address
        port = layout.flags.get("kube-apiserver", {}).get("--secure-port", "6443")
        return "https://%s:%s" % ("[%s]" % address if ":" in address else address, port)
    return "https://%s" % layout.control_plane_endpoint if layout.control_plane_endpoint else None


def _from_catalogue(layout: Layout, entry: catalogue.Entry) -> Tuple[x509_sign.Profile, Optional[str]]:
    """Return (Profile, what was assumed) for a certificate that is not there."""
    assumed = []
    minor = layout.minor
    if minor is None:
        minor = 29
        assumed.append("Kubernetes 1.29 or newer")
    sans = []
    if entry.name == "apiserver":
        services = layout.flags.get("kube-apiserver", {}).get("--service-cluster-ip-range")
        service_ip = _first_address(services)
        if service_ip is None:
            service_ip = "10.96.0.1"
            assumed.append("the service address 10.96.0.1")
        config = layout.kubelet.get("config") or {}
        domain = config.get("clusterDomain") if isinstance(config.get("clusterDomain"), str) else None
        if not domain:
            domain = "cluster.local"
            assumed.append("the domain cluster.local")
        host = addresses.split_host_port(layout.control_plane_endpoint)[0] if layout.control_plane_endpoint else None
        sans = catalogue.apiserver_sans(layout.node_name, layout.advertise_address, service_ip, host, domain)
        assumed.append("no further names (certSANs)")
    elif entry.name in ("etcd-server", "etcd-peer"):
        sans = catalogue.etcd_sans(layout.node_name, layout.advertise_address)
        assumed.append("no further names (serverCertSANs, peerCertSANs)")
    elif entry.name == "kubelet-serving":
        sans = catalogue.node_sans(layout.node_name, layout.advertise_address)
    common_name = entry.common_name.format(node=layout.node_name)
    profile = x509_sign.Profile(common_name, entry.organizations(minor), sans, entry.usages)
    return profile, "assumed: " + ", ".join(assumed) if assumed else None


def _first_address(ranges: Any) -> Optional[str]:
    """Return the address of the service "kubernetes": the first of the (first) service range."""
    try:
        return str(ipaddress.ip_network(ranges.split(",")[0].strip(), strict=False)[1])
    except (AttributeError, ValueError, IndexError):
        return None
