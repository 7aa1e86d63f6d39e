# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node of a dead cluster: what is seen of it, CAs that live on with their keys, and processes that end."""

from __future__ import annotations

import base64
import datetime
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import (
    files,
    kubeconfig,
    kubelet_api,
    kubelet_service,
    leaves,
    pki_tree,
    recovery,
    restarts,
    revival,
    x509,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import throwaway  # noqa: E402

PAST = x509.now() - datetime.timedelta(days=400)


class Plane:
    """A control-plane node whose CAs (and leaves) ended long ago, in a directory."""

    def __init__(self, root, ca_left=-1.0, leaf_left=-1.0, role="control-plane"):
        self.cluster = throwaway.Cluster()
        self.fresh = dict(self.cluster.cas)
        if ca_left < 0:
            self.cluster.cas = {name: x509.renew_ca(ca, self.cluster.keys[name], 400 + ca_left, PAST)
                                for name, ca in self.cluster.cas.items()}
        self.cluster.leaf_days = leaf_left
        self.node = throwaway.Node(root / "node", self.cluster, role=role)
        self.root, self.state, self.backups = str(root / "node"), str(root / "state"), str(root / "backups")

    @property
    def layout(self):
        return pki_tree.find_layout(root=self.root)

    def extend(self, wanted, **options):
        return revival.extend(self.layout, wanted, 3650, state_dir=self.state, backup_dir=self.backups, **options)

    def look(self, monkeypatch, **options):
        found = pki_tree.find_layout
        monkeypatch.setattr(pki_tree, "find_layout", lambda *given: found(given[0], given[1], self.root))
        monkeypatch.setattr(kubelet_service.Service, "state", lambda service: {"active": "activating"})
        return revival.look("/etc/kubernetes", "/var/lib/kubelet", self.state, **options)

    def files(self):
        return {path: path.read_bytes() for path in Path(self.root).rglob("*") if path.is_file()}


@pytest.fixture
def plane(tmp_path):
    return Plane(tmp_path)


def ca_of(path):
    return x509.parse_certificate(Path(path).read_bytes())


def config_ca(path):
    return x509.parse_certificates(kubeconfig.Kubeconfig(Path(path).read_bytes(), str(path)).ca_data)


# --- the files ----------------------------------------------------------------------------------------------------------------

def test_an_expired_ca_lives_on_with_its_key_wherever_it_lies(plane):
    before = {name: ca_of(plane.node.kubernetes("pki/" + stem)) for name, stem in
              (("ca", "ca.crt"), ("front-proxy-ca", "front-proxy-ca.crt"), ("etcd-ca", "etcd/ca.crt"))}
    keys = plane.node.kubernetes("pki/ca.key").read_bytes()
    plane.node.write("/etc/kubernetes/pki/ca-signing.crt", before["ca"].pem, 0o644)
    done = plane.extend(dict.fromkeys(before))
    assert done["changed"] and plane.node.kubernetes("pki/ca.key").read_bytes() == keys
    for name, stem in (("ca", "ca.crt"), ("front-proxy-ca", "front-proxy-ca.crt"), ("etcd-ca", "etcd/ca.crt")):
        now = ca_of(plane.node.kubernetes("pki/" + stem))
        assert (now.key_sha256, now.subject, now.subject_key_id) == (
            before[name].key_sha256, before[name].subject, before[name].subject_key_id)
        assert now.not_after > x509.now() + datetime.timedelta(days=3600) and done["certificates"][name].encode() == now.pem
    new = ca_of(plane.node.kubernetes("pki/ca.crt")).sha256
    for name in ("admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"):
        assert [one.sha256 for one in config_ca(plane.node.kubernetes(name))] == [new]
    assert ca_of(plane.node.kubernetes("pki/ca-signing.crt")).sha256 == new
    assert plane.extend(dict.fromkeys(before)) == {"changed": False, "certificates": done["certificates"], "paths": []}
    # The openssl of this machine agrees that an old leaf is below the new CA.
    checked = subprocess.run(["openssl", "verify", "-no_check_time", "-CAfile", plane.node.kubernetes("pki/ca.crt"),
                              plane.node.kubernetes("pki/apiserver.crt")], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_a_backup_set_comes_first_and_check_mode_writes_nothing(plane):
    before = plane.files()
    assert plane.extend({"ca": None}, check=True)["changed"] and plane.files() == before and not os.path.exists(plane.backups)
    plane.extend({"ca": None})
    (name,) = os.listdir(plane.backups)
    assert name.endswith("-recover")
    kept = files.read_backup(os.path.join(plane.backups, name))
    assert kept is not None and plane.files() != before


def test_another_node_takes_what_was_renewed(plane, tmp_path):
    other = Plane(tmp_path / "other")
    made = plane.extend({"ca": None, "etcd-ca": None})["certificates"]
    brought = {name: pem.encode() for name, pem in made.items()}
    assert other.extend(brought)["certificates"] == made
    assert other.node.kubernetes("pki/etcd/ca.crt").read_bytes() == plane.node.kubernetes("pki/etcd/ca.crt").read_bytes()


def test_a_ca_with_the_same_name_and_another_key_changes_nothing(plane):
    foreign = x509.build_ca("kubernetes", throwaway.key("foreign"), 100)
    before = plane.files()
    with pytest.raises(PkiError, match="its key differs"):
        plane.extend({"etcd-ca": None, "ca": foreign.pem})
    assert plane.files() == before


def test_an_intermediate_ca_is_not_renewed_here(plane):
    root_key = throwaway.key("root")
    root = x509.build_ca("root", root_key, 1000)
    inner = x509.build_ca("kubernetes", plane.cluster.keys["ca"], 100, root, root_key, start=PAST)
    plane.node.write("/etc/kubernetes/pki/ca.crt", inner.pem)
    with pytest.raises(PkiError, match="signed by CN=root"):
        plane.extend({"ca": None})


def test_of_a_bundle_only_the_certificate_of_that_key_is_replaced(plane):
    old, new = plane.cluster.cas["ca"], plane.fresh["ca"]
    other = x509.build_ca("kubernetes", throwaway.key("other"), 100)
    data = other.pem + old.pem + old.pem
    assert revival.replaced(data, new) == other.pem + new.pem
    assert revival.replaced(other.pem, new) == other.pem
    assert revival.replaced(b"# kept\n" + new.pem, new) == b"# kept\n" + new.pem


def test_leaves_follow_the_ca(plane):
    settings = leaves.Settings(below_days=90)
    with pytest.raises(PkiError, match="expired at"):
        revival.renew(plane.layout, settings, state_dir=plane.state, backup_dir=plane.backups)
    plane.extend(dict.fromkeys(("ca", "front-proxy-ca", "etcd-ca")))
    done = revival.renew(plane.layout, leaves.Settings(below_days=90), state_dir=plane.state, backup_dir=plane.backups)
    assert {row["action"] for row in done["leaves"]} == {"renewed"} and len(done["leaves"]) == 10


def test_what_was_begun_is_noted_until_it_is_done(plane):
    revival.begin(["etcd"], state_dir=plane.state)
    revival.begin(["kube-apiserver"], trust=True, state_dir=plane.state)
    revival.begin([], state_dir=plane.state)
    assert files.Journal(revival.JOURNAL, plane.state).load() == {"restart": ["etcd", "kube-apiserver"], "trust": True}
    assert revival.finish(plane.state) and not revival.finish(plane.state)


def test_a_serving_certificate_is_taken_away_only_when_the_kubelet_made_it_and_it_has_ended(plane):
    pki = plane.node.path("/var/lib/kubelet/pki")

    def drop(**options):
        return revival.drop_serving(plane.layout, state_dir=plane.state, backup_dir=plane.backups, **options)

    assert not drop() and (pki / "kubelet.crt").exists()
    own = x509.build_ca("cp1-ca@1", throwaway.key("own"), 30, start=PAST)
    (pki / "kubelet.crt").write_bytes(own.pem)
    assert drop(check=True) and (pki / "kubelet.crt").exists()
    assert drop() and not (pki / "kubelet.crt").exists() and not (pki / "kubelet.key").exists()
    assert files.Journal(restarts.KUBELET, plane.state).load() == {"files": [str(pki / "kubelet.crt")]}
    assert not drop()
    signed = plane.cluster.leaf("etcd-server", "cp1", "10.0.0.1", -1)[0]
    ours = x509.sign_leaf(x509.Profile.of(signed), throwaway.key("ours"), plane.cluster.cas["ca"], plane.cluster.keys["ca"], 30,
                          PAST)
    (pki / "kubelet.crt").write_bytes(ours.pem)
    assert not drop() and (pki / "kubelet.crt").exists()


# --- looking ------------------------------------------------------------------------------------------------------------------

def test_what_is_seen_of_a_dead_node_is_enough_to_decide(plane, monkeypatch):
    look = plane.look(monkeypatch, controller_clock=time.time())
    assert look["etcd"] == {"data": False, "path": str(plane.node.path("/var/lib/etcd"))}
    plane.node.write("/var/lib/etcd/member/wal/0.wal", b"x")
    plane.node.write("/var/lib/etcd/member/snap/db", b"x")
    look = plane.look(monkeypatch, controller_clock=time.time())
    assert look["etcd"]["data"] and look["pending"] is None and look["trust"] is False and look["problems"] == []
    assert {name: seen["healthy"] for name, seen in look["health"].items()} == dict.fromkeys(
        ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"), False)
    assert look["authorities"]["ca"]["has_key"] and look["kubelet"]["reasons"]
    assert "PRIVATE KEY" not in str(look)
    plan = recovery.decide({"cp1": look}, {}, ["cp1"])
    assert plan["refusal"] == "" and sorted(plan["authorities"]) == ["ca", "etcd-ca", "front-proxy-ca"]
    revival.begin(["etcd"], trust=True, state_dir=plane.state)
    again = plane.look(monkeypatch, controller_clock=time.time())
    assert again["pending"] == ["etcd"] and again["trust"]


def test_looking_changes_nothing(plane, monkeypatch):
    before = plane.files()
    plane.look(monkeypatch)
    assert plane.files() == before and not os.path.exists(plane.state)


def test_what_would_stop_the_renewal_is_seen_beforehand(tmp_path, monkeypatch):
    plane = Plane(tmp_path, ca_left=1)
    assert plane.look(monkeypatch)["problems"] == []
    plane.node.kubernetes("pki/etcd/ca.key").unlink()
    (problem,) = plane.look(monkeypatch)["problems"]
    assert "managed elsewhere" in problem


def test_a_host_that_is_no_node(tmp_path, monkeypatch):
    plane = Plane(tmp_path, role="none")
    for path in ("/etc/kubernetes", "/var/lib/kubelet"):
        subprocess.run(["rm", "-rf", str(plane.node.path(path))], check=True)
        plane.node.path(path).mkdir(parents=True)
    assert "no node of a kubeadm cluster" in plane.look(monkeypatch)["problems"][0]


# --- processes ----------------------------------------------------------------------------------------------------------------

class Processes:
    """Real child processes in the place of containers."""

    def __init__(self):
        self.children = {}

    def run(self, component, stubborn=False):
        code = "import signal, time\n%sprint(1, flush=True)\ntime.sleep(60)" % (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else "")
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        child.stdout.readline()
        self.children[component] = child

    def instances(self, manifest):
        child = self.children.get(manifest.component)
        return [SimpleNamespace(pid=child.pid, component=manifest.component)] if child and child.poll() is None else []

    def alive(self, instance):
        return self.children[instance.component].poll() is None

    def last_words(self, manifest):
        return ""


@pytest.fixture
def processes():
    found = Processes()
    yield found
    for child in found.children.values():
        child.kill()
        child.wait()


class Unit:
    """A kubelet's unit that says what was done to it, in order."""

    def __init__(self, processes=None):
        self.active, self.done, self.processes = "active", [], processes

    def state(self):
        return {"load": "loaded", "active": self.active, "sub": "running", "pid": os.getpid(), "result": "success"}

    def stop(self, timeout):
        self.done.append("stop")

    def restart(self, timeout):
        living = [name for name, child in (self.processes.children if self.processes else {}).items() if child.poll() is None]
        self.done.append("start, with %s" % living)

    def complaint(self):
        return ""


@pytest.fixture
def proven(monkeypatch):
    monkeypatch.setattr(kubelet_service.Proof, "wait", lambda self, deadline: {"healthz": "ok"})


def test_processes_end_between_the_stop_and_the_start_of_the_kubelet(plane, processes, proven):
    for component in ("etcd", "kube-apiserver", "kube-scheduler"):
        processes.run(component)
    unit = Unit(processes)
    revival.begin(["etcd", "kube-apiserver"], state_dir=plane.state)
    done = revival.start(plane.layout, None, 5, plane.state, unit, processes)
    assert unit.done == ["stop", "start, with ['kube-scheduler']"] and done["ended"] == ["etcd", "kube-apiserver"]
    assert done["since"] > 0 and files.Journal(restarts.KUBELET, plane.state).load() is None
    # A run that is killed later does not start them once more.
    assert files.Journal(revival.JOURNAL, plane.state).load() == {"restart": [], "trust": False}
    assert revival.start(plane.layout, None, 5, plane.state, unit, processes) == {"kubelet": {}, "ended": [], "since": 0.0}
    assert len(unit.done) == 2


def test_a_kubelet_that_does_not_run_is_started_and_one_whose_restart_is_due_too(plane, processes, proven):
    unit = Unit()
    unit.active = "activating"
    assert revival.start(plane.layout, [], 5, plane.state, unit, processes)["since"] > 0
    unit.active = "active"
    files.Journal(restarts.KUBELET, plane.state).save({"files": []})
    assert revival.start(plane.layout, [], 5, plane.state, unit, processes)["since"] > 0
    assert len(unit.done) == 4


def test_the_kubelet_is_started_even_when_a_process_does_not_end(plane, processes, proven, monkeypatch):
    def never(*_given):
        raise PkiError("cannot be ended")

    monkeypatch.setattr(revival, "end", never)
    unit = Unit()
    revival.begin(["etcd"], state_dir=plane.state)
    with pytest.raises(PkiError, match="cannot be ended"):
        revival.start(plane.layout, None, 5, plane.state, unit, processes)
    assert unit.done == ["stop", "start, with []"] and files.Journal(revival.JOURNAL, plane.state).load()["restart"] == ["etcd"]
    assert files.Journal(restarts.KUBELET, plane.state).load() is not None


def test_who_ignores_the_request_to_end_is_killed(plane, processes):
    processes.run("etcd", stubborn=True)
    processes.run("kube-scheduler")
    assert revival.end(list(plane.layout.parsed.values()), processes, grace=0.3) == ["etcd", "kube-scheduler"]
    assert processes.children["etcd"].wait() == -signal.SIGKILL and processes.children["kube-scheduler"].wait() == -signal.SIGTERM


def test_what_is_not_well_in_time_is_named_and_a_back_off_is_cut_short_once(plane, processes, proven, monkeypatch):
    monkeypatch.setattr(revival, "_BACKOFF_SECONDS", 0.2)
    processes.run("kube-scheduler")
    unit = Unit()
    with pytest.raises(PkiError) as caught:
        revival.wait_well(plane.layout, ["etcd", "kube-scheduler"], 1.0, unit, processes)
    assert re.search(r"etcd is not well: .*kube-scheduler is not well: ", str(caught.value)) and len(unit.done) == 1
    assert revival.wait_well(plane.layout, ["no-such-pod"], 1.0, unit, processes) == []


def test_well_is_who_is_healthy(plane, processes, monkeypatch):
    monkeypatch.setattr(revival, "_well", lambda endpoints: None)
    (done,) = revival.wait_well(plane.layout, ["etcd"], 1.0, Unit(), processes)
    assert done["name"] == "etcd"


# --- the proof ----------------------------------------------------------------------------------------------------------------

class Cloud:
    """An API with Nodes: {name: (Ready, seconds from now of the lease, of the heartbeat)}."""

    server = "https://api.example:6443"

    def __init__(self, nodes):
        self.nodes = nodes

    @staticmethod
    def _text(shift):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + shift)) + ".500000Z"

    def lease(self, name):
        return SimpleNamespace(status=200, json=lambda: {"spec": {"renewTime": self._text(self.nodes[name][1])}})

    def node(self, name):
        ready, _lease, beat = self.nodes[name]
        return SimpleNamespace(status=200, json=lambda: {"status": {"conditions": [
            {"type": "Ready", "status": ready, "lastHeartbeatTime": self._text(beat), "message": "kubelet is posting"}]}})


@pytest.mark.parametrize("node, since, missing", [
    (("True", 5, -3000), 0, None), (("True", -30, 0), 0, "its lease was last renewed"),
    (("True", 5, -3000), time.time() - 100, "condition was last reported"), (("Unknown", 5, 5), 0, "is not Ready")])
def test_ready_is_whose_kubelet_is_heard_of_now(plane, monkeypatch, node, since, missing):
    cloud = Cloud({"w1": node, "cp1": ("True", 5, 5)})
    monkeypatch.setattr(kubelet_api.Api, "of", lambda config: cloud)
    if missing is None:
        assert sorted(revival.wait_ready(plane.layout, {"w1": since, "cp1": 0}, 1.0)) == ["cp1", "w1"]
    else:
        with pytest.raises(PkiError, match="w1: .*" + missing):
            revival.wait_ready(plane.layout, {"w1": since, "cp1": 0}, 0.5)


def test_the_kubeconfig_keeps_every_other_byte(plane):
    path = plane.node.kubernetes("admin.conf")
    before = path.read_text()
    plane.extend({"ca": None})
    pair = plane.cluster.cas["ca"].pem, ca_of(plane.node.kubernetes("pki/ca.crt")).pem
    old, new = (base64.b64encode(pem).decode() for pem in pair)
    assert path.read_text() == before.replace(old, new)
