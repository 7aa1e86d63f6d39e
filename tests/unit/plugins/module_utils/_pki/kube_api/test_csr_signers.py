# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signs on a node, as its manifests and files say."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import csr_object, csr_signers
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read

from tests.unit.support.throwaway import Cluster, Node, key

PKI = "/etc/kubernetes/pki"
GENERAL = ["--cluster-signing-cert-file=%s/ca.crt" % PKI, "--cluster-signing-key-file=%s/ca.key" % PKI]


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


OWN = [flag.replace("/ca.", "/own.") for flag in GENERAL]


def look(node, flags, now=None):
    node.manifest("kube-controller-manager", ["--kubeconfig=/etc/kubernetes/controller-manager.conf", *flags])
    layout = layouts.find_layout(root=str(node.root))
    found, common = csr_signers.inspect(layout, now or x509_read.now())
    return layout, {signer.name: signer for signer in found}, common


def messages(signer):
    return " ".join(str(problem) for problem in signer.problems)


def test_kubeadms_own_flags_work(node):
    layout, found, common = look(node, GENERAL)
    assert not common and not any(signer.problems for signer in found.values())
    assert found[csr_object.CLIENT].certificate.sha256 == node.cluster.cas["ca"].sha256
    assert csr_signers.enabling_edits(layout, found.values()) == {}
    lines = csr_signers.table(found.values(), common, layout.flags["kube-controller-manager"])
    assert "8760h" in lines[0] and "signs with %s/ca.crt (CN=kubernetes" % PKI in lines[1]


def test_nobody_signs_and_what_would_change_that(node):
    layout, found, _common = look(node, [])
    assert all("nobody signs for %s" % name in messages(signer) for name, signer in found.items())
    edits = csr_signers.enabling_edits(layout, found.values())["kube-controller-manager"]
    assert edits["--cluster-signing-cert-file"].endswith("/pki/ca.crt") and len(edits) == 2


def test_half_a_pair(node):
    _layout, found, _common = look(node, GENERAL[:1])
    assert "has no key for it" in messages(found[csr_object.CLIENT])


def test_the_flags_of_one_signer_count_for_it_alone(node):
    flag = "--cluster-signing-kubelet-serving-%s-file=%s/ca.%s"
    pair = [flag % ("cert", PKI, "crt"), flag % ("key", PKI, "key")]
    layout, found, common = look(node, pair)
    assert not found[csr_object.KUBELET_SERVING].problems and found[csr_object.CLIENT].problems and not common
    with pytest.raises(PkiError, match="flags of their own"):
        csr_signers.enabling_edits(layout, found.values())
    _layout, _found, common = look(node, pair + GENERAL)
    assert "both set" in str(common[0])


@pytest.mark.parametrize(
    ("controllers", "off"),
    [("*", False), ("*,-csrsigning", True), ("csrsigning", False), ("namespace", True), ("*,bootstrapsigner", False)],
)
def test_a_controller_that_is_switched_off(node, controllers, off):
    _layout, _found, common = look(node, [*GENERAL, "--controllers=" + controllers])
    assert bool(common) == off


def test_two_certificates_sign_nothing(node):
    other = Cluster(label="other").cas["ca"]
    node.write(PKI + "/ca.crt", node.cluster.cas["ca"].pem + other.pem)
    layout, found, _common = look(node, GENERAL)
    assert "holds 2 certificates" in messages(found[csr_object.CLIENT])
    layout, found, _common = look(node, [])
    with pytest.raises(PkiError, match="Finish the rotation"):
        csr_signers.enabling_edits(layout, found.values())


def test_a_key_of_something_else(node):
    node.write(PKI + "/ca.key", key("something else").pem)
    layout, found, _common = look(node, GENERAL)
    assert "is not the key of" in messages(found[csr_object.CLIENT])
    layout, found, _common = look(node, [])
    with pytest.raises(PkiError, match="is not the key of"):
        csr_signers.enabling_edits(layout, found.values())


def test_an_external_ca(node):
    node.kubernetes("pki/ca.key").unlink()
    layout, found, _common = look(node, GENERAL)
    assert "does not exist" in messages(found[csr_object.CLIENT])
    layout, found, _common = look(node, [])
    with pytest.raises(PkiError, match="not on this node"):
        csr_signers.enabling_edits(layout, found.values())


def test_an_authority_the_api_server_does_not_trust(node):
    other = Cluster(label="other")
    node.write(PKI + "/own.crt", other.cas["ca"].pem)
    node.write(PKI + "/own.key", other.keys["ca"].pem)
    _layout, found, _common = look(node, OWN)
    assert (
        "not trusted by the API server" in messages(found[csr_object.CLIENT]) and not found[csr_object.KUBELET_SERVING].problems
    )


def test_an_intermediate_of_the_clusters_ca_is_trusted(node):
    intermediate_key = key("intermediate")
    intermediate = ca_sign.build_ca("intermediate", intermediate_key, 10, node.cluster.cas["ca"], node.cluster.keys["ca"])
    node.write(PKI + "/own.crt", intermediate.pem)
    node.write(PKI + "/own.key", intermediate_key.pem)
    _layout, found, _common = look(node, OWN)
    assert not found[csr_object.CLIENT].problems


def test_no_authority_and_an_expired_one(node):
    _layout, found, _common = look(
        node, ["--cluster-signing-cert-file=%s/apiserver.crt" % PKI, "--cluster-signing-key-file=%s/apiserver.key" % PKI]
    )
    assert "not a certificate authority" in messages(found[csr_object.CLIENT])
    later = x509_read.now() + datetime.timedelta(days=5000)
    _layout, found, _common = look(node, GENERAL, later)
    assert "has expired" in messages(found[csr_object.CLIENT])


def test_a_worker_has_no_signers(tmp_path):
    worker = Node(tmp_path, role="worker")
    with pytest.raises(PkiError, match="no manifest of kube-controller-manager"):
        csr_signers.inspect(layouts.find_layout(root=str(worker.root)), x509_read.now())
