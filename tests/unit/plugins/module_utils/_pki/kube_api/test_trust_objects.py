# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API objects that carry the trust, against an API that is a dictionary."""

from __future__ import annotations

import base64

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubeadm_config, trust_objects, workloads
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    ca_sign,
    private_keys,
    service_account_token,
    x509_read,
)

from tests.unit.support.throwaway import key
from tests.unit.support.tokens_of import SECRET, token_of
from tests.unit.support.trust_api import ALONE, BOTH, NEW, OLD, Api

EXTENSION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"


def config_map(namespace, **data):
    return {"metadata": {"namespace": namespace, "name": "x"}, "data": data}


def test_cluster_info_trusts_the_bundle_once():
    path = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
    text = kubeconfig.build("https://api:6443", OLD.pem, "", b"", b"")
    api = Api({path: config_map("kube-public", kubeconfig=text, **{"jws-kubeconfig-abc": "x"})})
    assert trust_objects.publish_cluster_info(api, BOTH, check=True) and api.writes == []
    assert trust_objects.publish_cluster_info(api, BOTH)
    after = yaml.safe_load(api.objects[path]["data"]["kubeconfig"])
    assert base64.b64decode(after["clusters"][0]["cluster"]["certificate-authority-data"]) == BOTH
    assert not trust_objects.publish_cluster_info(api, BOTH)
    assert not trust_objects.publish_cluster_info(Api({}), BOTH)


@pytest.mark.parametrize("name", ["", "mine"])
def test_another_entry_of_cluster_info_stays(name):
    """Joining nodes take the entry without a name, else that of the current context."""
    path = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
    data = yaml.safe_load(kubeconfig.build("https://api:6443", OLD.pem, "", b"", b"", name))
    other = {"name": "other", "cluster": {"server": "https://other:6443", "certificate-authority-data": "T1RIRVI="}}
    data["clusters"].insert(0, other)
    api = Api({path: config_map("kube-public", kubeconfig=yaml.safe_dump(data))})
    assert trust_objects.publish_cluster_info(api, BOTH)
    after = yaml.safe_load(api.objects[path]["data"]["kubeconfig"])["clusters"]
    assert after[0] == other and base64.b64decode(after[1]["cluster"]["certificate-authority-data"]) == BOTH
    data["clusters"], data["current-context"] = [other, dict(other, name="third")], "gone"
    api = Api({path: config_map("kube-public", kubeconfig=yaml.safe_dump(data))})
    with pytest.raises(PkiError, match="cluster-info: no cluster entry"):
        trust_objects.publish_cluster_info(api, BOTH)


V3 = """apiServer:
  extraArgs:
    authorization-mode: Node,RBAC
apiVersion: kubeadm.k8s.io/v1beta3
controllerManager: {}
kind: ClusterConfiguration
"""
V3_MORE = V3.replace("controllerManager: {}", "controllerManager:\n  extraArgs:\n    bind-address: 0.0.0.0")
V4 = V3.replace("v1beta3", "v1beta4").replace("    authorization-mode: Node,RBAC", '  - name: v\n    value: "2"')
V4_MORE = V4.replace("controllerManager: {}", "controllerManager:\n  extraArgs:\n  - name: bind-address\n    value: 0.0.0.0")


OTHER = "controllerManager:\n  timeoutForControlPlane: 4m0s"


FLAG, PATH = "cluster-signing-cert-file", "/etc/kubernetes/pki/ca-signing.crt"


@pytest.mark.parametrize("section", ["controllerManager", "apiServer"])
@pytest.mark.parametrize(
    "text",
    [V3, V3_MORE, V4, V4_MORE, V3.replace("controllerManager: {}", OTHER), V4.replace("controllerManager: {}", OTHER)],
    ids=["map", "map with another", "list", "list with another", "map beside", "list beside"],
)
def test_kubeadm_config_gets_a_flag_and_loses_it_again(text, section):
    there = kubeadm_config.with_extra_arg(text, section, FLAG, PATH)
    before, data = yaml.safe_load(text), yaml.safe_load(there)
    extra = data[section]["extraArgs"]
    if isinstance(extra, list):
        extra = {item["name"]: item["value"] for item in extra}
    assert extra.pop(FLAG) == PATH
    assert {key: value for key, value in data.items() if key != section} == {
        key: value for key, value in before.items() if key != section
    }
    assert kubeadm_config.with_extra_arg(there, section, FLAG, PATH) == there
    assert kubeadm_config.with_extra_arg(there, section, FLAG, None) == text
    assert kubeadm_config.with_extra_arg(text, section, FLAG, None) == text


def test_braces_on_a_line_of_their_own_are_no_obstacle():
    text = V3.replace("controllerManager: {}", "controllerManager:\n    {}")
    there = kubeadm_config.with_extra_arg(text, "controllerManager", FLAG, "/x")
    assert yaml.safe_load(there)["controllerManager"] == {"extraArgs": {"cluster-signing-cert-file": "/x"}}
    assert kubeadm_config.with_extra_arg(there, "controllerManager", FLAG, None) == V3


def test_an_argument_in_braces_is_taken_out_too():
    text = V3.replace("controllerManager: {}", 'controllerManager: {extraArgs: {"cluster-signing-cert-file": "/x"}}')
    assert kubeadm_config.with_extra_arg(text, "controllerManager", FLAG, None) == V3
    more = V3.replace("controllerManager: {}", 'controllerManager: {extraArgs: {"cluster-signing-cert-file": "/x", "v": "2"}}')
    after = yaml.safe_load(kubeadm_config.with_extra_arg(more, "controllerManager", FLAG, None))
    assert after["controllerManager"] == {"extraArgs": {"v": "2"}}


KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"


def signing_file_of(text):
    extra = (yaml.safe_load(text).get("controllerManager") or {}).get("extraArgs") or {}
    return {item["name"]: item["value"] for item in extra}.get(FLAG) if isinstance(extra, list) else extra.get(FLAG)


@pytest.mark.parametrize("text", [V3, V3_MORE, V4, V4_MORE])
@pytest.mark.parametrize(
    "present, named, after",
    [
        (None, True, PATH),
        (PATH, True, PATH),
        ("/etc/kubernetes/pki/ca.crt", True, PATH),
        (PATH, False, None),
        (None, False, None),
        # An intermediate of the user's own signs: neither while two are trusted nor afterwards is it ours to take away.
        ("/etc/kubernetes/pki/intermediate.crt", False, "/etc/kubernetes/pki/intermediate.crt"),
        ("/etc/kubernetes/pki/intermediate.crt", True, "/etc/kubernetes/pki/intermediate.crt"),
        ("/etc/kubernetes/pki/ca.crt", False, "/etc/kubernetes/pki/ca.crt"),
    ],
)
def test_kubeadm_config_says_where_the_signing_file_is_and_keeps_the_users_own(text, present, named, after):
    text = kubeadm_config.with_extra_arg(text, "controllerManager", FLAG, present) if present else text
    api = Api({KUBEADM: config_map("kube-system", ClusterConfiguration=text)})
    assert kubeadm_config.publish_signing(api, PATH, "/etc/kubernetes/pki/ca.crt", named, check=True) == (after != present)
    assert api.writes == []
    assert kubeadm_config.publish_signing(api, PATH, "/etc/kubernetes/pki/ca.crt", named) == (after != present)
    assert signing_file_of(api.objects[KUBEADM]["data"]["ClusterConfiguration"]) == after
    assert not kubeadm_config.publish_signing(Api({}), PATH, "/etc/kubernetes/pki/ca.crt", named)


def test_namespaces_that_do_not_follow_are_named():
    api = Api(
        {
            "/api/v1/configmaps": {
                "items": [
                    {"metadata": {"namespace": "a"}, "data": {"ca.crt": BOTH.decode()}},
                    {"metadata": {"namespace": "b"}, "data": {"ca.crt": OLD.pem.decode()}},
                ]
            }
        }
    )
    assert trust_objects.lagging_roots(api, BOTH) == ["b"]
    with pytest.raises(PkiError, match="b/kube-root-ca.crt"):
        trust_objects.wait_followers(api, BOTH, 0)
    api.objects["/api/v1/configmaps"]["items"].pop()
    assert trust_objects.wait_followers(api, BOTH, 0) >= 0


def extension(client, header):
    return config_map("kube-system", **{"client-ca-file": client.decode(), "requestheader-client-ca-file": header.decode()})


def test_the_extension_map_loses_only_what_it_trusts_too_much():
    api = Api({EXTENSION: extension(BOTH, BOTH)})
    assert not trust_objects.wait_extension(api, ALONE, ALONE, exact=False, seconds=0)
    assert trust_objects.wait_extension(api, ALONE, BOTH, exact=True, seconds=2, check=True) and api.writes == []
    assert trust_objects.wait_extension(api, ALONE, BOTH, exact=True, seconds=2, settled=0.1)
    assert api.writes == [("PATCH", EXTENSION, {"data": {"client-ca-file": ALONE.decode()}})]
    assert not trust_objects.wait_extension(api, ALONE, BOTH, exact=True, seconds=2)
    assert len(api.writes) == 1


def test_what_a_lagging_apiserver_puts_back_is_taken_out_again():
    lag = {"requestheader-client-ca-file": BOTH.decode()}
    api = Api({EXTENSION: extension(ALONE, BOTH)}, {EXTENSION: [lag, lag]})
    assert trust_objects.wait_extension(api, ALONE, ALONE, exact=True, seconds=5, settled=0.1)
    assert len(api.writes) == 3
    assert trust_objects.extension_trust(api) == (trust_objects.digests(ALONE), trust_objects.digests(ALONE))


def test_an_apiserver_that_never_follows_is_a_failure():
    lag = {"client-ca-file": BOTH.decode()}
    api = Api({EXTENSION: extension(BOTH, ALONE)}, {EXTENSION: [lag] * 1000})
    with pytest.raises(PkiError, match="former authority"):
        trust_objects.wait_extension(api, ALONE, ALONE, exact=True, seconds=0.5, settled=0.1)


def test_workloads_are_restarted_once_for_each_trust():
    path = "/apis/apps/v1/namespaces/kube-system/deployments"
    item = {
        "metadata": {"name": "coredns", "generation": 1},
        "spec": {"template": {"metadata": {}}, "replicas": 1},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1},
    }
    api = Api({path: {"items": [item]}})
    name = trust_objects.trust_name(BOTH)
    assert name == trust_objects.trust_name(x509_read.bundle([NEW, OLD])) != trust_objects.trust_name(ALONE)
    assert workloads.restart_workloads(api, ["kube-system"], name, first=False) == ([], [])
    assert workloads.restart_workloads(api, ["kube-system"], name, first=True) == (["deployments/kube-system/coredns"], [])
    item["spec"]["template"]["metadata"]["annotations"] = {workloads.ANNOTATION: name}
    assert workloads.restart_workloads(api, ["kube-system"], name, first=True) == ([], [])
    later = trust_objects.trust_name(ALONE)
    assert workloads.restart_workloads(api, ["kube-system"], later, first=False) == (["deployments/kube-system/coredns"], [])
    workloads.wait_workloads(api, ["kube-system"], 0)
    item["metadata"]["generation"] = 2
    with pytest.raises(PkiError, match="coredns"):
        workloads.wait_workloads(api, ["kube-system"], 0)


@pytest.mark.parametrize(
    "kind, spec, why",
    [
        ("deployments", {"paused": True, "replicas": 2}, "paused"),
        ("daemonsets", {"updateStrategy": {"type": "OnDelete"}}, "OnDelete"),
        ("statefulsets", {"updateStrategy": {"type": "OnDelete"}, "replicas": 2}, "OnDelete"),
        (
            "statefulsets",
            {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}, "replicas": 2},
            "partition 1",
        ),
    ],
)
def test_what_replaces_no_pod_by_itself_is_left_alone_and_named(kind, spec, why):
    """Its rollout would never end, and whoever set that up has a reason."""
    item = {
        "metadata": {"name": "store", "generation": 2},
        "spec": dict(spec, template={}),
        "status": {
            "observedGeneration": 2,
            "updatedReplicas": 0,
            "availableReplicas": 2,
            "desiredNumberScheduled": 2,
            "updatedNumberScheduled": 0,
            "numberAvailable": 2,
        },
    }
    api = Api({"/apis/apps/v1/namespaces/kube-system/" + kind: {"items": [item]}})
    named = ["%s/kube-system/store (%s)" % (kind, why)]
    assert workloads.restart_workloads(api, ["kube-system"], "new", first=True) == ([], named)
    assert workloads.restart_workloads(api, ["kube-system"], "new", first=False) == ([], [])
    assert api.writes == []
    workloads.wait_workloads(api, ["kube-system"], 0)


@pytest.mark.parametrize(
    "kind, spec",
    [
        ("deployments", {"paused": False}),
        ("daemonsets", {"updateStrategy": {"type": "RollingUpdate"}}),
        ("daemonsets", {}),
        ("statefulsets", {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}),
        ("statefulsets", {}),
    ],
)
def test_what_rolls_out_by_itself_is_restarted_and_waited_for(kind, spec):
    item = {
        "metadata": {"name": "store", "generation": 2},
        "spec": dict(spec, template={}, replicas=1),
        "status": {"observedGeneration": 2, "desiredNumberScheduled": 1},
    }
    api = Api({"/apis/apps/v1/namespaces/kube-system/" + kind: {"items": [item]}})
    assert workloads.restart_workloads(api, ["kube-system"], "new", first=True) == (["%s/kube-system/store" % kind], [])
    assert len(api.writes) == 1
    with pytest.raises(PkiError, match="%s/kube-system/store: has not gone on rolling out" % kind):
        workloads.wait_workloads(api, ["kube-system"], 0)


class Rollout(Api):
    """A DaemonSet that replaces one of its pods between any two looks, up to a count."""

    def __init__(self, nodes, until):
        self.nodes, self.until, self.looks = nodes, until, -1
        super().__init__({})

    def list(self, path, *_arguments, **_options):
        if not path.endswith("daemonsets"):
            return []
        self.looks += 1
        updated = min(self.looks, self.until)
        return [
            {
                "metadata": {"name": "kube-proxy", "generation": 2},
                "spec": {},
                "status": {
                    "observedGeneration": 2,
                    "desiredNumberScheduled": self.nodes,
                    "updatedNumberScheduled": updated,
                    # The last one comes and goes: it crashes.
                    "numberAvailable": self.nodes if updated == self.nodes else self.nodes - self.looks % 2,
                },
            }
        ]


def test_a_rollout_may_take_as_long_as_it_goes_on(monkeypatch):
    """kube-proxy of a hundred nodes takes longer than any fixed deadline: one node after another."""
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(trust_objects.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(trust_objects.time, "sleep", lambda _seconds: None)
    workloads.wait_workloads(Rollout(100, until=100), ["kube-system"], 25)
    assert next(clock) > 1000
    with pytest.raises(PkiError, match="daemonsets/kube-system/kube-proxy: has not gone on rolling out for 25 s"):
        workloads.wait_workloads(Rollout(100, until=40), ["kube-system"], 25)


ACCOUNTS = "/api/v1/serviceaccounts"
ACCOUNT = {"items": [{"metadata": {"namespace": "web", "name": "web", "uid": "a0b1"}}]}


def token_secret(token, **metadata):
    return {"metadata": dict(SECRET["metadata"], **metadata), "data": {"token": base64.b64encode(token).decode()}}


def test_token_secrets_of_a_former_key_are_signed_again_without_a_moment_in_which_there_is_no_token():
    """A kubelet that looked in between took the file away from its pods for 19 s (test_rotation, 2026-11-23)."""
    former, signer = key("former"), key("signer")
    api = Api(
        {
            "/api/v1/secrets": {
                "items": [
                    token_secret(token_of(former)),
                    token_secret(token_of(signer), name="present"),
                    {"metadata": {}, "data": {}},
                ]
            },
            ACCOUNTS: ACCOUNT,
        }
    )
    assert trust_objects.renew_tokens(api, signer, check=True) == ["web/web-token-x2x4z"] and api.writes == []
    assert trust_objects.renew_tokens(api, signer) == ["web/web-token-x2x4z"]
    [(method, path, body)] = api.writes
    assert (method, path, list(body["data"])) == ("PATCH", "/api/v1/namespaces/web/secrets/web-token-x2x4z", ["token"])
    assert service_account_token.signing_key_digest(base64.b64decode(body["data"]["token"])) == signer.key_sha256


@pytest.mark.parametrize(
    "account", [None, {"namespace": "web", "name": "web", "uid": "another"}, {"namespace": "shop", "name": "web", "uid": "a0b1"}]
)
def test_nothing_is_signed_for_an_account_that_is_not_there(account):
    api = Api(
        {
            "/api/v1/secrets": {"items": [token_secret(token_of(key("former")))]},
            ACCOUNTS: {"items": [{"metadata": account}] if account else []},
        }
    )
    trust_objects.renew_tokens(api, key("signer"))
    assert api.writes == [("PATCH", "/api/v1/namespaces/web/secrets/web-token-x2x4z", {"data": {"token": None}})]


def test_a_token_that_claims_something_else_is_left_to_kube_controller_manager():
    api = Api({"/api/v1/secrets": {"items": [token_secret(token_of(key("former")), name="copied")]}, ACCOUNTS: ACCOUNT})
    assert trust_objects.renew_tokens(api, key("signer")) == ["web/copied"]
    assert api.writes == [("PATCH", "/api/v1/namespaces/web/secrets/copied", {"data": {"token": None}})]


def test_a_certificate_renewed_with_the_same_key_is_another_one_only_when_certificates_are_compared():
    key = private_keys.generate_key("ecdsa-p256")
    old = ca_sign.build_ca("kubernetes", key, 1)
    new = ca_sign.renew_ca(old, key, 100)
    assert trust_objects.digests(old.pem) == trust_objects.digests(new.pem)
    assert trust_objects.certificates_in(old.pem) == {old.sha256} != trust_objects.certificates_in(new.pem)
    assert trust_objects.certificates_in("no PEM") == set()
    assert trust_objects.trust_name(old.pem) == trust_objects.trust_name(new.pem)
    of = trust_objects.certificates_in
    assert trust_objects.trust_name(old.pem, of) != trust_objects.trust_name(new.pem, of)


@pytest.mark.parametrize(
    "head",
    [
        "controllerManager:\n  extraArgs: # a comment\n",
        "controllerManager: # a comment\n  extraArgs:   \n  # another\n",
        '"controllerManager":\n  "extraArgs":\n',
        "controllerManager:\n  extraArgs: !!seq\n",
        "controllerManager:\n  extraArgs:\n\n",
    ],
)
def test_a_list_of_arguments_gets_another_however_its_line_is_written(head):
    text = "apiVersion: kubeadm.k8s.io/v1beta4\n%s  - name: bind-address\n    value: 0.0.0.0\n" % head
    there = kubeadm_config.with_extra_arg(text, "controllerManager", FLAG, PATH)
    assert yaml.safe_load(there)["controllerManager"]["extraArgs"] == [
        {"name": FLAG, "value": PATH},
        {"name": "bind-address", "value": "0.0.0.0"},
    ]
    assert len(there.splitlines()) == len(text.splitlines()) + 2 and there.count("# a comment") == text.count("# a comment")


def test_a_list_in_one_line_gets_another_argument():
    text = "apiVersion: kubeadm.k8s.io/v1beta4\ncontrollerManager: {extraArgs: [{name: a, value: b}]} # c\n"
    there = kubeadm_config.with_extra_arg(text, "controllerManager", FLAG, PATH)
    assert yaml.safe_load(there)["controllerManager"]["extraArgs"][0] == {"name": FLAG, "value": PATH} and there.endswith("# c\n")


@pytest.mark.parametrize("section", ["x", "[a]", "{extraArgs: x}", "{extraArgs: 5}"])
def test_a_section_that_kubeadm_would_not_read_is_named(section):
    text = "apiVersion: v1beta4\ncontrollerManager: %s\n" % section
    for value in (PATH, None):
        with pytest.raises(PkiError, match="kubeadm-config"):
            kubeadm_config.with_extra_arg(text, "controllerManager", FLAG, value)


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
def test_published_bundles_are_waited_for(version):
    path = "/apis/certificates.k8s.io/%s/clustertrustbundles" % version

    def item(pem, name, signer="kubernetes.io/kube-apiserver-serving"):
        return {"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": pem.decode()}}

    site = ca_sign.build_ca("site", key("site"), 10)
    others = [item(OLD.pem, "of another signer", "example.com/x"), item(site.pem, "site")]
    api = Api({path: {"items": [item(OLD.pem, "old"), *others]}})
    assert trust_objects.lagging_bundles(api, BOTH) == ["old"]
    with pytest.raises(PkiError, match="ClusterTrustBundle old: 0 namespaces, 0 token secrets and 1 ClusterTrustBundles"):
        trust_objects.wait_followers(api, BOTH, 0)
    api.objects[path]["items"][0] = item(BOTH, "new")
    assert trust_objects.wait_followers(api, BOTH, 0) < 5
    assert trust_objects.lagging_bundles(api, ALONE) == ["new"], "the old CA is in it still"


def test_a_cluster_without_the_api_has_no_published_bundle():
    assert trust_objects.published_bundles(Api({})) == []
