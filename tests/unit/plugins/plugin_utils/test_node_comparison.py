# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import rows
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_sign
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import node_comparison
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.support import throwaway
from tests.unit.support.node_checks import codes, tree_of


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
    new = ca_sign.build_ca("kubernetes", throwaway.key("new"), 3650)
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
