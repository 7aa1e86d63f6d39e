# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import disk_findings, rows
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign

from tests.unit.support import throwaway
from tests.unit.support.node_checks import check, codes, tree_of


def test_a_key_of_another_certificate(node):
    node.write("/etc/kubernetes/pki/front-proxy-client.key", throwaway.key("other").pem)
    assert codes(check(node)) == [("error", "key-mismatch", "front-proxy-client")]


def test_a_bundle_whose_second_certificate_has_the_key(node):
    new = ca_sign.build_ca("kubernetes", throwaway.key("new"), 3650)
    node.write("/etc/kubernetes/pki/ca.crt", new.pem + node.cluster.cas["ca"].pem, 0o644)
    found = [one for one in check(node) if one["code"] == "key-mismatch"]
    assert codes(found) == [("error", "key-mismatch", "ca")] and "matches certificate 2" in found[0]["message"]


def test_a_missing_key(node):
    os.unlink(node.kubernetes("pki/apiserver.key"))
    assert codes(check(node)) == [("error", "key-missing", "apiserver")]


def test_a_missing_leaf(node):
    os.unlink(node.kubernetes("pki/apiserver.crt"))
    os.unlink(node.kubernetes("admin.conf"))
    assert sorted(codes(check(node))) == [("error", "missing", "apiserver"), ("warning", "missing", "admin.conf")]


@pytest.mark.parametrize(
    "name,data,word",
    [
        ("pki/apiserver.crt", b"nonsense", "not PEM"),
        ("pki/apiserver.crt", b"", "empty"),
        ("pki/apiserver.key", b"-----BEGIN RSA PRIVATE KEY-----\nMII", "truncated"),
        ("scheduler.conf", b"a: [", "not YAML"),
    ],
)
def test_an_unreadable_file_says_why(node, name, data, word):
    node.write("/etc/kubernetes/" + name, data)
    (one,) = check(node)
    assert one["code"] == "unreadable" and word in one["message"] and one["path"].endswith(name) and one["fix"]


def test_an_unreadable_authority_has_a_code_of_its_own(node):
    node.write("/etc/kubernetes/pki/etcd/ca.crt", b"nonsense")
    assert codes(check(node)) == [("error", "unreadable-ca", "etcd-ca")]


def test_an_encrypted_key_says_so(node):
    from cryptography.hazmat.primitives import serialization

    pem = throwaway.key("apisercp1").raw.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    node.write("/etc/kubernetes/pki/apiserver.key", pem)
    (one,) = check(node)
    assert one["code"] == "unreadable" and "encrypted" in one["message"] and "openssl pkey" in one["fix"]


@pytest.mark.parametrize(
    "path,mode,expected",
    [
        ("pki/apiserver.key", 0o644, [("error", "wrong-mode", "apiserver")]),
        ("admin.conf", 0o604, [("error", "wrong-mode", "admin.conf")]),
        ("pki/ca.key", 0o604, [("error", "wrong-mode", "ca")]),
        ("pki/sa.key", 0o644, [("error", "wrong-mode", "sa")]),
        ("pki/ca.crt", 0o666, [("error", "wrong-mode", "ca")]),
        ("pki/ca.crt", 0o664, [("warning", "wrong-mode", "ca")]),
        ("pki/ca.crt", 0o600, []),
        ("pki/apiserver.key", 0o400, []),
    ],
)
def test_modes(node, path, mode, expected):
    node.kubernetes(path).chmod(mode)
    assert codes(check(node)) == expected


def test_a_file_of_another_user(node):
    tree = tree_of(node)
    tree.items["etcd-server"].key_uid = 4321
    assert codes(disk_findings.check(tree, owner=os.getuid())) == [("warning", "wrong-owner", "etcd-server")]


def test_a_component_without_root_owns_its_files(node):
    path = node.kubernetes("manifests/etcd.yaml")
    path.write_text(path.read_text() + "  securityContext: {runAsUser: 4321}\n")
    tree = tree_of(node)
    item = tree.items["etcd-server"]
    item.key_mode, item.key_uid, item.key_gid = 0o640, 4321, 4321
    assert disk_findings.check(tree, owner=os.getuid()) == []
    item.key_uid = 99
    assert codes(disk_findings.check(tree, owner=os.getuid())) == [("warning", "wrong-owner", "etcd-server")]


@pytest.mark.parametrize("login", ["token: abc", "tokenFile: /t", "exec: {command: x}", "auth-provider: {name: oidc}"])
def test_a_kubeconfig_of_the_users_own_is_told_and_not_blamed(node, login):
    text = re.sub(r"client-certificate-data: .*", login, node.kubernetes("admin.conf").read_text())
    node.write("/etc/kubernetes/admin.conf", re.sub(r" *client-key-data: .*\n", "", text))
    assert codes(check(node)) == [("info", "other-login", "admin.conf")]
    (row,) = (row for row in rows.certificates(tree_of(node)) if row["name"] == "admin.conf")
    assert (row["status"], row["not_after"], row["problem"]) == ("ok", None, None)
    node.write("/etc/kubernetes/admin.conf", text.replace(login, "impersonate: x").replace("client-key-data", "x"))
    assert codes(check(node)) == [("error", "unreadable", "admin.conf")]


def test_a_pair_of_service_account_keys_that_is_none(node):
    node.write("/etc/kubernetes/pki/sa.pub", throwaway.key("other").public_pem, 0o644)
    assert codes(check(node)) == [("error", "sa-pub-mismatch", "sa")]
    node.write("/etc/kubernetes/pki/sa.pub", throwaway.key("other").public_pem + node.cluster.sa.public_pem, 0o644)
    assert codes(check(node)) == []


def test_a_serial_number_that_go_refuses_is_a_warning(node):
    tree = tree_of(node)
    tree.items["apiserver"].certificate.serial = -5
    (one,) = disk_findings.check(tree, owner=os.getuid())
    assert (one["severity"], one["code"], one["name"]) == ("warning", "negative-serial", "apiserver")
    assert "-5" in one["message"] and "kubepki_names=apiserver and kubepki_force=true" in one["fix"]
    tree.items["apiserver"].certificate.serial = 0
    assert disk_findings.check(tree, owner=os.getuid()) == []
