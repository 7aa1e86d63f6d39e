# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes are taken for the kubelet and for containers of static pods, and which only pretend."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host import processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host.processes import Processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubelet_settings, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import kubelet_service
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pending_restarts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node.containers import Runtime
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import pod_restart

from tests.unit.support import throwaway
from tests.unit.support.fake_proc import API_UID, BOOTED, STATIC_UID, UPTIME, FakeProc, unit
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
    monkeypatch.setattr(processes, "only_root_writes", found.__contains__)
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
        monkeypatch.setattr(processes.subprocess, "run", lambda *words, **_options: executed.append(words))
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


def test_a_unit_of_another_name_is_said_clearly(monkeypatch):
    def none(arguments, timeout):
        return subprocess.CompletedProcess(arguments, 0, b"LoadState=not-found\nActiveState=inactive\nMainPID=0\n", b"")

    monkeypatch.setattr(processes, "run_for_units", none)
    with pytest.raises(PkiError, match=r"has no unit kubelet.service that it could start \(not-found\).*as kubelet.service"):
        kubelet_service.Service().state()
    with pytest.raises(PkiError, match=r"systemd has no unit kubelet.service"):
        Processes(show=processes.show_unit).kubelet()


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


def test_a_service_manager_that_is_missing_or_hangs_is_an_error_of_ours(monkeypatch):
    for raised, text in ((FileNotFoundError(), "there is no systemctl"), (subprocess.TimeoutExpired("x", 20), "has not ended")):

        def run(*_words, raised=raised, **_options):
            raise raised

        monkeypatch.setattr(processes.subprocess, "run", run)
        with pytest.raises(PkiError, match=text):
            processes.show_unit("kubelet.service")


class TestVersion:
    @pytest.fixture
    def program(self, tmp_path, monkeypatch):
        path = tmp_path / "bin-kubelet" / "kubelet"
        path.parent.mkdir()
        path.write_text("#!/bin/sh\necho 'Kubernetes v1.31.4'\n")
        path.chmod(0o755)
        monkeypatch.setattr(processes, "_PROGRAMS", ())
        return path

    @pytest.fixture(autouse=True)
    def roots(self, monkeypatch):
        self.trusted = True
        monkeypatch.setattr(processes, "only_root_writes", lambda path: self.trusted)

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
        monkeypatch.setattr(processes, "_PROGRAMS", (str(program),))
        assert seen(proc, unit(20, program="/bin/sh")).kubelet_minor() == 31

    def test_of_an_installed_kubelet_that_does_not_run(self, proc, program, monkeypatch):
        assert seen(proc, unit(0)).kubelet_minor() is None
        monkeypatch.setattr(processes, "_PROGRAMS", ("/nowhere/kubelet", str(program)))
        assert seen(proc, unit(0)).kubelet_minor() == 31


def test_one_file_reads_what_proc_says_of_other_processes_and_none_executes_it():
    library = Path(processes.__file__).parent
    for path in [*library.rglob("*.py"), *(library.parents[1] / "modules").rglob("*.py")]:
        text = path.read_text()
        if path.name != "processes.py":
            assert '"/proc' not in text.replace('"/proc/self/', ""), "%s reads /proc: processes.py does" % path
        assert not re.search(r"\.(run|Popen|execv\w*|system)\([^)]*(/exe\b|/proc)", text), path


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

    monkeypatch.setattr(processes.os, "lstat", lstat)
    assert processes.only_root_writes(str(path)) is trusted


def test_only_root_writes_nothing_that_is_not_there(tmp_path):
    assert not processes.only_root_writes(str(tmp_path / "none"))
    assert not processes.only_root_writes(str(tmp_path))  # /tmp is everybody's


class TestContainers:
    def names(self, proc):
        return sorted((item.container, item.uid, item.pid) for item in seen(proc, unit(0)).instances(str(proc.kubelet_dir)))

    def test_of_the_kubelet_of_this_node(self, proc):
        proc.container(50, "etcd")
        proc.container(51, "app", API_UID)
        proc.container(52, "etcd", group="0::/\n")  # --cgroups-per-qos=false
        assert self.names(proc) == [("app", API_UID, 51), ("etcd", STATIC_UID, 50), ("etcd", STATIC_UID, 52)]
        item = next(each for each in seen(proc, unit(0)).instances(str(proc.kubelet_dir)) if each.pid == 50)
        assert len(item.container_id) == 64 and item.is_static and item.identity == item.container_id

    @pytest.mark.parametrize(
        "pretended",
        [
            # A mount point of any name, and a folder of any name in a volume of its own.
            "90 80 8:17 /data/kubelet/pods/%s/volumes/kubernetes.io~empty-dir/v /%s/containers/etcd/x rw - ext4 /dev/sdb1 rw\n",
            "90 80 8:17 /data/kubelet/pods/%s/volumes/kubernetes.io~empty-dir/v/%s/containers/etcd/x /x rw - ext4 /dev/sdb1 rw\n",
            # Another file system in which it may make every path; another directory of the same one.
            "90 80 0:77 /data/kubelet/pods/%.0s%s/containers/etcd/x /x rw - tmpfs none rw\n",
            "90 80 8:17 /home/user/pods/%.0s%s/containers/etcd/x /x rw - ext4 /dev/sdb1 rw\n",
        ],
    )
    def test_are_not_what_a_pod_mounts(self, proc, pretended):
        proc.container(50, "app", API_UID)
        with (proc.root / "50/mountinfo").open("r+") as handle:
            own = handle.read()
            handle.seek(0)
            handle.write(pretended % (API_UID, STATIC_UID) + own)
        assert self.names(proc) == [("app", API_UID, 50)]

    def test_have_the_control_group_of_the_same_pod(self, proc):
        group = "0::/kubepods/burstable/pod%s/x/pod%s\n" % (API_UID, STATIC_UID)
        proc.container(50, "etcd", group=group)
        assert self.names(proc) == []

    def test_have_it_below_that_of_a_node_that_is_a_pod_itself(self, proc):
        (proc.root / "1/cgroup").write_text("0::/kubepods/burstable/pod%s/node/init.scope\n" % API_UID)
        proc.container(50, "etcd", group="0::/kubepods/burstable/pod%s/node/kubepods/pod%s/x\n" % (API_UID, STATIC_UID))
        assert self.names(proc) == [("etcd", STATIC_UID, 50)]

    def test_of_a_node_within_this_one_are_its_own(self, proc):
        proc.container(50, "etcd", directory="/data/nested/kubelet/pods")
        assert self.names(proc) == []


class TestComponents:
    @pytest.fixture
    def reader(self, proc):
        proc.add(40, ["/usr/bin/kubelet", "--root-dir=%s" % proc.kubelet_dir], started=50)
        return seen(proc, unit(40))

    def test_since_when_they_run(self, proc, reader):
        proc.container(50, "etcd", started=200)
        proc.container(51, "etcd", command=["etcdctl"], started=300)  # a probe in the same container
        proc.container(52, "etcd", API_UID, started=400)
        proc.add(53, ["etcd"], started=500)
        assert reader.component_started("etcd") == 200
        assert reader.component_started("kubelet") == 50
        assert reader.component_started("kube-apiserver") == -1

    def test_whether_they_are_older_than_a_file(self, proc, reader, tmp_path):
        path = tmp_path / "scheduler.conf"
        path.write_text("x")
        words = ["kube-scheduler", "--kubeconfig=%s" % path]
        os.utime(path, (0, BOOTED + 300))
        proc.add(49, words)
        proc.add(48, words, uids="65534\t65534\t65534\t65534", pid_ns="pod", mnt_ns="pod")
        proc.container(51, "kube-scheduler", API_UID, words)
        assert not reader.older_than("kube-scheduler", str(path))
        proc.container(50, "kube-scheduler", command=words, started=200)
        assert reader.older_than("kube-scheduler", str(path))
        assert not reader.older_than("kube-controller-manager", str(path))
        assert not reader.older_than("kube-scheduler", str(tmp_path / "other.conf"))
        os.utime(path, (0, BOOTED + 201))
        assert not reader.older_than("kube-scheduler", str(path))

    def test_a_pod_of_the_api_with_a_static_pods_name_is_not_it(self, proc, reader, tmp_path):
        logs = tmp_path / "logs"
        for uid in (STATIC_UID, API_UID):
            (logs / ("kube-system_etcd-node_%s" % uid)).mkdir(parents=True)
        proc.container(50, "etcd", started=200)
        proc.container(51, "etcd", API_UID, started=400)
        runtime = Runtime(str(proc.kubelet_dir), str(logs), "node", seen=reader)
        etcd = SimpleNamespace(namespace="kube-system", name="etcd", component="etcd", data={"metadata": {"name": "etcd"}})
        assert [item.pid for item in runtime.instances(etcd)] == [50]
        assert runtime.age(runtime.instances(etcd)[0]) == UPTIME - 200
        # A manifest may name its pod's UID.
        etcd.data["metadata"]["uid"] = API_UID
        assert {item.pid for item in runtime.instances(etcd)} == {50, 51}


def test_a_real_mount_namespace_is_read_as_the_kernel_shows_it(tmp_path):
    """With the kernel's own mountinfo: a container's termination log, and a bind mount that only looks like one."""
    real, folder = tmp_path / "kubelet", "pods/%s/containers/%s"
    for root, name in ((real, "etcd"), (tmp_path / "volume", "kube-apiserver")):
        (root / (folder % (STATIC_UID, name))).mkdir(parents=True)
        (root / (folder % (STATIC_UID, name)) / "log").write_text("")
    (tmp_path / "log").write_text("")
    script = 'mount --make-rprivate / && mount --bind "$1" "$2" && echo ready && exec sleep 60'
    for root, name, expected in ((real, "etcd", ["etcd"]), (tmp_path / "volume", "kube-apiserver", [])):
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", root / (folder % (STATIC_UID, name)) / "log", tmp_path / "log"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                if process.stdout.readline() != b"ready\n":
                    pytest.skip("this machine makes no mount namespaces")
                found = [item for item in Processes().instances(str(real)) if item.pid == process.pid]
                assert [(item.container, item.uid) for item in found] == [(name, STATIC_UID) for name in expected]
            finally:
                process.kill()


class TestFilesThatRootActsOn:
    @pytest.fixture
    def node(self, tmp_path, monkeypatch):
        monkeypatch.setattr(kubelet_settings, "_UNIT_DIRECTORIES", (str(tmp_path / "units"),))
        return throwaway.Node(tmp_path, name="w1", role="worker")

    @staticmethod
    def find(node):
        return layouts.find_layout(str(node.path("/etc/kubernetes")), str(node.path("/var/lib/kubelet")))

    @pytest.mark.parametrize(
        ("mode", "owner", "read"),
        [(0o644, None, True), (0o600, None, True), (0o666, None, False), (0o646, None, False), (0o644, 65534, False)],
    )
    def test_of_the_kubelets_configuration(self, node, mode, owner, read):
        path = node.path("/var/lib/kubelet/config.yaml")
        path.write_text(path.read_text() + "staticPodPath: /srv/manifests\n")
        path.chmod(mode)
        if owner is not None:
            if os.geteuid():
                pytest.skip("only root gives files away")
            os.chown(path, owner, -1)
        layout = self.find(node)
        assert (layout.manifest_dir == "/srv/manifests") is read
        assert [str(problem) for problem in layout.problems] == (
            []
            if read
            else [
                "%s: can be written by others than root, so it is not read. Check what it says, then run `chown root:root` and "
                "`chmod go-w` on it." % path
            ]
        )

    @pytest.mark.parametrize("mode", [0o644, 0o666])
    def test_of_the_kubelets_unit(self, node, tmp_path, mode):
        unit_file, environment = tmp_path / "units" / "kubelet.service", tmp_path / "kubelet.env"
        unit_file.parent.mkdir()
        unit_file.write_text(
            "[Service]\nEnvironmentFile=-/nowhere/kubelet\nEnvironmentFile=-%s\n"
            "ExecStart=/usr/bin/kubelet --config=%s $ARGS\n" % (environment, node.path("/var/lib/kubelet/config.yaml"))
        )
        environment.write_text("ARGS=--hostname-override=other\n")
        environment.chmod(mode)
        layout = self.find(node)
        assert (layout.node_name == "other") is (mode == 0o644)
        assert [problem.path for problem in layout.problems] == ([] if mode == 0o644 else [str(environment)])


def test_the_mounts_of_a_namespace_are_read_once(tmp_path, monkeypatch):
    proc = FakeProc(tmp_path)
    for pid in range(50, 60):
        proc.add(pid, ["sleep"], mnt_ns="user", started=1.0)
    seen, read = processes.Processes(str(proc.root)), []
    text = seen.text
    monkeypatch.setattr(seen, "text", lambda name, pid="", most=-1: read.append((name, pid)) or text(name, pid, most))
    assert seen.instances(str(proc.kubelet_dir)) == []
    assert len([pid for name, pid in read if name == "mountinfo" and pid != 1]) == 1
