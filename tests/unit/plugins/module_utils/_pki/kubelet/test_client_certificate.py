# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's credential: what is judged due, what is signed and what is refused, what an installation leaves on the disk."""

from __future__ import annotations

import base64
import errno
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic, backups, transactions
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client, node_identity
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    client_certificate,
    kubelet_files,
    node_binding,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import csr_read, private_keys, x509_read, x509_sign
from cryptography import x509 as library
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import faults, throwaway
from tests.unit.support.worker import Said, Worker

POINTS = 400


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


def _embed(worker):
    config = kubeconfig.Kubeconfig(worker.conf.read_bytes(), str(worker.conf))
    pair = kubelet_client.Credential(config)
    worker.conf.write_bytes(bytes(config.with_client(pair.certificate.pem, throwaway.key("kubelet-clientw1").pem)))


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
    dead = x509_sign.build_ca("kubernetes", key, 1, start=x509_read.now() - x509_sign.datetime.timedelta(days=2))
    config = kubeconfig.Kubeconfig(worker.conf.read_bytes(), str(worker.conf))
    worker.conf.write_bytes(bytes(config.with_ca(dead.pem)))


def _dead_bootstrap(worker):
    gone = throwaway.Cluster(label="gone").cas["ca"].pem
    text = kubeconfig.build("https://api.example:6443", gone, "tls-bootstrap", b"X", b"Y")
    worker.node.write("/etc/kubernetes/bootstrap-kubelet.conf", text)


DAMAGES = [
    _embed,
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
    _dead_bootstrap,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_seen_and_healed_by_one_installation(worker, damage, monkeypatch):
    monkeypatch.setattr(layouts, "_node_name", lambda layout: "w1")  # without a certificate it would be this machine's
    damage(worker)
    assert worker.examine()["action"] == "reissue"
    certificate, key = worker.issue()
    ca = worker.cluster.cas["ca"].pem
    installation = client_certificate.ClientInstallation(worker.layout, certificate, key, None, "https://api.example:6443", ca)
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


def test_openssl_takes_the_installed_file_for_a_pair(worker):
    certificate, key = worker.issue()
    worker.apply(client_certificate.ClientInstallation(worker.layout, certificate, key))

    def ask(*arguments):
        return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout

    public = ask("x509", "-in", str(worker.current), "-noout", "-pubkey")
    assert public == ask("pkey", "-in", str(worker.current), "-pubout")
    ca = worker.node.kubernetes("pki/ca.crt")
    assert b"OK" in ask("verify", "-CAfile", str(ca), "-purpose", "sslclient", str(worker.current))
    subject = ask("x509", "-in", str(worker.current), "-noout", "-subject", "-nameopt", "RFC2253")
    assert subject.strip() == b"subject=CN=system:node:w1,O=system:nodes"


def test_an_installation_changes_nothing_else_in_kubelet_conf(worker):
    before = worker.conf.read_text()
    certificate, key = worker.issue()
    worker.apply(client_certificate.ClientInstallation(worker.layout, certificate, key))
    assert worker.conf.read_text() == before


def test_the_staged_key_is_private_and_gone_after_the_installation(worker):
    certificate, key = worker.issue()
    staged = Path(client_certificate.staged_key_path(worker.state))
    assert stat.S_IMODE(staged.stat().st_mode) == 0o600
    assert stat.S_IMODE(staged.parent.stat().st_mode) == 0o700
    worker.apply(client_certificate.ClientInstallation(worker.layout, certificate, key))
    assert not staged.exists()


def test_the_backup_set_brings_the_credential_back(worker):
    old = worker.current.read_bytes()
    _embed(worker)
    conf = worker.conf.read_bytes()
    certificate, key = worker.issue()
    backup = worker.apply(client_certificate.ClientInstallation(worker.layout, certificate, key))
    assert worker.current.read_bytes() != old
    backups.restore_backup(backup, state_dir=worker.state)
    assert worker.current.read_bytes() == old
    assert worker.conf.read_bytes() == conf


def test_the_key_keeps_its_type_unless_another_is_asked_for(worker):
    worker.issue()
    assert (
        private_keys.parse_private_key(Path(client_certificate.staged_key_path(worker.state)).read_bytes()).key_type
        == "ecdsa-p256"
    )
    client_certificate.make_request(worker.layout, "rsa-2048", worker.state)
    assert (
        private_keys.parse_private_key(Path(client_certificate.staged_key_path(worker.state)).read_bytes()).key_type == "rsa-2048"
    )


def test_every_request_has_a_new_key(worker):
    first = client_certificate.make_request(worker.layout, None, worker.state)
    second = client_certificate.make_request(worker.layout, None, worker.state)

    def digest(text):
        return csr_read.parse_request(text.encode()).key_sha256

    assert digest(first) != digest(second)


# --- trust -----------------------------------------------------------------------------------------------------------------


def test_a_bundle_goes_to_every_place_of_a_worker_and_a_second_time_changes_nothing(worker):
    _dead_bootstrap(worker)
    new = throwaway.Cluster(label="successor")
    bundle = worker.cluster.cas["ca"].pem + new.cas["ca"].pem
    installation = client_certificate.ClientInstallation(worker.layout, ca_bundle=bundle)
    bootstrap = worker.node.kubernetes("bootstrap-kubelet.conf")
    ca_file = worker.node.kubernetes("pki/ca.crt")
    assert sorted(installation.paths()) == sorted(map(str, (worker.conf, bootstrap, ca_file)))
    worker.apply(installation)
    for path in (worker.conf, bootstrap):
        assert kubeconfig.Kubeconfig(path.read_bytes(), str(path)).ca_data == bundle
    assert ca_file.read_bytes() == bundle
    assert client_certificate.ClientInstallation(worker.layout, ca_bundle=bundle).changes == []


def test_the_ca_file_of_a_control_plane_node_is_left_to_the_rotation(tmp_path, cluster):
    node = Worker(tmp_path, cluster, role="control-plane", name="cp1")
    bundle = cluster.cas["ca"].pem + throwaway.Cluster(label="successor").cas["ca"].pem
    assert client_certificate.ClientInstallation(node.layout, ca_bundle=bundle).paths() == [str(node.conf)]


def test_a_certificate_of_the_successor_is_taken_with_its_bundle_only(worker):
    new = throwaway.Cluster(label="successor")
    pem = worker.signed(new)
    with pytest.raises(PkiError, match="another key than those this node trusts"):
        client_certificate.check_issued(worker.layout, pem, None, worker.state)
    bundle = new.cas["ca"].pem + worker.cluster.cas["ca"].pem
    assert client_certificate.check_issued(worker.layout, pem, bundle, worker.state)[0].signed_by(new.cas["ca"])


# --- what is refused ---------------------------------------------------------------------------------------------------------


def _entry(profile, key, host="host-1", node="w1"):
    return {"host": host, "node": node, "request": x509_sign.build_request(profile, key).pem.decode()}


def _refused(cluster, *entries, known=None, days=365):
    with pytest.raises(PkiError) as caught:
        client_certificate.sign(list(entries), cluster.cas["ca"], cluster.keys["ca"], days, known)
    return str(caught.value)


KEY = throwaway.key("requester")
FORGED = [
    x509_sign.Profile("system:node:w2", ["system:nodes"]),
    x509_sign.Profile("system:node:w1", ["system:masters"]),
    x509_sign.Profile("system:node:w1", ["system:nodes", "system:masters"]),
    x509_sign.Profile("system:node:w1", []),
    x509_sign.Profile("kubernetes-admin", ["system:nodes"]),
    x509_sign.Profile("system:node:w1", ["system:nodes"], ["DNS:kubernetes"]),
    x509_sign.Profile("system:node:w1", ["system:nodes"], (), ("client", "server")),
]


def _of_another_type():
    """The right subject, in a type of which readers make different texts."""
    profile = x509_sign.Profile("system:node:w1", ["system:nodes"])
    profile.subject = library.Name(
        [
            library.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            library.NameAttribute(NameOID.COMMON_NAME, "system:node:w1", _type=_ASN1Type.BMPString),
        ]
    )
    return profile


FORGED.append(_of_another_type())


@pytest.mark.parametrize("profile", FORGED)
def test_a_request_for_anything_else_is_refused_and_names_the_host(cluster, profile):
    message = _refused(cluster, _entry(profile, KEY))
    assert "host-1" in message and "Nothing was signed" in message


def test_one_forged_request_keeps_all_from_being_signed(cluster):
    good = _entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY)
    assert "host-2" in _refused(cluster, good, _entry(FORGED[0], KEY, "host-2"))


def test_two_hosts_cannot_be_the_same_node(cluster):
    profile = x509_sign.Profile("system:node:w1", ["system:nodes"])
    message = _refused(cluster, _entry(profile, KEY), _entry(profile, throwaway.key("two"), "host-2"))
    assert "host-1 and host-2" in message


def test_a_name_that_no_node_has_is_refused(cluster):
    message = _refused(cluster, _entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY), known={"worker-1", "cp1"})
    assert "calls itself w1" in message and "cp1, worker-1" in message


def _nodes(names, hosts, addresses=None):
    items = [
        {
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}] if (address := (addresses or {}).get(name)) else []
            },
        }
        for name in names
    ]
    return node_identity.Nodes(items, node_binding.inventory_of(hosts))


def vouch(worker, request):
    return node_binding.vouch(request, client_certificate.credential_in_use(worker.layout))


def _signed(cluster, entry, nodes, cas=()):
    def require_bound(entry, request):
        node_binding.require_bound(entry, request, nodes, cas or [cluster.cas["ca"]])

    return client_certificate.sign([entry], cluster.cas["ca"], cluster.keys["ca"], 30, None, require_bound)


OWN = x509_sign.Profile("system:node:w1", ["system:nodes"])


@pytest.mark.parametrize(
    ("host", "hosts", "addresses"),
    [
        ("w1", {"w1": "", "w2": ""}, {}),
        ("w1.example.com", {"w1.example.com": "", "w2": ""}, {}),
        ("blade-7", {"blade-7": "10.0.0.5", "w2": ""}, {"w1": "10.0.0.5"}),
    ],
)
def test_a_host_is_its_node_by_name_or_by_an_address_that_both_have(cluster, host, hosts, addresses):
    assert _signed(cluster, _entry(OWN, KEY, host), _nodes(["w1", "w2"], hosts, addresses))


@pytest.mark.parametrize(
    ("host", "hosts", "addresses"),
    [
        ("w2", {"w1": "", "w2": ""}, {}),
        ("w2", {"w1.example.com": "", "w2": ""}, {}),
        ("blade-7", {"blade-7": "10.0.0.5", "w2": ""}, {}),
        ("blade-7", {"blade-7": "10.0.0.5", "blade-8": "10.0.0.6"}, {"w1": "10.0.0.6"}),
        ("blade-7", {"blade-7": "10.0.0.5"}, {"w1": "10.0.0.5", "w2": "10.0.0.5"}),
        ("not-there", {"w2": ""}, {}),
    ],
)
def test_a_node_that_is_not_proven_to_be_the_hosts_is_not_signed_for(cluster, host, hosts, addresses):
    with pytest.raises(PkiError, match="says that it is the Node w1") as caught:
        _signed(cluster, _entry(OWN, KEY, host), _nodes(["w1", "w2"], hosts, addresses))
    assert caught.value.path == host


def test_the_key_of_the_certificate_before_vouches_for_another_name_in_the_inventory(worker):
    request = client_certificate.make_request(worker.layout, None, worker.state)
    nodes = _nodes(["w1"], {"blade-7": "", "w2": ""})
    entry = dict(vouch(worker, request), host="blade-7", node="w1", request=request)
    assert "PRIVATE" not in str(entry) and _signed(worker.cluster, entry, nodes)
    worker.put(days=-10, began=300)  # expired, and still that node's
    expired = dict(vouch(worker, request), host="blade-7", node="w1", request=request)
    assert expired["voucher"] and _signed(worker.cluster, expired, nodes)
    # The inventory counts more: another host of that name is that Node.
    with pytest.raises(PkiError, match="the host w1 of the inventory"):
        _signed(worker.cluster, entry, _nodes(["w1"], {"blade-7": "", "w1": ""}))


def test_what_does_not_vouch(worker, cluster):
    request = client_certificate.make_request(worker.layout, None, worker.state)
    good = dict(vouch(worker, request), host="blade-7", node="w1", request=request)
    nodes = _nodes(["w1"], {"blade-7": ""})
    other = x509_sign.build_request(OWN, KEY).pem.decode()
    stranger = throwaway.key("stranger")
    digest = csr_read.parse_request(request.encode()).key_sha256
    impostor = throwaway.Cluster(label="impostor")
    foreign = x509_sign.sign_leaf(OWN, stranger, impostor.cas["ca"], impostor.keys["ca"], 9)
    neighbour = x509_sign.sign_leaf(FORGED[0], stranger, cluster.cas["ca"], cluster.keys["ca"], 9)
    by_stranger = x509_sign.build_request(x509_sign.Profile(digest), stranger).pem.decode()
    for change in (
        {"request": other},
        {"voucher": ""},
        {"previous": ""},
        {"voucher": "junk"},
        {"previous": "junk"},
        {"voucher": by_stranger},
        {"voucher": request},
        {"previous": foreign.pem.decode(), "voucher": by_stranger},
        {"previous": neighbour.pem.decode(), "voucher": by_stranger},
    ):
        with pytest.raises(PkiError, match="blade-7"):
            _signed(worker.cluster, dict(good, **change), nodes)
    assert _signed(worker.cluster, good, nodes)


def test_the_previous_certificate_may_be_of_the_old_ca_during_a_rotation(worker):
    request = client_certificate.make_request(worker.layout, None, worker.state)
    entry = dict(vouch(worker, request), host="blade-7", node="w1", request=request)
    new, nodes = throwaway.Cluster(label="new"), _nodes(["w1"], {"blade-7": ""})
    with pytest.raises(PkiError, match="blade-7"):
        _signed(new, entry, nodes)
    assert _signed(new, entry, nodes, [new.cas["ca"], worker.cluster.cas["ca"]])


def test_without_a_credential_nothing_vouches(worker):
    request = client_certificate.make_request(worker.layout, None, worker.state)
    os.unlink(worker.current)
    assert vouch(worker, request) == {}
    os.unlink(worker.conf)
    assert vouch(worker, request) == {}


@settings(deadline=None)  # a loaded machine is no fault
@given(st.text(max_size=20))
def test_what_is_signed_is_always_the_name_of_a_node(name):
    cluster = throwaway.Cluster()
    valid = bool(re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name)) and not re.search(r"\.\.|\.-|-\.", name)
    try:
        entry = _entry(x509_sign.Profile("system:node:" + name, ["system:nodes"]), KEY, node=name)
    except ValueError:
        assert not valid
        return
    try:
        pem = client_certificate.sign([entry], cluster.cas["ca"], cluster.keys["ca"], 1)["host-1"]
    except PkiError:
        assert not valid
    else:
        assert valid and x509_read.parse_certificate(pem.encode()).common_name == "system:node:" + name


def test_the_key_beside_a_ca_has_to_be_its_own(cluster):
    entry = _entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY)
    with pytest.raises(PkiError, match="not the key of this CA"):
        client_certificate.sign([entry], cluster.cas["ca"], throwaway.Cluster(label="impostor").keys["ca"], 365)


def test_a_certificate_does_not_outlive_its_ca():
    cluster = throwaway.Cluster(ca_days=10)
    entry = _entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY)
    pem = client_certificate.sign([entry], cluster.cas["ca"], cluster.keys["ca"], 365)["host-1"]
    signed = x509_read.parse_certificate(pem.encode())
    assert signed.not_after <= cluster.cas["ca"].not_after
    assert signed.extended_usages == ["client"] and signed.sans == []


def test_an_expired_ca_signs_nothing(cluster):
    key = throwaway.key("expired ca")
    ca = x509_sign.build_ca("kubernetes", key, 1, start=x509_read.now() - x509_sign.datetime.timedelta(days=2))
    with pytest.raises(PkiError, match="the CA expired on"):
        client_certificate.sign([_entry(x509_sign.Profile("system:node:w1", ["system:nodes"]), KEY)], ca, key, 365)


def test_a_certificate_for_another_key_is_not_installed(worker):
    pem = worker.signed()
    client_certificate.make_request(worker.layout, None, worker.state)
    with pytest.raises(PkiError, match="not for the key that waits here"):
        client_certificate.check_issued(worker.layout, pem, None, worker.state)


def test_a_clock_that_is_behind_is_named(worker, monkeypatch):
    pem = worker.signed()
    past = x509_read.now() - x509_sign.datetime.timedelta(hours=1)
    monkeypatch.setattr(kubelet_files, "now", lambda: past)
    with pytest.raises(PkiError, match="this node's clock says"):
        client_certificate.check_issued(worker.layout, pem, None, worker.state)


def test_a_full_disk_leaves_the_old_credential(worker, monkeypatch):
    certificate, key = worker.issue()
    before = (worker.current.read_bytes(), worker.conf.read_bytes(), sorted(os.listdir(worker.pki)))
    real = atomic.stage

    def full(path, *arguments, **options):
        if str(path).startswith(str(worker.pki)):
            raise PkiError("no space left on the file system", path=path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(atomic, "stage", full)
    with pytest.raises(PkiError, match="no space left"):
        worker.apply(client_certificate.ClientInstallation(worker.layout, certificate, key))
    monkeypatch.undo()
    assert (worker.current.read_bytes(), worker.conf.read_bytes(), sorted(os.listdir(worker.pki))) == before
    assert worker.examine()["action"] == "keep"


def test_a_host_without_a_kubelet_is_told_so(tmp_path):
    layout = layouts.find_layout(str(tmp_path / "etc"), str(tmp_path / "kubelet"))
    with pytest.raises(PkiError, match="no kubelet is set up here"):
        client_certificate.examine(layout)


# --- killed, and full disks ---------------------------------------------------------------------------------------------------


class Again:
    """One node's files, put back before every try. change(): a run of the installation, from the recovery on."""

    def __init__(self, worker, home):
        self.worker, self.home, self.clean = worker, home, home.parent / "clean"
        _embed(worker)
        self.old = kubelet_client.Credential(kubelet_files.read_config(worker.layout)).certificate.sha256
        self.pem = worker.signed()
        shutil.copytree(home, self.clean, symlinks=True)

    def reset(self):
        shutil.rmtree(self.home)
        shutil.copytree(self.clean, self.home, symlinks=True)

    def change(self):
        transactions.Transaction.recover(kubelet_files.JOB, self.worker.state)
        layout = self.worker.layout
        certificate, key = client_certificate.check_issued(layout, self.pem, None, self.worker.state)
        self.worker.apply(client_certificate.ClientInstallation(layout, certificate, key))

    def settle(self):
        """What the next run begins with. Gives the credential's digest."""
        transactions.Transaction.recover(kubelet_files.JOB, self.worker.state)
        credential = kubelet_client.Credential(kubelet_files.read_config(self.worker.layout))
        assert credential.problem is None
        return credential.certificate.sha256

    def litter(self):
        """Temporary files where the kubelet looks."""
        return [path for folder in ("etc", "var") for path in (self.home / folder).rglob("*.kubepki-*")]


@pytest.fixture
def again(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # counted all the same; a power cut is not what is tried here
    home = tmp_path / "home"
    home.mkdir()
    return Again(Worker(home, cluster), home)


def test_a_kill_at_any_write_leaves_one_whole_credential_and_the_next_run_knows(again):
    new = x509_read.parse_certificate(again.pem).sha256
    seen = set()
    for point in range(1, POINTS):
        again.reset()
        if not faults.kill_at(point, again.change):
            break
        settled = again.settle()
        verdict = again.worker.examine()
        assert settled in (again.old, new), "point %d" % point
        # Embedded is a reason in itself; a new credential that no restart has followed has to be known as one.
        assert verdict["action"] == ("reissue" if settled == again.old else "restart"), "point %d" % point
        seen.add(verdict["action"])
        assert again.litter() == [], "point %d" % point
        if settled == again.old:
            again.change()
            assert again.settle() == new
    assert seen == {"reissue", "restart"} and 40 < point < POINTS - 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_failing_disk_is_named_and_leaves_one_whole_credential(again, number):
    new = x509_read.parse_certificate(again.pem).sha256
    for point in range(1, POINTS, 3):
        again.reset()
        reached, error = faults.fail_at(point, again.change, number)
        if not reached:
            break
        assert error is None or isinstance(error, PkiError), "point %d" % point
        assert again.settle() in ((again.old, new) if error else (new,)), "point %d" % point
    assert 40 < point < POINTS - 1


# --- the Certificates API ---------------------------------------------------------------------------------------------------


class Cluster:
    """An API that takes requests and, after two looks, says what the test wants."""

    def __init__(self, status, created=201):
        self.status, self.created, self.looks, self.posted = status, created, 0, None

    server = "https://api.example:6443"

    def call(self, path, document=None):
        assert path.startswith("/apis/certificates.k8s.io/v1/certificatesigningrequests")
        if document is not None:
            self.posted = document
            return Said({"metadata": {"name": "kubepki-x7k2p"}, "message": "Unauthorized"}, self.created)
        assert path.endswith("/kubepki-x7k2p")
        self.looks += 1
        return Said({"status": self.status if self.looks > 2 else {}}, 200)


def _certify(worker, monkeypatch, cloud, timeout=5.0):
    monkeypatch.setattr(kubelet_client.KubeletApi, "of", classmethod(lambda cls, config, timeout=5.0, strict=False: cloud))
    monkeypatch.setattr(kubelet_client.time, "sleep", lambda seconds: None)
    request = client_certificate.make_request(worker.layout, None, worker.state)
    return client_certificate.certify(worker.layout, request, 30, timeout), request


def test_the_cluster_signs_what_the_node_asks_for_itself(worker, monkeypatch):
    cloud = Cluster({"certificate": base64.b64encode(b"PEM").decode(), "conditions": [{"type": "Approved"}]})
    pem, request = _certify(worker, monkeypatch, cloud)
    assert pem == "PEM"
    spec = cloud.posted["spec"]
    assert base64.b64decode(spec["request"]).decode() == request
    assert spec["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    assert spec["expirationSeconds"] == 30 * 86400
    assert sorted(spec["usages"]) == ["client auth", "digital signature", "key encipherment"]


@pytest.mark.parametrize(
    ("cloud", "text"),
    [
        (Cluster({"conditions": [{"type": "Denied", "message": "by hand"}]}), "Denied (by hand)"),
        (Cluster({"conditions": [{"type": "Approved"}, {"type": "Failed", "message": "bad usages"}]}), "Failed (bad usages)"),
        (Cluster({}, created=401), "HTTP 401 (Unauthorized)"),
        (Cluster({"conditions": [{"type": "Approved"}]}), "approved, and not signed"),
        (Cluster({}), "not approved"),
    ],
)
def test_a_request_that_is_not_signed_says_why(worker, monkeypatch, cloud, text):
    with pytest.raises(PkiError) as caught:
        _certify(worker, monkeypatch, cloud, timeout=0.05)
    assert text in str(caught.value)


# --- old files -----------------------------------------------------------------------------------------------------------------


def test_only_dated_files_that_are_not_in_use_count_as_old(worker):
    for number in range(5):
        path = worker.pki / ("kubelet-client-2025-01-0%d-00-00-00.pem" % (number + 1))
        path.write_bytes(b"old")
        os.utime(path, (number, number))
    (worker.pki / "kubelet-client.key.tmp").write_bytes(b"not ours")
    names = [Path(path).name for path in kubelet_files.expired_files(str(worker.current), 2)]
    assert names == ["kubelet-client-2025-01-0%d-00-00-00.pem" % (number + 1) for number in range(3)]
    assert len(kubelet_files.expired_files(str(worker.current), 0)) == 5
    assert kubelet_files.expired_files(str(worker.current), 9) == []


def test_a_change_that_the_next_run_finishes_does_not_lose_the_restart_that_is_due(again, monkeypatch):
    """A link cannot be replaced, and the disk is full when the file before it is to be put back."""
    new = x509_read.parse_certificate(again.pem).sha256
    rename, seen = os.rename, set()
    config = str(again.home / "etc" / "kubernetes" / "kubelet.conf")

    def immutable(source, target, **directories):
        if (
            "dst_dir_fd" in directories
            and ".kubepki-" in source
            and os.path.join(os.readlink("/proc/self/fd/%d" % directories["dst_dir_fd"]), target) == config
        ):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), target)
        rename(source, target, **directories)

    for point in range(1, POINTS):
        again.reset()
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", immutable)
            _reached, error = faults.fail_at(point, again.change, errno.ENOSPC, lasting=True)
        assert isinstance(error, PkiError), "point %d: %r" % (point, error)
        if "could not be put back yet" in error.message:
            assert again.settle() == new
            seen.add(again.worker.examine()["action"])
        elif error.message.startswith("operation not permitted"):
            break  # the disk was never full
    assert seen == {"restart"} and point < POINTS - 1
