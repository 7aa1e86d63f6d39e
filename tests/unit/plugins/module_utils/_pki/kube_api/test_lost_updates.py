# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that hold a whole text are changed as they are now: what another client wrote a moment before stays."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection, kubeadm_config, trust_objects
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, kubelet_config_map
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import service_account_token

from tests.unit.support.fake_api import FakeApi
from tests.unit.support.throwaway import key
from tests.unit.support.tokens_of import SECRET, token_of
from tests.unit.support.trust_api import BOTH, NEW, OLD

SYSTEM = "/api/v1/namespaces/kube-system/configmaps/"
KUBEADM, KUBELET, EXTENSION = SYSTEM + "kubeadm-config", SYSTEM + "kubelet-config", trust_objects._EXTENSION
TOKEN = "/api/v1/namespaces/web/secrets/web-token-x2x4z"
CLUSTER = "apiVersion: kubeadm.k8s.io/v1beta3\ncontrollerManager: {}\nkind: ClusterConfiguration\nkubernetesVersion: v1.28.0\n"
KUBELET_TEXT = "apiVersion: kubelet.config.k8s.io/v1beta1\nmaxPods: 110\n"

CASES = {
    "kubeadm-config": (
        KUBEADM,
        {"ClusterConfiguration": CLUSTER},
        "ClusterConfiguration",
        "v1.28.0",
        "v1.29.0",
        lambda api: kubeadm_config.publish_kubeadm_config(api, "apiServer", "some-flag", "some-value"),
        "some-value",
    ),
    "kubelet-config": (
        KUBELET,
        {"kubelet": KUBELET_TEXT},
        "kubelet",
        "maxPods: 110",
        "maxPods: 250",
        kubelet_config_map.publish,
        "serverTLSBootstrap: true",
    ),
    "cluster-info": (
        trust_objects.CLUSTER_INFO,
        {"kubeconfig": kubeconfig.build("https://old:6443", OLD.pem, "", b"", b"")},
        "kubeconfig",
        "https://old:6443",
        "https://new:6443",
        lambda api: trust_objects.publish_cluster_info(api, BOTH),
        base64.b64encode(BOTH).decode(),
    ),
}


@pytest.fixture
def api():
    fake = FakeApi()
    yield fake
    fake.stop()


def client(api: FakeApi):
    return api_connection.BuiltIn(api.url)


@pytest.mark.parametrize("case", CASES)
def test_what_another_client_wrote_a_moment_before_stays(api, case):
    path, data, field, old, new, publish, ours = CASES[case]
    api.put(path, {"data": dict(data)})
    api.meanwhile("PATCH", path, lambda item: item["data"].update({field: item["data"][field].replace(old, new)}))
    assert publish(client(api))
    assert new in api.objects[path]["data"][field] and ours in api.objects[path]["data"][field]
    assert [method for method, where in api.calls if method == "PATCH"] == ["PATCH", "PATCH"]


@pytest.mark.parametrize("case", CASES)
def test_an_object_that_another_client_writes_again_and_again_is_named(api, case):
    path, data, _field, _old, _new, publish, _ours = CASES[case]
    api.put(path, {"data": dict(data)})
    api.meanwhile("PATCH", path, lambda item: item["data"].update({"other": "x"}), times=100)
    with pytest.raises(PkiError, match="another client changed it") as refused:
        publish(client(api))
    assert path in str(refused.value) and refused.value.fix
    assert 3 <= sum(method == "PATCH" for method, _path in api.calls) <= 10


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_written_where_another_client_made_the_same_change(api, case):
    path, data, _field, _old, _new, publish, _ours = CASES[case]
    api.put(path, {"data": dict(data)})
    assert publish(client(api))
    done = api.objects[path]["data"]
    api.put(path, {"data": dict(data)})
    api.meanwhile("PATCH", path, lambda item: item.update(data=done))
    assert not publish(client(api))


def test_a_token_that_another_client_signed_meanwhile_stays(api):
    former, signer = key("former"), key("signer")
    api.put(TOKEN, {"metadata": dict(SECRET["metadata"]), "data": {"token": base64.b64encode(token_of(former)).decode()}})
    again = base64.b64encode(token_of(signer, {"of": "another client"})).decode()
    api.meanwhile("PATCH", TOKEN, lambda item: item["data"].update(token=again))
    trust_objects.renew_tokens(client(api), signer)
    assert api.objects[TOKEN]["data"]["token"] == again
    assert service_account_token.signing_key_digest(base64.b64decode(again)) == signer.key_sha256


def test_client_cas_that_another_client_put_right_meanwhile_stay_as_it_wrote_them(api):
    alone, written = NEW.pem.decode(), "# by another client\n" + NEW.pem.decode()
    api.put(EXTENSION, {"data": {"client-ca-file": BOTH.decode(), "requestheader-client-ca-file": alone}})
    api.meanwhile("PATCH", EXTENSION, lambda item: item["data"].update({"client-ca-file": written}))
    trust_objects.wait_extension(client(api), NEW.pem, NEW.pem, exact=True, seconds=5, settled=0.1)
    assert api.objects[EXTENSION]["data"] == {"client-ca-file": written, "requestheader-client-ca-file": alone}
