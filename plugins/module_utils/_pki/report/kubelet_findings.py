# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about the kubelet's client certificate and its kubeconfig."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import PkiError
from . import finding, remedies
from .finding import Finding

if TYPE_CHECKING:
    from ..kubeadm.kubeconfig import Kubeconfig
    from ..kubeadm.pki_tree import Item, Tree

_LINK = "kubelet-client-current.pem"


def check(tree: Tree) -> list[Finding]:
    """Return the findings about the kubelet's client certificate of a node, without its validity."""
    kubelet = tree.layout.kubelet
    item, config_path = tree.items.get("kubelet-client"), kubelet["kubeconfig_path"]
    if item is None:
        if kubelet["config"] and not os.path.lexists(kubelet["bootstrap_kubeconfig_path"]):
            message = "the kubelet has neither this kubeconfig nor a bootstrap kubeconfig, and cannot join"
            return [_broken(finding.ERROR, config_path, message)]
        return []
    try:
        config = tree.layout.reader.kubeconfig(config_path)
    except PkiError as error:
        return [_broken(finding.ERROR, config_path, error.message)]
    is_link = os.path.basename(item.path) == _LINK and os.path.lexists(item.path)
    if is_link and not config.certificate_data and os.path.islink(item.path) and not os.path.exists(item.path):
        message = "is a symbolic link to %s, which does not exist" % os.readlink(item.path)
        return [_broken(finding.ERROR, item.path, message)]
    return _check_place(item, config, config_path, is_link) + _check_content(item)


def _check_place(item: Item, config: Kubeconfig, config_path: str, is_link: bool) -> list[Finding]:
    if config.certificate_data:
        return [
            _broken(
                finding.WARNING,
                config_path,
                "embeds a client certificate: the kubelet starts with this one, however often it has renewed it since",
                "Point client-certificate and client-key to %s (reissue_kubelets does)." % _LINK,
            )
        ]
    if is_link and not os.path.islink(item.path):
        return [_broken(finding.WARNING, item.path, "is a file and not a symbolic link: the kubelet cannot renew it in place")]
    return []


def _check_content(item: Item) -> list[Finding]:
    if item.problem is not None:
        return [_broken(finding.ERROR, item.path, item.problem.message)]
    if item.key_problem is not None:
        return [_broken(finding.ERROR, item.key_path or item.path, item.key_problem.message)]
    if item.key_missing:
        return [_broken(finding.ERROR, item.key_path or item.path, "holds no private key")]
    if not (item.certificate.common_name or "").startswith("system:node:"):
        message = "is for %s, and the API server accepts only system:node:NAME for a node" % item.certificate.common_name
        return [_broken(finding.ERROR, item.path, message)]
    return []


def _broken(severity: str, path: str, message: str, fix: str = remedies.REISSUE_KUBELET) -> Finding:
    return finding.make(severity, "kubelet-client-broken", path, message, fix, "kubelet-client")
