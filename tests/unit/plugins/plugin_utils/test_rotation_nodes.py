# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations over nodes with real files that are killed, joined, put back or damaged on the way."""

from __future__ import annotations

import contextlib
import shutil

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    backup_paths,
    backup_restore,
    backup_set,
    file_changes,
    transaction_recovery,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import file_users, pending_restarts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read

from tests.unit.support.rotating import Host, Killed, Nodes
from tests.unit.support.throwaway import key

ALL = catalogue.ROTATABLE


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    monkeypatch.setattr(pending_restarts, "started", lambda component: -1)


@pytest.fixture
def nodes(tmp_path):
    return Nodes(tmp_path)


def trusted(host: Host, path: str = "pki/ca.crt") -> list:
    return [item.subject for item in x509_read.parse_certificates(host.file(path).read_bytes())]


def put_back(host: Host, saved) -> None:
    shutil.rmtree(host.root / "etc")
    shutil.copytree(saved, host.root / "etc", symlinks=True)


def test_a_whole_rotation_and_nothing_after_it(nodes):
    assert nodes.run("all")["phases"] == ["prepare", "switch", "complete"]
    assert nodes.phases() == {"stable"} and nodes.run("complete")["phases"] == []


@pytest.mark.parametrize(
    "reached, after",
    [
        ("prepare", "rollback"),
        ("prepare", "prepare"),
        ("prepare", "all"),
        ("switch", "switch"),
        ("switch", "complete"),
        ("switch", "all"),
    ],
)
def test_a_control_plane_node_that_joins_in_the_midst_is_brought_along(nodes, reached, after):
    for phase in ("prepare", "switch")[: 1 if reached == "prepare" else 2]:
        nodes.run(phase)
    joined = nodes.join("cp9")
    if (reached, after) == ("switch", "complete"):
        nodes.run("switch")  # its kubeconfigs, as kubeadm writes them, know one authority
    nodes.run(after)
    manifest = joined.file("manifests/kube-controller-manager.yaml").read_text()
    assert ("ca-signing.crt" in manifest) == joined.file("pki/ca-signing.crt").exists() == (after in ("prepare", "switch"))
    assert len(trusted(joined)) == (2 if after in ("prepare", "switch") else 1)


def test_who_joined_after_the_switch_has_no_way_back_and_is_named(nodes):
    for phase in ("prepare", "switch"):
        nodes.run(phase)
    nodes.join("cp9")
    with pytest.raises(PkiError) as refused:
        nodes.run("rollback")
    assert "cp9" in str(refused.value) and "pki.previous" in refused.value.fix
    shutil.copytree(nodes["cp1"].file("pki.previous"), nodes["cp9"].file("pki.previous"))
    nodes.run("rollback")


@pytest.mark.parametrize("after", ["rollback", "prepare"])
def test_a_successor_that_one_node_lost_is_brought_again_or_forgotten(nodes, after):
    nodes.run("prepare")
    shutil.rmtree(nodes["cp2"].file("pki.next"))
    nodes.run(after)


def test_an_old_kubeconfig_that_comes_back_loses_the_former_authority(nodes):
    old = nodes["cp2"].file("admin.conf").read_bytes()
    nodes.run("all")
    nodes["cp2"].file("admin.conf").write_bytes(old)
    assert nodes.derived()["phase"]["ca"] == "completing"
    nodes.run("complete")
    config = kubeconfig.Kubeconfig(nodes["cp2"].file("admin.conf").read_bytes(), "admin.conf")
    assert config.ca_data.strip() == nodes["cp2"].file("pki/ca.crt").read_bytes().strip()


def test_an_authority_of_the_users_own_on_one_control_plane_node_stays_there(nodes):
    path = nodes["cp2"].file("pki/ca.crt")
    path.write_bytes(path.read_bytes() + ca_sign.build_ca("site", key("site"), 100).pem)
    nodes.run("all")
    assert trusted(nodes["cp2"]) == ["CN=kubernetes", "CN=site"] and trusted(nodes["cp1"]) == ["CN=kubernetes"]


@pytest.mark.parametrize("name, kept", [("admin.conf", True), ("kubelet.conf", False)])
def test_an_authority_of_the_users_own_in_a_kubeconfig_stays_or_is_refused(nodes, name, kept):
    """A balancer that ends TLS may have one of its own."""
    path = nodes["cp2"].file(name)
    config = kubeconfig.Kubeconfig(path.read_bytes(), name)
    balancer = ca_sign.build_ca("balancer", key("site"), 100)
    path.write_bytes(bytes(config.with_ca(config.ca_data + balancer.pem)))
    if kept:
        nodes.run("all")
    else:
        with pytest.raises(PkiError, match="cp2: kubelet.conf trusts .* \\(CN=balancer\\), which the control plane does not"):
            nodes.run("all")
    inside = x509_read.parse_certificates(kubeconfig.Kubeconfig(path.read_bytes(), name).ca_data)
    assert [item.subject for item in inside] == ["CN=kubernetes", "CN=balancer"]


def test_a_workers_own_authority_is_refused_by_name_before_it_would_be_lost(nodes):
    path = nodes["w1"].file("pki/ca.crt")
    path.write_bytes(path.read_bytes() + ca_sign.build_ca("site", key("site"), 100).pem)
    for target in ("prepare", "all"):
        with pytest.raises(PkiError, match="w1: its CA file for clients trusts .* \\(CN=site\\)"):
            nodes.run(target)
    assert trusted(nodes["w1"]) == ["CN=kubernetes", "CN=site"]
    for host in nodes.planes:
        path = host.file("pki/ca.crt")
        path.write_bytes(path.read_bytes() + ca_sign.build_ca("site", key("site"), 100).pem)
    nodes.run("all")
    assert trusted(nodes["w1"]) == ["CN=kubernetes", "CN=site"]


@pytest.mark.parametrize("where", ["stage_all", "apply_entries"])
@pytest.mark.parametrize("reached, target, level", [("prepare", "switch", 2), ("switch", "complete", 3)])
def test_the_same_command_goes_on_after_a_module_was_killed_on_the_second_node(nodes, monkeypatch, where, reached, target, level):
    for phase in ("prepare", "switch")[: 1 if reached == "prepare" else 2]:
        nodes.run(phase)
    known = nodes.derived(target)["known"]
    nodes["cp1"].edit(nodes["cp1"].files(ALL, level, known))
    nodes["cp1"].files(ALL, level, known)

    def killed(*_arguments):
        raise Killed

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(file_changes, where, killed)
        nodes["cp2"].files(ALL, level, known)
    nodes.run(target)


@pytest.mark.parametrize("reached", [1, 2])
@pytest.mark.parametrize("taken", [0, 1])
def test_a_node_that_is_put_back_to_an_earlier_phase_is_brought_along_with_the_same_successor(nodes, tmp_path, reached, taken):
    phases = ["prepare", "switch", "complete"]
    for number, phase in enumerate(phases[: taken + reached]):
        if number == taken:
            shutil.copytree(nodes["cp2"].root / "etc", tmp_path / "saved", symlinks=True)
        nodes.run(phase)
    put_back(nodes["cp2"], tmp_path / "saved")
    successor = nodes["cp1"].facts()["authorities"]["ca"]["signer"] if reached + taken > 1 else None
    nodes.run(phases[taken + reached - 1])
    signers = {host.facts()["authorities"]["ca"]["signer"] for host in nodes.planes}
    assert len(signers) == 1 and (successor is None or signers == {successor})


@pytest.mark.parametrize("targets", [["rollback"], ["prepare", "switch"], ["all"]])
def test_a_worker_that_an_interrupted_rollback_of_the_switch_left_ahead_is_brought_along(nodes, targets):
    for phase in ("prepare", "switch"):
        nodes.run(phase)
    with pytest.raises(Killed):
        nodes.run("rollback", kill_after=8)  # both control-plane nodes are done
    state = nodes.derived(names=["ca"])
    assert state["authorities"]["ca"]["levels"] == {"cp1": 1, "cp2": 1, "w1": 2} and state["phase"]["ca"] == "preparing"
    for target in targets:
        nodes.run(target)


def test_a_worker_that_an_interrupted_rollback_of_prepare_left_behind_is_brought_along(nodes):
    """No control-plane node has the new CA any more: what the worker calls it drops it nowhere else."""
    nodes.run("prepare")
    with pytest.raises(Killed):
        nodes.run("rollback", kill_after=8)
    plan = nodes.derived("rollback", ["ca"])
    assert [step["node"] for step in plan["plan"]] == ["w1"] and plan["known"]["ca"]["drop"] == []
    nodes.run("rollback")
    assert len(trusted(nodes["w1"])) == 1


def test_a_key_that_all_could_read_gives_its_mode_to_none(nodes):
    for host in nodes.planes:
        for path in ("pki/ca.key", "pki/etcd/ca.key", "pki/sa.key", "pki/apiserver.key", "admin.conf"):
            host.file(path).chmod(0o644)
    seen = set()
    for phase in ("prepare", "switch", "complete"):
        nodes.run(phase)
        for host in nodes.planes:
            keys = [path for path in (host.root / "etc").rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
            new = {path for path in keys if "pki.next" in str(path) or phase != "prepare"}
            seen |= {path.name for path in new if path.stat().st_mode & 0o077}
            assert len(keys) > 4
    assert seen == set()


@pytest.mark.parametrize("phase", ["prepare", "switch"])
@pytest.mark.parametrize("journal", [False, True])
def test_a_restore_in_the_midst_of_a_rotation_is_seen_and_the_rotation_goes_on(nodes, monkeypatch, phase, journal):
    """One node goes back to a set from before the rotation, also where a module was killed there just before."""
    host = nodes["cp2"]
    everything = backup_paths.default_paths(str(host.file(".")), str(host.node.path("/var/lib/kubelet")))
    made = backup_set.create_backup(everything, "backup", host.backups)
    for each in ("prepare", "switch")[: 1 if phase == "prepare" else 2]:
        nodes.run(each)
    if journal:
        target, level = ("switch", 2) if phase == "prepare" else ("complete", 3)
        known = nodes.derived(target)["known"]
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(file_changes, "apply_entries", lambda *_arguments: (each for each in ()).throw(Killed))
            host.files(ALL, level, known)
    transaction_recovery.recover("restore", host.state)  # as file_backup does before it restores
    assert backup_restore.back_up_and_restore(made, None, host.backups, host.state)[0]
    assert backup_restore.plan_restore(made) and not any(differs for _entry, differs in backup_restore.plan_restore(made))
    assert transaction_recovery.recover("rotation", host.state) == "nothing", "nothing is left to undo the restore"
    assert nodes.phases() != {"stable"}
    nodes.run("all")
    assert nodes.phases() == {"stable"}
    assert len({host.facts()["authorities"]["ca"]["signer"] for host in nodes.planes}) == 1


def test_kubeadm_that_renews_a_kubeconfig_between_a_killed_run_and_the_next_does_no_harm(nodes):
    nodes.run("prepare")
    with pytest.raises(Killed):
        nodes.run("switch", kill_after=3)  # cp1 is done
    path = nodes["cp2"].file("admin.conf")
    config = kubeconfig.Kubeconfig(path.read_bytes(), str(path))
    path.write_bytes(bytes(config.with_ca(x509_read.parse_certificates(config.ca_data)[0].pem)))
    nodes.run("switch")


def test_no_second_successor_is_made_where_the_nodes_know_one(nodes):
    nodes.run("prepare")
    shutil.rmtree(nodes["cp2"].file("pki.next"))
    with pytest.raises(PkiError, match="known to other nodes"):
        nodes["cp2"].staged(["ca"], nodes.derived("prepare")["known"])


def test_a_run_that_ended_while_it_made_successors_goes_on_for_all_that_it_was_for(nodes):
    nodes["cp1"].staged(["etcd-ca"], {})
    assert set(nodes.run("all")["names"]) == set(ALL)


def test_who_is_left_for_another_run_is_said(nodes):
    nodes.run("prepare", ["etcd-ca"])
    plan = nodes.run("all", ["ca", "etcd-ca"])
    assert plan["names"] == ["etcd-ca"]
    assert plan["plan_text"][0].startswith("ca: left as it is. A rotation of etcd-ca is under way")


def test_no_other_authority_begins_while_the_clusters_ca_is_in_the_midst_of_a_phase(nodes):
    with pytest.raises(Killed):
        nodes.run("prepare", ["ca"], kill_after=4)
    with pytest.raises(PkiError, match="it is preparing: not every node is there yet"):
        nodes.run("prepare", ["sa"])
    nodes.run("prepare")


def test_advice_names_the_authority_where_several_stand_at_different_places(nodes):
    nodes.run("prepare")
    nodes.run("switch", ["sa"])
    with pytest.raises(PkiError) as refused:
        nodes.run("complete", ["ca", "sa"])
    assert "kubepki_phase=switch kubepki_cas=ca" in refused.value.fix


KUBE_VIP = """apiVersion: v1
kind: Pod
metadata: {name: kube-vip, namespace: kube-system}
spec:
  containers:
  - {name: kube-vip, image: kube-vip, volumeMounts: [{name: kubeconfig, mountPath: /etc/kubernetes/admin.conf}]}
  volumes:
  - {name: kubeconfig, hostPath: {path: %s}}
"""


def steps(plan, node):
    return {step["phase"]: step["restarts"] for step in plan["plan"] if step["node"] == node}


@pytest.mark.parametrize(
    "path, concerned",
    [
        ("/etc/kubernetes/admin.conf", {"ca"}),
        ("/etc/kubernetes/pki/etcd/ca.crt", {"etcd-ca"}),
        ("/etc/kubernetes/pki/sa.pub", {"sa"}),
    ],
)
@pytest.mark.parametrize("name", ["ca", "etcd-ca", "sa"])
def test_a_static_pod_that_mounts_what_a_phase_replaces_is_restarted_in_each(nodes, path, concerned, name):
    nodes["cp2"].node.write("/etc/kubernetes/manifests/kube-vip.yaml", KUBE_VIP % path)
    plan = nodes.derived("all", [name])
    assert set(steps(plan, "cp2")) == {"prepare", "switch", "complete"}
    for phase, restarts_ in steps(plan, "cp2").items():
        assert ("kube-vip" in restarts_) == (name in concerned), phase
        assert restarts_[-1:] == ["kube-vip"] or name not in concerned, "after the components"
    assert not any("kube-vip" in restarts_ for restarts_ in steps(plan, "cp1").values())


def test_a_static_pod_of_a_worker_that_mounts_its_ca_is_restarted_too(nodes):
    manifest = (KUBE_VIP % "/etc/kubernetes/pki/ca.crt").replace("kube-vip", "agent")
    nodes["w1"].node.write("/etc/kubernetes/manifests/agent.yaml", manifest)
    assert steps(nodes.derived("all"), "w1") == dict.fromkeys(["prepare", "switch", "complete"], ["agent"])


def test_no_phase_is_complete_while_a_static_pod_uses_the_files_of_before(nodes, monkeypatch):
    nodes["cp2"].node.write("/etc/kubernetes/manifests/kube-vip.yaml", KUBE_VIP % "/etc/kubernetes/admin.conf")
    for phase in ("prepare", "switch"):
        nodes.run(phase, ["ca"])
    monkeypatch.setattr(file_users, "stale", lambda layout, user, *more: ["/etc/kubernetes/admin.conf"])
    state = nodes.derived(names=["ca"])
    assert state["phase"]["ca"] == "switching"
    assert any("kube-vip has not been restarted since its files changed" in line for line in state["explanation"])
    with pytest.raises(PkiError, match="not every node is there yet .*cp2"):
        nodes.derived("complete", ["ca"])
    assert steps(nodes.derived("switch", ["ca"]), "cp2") == {"switch": ["kube-vip"]}


def test_a_static_pod_that_cannot_be_restarted_is_named_before_the_point_of_no_return(nodes, monkeypatch):
    for name in ("one", "two"):
        nodes["cp2"].node.write("/etc/kubernetes/manifests/%s.yaml" % name, KUBE_VIP % "/etc/kubernetes/admin.conf")
    for phase in ("prepare", "switch"):
        nodes.run(phase, ["ca"])
    monkeypatch.setattr(file_users, "stale", lambda layout, user, *more: ["/etc/kubernetes/admin.conf"])
    state = nodes.derived(names=["ca"])
    assert any(
        "cp2: the static pod kube-vip has not been restarted" in line and "by hand, because it is in several files" in line
        for line in state["explanation"]
    )
    with pytest.raises(PkiError, match="not every node is there yet"):
        nodes.derived("complete", ["ca"])


def test_a_static_pod_that_is_behind_before_a_rotation_does_not_hold_it_up(nodes, monkeypatch):
    """kubeadm has renewed admin.conf, say: prepare replaces it again and restarts the pod."""
    nodes["cp2"].node.write("/etc/kubernetes/manifests/kube-vip.yaml", KUBE_VIP % "/etc/kubernetes/admin.conf")
    monkeypatch.setattr(file_users, "stale", lambda layout, user, *more: ["/etc/kubernetes/admin.conf"])
    assert nodes.phases(["ca"]) == {"stable"}
    assert "kube-vip" in steps(nodes.derived("prepare", ["ca"]), "cp2")["prepare"]


def test_two_controllers_that_staged_a_new_ca_each_go_back_and_begin_again(nodes):
    for name in ("cp1", "cp2"):
        nodes[name].staged(["ca"], {})
    with pytest.raises(PkiError, match="there are 3 authorities"):
        nodes.run("prepare")
    assert nodes.run("rollback")["names"] == ["ca"]
    assert not any(host.file("pki.next").exists() for host in nodes.planes)
    nodes.run("all")


def test_material_that_lacks_a_name_makes_no_further_ca(nodes):
    """Under another strategy than linear, a node asked before the first one had staged anything, with no material at all."""
    known = nodes.derived("prepare")["known"]
    for material in ({}, nodes["cp1"].staged(["etcd-ca"], known)):
        with pytest.raises(PkiError, match="material holds no new CA for .*ca"):
            nodes["cp2"].staged(["ca", "etcd-ca"], known, material)
    assert not nodes["cp2"].file("pki.next").exists()
