# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, kubeconfig, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import rows
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign

from tests.unit.support import throwaway
from tests.unit.support.node_checks import check, codes, tree_of


def make_ca_again(node, name="ca", subject="Kubernetes"):
    """Write a CA certificate with the same key and another subject, as `openssl req -x509 -key ca.key` makes it."""
    again = ca_sign.build_ca(subject, node.cluster.keys[name], 3650)
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
    other.cas["ca"] = ca_sign.build_ca("corporate", other.keys["ca"], 3650)
    certificate, leaf_key = other.leaf("apiserver", "cp1", "10.0.0.1")
    node.write("/etc/kubernetes/pki/apiserver.crt", certificate.pem, 0o644)
    node.write("/etc/kubernetes/pki/apiserver.key", leaf_key.pem)
    (one,) = [one for one in check(node) if one["code"] == "not-signed-by-ca"]
    assert "kubepki_names=apiserver and kubepki_force=true" in one["fix"]


def test_a_leaf_of_another_ca_of_the_same_name(node):
    other = throwaway.Cluster(label="other")
    node.cluster, mine = other, node.cluster
    node.issue("apiserver-kubelet-client")
    node.cluster = mine
    (one,) = check(node)
    assert one["code"] == "not-signed-by-ca" and "of the same name" in one["message"]


def test_an_external_authority_is_told_and_not_blamed(node):
    os.unlink(node.kubernetes("pki/ca.key"))
    (one,) = check(node)
    assert (one["severity"], one["code"], one["name"]) == ("info", "external-ca", "ca")
    node.issue("apiserver", days=3)
    soon = next(one for one in check(node) if one["code"] == "expires-soon")
    assert "external CA" in soon["fix"] and "kubepki_external_ca_dir" in soon["fix"]


def test_a_leaf_in_place_of_an_authority(node):
    shutil.copy(node.kubernetes("pki/apiserver.crt"), node.kubernetes("pki/front-proxy-ca.crt"))
    assert ("error", "not-a-ca", "front-proxy-ca") in codes(check(node))


def test_two_authorities_of_one_name(node):
    new = ca_sign.build_ca("front-proxy-ca", throwaway.key("new"), 3650)
    node.write("/etc/kubernetes/pki/front-proxy-ca.crt", node.cluster.cas["front-proxy-ca"].pem + new.pem, 0o644)
    assert codes(check(node)) == [("info", "ca-same-name", "front-proxy-ca")]


def test_a_kubeconfig_that_trusts_another_ca(node):
    other = throwaway.Cluster(label="other")
    path = str(node.kubernetes("controller-manager.conf"))
    config = kubeconfig.Kubeconfig(node.kubernetes("controller-manager.conf").read_text(), path)
    node.write("/etc/kubernetes/controller-manager.conf", bytes(config.with_ca(other.cas["ca"].pem)))
    (one,) = check(node)
    assert (one["severity"], one["code"], one["path"]) == ("error", "kubeconfig-ca-differs", path)


def test_a_kubeconfig_that_lags_behind_a_rotation(node):
    new = ca_sign.build_ca("kubernetes", throwaway.key("new"), 3650)
    node.write("/etc/kubernetes/pki/ca.crt", node.cluster.cas["ca"].pem + new.pem, 0o644)
    found = [one for one in check(node) if one["code"] == "kubeconfig-ca-differs"]
    assert {one["severity"] for one in found} == {"warning"} and len(found) == 4
