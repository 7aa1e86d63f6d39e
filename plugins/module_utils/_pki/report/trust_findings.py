# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about CAs: which one signed a certificate, which ones a kubeconfig trusts, and what is wrong with a CA's file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import PkiError
from ..kubeadm import catalogue, layouts
from ..x509 import x509_read
from . import finding, remedies
from .finding import Finding

if TYPE_CHECKING:
    from ..kubeadm.pki_tree import Item, Tree
    from ..x509.x509_read import Certificate


def is_alias(tree: Tree, item: Item) -> bool:
    """Return whether a CA's file is the file of another CA of this node."""
    other = tree.items.get(tree.layout.shared.get(item.name))
    return other is not None and os.path.realpath(other.path) == os.path.realpath(item.path)


def check_signature(tree: Tree, item: Item) -> list[Finding]:
    """Return the finding of a leaf that its CA on this node has not signed."""
    if item.kind == catalogue.CA:
        return []
    name = item.ca or ("ca" if tree.layout.kubelet["server_bootstrap"] and not item.certificate.self_issued else None)
    bundle = tree.ca_bundle(name)
    if not bundle or tree.signer(item) is not None:
        return []
    path, foreign = tree.items[name].path, False
    if any(item.certificate.verified_by_key(ca) for ca in bundle):
        message = (
            "is signed with the key of the CA in %s, but its issuer (%s) is not byte for byte the subject of that CA "
            "(%s): the CA certificate was made again with the same key, and clients reject what was signed before"
            % (path, item.certificate.issuer, next(ca.subject for ca in bundle if item.certificate.verified_by_key(ca)))
        )
    elif any(item.certificate.issuer == ca.subject for ca in bundle):
        message = "is signed by another CA of the same name than the one in %s" % path
    else:
        message = "is signed by %s, which is not in %s" % (item.certificate.issuer, path)
        foreign = True
    fix = remedies.for_item(item)
    if foreign and item.kind in (catalogue.LEAF, catalogue.KUBECONFIG):
        fix = remedies.RENEW_FORCED % item.name  # renew_leaves keeps a certificate of an unknown CA, unless named and forced
    if item.externally_managed:
        fix = "Put the right CA certificate into %s, or have the certificate issued by that CA." % path
    return [finding.error("not-signed-by-ca", item.path, message, fix, item.name)]


def check_cas(tree: Tree) -> list[Finding]:
    """Return the findings about the CAs of a node, without their validity."""
    found = _shared_cas(tree)
    for name in catalogue.CA_NAMES:
        item = tree.items.get(name)
        if item is None or item.certificate is None or is_alias(tree, item):
            continue
        if item.externally_managed:
            message = (
                "the CA %s is externally managed: its key is not on this node, and what it signs cannot be renewed here" % name
            )
            fix = (
                "Set kubepki_external_ca_dir for the playbook renew_leaves: it writes requests there, and installs the signed "
                "certificates."
            )
            found.append(finding.info("external-ca", item.path, message, fix, name))
        if not item.certificate.is_ca:
            message = "the first certificate in it is not a CA certificate"
            found.append(finding.error("not-a-ca", item.path, message, remedies.RESTORE, name))
        found += _same_names(item)
    return found


def _same_names(item: Item) -> list[Finding]:
    subjects: dict[str, dict[str, Certificate]] = {}
    for ca in item.bundle:
        subjects.setdefault(ca.subject, {})[ca.key_sha256] = ca
    found = []
    for subject, keys in subjects.items():
        if len(keys) < 2:
            continue
        distinguishable = all(ca.subject_key_id for ca in keys.values())
        message = "holds %d CAs named %s with different keys%s" % (
            len(keys),
            subject,
            "" if distinguishable else ", and no key identifiers that distinguish them",
        )
        fix = "A rotation that is under way looks like this: finish it with the playbook rotate_ca."
        severity = finding.INFO if distinguishable else finding.WARNING
        found.append(finding.make(severity, "ca-same-name", item.path, message, fix, item.name))
    return found


def _shared_cas(tree: Tree) -> list[Finding]:
    """Return the findings of CAs that are the cluster's CA as well: more than the API server trusts what it signs."""
    found, cluster = [], tree.items.get("ca")
    if cluster is None or cluster.certificate is None:
        return []
    for name in ("front-proxy-ca", "etcd-ca"):
        item = tree.items.get(name)
        if item is None or item.certificate is None or item.certificate.key_sha256 != cluster.certificate.key_sha256:
            continue
        if name == "etcd-ca":
            message = (
                "etcd trusts the cluster's CA (%s): every client certificate that this CA signs, of a kubelet or of a user, "
                "can read and write all data of etcd" % cluster.path
            )
        else:
            allowed = tree.layout.flags.get("kube-apiserver", {}).get("--requestheader-allowed-names") or ""
            names = "one of the names %s" % allowed if allowed else "any name (--requestheader-allowed-names is empty)"
            message = (
                "kube-apiserver trusts the cluster's CA (%s) for front proxies: every client certificate that this CA signs "
                "with %s can act as any user and any group" % (cluster.path, names)
            )
        found.append(finding.warning("shared-ca", item.path, message, layouts.separate_ca(tree.layout, name), name))
    return found


def check_kubeconfigs(tree: Tree) -> list[Finding]:
    """Return the findings of kubeconfigs that do not trust exactly the certificates of the cluster's CA file."""
    bundle = tree.ca_bundle("ca")
    if not bundle:
        return []
    found, cluster = [], {ca.sha256 for ca in bundle}
    fix = (
        "Put the content of %s into its certificate-authority-data; while a rotation of the CA is under way, let rotate_ca do it."
        % tree.items["ca"].path
    )
    for path, config in tree.kubeconfigs.items():
        try:
            if config.ca_data:
                trusted = {ca.sha256 for ca in x509_read.parse_certificates(config.ca_data, path)}
            elif config.ca_file:
                trusted = {ca.sha256 for ca in tree.layout.reader.certificates(tree.layout.at(config.ca_file))}
            else:
                continue  # the system's trust store, or insecure-skip-tls-verify: the user's choice
        except PkiError as error:
            found.append(unreadable(error))
            continue
        if not trusted & cluster:
            found.append(finding.error("kubeconfig-ca-differs", path, "trusts another CA than the cluster's", fix))
        elif cluster - trusted:
            message = "trusts only %d of the %d certificates of the cluster's CA" % (len(trusted & cluster), len(cluster))
            found.append(finding.warning("kubeconfig-ca-differs", path, message, fix))
        elif trusted - cluster:
            message = "trusts %d certificates more than the cluster's CA has" % len(trusted - cluster)
            found.append(finding.info("kubeconfig-ca-differs", path, message, fix))
    return found


def unreadable(error: PkiError, name: str | None = None) -> Finding:
    """Return the finding of a file that cannot be read. name: of the catalogue, or None."""
    code = "unreadable-ca" if name in catalogue.CA_NAMES else "unreadable"
    return finding.error(code, error.path, error.message, error.fix or remedies.RESTORE, name)
