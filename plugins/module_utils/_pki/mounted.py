# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods of this node have mounted of the cluster's trust: CA bundles and service-account tokens."""

from __future__ import annotations

__metaclass__ = type

import base64
import glob
import json
import os

from . import files, x509
from .errors import PkiError


def lagging(layout, bundle):
    """Give (how many, [those that lag]) of the ca.crt files that pods on this node have mounted.

    They lag while they lack a certificate of `bundle` (PEM bytes, the cluster's trust): the kubelet updates mounted volumes
    within about a minute and a half. A list of paths below the kubelet's directory.
    """
    wanted = {item.key_sha256 for item in x509.parse_certificates(bundle, "the trust bundle")}
    pattern = os.path.join(layout.kubelet_dir, "pods", "*", "volumes", "kubernetes.io~*", "*", "ca.crt")
    found, lagging = glob.glob(pattern), []
    for path in found:
        try:
            there = {item.key_sha256 for item in x509.parse_certificates(files.read(path), path)}
        except PkiError:
            continue  # the pod ended meanwhile, or its ca.crt is somebody else's file
        # A volume with none of ours belongs to another authority (a webhook's own, say).
        if there & wanted and not wanted <= there:
            lagging.append(os.path.relpath(path, layout.kubelet_dir))
    return len(found), sorted(lagging)


def token_key(token):
    """Give the digest of the key that signed a service-account token (bytes), as its header says, or None.

    Kubernetes names a key by the SHA-256 of its PKIX form (pkg/serviceaccount/jwt.go: keyIDFromPublicKey).
    """
    try:
        head = token.split(b".")[0]
        kid = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)).decode("utf-8"))["kid"]
        return base64.urlsafe_b64decode(kid.encode("ascii") + b"=" * (-len(kid) % 4)).hex()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def tokens(layout, former):
    """Give the paths, below the kubelet's directory, of the tokens that pods have mounted and that a former key signed.

    former: digest of that key. Whoever reads them is refused once the key is dropped.
    """
    pattern = os.path.join(layout.kubelet_dir, "pods", "*", "volumes", "kubernetes.io~*", "*", "token")
    return sorted(os.path.relpath(path, layout.kubelet_dir) for path in glob.glob(pattern)
                  if token_key(files.read_if_exists(path) or b"") == former)
