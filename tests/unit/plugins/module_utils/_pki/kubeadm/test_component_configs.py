# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom components trust by files that their flags name: what status says of them between switch and complete."""

from __future__ import annotations

import base64
import os

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import component_configs, kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pending_restarts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import desired_state, stale_trust
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read, x509_sign

from tests.unit.support.rotating import Host
from tests.unit.support.throwaway import Cluster, key

KMS = {"resources": [{"resources": ["secrets"], "providers": [{"kms": {"name": "vault", "endpoint": "unix:///run/kms.sock"}}]}]}
ADMISSION = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration"}


class Site:
    """A control-plane node in the midst of a rotation of `ca`, and what its administrator has configured."""

    def __init__(self, host):
        self.host, self.node = host, host.node
        self.old = self.node.cluster.cas["ca"]
        self.new = x509_read.parse_certificates(self.node.kubernetes("pki.next/ca.crt").read_bytes())[0]

    def flag(self, flag, path, document=None):
        """Name a file by a flag of kube-apiserver, and write it."""
        manifest = self.node.kubernetes("manifests/kube-apiserver.yaml")
        manifest.write_text(manifest.read_text().replace("    image:", "    - %s=%s\n    image:" % (flag, path), 1))
        if document is not None:
            self.write(path, document)

    def write(self, path, document):
        self.node.write(path, document if isinstance(document, (str, bytes)) else yaml.safe_dump(document))

    def switched(self):
        known = {"ca": {"old": self.old.key_sha256, "new": self.new.key_sha256, "drop": []}}
        for level in (1, 2):
            self.host.edit(self.host.files(["ca"], level, known))

    def listed(self):
        return [
            (item["what"].split()[0], item["path"].replace(str(self.node.root), ""), item["why"])
            for item in stale_trust.find(self.host.tree())
            if item["what"].startswith("--")
        ]

    def config(self, ca, client=None, **server):
        trust = server or {"certificate-authority-data": base64.b64encode(ca.pem).decode()}
        cluster = dict(trust, server="https://x")
        user = {"client-certificate-data": base64.b64encode(client.pem).decode()} if client else {}
        return {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        }


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(pending_restarts, "started", lambda component: -1)
    host = Host(tmp_path, Cluster(), "cp1")
    host.staged(["ca"], {})
    return Site(host)


def files_of(site, ca):
    """Give {flag: [(path, document)]}, each of which makes kube-apiserver trust a CA."""
    hook, pem = site.config(ca), ca.pem
    conf = "/etc/kubernetes/conf/"
    return {
        "--oidc-ca-file": [(conf + "oidc.crt", pem)],
        "--peer-ca-file": [(conf + "peer.crt", pem)],
        "--audit-webhook-config-file": [(conf + "audit", hook)],
        "--authentication-token-webhook-config-file": [(conf + "authn", hook)],
        "--authorization-webhook-config-file": [
            (conf + "authz", site.config(ca, **{"certificate-authority": "authz.crt"})),
            (conf + "authz.crt", pem),
        ],
        "--authorization-config": [
            (
                conf + "authorization",
                {
                    "authorizers": [
                        {"type": "Node"},
                        {
                            "type": "Webhook",
                            "webhook": {"connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": conf + "inner"}},
                        },
                    ]
                },
            ),
            (conf + "inner", hook),
        ],
        "--authentication-config": [(conf + "authentication", {"jwt": [{"issuer": {"certificateAuthority": pem.decode()}}]})],
        "--admission-control-config-file": [
            (conf + "admission", dict(ADMISSION, plugins=[{"name": "ImagePolicyWebhook", "path": "image.yaml"}])),
            (conf + "image.yaml", {"imagePolicy": {"kubeConfigFile": conf + "image.conf"}}),
            (conf + "image.conf", hook),
        ],
        "--egress-selector-config-file": [
            (
                conf + "egress",
                {
                    "egressSelections": [
                        {
                            "name": "cluster",
                            "connection": {
                                "proxyProtocol": "HTTPConnect",
                                "transport": {"tcp": {"url": "https://x", "tlsConfig": {"caBundle": conf + "k.crt"}}},
                            },
                        }
                    ]
                },
            ),
            (conf + "k.crt", pem),
        ],
    }


FLAGS = [
    "--oidc-ca-file",
    "--peer-ca-file",
    "--audit-webhook-config-file",
    "--authentication-token-webhook-config-file",
    "--authorization-webhook-config-file",
    "--authorization-config",
    "--authentication-config",
    "--admission-control-config-file",
    "--egress-selector-config-file",
]


@pytest.mark.parametrize("flag", FLAGS)
def test_what_verifies_with_the_ca_that_goes_is_listed_before_it_does(site, flag):
    documents = files_of(site, site.old)[flag]
    site.flag(flag, documents[0][0])
    for path, document in documents:
        site.write(path, document)
    assert site.listed() == []
    site.switched()
    ((name, path, why),) = site.listed()
    assert name == flag and path.startswith("/etc/kubernetes/conf/") and why.startswith("does not trust the CA that signs")
    for path, document in files_of(site, site.new)[flag]:
        site.write(path, document)
    assert site.listed() == []


@pytest.mark.parametrize("flag", FLAGS)
def test_another_ca_is_no_matter_of_the_rotation(site, flag):
    documents = files_of(site, ca_sign.build_ca("site", key("site"), 10))[flag]
    site.flag(flag, documents[0][0])
    for path, document in documents:
        site.write(path, document)
    site.switched()
    assert site.listed() == []


@pytest.mark.parametrize("flag", [*FLAGS, "--encryption-provider-config"])
@pytest.mark.parametrize(
    "document",
    [
        None,
        b"\xff",
        "[]",
        "a: [",
        {"jwt": 7, "plugins": [7], "authorizers": {}, "egressSelections": [[]]},
        {"users": [{"user": {"client-certificate-data": 7}}]},
        {"users": [{"user": {"client-certificate": "a\0b"}}]},
        b" " * (1 << 20),
    ],
)
def test_what_cannot_be_read_is_a_line_of_status_and_no_crash(site, flag, document):
    site.flag(flag, "/etc/kubernetes/conf/x", document)
    if not isinstance(document, dict):
        ((name, path, why),) = site.listed()
        assert (name, path) == (flag, "/etc/kubernetes/conf/x") and why.startswith("cannot be read")
    else:
        assert all(why.startswith("cannot be read") for _name, _path, why in site.listed())


def test_a_link_in_a_directory_that_others_can_write_is_not_followed(site):
    site.flag("--oidc-ca-file", "/etc/kubernetes/open/oidc.crt")
    folder = site.node.kubernetes("open")
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "oidc.crt").symlink_to(site.node.kubernetes("pki/ca.crt"))
    ((_name, _path, why),) = site.listed()
    assert "symbolic link" in why


def test_a_path_of_the_container_is_looked_up_through_its_mounts(site):
    site.flag("--oidc-ca-file", "/in/oidc.crt")
    manifest = site.node.kubernetes("manifests/kube-apiserver.yaml")
    manifest.write_text(
        manifest.read_text() + "    volumeMounts: [{name: v, mountPath: /in}]\n"
        "  volumes: [{name: v, hostPath: {path: /etc/site}}]\n"
    )
    site.node.write("/etc/site/oidc.crt", site.old.pem)
    (trust,) = component_configs.find(site.host.tree().layout)
    assert trust.path == str(site.node.path("/etc/site/oidc.crt")) and trust.problem is None and trust.trusted


def test_a_client_certificate_of_the_ca_that_goes_is_listed(site):
    client = x509_sign.sign_leaf(
        x509_sign.Profile("hook", (), (), ("client",)), key("hook"), site.old, site.node.cluster.keys["ca"], 10
    )
    site.flag(
        "--audit-webhook-config-file", "/etc/kubernetes/conf/audit", site.config(ca_sign.build_ca("x", key("x"), 1), client)
    )
    assert site.listed() == []
    site.switched()
    assert [why.split(" is signed")[0] for _flag, _path, why in site.listed()] == ["its client certificate"]


def test_a_kms_plugin_is_named_while_two_cas_are_known(site):
    site.flag("--encryption-provider-config", "/etc/kubernetes/conf/encryption", KMS)
    site.switched()
    ((flag, _path, why),) = site.listed()
    assert flag == "--encryption-provider-config" and "KMS plugin vault (unix:///run/kms.sock)" in why


@pytest.mark.parametrize(
    "flag, document",
    [("--oidc-ca-file", None), ("--audit-webhook-config-file", {"certificate-authority": "/etc/kubernetes/pki/ca.crt"})],
)
def test_who_verifies_with_ca_crt_itself_is_restarted_when_that_changes(site, flag, document):
    """It is read once, when kube-apiserver starts."""

    def restarted():
        return desired_state.declare(site.host.tree(), ["ca"], 1, state_dir=site.host.state, known={}).restarts

    assert "kube-apiserver" not in restarted() and not site.host.facts()["verifies_kubelets"]
    path = "/etc/kubernetes/conf/x" if document else "/etc/kubernetes/pki/ca.crt"
    site.flag(flag, path, site.config(site.old, **document) if document else None)
    assert "kube-apiserver" in restarted() and site.host.facts()["verifies_kubelets"]
    site.switched()
    assert site.listed() == []


def test_kubeadms_own_kubeconfigs_are_not_listed_twice(site):
    site.node.manifest(
        "kube-scheduler",
        ["--kubeconfig=/etc/kubernetes/scheduler.conf", "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf"],
    )
    old = site.node.kubernetes("scheduler.conf").read_bytes()
    site.switched()
    site.node.kubernetes("scheduler.conf").write_bytes(old)
    assert site.listed() == []


def test_a_users_kubeconfig_behind_a_link_is_said_not_to_be_readable(site):
    home = site.node.path("/home/alice/.kube")
    home.mkdir(parents=True)
    (home / "config").symlink_to(site.node.kubernetes("admin.conf"))
    home.chmod(0o777)
    found = {item["path"]: item["why"] for item in stale_trust.find(site.host.tree())}
    assert found[str(home / "config")] == "cannot be read"
    os.unlink(home / "config")
    (home / "config").write_bytes(site.node.kubernetes("admin.conf").read_bytes())
    assert kubeconfig.Kubeconfig((home / "config").read_bytes(), "x").ca_data
    assert str(home / "config") not in {item["path"] for item in stale_trust.find(site.host.tree())}
