# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of which process is taken for the kubelet, and which only pretend."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host import kubelet_process, processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host.processes import Processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubelet_settings, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pending_restarts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node.containers import Runtime
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import pod_restart

from tests.unit.support.fake_proc import FakeProc, unit
from tests.unit.support.fakekubelet import Node

PRETENDED = ["/usr/bin/kubelet", "--cert-dir=/tmp/evil", "--config=/var/lib/kubelet/config.yaml"]


GENUINE = ["/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml", "--node-ip=10.0.0.1"]


#: What is not root's, or not in the node's own namespaces, whatever it is called.
STRANGERS = {
    "a pod's user": {"uids": "65534\t65534\t65534\t65534", "pid_ns": "pod", "mnt_ns": "pod"},
    "a pod with the host's pids": {"uids": "65534\t65534\t65534\t65534", "mnt_ns": "pod"},
    "root in a pod with the host's pids": {"mnt_ns": "pod"},
    "root in a pod": {"pid_ns": "pod", "mnt_ns": "pod"},
    "a local user": {"uids": "1000\t1000\t1000\t1000"},
    "a program that is setuid": {"uids": "1000\t0\t0\t0"},
    "a node in a container of this host": {"pid_ns": "nested", "mnt_ns": "nested"},
}


@pytest.fixture
def proc(tmp_path):
    return FakeProc(tmp_path)


@pytest.fixture
def trusted(monkeypatch):
    """The programs that only root can replace."""
    found = {"/usr/bin/kubelet"}
    monkeypatch.setattr(kubelet_process, "only_root_writes", found.__contains__)
    return found


def seen(proc, show=None):
    return Processes(str(proc.root), show)


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS.keys())
class TestPretenders:
    def test_beside_a_kubelet_that_runs(self, proc, stranger):
        proc.add(30, PRETENDED, exe="/usr/bin/kubelet", **stranger)
        proc.add(40, GENUINE)
        found = seen(proc, unit(40)).kubelet()
        assert (found.pid, found.command, found.started, found.program) == (40, GENUINE, 100.0, "/usr/bin/kubelet")

    def test_do_not_count_as_a_kubelet_that_runs(self, proc, stranger):
        proc.add(30, PRETENDED, exe="/usr/bin/kubelet", **stranger)
        with pytest.raises(PkiError, match=r"kubelet.service is inactive"):
            seen(proc, unit(0, "inactive")).kubelet()

    def test_are_refused_even_as_the_main_process(self, proc, stranger):
        proc.add(30, PRETENDED, exe="/usr/bin/kubelet", **stranger)
        with pytest.raises(PkiError, match="30 of kubelet.service is not seen to run as root in the node's own pid and mount"):
            seen(proc, unit(30)).kubelet()

    def test_without_systemd(self, proc, stranger, trusted):
        proc.add(30, PRETENDED, exe="/usr/bin/kubelet", **stranger)
        with pytest.raises(PkiError, match="systemd is not the init system here"):
            seen(proc).kubelet()
        proc.add(40, GENUINE, exe="/usr/bin/kubelet")
        assert seen(proc).kubelet().pid == 40

    def test_behind_a_unit_that_starts_a_shell(self, proc, stranger):
        proc.add(20, ["/bin/sh", "-c", "kubelet"])
        proc.add(30, PRETENDED, parent=20, **stranger)
        assert seen(proc, unit(20)).kubelet().pid == 20

    def test_neither_steer_paths_nor_restarts_nor_a_bounce(self, proc, stranger, tmp_path, monkeypatch):
        proc.add(30, PRETENDED, exe=sys.executable, **stranger)
        monkeypatch.setattr(processes, "_OWN", seen(proc, unit(0, "inactive")))
        executed = []
        monkeypatch.setattr(kubelet_process.subprocess, "run", lambda *words, **_options: executed.append(words))
        layout = layouts.find_layout()
        assert layout.kubelet["running"] is False and layout.kubelet["cert_dir"] == "/var/lib/kubelet/pki"
        assert pending_restarts.started("kubelet") == -1
        node = Node(tmp_path / "node", 20)
        node.add("kube-scheduler")
        with pytest.raises(PkiError, match=r"the kubelet does not run.*kubelet.service is inactive.*nothing was moved"):
            pod_restart.restart_pods(
                ["kube-scheduler"], str(node.manifests), str(node.state), runtime=Runtime(seen=processes.own())
            )
        assert (node.manifests / "kube-scheduler.yaml").read_bytes() == node.original["kube-scheduler"] and not executed


def test_a_kubelet_behind_a_shell_is_a_descendant_of_the_main_process(proc):
    proc.add(15, GENUINE)
    proc.add(20, ["/bin/sh", "-c", "kubelet"])
    proc.add(21, ["/usr/bin/systemd-cat"], parent=20)
    proc.add(30, GENUINE, parent=21)
    assert seen(proc, unit(20, program="/bin/sh")).kubelet().pid == 30


def test_without_systemd_a_kubelet_that_others_could_replace_is_none(proc, trusted):
    proc.add(30, PRETENDED, exe="/home/user/kubelet")
    proc.add(31, PRETENDED, exe="/usr/bin/sudo")  # `exec -a kubelet sudo`, which sets every uid to 0
    trusted.add("/usr/bin/sudo")
    with pytest.raises(PkiError, match="from a file that only root can write"):
        seen(proc).kubelet()


def test_a_kubelet_that_cannot_be_identified_is_a_finding_and_one_that_is_stopped_none(proc, monkeypatch):
    proc.add(30, GENUINE, mnt_ns="container")
    monkeypatch.setattr(kubelet_settings.os.path, "lexists", lambda path: path == "/etc/kubernetes/kubelet.conf")
    said = "/etc/kubernetes/kubelet.conf: the kubelet of this node cannot be identified: the main process"
    for main, expected in ((30, [said]), (0, [])):
        monkeypatch.setattr(processes, "_OWN", seen(proc, unit(main, "inactive")))
        layout = layouts.Layout("/etc/kubernetes", "/var/lib/kubelet", None)
        assert kubelet_settings._running_kubelet(layout) is None
        assert [str(problem).partition(" 30 of")[0] for problem in layout.problems] == expected


def test_systemd_is_asked_once_while_the_same_process_runs(proc):
    asked = []

    def show(name):
        asked.append(name)
        return unit(40 if len(asked) == 1 else 50)(name)

    proc.add(40, GENUINE)
    reader = seen(proc, show)
    assert [reader.kubelet().pid for _again in range(3)] == [40] * 3 and asked == ["kubelet.service"]
    (proc.root / "40/stat").unlink()
    proc.add(50, GENUINE)
    assert reader.kubelet().pid == 50 and len(asked) == 2


def test_a_kubelet_that_is_about_to_begin_is_looked_at_again(proc):
    proc.add(40, ["(kubelet)"])
    reader = seen(proc, unit(40))
    assert reader.kubelet().command == ["(kubelet)"]
    (proc.root / "40/cmdline").write_bytes(b"\0".join(word.encode() for word in GENUINE))
    assert reader.kubelet().command == GENUINE


class TestVersion:
    @pytest.fixture
    def program(self, tmp_path, monkeypatch):
        path = tmp_path / "bin-kubelet" / "kubelet"
        path.parent.mkdir()
        path.write_text("#!/bin/sh\necho 'Kubernetes v1.31.4'\n")
        path.chmod(0o755)
        monkeypatch.setattr(kubelet_process, "_PROGRAMS", ())
        return path

    @pytest.fixture(autouse=True)
    def roots(self, monkeypatch):
        self.trusted = True
        monkeypatch.setattr(kubelet_process, "only_root_writes", lambda path: self.trusted)

    def test_of_the_program_that_the_unit_starts(self, proc, program):
        proc.add(40, GENUINE, exe=program)
        assert seen(proc, unit(40, program=program)).kubelet_minor() == 31

    def test_of_a_program_that_was_replaced_since_is_unknown(self, proc, program, tmp_path):
        proc.add(40, GENUINE, exe=tmp_path / "gone (deleted)")
        assert seen(proc, unit(40, program=program)).kubelet_minor() is None

    def test_of_a_program_that_others_can_write_is_unknown(self, proc, program):
        self.trusted = False
        proc.add(40, GENUINE, exe=program)
        assert seen(proc, unit(40, program=program)).kubelet_minor() is None

    def test_a_shell_is_not_asked_for_its_version(self, proc, program, monkeypatch):
        proc.add(20, ["/bin/sh", "-c", "kubelet"], exe="/bin/sh")
        assert seen(proc, unit(20, program="/bin/sh")).kubelet_minor() is None
        proc.add(30, GENUINE, parent=20, exe=program)
        monkeypatch.setattr(kubelet_process, "_PROGRAMS", (str(program),))
        assert seen(proc, unit(20, program="/bin/sh")).kubelet_minor() == 31

    def test_of_an_installed_kubelet_that_does_not_run(self, proc, program, monkeypatch):
        assert seen(proc, unit(0)).kubelet_minor() is None
        monkeypatch.setattr(kubelet_process, "_PROGRAMS", ("/nowhere/kubelet", str(program)))
        assert seen(proc, unit(0)).kubelet_minor() == 31


@pytest.mark.parametrize(
    ("mode", "owner", "group", "trusted"),
    [
        (0o755, 0, 0, True),
        (0o775, 0, 0, True),
        (0o777, 0, 0, False),
        (0o1777, 0, 0, False),
        (0o775, 0, 50, False),
        (0o755, 1000, 0, False),
    ],
)
def test_only_root_writes_below_directories_of_root(tmp_path, monkeypatch, mode, owner, group, trusted):
    path, link = tmp_path / "bin" / "kubelet", tmp_path / "link"
    path.parent.mkdir()
    path.write_text("")
    link.symlink_to(path)

    def lstat(name):
        special = str(name) == str(path.parent)
        return SimpleNamespace(st_uid=owner if special else 0, st_gid=group if special else 0, st_mode=mode if special else 0o755)

    monkeypatch.setattr(kubelet_process.os, "lstat", lstat)
    assert kubelet_process.only_root_writes(str(path)) is trusted


def test_only_root_writes_nothing_that_is_not_there(tmp_path):
    assert not kubelet_process.only_root_writes(str(tmp_path / "none"))
    assert not kubelet_process.only_root_writes(str(tmp_path))  # /tmp is everybody's
