# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is signed with the cluster's CA, and what is refused."""

from __future__ import annotations

import re

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    client_signing,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read, x509_sign
from cryptography import x509 as library
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import throwaway
from tests.unit.support.worker import signing_entry


@pytest.fixture
def cluster():
    return throwaway.Cluster()


def _refused(cluster, *entries, known=None, days=365):
    with pytest.raises(PkiError) as caught:
        client_signing.sign_requests(list(entries), cluster.cas["ca"], cluster.keys["ca"], days, known)
    return str(caught.value)


KEY = throwaway.key("requester")
FORGED = [
    x509_sign.Profile("system:node:w2", ["system:nodes"]),
    x509_sign.Profile("system:node:w1", ["system:masters"]),
    x509_sign.Profile("system:node:w1", ["system:nodes", "system:masters"]),
    x509_sign.Profile("system:node:w1", []),
    x509_sign.Profile("kubernetes-admin", ["system:nodes"]),
    x509_sign.Profile("system:node:w1", ["system:nodes"], ["DNS:kubernetes"]),
    x509_sign.Profile("system:node:w1", ["system:nodes"], (), ("client", "server")),
]


def _of_another_type():
    """The right subject, in a type of which readers make different texts."""
    profile = x509_sign.Profile("system:node:w1", ["system:nodes"])
    profile.subject = library.Name(
        [
            library.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            library.NameAttribute(NameOID.COMMON_NAME, "system:node:w1", _type=_ASN1Type.BMPString),
        ]
    )
    return profile


FORGED.append(_of_another_type())


@pytest.mark.parametrize("profile", FORGED)
def test_a_request_for_anything_else_is_refused_and_names_the_host(cluster, profile):
    message = _refused(cluster, signing_entry(profile, KEY))
    assert "host-1" in message and "Nothing was signed" in message


def test_one_forged_request_keeps_all_from_being_signed(cluster):
    good = signing_entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY)
    assert "host-2" in _refused(cluster, good, signing_entry(FORGED[0], KEY, "host-2"))


def test_two_hosts_cannot_be_the_same_node(cluster):
    profile = x509_sign.Profile("system:node:w1", ["system:nodes"])
    message = _refused(cluster, signing_entry(profile, KEY), signing_entry(profile, throwaway.key("two"), "host-2"))
    assert "host-1 and host-2" in message


def test_a_name_that_no_node_has_is_refused(cluster):
    message = _refused(
        cluster, signing_entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY), known={"worker-1", "cp1"}
    )
    assert "calls itself w1" in message and "cp1, worker-1" in message


@settings(deadline=None)  # a loaded machine is no fault
@given(st.text(max_size=20))
def test_what_is_signed_is_always_the_name_of_a_node(name):
    cluster = throwaway.Cluster()
    valid = bool(re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name)) and not re.search(r"\.\.|\.-|-\.", name)
    try:
        entry = signing_entry(x509_sign.Profile("system:node:" + name, ["system:nodes"]), KEY, node=name)
    except ValueError:
        assert not valid
        return
    try:
        pem = client_signing.sign_requests([entry], cluster.cas["ca"], cluster.keys["ca"], 1)["host-1"]
    except PkiError:
        assert not valid
    else:
        assert valid and x509_read.parse_certificate(pem.encode()).common_name == "system:node:" + name


def test_the_key_beside_a_ca_has_to_be_its_own(cluster):
    entry = signing_entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY)
    with pytest.raises(PkiError, match="not the key of this CA"):
        client_signing.sign_requests([entry], cluster.cas["ca"], throwaway.Cluster(label="impostor").keys["ca"], 365)


def test_a_certificate_does_not_outlive_its_ca():
    cluster = throwaway.Cluster(ca_days=10)
    entry = signing_entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY)
    pem = client_signing.sign_requests([entry], cluster.cas["ca"], cluster.keys["ca"], 365)["host-1"]
    signed = x509_read.parse_certificate(pem.encode())
    assert signed.not_after <= cluster.cas["ca"].not_after
    assert signed.extended_usages == ["client"] and signed.sans == []


def test_an_expired_ca_signs_nothing(cluster):
    key = throwaway.key("expired ca")
    ca = ca_sign.build_ca("kubernetes", key, 1, start=x509_read.now() - x509_sign.datetime.timedelta(days=2))
    with pytest.raises(PkiError, match="the CA expired on"):
        client_signing.sign_requests([signing_entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY)], ca, key, 365)
