# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that belong in a backup set."""

from __future__ import annotations

import os
from typing import Iterable

from ..errors import PkiError


def default_paths(
    kubernetes_dir: str = "/etc/kubernetes", kubelet_dir: str = "/var/lib/kubelet", elsewhere: Iterable[str] = ()
) -> list[str]:
    """Return a node's certificates, keys, kubeconfigs, manifests and kubelet files.

    elsewhere: further directories of certificates and manifests.
    """
    found: list[str] = []
    for directory in {
        os.path.join(kubernetes_dir, "pki"),
        os.path.join(kubernetes_dir, "manifests"),
        os.path.join(kubelet_dir, "pki"),
        *elsewhere,
    }:
        found.extend(files_below(directory))
    if os.path.isdir(kubernetes_dir):
        found.extend(os.path.join(kubernetes_dir, name) for name in os.listdir(kubernetes_dir) if name.endswith(".conf"))
    for name in ("config.yaml", "kubeadm-flags.env"):
        if os.path.lexists(os.path.join(kubelet_dir, name)):
            found.append(os.path.join(kubelet_dir, name))
    return sorted(set(found))


def files_below(directory: str) -> list[str]:
    """Return the files and links below a directory. Links to directories are not followed.

    Without the temporary files of atomic.stage(), and without pipes, sockets and devices.
    """
    found: list[str] = []
    for home, directories, names in os.walk(directory):
        links = [name for name in directories if os.path.islink(os.path.join(home, name))]
        found.extend(os.path.join(home, name) for name in names + links if ".kubepki-" not in name)
    return [path for path in found if os.path.islink(path) or os.path.isfile(path)]


def expand_paths(paths: Iterable[str]) -> list[str]:
    """Return the files of a list of files and directories. Raise PkiError for a path that is missing or not absolute."""
    found: list[str] = []
    for path in paths:
        if not os.path.isabs(path):
            raise PkiError("is not an absolute path", path=path, fix="Write it from the root.")
        if not os.path.lexists(path):
            raise PkiError("does not exist", path=path, fix="Correct the path, or leave it out.")
        found.extend(files_below(path) if os.path.isdir(path) and not os.path.islink(path) else [path])
    return sorted(set(found))
