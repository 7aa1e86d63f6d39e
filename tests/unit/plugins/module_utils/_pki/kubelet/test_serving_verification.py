# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who verifies the kubelets: whom an API server would refuse, whom it reaches, and its flag."""

from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import serving_verification
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read, x509_sign

from tests.unit.support import throwaway, tlsservers
from tests.unit.support.fake_api import CA, FakeApi
from tests.unit.support.worker import Worker

ITEM = {
    "metadata": {"name": "w1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.5"}, {"type": "Hostname", "address": "w1"}]},
}


@pytest.fixture
def api():
    fake = FakeApi(requester="kubernetes-admin")
    fake.client = api_connection.BuiltIn(fake.url, timeout=5)
    yield fake
    fake.client.close()
    fake.stop()


def place(item, types=None):
    return serving_verification.dialled(item, types)


def test_an_api_server_dials_the_first_type_it_finds():
    assert place(ITEM) == ("w1", 10250) and place(ITEM, "InternalIP,ExternalIP,Hostname") == ("10.0.0.5", 10250)
    assert place(ITEM, "ExternalIP, InternalIP") == ("10.0.0.5", 10250) and place(ITEM, "ExternalDNS") is None
    other = {"status": dict(ITEM["status"], daemonEndpoints={"kubeletEndpoint": {"Port": 20250}})}
    assert place(other) == ("w1", 20250)


def node(name, server, address="127.0.0.1"):
    return {
        "metadata": {"name": name},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": server.port}},
        },
    }


def test_kubelets_whose_certificates_do_not_verify_are_named(tmp_path):
    (tmp_path / "other").mkdir()
    ours, theirs = tlsservers.Authority(tmp_path), tlsservers.Authority(tmp_path / "other")
    pairs = {
        "good": ours.leaf("good"),
        "selfmade": theirs.leaf("selfmade"),
        "old": ours.leaf("old", days=1, start=x509_read.now() - x509_sign.datetime.timedelta(days=3)),
    }
    servers = {name: tlsservers.Server(pair[:2]) for name, pair in pairs.items()}
    nodes = [node(name, server) for name, server in servers.items()] + [node("misnamed", servers["good"], "127.0.0.2")]
    nodes += [dict(node("nowhere", servers["good"]), status={}), node("gone", servers["good"])]
    nodes[-1]["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] = tlsservers.free_port()
    found = serving_verification.unverified(nodes, "InternalIP", ours.certificate.pem)
    for server in servers.values():
        server.close()
    assert sorted(found) == ["gone", "misnamed", "nowhere", "old", "selfmade"]
    assert "expired" in found["old"] and "no address" in found["nowhere"] and "refused" in found["gone"]
    assert "127.0.0.2" in found["misnamed"]


def test_kubelets_are_reached_through_the_api_server(api):
    nodes = [{"metadata": {"name": name}} for name in ("w1", "w2", "w3")]
    for name, phase in (("w1", "Running"), ("w2", "Pending"), ("w3", "Running")):
        states = [{"name": "c", "state": {"running": {}} if phase == "Running" else {"waiting": {}}}]
        api.put("/api/v1/namespaces/x/pods/p-" + name, {"spec": {"nodeName": name}, "status": {"containerStatuses": states}})
    api.texts = {
        "/api/v1/namespaces/x/pods/p-w1/log": (200, b"a line"),
        "/api/v1/nodes/w2/proxy/healthz": (200, b"ok"),
        "/api/v1/namespaces/x/pods/p-w3/log": (500, b"x509: certificate signed by unknown authority"),
    }
    found = serving_verification.reached(api.client, nodes)
    assert list(found) == ["w3"] and "unknown authority" in found["w3"]
    with pytest.raises(PkiError, match="1 of 3 kubelets cannot be reached .* w3 .*unknown authority") as caught:
        serving_verification.wait_reached(api.client, nodes, 0)
    assert "kubepki_kubelet_authority=remove" in caught.value.fix


def test_a_kubelet_may_need_a_moment(api):
    pages = {"/api/v1/nodes/w1/proxy/healthz": (502, b"not yet")}
    api.texts = pages
    seen = []

    def before(method, path):
        seen.append(path)
        if seen.count("/api/v1/nodes/w1/proxy/healthz") == 2:
            pages["/api/v1/nodes/w1/proxy/healthz"] = (200, b"ok")

    api.before = before
    serving_verification.wait_reached(api.client, [{"metadata": {"name": "w1"}}], 20)
    assert seen.count("/api/v1/nodes/w1/proxy/healthz") == 2


def plane(tmp_path, *flags):
    found = throwaway.Node(tmp_path, throwaway.Cluster())
    text = found.kubernetes("manifests/kube-apiserver.yaml").read_text()
    found.kubernetes("manifests/kube-apiserver.yaml").write_text(
        text.replace("    - kube-apiserver\n", "    - kube-apiserver\n" + "".join("    - %s\n" % flag for flag in flags))
    )
    return serving_verification.KubeletVerification(layouts.find_layout(root=str(found.root)))


def test_the_flag_is_set_once_and_taken_away_again(tmp_path):
    without = plane(tmp_path / "a")
    assert without.edits(False) == {} and without.server == "https://10.0.0.1:6443" and without.path.endswith("/pki/ca.crt")
    assert without.edits(True) == {"kube-apiserver": {"--kubelet-certificate-authority": without.path}}
    there = plane(tmp_path / "b", "--kubelet-certificate-authority=/etc/own.crt", "--kubelet-preferred-address-types=InternalIP")
    assert there.edits(True) == {} and there.path == "/etc/own.crt" and there.types == "InternalIP"
    assert there.edits(False) == {"kube-apiserver": {"--kubelet-certificate-authority": None}}


def test_a_worker_has_no_api_server(tmp_path):
    worker = Worker(tmp_path, throwaway.Cluster())
    with pytest.raises(PkiError, match="no manifest of kube-apiserver"):
        serving_verification.KubeletVerification(worker.layout)


def test_one_message_names_the_kubelets_that_would_be_refused():
    nodes = [{"metadata": {"name": "n%d" % number}} for number in range(7)]
    with pytest.raises(PkiError, match=r"7 of 7 kubelets would be refused .* n0 \(has no address .* and 2 more") as caught:
        serving_verification.require_verified(nodes, "InternalIP", CA.pem)
    assert "kubepki_kubelet_serving=bootstrap" in caught.value.fix
