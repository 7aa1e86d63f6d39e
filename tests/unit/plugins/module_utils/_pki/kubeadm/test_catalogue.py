# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue says what kubeadm makes."""

from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from hypothesis import given
from hypothesis import strategies as st


def test_every_name_is_there_once_and_every_signer_is_an_authority():
    names = [entry.name for entry in catalogue.CATALOGUE]
    assert len(names) == len(set(names)) == len(catalogue.BY_NAME)
    assert {entry.ca for entry in catalogue.CATALOGUE} <= set(catalogue.CA_NAMES) | {None}
    assert set(catalogue.CA_NAMES) == {"ca", "front-proxy-ca", "etcd-ca"}
    assert all(entry.ca for entry in catalogue.CATALOGUE if entry.name in catalogue.RENEWABLE)
    assert not any(name.startswith("kubelet-") for name in catalogue.RENEWABLE)


def test_flags_name_catalogue_entries():
    for flags in (catalogue.CERTIFICATE_FLAGS, catalogue.KEY_FLAGS, catalogue.KUBECONFIG_FLAGS):
        for component, names in flags.items():
            assert component in catalogue.STATIC_PODS and set(names.values()) <= set(catalogue.BY_NAME)


@pytest.mark.parametrize(
    "name, minor, groups",
    [
        ("admin.conf", 20, ["system:masters"]),
        ("admin.conf", 28, ["system:masters"]),
        ("admin.conf", 29, ["kubeadm:cluster-admins"]),
        ("super-admin.conf", 36, ["system:masters"]),
        ("apiserver-kubelet-client", 28, ["system:masters"]),
        ("apiserver-kubelet-client", 36, ["kubeadm:cluster-admins"]),
        ("apiserver-kubelet-client", 37, []),
        ("apiserver-etcd-client", 20, ["system:masters"]),
        ("apiserver-etcd-client", 25, []),
        ("kubelet-client", 20, ["system:nodes"]),
        ("scheduler.conf", 36, []),
        ("etcd-server", 20, []),
    ],
)
def test_groups_are_those_of_the_version(name, minor, groups):
    assert catalogue.BY_NAME[name].organizations(minor) == groups


def test_the_names_of_the_apiserver():
    assert catalogue.apiserver_sans("cp1", "10.0.0.1", "10.96.0.1", "api.example") == [
        "DNS:cp1",
        "DNS:kubernetes",
        "DNS:kubernetes.default",
        "DNS:kubernetes.default.svc",
        "DNS:kubernetes.default.svc.cluster.local",
        "DNS:api.example",
        "IP:10.96.0.1",
        "IP:10.0.0.1",
    ]
    assert "IP:10.0.0.9" in catalogue.apiserver_sans("cp1", "10.0.0.1", "10.96.0.1", "10.0.0.9")


def test_a_node_may_be_called_by_a_number_and_an_address_may_be_unknown():
    assert catalogue.etcd_sans("123", None) == ["DNS:123", "DNS:localhost", "IP:127.0.0.1", "IP:::1"]
    assert catalogue.etcd_sans("n", "fd00::7")[2:] == ["IP:fd00::7", "IP:127.0.0.1", "IP:::1"]
    assert catalogue.node_sans("n", None) == ["DNS:n"]


@given(st.lists(st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)), max_size=5))
def test_extra_names_come_once_and_names_before_addresses(extra):
    sans = catalogue.apiserver_sans("cp1", "10.0.0.1", "10.96.0.1", None, extra=extra)
    assert len(sans) == len(set(sans)) and {san.split(":", 1)[1] for san in sans} >= set(extra)
    kinds = [san.split(":")[0] for san in sans]
    assert kinds == sorted(kinds)
