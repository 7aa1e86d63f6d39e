# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service-account tokens: which key signed one, and that of a secret signed by another key."""

from __future__ import annotations

import base64
import json

from ..errors import PkiError

try:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
except ImportError:  # reported by the module
    pass

# By the size of the curve in bits: the algorithm's number (RFC 7518 3.4).
_CURVES = {256: 256, 384: 384, 521: 512}

_ISSUER = "kubernetes/serviceaccount"  # pkg/serviceaccount/jwt.go: LegacyIssuer

_CLAIM = "kubernetes.io/serviceaccount/"

_ANNOTATION = "kubernetes.io/service-account."


def _encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(part):
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def _document(token, part):
    """Give the mapping that a part of a token (bytes) holds: 0 is its head, 1 its claims. None where it holds none."""
    try:
        found = json.loads(_decoded(token.split(b".")[part]).decode("utf-8"))
    except (ValueError, IndexError, RecursionError):  # anybody's bytes
        return None
    return found if isinstance(found, dict) else None


def signed_by(token):
    """Give the digest of the key that signed a service-account token (bytes), as its header says, or None.

    Kubernetes names a key by the SHA-256 of its PKIX form (pkg/serviceaccount/jwt.go: keyIDFromPublicKey).
    """
    try:
        return _decoded((_document(token, 0) or {})["kid"].encode("ascii")).hex()
    except (ValueError, KeyError, AttributeError):
        return None


def resign_token(secret, token, key, accounts):
    """Give the token (bytes) of a token secret (mapping) signed by another key (x509.PrivateKey), or None.

    accounts: {(namespace, name, uid)} of the service accounts that there are. None for any other account, and where the token
    does not claim exactly what kube-controller-manager claims for this secret (pkg/serviceaccount/legacy.go: LegacyClaims): who
    may write secrets must not get anything else signed.
    """
    metadata = secret["metadata"]
    annotations = metadata.get("annotations") or {}
    namespace, account, uid = metadata["namespace"], annotations.get(_ANNOTATION + "name"), annotations.get(_ANNOTATION + "uid")
    claims = {
        "iss": _ISSUER,
        "sub": "system:serviceaccount:%s:%s" % (namespace, account),
        _CLAIM + "namespace": namespace,
        _CLAIM + "secret.name": metadata["name"],
        _CLAIM + "service-account.name": account,
        _CLAIM + "service-account.uid": uid,
    }
    if (namespace, account, uid) not in accounts or _document(token, 1) != claims:
        return None
    algorithm, sign = _signer(key)
    head = {"alg": algorithm, "kid": _encoded(bytes.fromhex(key.key_sha256)).decode("ascii")}
    # Not the bytes of before: another reader might read something else in them.
    body = b".".join(_encoded(json.dumps(part, sort_keys=True).encode("utf-8")) for part in (head, claims))
    return body + b"." + _encoded(sign(body))


def _signer(key):
    """Give (algorithm, a function that signs bytes with it), as pkg/serviceaccount/jwt.go chooses it for a key."""
    raw = key.raw
    if isinstance(raw, rsa.RSAPrivateKey):
        return "RS256", lambda data: raw.sign(data, padding.PKCS1v15(), hashes.SHA256())
    curve = raw.curve.key_size if isinstance(raw, ec.EllipticCurvePrivateKey) else None
    if curve not in _CURVES:
        raise PkiError("Kubernetes signs no tokens with a key of type %s" % key.key_type, fix="Make sa.key an RSA or ECDSA key.")
    digest, size = getattr(hashes, "SHA%d" % _CURVES[curve])(), (curve + 7) // 8
    return "ES%d" % _CURVES[curve], lambda data: b"".join(
        number.to_bytes(size, "big") for number in decode_dss_signature(raw.sign(data, ec.ECDSA(digest)))
    )
