# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which client certificate of a kubelet is due, and why."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    client_certificate,
    client_installation,
    kubelet_files,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read, x509_sign

from tests.unit.support import throwaway
from tests.unit.support.worker import Worker, embed_credential, obsolete_bootstrap


@pytest.fixture
def cluster():
    return throwaway.Cluster()


@pytest.fixture
def worker(tmp_path, cluster):
    found = Worker(tmp_path, cluster)
    # kubelet.conf of a joined worker names nobody ("default-auth"): the name comes from its certificate.
    assert found.layout.node_name == "w1"
    return found


def test_a_good_credential_is_kept(worker):
    verdict = worker.examine()
    assert (verdict["action"], verdict["reasons"], verdict["node"]) == ("keep", [], "w1")
    assert verdict["before"]["subject"] == "CN=system:node:w1,O=system:nodes"


def test_force_and_fewer_days_than_asked_for_are_reasons(worker):
    assert worker.examine(force=True)["reasons"] == ["asked for"]
    worker.put(days=60, began=300)
    assert worker.examine(below_days=59)["action"] == "keep"
    assert worker.examine(below_days=61)["reasons"] == ["60.0 days of its 360 are left"]


def test_a_short_life_is_due_when_less_than_a_third_is_left(worker):
    worker.put(days=21, began=9)
    assert worker.examine()["action"] == "keep"
    worker.put(days=9, began=21)
    assert worker.examine()["action"] == "reissue"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"days": -0.5}, "expired on"),
        ({"began": -3}, "not valid before"),
        ({"name": "w2"}, "made out to"),
        ({"organizations": ["system:masters"]}, "made out to"),
        ({"organizations": ["system:nodes", "system:masters"]}, "made out to"),
        ({"ca": "etcd-ca"}, "no CA of this node"),
    ],
)
def test_a_wrong_certificate_is_due(worker, monkeypatch, options, text):
    worker.put(**options)
    # The name is the certificate's only where nothing else says it.
    monkeypatch.setattr(layouts, "_node_name", lambda layout: "w1")
    verdict = worker.examine()
    assert verdict["action"] == "reissue"
    assert text in verdict["reasons"][0]


def test_a_ca_of_the_same_name_with_another_key_is_no_signer(worker):
    worker.put(cluster=throwaway.Cluster(label="impostor"))
    assert "no CA of this node" in worker.examine()["reasons"][0]


def _dated(worker):
    worker.conf.write_text(worker.conf.read_text().replace("kubelet-client-current", "kubelet-client-2026-11-21-19-00-00"))


def _plain_file(worker):
    data = worker.current.read_bytes()
    worker.current.unlink()
    worker.current.write_bytes(data)
    worker.current.chmod(0o600)


def _broken_link(worker):
    Path(os.path.realpath(worker.current)).unlink()


def _no_link(worker):
    worker.current.unlink()


def _no_conf(worker):
    worker.conf.unlink()


def _damaged_conf(worker):
    worker.conf.write_text("clusters: [")


def _no_key(worker):
    target = Path(os.path.realpath(worker.current))
    target.write_bytes(x509_read.parse_certificate(target.read_bytes()).pem)


def _foreign_key(worker):
    target = Path(os.path.realpath(worker.current))
    target.write_bytes(x509_read.parse_certificate(target.read_bytes()).pem + throwaway.key("foreign").pem)


def _open_key(worker):
    Path(os.path.realpath(worker.current)).chmod(0o644)


def _dead_ca(worker):
    key = throwaway.key("dead")
    dead = ca_sign.build_ca("kubernetes", key, 1, start=x509_read.now() - x509_sign.datetime.timedelta(days=2))
    config = kubeconfig.Kubeconfig(worker.conf.read_bytes(), str(worker.conf))
    worker.conf.write_bytes(bytes(config.with_ca(dead.pem)))


DAMAGES = [
    embed_credential,
    _dated,
    _plain_file,
    _broken_link,
    _no_link,
    _no_conf,
    _damaged_conf,
    _no_key,
    _foreign_key,
    _open_key,
    _dead_ca,
    obsolete_bootstrap,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_seen_and_healed_by_one_installation(worker, damage, monkeypatch):
    monkeypatch.setattr(layouts, "_node_name", lambda layout: "w1")  # without a certificate it would be this machine's
    damage(worker)
    assert worker.examine()["action"] == "reissue"
    certificate, key = worker.issue()
    ca = worker.cluster.cas["ca"].pem
    installation = client_installation.ClientInstallation(worker.layout, certificate, key, None, "https://api.example:6443", ca)
    worker.apply(installation)

    assert worker.examine()["reasons"] == ["a run that did not end has left the kubelet's restart undone"]
    config = kubelet_files.read_config(worker.layout)
    credential = kubelet_client.Credential(config)
    assert credential.problem is None
    assert credential.certificate.sha256 == certificate.sha256
    assert (config.certificate_file, config.key_file) == (str(worker.current), str(worker.current))
    assert config.certificate_data is None and config.key_data is None
    assert config.ca_data == ca and config.server == "https://api.example:6443"
    assert worker.current.is_symlink()
    target = Path(os.readlink(worker.current))
    assert target.is_absolute() and re.fullmatch(r"kubelet-client-\d{4}(-\d\d){5}\.pem", target.name)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert stat.S_IMODE(worker.conf.stat().st_mode) == 0o600


def test_a_host_without_a_kubelet_is_told_so(tmp_path):
    layout = layouts.find_layout(str(tmp_path / "etc"), str(tmp_path / "kubelet"))
    with pytest.raises(PkiError, match="no kubelet is set up here"):
        client_certificate.examine(layout)
