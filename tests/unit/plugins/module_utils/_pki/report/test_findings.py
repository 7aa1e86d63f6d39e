# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A healthy node has no findings; each damage has exactly its own."""

from __future__ import annotations

import datetime
import os
import re
import shutil

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import discovery
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, kubeconfig, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import finding, findings, live_findings, rows
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read, x509_sign
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import node_comparison
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.support import throwaway


@pytest.fixture
def node(tmp_path):
    return throwaway.Node(tmp_path)


def tree_of(node):
    return pki_tree.read_tree(layouts.find_layout(root=str(node.root)))


def check(node, **options):
    return findings.check(tree_of(node), owner=os.getuid(), **options)


def codes(found):
    return [(one["severity"], one["code"], one["name"]) for one in found]


@pytest.mark.parametrize("options", [{}, {"role": "worker"}, {"role": "etcd"}, {"etcd": False}, {"minor": 36}])
def test_a_healthy_node_has_none(tmp_path, options):
    assert check(throwaway.Node(tmp_path, **options)) == []


def test_every_finding_is_complete(node):
    node.issue("apiserver", days=-1)
    (one,) = check(node)
    assert set(one) == {"severity", "code", "name", "path", "message", "fix"}
    assert one["path"] == str(node.kubernetes("pki/apiserver.crt")) and "renew_leaves" in one["fix"]


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


def from_the_future(node, name="etcd-ca"):
    start = x509_read.now() + datetime.timedelta(days=3)
    return x509_sign.build_ca(catalogue.BY_NAME[name].common_name, node.cluster.keys[name], 3650, start=start)


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


def test_an_endpoint_that_serves_a_certificate_from_the_future(node):
    endpoint = discovery.Endpoint("kube-scheduler", "kube-scheduler", "127.0.0.1", 10259)
    found = live_findings.check_served(tree_of(node), [endpoint], {"kube-scheduler": from_the_future(node)})
    assert [(one["severity"], one["code"], one["path"]) for one in found] == [("error", "not-yet-valid", endpoint.address)]


def make_ca_again(node, name="ca", subject="Kubernetes"):
    """Write a CA certificate with the same key and another subject, as `openssl req -x509 -key ca.key` makes it."""
    again = x509_sign.build_ca(subject, node.cluster.keys[name], 3650)
    node.write("/etc/kubernetes/" + catalogue.BY_NAME[name].path, again.pem, 0o644)
    return again


def test_a_ca_that_was_made_again_with_the_same_key_and_another_subject(node):
    make_ca_again(node)
    found = {one["name"]: one for one in check(node) if one["code"] == "not-signed-by-ca"}
    assert set(found) == {
        "apiserver",
        "apiserver-kubelet-client",
        "admin.conf",
        "controller-manager.conf",
        "scheduler.conf",
        "kubelet-client",
    }
    assert "same key" in found["apiserver"]["message"] and "CN=Kubernetes" in found["apiserver"]["message"]
    assert "renew_leaves with kubepki_names=apiserver." in found["apiserver"]["fix"]
    assert "reissue_kubelets" in found["kubelet-client"]["fix"]


@pytest.mark.parametrize("copy", [False, True])
def test_etcd_that_shares_the_clusters_ca(tmp_path, copy):
    """Nothing is externally managed; that every client of the cluster's CA can read etcd is said."""
    node = throwaway.Node(tmp_path, throwaway.Cluster(label="shares etcd").share("etcd-ca"))
    node.share("etcd-ca", copy)
    (one,) = check(node)
    assert (one["severity"], one["code"], one["name"]) == ("warning", "shared-ca", "etcd-ca")
    assert "read and write all data of etcd" in one["message"] and "--trusted-ca-file" in one["fix"]
    by_name = {row["name"]: row for row in rows.certificates(tree_of(node))}
    for name in ("etcd-ca", "etcd-server", "etcd-peer", "apiserver-etcd-client"):
        assert not by_name[name]["externally_managed"] and by_name[name]["sha256"]
    assert by_name["etcd-server"]["signed_by"] == node.cluster.cas["ca"].sha256


@pytest.mark.parametrize("left_key", [False, True])
@pytest.mark.parametrize("allowed, text", [(None, "any name"), ("front-proxy-client,other", "front-proxy-client,other")])
def test_front_proxies_that_are_known_by_the_clusters_ca(tmp_path, allowed, text, left_key):
    node = throwaway.Node(tmp_path, throwaway.Cluster(label="shares proxy").share("front-proxy-ca"))
    node.share("front-proxy-ca")
    if left_key:
        node.write("/etc/kubernetes/pki/front-proxy-ca.key", throwaway.key("left over").pem)
    if allowed:
        node.flag("kube-apiserver", "--requestheader-allowed-names", allowed)
    (one,) = check(node)
    assert (one["severity"], one["code"], one["name"]) == ("warning", "shared-ca", "front-proxy-ca")
    assert text in one["message"] and "act as any user" in one["message"]


def test_findings_of_a_shared_ca_file_come_once(tmp_path):
    node = throwaway.Node(tmp_path, throwaway.Cluster(ca_days=100, leaf_days=90, label="shares").share("etcd-ca"))
    node.share("etcd-ca")
    os.chmod(node.kubernetes("pki/ca.key"), 0o644)
    assert sorted((one["code"], one["name"]) for one in check(node) if one["name"] in ("ca", "etcd-ca")) == [
        ("ca-expires", "ca"),
        ("shared-ca", "etcd-ca"),
        ("wrong-mode", "ca"),
    ]


def test_a_ca_file_elsewhere_with_a_shared_ca_does_not_hide_the_directory(tmp_path):
    node = throwaway.Node(tmp_path, throwaway.Cluster(label="shares proxy").share("front-proxy-ca"))
    node.share("front-proxy-ca")
    node.move_pki("/srv/pki")
    assert layouts.find_layout(root=str(node.root)).pki_dir == str(node.path("/srv/pki"))
    assert [one["code"] for one in check(node)] == ["shared-ca"]


def test_the_remedy_for_what_the_user_brought_is_to_force_it(node):
    other = throwaway.Cluster(label="another")
    other.cas["ca"] = x509_sign.build_ca("corporate", other.keys["ca"], 3650)
    certificate, leaf_key = other.leaf("apiserver", "cp1", "10.0.0.1")
    node.write("/etc/kubernetes/pki/apiserver.crt", certificate.pem, 0o644)
    node.write("/etc/kubernetes/pki/apiserver.key", leaf_key.pem)
    (one,) = [one for one in check(node) if one["code"] == "not-signed-by-ca"]
    assert "kubepki_names=apiserver and kubepki_force=true" in one["fix"]


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


def test_a_key_of_another_certificate(node):
    node.write("/etc/kubernetes/pki/front-proxy-client.key", throwaway.key("other").pem)
    assert codes(check(node)) == [("error", "key-mismatch", "front-proxy-client")]


def test_a_bundle_whose_second_certificate_has_the_key(node):
    new = x509_sign.build_ca("kubernetes", throwaway.key("new"), 3650)
    node.write("/etc/kubernetes/pki/ca.crt", new.pem + node.cluster.cas["ca"].pem, 0o644)
    found = [one for one in check(node) if one["code"] == "key-mismatch"]
    assert codes(found) == [("error", "key-mismatch", "ca")] and "that of certificate 2" in found[0]["message"]


def test_a_missing_key(node):
    os.unlink(node.kubernetes("pki/apiserver.key"))
    assert codes(check(node)) == [("error", "key-missing", "apiserver")]


def test_a_leaf_of_another_ca_of_the_same_name(node):
    other = throwaway.Cluster(label="other")
    node.cluster, mine = other, node.cluster
    node.issue("apiserver-kubelet-client")
    node.cluster = mine
    (one,) = check(node)
    assert one["code"] == "not-signed-by-ca" and "of the same name" in one["message"]


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
    assert codes(findings.check(tree, owner=os.getuid())) == [("warning", "wrong-owner", "etcd-server")]


def test_a_component_without_root_owns_its_files(node):
    path = node.kubernetes("manifests/etcd.yaml")
    path.write_text(path.read_text() + "  securityContext: {runAsUser: 4321}\n")
    tree = tree_of(node)
    item = tree.items["etcd-server"]
    item.key_mode, item.key_uid, item.key_gid = 0o640, 4321, 4321
    assert findings.check(tree, owner=os.getuid()) == []
    item.key_uid = 99
    assert codes(findings.check(tree, owner=os.getuid())) == [("warning", "wrong-owner", "etcd-server")]


def test_an_external_authority_is_told_and_not_blamed(node):
    os.unlink(node.kubernetes("pki/ca.key"))
    (one,) = check(node)
    assert (one["severity"], one["code"], one["name"]) == ("info", "external-ca", "ca")
    node.issue("apiserver", days=3)
    soon = next(one for one in check(node) if one["code"] == "expires-soon")
    assert "external authority" in soon["fix"] and "kubepki_external_ca_dir" in soon["fix"]


def test_a_key_that_kube_controller_manager_would_miss(node):
    manifest = node.kubernetes("manifests/kube-controller-manager.yaml")
    flag = "    - --cluster-signing-key-file=/etc/kubernetes/pki/ca.key\n"
    manifest.write_text(manifest.read_text().replace("    - --kubeconfig", flag + "    - --kubeconfig"))
    assert check(node) == []
    os.unlink(node.kubernetes("pki/ca.key"))
    worst = check(node)[0]
    assert (
        (worst["severity"], worst["code"]) == ("error", "signing-key-missing")
        and worst["path"] == str(node.kubernetes("pki/ca.key"))
        and "would not start again" in worst["message"]
    )
    manifest.write_text(manifest.read_text().replace(flag, ""))
    assert codes(check(node)) == [("info", "external-ca", "ca")]


@pytest.mark.parametrize("days, expected", [(200, []), (20, [("warning", "expires-soon")]), (-3, [("warning", "expired")])])
def test_what_is_not_kubeadms_is_told_and_nothing_more(node, days, expected):
    ca_key = throwaway.key("vpn")
    start = datetime.timedelta(days=400)
    ca = x509_sign.build_ca("VPN", ca_key, 4000, start=x509_read.now() - start)
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


@pytest.mark.parametrize("login", ["token: abc", "tokenFile: /t", "exec: {command: x}", "auth-provider: {name: oidc}"])
def test_a_kubeconfig_of_the_users_own_is_told_and_not_blamed(node, login):
    text = re.sub(r"client-certificate-data: .*", login, node.kubernetes("admin.conf").read_text())
    node.write("/etc/kubernetes/admin.conf", re.sub(r" *client-key-data: .*\n", "", text))
    assert codes(check(node)) == [("info", "other-login", "admin.conf")]
    (row,) = (row for row in rows.certificates(tree_of(node)) if row["name"] == "admin.conf")
    assert (row["status"], row["not_after"], row["problem"]) == ("ok", None, None)
    node.write("/etc/kubernetes/admin.conf", text.replace(login, "impersonate: x").replace("client-key-data", "x"))
    assert codes(check(node)) == [("error", "unreadable", "admin.conf")]


def test_what_is_not_kubeadms_and_cannot_be_read(node):
    node.write("/etc/kubernetes/pki/odd.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644)
    node.write("/etc/kubernetes/pki/only-a-key.pem", throwaway.key("leaf").pem)
    os.symlink("apiserver.crt", node.kubernetes("pki/link.crt"))
    assert codes(check(node)) == [("warning", "unreadable", "pki/odd.crt")]


def test_a_leaf_in_place_of_an_authority(node):
    shutil.copy(node.kubernetes("pki/apiserver.crt"), node.kubernetes("pki/front-proxy-ca.crt"))
    assert ("error", "not-a-ca", "front-proxy-ca") in codes(check(node))


def test_two_authorities_of_one_name(node):
    new = x509_sign.build_ca("front-proxy-ca", throwaway.key("new"), 3650)
    node.write("/etc/kubernetes/pki/front-proxy-ca.crt", node.cluster.cas["front-proxy-ca"].pem + new.pem, 0o644)
    assert codes(check(node)) == [("info", "ca-same-name", "front-proxy-ca")]


def test_names_that_are_missing(node):
    node.address = "10.0.0.99"
    for name in ("apiserver", "etcd-peer"):
        node.issue(name)
    found = check(node)
    assert sorted(codes(found)) == [("error", "san-missing", "apiserver"), ("error", "san-missing", "etcd-peer")]
    assert "10.0.0.1" in found[0]["message"]


def test_the_control_plane_endpoint_has_to_be_named(node):
    path = node.kubernetes("admin.conf")
    path.write_text(path.read_text().replace(throwaway.ENDPOINT, "balancer.example:443"))
    (one,) = check(node)
    assert one["code"] == "san-missing" and "balancer.example" in one["message"] and "control-plane endpoint" in one["message"]


@pytest.mark.parametrize(
    "sans,value,covered",
    [
        (["DNS:a.example"], "A.example.", True),
        (["DNS:*.example"], "a.example", True),
        (["DNS:*.example"], "a.b.example", False),
        (["IP:2001:db8::1"], "2001:DB8:0::0001", True),
        (["IP:2001:db8::1"], "2001:db8::2", False),
        (["IP:::1"], "a\0b", False),
        (["DNS:2001:db8::1"], "2001:db8:0::1", False),
        (["IP:10.0.0.1"], "10.0.0.1", True),
        (["IP:10.0.0.1"], "10.0.0.11", False),
        ([], "a", False),
    ],
)
def test_what_a_certificate_covers(sans, value, covered):
    assert findings._covers(sans, value) is covered


CURRENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"


def _dangling(node):
    os.unlink(node.path(CURRENT))
    os.symlink("kubelet-client-gone.pem", node.path(CURRENT))


def _a_file(node):
    data = node.path(CURRENT).read_bytes()
    os.unlink(node.path(CURRENT))
    node.write(CURRENT, data)


def _without_key(node):
    target = node.path(CURRENT).resolve()
    target.write_bytes(target.read_bytes().split(b"-----BEGIN EC")[0])


def _embedded(node):
    certificate, key = node.cluster.leaf("kubelet-client", "cp1", "10.0.0.1")
    node.write(
        "/etc/kubernetes/kubelet.conf",
        kubeconfig.build(
            "https://" + throwaway.ENDPOINT, node.cluster.cas["ca"].pem, "system:node:cp1", certificate.pem, key.pem
        ),
    )


def _somebody(node):
    certificate, key = node.cluster.leaf("admin.conf", "cp1", "10.0.0.1")
    node.path(CURRENT).resolve().write_bytes(certificate.pem + key.pem)


@pytest.mark.parametrize(
    "damage,severity,word",
    [
        (lambda node: os.unlink(node.path(CURRENT)), "error", "does not exist"),
        (_dangling, "error", "kubelet-client-gone.pem"),
        (_a_file, "warning", "not a symbolic link"),
        (_without_key, "error", "no PEM private key"),
        (_embedded, "warning", "embeds"),
        (_somebody, "error", "kubernetes-admin"),
        (lambda node: node.write("/etc/kubernetes/kubelet.conf", b"- 1"), "error", "mapping"),
        (lambda node: os.unlink(node.kubernetes("kubelet.conf")), "error", "bootstrap"),
    ],
)
def test_a_broken_kubelet_client(node, damage, severity, word):
    damage(node)
    (one,) = [one for one in check(node) if one["code"] == "kubelet-client-broken"]
    assert one["severity"] == severity and word in one["message"]
    assert {other["code"] for other in check(node)} == {"kubelet-client-broken"}


def test_a_kubeconfig_that_trusts_another_ca(node):
    other = throwaway.Cluster(label="other")
    path = str(node.kubernetes("controller-manager.conf"))
    config = kubeconfig.Kubeconfig(node.kubernetes("controller-manager.conf").read_text(), path)
    node.write("/etc/kubernetes/controller-manager.conf", bytes(config.with_ca(other.cas["ca"].pem)))
    (one,) = check(node)
    assert (one["severity"], one["code"], one["path"]) == ("error", "kubeconfig-ca-differs", path)


def test_a_kubeconfig_that_lags_behind_a_rotation(node):
    new = x509_sign.build_ca("kubernetes", throwaway.key("new"), 3650)
    node.write("/etc/kubernetes/pki/ca.crt", node.cluster.cas["ca"].pem + new.pem, 0o644)
    found = [one for one in check(node) if one["code"] == "kubeconfig-ca-differs"]
    assert {one["severity"] for one in found} == {"warning"} and len(found) == 4


def test_a_pair_of_service_account_keys_that_is_none(node):
    node.write("/etc/kubernetes/pki/sa.pub", throwaway.key("other").public_pem, 0o644)
    assert codes(check(node)) == [("error", "sa-pub-mismatch", "sa")]
    node.write("/etc/kubernetes/pki/sa.pub", throwaway.key("other").public_pem + node.cluster.sa.public_pem, 0o644)
    assert codes(check(node)) == []


def test_files_that_do_not_belong_among_the_manifests(node):
    manifests = node.kubernetes("manifests")
    shutil.copy(manifests / "etcd.yaml", manifests / "etcd.yaml.bak")
    (manifests / "notes.txt").write_text("do not forget")
    (manifests / "kube-vip.yaml").write_text("kind: Pod\nmetadata: {name: kube-vip}\nspec: {containers: [{name: kube-vip}]}\n")
    (manifests / ".etcd.yaml.swp").write_text("ignored")
    found = {os.path.basename(one["path"]): one for one in check(node)}
    assert {name: (one["severity"], one["code"]) for name, one in found.items()} == {
        "etcd.yaml.bak": ("error", "foreign-manifest"),
        "notes.txt": ("error", "foreign-manifest"),
        "kube-vip.yaml": ("info", "other-static-pod"),
    }
    assert "which is etcd.yaml.bak" in found["etcd.yaml.bak"]["message"]


def test_a_damaged_manifest_is_unreadable_and_not_foreign(node):
    node.write("/etc/kubernetes/manifests/kube-scheduler.yaml", b"a: [")
    assert codes(check(node)) == [("error", "unreadable", None)]


# --- what is served ---------------------------------------------------------------------------------------------------------


def served_findings(node, served):
    tree = tree_of(node)
    return live_findings.check_served(tree, discovery.endpoints(tree.layout), served)


def test_what_is_on_disk_is_what_is_served(node):
    tree = tree_of(node)
    served = {"apiserver": tree.items["apiserver"].certificate, "etcd-server": tree.items["etcd-server"].certificate}
    assert served_findings(node, served) == []


def test_an_old_certificate_that_is_still_served(node):
    old = tree_of(node).items["apiserver"].certificate
    node.issue("apiserver", leaf_key=throwaway.key("renewed"))
    (one,) = served_findings(node, {"apiserver": old})
    assert (one["severity"], one["code"], one["path"]) == ("warning", "served-differs", "127.0.0.1:6443")
    node.issue("apiserver", days=2)
    ending = tree_of(node).items["apiserver"].certificate
    node.issue("apiserver")
    (one,) = served_findings(node, {"apiserver": ending})
    assert one["severity"] == "error" and "restart_static_pods" in one["fix"]


def test_an_endpoint_that_is_down(node):
    (one,) = served_findings(node, {"kubelet": PkiError("connection refused", path="127.0.0.1:10250")})
    assert (one["severity"], one["code"]) == ("error", "kubelet-down") and "connection refused" in one["message"]
    assert "systemctl status kubelet" in one["fix"]
    (one,) = served_findings(node, {"scheduler": PkiError("connection refused", path="127.0.0.1:10259")})
    assert (one["severity"], one["code"]) == ("error", "endpoint-down") and one["fix"]


def test_a_certificate_made_in_memory_ends_as_well(node):
    made = x509_sign.build_ca("localhost@1", throwaway.key("memory"), 2)
    (one,) = served_findings(node, {"scheduler": made})
    assert one["code"] == "expires-soon" and "kube-scheduler" in one["fix"]


# --- the clock --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "offset,severity", [(None, None), (0, None), (-29, None), (31, "warning"), (-31, "warning"), (4000, "error")]
)
def test_a_clock_that_is_off(offset, severity):
    found = live_findings.check_clock(offset)
    assert [one["severity"] for one in found] == ([severity] if severity else [])
    if found:
        assert ("behind" if offset < 0 else "ahead of") in found[0]["message"]


# --- nodes against each other -----------------------------------------------------------------------------------------------


@pytest.fixture
def trio(tmp_path):
    cluster = throwaway.Cluster()
    nodes = {
        name: throwaway.Node(tmp_path / name, cluster, name, "10.0.0.%d" % number)
        for number, name in enumerate(("cp1", "cp2", "cp3"), 1)
    }
    nodes["w1"] = throwaway.Node(tmp_path / "w1", cluster, "w1", "10.0.1.1", role="worker")
    return nodes


def compared(nodes):
    return {
        name: codes(found)
        for name, found in node_comparison.check_nodes({name: rows.facts(tree_of(node)) for name, node in nodes.items()}).items()
    }


def test_nodes_that_agree(trio):
    assert compared(trio) == {}


def test_one_node_with_another_ca(trio):
    other = throwaway.Cluster(label="other")
    trio["cp2"].write("/etc/kubernetes/pki/ca.crt", other.cas["ca"].pem, 0o644)
    assert compared(trio) == {"cp2": [("error", "ca-differs", "ca")]}


def test_two_nodes_that_disagree_are_both_named(trio):
    del trio["cp3"], trio["w1"]
    other = throwaway.Cluster(label="other")
    trio["cp2"].write("/etc/kubernetes/pki/etcd/ca.crt", other.cas["etcd-ca"].pem, 0o644)
    assert compared(trio) == {name: [("error", "ca-differs", "etcd-ca")] for name in ("cp1", "cp2")}


def test_a_worker_that_trusts_another_ca(trio):
    other = throwaway.Cluster(label="other")
    trio["w1"].write("/etc/kubernetes/pki/ca.crt", other.cas["ca"].pem, 0o644)
    assert compared(trio) == {"w1": [("error", "ca-differs", "ca")]}


def test_a_node_that_lags_behind_a_rotation(trio):
    new = x509_sign.build_ca("kubernetes", throwaway.key("new"), 3650)
    for name in ("cp1", "cp2", "w1"):
        trio[name].write("/etc/kubernetes/pki/ca.crt", trio[name].cluster.cas["ca"].pem + new.pem, 0o644)
    assert compared(trio) == {"cp3": [("warning", "ca-differs", "ca")]}


def test_another_service_account_key(trio):
    trio["cp3"].write("/etc/kubernetes/pki/sa.key", throwaway.key("other").pem)
    assert compared(trio) == {"cp3": [("error", "sa-key-differs", "sa")]}


def test_an_api_server_that_verifies_kubelets_refuses_those_that_sign_for_themselves(trio):
    manifest = trio["cp1"].kubernetes("manifests/kube-apiserver.yaml")
    text = manifest.read_text()
    assert "    - kube-apiserver\n" in text

    def verify(path):
        manifest.write_text(
            text.replace("    - kube-apiserver\n", "    - kube-apiserver\n    - --kubelet-certificate-authority=%s\n" % path)
        )

    verify("/etc/own.crt")
    assert compared(trio) == {}
    verify("/etc/kubernetes/pki/ca.crt")
    assert compared(trio) == {name: [("error", "kubelet-unverified", "kubelet-serving")] for name in trio}
    cluster = trio["w1"].cluster
    profile = x509_sign.Profile("system:node:w1", ["system:nodes"], ["DNS:w1"], ("server",))
    leaf = x509_sign.sign_leaf(profile, throwaway.key("serving"), cluster.cas["ca"], cluster.keys["ca"], 365)
    trio["w1"].write("/var/lib/kubelet/pki/kubelet.crt", leaf.pem, 0o644)
    trio["w1"].write("/var/lib/kubelet/pki/kubelet.key", throwaway.key("serving").pem)
    assert sorted(compared(trio)) == ["cp1", "cp2", "cp3"]


@pytest.mark.parametrize("days,word", [(-40, "expired on"), (3, "ends on")])
def test_a_certificate_that_a_kubelet_made_for_itself_only_warns(node, days, word):
    ca_key, ca = throwaway.key("own"), x509_sign.build_ca("cp1-ca@1700000000", throwaway.key("own"), 3650)
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
    served = live_findings.check_served(
        tree_of(node),
        [discovery.Endpoint("kubelet", "kubelet", "10.0.0.1", 10250, "kubelet-serving")],
        {"kubelet": x509_read.parse_certificate(leaf.pem)},
    )
    assert served == []


def test_clocks_that_differ_between_nodes():
    facts = {name: {"clock_offset": offset} for name, offset in (("a", 2), ("b", 2), ("c", -29), ("d", 1), ("e", 400))}
    # e is told by its own report; c is within bounds of the controller, but not of the others.
    found = node_comparison.check_nodes(facts)
    assert {name: codes(items) for name, items in found.items()} == {"c": [("warning", "clock-off", None)]}
    facts["c"]["clock_offset"] = -20
    assert node_comparison.check_nodes(facts) == {}


FACT = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["control-plane", "worker", "etcd", "none"]),
        "cas": st.dictionaries(
            st.sampled_from(["ca", "etcd-ca", "front-proxy-ca"]),
            st.fixed_dictionaries(
                {
                    "signer": st.just("s"),
                    "signer_key": st.sampled_from("AB"),
                    "path": st.just("/p"),
                    "trusted": st.lists(st.sampled_from("ABC"), min_size=1, max_size=2),
                }
            ),
            max_size=3,
        ),
        "sa": st.fixed_dictionaries(
            {"signer": st.sampled_from([None, "A", "B"]), "trusted": st.just([]), "path": st.just("/sa")}
        ),
        "clock_offset": st.none() | st.floats(-1000, 1000),
    }
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), FACT))
def test_any_nodes_can_be_compared(facts):
    found = node_comparison.check_nodes(facts)
    assert set(found) <= set(facts) and all(found.values())
    signers = {fact["sa"]["signer"] for fact in facts.values() if fact["role"] == "control-plane"} - {None}
    differs = any(one["code"] == "sa-key-differs" for items in found.values() for one in items)
    assert differs == (len(signers) > 1)


@given(st.lists(st.fixed_dictionaries({"severity": st.sampled_from(["error", "warning", "info"]), "code": st.text(max_size=3)})))
def test_the_most_severe_comes_first(found):
    severities = [one["severity"] for one in finding.ordered(found)]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert re.match("^(error)*(warning)*(info)*$", "".join(severities))


def test_a_serial_number_that_go_refuses_is_a_warning(node):
    tree = tree_of(node)
    tree.items["apiserver"].certificate.serial = -5
    (one,) = findings.check(tree, owner=os.getuid())
    assert (one["severity"], one["code"], one["name"]) == ("warning", "negative-serial", "apiserver")
    assert "-5" in one["message"] and "kubepki_names=apiserver and kubepki_force=true" in one["fix"]
    tree.items["apiserver"].certificate.serial = 0
    assert findings.check(tree, owner=os.getuid()) == []
