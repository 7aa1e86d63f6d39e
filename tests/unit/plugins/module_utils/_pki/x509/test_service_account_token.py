# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import private_keys, service_account_token
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, utils

from tests.unit.support.throwaway import key
from tests.unit.support.tokens_of import ACCOUNTS, CLAIMS, SECRET, token_of


def decoded(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


@pytest.mark.parametrize("key_type, algorithm", [("rsa-2048", "RS256"), ("ecdsa-p256", "ES256"), ("ecdsa-p384", "ES384")])
def test_a_secrets_token_is_signed_by_another_key(key_type, algorithm):
    former, present = key("former"), key("present", key_type)
    token = service_account_token.resign_token(SECRET, token_of(former), present, ACCOUNTS)
    assert (
        service_account_token.signing_key_digest(token_of(former)) == former.key_sha256
        and service_account_token.signing_key_digest(token) == present.key_sha256
    )
    head, claims, signature = token.split(b".")
    assert json.loads(decoded(head))["alg"] == algorithm and json.loads(decoded(claims)) == CLAIMS
    assert b"=" not in token
    public, body, signature = present.raw.public_key(), head + b"." + claims, decoded(signature)
    if algorithm == "RS256":
        public.verify(signature, body, padding.PKCS1v15(), hashes.SHA256())
    else:
        half = len(signature) // 2
        numbers = utils.encode_dss_signature(*(int.from_bytes(part, "big") for part in (signature[:half], signature[half:])))
        public.verify(numbers, body, ec.ECDSA(hashes.SHA384() if algorithm == "ES384" else hashes.SHA256()))
        assert half == int(algorithm[2:]) // 8


@pytest.mark.parametrize(
    "claims",
    [
        dict(CLAIMS, sub="system:serviceaccount:kube-system:clusterrole-aggregation-controller"),
        dict(CLAIMS, **{"kubernetes.io/serviceaccount/namespace": "kube-system"}),
        dict(CLAIMS, **{"kubernetes.io/serviceaccount/service-account.uid": "another"}),
        dict(CLAIMS, exp=1),
        dict(CLAIMS, SUB="system:serviceaccount:kube-system:other"),
        {name: value for name, value in CLAIMS.items() if name != "iss"},
        [],
        "text",
    ],
)
def test_no_other_claims_get_a_signature(claims):
    """Who may write the secrets of a namespace could otherwise become anybody."""
    assert service_account_token.resign_token(SECRET, token_of(key("former"), claims), key("present"), ACCOUNTS) is None


def test_of_claims_that_say_two_things_only_what_was_read_is_signed():
    text = json.dumps(CLAIMS).replace('"sub": ', '"sub": "system:admin", "sub": ')
    token = service_account_token.resign_token(SECRET, token_of(key("former"), text=text), key("present"), ACCOUNTS)
    assert json.loads(decoded(token.split(b".")[1]), object_pairs_hook=list) == sorted(CLAIMS.items())


def test_a_secret_without_a_service_account_gets_no_token():
    bare = {"metadata": {"namespace": "web", "name": "web-token-x2x4z"}}
    assert service_account_token.resign_token(bare, token_of(key("former")), key("present"), ACCOUNTS) is None
    assert service_account_token.resign_token(SECRET, b"x", key("present"), ACCOUNTS) is None


def test_a_key_that_kubernetes_signs_no_tokens_with_is_refused():
    with pytest.raises(PkiError, match="signs no tokens with a key of type ed25519"):
        service_account_token.resign_token(
            SECRET, token_of(key("former")), private_keys.PrivateKey(ed25519.Ed25519PrivateKey.generate()), ACCOUNTS
        )


@pytest.mark.parametrize("head", [b"[" * 40000, b"{", b'{"kid": 5}', b'{"kid": "\xc3\xa4"}', b"[]", b"\xff", b""])
def test_bytes_that_are_no_token_have_no_key(head):
    assert service_account_token.signing_key_digest(base64.urlsafe_b64encode(head) + b".e30.c2ln") is None
