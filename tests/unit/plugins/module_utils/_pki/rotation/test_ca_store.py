# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a phase declares on a node is complete, is applied in one piece, and can be taken back byte for byte."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import random
import shutil
import ssl
import subprocess
import threading
import types
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import errors
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import discovery, http_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import (
    catalogue,
    kubeconfig,
    layouts,
    manifest_edits,
    pki_tree,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import client_installation
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pending_restarts, pod_volumes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import disk_findings
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import (
    ca_facts,
    client_acceptance,
    declaration,
    desired_state,
    local_ca,
    new_ca,
    obstacles,
    probe_client,
    stale_trust,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import pod_restart
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    ca_checks,
    ca_sign,
    private_keys,
    x509_read,
    x509_sign,
)
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import (
    rotation_explain,
    rotation_plan,
    rotation_state,
    rotation_steps,
)

from tests.unit.support.throwaway import Cluster, Node, key

PKI = "/etc/kubernetes/pki"
PREPARED, SWITCHED, COMPLETED, ROLLED_BACK = 1, 2, 3, 0


class Host:
    """A control-plane node in a directory, and the module calls a role makes on it."""

    def __init__(
        self, root: Path, cluster: Cluster | None = None, name: str = "cp1", role: str = "control-plane", minor: int = 20
    ):
        self.node = Node(root, cluster, name, role=role, minor=minor)
        self.root, self.name = root, name
        self.state, self.backups = str(root / "state"), str(root / "backups")
        if role == "control-plane":
            self.node.manifest(
                "kube-controller-manager",
                [
                    "--kubeconfig=/etc/kubernetes/controller-manager.conf",
                    "--root-ca-file=%s/ca.crt" % PKI,
                    "--cluster-signing-cert-file=%s/ca.crt" % PKI,
                    "--cluster-signing-key-file=%s/ca.key" % PKI,
                    "--service-account-private-key-file=%s/sa.key" % PKI,
                ],
            )

    def tree(self):
        return pki_tree.read_tree(layouts.find_layout(root=str(self.root)))

    def facts(self) -> dict:
        return ca_facts.facts(self.tree(), self.state)

    def stage(self, names=catalogue.ROTATABLE, material=None):
        declared, staged = new_ca.declare_staged(self.tree(), names, material, key_type="ecdsa-p256")
        self.apply(declared, "staged")
        return staged

    def apply(self, declared, job="rotate"):
        return declaration.apply(self.tree().layout, declared, job, self.state, self.backups)

    def level(self, level: int, names=catalogue.ROTATABLE, state_dir=None):
        """Files, then the manifest's flags as the restart changes them, then what is no longer needed."""
        declaration.recover(self.tree().layout, self.state)
        declared = desired_state.declare(self.tree(), names, level, state_dir=state_dir)
        self.apply(declared)
        self.edit(declared.edits)
        self.kubelet()
        rest = desired_state.declare(self.tree(), names, level)
        self.apply(rest)
        return declared

    def kubelet(self) -> None:
        """What the role kubelet_credentials does to the files of trust."""
        path = self.node.kubernetes("kubelet.conf")
        config = kubeconfig.Kubeconfig(path.read_bytes(), str(path))
        path.write_bytes(
            bytes(config.with_ca(x509_read.bundle(x509_read.parse_certificates(self.node.kubernetes("pki/ca.crt").read_bytes()))))
        )

    def edit(self, edits) -> None:
        for component, flags in edits.items():
            path = self.node.kubernetes("manifests/%s.yaml" % component)
            path.write_bytes(manifest_edits.with_flags(path.read_bytes(), str(path), component, flags))

    def snapshot(self) -> dict:
        found = {}
        for folder, _folders, names in os.walk(self.root / "etc"):
            for name in names:
                path = os.path.join(folder, name)
                found[path[len(str(self.root)) :]] = (
                    os.readlink(path) if os.path.islink(path) else Path(path).read_bytes(),
                    os.lstat(path).st_mode,
                )
        return found

    def phases(self) -> set:
        return {state.phase for state in rotation_state.derive_all([self.facts()]).values()}


STARTED = pending_restarts.started


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """The tree under test is nobody's: what runs on this machine has nothing to do with it."""
    monkeypatch.setattr(pending_restarts, "started", lambda component: -1)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def ids(data: bytes) -> list:
    return [item.key_sha256 for item in x509_read.parse_certificates(data)]


def test_the_three_phases_on_one_node(host):
    a = {name: held.current.id for name, held in local_ca.local_cas(host.tree().layout).items()}
    b = {name: signer.id for name, signer in host.stage().items()}
    assert set(a) == set(b) == set(catalogue.ROTATABLE)
    assert host.phases() == {"preparing"}
    for level, name in ((PREPARED, "prepared"), (SWITCHED, "switched"), (COMPLETED, "stable")):
        declared = host.level(level)
        # The kubelet's own certificate is another role's job.
        states = rotation_state.derive_all([facts_without_kubelet(host)])
        assert {state.phase for state in states.values()} == {name}, rotation_explain.explain(states["ca"])
        if level != SWITCHED:
            assert declared.restarts >= {"kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler"}
        else:
            assert declared.restarts == {"kube-apiserver", "kube-controller-manager", "kube-scheduler"}
            assert declared.reloads == {"kube-apiserver", "etcd"}
    assert {name: held.current.id for name, held in local_ca.local_cas(host.tree().layout).items()} == b
    assert not host.node.kubernetes("pki.next").exists() and not host.node.kubernetes("pki.previous").exists()
    assert not host.node.kubernetes("pki/ca-signing.crt").exists()


def test_the_three_phases_and_the_way_back_with_a_directory_of_ones_own(tmp_path, monkeypatch):
    """Certificates elsewhere rotate as the usual ones do, and lie where they lay when all is taken back."""
    host, own = Host(tmp_path), "/etc/ssl/k8s"
    host.node.move_pki(own)
    monkeypatch.setattr(host, "kubelet", lambda: None)
    before = host.snapshot()
    staged = {name: signer.id for name, signer in host.stage().items()}
    assert set(staged) == set(catalogue.ROTATABLE)

    def phases():
        facts = facts_without_kubelet(host)
        facts["authorities"]["ca"]["trust"].pop("kubelet.conf")
        return {state.phase for state in rotation_state.derive_all([facts]).values()}

    def files_of(found):
        return {path for path in found if not path.endswith("kubelet.conf")}

    for level, name in (
        (PREPARED, "prepared"),
        (SWITCHED, "switched"),
        (PREPARED, "prepared"),
        (SWITCHED, "switched"),
        (COMPLETED, "stable"),
    ):
        host.level(level)
        assert phases() == {name}
    assert {name: held.current.id for name, held in local_ca.local_cas(host.tree().layout).items()} == staged
    assert files_of(host.snapshot()) == files_of(before)


def facts_without_kubelet(host) -> dict:
    facts = host.facts()
    facts["authorities"]["ca"]["leaves"].pop("kubelet-client")
    return facts


def test_prepared_has_two_certificates_where_trust_is_and_one_where_it_is_signed(host):
    staged = host.stage()
    old = ids(host.node.kubernetes("pki/ca.crt").read_bytes())[0]
    host.level(PREPARED)
    both = [old, staged["ca"].id]
    for name in ("admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"):
        config = kubeconfig.Kubeconfig(host.node.kubernetes(name).read_bytes(), name)
        assert ids(config.ca_data) == both
    assert ids(host.node.kubernetes("pki/ca.crt").read_bytes()) == both
    assert ids(host.node.kubernetes("pki/ca-signing.crt").read_bytes()) == [old]
    manifest = host.node.kubernetes("manifests/kube-controller-manager.yaml").read_text()
    assert "--cluster-signing-cert-file=/etc/kubernetes/pki/ca-signing.crt\n" in manifest
    assert len(private_keys.parse_public_keys(host.node.kubernetes("pki/sa.pub").read_bytes())) == 2


def test_switched_leaves_verify_with_openssl_under_the_new_authority_alone(host, tmp_path):
    host.stage()
    host.level(PREPARED)
    before = {item.name: item.certificate for item in host.tree().items.values()}
    host.level(SWITCHED)
    for ca, leaves in (
        ("ca", ["apiserver", "apiserver-kubelet-client"]),
        ("front-proxy-ca", ["front-proxy-client"]),
        ("etcd/ca", ["etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"]),
    ):
        only_new = tmp_path / "only-new.crt"
        only_new.write_bytes(x509_read.parse_certificate(host.node.kubernetes("pki/%s.crt" % ca).read_bytes()).pem)
        for leaf in leaves:
            path = host.node.kubernetes("pki/%s.crt" % leaf)
            done = subprocess.run(
                ["openssl", "verify", "-no-CApath", "-CAfile", str(only_new), str(path)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    for item in host.tree().items.values():
        if item.kind in ("leaf", "kubeconfig"):
            old = before[item.name]
            assert (item.certificate.subject, item.certificate.sans, item.certificate.extended_usages) == (
                old.subject,
                old.sans,
                old.extended_usages,
            )
            assert item.key_sha256 == item.certificate.key_sha256 != old.key_sha256


def test_between_switch_and_complete_a_client_that_knows_the_former_authority_alone_accepts_the_apiserver(host, tmp_path):
    served = host.node.kubernetes("pki/apiserver.crt")
    former = tmp_path / "former.crt"
    former.write_bytes(host.node.kubernetes("pki/ca.crt").read_bytes())

    def accepted() -> bool:
        leaf = tmp_path / "leaf.crt"
        leaf.write_bytes(x509_read.parse_certificate(served.read_bytes()).pem)
        return (
            subprocess.run(
                ["openssl", "verify", "-no-CApath", "-CAfile", str(former), "-untrusted", str(served), str(leaf)],
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )

    host.stage()
    host.level(PREPARED)
    assert accepted() and len(x509_read.parse_certificates(served.read_bytes())) == 1
    host.level(SWITCHED)
    assert accepted()
    # Renewed meanwhile, as renew_leaves does: the next run adds it again.
    served.write_bytes(x509_read.parse_certificate(served.read_bytes()).pem)
    assert not accepted()
    host.level(SWITCHED)
    assert accepted()
    host.level(COMPLETED)
    assert not accepted() and len(x509_read.parse_certificates(served.read_bytes())) == 1


def manifest_of_apiserver(host) -> str:
    return host.node.kubernetes("manifests/kube-apiserver.yaml").read_text()


def test_the_tokens_of_token_secrets_live_side_by_side(host):
    before = manifest_of_apiserver(host)
    host.stage()
    declared = host.level(PREPARED)
    assert "--service-account-lookup=0\n" in manifest_of_apiserver(host) and "kube-apiserver" in declared.restarts
    host.level(SWITCHED)
    assert "--service-account-lookup=0\n" in manifest_of_apiserver(host)
    host.level(COMPLETED)
    assert manifest_of_apiserver(host) == before


@pytest.mark.parametrize("last", [COMPLETED, ROLLED_BACK])
def test_a_run_that_ended_before_the_manifest_of_the_apiserver_is_found_out_and_finished(host, last):
    before = manifest_of_apiserver(host)
    host.stage(["sa"])
    host.level(PREPARED, ["sa"])
    if last == COMPLETED:
        host.level(SWITCHED, ["sa"])
    host.apply(desired_state.declare(host.tree(), ["sa"], last))  # its files, and no more
    state = rotation_state.derive("sa", [host.facts()])
    assert state.phase == "completing" and "looks at a token's signature alone" in "".join(state.pending["cp1"])
    step = rotation_steps.plan([host.facts()], ["sa"], "completed" if last == COMPLETED else "rolled_back")[-1]
    assert step.restarts == ["kube-apiserver"]
    host.level(last, ["sa"])
    assert manifest_of_apiserver(host) == before
    assert "flags" not in rotation_state.derive("sa", [host.facts()]).kinds.get("cp1", set())


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_lookup_that_somebody_set_stays(host, value):
    host.edit({"kube-apiserver": {"--service-account-lookup": value}})
    before = manifest_of_apiserver(host)
    host.stage()
    for level in (PREPARED, SWITCHED, COMPLETED):
        host.level(level)
        assert manifest_of_apiserver(host) == before


def test_a_newer_cluster_has_no_token_secrets_to_care_for(tmp_path):
    host = Host(tmp_path, minor=24)
    host.stage()
    host.level(PREPARED)
    assert "lookup" not in manifest_of_apiserver(host)


@pytest.mark.parametrize("far", [PREPARED, SWITCHED])
@pytest.mark.parametrize("names", [catalogue.ROTATABLE, ("ca",), ("etcd-ca",), ("front-proxy-ca", "sa")])
def test_the_way_back_restores_every_byte(host, far, names):
    before = host.snapshot()
    host.stage(names)
    host.level(PREPARED, names)
    if far == SWITCHED:
        host.level(SWITCHED, names)
        assert host.snapshot() != before
        host.level(PREPARED, names)
    host.level(ROLLED_BACK, names)
    assert host.snapshot() == before


BESIDES = [
    (b"# corporate\n", b"# the end\n"),
    (b"", b"\n\n"),
    (b"# corporate\r\n", b"# no line break"),
    (b"", None),
    (b"# first\n", None),
]


@pytest.mark.parametrize("far", [PREPARED, SWITCHED])
@pytest.mark.parametrize("before, after", BESIDES)
@pytest.mark.parametrize("name, path", [("ca", "pki/ca.crt"), ("sa", "pki/sa.pub")])
def test_whatever_text_a_bundle_holds_besides_is_there_again(host, far, name, path, before, after):
    """after: behind the last block; None: its last line is not ended."""
    file = host.node.kubernetes(path)
    data = file.read_bytes()
    file.write_bytes(before + (data[:-1] if after is None else data + after))
    if name == "ca":
        admin = host.node.kubernetes("admin.conf")
        admin.write_bytes(bytes(kubeconfig.Kubeconfig(admin.read_bytes(), str(admin)).with_ca(file.read_bytes())))
    start = host.snapshot()
    host.stage((name,))
    for level in range(1, far + 1):
        host.level(level, (name,))
        assert len(local_ca.parse_bundle(name, file.read_bytes(), path)) == 2
        declared = desired_state.declare(host.tree(), (name,), level)
        assert str(file) not in declared.writes
    for level in range(far - 1, -1, -1):
        host.level(level, (name,))
    assert {path: data for path, data in host.snapshot().items() if "kubelet.conf" not in path} == {
        path: data for path, data in start.items() if "kubelet.conf" not in path
    }


def test_a_private_key_in_a_bundle_goes_no_further():
    old, new = Cluster().cas["ca"], ca_sign.build_ca("kubernetes", key("successor"), 10)
    data = declaration.bundle_text("ca", old.pem + key("secret").pem + b"# end", [old, new], "ca.crt")
    assert data == old.pem + new.pem + b"# end"


def test_a_comment_in_the_bundle_survives_the_way_there_and_back(host):
    path = host.node.kubernetes("pki/ca.crt")
    path.write_bytes(b"# our own authority, see the safe\n" + path.read_bytes())
    before = host.snapshot()
    host.stage()
    for level in (PREPARED, SWITCHED, PREPARED, ROLLED_BACK):
        host.level(level)
    assert host.snapshot() == before


@pytest.mark.parametrize("level", [PREPARED, SWITCHED, COMPLETED])
def test_a_second_application_changes_nothing(host, level):
    host.stage()
    for step in range(PREPARED, level + 1):
        host.level(step)
    before = host.snapshot()
    declared = desired_state.declare(host.tree(), catalogue.ROTATABLE, level)
    assert not declared.changed and not declared.edits and not declared.restarts
    assert host.apply(declared) is None
    assert host.snapshot() == before


def test_staging_twice_uses_what_is_staged(host):
    first = host.stage()
    assert {name: signer.id for name, signer in host.stage().items()} == {name: signer.id for name, signer in first.items()}


def test_material_moves_to_another_node_and_a_third_authority_is_refused(tmp_path):
    cluster = Cluster()
    one, two = Host(tmp_path / "1", cluster, "cp1"), Host(tmp_path / "2", cluster, "cp2")
    staged = one.stage()
    material = {name: (signer.certificate_pem, signer.key_pem) for name, signer in staged.items()}
    two.stage(material=material)
    for host in (one, two):
        host.level(PREPARED)
    assert one.node.kubernetes("pki/ca.crt").read_bytes() == two.node.kubernetes("pki/ca.crt").read_bytes()
    other = Host(tmp_path / "3", cluster, "cp3")
    other.stage()
    with pytest.raises(PkiError, match="another new CA"):
        other.stage(material=material)


def test_staged_keys_are_for_root_alone(host):
    host.stage()
    for folder, _folders, names in os.walk(host.node.kubernetes("pki.next")):
        assert os.stat(folder).st_mode & 0o777 == 0o700
        assert all(os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600 for name in names)


def test_a_worker_that_follows_is_prepared(tmp_path):
    cluster = Cluster()
    control, worker = Host(tmp_path / "1", cluster), Host(tmp_path / "2", cluster, "w1", "worker")
    control.stage()
    control.level(PREPARED)
    state = rotation_state.derive("ca", [control.facts(), worker.facts()])
    assert state.phase == "preparing" and set(state.pending) == {"w1"}
    worker.node.kubernetes("pki/ca.crt").write_bytes(control.node.kubernetes("pki/ca.crt").read_bytes())
    worker.kubelet()
    state = rotation_state.derive("ca", [control.facts(), worker.facts()])
    assert state.phase == "prepared", rotation_explain.explain(state)


def other_client_ca(host, path="/etc/kubernetes/certs/ca.crt"):
    """Let the kubelet know its clients by another file than kubeadm's. Gives that file."""
    config = host.node.path("/var/lib/kubelet/config.yaml")
    config.write_text(config.read_text().replace("/etc/kubernetes/pki/ca.crt", path))
    return host.node.write(path, host.node.kubernetes("pki/ca.crt").read_bytes(), 0o644)


@pytest.mark.parametrize("left", [False, True], ids=["moved", "beside kubeadm's"])
def test_a_worker_trusts_whom_its_kubelet_trusts(tmp_path, left):
    cluster = Cluster()
    control, worker = Host(tmp_path / "1", cluster), Host(tmp_path / "2", cluster, "w1", "worker")
    own = other_client_ca(worker)
    if not left:
        worker.node.kubernetes("pki/ca.crt").unlink()
    assert rotation_state.derive("ca", [control.facts(), worker.facts()]).phase == "stable"
    control.stage()
    control.level(PREPARED)
    both = control.node.kubernetes("pki/ca.crt").read_bytes()
    if left:
        worker.node.kubernetes("pki/ca.crt").write_bytes(both)  # which nobody reads
    config = worker.node.kubernetes("kubelet.conf")
    config.write_bytes(bytes(kubeconfig.Kubeconfig(config.read_bytes(), str(config)).with_ca(both)))
    state = rotation_state.derive("ca", [control.facts(), worker.facts()])
    assert state.phase == "preparing" and set(state.pending) == {"w1"}
    for change in client_installation.ClientInstallation(worker.tree().layout, ca_bundle=both).changes:
        Path(change["path"]).write_bytes(change["data"])
    assert own.read_bytes() == both
    state = rotation_state.derive("ca", [control.facts(), worker.facts()])
    assert state.phase == "prepared", rotation_explain.explain(state)


def test_a_kubelet_of_the_control_plane_with_a_client_ca_of_its_own_is_refused_before_anything_changes(host):
    assert rotation_state.derive("ca", [host.facts()]).phase == "stable"
    own = other_client_ca(host)
    for name in ("front-proxy-ca", "etcd-ca", "sa"):
        assert rotation_state.derive(name, [host.facts()]).phase == "stable"
    with pytest.raises(PkiError, match=r"cp1: .*certs/ca.crt: .*kubelet.*pki/ca.crt.*clientCAFile"):
        rotation_plan.derived([host.facts()], ["ca"], "all")
    own.unlink()
    own.symlink_to("../pki/ca.crt")
    assert rotation_state.derive("ca", [host.facts()]).phase == "stable"


def login_by_files(host, name, what):
    """Let a kubeconfig name its files, as kubectl config set-credentials without --embed-certs leaves it."""
    path = host.node.kubernetes(name)
    config = kubeconfig.Kubeconfig(path.read_bytes(), str(path))
    text = path.read_text()
    for field, data, file_name in (
        ("certificate-authority", config.ca_data, "ca.crt"),
        ("client-certificate", config.certificate_data, "client.crt"),
        ("client-key", config.key_data, "client.key"),
    ):
        if field in what:
            host.node.write("/etc/kubernetes/own/" + file_name, data)
            text = text.replace("%s-data: %s" % (field, base64.b64encode(data).decode()), "%s: own/%s" % (field, file_name))
    path.write_text(text)


@pytest.mark.parametrize("name", ["controller-manager.conf", "scheduler.conf", "admin.conf"])
@pytest.mark.parametrize("what", [("certificate-authority",), ("client-certificate", "client-key")])
def test_a_kubeconfig_that_names_files_is_refused_before_anything_changes(host, name, what):
    login_by_files(host, name, what)
    place = "own/ca.crt" if "certificate-authority" in what else "own/client.crt"
    with pytest.raises(PkiError, match=r"cp1: .*%s: .*%s.*--embed-certs" % (name, place)):
        rotation_plan.derived([host.facts()], ["ca"], "all")
    rotation_plan.derived([host.facts()], ["front-proxy-ca", "etcd-ca", "sa"], "all")


def test_a_kubeconfig_that_names_files_of_another_authority_is_the_users_own(host):
    login_by_files(host, "admin.conf", ("certificate-authority", "client-certificate", "client-key"))
    other = Cluster(label="another")
    certificate, leaf_key = other.leaf("admin.conf", "cp1", "10.0.0.1")
    for name, data in (("ca.crt", other.cas["ca"].pem), ("client.crt", certificate.pem), ("client.key", leaf_key.pem)):
        host.node.write("/etc/kubernetes/own/" + name, data)
    assert rotation_plan.derived([host.facts()], ["ca"], "all")["phases"] == ["prepare", "switch", "complete"]


def sharing(tmp_path, name: str, copy: bool = False) -> Host:
    found = Host(tmp_path, Cluster(label="shares " + name).share(name))
    found.node.share(name, copy)
    return found


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize(
    "name, flag",
    [
        ("etcd-ca", "--etcd-cafile of kube-apiserver|--trusted-ca-file of etcd"),
        ("front-proxy-ca", "--requestheader-client-ca-file of kube-apiserver"),
    ],
)
def test_a_ca_that_others_trust_under_another_name_is_refused_by_the_plan_and_the_remedy_works(tmp_path, name, flag, copy):
    host = sharing(tmp_path, name, copy)
    for names in (["ca"], [name], list(catalogue.ROTATABLE)):
        status = rotation_plan.derived([host.facts()], names, "status")
        shown = [name] if names == [name] else ["ca"]
        assert [status["phase"][one] for one in shown] == ["impossible"]
        before = host.snapshot()
        with pytest.raises(
            PkiError, match=r"cp1: .*(%s|the cluster's CA as well).*copy .*kubelet restarts.*kubepki_cas=%s" % (flag, name)
        ):
            rotation_plan.derived([host.facts()], names, "all")
        assert host.snapshot() == before
    rotation_plan.derived([host.facts()], ["sa"], "all")
    # The remedy: a pair of its own, named in the flags.
    pki = host.node.kubernetes("pki")
    entry = catalogue.BY_NAME[name]
    for source, target in (("ca.crt", entry.path), ("ca.key", entry.key)):
        host.node.write("/etc/kubernetes/" + target, (pki / source).read_bytes())
    if name == "etcd-ca":
        host.node.flag("etcd", "--trusted-ca-file", "/etc/kubernetes/" + entry.path)
        host.node.flag("kube-apiserver", "--etcd-cafile", "/etc/kubernetes/" + entry.path)
    else:
        host.node.flag("kube-apiserver", "--requestheader-client-ca-file", "/etc/kubernetes/" + entry.path)
    for names in ((name,), ("ca",)):
        assert rotation_plan.derived([host.facts()], list(names), "all")["phases"] == ["prepare", "switch", "complete"]
        host.stage(names)
        for level in (PREPARED, SWITCHED, COMPLETED):
            host.level(level, names)
        if names == (name,):
            found = {one["code"] for one in disk_findings.check(host.tree(), owner=os.getuid())}
            assert "shared-ca" not in found and "not-signed-by-ca" not in found
    items = host.tree().items
    assert len({items[one].certificate.key_sha256 for one in catalogue.CA_NAMES}) == 3
    for item in items.values():
        if item.kind in (catalogue.LEAF, catalogue.KUBECONFIG) and not item.missing:
            assert item.certificate.signed_by(items[item.ca].certificate), item.name


@pytest.mark.parametrize(
    "component, flag",
    [
        ("kube-controller-manager", "--root-ca-file"),
        ("kube-apiserver", "--kubelet-certificate-authority"),
        ("etcd", "--peer-trusted-ca-file"),
        ("kube-scheduler", "--client-ca-file"),
        ("kube-controller-manager", "--requestheader-client-ca-file"),
    ],
)
def test_a_copy_of_the_clusters_ca_that_a_flag_names_is_refused_by_the_plan(host, component, flag):
    host.node.write("/srv/copy.crt", host.node.cluster.cas["ca"].pem)
    host.node.flag(component, flag, "/srv/copy.crt")
    with pytest.raises(PkiError, match=r"cp1: .*srv/copy.crt: %s of %s" % (flag, component)):
        rotation_plan.derived([host.facts()], ["ca"], "all")
    rotation_plan.derived([host.facts()], ["front-proxy-ca", "etcd-ca", "sa"], "all")
    host.node.path("/srv/copy.crt").write_bytes(Cluster(label="another").cas["ca"].pem)
    rotation_plan.derived([host.facts()], ["ca"], "all")


def test_a_peer_ca_that_is_the_clusters_ca_file_is_refused(host):
    host.node.flag("etcd", "--peer-trusted-ca-file", PKI + "/ca.crt")
    with pytest.raises(PkiError, match=r"--peer-trusted-ca-file of etcd trusts the cluster's CA"):
        rotation_plan.derived([host.facts()], ["ca"], "all")


def test_an_external_etcd_that_the_clusters_ca_signs_for_is_refused(host):
    host.node.kubernetes("manifests/etcd.yaml").unlink()
    host.node.flag("kube-apiserver", "--etcd-cafile", PKI + "/ca.crt")
    for name in ("ca.crt", "ca.key"):
        host.node.kubernetes("pki/etcd/" + name).unlink()
    with pytest.raises(PkiError, match=r"--etcd-cafile of kube-apiserver trusts the cluster's CA.*The tool that set etcd up"):
        rotation_plan.derived([host.facts()], ["ca"], "all")
    for name in ("ca.crt", "ca.key"):  # the remedy
        host.node.write(PKI + "/etcd/" + name, host.node.kubernetes("pki/" + name).read_bytes())
    host.node.flag("kube-apiserver", "--etcd-cafile", PKI + "/etcd/ca.crt")
    assert rotation_plan.derived([host.facts()], ["ca"], "all")["phases"] == ["prepare", "switch", "complete"]


def test_a_merged_admin_conf_keeps_the_other_clusters_entries_through_a_rotation(host):
    host.node.merge(Cluster(label="another"))
    path = host.node.kubernetes("admin.conf")

    def theirs():
        data = yaml.safe_load(path.read_text())
        return {
            kind: [entry for entry in data[kind] if entry["name"] in ("other", "kubernetes-admin-b")]
            for kind in ("clusters", "users")
        }

    before = theirs()
    assert before["clusters"] and before["users"]
    host.stage()
    for level in (PREPARED, SWITCHED, COMPLETED):
        host.level(level)
    assert theirs() == before
    own = kubeconfig.Kubeconfig(path.read_bytes(), str(path))
    ca = x509_read.parse_certificates(host.node.kubernetes("pki/ca.crt").read_bytes())
    assert ids(own.ca_data) == [item.key_sha256 for item in ca]
    assert x509_read.parse_certificate(own.certificate_data).signed_by(ca[0])


def test_an_admin_conf_of_other_clusters_is_refused_before_anything_changes(host):
    path = host.node.kubernetes("admin.conf")
    certificate, leaf_key = Cluster(label="another").leaf("admin.conf", "cp1", "10.0.0.1")
    config = kubeconfig.Kubeconfig(path.read_bytes(), str(path))
    path.write_bytes(bytes(config.with_client(certificate.pem, leaf_key.pem)))
    host.node.merge(Cluster(label="another"), user="kubernetes-admin")
    with pytest.raises(PkiError, match=r"cp1: .*admin\.conf: its user kubernetes-admin is used for another cluster as well"):
        rotation_plan.derived([host.facts()], ["ca"], "all")
    rotation_plan.derived([host.facts()], ["front-proxy-ca", "etcd-ca", "sa"], "all")


def test_flags_that_cannot_be_changed_are_refused_before_the_first_file_is(host):
    """kube-controller-manager signs nothing with the two certificates that its signing file would have."""
    path = host.node.kubernetes("manifests/kube-controller-manager.yaml")
    words = [line.strip()[2:] for line in path.read_text().splitlines() if line.startswith("    - ")]
    start = path.read_text().index("  - command:")
    path.write_text(
        path.read_text()[:start] + '  - command: [sh, -c, "exec %s"]\n    name: kube-controller-manager\n' % " ".join(words)
    )
    host.stage(("ca",))
    before = host.snapshot()
    with pytest.raises(PkiError, match=r"kube-controller-manager.yaml: .*shell"):
        host.level(PREPARED, ("ca",))
    assert host.snapshot() == before


def test_phases_out_of_turn_are_refused(host):
    for level in (PREPARED, SWITCHED):
        with pytest.raises(PkiError, match="no new CA"):
            desired_state.declare(host.tree(), ("ca",), level)
    host.stage()
    with pytest.raises(PkiError, match="does not sign yet"):
        desired_state.declare(host.tree(), ("ca",), COMPLETED)
    host.level(PREPARED)
    host.level(SWITCHED)
    with pytest.raises(PkiError, match="Go back to prepared first"):
        desired_state.declare(host.tree(), ("ca",), ROLLED_BACK)


def test_an_authority_whose_key_is_elsewhere_is_refused(host):
    host.node.kubernetes("pki/ca.key").unlink()
    assert rotation_state.derive("ca", [host.facts()]).phase == "external"
    with pytest.raises(PkiError, match="not on this node"):
        host.stage(("ca",))


def test_a_key_that_does_not_belong_to_its_certificate_is_named(host):
    host.node.kubernetes("pki/ca.key").write_bytes(key("stranger").pem)
    state = rotation_state.derive("ca", [host.facts()])
    assert state.phase == "impossible" and "ca.key" in state.evidence[0]
    with pytest.raises(PkiError, match="does not match"):
        host.stage(("ca",))


def test_a_leaf_of_the_users_own_stays(host):
    stranger_key = key("stranger")
    stranger = ca_sign.build_ca("public authority", stranger_key, 100)
    leaf = x509_sign.sign_leaf(
        x509_sign.Profile("api", sans=["DNS:api.example"], extended_usages=("server",)), key("cp-own"), stranger, stranger_key, 90
    )
    host.node.kubernetes("pki/apiserver.crt").write_bytes(leaf.pem)
    host.node.kubernetes("pki/apiserver.key").write_bytes(key("cp-own").pem)
    host.stage()
    host.level(PREPARED)
    host.level(SWITCHED)
    assert x509_read.parse_certificate(host.node.kubernetes("pki/apiserver.crt").read_bytes()).sha256 == leaf.sha256


def _pair(days=365.0, label="brought", **changes):
    ca_key = key(label)
    return ca_sign.build_ca("brought", ca_key, days), ca_key


def test_an_authority_brought_by_the_user_is_taken_or_refused(host, tmp_path):
    ca, ca_key = _pair()
    taken = new_ca.take_new_ca("ca", ca.pem, ca_key.pem)
    assert taken.id == ca.key_sha256
    with pytest.raises(PkiError, match="not the key"):
        new_ca.take_new_ca("ca", ca.pem, key("stranger").pem)
    leaf = x509_sign.sign_leaf(x509_sign.Profile("leaf"), key("stranger"), ca, ca_key, 1)
    with pytest.raises(PkiError, match="not a certificate authority"):
        new_ca.take_new_ca("ca", leaf.pem, key("stranger").pem)
    expired = ca_sign.build_ca(
        "old", ca_key, 1, start=x509_read.now() - 3 * (x509_sign.LATEST - x509_sign.LATEST.replace(day=30))
    )
    with pytest.raises(PkiError, match="expired"):
        new_ca.take_new_ca("ca", expired.pem, ca_key.pem)
    for extension, words in (
        ("nameConstraints=critical,permitted;DNS:.example.org", "name constraints"),
        ("nameConstraints=critical,excluded;IP:10.0.0.0/255.0.0.0", "name constraints"),
    ):
        made = _openssl_ca(tmp_path, ca_key, "basicConstraints=critical,CA:TRUE", extension)
        with pytest.raises(PkiError, match=words):
            new_ca.take_new_ca("ca", made, ca_key.pem, new_ca.leaf_names(host.tree(), "ca"))
    short = x509_read.parse_certificate(_openssl_ca(tmp_path, ca_key, "basicConstraints=critical,CA:TRUE,pathlen:0"))
    ca_checks.check_ca(short, ca_key)
    with pytest.raises(PkiError, match="path length"):
        ca_checks.check_ca(short, ca_key, signs_cas=True)


def _openssl_ca(folder: Path, ca_key, *extensions: str) -> bytes:
    (folder / "ca.key").write_bytes(ca_key.pem)
    command = ["openssl", "req", "-x509", "-new", "-key", str(folder / "ca.key"), "-subj", "/CN=brought", "-days", "30"]
    for extension in ("keyUsage=critical,keyCertSign",) + extensions:
        command += ["-addext", extension]
    return subprocess.run(command, check=True, capture_output=True).stdout


class Killed(BaseException):
    """What a kill looks like from inside: no except clause of the code under test takes it."""


def kill_at(monkeypatch, number: int) -> list:
    """Let the process die at its n-th change of the file system. Gives the list of calls so far."""
    calls: list[str] = []

    def wrap(module, name):
        real = getattr(module, name)

        def dying(*arguments, **options):
            calls.append(name)
            if len(calls) == number:
                raise Killed
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, dying)

    for name in ("rename", "unlink", "rmdir", "mkdir", "fsync"):
        wrap(os, name)
    return calls


GOALS = {
    PREPARED: "prepared",
    SWITCHED: "switched",
    COMPLETED: "completed",
    "back from switched": "rolled_back",
    "back from prepared": "rolled_back",
}


@pytest.mark.parametrize("level", [PREPARED, SWITCHED, COMPLETED, "back from switched", "back from prepared", "stage"])
def test_a_kill_at_any_write_converges(tmp_path, monkeypatch, level):
    """Every write point of every phase: what is found afterwards is derivable, and a second run ends in the same state."""
    cluster = Cluster()
    total = None
    points: list = [None]
    seed = random.Random(7)
    for number in points:
        host = Host(tmp_path / ("run%s" % number), cluster)
        ready(host, level)
        with monkeypatch.context() as patch:
            calls = kill_at(patch, number or 10**9)
            with contextlib.suppress(Killed):
                go(host, level)
        if number is None:
            total = len(calls)
            assert total > 10
            # All of them in the integration suite; here enough to meet each kind.
            points.extend(sorted(seed.sample(range(1, total + 1), min(total, 5))))
        for state in rotation_state.derive_all([facts_without_kubelet(host)]).values():  # a check, which heals nothing
            assert not state.refused or all("a run ended while this was being replaced" in said for said in state.evidence)
        pod_restart.restore(host.state)  # as preflight does, before anything is looked at
        seen = facts_without_kubelet(host)
        states = rotation_state.derive_all([seen])
        assert not any(state.refused for state in states.values()), [state.evidence for state in states.values()]
        if level != "stage":
            rotation_steps.plan([seen], catalogue.ROTATABLE, GOALS[level])  # the same command goes on
        go(host, level)
        wanted = {
            PREPARED: {"prepared"},
            SWITCHED: {"switched"},
            COMPLETED: {"stable"},
            "back from switched": {"prepared"},
            "back from prepared": {"stable"},
            "stage": {"preparing"},
        }[level]
        states = rotation_state.derive_all([facts_without_kubelet(host)])
        assert {state.phase for state in states.values()} == wanted
        litter = [path for path in host.snapshot() if ".kubepki-" in path]
        assert litter == []


def ready(host: Host, level) -> None:
    if level == "stage":
        return
    host.stage()
    for step in {SWITCHED: [1], COMPLETED: [1, 2], "back from switched": [1, 2], "back from prepared": [1]}.get(level, []):
        host.level(step)


def go(host: Host, level) -> None:
    if level == "stage":
        declaration.recover(host.tree().layout, host.state)
        host.stage()
    else:
        host.level({"back from switched": PREPARED, "back from prepared": ROLLED_BACK}.get(level, level))


def test_a_full_disk_leaves_the_node_as_it_was(host, monkeypatch):
    host.stage()
    before = host.snapshot()

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(PkiError, match="no space left"):
            host.level(PREPARED)
    assert host.snapshot() == before


def test_what_runs_since_before_the_change_is_known(host, monkeypatch):
    boot, now = pending_restarts.uptime()
    assert boot and now > 0
    begun = {"kube-apiserver": now - 10, "etcd": now + 10}
    monkeypatch.setattr(pending_restarts, "started", lambda component: begun.get(component, -1))
    record = {"boot": boot, "pending": {"kube-apiserver": now, "etcd": now, "kube-scheduler": now}}
    assert pending_restarts.stale(record) == ["kube-apiserver"]
    assert pending_restarts.stale(dict(record, boot="another")) == []


def test_a_process_that_is_only_called_like_a_component_is_none():
    with subprocess.Popen(["kubelet", "60"], executable=shutil.which("sleep")) as process:
        try:
            # Popen returns a moment before the kernel shows the new command line.
            while not Path("/proc/%d/cmdline" % process.pid).read_bytes():
                assert process.poll() is None
            assert STARTED("kubelet") == -1
        finally:
            process.kill()
    assert STARTED("no-such-program") == -1


class Server:
    """A TLS server that lets in clients of some authorities, as etcd does: at the handshake."""

    def __init__(self, folder: Path, trusted: bytes, signer=None):
        serving_key = key("server")
        ca, ca_key = (
            (signer.certificate, signer.key) if signer else (ca_sign.build_ca("server", key("server-ca"), 10), key("server-ca"))
        )
        profile = x509_sign.Profile("server", sans=["IP:127.0.0.1"], extended_usages=("server",))
        leaf = x509_sign.sign_leaf(profile, serving_key, ca, ca_key, 1)
        (folder / "server.pem").write_bytes(leaf.pem + serving_key.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        context.verify_mode = ssl.CERT_OPTIONAL if signer else ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted.decode())

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.headers.get("X-Remote-User", "kubepki-probe") == "kubepki-probe" else 401)
                self.end_headers()

            def log_message(self, *_arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.handle_error = lambda *_arguments: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return discovery.Endpoint("etcd-server", "etcd", "127.0.0.1", self.server.server_address[1])

    def __exit__(self, *_exception):
        self.server.shutdown()
        self.server.server_close()


def test_what_is_served_below_the_former_authority_is_listed(host, tmp_path, monkeypatch):
    old = local_ca.local_cas(host.tree().layout)["ca"].current
    host.stage()
    host.level(PREPARED)

    def served():
        return [(item["path"], item["why"]) for item in stale_trust.find(host.tree()) if item["what"] == "served certificate"]

    with Server(tmp_path, old.certificate.pem, old) as endpoint:
        monkeypatch.setattr(discovery, "endpoints", lambda layout: [endpoint])
        assert served() == []
        host.level(SWITCHED)
        assert served() == [("etcd-server", "signed by %s of ca" % errors.short(old.id))]


def test_a_users_kubeconfig_with_several_clusters_depends_on_this_one_whichever_is_current(host):
    host.node.merge(Cluster(label="another"))
    path = host.node.write("/root/.kube/config", host.node.kubernetes("admin.conf").read_bytes())
    other = host.node.write(
        "/home/bob/.kube/config",
        kubeconfig.build("https://other.example:6443", Cluster(label="another").cas["ca"].pem, "bob", b"", b""),
    )
    cluster = local_ca.local_cas(host.tree().layout, ["ca"])["ca"]

    def why(name, signer):
        return stale_trust._depends(str(name), signer, cluster.known() + [new.certificate])

    new = host.stage(("ca",))["ca"]
    assert why(path, cluster.current.id) is None
    assert why(path, new.id) == "does not trust the CA that signs"
    text = kubeconfig.Kubeconfig(path.read_bytes(), str(path), "kubernetes-admin@kubernetes")
    path.write_bytes(bytes(text.with_ca(new.certificate_pem)))
    assert why(path, new.id) == "its client certificate is signed by %s" % errors.short(cluster.current.id)
    assert why(other, new.id) == "does not trust the CA that signs", "alone in its file, it may be one that was dropped"


def test_whom_a_component_lets_in_is_seen(host, tmp_path, monkeypatch):
    staged = host.stage(("etcd-ca",))
    old = host.node.kubernetes("pki/etcd/ca.crt").read_bytes()
    new = staged["etcd-ca"].certificate_pem

    def ask(trusted, accepted):
        with Server(tmp_path, trusted) as endpoint:
            monkeypatch.setattr(discovery, "endpoints", lambda layout: [endpoint])
            return [item["right"] for item in client_acceptance.prove(host.tree().layout, ("etcd-ca",), accepted, host.state)]

    assert ask(old + new, True) == [True]
    assert ask(old, True) == [False]
    for level in (PREPARED, SWITCHED, COMPLETED):
        host.level(level, ("etcd-ca",), host.state)
    assert os.stat(probe_client.path_of(host.state, "etcd-ca")).st_mode & 0o777 == 0o600
    assert ask(new, False) == [True]
    assert ask(old + new, False) == [False]
    assert ask(new, True) == [True]


def test_the_client_of_a_dropped_authority_proves_something_as_long_as_that_authority_would(host, monkeypatch):
    """Whoever completes again a week later sees it refused for its signer, not for its age."""
    asked = []
    endpoint = discovery.Endpoint("etcd-server", "etcd", "127.0.0.1", 2379)
    monkeypatch.setattr(discovery, "endpoints", lambda layout: [endpoint])
    refused = types.SimpleNamespace(status=401)
    monkeypatch.setattr(http_client, "http_request", lambda url, client, **_more: asked.append(client) or refused)
    former = x509_read.parse_certificate(host.node.kubernetes("pki/etcd/ca.crt").read_bytes())
    host.stage(("etcd-ca",))
    for level in (PREPARED, SWITCHED, COMPLETED):
        host.level(level, ("etcd-ca",), host.state)
    client = x509_read.parse_certificate(Path(probe_client.path_of(host.state, "etcd-ca")).read_bytes())
    assert abs((client.not_after - former.not_after).total_seconds()) < 60
    accepted = x509_read.parse_certificate(
        probe_client.build(host.tree().layout, "etcd-ca", local_ca.local_cas(host.tree().layout)["etcd-ca"].current)[0]
    )
    assert (accepted.not_after - x509_read.now()).days < 2
    assert [item["right"] for item in client_acceptance.prove(host.tree().layout, ("etcd-ca",), False, host.state)] == [True]
    assert len(asked) == 1
    monkeypatch.setattr(client_acceptance, "now", lambda: former.not_after)
    assert client_acceptance.prove(host.tree().layout, ("etcd-ca",), False, host.state) == [] and len(asked) == 1


def test_each_component_is_asked_for_something_that_needs_a_name(host, monkeypatch):
    asked = []

    def request(url, client=None, timeout=None, headers=None):
        asked.append((url, (headers or {}).get("X-Remote-User")))
        return http_client.Answer(403, b"")

    host.stage()
    monkeypatch.setattr(
        discovery,
        "endpoints",
        lambda layout: [
            discovery.Endpoint(name, name, "127.0.0.1", port)
            for name, port in (("apiserver", 1), ("kubelet", 2), ("etcd-server", 3))
        ],
    )
    monkeypatch.setattr(http_client, "http_request", request)
    found = client_acceptance.prove(host.tree().layout, catalogue.ROTATABLE, True, host.state)
    assert all(item["right"] for item in found) and len(found) == 4
    assert set(asked) == {
        ("https://127.0.0.1:1/api", None),
        ("https://127.0.0.1:1/api", "kubepki-probe"),
        ("https://127.0.0.1:2/pods", None),
        ("https://127.0.0.1:3/version", None),
    }
    asked.clear()
    (kubelet,) = client_acceptance.prove(host.tree().layout, catalogue.ROTATABLE, True, host.state, ["kubelet"])
    assert kubelet["endpoint"] == "kubelet" and asked == [("https://127.0.0.1:2/pods", None)]


def test_who_does_not_answer_has_refused_nobody(host, monkeypatch):
    host.stage(("etcd-ca",))
    for level in (PREPARED, SWITCHED, COMPLETED):
        host.level(level, ("etcd-ca",), host.state)
    monkeypatch.setattr(discovery, "endpoints", lambda layout: [discovery.Endpoint("etcd-server", "etcd", "127.0.0.1", 1)])
    assert [item["right"] for item in client_acceptance.prove(host.tree().layout, ("etcd-ca",), False, host.state)] == [False]


def test_how_long_a_phase_took_is_known_the_next_time(host, monkeypatch):
    boot, now = pending_restarts.uptime()
    monkeypatch.setattr(pending_restarts, "started", lambda component: now + (40 if component == "etcd" else 12))
    last = {"phase": "switch", "at": now, "components": ["etcd", "kube-scheduler"]}
    record = {"boot": boot, "seconds": {"prepare": 9.0}, "last": last}
    assert pending_restarts.phase_durations(record) == {"prepare": 9.0, "switch": 40.0}
    monkeypatch.setattr(pending_restarts, "started", lambda component: now - 5)
    assert pending_restarts.phase_durations(record) == {"prepare": 9.0}


def test_a_mounted_token_of_a_former_key_is_found(host):
    former = private_keys.parse_public_keys(key("former").public_pem)[0].key_sha256
    kid = base64.urlsafe_b64encode(bytes.fromhex(former)).rstrip(b"=").decode()
    head = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": kid}).encode()).rstrip(b"=")
    for pod, token in (("old", head + b".e30.c2ln"), ("other", b"e30.e30.c2ln"), ("none", b"not a token")):
        host.node.write("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~projected/api/token" % pod, token)
    layout = host.tree().layout
    assert pod_volumes.tokens_signed_by(layout, former) == ["pods/old/volumes/kubernetes.io~projected/api/token"]
    assert pod_volumes.tokens_signed_by(layout, "0" * 64) == []


def test_a_mounted_bundle_that_lags_is_found(host):
    staged = host.stage(("ca",))
    host.level(PREPARED, ("ca",))
    both = host.node.kubernetes("pki/ca.crt").read_bytes()
    old = x509_read.parse_certificate(both).pem
    for pod, bundle in (
        ("new", both),
        ("old", old),
        ("foreign", ca_sign.build_ca("x", key("stranger"), 1).pem),
        ("none", b"?"),
    ):
        host.node.write("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~secret/default-token-x7k2p/ca.crt" % pod, bundle)
    assert pod_volumes.lagging(host.tree().layout, both) == (
        4,
        ["pods/old/volumes/kubernetes.io~secret/default-token-x7k2p/ca.crt"],
    )
    assert staged


def test_a_pod_may_be_ahead_of_its_node(host):
    """kube-root-ca.crt drops the former authority before the last kubelet does: a run killed in between has to go on."""
    host.stage(("ca",))
    host.level(PREPARED, ("ca",))
    both = host.node.kubernetes("pki/ca.crt").read_bytes()
    old, new = x509_read.parse_certificates(both)
    place = "/var/lib/kubelet/pods/%s/volumes/kubernetes.io~secret/default-token-x7k2p/ca.crt"
    for pod, bundle in (("ahead", new.pem), ("between", both), ("behind", old.pem)):
        host.node.write(place % pod, bundle)
    layout = host.tree().layout
    for needed, late in ((new.key_sha256, "behind"), (old.key_sha256, "ahead")):
        assert pod_volumes.lagging(layout, both, needed) == (3, [(place % late)[len("/var/lib/kubelet/") :]])
    # A node that trusts the successor alone knows the former one no more, and a pod with that alone is not its cluster's.
    assert pod_volumes.lagging(layout, new.pem, new.key_sha256) == (3, [])


def signed_with(label: str) -> tuple:
    """A token (bytes) whose header names a key, and the digest of that key."""
    digest = private_keys.parse_public_keys(key(label).public_pem)[0].key_sha256
    kid = base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"=").decode()
    return base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": kid}).encode()).rstrip(b"=") + b".e30.c2ln", digest


def mount(host, kind, name, **data):
    """A volume as the kubelet writes it: files are links into ..data, and that is a link to the newest folder."""
    volume = "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~%s/%s" % (kind, name)
    for file_name, content in data.items():
        host.node.write("%s/..2026_11_22/%s" % (volume, file_name.replace("_", ".")), content)
        host.node.path("%s/%s" % (volume, file_name.replace("_", "."))).symlink_to("..data/" + file_name.replace("_", "."))
    host.node.path(volume + "/..data").symlink_to("..2026_11_22")
    return volume[len("/var/lib/kubelet/") :]


@pytest.mark.parametrize(
    "kind, name, with_token, looked_at",
    [
        ("projected", "kube-api-access-x7k2p", True, True),
        ("secret", "default-token-x7k2p", True, True),
        ("secret", "my-app-token-x7k2p", True, True),
        ("projected", "vault-login", True, True),
        # What a pod brings itself stays what it is for ever.
        ("projected", "all-in-one", False, False),
        ("secret", "webhook-ca", False, False),
        ("secret", "copied-login", True, False),
        ("configmap", "copied-ca", False, False),
        ("empty-dir", "work", True, False),
        ("csi", "kube-api-access-x7k2p", True, False),
    ],
)
def test_only_volumes_of_service_accounts_hold_a_phase_up(host, kind, name, with_token, looked_at):
    old = host.node.kubernetes("pki/ca.crt").read_bytes()
    both = old + ca_sign.build_ca("kubernetes", key("successor"), 10).pem
    token, former = signed_with("former")
    volume = mount(host, kind, name, ca_crt=old, **({"token": token} if with_token else {}))
    layout = host.tree().layout
    assert pod_volumes.lagging(layout, both) == ((1, [volume + "/ca.crt"]) if looked_at else (0, []))
    assert pod_volumes.tokens_signed_by(layout, former) == ([volume + "/token"] if looked_at else [])
    assert pod_volumes.lagging(layout, old) == ((1, []) if looked_at else (0, []))


@pytest.mark.parametrize(
    "volume", ["kubernetes.io~empty-dir/e", "kubernetes.io~projected/kube-api-access-aaaaa", "kubernetes.io~secret/x-token-aaaaa"]
)
@pytest.mark.parametrize("what", ["endless", "pipe", "folder", "outside", "circle", "large"])
def test_nothing_that_a_pod_puts_there_is_followed_or_waited_for(host, tmp_path, volume, what):
    old = host.node.kubernetes("pki/ca.crt").read_bytes()
    token, former = signed_with("former")
    (tmp_path / "outside").mkdir()
    for name, data in (("ca.crt", old), ("token", token)):
        path = host.node.path("/var/lib/kubelet/pods/uid/volumes/" + volume) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "outside" / name).write_bytes(data)
        {
            "endless": lambda path=path: path.symlink_to("/dev/zero"),
            "pipe": lambda path=path: os.mkfifo(path),
            "folder": path.mkdir,
            "outside": lambda path=path, name=name: path.symlink_to(tmp_path / "outside" / name),
            "circle": lambda path=path, name=name: path.symlink_to(name),
            "large": lambda path=path, data=data: path.write_bytes(data + b"#" * (1 << 20)),
        }[what]()
    layout = host.tree().layout
    assert pod_volumes.lagging(layout, old + ca_sign.build_ca("x", key("successor"), 10).pem) == (0, [])
    assert pod_volumes.tokens_signed_by(layout, former) == []


def test_a_plan_says_when_the_api_will_be_away(tmp_path):
    """With another control-plane node it is not."""
    cluster = Cluster()
    first, second = Host(tmp_path / "a", cluster), Host(tmp_path / "b", cluster, "cp2")
    alone = rotation_plan.derived([first.facts()], catalogue.ROTATABLE, "all")["plan_text"]
    assert sum("the API is away meanwhile" in line for line in alone) == 3
    both = rotation_plan.derived([first.facts(), second.facts()], catalogue.ROTATABLE, "all")["plan_text"]
    assert not any("away" in line for line in both)


class TestExternalEtcd:
    """The apiserver goes to an etcd that is no static pod, with a certificate that somebody else gave it."""

    NAMES = ["ca", "front-proxy-ca", "sa"]
    PLACE = "https://10.0.0.9:2379"

    @pytest.fixture(params=[False, True], ids=["its key is elsewhere", "its key is here"])
    def host(self, request, tmp_path):
        host = Host(tmp_path)
        manifest = host.node.kubernetes("manifests/kube-apiserver.yaml")
        manifest.write_text(manifest.read_text().replace("https://127.0.0.1:2379", self.PLACE))
        for name in (
            "manifests/etcd.yaml",
            *[
                "pki/etcd/%s" % one
                for one in (
                    "server.crt",
                    "server.key",
                    "peer.crt",
                    "peer.key",
                    "healthcheck-client.crt",
                    "healthcheck-client.key",
                )
            ],
        ):
            host.node.kubernetes(name).unlink()
        if not request.param:
            host.node.kubernetes("pki/etcd/ca.key").unlink()
        return host

    def derived(self, host, target="all", named=True, names=catalogue.ROTATABLE):
        return rotation_plan.derived([host.facts()], list(names), target, named)

    def test_the_facts_say_where_it_is(self, host):
        assert host.facts()["external_etcd"] == self.PLACE
        assert self.derived(host, "status")["phase"] == {**dict.fromkeys(self.NAMES, "stable"), "etcd-ca": "external"}

    @pytest.mark.parametrize("target", ["prepare", "switch", "complete", "rollback", "all"])
    @pytest.mark.parametrize("names", [["etcd-ca"], ["ca", "etcd-ca"], list(catalogue.ROTATABLE)])
    def test_named_it_is_refused_with_the_reason(self, host, target, names):
        with pytest.raises(PkiError) as error:
            self.derived(host, target, names=names)
        assert self.PLACE in str(error.value) and "kubepki_cas=ca,front-proxy-ca,sa" in str(error.value)

    def test_not_named_it_is_left_out_and_that_is_said(self, host):
        found = self.derived(host, named=False)
        assert found["names"] == self.NAMES and found["phases"] == ["prepare", "switch", "complete"]
        assert any(line.startswith("etcd-ca is external") for line in found["explanation"])
        assert not any("etcd" in line for line in found["plan_text"])
        assert self.derived(host, "rollback", named=False)["plan"] == []

    def test_no_other_authority_is_left_out_unasked(self, host):
        host.node.kubernetes("pki/front-proxy-ca.key").unlink()
        with pytest.raises(PkiError, match="front-proxy-ca does not allow"):
            self.derived(host, named=False)

    @pytest.mark.parametrize("far", [1, 2])
    def test_the_others_go_there_and_back_and_nothing_of_etcds_changes(self, host, far):
        own = [
            host.node.kubernetes(path)
            for path in ("pki/etcd/ca.crt", "pki/apiserver-etcd-client.crt", "pki/apiserver-etcd-client.key")
        ]
        before, mine = host.snapshot(), [path.read_bytes() for path in own]
        host.stage(self.NAMES)
        for level in range(1, far + 1):
            host.level(level, self.NAMES)
            assert [path.read_bytes() for path in own] == mine
        for level in range(far - 1, -1, -1):
            host.level(level, self.NAMES)
        assert host.snapshot() == before

    def test_a_whole_rotation_ends_stable(self, host):
        mine = host.node.kubernetes("pki/apiserver-etcd-client.crt").read_bytes()
        host.stage(self.NAMES)
        for level in (1, 2, 3):
            host.level(level, self.NAMES)
        assert self.derived(host, "status")["phase"]["front-proxy-ca"] == "stable"
        assert host.node.kubernetes("pki/apiserver-etcd-client.crt").read_bytes() == mine

    def test_the_module_that_changes_files_refuses_it_too(self, host):
        layout = host.tree().layout
        obstacles.refuse_external_etcd(layout, self.NAMES)
        with pytest.raises(PkiError, match=r"etcd is external \(https://10.0.0.9:2379\)"):
            obstacles.refuse_external_etcd(layout, [*self.NAMES, "etcd-ca"])


def test_a_node_that_is_also_a_host_of_etcd_in_a_static_pod_is_refused_and_not_forgotten(tmp_path):
    cluster = Cluster()
    first, other = Host(tmp_path / "a", cluster), Host(tmp_path / "b", cluster, "w1", role="worker")
    other.node.manifest("etcd", ["--cert-file=/etc/kubernetes/pki/etcd/server.crt"], image="registry/etcd:3.4.13-0")
    assert other.facts()["role"] == "etcd"
    with pytest.raises(PkiError, match="w1.*would not be brought along"):
        rotation_plan.derived([first.facts(), other.facts()], catalogue.ROTATABLE, "prepare")


@pytest.mark.parametrize("named", [True, False])
def test_tokens_that_an_external_signer_signs_are_left_alone_and_the_reason_is_given(tmp_path, named):
    host = Host(tmp_path)
    manifest = host.node.kubernetes("manifests/kube-apiserver.yaml")
    text = manifest.read_text()
    line = next(
        line
        for line in text.splitlines()
        if "--service-account-signing-key-file" in line or "--secure-port" in line or "--etcd-servers" in line
    )
    manifest.write_text(
        text.replace(line, line + "\n" + line.split("--")[0] + "--service-account-signing-endpoint=/run/signer.sock")
    )
    facts = host.facts()
    assert facts["token_signer"] == "/run/signer.sock"
    if named:
        with pytest.raises(PkiError, match="service-account-signing-endpoint"):
            rotation_plan.derived([facts], list(catalogue.ROTATABLE), "prepare")
    else:
        found = rotation_plan.derived([facts], list(catalogue.ROTATABLE), "all", named=False)
        assert found["names"] == ["ca", "front-proxy-ca", "etcd-ca"]
        assert any(line.startswith("sa is external") for line in found["explanation"])
    with pytest.raises(PkiError, match="external signer"):
        obstacles.refuse_external_signer(host.tree().layout, ["ca", "sa"])
    obstacles.refuse_external_signer(host.tree().layout, ["ca"])
