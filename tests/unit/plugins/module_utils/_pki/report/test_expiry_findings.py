# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import discovery
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import rows, served_findings
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read, x509_sign

from tests.unit.support import throwaway
from tests.unit.support.node_checks import check, codes, from_the_future, tree_of


@pytest.mark.parametrize(
    "days,expected",
    [
        (-1, [("error", "expired", "apiserver")]),
        (3, [("error", "expires-soon", "apiserver")]),
        (20, [("warning", "expires-soon", "apiserver")]),
        (40, []),
    ],
)
def test_expiry(node, days, expected):
    node.issue("apiserver", days=days)
    assert codes(check(node)) == expected


def test_thresholds_are_the_callers(node):
    node.issue("scheduler.conf", days=20)
    assert codes(check(node, warn_days=10, critical_days=1)) == []
    assert codes(check(node, warn_days=100, critical_days=50)) == [("error", "expires-soon", "scheduler.conf")]


def test_a_certificate_from_the_future(node):
    moment = x509_read.now() - datetime.timedelta(days=2)
    found = check(node, now=moment)
    assert {one["code"] for one in found} == {"not-yet-valid"} and len(found) == 15
    assert "clock" in found[0]["fix"]


def test_a_ca_from_the_future(node):
    path = node.kubernetes("pki/etcd/ca.crt")
    good = path.read_bytes()
    path.write_bytes(from_the_future(node).pem)
    (one,) = check(node)
    assert (one["severity"], one["code"], one["name"], one["path"]) == ("error", "not-yet-valid", "etcd-ca", str(path))
    assert "clock" in one["fix"] and "backup set" in one["fix"]
    row = next(row for row in rows.certificates(tree_of(node)) if row["name"] == "etcd-ca")
    assert row["status"] == "critical"
    path.write_bytes(good)  # the remedy
    assert check(node) == []


def test_a_second_ca_from_the_future_disturbs_nothing_yet(node):
    path = node.kubernetes("pki/etcd/ca.crt")
    path.write_bytes(path.read_bytes() + from_the_future(node).pem)
    assert codes(check(node)) == [("warning", "not-yet-valid", "etcd-ca")]


def test_what_the_user_brought_from_the_future(node):
    node.write("/etc/kubernetes/pki/odd.crt", from_the_future(node).pem, 0o644)
    assert codes(check(node)) == [("warning", "not-yet-valid", "pki/odd.crt")]


@pytest.mark.parametrize("ca_days,severity,code", [(100, "warning", "ca-expires"), (3, "error", "ca-expires")])
def test_an_authority_that_ends(tmp_path, ca_days, severity, code):
    node = throwaway.Node(tmp_path, throwaway.Cluster(ca_days=ca_days, leaf_days=ca_days - 1), role="etcd")
    found = [one for one in check(node) if one["code"] != "expires-soon"]
    assert codes(found) == [(severity, code, "etcd-ca")] and "rotate_ca" in found[0]["fix"]


def test_an_expired_authority(node):
    later = x509_read.now() + datetime.timedelta(days=4000)
    found = check(node, now=later)
    assert ("error", "ca-expired", "ca") in codes(found) and ("error", "expired", "apiserver") in codes(found)


def test_a_leaf_that_outlives_its_ca(node):
    node.issue("etcd-peer", days=5000)
    assert codes(check(node)) == [("error", "leaf-outlives-ca", "etcd-peer")]


@pytest.mark.parametrize("days, expected", [(200, []), (20, [("warning", "expires-soon")]), (-3, [("warning", "expired")])])
def test_what_is_not_kubeadms_is_told_and_nothing_more(node, days, expected):
    ca_key = throwaway.key("vpn")
    start = datetime.timedelta(days=400)
    ca = ca_sign.build_ca("VPN", ca_key, 4000, start=x509_read.now() - start)
    leaf = x509_sign.sign_leaf(x509_sign.Profile("vpn"), throwaway.key("leaf"), ca, ca_key, days + 400, x509_read.now() - start)
    node.write("/etc/kubernetes/pki/vpn/tunnel.crt", leaf.pem, 0o644)
    node.write("/etc/kubernetes/pki/vpn/tunnel.key", throwaway.key("leaf").pem)
    node.write("/etc/corp/sni.pem", leaf.pem + ca.pem, 0o644)
    manifest = node.kubernetes("manifests/kube-apiserver.yaml")
    flag = "    - --tls-sni-cert-key=/etc/corp/sni.pem,/etc/corp/sni.key:api.corp\n"
    manifest.write_text(manifest.read_text().replace("    - --advertise-address", flag + "    - --advertise-address"))
    found = check(node)
    assert [(one["severity"], one["code"]) for one in found] == expected * 2
    assert {one["name"] for one in found} <= {"pki/vpn/tunnel.crt", str(node.path("/etc/corp/sni.pem"))}
    shown = [row for row in rows.certificates(tree_of(node)) if row["kind"] == "other"]
    assert {row["name"]: row["bundle"] for row in shown} == {str(node.path("/etc/corp/sni.pem")): 2, "pki/vpn/tunnel.crt": 1}
    assert shown[0]["not_after"] == x509_read.timestamp(leaf.not_after)


def test_what_is_not_kubeadms_and_cannot_be_read(node):
    node.write("/etc/kubernetes/pki/odd.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644)
    node.write("/etc/kubernetes/pki/only-a-key.pem", throwaway.key("leaf").pem)
    os.symlink("apiserver.crt", node.kubernetes("pki/link.crt"))
    assert codes(check(node)) == [("warning", "unreadable", "pki/odd.crt")]


@pytest.mark.parametrize("days,word", [(-40, "expired on"), (3, "expires on")])
def test_a_certificate_that_a_kubelet_made_for_itself_only_warns(node, days, word):
    ca_key, ca = throwaway.key("own"), ca_sign.build_ca("cp1-ca@1700000000", throwaway.key("own"), 3650)
    start = x509_read.now() - datetime.timedelta(days=100)
    leaf = x509_sign.sign_leaf(
        x509_sign.Profile("cp1@1700000000", (), ["DNS:cp1"], ("server",)),
        throwaway.key("own leaf"),
        ca,
        ca_key,
        100 + days,
        start=start,
    )
    node.write("/var/lib/kubelet/pki/kubelet.crt", leaf.pem + ca.pem, 0o644)
    node.write("/var/lib/kubelet/pki/kubelet.key", throwaway.key("own leaf").pem)
    (one,) = check(node)
    assert (one["severity"], one["name"]) == ("warning", "kubelet-serving") and word in one["message"]
    assert "kubepki_kubelet_serving=bootstrap" in one["fix"]
    served = served_findings.check(
        tree_of(node),
        [discovery.Endpoint("kubelet", "kubelet", "10.0.0.1", 10250, "kubelet-serving")],
        {"kubelet": x509_read.parse_certificate(leaf.pem)},
    )
    assert served == []
