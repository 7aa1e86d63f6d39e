# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests of nodes for an external CA: which host may request which certificate, and the entries of the manifest."""

from __future__ import annotations

import re
from typing import Any, Collection, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError, printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import csr_dangers
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_MINORS = range(100)


class Groups(NamedTuple):
    """The hosts of the inventory that may request certificates, whatever hosts a run is limited to. No other host may."""

    control_plane: Collection[str]
    etcd: Collection[str]

    @classmethod
    def of(cls, groups: Optional[Mapping[str, Any]]) -> Groups:
        """Return the hosts of Ansible's variable `groups`."""
        known = groups or {}
        return cls(*({str(host) for host in known.get(name) or ()} for name in ("kube_control_plane", "etcd")))

    def require_permitted(self, host: str, name: str, where: str) -> None:
        """Raise PkiError unless a host may request the certificate of this name (catalogue). where: for the message.

        A host that is in the group etcd alone may request what etcd's CA signs.
        """
        if host in self.control_plane or (host in self.etcd and catalogue.BY_NAME[name].ca == "etcd-ca"):
            return
        if host in self.etcd:
            wrong = "%s runs etcd alone, and %s is a certificate of the control plane" % (printable(host), name)
        else:
            wrong = "%s is in neither of the inventory's groups kube_control_plane and etcd" % printable(host)
        raise PkiError(wrong, path=where, fix="Find out what made this request and remove it. Nothing was signed.")


def require_expected(host: str, name: str, pem: str, groups: Groups) -> Any:
    """Return the x509_read.Request of a PEM text. Raise PkiError unless it is what the named certificate of a host may request.

    host: the inventory's name. name: of the catalogue. The subject has to be kubeadm's for that name, of any version, because
    Kubernetes derives permissions from it. For etcd's CA any subject is allowed: etcd does not read it, and other tools than
    kubeadm choose their own.
    """
    where = "the request of %s for %s" % (host, printable(name))
    entry = catalogue.BY_NAME[name]
    groups.require_permitted(host, name, where)
    request = csr_dangers.refuse_dangerous_request(pem, allowed=catalogue.subject_names(name), path=where)
    wrong = _unexpected(entry, request)
    if wrong:
        raise PkiError(
            "%s, which is not what kubeadm gives %s" % (wrong, name),
            path=where,
            fix="Find out what made it. If it is meant to be so, sign it by hand, outside of this folder.",
        )
    return request


def _unexpected(entry: Any, request: Any) -> Optional[str]:
    """Return what of a request does not fit the catalogue's entry, or None."""
    of_etcd = entry.ca == "etcd-ca"
    if not of_etcd and request.common_names != [entry.common_name]:
        return "the common name is %s" % printable(", ".join(request.common_names) or "empty")
    if sorted(request.organizations) not in [sorted(entry.organizations(minor)) for minor in _MINORS] + ([[]] if of_etcd else []):
        return "the organizations are %s" % printable(", ".join(request.organizations) or "none")
    if request.further_attributes:
        return "the subject has the further attributes %s" % ", ".join(request.further_attributes)
    usages = {"server", "client"} if of_etcd else set(entry.usages)
    if not request.extended_usages or set(request.extended_usages) - usages:
        return "the extended usages are %s" % printable(", ".join(request.extended_usages) or "none")
    odd = [san for san in request.sans if "server" not in request.extended_usages or san.partition(":")[0] not in ("DNS", "IP")]
    return "it has the name %s" % printable(odd[0]) if odd else None


def read_requests(
    asked: Mapping[str, Iterable[Mapping[str, Any]]], groups: Groups, longest: Optional[float] = None
) -> List[Dict[str, Any]]:
    """Return the entries of a manifest for {host: [what cert_leaf returned in "requests"]}, in order.

    The facts of an entry are read from the request itself, here. longest: the most days that are requested, whatever a node says,
    or None. Raise PkiError for a request that cannot be read, is not signed by its own key, or is for something that this
    certificate of this host may not have.
    """
    found: List[Dict[str, Any]] = []
    authorities: Dict[str, Tuple[str, Any]] = {}
    for host in asked:
        for one in asked[host]:
            name, ca = one["name"], one["ca"]
            if name not in catalogue.RENEWABLE or catalogue.BY_NAME[name].ca != ca:
                raise PkiError(
                    "is for a certificate that this collection does not know",
                    fix="Find out what made it.",
                    path="the request of %s for %s" % (host, printable(name)),
                )
            request = require_expected(host, name, one["request"], groups)
            authority = x509_read.parse_certificate(
                one["ca_certificate"].encode("ascii", "replace"), "the CA %s of %s" % (ca, host)
            )
            other = authorities.setdefault(ca, (host, authority))
            if other[1].sha256 != authority.sha256:
                raise PkiError(
                    "%s and %s have different certificates of the CA %s, so nothing was requested" % (other[0], host, ca),
                    fix="Copy the right one to both nodes.",
                )
            found.append(
                {
                    "host": host,
                    "name": name,
                    "path": one["path"],
                    "ca": ca,
                    "ca_subject": authority.subject,
                    "ca_sha256": authority.sha256,
                    **places(host, name),
                    "subject": request.subject,
                    "common_name": request.common_name,
                    "organizations": request.organizations,
                    "sans": request.sans,
                    "usages": request.extended_usages,
                    "key_type": request.key_type,
                    "key_sha256": request.key_sha256,
                    "days": one["days"] if longest is None else min(one["days"], longest),
                    "pem": request.pem.decode("ascii"),
                    "ca_pem": authority.pem.decode("ascii"),
                }
            )
    return found


def places(host: str, name: str) -> Dict[str, str]:
    """Return the paths of a request and of its certificate, relative to the folder: {"request", "certificate"}."""
    folder = folder_name(host)
    return {"request": "requests/%s/%s.csr" % (folder, name), "certificate": "signed/%s/%s.crt" % (folder, name)}


def folder_name(host: str) -> str:
    """Return the name of a host's directories: its own, or one with a digest where that is no safe file name."""
    if _SAFE.fullmatch(host):
        return host
    return "%s-%s" % (re.sub(r"[^A-Za-z0-9_-]", "_", host)[:60], atomic.sha256(host.encode("utf-8"))[:8])
