# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node of a dead cluster: CAs that live on with their keys, and what a run that is killed leaves to the next."""

from __future__ import annotations

import base64
import datetime
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import backup_contents, backup_set, journals
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.leaf import catalogue_leaf, model, renewal
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.recovery import recovery_journal, renew_cas
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read, x509_sign
from ansible_collections.kubepki.lifecycle.plugins.modules.internal import recovery_files as files_module

from tests.unit.support import throwaway
from tests.unit.support.dead_plane import PAST, Plane


@pytest.fixture
def plane(tmp_path):
    return Plane(tmp_path)


def ca_of(path):
    return x509_read.parse_certificate(Path(path).read_bytes())


def config_ca(path):
    return x509_read.parse_certificates(kubeconfig.Kubeconfig(Path(path).read_bytes(), str(path)).ca_data)


# --- the files ----------------------------------------------------------------------------------------------------------------


def test_an_expired_ca_lives_on_with_its_key_wherever_it_lies(plane):
    before = {
        name: ca_of(plane.node.kubernetes("pki/" + stem))
        for name, stem in (("ca", "ca.crt"), ("front-proxy-ca", "front-proxy-ca.crt"), ("etcd-ca", "etcd/ca.crt"))
    }
    keys = plane.node.kubernetes("pki/ca.key").read_bytes()
    plane.node.write("/etc/kubernetes/pki/ca-signing.crt", before["ca"].pem, 0o644)
    done = plane.extend(dict.fromkeys(before))
    assert done["changed"] and plane.node.kubernetes("pki/ca.key").read_bytes() == keys
    for name, stem in (("ca", "ca.crt"), ("front-proxy-ca", "front-proxy-ca.crt"), ("etcd-ca", "etcd/ca.crt")):
        now = ca_of(plane.node.kubernetes("pki/" + stem))
        assert (now.key_sha256, now.subject, now.subject_key_id) == (
            before[name].key_sha256,
            before[name].subject,
            before[name].subject_key_id,
        )
        assert now.not_after > x509_read.now() + datetime.timedelta(days=3600) and done["certificates"][name].encode() == now.pem
    new = ca_of(plane.node.kubernetes("pki/ca.crt")).sha256
    for name in ("admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"):
        assert [one.sha256 for one in config_ca(plane.node.kubernetes(name))] == [new]
    assert ca_of(plane.node.kubernetes("pki/ca-signing.crt")).sha256 == new
    assert plane.extend(dict.fromkeys(before)) == {"changed": False, "certificates": done["certificates"], "paths": []}
    # The openssl of this machine agrees that an old leaf is below the new CA.
    checked = subprocess.run(
        [
            "openssl",
            "verify",
            "-no_check_time",
            "-CAfile",
            plane.node.kubernetes("pki/ca.crt"),
            plane.node.kubernetes("pki/apiserver.crt"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_a_ca_under_two_names_is_renewed_once(tmp_path):
    """etcd shares the cluster's CA: kubeconfigs, etcd and the API trust the very same certificate afterwards."""
    plane = Plane(tmp_path, shared="etcd-ca")
    wanted = dict.fromkeys(("ca", "front-proxy-ca", "etcd-ca"))
    done = plane.extend(wanted)
    assert done["certificates"]["ca"] == done["certificates"]["etcd-ca"] != done["certificates"]["front-proxy-ca"]
    new = ca_of(plane.node.kubernetes("pki/ca.crt"))
    assert new.pem.decode() == done["certificates"]["ca"] and new.not_after > x509_read.now()
    assert [one.sha256 for one in config_ca(plane.node.kubernetes("admin.conf"))] == [new.sha256]
    assert plane.extend(wanted)["changed"] is False


def test_a_backup_set_comes_first_and_check_mode_writes_nothing(plane):
    before = plane.files()
    assert plane.extend({"ca": None}, check=True)["changed"] and plane.files() == before and not os.path.exists(plane.backups)
    plane.extend({"ca": None})
    (name,) = os.listdir(plane.backups)
    assert name.endswith("-recover")
    kept = backup_contents.read_backup(os.path.join(plane.backups, name))
    assert kept is not None and plane.files() != before


def test_another_node_takes_what_was_renewed(plane, tmp_path):
    other = Plane(tmp_path / "other")
    made = plane.extend({"ca": None, "etcd-ca": None})["certificates"]
    brought = {name: pem.encode() for name, pem in made.items()}
    assert other.extend(brought)["certificates"] == made
    assert other.node.kubernetes("pki/etcd/ca.crt").read_bytes() == plane.node.kubernetes("pki/etcd/ca.crt").read_bytes()


def test_a_ca_with_the_same_name_and_another_key_changes_nothing(plane):
    foreign = ca_sign.build_ca("kubernetes", throwaway.key("foreign"), 100)
    before = plane.files()
    with pytest.raises(PkiError, match="its key differs"):
        plane.extend({"etcd-ca": None, "ca": foreign.pem})
    assert plane.files() == before


def test_an_intermediate_ca_is_not_renewed_here(plane):
    root_key = throwaway.key("root")
    root = ca_sign.build_ca("root", root_key, 1000)
    inner = ca_sign.build_ca("kubernetes", plane.cluster.keys["ca"], 100, root, root_key, start=PAST)
    plane.node.write("/etc/kubernetes/pki/ca.crt", inner.pem)
    with pytest.raises(PkiError, match="signed by CN=root"):
        plane.extend({"ca": None})


def test_of_a_bundle_only_the_certificate_of_that_key_is_replaced(plane):
    old, new = plane.cluster.cas["ca"], plane.fresh["ca"]
    other = ca_sign.build_ca("kubernetes", throwaway.key("other"), 100)
    data = other.pem + old.pem + old.pem
    assert renew_cas.replaced(data, new) == other.pem + new.pem
    assert renew_cas.replaced(other.pem, new) == other.pem
    assert renew_cas.replaced(b"# kept\n" + new.pem, new) == b"# kept\n" + new.pem


def test_leaves_follow_the_ca(plane):
    """As the module cert_leaf renews them once the CAs live on."""
    settings = model.Settings(below_days=90)

    def renew():
        return renewal.run(
            settings,
            lambda: catalogue_leaf.catalogue_leaves(pki_tree.read_tree(plane.layout), ["all"], settings),
            state_dir=plane.state,
            backup_dir=plane.backups,
        )

    with pytest.raises(PkiError, match="expired at"):
        renew()
    plane.extend(dict.fromkeys(("ca", "front-proxy-ca", "etcd-ca")))
    settings = model.Settings(below_days=90)
    done = renew()
    assert {row["action"] for row in done["leaves"]} == {"renewed"} and len(done["leaves"]) == 10


def test_what_was_begun_is_noted_until_it_is_done(plane):
    recovery_journal.begin(["etcd"], state_dir=plane.state)
    recovery_journal.begin(["kube-apiserver"], trust=True, state_dir=plane.state)
    recovery_journal.begin([], state_dir=plane.state)
    assert recovery_journal.load(plane.state) == {"restart": ["etcd", "kube-apiserver"], "trust": True}
    assert recovery_journal.finish(plane.state) and not recovery_journal.finish(plane.state)


def test_what_was_started_again_is_not_started_once_more(plane):
    recovery_journal.started(plane.state)
    assert recovery_journal.load(plane.state) is None
    recovery_journal.begin(["etcd"], trust=True, state_dir=plane.state)
    recovery_journal.started(plane.state)
    assert recovery_journal.load(plane.state) == {"restart": [], "trust": True}


def module(plane, state="prepared", check_mode=False, **options):
    params = {
        "authorities": {},
        "restart": [],
        "note": True,
        "ca_days": 3650,
        "backup_keep": 5,
        "backup_dir": plane.backups,
        "kubernetes_dir": "/etc/kubernetes",
        "kubelet_dir": "/var/lib/kubelet",
        "state_dir": plane.state,
        **options,
    }
    return getattr(files_module, state)(SimpleNamespace(params=params, check_mode=check_mode))


def test_what_is_begun_is_noted_before_a_file_changes(plane, monkeypatch):
    """A run that is killed at the first write is continued by the next one, with everything that it was about."""
    found = layouts.find_layout
    monkeypatch.setattr(layouts, "find_layout", lambda *given: found(given[0], given[1], plane.root))

    def killed(*_given, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(backup_set, "create_backup", killed)
        with pytest.raises(KeyboardInterrupt):
            module(plane, authorities={"ca": ""}, restart=["etcd"])
    assert recovery_journal.load(plane.state) == {"restart": ["etcd"], "trust": True}
    done = module(plane, authorities={"ca": ""})
    assert done["changed"] and str(plane.node.kubernetes("pki/ca.crt")) in done["paths"]
    again = module(plane, authorities=done["certificates"])
    assert (again["changed"], again["certificates"]) == (False, done["certificates"])
    assert module(plane, "finished") == {"changed": False} and recovery_journal.load(plane.state) is None


@pytest.mark.parametrize("options", [{"check_mode": True}, {"note": False}])
def test_nothing_is_noted_where_nothing_is_to_be_continued(plane, monkeypatch, options):
    found = layouts.find_layout
    monkeypatch.setattr(layouts, "find_layout", lambda *given: found(given[0], given[1], plane.root))
    before = plane.files()
    assert not module(plane, restart=["etcd"], **options)["changed"]
    assert recovery_journal.load(plane.state) is None and plane.files() == before


def test_a_serving_certificate_is_taken_away_only_when_the_kubelet_made_it_and_it_has_ended(plane):
    pki = plane.node.path("/var/lib/kubelet/pki")

    def drop(**options):
        return renew_cas.drop_serving(plane.layout, state_dir=plane.state, backup_dir=plane.backups, **options)

    assert not drop() and (pki / "kubelet.crt").exists()
    own = ca_sign.build_ca("cp1-ca@1", throwaway.key("own"), 30, start=PAST)
    (pki / "kubelet.crt").write_bytes(own.pem)
    assert drop(check=True) and (pki / "kubelet.crt").exists()
    assert drop() and not (pki / "kubelet.crt").exists() and not (pki / "kubelet.key").exists()
    assert journals.Journal(journals.KUBELET_RESTART, plane.state).load() == {"files": [str(pki / "kubelet.crt")]}
    assert not drop()
    signed = plane.cluster.leaf("etcd-server", "cp1", "10.0.0.1", -1)[0]
    ours = x509_sign.sign_leaf(
        x509_sign.Profile.of(signed), throwaway.key("ours"), plane.cluster.cas["ca"], plane.cluster.keys["ca"], 30, PAST
    )
    (pki / "kubelet.crt").write_bytes(ours.pem)
    assert not drop() and (pki / "kubelet.crt").exists()


def test_the_kubeconfig_keeps_every_other_byte(plane):
    path = plane.node.kubernetes("admin.conf")
    before = path.read_text()
    plane.extend({"ca": None})
    pair = plane.cluster.cas["ca"].pem, ca_of(plane.node.kubernetes("pki/ca.crt")).pem
    old, new = (base64.b64encode(pem).decode() for pem in pair)
    assert path.read_text() == before.replace(old, new)
