# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about the manifest directory and about files that flags name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..kubeadm import catalogue
from . import finding
from .finding import Finding

if TYPE_CHECKING:
    from ..kubeadm.layouts import Layout
    from ..kubeadm.manifests import Manifest


def is_manifest_name(path: str) -> bool:
    """Return whether a file has the name that kubeadm gives a component's manifest."""
    name, extension = os.path.splitext(os.path.basename(path))
    return name in catalogue.STATIC_PODS and extension in (".yaml", ".yml", ".json")


def check_directory(layout: Layout) -> list[Finding]:
    """Return the findings about files in the manifest directory that kubeadm has not written."""
    by_path = {manifest.path: manifest for manifest in layout.all_manifests}
    found = []
    for path in layout.foreign:
        manifest = by_path.get(path)
        if manifest is not None:
            found.append(_foreign_manifest(layout, path, manifest))
        elif not is_manifest_name(path):  # a damaged manifest has a finding of its own
            message = "is in the kubelet's manifest directory and is no manifest"
            found.append(finding.error("foreign-manifest", path, message, "Move it out of %s." % layout.manifest_dir))
    return found


def _foreign_manifest(layout: Layout, path: str, manifest: Manifest) -> Finding:
    rivals = [
        other.path
        for other in layout.all_manifests
        if other is not manifest and (other.name, other.namespace) == (manifest.name, manifest.namespace)
    ]
    if rivals:
        wins = max([path] + rivals, key=os.path.basename)
        message = "is a second manifest of the pod %s beside %s; the kubelet runs the last by name, which is %s" % (
            manifest.name,
            ", ".join(os.path.basename(one) for one in rivals),
            os.path.basename(wins),
        )
        fix = "Move the wrong one out of %s: the kubelet reads every file there, whatever its name." % layout.manifest_dir
        return finding.error("foreign-manifest", path, message, fix)
    if manifest.component in catalogue.STATIC_PODS:
        message = "is the manifest of %s under a name that kubeadm does not know" % manifest.component
        return finding.warning("foreign-manifest", path, message, "Rename it to %s.yaml." % manifest.component)
    message = "is a static pod of its own (%s), which kubeadm does not manage" % manifest.name
    return finding.info("other-static-pod", path, message, "Nothing, if it is meant to be there.")


def check_signing_keys(layout: Layout) -> list[Finding]:
    """Return the findings about signing keys that kube-controller-manager's flags name and that do not exist.

    It exits at once when one is missing (cmd/kube-controller-manager/app/certificates.go).
    """
    flags = layout.flags.get("kube-controller-manager", {})
    named = sorted(flag for flag in flags if flag.startswith("--cluster-signing-") and flag.endswith("-key-file") and flags[flag])
    return [
        finding.error(
            "signing-key-missing",
            layout.at(flags[flag]),
            "does not exist, and %s of kube-controller-manager names it: it would not start again" % flag,
            "Remove %s and the flag of its certificate from the manifest where the CA is managed elsewhere (kubeadm then "
            "omits them, too), or restore the key." % flag,
            "ca",
        )
        for flag in named
        if not os.path.exists(layout.at(flags[flag]))
    ]
