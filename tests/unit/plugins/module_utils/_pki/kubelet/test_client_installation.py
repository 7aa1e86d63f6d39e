# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an installation changes, and what a kill or a failing disk leaves."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic, backup_restore, transaction_recovery
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    client_installation,
    client_request,
    kubelet_files,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read

from tests.unit.support import faults, throwaway
from tests.unit.support.worker import Worker, embed_credential, obsolete_bootstrap

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


def test_openssl_takes_the_installed_file_for_a_pair(worker):
    certificate, key = worker.issue()
    worker.apply(client_installation.ClientInstallation(worker.layout, certificate, key))

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
    worker.apply(client_installation.ClientInstallation(worker.layout, certificate, key))
    assert worker.conf.read_text() == before


def test_the_staged_key_is_private_and_gone_after_the_installation(worker):
    certificate, key = worker.issue()
    staged = Path(client_request.staged_key_path(worker.state))
    assert stat.S_IMODE(staged.stat().st_mode) == 0o600
    assert stat.S_IMODE(staged.parent.stat().st_mode) == 0o700
    worker.apply(client_installation.ClientInstallation(worker.layout, certificate, key))
    assert not staged.exists()


def test_the_backup_set_brings_the_credential_back(worker):
    old = worker.current.read_bytes()
    embed_credential(worker)
    conf = worker.conf.read_bytes()
    certificate, key = worker.issue()
    backup = worker.apply(client_installation.ClientInstallation(worker.layout, certificate, key))
    assert worker.current.read_bytes() != old
    backup_restore.restore_backup(backup, state_dir=worker.state)
    assert worker.current.read_bytes() == old
    assert worker.conf.read_bytes() == conf


def test_a_bundle_goes_to_every_place_of_a_worker_and_a_second_time_changes_nothing(worker):
    obsolete_bootstrap(worker)
    new = throwaway.Cluster(label="successor")
    bundle = worker.cluster.cas["ca"].pem + new.cas["ca"].pem
    installation = client_installation.ClientInstallation(worker.layout, ca_bundle=bundle)
    bootstrap = worker.node.kubernetes("bootstrap-kubelet.conf")
    ca_file = worker.node.kubernetes("pki/ca.crt")
    assert sorted(installation.paths()) == sorted(map(str, (worker.conf, bootstrap, ca_file)))
    worker.apply(installation)
    for path in (worker.conf, bootstrap):
        assert kubeconfig.Kubeconfig(path.read_bytes(), str(path)).ca_data == bundle
    assert ca_file.read_bytes() == bundle
    assert client_installation.ClientInstallation(worker.layout, ca_bundle=bundle).changes == []


def test_the_ca_file_of_a_control_plane_node_is_left_to_the_rotation(tmp_path, cluster):
    node = Worker(tmp_path, cluster, role="control-plane", name="cp1")
    bundle = cluster.cas["ca"].pem + throwaway.Cluster(label="successor").cas["ca"].pem
    assert client_installation.ClientInstallation(node.layout, ca_bundle=bundle).paths() == [str(node.conf)]


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
        worker.apply(client_installation.ClientInstallation(worker.layout, certificate, key))
    monkeypatch.undo()
    assert (worker.current.read_bytes(), worker.conf.read_bytes(), sorted(os.listdir(worker.pki))) == before
    assert worker.examine()["action"] == "keep"


class Again:
    """One node's files, put back before every try. change(): a run of the installation, from the recovery on."""

    def __init__(self, worker, home):
        self.worker, self.home, self.clean = worker, home, home.parent / "clean"
        embed_credential(worker)
        self.old = kubelet_client.Credential(kubelet_files.read_config(worker.layout)).certificate.sha256
        self.pem = worker.signed()
        shutil.copytree(home, self.clean, symlinks=True)

    def reset(self):
        shutil.rmtree(self.home)
        shutil.copytree(self.clean, self.home, symlinks=True)

    def change(self):
        transaction_recovery.recover(kubelet_files.JOB, self.worker.state)
        layout = self.worker.layout
        certificate, key = client_request.check_issued(layout, self.pem, None, self.worker.state)
        self.worker.apply(client_installation.ClientInstallation(layout, certificate, key))

    def settle(self):
        """What the next run begins with. Gives the credential's digest."""
        transaction_recovery.recover(kubelet_files.JOB, self.worker.state)
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
