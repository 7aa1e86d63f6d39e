# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Legacy service-account tokens: read which key signed one, and sign the token of a secret with another key.

Hand-written, because nodes have no JWT library: a token is base64 of two JSON mappings and one signature (RFC 7515 3.1), and
`cryptography` makes the signature.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Callable, Collection, Mapping

from ..errors import PkiError
from .crypto_library import decode_dss_signature, ec, hashes, padding, rsa

if TYPE_CHECKING:
    from .private_keys import PrivateKey

# The number of the algorithm by the size of the curve in bits (RFC 7518 3.4).
_CURVES = {256: 256, 384: 384, 521: 512}

_ISSUER = "kubernetes/serviceaccount"  # pkg/serviceaccount/jwt.go: LegacyIssuer

_CLAIM = "kubernetes.io/serviceaccount/"

_ANNOTATION = "kubernetes.io/service-account."


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def _document(token: bytes, part: int) -> dict[str, Any] | None:
    """Return the mapping in a part of a token (0 is the header, 1 the claims), or None."""
    try:
        found = json.loads(_decoded(token.split(b".")[part]).decode("utf-8"))
    except (ValueError, IndexError, RecursionError):  # foreign bytes
        return None
    return found if isinstance(found, dict) else None


def signing_key_digest(token: bytes) -> str | None:
    """Return the key_sha256 of the key that signed a token, as its header states, or None.

    The key ID of Kubernetes is the SHA-256 of the public key's PKIX form (pkg/serviceaccount/jwt.go: keyIDFromPublicKey).
    """
    try:
        return _decoded((_document(token, 0) or {})["kid"].encode("ascii")).hex()
    except (ValueError, KeyError, AttributeError):
        return None


def resign_token(
    secret: Mapping[str, Any], token: bytes, key: PrivateKey, accounts: Collection[tuple[str, Any, Any]]
) -> bytes | None:
    """Return the token of a token secret, signed by another key, or None where it must not be signed.

    accounts: {(namespace, name, uid)} of the existing service accounts; a token of another account is not signed. Nor is a token
    with other claims than kube-controller-manager writes for this secret (pkg/serviceaccount/legacy.go: LegacyClaims), because a
    user who can write secrets could have made them.
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
    # Encoded again, because another reader could read other claims in the original bytes.
    body = b".".join(_encoded(json.dumps(part, sort_keys=True).encode("utf-8")) for part in (head, claims))
    return body + b"." + _encoded(sign(body))


def _signer(key: PrivateKey) -> tuple[str, Callable[[bytes], bytes]]:
    """Return (algorithm, function that signs bytes) for a key, as pkg/serviceaccount/jwt.go chooses it."""
    raw = key.raw
    if isinstance(raw, rsa.RSAPrivateKey):
        rsa_key = raw
        return "RS256", lambda data: rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if not isinstance(raw, ec.EllipticCurvePrivateKey) or raw.curve.key_size not in _CURVES:
        raise PkiError("Kubernetes signs no tokens with a key of type %s" % key.key_type, fix="Make sa.key an RSA or ECDSA key.")
    curve, signer = raw.curve.key_size, raw
    digest, size = getattr(hashes, "SHA%d" % _CURVES[curve])(), (curve + 7) // 8
    return "ES%d" % _CURVES[curve], lambda data: b"".join(
        number.to_bytes(size, "big") for number in decode_dss_signature(signer.sign(data, ec.ECDSA(digest)))
    )
