# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about serving certificates that lack a name by which clients connect."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Iterable

from ..kubeadm import addresses
from . import finding
from .finding import Finding

if TYPE_CHECKING:
    from ..kubeadm.pki_tree import Tree


def check(tree: Tree) -> list[Finding]:
    """Return the findings about SANs: the advertised address and the control-plane endpoint have to be in them."""
    layout = tree.layout
    wanted = []
    if layout.advertise_address:
        wanted += [
            (name, layout.advertise_address, "the address this node advertises")
            for name in ("apiserver", "etcd-server", "etcd-peer")
        ]
    host = addresses.split_host_port(layout.control_plane_endpoint or "")[0]
    if host:
        wanted.append(("apiserver", host, "the control-plane endpoint"))
    found = []
    for name, value, what in wanted:
        item = tree.items.get(name)
        if item is None or item.certificate is None or _covers(item.certificate.sans, value):
            continue
        message = "has no SAN for %s, %s, so clients reject it there" % (value, what)
        fix = (
            "Add it to certSANs in kubeadm-config, move this certificate and its key away, and make them again with "
            "`kubeadm init phase certs %s --config ...`." % name
        )
        found.append(finding.error("san-missing", item.path, message, fix, name))
    return found


def _covers(sans: Iterable[str], value: str) -> bool:
    value = value.lower().rstrip(".")
    address = _packed(value)
    for san in sans:
        name = san.partition(":")[2].lower()
        if address and san.startswith("IP:") and _packed(name) == address:
            return True
        if name == value or (name.startswith("*.") and san.startswith("DNS:") and value.partition(".")[2] == name[2:]):
            return True
    return False


def _packed(text: str) -> bytes | None:
    """Return an address as bytes, however it is written (2001:DB8:0::1, 2001:db8::1); None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
    return None
