# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's certificates as data: what is on disk where the layout says, and in which state.

Nothing here raises for a damaged file: what is wrong is part of the data.
"""

from __future__ import annotations

import contextlib
import os
import stat

from ..errors import PkiError
from ..fileio import reading
from ..x509 import x509_read
from . import catalogue
from .layouts import CONTROL_PLANE, ETCD

_CERTIFICATE_ENDINGS = (".crt", ".pem", ".cer", ".cert")

_LARGEST, _MOST_OTHERS = 1024 * 1024, 200


class Item:
    """One certificate of the node.

    name, kind: the catalogue's. entry: the catalogue.Entry. path, key_path: as in Layout.paths. certificate: the
    certificates.Certificate or None: the first of the file, which is the leaf or the signer. bundle: [Certificate], the whole
    file. key_sha256: digest of the private key's public half, or None. kubeconfig: Kubeconfig or None. problem: PkiError or
    None; key_problem likewise.
    other_login: a kubeconfig of the user's own, which logs in without a certificate.
    missing: nothing there. externally_managed: the CA has a certificate on this node and no key. mode, uid, gid of the
    certificate's file and key_mode, key_uid, key_gid of the key's (int or None). ca: name of the signing CA or None.
    """

    def __init__(self, entry, path, key_path):
        self.name, self.entry, self.kind, self.ca = entry.name, entry, entry.kind, entry.ca
        self.path, self.key_path = path, key_path
        self.certificate, self.bundle, self.key_sha256 = None, [], None
        self.kubeconfig = None
        self.problem = self.key_problem = None
        self.missing = self.key_missing = False
        self.externally_managed = self.other_login = False
        self.mode = self.uid = self.gid = None
        self.key_mode = self.key_uid = self.key_gid = None


class Tree:
    """What is on the node. layout: Layout. items: {name: Item}. sa: (key_sha256 of sa.key or None, [key_sha256 of sa.pub]).

    sa_problems: [PkiError]. sa_modes: {path: (mode, uid, gid)} of the private half. kubeconfigs: {path: Kubeconfig} of every
    kubeconfig that could be read, also those that hold no certificate (kubelet.conf, bootstrap-kubelet.conf). others: [Item] of
    certificates beside the catalogue: what else lies below pki, and what else the static pods' flags name.
    """

    def __init__(self, layout):
        self.layout = layout
        self.items = {}
        self.sa = (None, [])
        self.sa_problems, self.sa_modes = [], {}
        self.kubeconfigs = {}
        self.others = []
        self._signers = {}

    def ca_bundle(self, name):
        """Return the [Certificate] of a CA file ("ca", "front-proxy-ca", "etcd-ca"), empty where there is none."""
        item = self.items.get(name)
        return item.bundle if item else []

    def signer(self, item):
        """Return the CA Certificate on this node that signed an Item's certificate: of several the one that lives longest."""
        if item.name not in self._signers:
            name = item.ca or ("ca" if item.kind == catalogue.KUBELET else None)
            signers = [ca for ca in self.ca_bundle(name) if item.certificate is not None and item.certificate.signed_by(ca)]
            self._signers[item.name] = max(signers, key=lambda ca: ca.not_after) if signers else None
        return self._signers[item.name]


def state_of(certificate, now, warn_days=30, critical_days=7):
    """Return "ok", "warning", "critical" or "expired" for a Certificate at a moment (datetime in UTC).

    One that is not valid yet is critical: nothing accepts it.
    """
    days = (certificate.not_after - now).total_seconds() / 86400.0
    if days <= 0:
        return "expired"
    if days < critical_days or certificate.not_before > now:
        return "critical"
    return "warning" if days < warn_days else "ok"


def read_tree(layout):
    """Read everything the layout names. Gives a Tree; never raises for a damaged file: the Item carries the problem."""
    tree = Tree(layout)
    for name, (path, key_path) in layout.paths.items():
        tree.items[name] = _read_item(layout, catalogue.BY_NAME[name], path, key_path)
    if layout.role in (CONTROL_PLANE, ETCD):
        for item in tree.items.values():
            ca = tree.items.get(item.name if item.kind == catalogue.CA else item.ca)
            if item.kind != catalogue.KUBELET and ca is not None and ca.certificate is not None and ca.key_missing:
                item.externally_managed = True
    _read_service_account(tree)
    tree.others = [_read_other(layout, path) for path in _others(layout)]
    paths = [layout.kubelet["kubeconfig_path"], layout.kubelet["bootstrap_kubeconfig_path"]]
    for path in paths + [item.path for item in tree.items.values() if item.kind == catalogue.KUBECONFIG]:
        with contextlib.suppress(PkiError):  # its Item or findings.kubelet_client says what is wrong with it
            tree.kubeconfigs[path] = layout.reader.kubeconfig(path)
    return tree


def _read_item(layout, entry, path, key_path):
    item = Item(entry, path, key_path)
    item.mode, item.uid, item.gid = _status(path)
    try:
        if entry.kind == catalogue.KUBECONFIG or path == layout.kubelet["kubeconfig_path"]:
            _read_kubeconfig(layout, item)
        else:
            item.bundle = layout.reader.certificates(path)
            item.certificate = item.bundle[0]
    except PkiError as error:
        item.problem = error
        item.missing = not os.path.lexists(path)
    if item.kubeconfig is None:
        _read_key(layout, item)
    return item


def _read_kubeconfig(layout, item):
    item.kubeconfig = config = layout.reader.kubeconfig(item.path)
    if config.certificate_data:
        item.bundle = x509_read.parse_certificates(config.certificate_data, item.path)
    elif config.certificate_file:
        item.bundle = layout.reader.certificates(layout.at(config.certificate_file))
    elif config.other_login and item.kind == catalogue.KUBECONFIG:
        item.other_login = True
        return
    else:
        raise PkiError("holds no client certificate", path=item.path, fix="Issue it again, or restore it from a backup.")
    item.certificate = item.bundle[0]
    try:
        if config.key_data:
            item.key_sha256 = x509_read.private_key_digest(config.key_data, item.path, item.certificate)
        elif config.key_file:
            item.key_sha256 = layout.reader.private_key(layout.at(config.key_file), item.certificate)
        else:
            item.key_missing = True
    except PkiError as error:
        item.key_problem = error


def _read_key(layout, item):
    path = item.key_path or (item.path if item.kind == catalogue.KUBELET else None)
    if path is None:
        return
    if not os.path.lexists(path):
        item.key_missing = True
        return
    item.key_mode, item.key_uid, item.key_gid = _status(path)
    try:
        item.key_sha256 = layout.reader.private_key(path, item.certificate)
    except PkiError as error:
        item.key_problem = error


def _others(layout):
    """Return the paths of certificates that the catalogue does not know, sorted."""
    known = {_inode(path) for pair in layout.paths.values() for path in pair if path}
    found = set()
    for directory, _folders, names in os.walk(layout.pki_dir):
        found.update(os.path.join(directory, name) for name in names if not name.startswith("."))
    for manifest in layout.parsed.values():
        # --tls-sni-cert-key holds "certificate,key:names", and may be there several times.
        found.update(
            layout.at(value.split(",")[0])
            for values in manifest.flag_values.values()
            for value in values
            if value.startswith("/")
        )
    return [
        path
        for path in sorted(found)
        if path.endswith(_CERTIFICATE_ENDINGS) and _inode(path) not in known and _holds_certificate(path)
    ][:_MOST_OTHERS]


def _inode(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _holds_certificate(path):
    try:
        return os.path.getsize(path) < _LARGEST and b"-----BEGIN CERTIFICATE-----" in reading.read(path)
    except (OSError, PkiError):
        return False


def _read_other(layout, path):
    name = os.path.relpath(path, layout.kubernetes_dir) if path.startswith(layout.kubernetes_dir + "/") else path
    item = Item(catalogue.Entry(name, catalogue.OTHER, path), path, None)
    try:
        item.bundle = layout.reader.certificates(path)
        item.certificate = item.bundle[0]
    except PkiError as error:
        item.problem = error
    return item


def _read_service_account(tree):
    layout = tree.layout
    key, public = None, []
    if layout.sa_key:
        try:
            key = layout.reader.private_key(layout.sa_key)
        except PkiError as error:
            tree.sa_problems.append(error)
        if os.path.lexists(layout.sa_key):
            tree.sa_modes[layout.sa_key] = _status(layout.sa_key)
    for path in layout.sa_pub:
        try:
            public.extend(digest for digest in layout.reader.public_keys(path) if digest not in public)
        except PkiError as error:
            tree.sa_problems.append(error)
    tree.sa = (key, public)


def _status(path):
    try:
        status = os.stat(path)
    except OSError:
        return None, None, None
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
