# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubeconfigs that CNI plugins write on a node, and which key signed the service-account tokens in them."""

from __future__ import annotations

import glob
import os
from typing import Any, Dict, Iterator, List

from ..errors import PkiError
from ..fileio import guarded_read, yaml_load
from ..kubeadm.layouts import Layout
from ..x509.service_account_token import signing_key_digest

_PATTERNS = ("/etc/cni/net.d/*kubeconfig*", "/etc/cni/net.d/*/*kubeconfig*")

_MOST = 50  # kubeconfigs; a node has one or two


def kubeconfigs(layout: Layout) -> List[str]:
    """Return the paths of the kubeconfigs of CNI plugins on this node, sorted."""
    return sorted({path for pattern in _PATTERNS for path in glob.glob(layout.at(pattern))})[:_MOST]


def token_signers(layout: Layout) -> Dict[str, List[str]]:
    """Return {path of a kubeconfig of a CNI plugin: [digest of the key that signed a service-account token in it]}.

    Pods write these files, with a token or the name of a file that holds one; what cannot be read is left out.
    """
    found: Dict[str, List[str]] = {}
    for path in kubeconfigs(layout):
        try:
            document = yaml_load.load_mapping(guarded_read.read(path), path, plain=True)
        except PkiError:
            continue  # rotation/stale_trust.py reports it
        signers = {signing_key_digest(token) for token in set(_tokens_in(layout, document, path))}
        keys = sorted(key for key in signers if key and len(key) == 64)  # a SHA-256: another value is no name of a key
        if keys:
            found[path] = keys
    return found


def _tokens_in(layout: Layout, document: Dict[str, Any], path: str) -> Iterator[bytes]:
    files = set()
    users = document.get("users")
    for item in users if isinstance(users, list) else []:
        user = item.get("user") if isinstance(item, dict) else None
        if not isinstance(user, dict):
            continue
        if isinstance(user.get("token"), str):
            yield user["token"].strip().encode("ascii", "replace")
        if isinstance(user.get("tokenFile"), str) and user["tokenFile"]:
            files.add(os.path.join(os.path.dirname(path), user["tokenFile"]))
    for place in files:
        try:
            yield guarded_read.read(layout.at(place)).strip()
        except PkiError:
            continue  # of the plugin's own container, mostly


def tokens_signed_by(layout: Layout, key: str) -> List[str]:
    """Return the paths of the kubeconfigs whose token was signed with a key (its digest), sorted.

    Once the key is removed the API server rejects the plugin, and no pod starts or ends on the node.
    """
    return sorted(path for path, keys in token_signers(layout).items() if key in keys)
