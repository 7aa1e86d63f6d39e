# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A token secret as kube-controller-manager makes it before 1.24, and its token."""

from __future__ import annotations

import base64
import json

_CLAIM = "kubernetes.io/serviceaccount/"

SECRET = {
    "metadata": {
        "namespace": "web",
        "name": "web-token-x2x4z",
        "annotations": {"kubernetes.io/service-account.name": "web", "kubernetes.io/service-account.uid": "a0b1"},
    }
}
CLAIMS = {
    "iss": "kubernetes/serviceaccount",
    _CLAIM + "namespace": "web",
    _CLAIM + "secret.name": "web-token-x2x4z",
    _CLAIM + "service-account.name": "web",
    _CLAIM + "service-account.uid": "a0b1",
    "sub": "system:serviceaccount:web:web",
}
ACCOUNTS = {("web", "web", "a0b1")}


def token_of(signer, claims=None, text=None) -> bytes:
    """Give a token whose head names a key (x509.PrivateKey). claims: CLAIMS unless given; text: as they are written."""
    kid = base64.urlsafe_b64encode(bytes.fromhex(signer.key_sha256)).rstrip(b"=").decode()
    body = text if text is not None else json.dumps(CLAIMS if claims is None else claims)
    parts = [json.dumps({"alg": "ES256", "kid": kid}).encode(), body.encode(), b"a signature"]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
