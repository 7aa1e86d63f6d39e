# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate a kubelet serves: what is due, what is asked for and installed, what an API server would refuse."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.csr_ops import csr_review
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import journals
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection, csr_object, kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, kubelet_config_map
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import serving_certificate
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read, x509_sign
from ansible_collections.kubepki.lifecycle.plugins.modules.internal import kubelet_serving as serving_module
from ansible_collections.kubepki.lifecycle.plugins.modules.internal import kubelet_serving_api as api_module

from tests.unit.support import throwaway
from tests.unit.support.fake_api import CA, CA_KEY, FakeApi
from tests.unit.support.worker import Worker

SANS = ["DNS:w1", "IP:10.0.0.5"]
ITEM = {
    "metadata": {"name": "w1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.5"}, {"type": "Hostname", "address": "w1"}]},
}
HOSTS = {"hosts": {"w1": "10.0.0.5"}, "control_plane_hosts": [], "days": 365}


@pytest.fixture
def api():
    fake = FakeApi(requester="system:node:w1")
    fake.groups = ["system:nodes", "system:authenticated"]
    fake.put("/api/v1/nodes/w1", {"status": ITEM["status"]})
    fake.client = api_connection.BuiltIn(fake.url, timeout=5)
    fake.node = kubelet_client.KubeletApi(fake.url, None, None)
    yield fake
    fake.client.close()
    fake.stop()


@pytest.fixture
def worker(tmp_path):
    found = Worker(tmp_path, throwaway.Cluster())
    # Who signs is the API's double; it is the cluster's CA here.
    found.node.kubernetes("pki/ca.crt").write_bytes(CA.pem)
    found.config = found.node.path("/var/lib/kubelet/config.yaml")
    return found


def switch_on(worker):
    worker.config.write_text(worker.config.read_text() + "serverTLSBootstrap: true\n")


def put(
    worker, sans=("DNS:w1", "IP:10.0.0.5"), days=365.0, began=1.0, name="w1", ca=CA, ca_key=CA_KEY, usages=("server",), key=None
):
    """Put a serving certificate where the kubelet keeps it."""
    own = throwaway.key("serving")
    profile = x509_sign.Profile("system:node:" + name, ["system:nodes"], list(sans), usages)
    start = x509_read.now() - x509_sign.datetime.timedelta(days=began)
    ca = ca_sign.build_ca(ca.common_name, ca_key, 3650, start=start)
    leaf = x509_sign.sign_leaf(profile, own, ca, ca_key, days + began, start=start)
    dated = worker.pki / "kubelet-server-2026-01-02-03-04-05.pem"
    dated.write_bytes(leaf.pem + (key or own).pem)
    link = worker.pki / "kubelet-server-current.pem"
    if not link.is_symlink():
        link.symlink_to(dated)


def examine(worker, mode="bootstrap", **more):
    return serving_certificate.examine(worker.layout, mode, SANS, state_dir=worker.state, **more)


def decide(api, *answers, **more):
    return csr_review.serving_requests(api.client, dict(HOSTS, answers=list(answers), **more), False)


def asked(worker, api, **more):
    found = serving_certificate.request_certificate(worker.layout, api.node, SANS, 365, state_dir=worker.state, **more)
    return found["name"], {"host": "w1", "node": "w1", "key": found["key"]}


# --- what is due -------------------------------------------------------------------------------------------------------------


def test_addresses_are_those_a_kubelet_asks_for():
    entries = [
        ("Hostname", "10.0.0.9"),
        ("Hostname", "W1"),
        ("InternalIP", "not an address"),
        ("ExternalIP", "2001:DB8::0:1"),
        ("InternalDNS", "w1.in"),
        ("ExternalDNS", "w1.out"),
        ("InternalDNS", "10.0.0.8"),
        ("Other", "x"),
        ("Hostname", ""),
    ]
    item = {"status": {"addresses": [{"type": kind, "address": value} for kind, value in entries]}}
    assert serving_certificate.node_sans(item) == ["DNS:w1", "DNS:w1.in", "DNS:w1.out", "IP:10.0.0.9", "IP:2001:db8::1"]
    assert serving_certificate.node_sans(ITEM) == SANS and serving_certificate.node_sans({}) == []


def test_bootstrap_concerns_all_and_renew_only_who_asks_the_cluster(worker):
    assert examine(worker)["reasons"] == ["serverTLSBootstrap is off", "there is no serving certificate that the cluster signed"]
    assert examine(worker, "renew") == {"node": "w1", "action": "keep", "reasons": [], "before": None}
    switch_on(worker)
    assert examine(worker, "renew")["reasons"] == ["there is no serving certificate that the cluster signed"]


def test_a_good_one_is_kept(worker):
    switch_on(worker)
    put(worker)
    for mode in ("renew", "bootstrap"):
        verdict = examine(worker, mode)
        assert (verdict["action"], verdict["reasons"]) == ("keep", [])
        assert verdict["before"]["subject"] == "CN=system:node:w1,O=system:nodes"
    assert examine(worker, force=True)["reasons"] == ["asked for"]
    put(worker, sans=[*SANS, "DNS:more"])
    assert examine(worker)["action"] == "keep"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"days": -0.5}, "expired on"),
        ({"days": 20, "began": 345}, "20.0 days of its 365 are left"),
        ({"name": "w2"}, "made out to"),
        ({"usages": ("client",)}, "made out to"),
        ({"sans": ["DNS:w1"]}, "does not name IP:10.0.0.5"),
        ({"ca_key": throwaway.key("impostor")}, "no CA of this node's ca.crt"),
        ({"key": throwaway.key("another")}, "do not belong together"),
    ],
)
def test_a_wrong_one_is_due(worker, options, text):
    switch_on(worker)
    put(worker, **options)
    verdict = examine(worker)
    assert verdict["action"] == "reissue"
    assert text in verdict["reasons"][0]


def test_while_an_authority_is_replaced_what_the_former_one_signed_is_due(worker):
    switch_on(worker)
    put(worker)
    successor = ca_sign.build_ca("kubernetes", throwaway.key("successor"), 10)
    worker.node.kubernetes("pki/ca.crt").write_bytes(CA.pem + successor.pem)
    assert examine(worker, "renew")["action"] == "keep"
    worker.node.kubernetes("pki/ca.crt").write_bytes(successor.pem + CA.pem)
    assert examine(worker, "renew")["reasons"] == ["a CA that is about to be removed has signed it"]


def test_what_the_user_gave_the_kubelet_is_left_and_said(worker):
    worker.config.write_text(worker.config.read_text() + "tlsCertFile: /etc/own.crt\n")
    verdict = examine(worker)
    assert (verdict["action"], verdict["reasons"]) == ("keep", ["its serving certificate is the user's own (/etc/own.crt)"])


def test_check_mode_tells_of_a_node_that_gets_its_credential_in_the_same_run(worker, monkeypatch):
    """Nobody can be asked with a credential that is not there yet; what is known without is said all the same."""

    def ask(check_mode=True, **more):
        options = dict(
            kubernetes_dir=str(worker.node.kubernetes("")).rstrip("/"),
            state_dir=worker.state,
            mode="bootstrap",
            kubelet_dir=str(worker.node.path("/var/lib/kubelet")),
            renew_below_days=90,
            force=False,
            host="w1",
            **more,
        )
        return serving_module.requested(SimpleNamespace(params=options, check_mode=check_mode))

    monkeypatch.setattr("socket.gethostname", lambda: "w1")
    switch_on(worker)
    put(worker, days=30, began=300)
    worker.current.unlink()
    verdict = ask(credential_due=True)
    assert verdict["changed"] and verdict["action"] == "reissue" and "are left" in verdict["reasons"][0]
    assert verdict["diff"]["after"]["subject"] == "CN=system:node:w1,O=system:nodes" and "sans" not in verdict["diff"]["after"]
    put(worker)
    assert not ask(credential_due=True)["changed"]
    for options in ({"credential_due": False}, {"credential_due": True, "check_mode": False}):
        with pytest.raises(PkiError, match="does not exist"):
            ask(**options)


def test_a_restart_that_a_killed_run_left_undone_is_done(worker):
    switch_on(worker)
    put(worker)
    journals.Journal(journals.KUBELET_RESTART, worker.state).save({"files": []})
    assert examine(worker)["action"] == "restart"


# --- from the request to the files -------------------------------------------------------------------------------------------


def test_a_request_is_made_signed_and_installed(worker, api):
    before = worker.config.read_bytes()
    name, answer = asked(worker, api)
    staged = Path(serving_certificate.staged_key_path(worker.state))
    assert stat.S_IMODE(staged.stat().st_mode) == 0o600
    request = csr_object.decode(api.csr(name))
    assert request.request.sans == SANS and request.request.extended_usages == ["server"]
    assert request.request.key_sha256 == answer["key"] == x509_read.private_key_digest(staged.read_bytes())
    assert request.expiration_seconds == 365 * 86400
    decided = decide(api, answer)
    assert decided["counts"]["approved_now"] == 1 and decided["changed"]
    certificate, key = serving_certificate.wait_for_certificate(worker.layout, api.node, name, SANS, 5, worker.state)
    installation = serving_certificate.ServingInstallation(worker.layout, certificate, key)
    backup = installation.apply(worker.state, str(worker.node.root / "backups"))
    link = worker.pki / "kubelet-server-current.pem"
    assert link.is_symlink() and stat.S_IMODE(link.stat().st_mode) == 0o600
    assert link.read_bytes() == certificate.pem + key.pem and not staged.exists()
    assert worker.config.read_bytes() == b"serverTLSBootstrap: true\n" + before and os.path.isdir(backup)
    assert serving_certificate.installed_certificate(worker.layout).sha256 == certificate.sha256
    assert journals.Journal(journals.KUBELET_RESTART, worker.state).load() is not None
    journals.Journal(journals.KUBELET_RESTART, worker.state).clear()
    assert examine(worker, below_days=0.1)["action"] == "keep"
    assert serving_certificate.ServingInstallation(worker.layout).changes == []
    assert not decide(api)["changed"]


def test_before_1_22_the_cluster_decides_how_long(worker, api):
    api.minor = 20
    name, answer = asked(worker, api)
    assert csr_object.decode(api.csr(name)).expiration_seconds is None
    assert decide(api, answer)["counts"]["approved_now"] == 1


def test_what_another_key_asks_for_is_denied_and_the_reason_is_in_the_request(worker, api):
    stale, _answer = asked(worker, api)
    name, answer = asked(worker, api)
    decided = decide(api, answer)
    assert (decided["counts"]["approved_now"], decided["counts"]["denied_now"]) == (1, 1)
    denied = csr_object.decode(api.csr(stale))
    assert denied.state == "denied" and "not the one that waits on w1" in denied.message
    with pytest.raises(PkiError, match=r"Denied \(.*not the one that waits"):
        serving_certificate.wait_for_certificate(worker.layout, api.node, stale, SANS, 5, worker.state)
    assert csr_object.decode(api.csr(name)).state == "issued"


def test_two_hosts_that_are_the_same_node_stop_everything(worker, api):
    _name, answer = asked(worker, api)
    with pytest.raises(PkiError, match="both say that they are the Node w1"):
        decide(api, answer, dict(answer, host="w2"))
    assert not any(method == "PUT" for method, _path in api.calls)


def test_an_answer_of_another_host_decides_nothing_about_a_nodes_request(worker, api):
    """w2 says that it is w1: w1's request is neither approved for w2's key nor denied because of it."""
    name, answer = asked(worker, api)
    hosts = {"hosts": {"w1": "10.0.0.5", "w2": "10.0.0.6"}}
    decided = decide(api, dict(answer, host="w2", key="of w2"), **hosts)
    assert (decided["counts"]["approved_now"], decided["counts"]["denied_now"], decided["counts"]["left"]) == (0, 0, 1)
    assert csr_object.decode(api.csr(name)).state == "pending"
    with pytest.raises(PkiError, match="two answers are from w1"):
        decide(api, answer, dict(answer, key="of w2"), **hosts)


def test_check_mode_decides_and_changes_nothing(worker, api):
    name, answer = asked(worker, api)
    decided = csr_review.serving_requests(api.client, dict(HOSTS, answers=[answer]), True)
    assert decided["counts"]["approved_now"] == 1 and csr_object.decode(api.csr(name)).state == "pending"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            lambda worker, api: Path(serving_certificate.staged_key_path(worker.state)).write_bytes(throwaway.key("other").pem),
            "not for the key that waits here",
        ),
        (
            lambda worker, api: worker.node.kubernetes("pki/ca.crt").write_bytes(
                ca_sign.build_ca("kubernetes", throwaway.key("impostor"), 10).pem
            ),
            "not signed by the cluster's CA",
        ),
    ],
)
def test_what_is_not_for_this_node_is_not_installed(worker, api, spoil, text):
    name, answer = asked(worker, api)
    decide(api, answer)
    spoil(worker, api)
    with pytest.raises(PkiError, match=text):
        serving_certificate.wait_for_certificate(worker.layout, api.node, name, SANS, 5, worker.state)


def test_fewer_names_than_asked_for_are_not_installed(worker, api):
    name, answer = asked(worker, api)
    decide(api, answer)
    with pytest.raises(PkiError, match="not what was asked for"):
        serving_certificate.wait_for_certificate(worker.layout, api.node, name, [*SANS, "DNS:more"], 5, worker.state)


def test_a_node_the_api_does_not_know_is_named(worker, api):
    del api.objects["/api/v1/nodes/w1"]
    with pytest.raises(PkiError, match="no Node named w1"):
        serving_certificate.own_sans(worker.layout, api.node)
    api.refuse[("GET", "/api/v1/nodes/w1")] = (401, "Unauthorized")
    with pytest.raises(PkiError, match=r"HTTP 401 \(Unauthorized\).*reissue_kubelets"):
        serving_certificate.own_sans(worker.layout, api.node)


# --- the API's objects -------------------------------------------------------------------------------------------------------

CONFIG = "# ours\napiVersion: kubelet.config.k8s.io/v1beta1\nstaticPodPath: /etc/kubernetes/manifests # here\n"


@pytest.mark.parametrize(
    "names",
    [
        ["kubelet-config"],
        ["kubelet-config-1.20"],
        ["kubelet-config-1.9", "kubelet-config-1.23"],
        ["kubelet-config-1.23", "kubelet-config"],
    ],
)
def test_the_config_map_is_switched_on_and_keeps_every_other_byte(api, names):
    for name in [*names, "kubelet-config-1.x", "other"]:
        api.put("/api/v1/namespaces/kube-system/configmaps/" + name, {"data": {"kubelet": CONFIG, "more": "x"}})
    assert kubelet_config_map.publish(api.client, check=True) == names[-1]
    assert not any(method == "PATCH" for method, _path in api.calls)
    assert kubelet_config_map.publish(api.client) == names[-1]
    data = api.objects["/api/v1/namespaces/kube-system/configmaps/" + names[-1]]["data"]
    assert data["more"] == "x" and data["kubelet"].replace("serverTLSBootstrap: true\n", "") == CONFIG
    assert yaml.safe_load(data["kubelet"])["serverTLSBootstrap"] is True
    assert kubelet_config_map.publish(api.client) is None
    assert sum(item["data"]["kubelet"] != CONFIG for path, item in api.objects.items() if "/configmaps/" in path) == 1


def test_a_cluster_without_that_config_map_needs_none(api):
    assert kubelet_config_map.publish(api.client) is None


def test_the_module_for_a_control_plane_node_needs_a_kubeconfig_alone(worker, api, tmp_path):
    path = tmp_path / "admin.conf"
    path.write_text(kubeconfig.build(api.url, CA.pem, "kubernetes-admin", b"-", b"-"))
    api.put("/api/v1/namespaces/kube-system/configmaps/kubelet-config", {"data": {"kubelet": CONFIG}})
    name, answer = asked(worker, api)

    def call(function, check_mode):
        return function(SimpleNamespace(params=dict(HOSTS, kubeconfig=str(path), answers=[answer]), check_mode=check_mode))

    for check_mode, state in ((True, "pending"), (False, "issued")):
        assert call(api_module.decided, check_mode)["counts"]["approved_now"] == 1
        assert csr_object.decode(api.csr(name)).state == state
        assert call(api_module.published, check_mode) == {"changed": True, "config_map": "kubelet-config"}
    assert call(api_module.published, False) == {"changed": False, "config_map": ""}
