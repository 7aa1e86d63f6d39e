# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a node keeps the files of its CAs, and the flags that a rotation changes.

Beside the directory pki are pki.next (the staged new CA) and pki.previous (the old CA and what it signed, for a rollback), both
0700 with files of 0600. What the kubelet reads is the job of the package kubelet.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ..kubeadm import catalogue, component_configs

if TYPE_CHECKING:
    from ..kubeadm.layouts import Layout

JOB = "rotation"  # the name of its transaction

CURRENT, NEXT, PREVIOUS = "pki", "pki.next", "pki.previous"

SIGNING = "ca-signing.crt"

APISERVER, MANAGER, SCHEDULER, ETCD = "kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"

LOOKUP = "--service-account-lookup"

LOOKUP_OFF = "0"  # false, in a spelling that no user writes: only a flag that a rotation has set is removed again

_SIGNING_FLAG = re.compile(r"--cluster-signing(-[a-z-]+)?-cert-file")


def places(layout: Layout, name: str, where: str) -> tuple[str, str]:
    """Return (path of the certificate or public key, path of the private key) of a CA.

    where: CURRENT, or NEXT or PREVIOUS, which have the layout of kubeadm's pki directory wherever the flags point.
    """
    if where == CURRENT and name == "sa":
        public = layout.sa_pub[0] if layout.sa_pub else os.path.join(layout.pki_dir, "sa.pub")
        return public, layout.sa_key
    if where == CURRENT and name in layout.paths:
        path, key_path = layout.paths[name]
        return path, key_path or os.path.splitext(path)[0] + ".key"
    path, key_path = (
        ("pki/sa.pub", "pki/sa.key") if name == "sa" else (catalogue.BY_NAME[name].path, catalogue.BY_NAME[name].key or "")
    )
    directory = os.path.join(layout.kubernetes_dir, where)
    return os.path.join(directory, path.split("/", 1)[1]), os.path.join(directory, key_path.split("/", 1)[1])


def signing_path(layout: Layout) -> str:
    """Return the path of kube-controller-manager's signing certificate while two CAs are trusted."""
    return os.path.join(os.path.dirname(places(layout, "ca", CURRENT)[0]), SIGNING)


def signing_flags(layout: Layout, ca_path: str) -> dict[str, bool]:
    """Return {flag: whether it names signing_path()} of kube-controller-manager's signing flags that name it or ca_path."""
    flags = layout.flags.get(MANAGER, {})
    return {
        flag: layout.at(value) == signing_path(layout)
        for flag, value in flags.items()
        if _SIGNING_FLAG.fullmatch(flag) and layout.at(value) in (ca_path, signing_path(layout))
    }


def lookup_off(layout: Layout) -> bool:
    """Return whether this node's API server has the flag with which a rotation keeps the token secrets of two keys valid."""
    return layout.flags.get(APISERVER, {}).get(LOOKUP) == LOOKUP_OFF


def reads_ca_once(layout: Layout) -> bool:
    """Return whether this node's API server verifies servers with ca.crt itself, which it then reads only when it starts.

    The kubelets, or what a file that its flags name (OIDC, webhooks, egress) verifies with that file.
    """
    if layout.flags.get(APISERVER, {}).get("--kubelet-certificate-authority"):
        return True
    return APISERVER in layout.parsed and component_configs.reads_file(layout, APISERVER, places(layout, "ca", CURRENT)[0])


def trust_kubeconfigs(layout: Layout, kubelet: bool = True) -> list[str]:
    """Return the paths of the kubeconfigs on this node that hold the cluster's CA. kubelet: also the kubelet's own two."""
    paths = []
    for entry in catalogue.CATALOGUE:
        if entry.kind == catalogue.KUBECONFIG:
            paths.append(layout.paths.get(entry.name, (os.path.join(layout.kubernetes_dir, entry.path), None))[0])
    if kubelet:
        paths += [layout.kubelet.get("kubeconfig_path"), layout.kubelet.get("bootstrap_kubeconfig_path")]
    return [path for path in dict.fromkeys(paths) if path and os.path.lexists(path)]


def token_signer(layout: Layout) -> str | None:
    """Return the socket of the external signer of service-account tokens, or None."""
    return layout.flags.get(APISERVER, {}).get("--service-account-signing-endpoint")
