# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about files: missing or unreadable ones, keys that do not match, modes and owners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

from ..kubeadm import catalogue
from . import finding, remedies
from .finding import Finding
from .trust_findings import unreadable

if TYPE_CHECKING:
    from ..kubeadm.pki_tree import Item, Tree

# mode, uid, gid; all None where there is no file.
FileStatus = Tuple[Optional[int], Optional[int], Optional[int]]


def check_presence(tree: Tree, item: Item) -> list[Finding]:
    """Return the findings of a certificate or key that is missing or cannot be read."""
    if item.kind == catalogue.KUBELET and item.name == "kubelet-client":
        return []  # kubelet_findings has them
    found = []
    if item.missing:
        found += _missing(tree, item)
    elif item.problem is not None:
        found.append(unreadable(item.problem, item.name))
    elif item.other_login:
        message = "%s authenticates without a certificate, so nothing in it is renewed" % item.name
        fix = "Nothing, if this is intended. Named in kubepki_names, it gets a certificate."
        found.append(finding.info("other-login", item.path, message, fix, item.name))
    if item.key_problem is not None:
        found.append(unreadable(item.key_problem, item.name))
    elif item.key_missing and item.certificate is not None and item.kind != catalogue.CA:
        message = "there is no private key for %s" % item.name
        found.append(finding.error("key-missing", item.key_path or item.path, message, remedies.for_item(item), item.name))
    return found


def _missing(tree: Tree, item: Item) -> list[Finding]:
    if item.name == "super-admin.conf":
        return []  # kubeadm makes it on the first node only
    if item.name == "kubelet-serving":
        if not tree.layout.kubelet["server_bootstrap"]:
            return []  # the kubelet makes one when it starts
        fix = remedies.BOOTSTRAP_SERVING + " Or approve the request it made itself (manage_csrs): Kubernetes approves none."
        return [finding.warning("missing", item.path, "the kubelet has no serving certificate", fix, item.name)]
    # No component reads admin.conf.
    severity = finding.WARNING if item.entry.consumer is None and item.kind != catalogue.CA else finding.ERROR
    fix = remedies.RESTORE if item.kind == catalogue.CA else remedies.for_item(item)
    return [finding.make(severity, "missing", item.path, "%s does not exist" % item.name, fix, item.name)]


def check_pair(item: Item) -> list[Finding]:
    """Return the finding of a private key that does not match its certificate."""
    if item.key_sha256 is None or item.key_sha256 == item.certificate.key_sha256:
        return []
    message, fix = "the private key does not match the certificate", remedies.for_item(item)
    if item.kind == catalogue.CA:
        fix = remedies.RESTORE
        message = "the private key %s does not match the first certificate in the file, with which kubeadm signs" % item.key_path
        for index, other in enumerate(item.bundle[1:], 2):
            if other.key_sha256 == item.key_sha256:
                message += "; it matches certificate %d" % index
                fix = "Put the certificate that matches the key first in the file."
    return [finding.error("key-mismatch", item.key_path or item.path, message, fix, item.name)]


def check_serials(item: Item) -> list[Finding]:
    """Return the findings of serial numbers below 0 (RFC 5280 4.1.2.2): Go 1.23 and later rejects them (x509negativeserial)."""
    known = item.kind in (catalogue.LEAF, catalogue.KUBECONFIG)
    fix = remedies.RENEW_FORCED % item.name if known else remedies.for_item(item)
    return [
        finding.warning(
            "negative-serial",
            item.path,
            "the serial number of %s is %d, and programs written in Go 1.23 or later "
            "reject that" % (certificate.subject, certificate.serial),
            fix,
            item.name,
        )
        for certificate in item.bundle
        if certificate.serial < 0  # not 0: kubeadm 1.20 gives that to its CAs, and Go accepts it
    ]


def check_item_modes(tree: Tree, item: Item, owner: int) -> list[Finding]:
    """Return the findings about modes and owners of an Item's files. owner: the uid that files should have."""
    secret = item.key_path is None and item.kind in (catalogue.KUBECONFIG, catalogue.KUBELET)
    found = check_mode(tree, item.path, (item.mode, item.uid, item.gid), secret, owner, item.name)
    if item.key_path and item.key_path != item.path and item.name not in tree.layout.shared:
        found += check_mode(tree, item.key_path, (item.key_mode, item.key_uid, item.key_gid), True, owner, item.name)
    return found


def check_mode(tree: Tree, path: str, status: FileStatus, secret: bool, owner: int, name: str) -> list[Finding]:
    """Return the findings about mode and owner of one file. secret: whether it holds a private key."""
    mode, uid, gid = status
    if mode is None or uid is None or gid is None:
        return []
    found = []
    # kubeadm's RootlessControlPlane gives a component's files to the user it runs as, group-readable.
    users = {owner} | {manifest.user for manifest in tree.layout.parsed.values()}
    if uid not in users:
        message = "belongs to user %d, not to root" % uid
        found.append(finding.warning("wrong-owner", path, message, "chown root:root %s" % path, name))
    if secret and mode & 0o007:
        message = "holds a private key and every user of the node can read it (mode %04o)" % mode
        found.append(finding.error("wrong-mode", path, message, "chmod 0600 %s" % path, name))
    elif secret and mode & 0o070 and gid != 0 and gid not in users:
        message = "holds a private key and the group %d can read it (mode %04o)" % (gid, mode)
        found.append(finding.warning("wrong-mode", path, message, "chmod 0600 %s" % path, name))
    elif mode & 0o022:
        message = "other users than root can change it (mode %04o)" % mode
        severity = finding.ERROR if mode & 0o002 else finding.WARNING
        fix = "chmod %s %s" % ("0600" if secret else "0644", path)
        found.append(finding.make(severity, "wrong-mode", path, message, fix, name))
    return found


def check_service_account(tree: Tree, owner: int) -> list[Finding]:
    """Return the findings about the key pair that signs service-account tokens."""
    layout = tree.layout
    found = [unreadable(error, "sa") for error in tree.sa_problems]
    key, public = tree.sa
    if key and public and key not in public:
        message = (
            "does not hold the public key of %s, so the API server rejects the tokens that are signed with it" % layout.sa_key
        )
        fix = "openssl rsa -in %s -pubout -out %s, then restart kube-apiserver." % (layout.sa_key, layout.sa_pub[0])
        found.append(finding.error("sa-pub-mismatch", layout.sa_pub[0], message, fix, "sa"))
    for path, status in tree.sa_modes.items():
        found += check_mode(tree, path, status, True, owner, "sa")
    return found
