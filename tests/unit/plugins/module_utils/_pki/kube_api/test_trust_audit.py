# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who in a cluster depends on the former authority, and which Nodes a change of trust would not reach."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import trust_audit

from tests.unit.support.trust_api import BOTH, NEW, OLD, Api


def test_who_depends_on_the_former_authority_is_listed():
    encoded = base64.b64encode(OLD.pem).decode()
    api = Api(
        {
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations": {
                "items": [{"metadata": {"name": "guard"}, "webhooks": [{"name": "a.b", "clientConfig": {"caBundle": encoded}}]}]
            },
            "/apis/apiregistration.k8s.io/v1/apiservices": {
                "items": [{"metadata": {"name": "v1.metrics"}, "spec": {"caBundle": base64.b64encode(BOTH).decode()}}]
            },
        }
    )
    found = trust_audit.find(api, BOTH, NEW.key_sha256)
    assert [(item["what"], item["path"]) for item in found] == [("validating webhook", "guard/a.b")]


def pod(name, started, volume, phase="Running"):
    return {
        "metadata": {"namespace": "a", "name": name},
        "spec": {"volumes": [volume]},
        "status": {"phase": phase, "startTime": started},
    }


def test_pods_older_than_the_trust_of_their_namespace_are_listed():
    root = {
        "metadata": {"namespace": "a", "managedFields": [{"time": "2026-11-01T00:00:00Z"}, {"time": "2026-11-02T00:00:00Z"}]},
        "data": {"ca.crt": BOTH.decode()},
    }
    projected = {"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}}
    secret = {"secret": {"secretName": "default-token-abcde"}}
    api = Api(
        {
            "/api/v1/configmaps": {"items": [root]},
            "/api/v1/pods": {
                "items": [
                    pod("old", "2026-11-01T12:00:00Z", projected),
                    pod("old-secret", "2026-11-01T12:00:00Z", secret),
                    pod("new", "2026-11-02T00:00:01Z", projected),
                    pod("no-client", "2026-11-01T12:00:00Z", {"emptyDir": {}}),
                    pod("ended", "2026-11-01T12:00:00Z", projected, "Succeeded"),
                    {"metadata": {"namespace": "b", "name": "x"}},
                ]
            },
        }
    )
    found = trust_audit.find(api, BOTH, NEW.key_sha256)
    assert [(item["what"], item["path"]) for item in found] == [("pod", "a/old"), ("pod", "a/old-secret")]


def node(name, status="True", message="kubelet is posting ready status"):
    return {
        "metadata": {"name": name},
        "status": {
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": status, "message": message}]
        },
    }


def test_a_change_of_trust_has_to_reach_every_node():
    api = Api({"/api/v1/nodes": {"items": [node("cp1"), node("w1")]}})
    trust_audit.check_nodes(api, ["cp1", "w1", "w2"])  # w2 has not joined yet
    with pytest.raises(PkiError, match="the inventory does not: w1"):
        trust_audit.check_nodes(api, ["cp1"])


@pytest.mark.parametrize(
    "ill",
    [node("w1", "False", "container runtime is down"), node("w1", "Unknown", "stopped posting"), {"metadata": {"name": "w1"}}],
)
def test_a_node_that_is_not_ready_is_named(ill):
    with pytest.raises(PkiError, match=r"1 of 2 nodes are not Ready: w1 \((container|stopped|its kubelet)"):
        trust_audit.check_nodes(Api({"/api/v1/nodes": {"items": [node("cp1"), ill]}}), ["cp1", "w1"])


BUNDLES = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles"
SIGNER = "kubernetes.io/kube-apiserver-serving"
NAME = "kubernetes.io:kube-apiserver-serving:abc"


def published(pem, name=NAME, signer=SIGNER):
    return {"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": pem.decode()}}


def using(name, source, phase="Running", node="w1"):
    return {
        "metadata": {"namespace": "a", "name": name, "uid": "uid-" + name},
        "status": {"phase": phase},
        "spec": {"nodeName": node, "volumes": [{"name": "trust", "projected": {"sources": [{"clusterTrustBundle": source}]}}]},
    }


def test_where_pods_mount_the_published_bundle_is_found_where_there_is_one():
    chosen = {"signerName": SIGNER, "labelSelector": {}, "path": "ca.pem"}
    pods = {
        "items": [
            using("one", chosen),
            using("two", chosen, node="w2"),
            using("ended", chosen, "Succeeded"),
            using("none", dict(chosen, labelSelector=None)),
            using("other", dict(chosen, signerName="example.com/x")),
            using("name", {"name": NAME, "path": "x"}),
        ]
    }
    api = Api({BUNDLES: {"items": [published(BOTH)]}, "/api/v1/pods": pods})
    assert trust_audit.bundle_files(api) == {
        "w1": [{"uid": "uid-one", "volume": "trust", "path": "ca.pem"}],
        "w2": [{"uid": "uid-two", "volume": "trust", "path": "ca.pem"}],
    }
    assert trust_audit.bundle_files(Api({"/api/v1/pods": pods})) == {}
    found = trust_audit.find(api, BOTH, NEW.key_sha256)
    assert [(item["what"], item["path"]) for item in found] == [("pod", "a/name")] and "signerName" in found[0]["why"]


def test_a_published_bundle_that_lags_is_listed():
    api = Api({BUNDLES: {"items": [published(OLD.pem)]}})
    found = trust_audit.find(api, BOTH, NEW.key_sha256)
    assert [(item["what"], item["path"]) for item in found] == [("ClusterTrustBundle", NAME)]
