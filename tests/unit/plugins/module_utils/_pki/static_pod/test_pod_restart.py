# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""static_pods against a fake kubelet: what moves, when, and what is left after a kill at every step."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic, journals
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import manifest_edits
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node.containers import Kubelet
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import parked, pod_restart
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import private_keys, x509_sign
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import faults
from tests.unit.support.fake_api import FakeApi
from tests.unit.support.fakekubelet import KILLER, FakeKubelet, FakeRuntime, Node, served_node

ALL = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"]


def bounce(node, names, runtime=None, **options):
    options.setdefault("timeout", 20)
    return pod_restart.restart_pods(
        names, str(node.manifests), str(node.state), runtime=runtime or FakeRuntime(node.root, node.minor), **options
    )


def stripped(data):
    """A manifest's bytes without the restart annotation, as lines."""
    lines = data.decode().splitlines()
    kept = [line for line in lines if manifest_edits.ANNOTATION not in line]
    return [line for line in kept if line.strip() != "annotations:"]


def assert_whole(node):
    """Every manifest is there once, with its own bytes but for the annotation, its mode, and nothing is left beside it."""
    assert sorted(path.name for path in node.manifests.iterdir()) == sorted(name + ".yaml" for name in node.original)
    for name, original in node.original.items():
        path = node.manifests / (name + ".yaml")
        assert stripped(path.read_bytes()) == stripped(original)
        assert path.stat().st_mode & 0o777 == 0o600
    assert not (node.state / "parked").exists()
    assert not (node.state / "journal" / "static-pods.json").exists()


@pytest.fixture(params=[(20, True), (36, True), (36, False)], ids=["1.20", "1.36", "1.36-without-cgroups"])
def node(request, tmp_path):
    return Node(tmp_path, *request.param)


def test_a_pod_comes_back_new_healthy_and_annotated(node):
    node.add("kube-scheduler")
    with FakeKubelet(node) as kubelet:
        before = node.containers()[0]
        result = bounce(node, ["kube-scheduler"])
        after = node.containers()
    assert [item["id"] for item in after] != [before["id"]] and len(after) == 1
    pod = result["pods"][0]
    assert (pod["name"], pod["action"], result["changed"]) == ("kube-scheduler", "restarted", True)
    assert (pod["container_before"], pod["container_after"]) == (before["id"], after[0]["id"])
    assert any(line.endswith(before["id"] + " has ended") for line in pod["proof"])
    assert pod["proof"][-1].endswith("/healthz answers 200")
    assert kubelet.wrong == [] and kubelet.starts == 2
    assert manifest_edits.ANNOTATION in (node.manifests / "kube-scheduler.yaml").read_text()
    assert_whole(node)


def test_the_tenth_bounce_is_as_fast_as_the_first(node):
    node.add("kube-scheduler")
    seconds = []
    with FakeKubelet(node, backoff=30) as kubelet:
        for _count in range(10):
            seconds.append(bounce(node, ["kube-scheduler"])["pods"][0]["seconds"])
    # One restart under the back-off would take 30 s.
    assert kubelet.starts == 11 and max(seconds) < 15, seconds
    assert (node.manifests / "kube-scheduler.yaml").read_text().count(manifest_edits.ANNOTATION) == 1
    assert_whole(node)


def test_a_pod_that_a_newer_kubelet_turns_away_is_offered_again(tmp_path):
    node = Node(tmp_path, 36, groups=False)
    node.add("kube-scheduler")

    class Hasty(FakeRuntime):
        def traces(self, instances):
            return set()

    with FakeKubelet(node, housekeeping=0.6, requeue=60) as kubelet:
        result = bounce(node, ["kube-scheduler"], Hasty(node.root, 36))
    assert "away" in [event for _moment, event, _name in kubelet.events]
    assert "the kubelet had turned it away" in " ".join(result["pods"][0]["proof"])
    assert result["pods"][0]["seconds"] < 30
    assert_whole(node)


def test_with_control_groups_a_newer_kubelet_is_never_asked_too_early(tmp_path):
    node = Node(tmp_path, 36)
    node.add("kube-scheduler")
    with FakeKubelet(node, housekeeping=30, requeue=60, stop_seconds=0.3) as kubelet:
        result = bounce(node, ["kube-scheduler"])
    # Without housekeeping in all that time: the old pod was finished because its manifest was back meanwhile.
    assert "away" not in [event for _moment, event, _name in kubelet.events]
    assert result["pods"][0]["seconds"] < 15 and kubelet.starts == 2
    assert_whole(node)


def test_a_leader_gives_its_lease_up_when_it_has_ended_and_not_before(node, tmp_path):
    """Nobody schedules until its lease has run out, 15 s, or is given up."""
    api = FakeApi(tls=tmp_path)
    api.write_admin_conf(node.manifests.parent / "admin.conf")
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler"
    holder = "%s_a58dda95-f0a0-4569-a18e-bf6c4bffabf8" % socket.gethostname()
    api.put(path, {"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}})
    node.add("kube-scheduler")
    with FakeKubelet(node):
        leader, living = node.containers()[0]["id"], []
        api.before = lambda method, _path: method == "PUT" and living.extend(item["id"] for item in node.containers())
        result = bounce(node, ["kube-scheduler"])
        assert api.objects[path]["spec"]["holderIdentity"] == ""
        # The new one runs: whoever takes the lease finds etcd and the API settled (kubernetes#105069).
        assert len(living) == 1 and leader not in living
        assert "lease was given up" in result["pods"][0]["proof"][-1]
        api.calls.clear()
        result = bounce(node, ["kube-scheduler"])  # led by nobody, and so not by this node
        assert {method for method, _path in api.calls} == {"GET"} and "lease" not in str(result["pods"][0]["proof"])
    api.stop()


def test_all_four_overlap_and_etcd_waits_for_the_listener(node):
    for name in ALL:
        node.add(name)
    key, ca_key = private_keys.generate_key("ecdsa-p256"), private_keys.generate_key("ecdsa-p256")
    ca = x509_sign.build_ca("kubernetes", ca_key, 10)
    leaf = x509_sign.sign_leaf(x509_sign.Profile("kube-apiserver", extended_usages=("server",)), key, ca, ca_key, 5)
    pair = [str(node.root / "a.crt"), str(node.root / "a.key")]
    (node.root / "a.crt").write_bytes(leaf.pem)
    (node.root / "a.key").write_bytes(key.pem)
    with FakeKubelet(node, stop_seconds=1.5, pair=pair) as kubelet:
        result = bounce(node, ["etcd", "kube-scheduler", "kube-controller-manager", "kube-apiserver"])
    assert {pod["name"]: pod["action"] for pod in result["pods"]} == dict.fromkeys(ALL, "restarted")
    order = [(event, name) for _moment, event, name in kubelet.events[4:] if event != "away"]
    assert order.index(("stop", "kube-apiserver")) < order.index(("stop", "etcd"))
    # They overlap: everything is out before the apiserver, which takes longest to end, is back.
    back = order.index(("start", "kube-apiserver"))
    assert all(order.index(("stop", name)) < back for name in ALL)
    if node.minor < 22 or not node.groups:  # else housekeeping may start it before, as its manifest is there
        assert order.index(("start", "etcd")) < back
    assert kubelet.wrong == []
    assert result["warnings"] == []
    assert_whole(node)


def test_etcd_under_a_running_apiserver_is_done_and_said(node):
    for name in ("kube-apiserver", "etcd", "kube-scheduler"):
        node.add(name)
    with FakeKubelet(node, backoff=0.1, housekeeping=2.0) as kubelet:
        result = bounce(node, ["etcd", "kube-scheduler"])
    assert [pod["name"] for pod in result["pods"]] == ["etcd", "kube-scheduler"]
    assert "under a running kube-apiserver" in result["warnings"][0]
    order = [(event, name) for _moment, event, name in kubelet.events[3:] if event != "away"]
    assert order == [("stop", "kube-scheduler"), ("start", "kube-scheduler"), ("stop", "etcd"), ("start", "etcd")]
    # A newer kubelet would have to tell the hanging apiserver about another mirror pod; so its manifest is the same.
    same = (node.manifests / "etcd.yaml").read_bytes() == node.original["etcd"]
    assert same is (node.minor >= 22)
    assert_whole(node)


def test_another_static_pod_goes_when_the_components_are_back(node):
    """kube-vip speaks with the API server of its node, and does not come up without it."""
    names = ["kube-controller-manager", "kube-scheduler", "etcd"]
    for name in [*names, "kube-vip"]:
        node.add(name)
    with FakeKubelet(node, stop_seconds=0.2) as kubelet:
        result = bounce(node, ["kube-vip", *names])
    assert {pod["name"]: pod["action"] for pod in result["pods"]} == dict.fromkeys([*names, "kube-vip"], "restarted")
    moments = {(event, name): moment for moment, event, name in kubelet.events}
    assert moments["stop", "kube-vip"] > max(moments["start", name] for name in names)
    assert_whole(node)


def test_another_static_pod_beside_an_etcd_that_is_restarted_alone_is_no_deadlock(node):
    for name in ("etcd", "kube-apiserver", "kube-vip"):
        node.add(name)
    with FakeKubelet(node):
        result = bounce(node, ["kube-vip", "etcd"])
    assert [(pod["name"], pod["action"]) for pod in result["pods"]] == [("etcd", "restarted"), ("kube-vip", "restarted")]


def test_another_static_pod_stays_where_a_component_does_not_come_back(node):
    for name in ("kube-scheduler", "kube-vip"):
        node.add(name)
    with FakeKubelet(node, broken=["kube-scheduler"]) as kubelet, pytest.raises(pod_restart.RestartError) as refused:
        bounce(node, ["kube-vip", "kube-scheduler"], timeout=3)
    assert "kube-vip was not restarted, because kube-scheduler did not come back" in str(refused.value)
    assert "kube-vip" not in [name for _moment, event, name in kubelet.events if event == "stop"]
    assert_whole(node)


def test_two_static_pods_with_one_label_are_both_restarted(tmp_path):
    node = Node(tmp_path, 20)
    for name in ("one", "two"):
        path = node.add(name)
        path.write_text(path.read_text().replace("component: " + name, "component: agent"))
        node.original[name] = path.read_bytes()
    with FakeKubelet(node) as kubelet:
        runtime = FakeRuntime(node.root, node.minor)
        runtime.instances = lambda manifest: FakeRuntime.instances(runtime, SimpleNamespace(component=manifest.name))
        result = bounce(node, ["one", "two"], runtime)
    assert [pod["action"] for pod in result["pods"]] == ["restarted", "restarted"] and kubelet.starts == 4
    assert_whole(node)


def test_a_pod_without_a_health_endpoint_is_proven_by_the_kubelets_word(node):
    node.add("kube-vip")
    runtime = FakeRuntime(node.root, node.minor)
    runtime.readiness = lambda age: age > 1.5
    with FakeKubelet(node):
        pod = bounce(node, ["kube-vip"], runtime)["pods"][0]
        assert pod["proof"][-1].endswith("the kubelet calls it ready") and pod["seconds"] > 1.5
        runtime.readiness = lambda age: False
        with pytest.raises(pod_restart.RestartError, match="kube-vip is not healthy .* the kubelet says that it is not ready"):
            bounce(node, ["kube-vip"], runtime, timeout=4)
    assert_whole(node)


def test_a_young_etcd_waits_for_its_mirror_pod(tmp_path):
    node = Node(tmp_path, 36)
    for name in ("kube-apiserver", "etcd"):
        node.add(name)

    class Young(FakeRuntime):
        asked = 0

        def age(self, instance):
            return 20.0

        def mirror_hash(self, manifest, apiserver, kubernetes_dir):
            assert apiserver.port == node.ports["kube-apiserver"] and kubernetes_dir == str(node.manifests.parent)
            assert (node.manifests / "etcd.yaml").exists()
            self.asked += 1
            return self.instances(manifest)[0].uid if self.asked == 3 else "another"

    runtime = Young(tmp_path, 36)
    with FakeKubelet(node, backoff=0.1):
        assert bounce(node, ["etcd"], runtime)["changed"]
    assert runtime.asked == 3
    assert_whole(node)


def test_no_kubelet_moves_nothing(node):
    node.add("kube-scheduler")
    with pytest.raises(PkiError) as error:
        bounce(node, ["kube-scheduler"], FakeRuntime(node.root, running=False))
    assert "kubelet does not run" in str(error.value) and "nothing was moved" in str(error.value)
    assert (node.manifests / "kube-scheduler.yaml").read_bytes() == node.original["kube-scheduler"]


def test_a_kubelet_that_was_just_restarted_is_waited_for(node):
    node.add("kube-scheduler")

    class Young(FakeRuntime):
        asked = 0

        def settled(self, kubelet):
            self.asked += 1
            assert (node.manifests / "kube-scheduler.yaml").read_bytes() == node.original["kube-scheduler"]
            return self.asked >= 3

    runtime = Young(node.root, node.minor, age=2.0)
    with FakeKubelet(node):
        assert bounce(node, ["kube-scheduler"], runtime)["changed"]
    assert runtime.asked == 3


def test_a_deaf_kubelet_is_a_failure_and_the_manifest_is_back(node):
    node.add("kube-scheduler", grace=0)
    with FakeKubelet(node, deaf=True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pod_restart, "SHORTEST_STOP", 0.3)
        with pytest.raises(pod_restart.RestartError) as error:
            bounce(node, ["kube-scheduler"], timeout=0.3)
    assert "has not stopped it" in str(error.value)
    assert error.value.as_result()["pods"][0]["name"] == "kube-scheduler"
    assert_whole(node)


def test_a_pod_that_stays_ill_is_a_failure_with_what_was_seen_and_the_others_finish(node):
    for name in ("kube-scheduler", "kube-controller-manager"):
        node.add(name)
    with FakeKubelet(node) as kubelet:
        kubelet.broken.add("kube-scheduler")
        with pytest.raises(pod_restart.RestartError) as error:
            bounce(node, ["kube-scheduler", "kube-controller-manager"], timeout=2.5)
    text = str(error.value)
    assert "kube-scheduler is not healthy" in text and "connection refused" in text and "kube-controller-manager is" not in text
    assert {pod["name"]: pod["proof"][-1:] for pod in error.value.pods}["kube-controller-manager"][0].endswith("answers 200")
    assert_whole(node)


def test_a_health_endpoint_that_never_ends_its_answer_is_a_failure_in_time(tmp_path, monkeypatch):
    node = Node(tmp_path)
    node.add("kube-scheduler")
    released = threading.Event()
    monkeypatch.setattr(pod_restart.health_checks, "health", lambda *_args, **_options: (released.wait(30), "200"))
    started = time.monotonic()
    try:
        with FakeKubelet(node), pytest.raises(pod_restart.RestartError, match="is not healthy .* no answer in time"):
            bounce(node, ["kube-scheduler"], timeout=2.5)
    finally:
        released.set()
    assert time.monotonic() - started < 10
    assert_whole(node)


def test_unless_reloaded_keeps_what_serves_its_file_and_restarts_what_does_not(tmp_path):
    node, new, pair = served_node(tmp_path)
    node.add("kube-scheduler")
    with FakeKubelet(node, pair=pair) as kubelet:
        result = bounce(node, ["kube-scheduler"], unless_reloaded=["kube-apiserver"], reload_timeout=3)
        actions = [(pod["name"], pod["action"]) for pod in result["pods"]]
        assert actions == [("kube-apiserver", "reloaded"), ("kube-scheduler", "restarted")]
        assert (node.manifests / "kube-apiserver.yaml").read_bytes() == node.original["kube-apiserver"]
        assert "apiserver.crt" in result["pods"][0]["proof"][0]
        new()
        result = bounce(node, [], unless_reloaded=["kube-apiserver"], reload_timeout=0.5)
    assert [(pod["name"], pod["action"]) for pod in result["pods"]] == [("kube-apiserver", "restarted")]
    assert "serves" in result["pods"][0]["proof"][-1]
    assert kubelet.starts == 4
    assert_whole(node)


def test_an_etcd_in_the_clear_has_nothing_to_take_up(tmp_path):
    node = Node(tmp_path)
    node.add("etcd")
    chosen, everything, _warnings = pod_restart.choose(["etcd"], str(node.manifests))
    assert pod_restart.up_to_date(chosen, everything, str(node.manifests)) == {str(node.manifests / "etcd.yaml")}
    with FakeKubelet(node) as kubelet:
        (pod,) = bounce(node, [], unless_reloaded=["etcd"], reload_timeout=0.5)["pods"]
        assert (pod["action"], kubelet.starts) == ("reloaded", 1)
        (pod,) = bounce(node, ["etcd"], unless_reloaded=["etcd"])["pods"]
        assert pod["action"] == "restarted"


def test_one_look_tells_who_serves_what_is_on_disk(tmp_path):
    node, new, pair = served_node(tmp_path)
    node.add("kube-scheduler")

    def current():
        chosen, everything, _warnings = pod_restart.choose(["kube-apiserver", "kube-scheduler"], str(node.manifests))
        return pod_restart.up_to_date(chosen, everything, str(node.manifests))

    assert current() == set()
    with FakeKubelet(node, pair=pair):
        assert current() == {str(node.manifests / "kube-apiserver.yaml")}
        new()
        assert current() == set()


def test_a_new_container_that_serves_another_certificate_is_no_success(tmp_path):
    node, new, pair = served_node(tmp_path)
    with FakeKubelet(node, pair=pair) as kubelet:
        other = tmp_path / "other"
        other.mkdir()
        for name in ("apiserver.crt", "apiserver.key"):
            (other / name).write_bytes((tmp_path / name).read_bytes())
        kubelet.pair = (str(other / "apiserver.crt"), str(other / "apiserver.key"))
        new()
        with pytest.raises(pod_restart.RestartError) as error:
            bounce(node, ["kube-apiserver"], timeout=2)
    assert "does not serve the certificate of" in str(error.value)
    assert_whole(node)


@pytest.mark.parametrize("minor", [20, 36])
def test_killed_at_every_step_and_run_again(tmp_path, minor):
    """SIGKILL before the first, the second, ... change to the file system, until a run comes through unharmed."""
    # Every second step under each kubelet: the other one sees the steps between, of the same code.
    for point in range(1 if minor == 20 else 2, 200, 2):
        node = Node(tmp_path / str(point), minor)
        node.add("kube-scheduler")
        with FakeKubelet(node, housekeeping=0.1) as kubelet:
            done = subprocess.run(
                [sys.executable, "-c", KILLER, str(node.root), ",".join(node.original), str(point), str(minor)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode in (0, -signal.SIGKILL), done.stderr
            if done.returncode == 0:
                break
            if point % 5 == 0:
                assert bounce(node, list(node.original))["changed"]
            else:
                pod_restart.restore(str(node.state))
                assert pod_restart.restore(str(node.state)) == ([], "nothing")
            assert kubelet.wrong == [], point
        assert_whole(node)
    assert 20 < point < 199  # the test would prove nothing if nothing were killed


class TestFaults:
    """A disk that is full, read-only or broken, at every system call of a bounce and of a recovery."""

    NUMBERS = (errno.ENOSPC, errno.EROFS, errno.EIO)

    @staticmethod
    def settled(node):
        """Let the next run come, on a disk that is well again."""
        pod_restart.restore(str(node.state))
        assert_whole(node)
        assert pod_restart.restore(str(node.state)) == ([], "nothing")

    @pytest.mark.parametrize("minor", [20, 36])
    @pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
    @pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
    def test_of_a_bounce(self, tmp_path, number, lasting, minor):
        node = Node(tmp_path, minor)
        node.add("kube-scheduler", grace=0)
        path, said = node.manifests / "kube-scheduler.yaml", set()
        with FakeKubelet(node, housekeeping=0.05, stop_seconds=0.01, start_seconds=0.01, backoff=0, requeue=0.1) as kubelet:
            for point in range(1, 200):
                shutil.rmtree(node.state, ignore_errors=True)
                node.original["kube-scheduler"] = path.read_bytes()
                reached, error = faults.fail_at(point, lambda: bounce(node, ["kube-scheduler"], timeout=5), number, lasting)
                if not reached:
                    break
                assert error is None or isinstance(error, PkiError), "point %d: %r" % (point, error)
                if not lasting or number == errno.ENOSPC:
                    assert path.exists(), "point %d: %s" % (point, error)
                if not path.exists():
                    assert "is out of the manifest directory" in str(error) and "nothing was changed" not in str(error)
                said.add(path.exists())
                self.settled(node)
            assert kubelet.wrong == []
        assert 30 < point < 199 and said == ({True, False} if lasting and number != errno.ENOSPC else {True})

    @pytest.fixture(params=["renamed", "as-0.1.0"])
    def out(self, request, tmp_path):
        """A node whose run was killed with two manifests out. Version 0.1.0 had only the copies in the state directory."""
        node = Node(tmp_path)

        def kill():
            shutil.rmtree(node.state, ignore_errors=True)
            entries = []
            for name in ("kube-scheduler", "kube-controller-manager"):
                path = node.add(name)
                atomic.make_directory(str(node.state / "parked"))
                copy = node.state / "parked" / (name + ".x")
                copy.write_bytes(path.read_bytes())
                entries.append(
                    {
                        "name": name,
                        "path": str(path),
                        "parked": str(copy),
                        "sha256": atomic.sha256(path.read_bytes()),
                        "mode": 0o600,
                        "uid": os.getuid(),
                        "gid": os.getgid(),
                        "token": "ab12",
                    }
                )
                if request.param == "renamed":
                    path.rename(path.with_name(".%s.kubepki-ab12-out" % path.name))
                    path.with_name(".%s.kubepki-ab12" % path.name).write_text("staged: true")
                else:
                    path.unlink()
                    path.with_name(".%s.kubepki-ab12" % path.name).write_text("half a manif")
            journals.Journal("static-pods", str(node.state)).save({"pods": entries})

        node.kill, node.renames = kill, request.param == "renamed"
        kill()
        return node

    def test_of_a_recovery_by_a_kill(self, out):
        for point in range(1, 200):
            out.kill()
            if not faults.kill_at(point, lambda: parked.recover(str(out.state))):
                break
            parked.recover(str(out.state))
            assert_whole(out)
            assert parked.recover(str(out.state)) == []
        assert 15 < point < 199

    @pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
    @pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
    def test_of_a_recovery(self, out, number, lasting):
        for point in range(1, 200):
            out.kill()
            reached, error = faults.fail_at(point, lambda: parked.recover(str(out.state)), number, lasting)
            if not reached:
                break
            assert error is None or isinstance(error, PkiError), error
            if out.renames and lasting and number == errno.ENOSPC:
                assert len(list(out.manifests.glob("*.yaml"))) == 2, "point %d: a full disk keeps nothing out" % point
            parked.recover(str(out.state))
            assert_whole(out)
        assert 15 < point < 199

    @pytest.mark.parametrize(
        "damage",
        [
            lambda entry: entry.pop("token"),
            lambda entry: entry.update(path=7),
            lambda entry: entry.update(sha256="0" * 64),
            lambda entry: os.unlink(entry["parked"]),
        ],
    )
    def test_of_one_entry_of_the_journal(self, out, damage):
        """The others are restored all the same, and are not looked at again."""
        journal = journals.Journal("static-pods", str(out.state))
        record = journal.load()
        if out.renames:
            (out.manifests / ".kube-scheduler.yaml.kubepki-ab12-out").unlink()
        damage(record["pods"][0])
        journal.save(record)
        with pytest.raises(PkiError) as error:
            parked.recover(str(out.state))
        other = out.manifests / "kube-controller-manager.yaml"
        assert stripped(other.read_bytes()) == stripped(out.original["kube-controller-manager"])
        assert "put back: %s" % other in str(error.value)
        assert journal.load() == {"pods": record["pods"][:1]} and (out.state / "parked").exists()
        certificate = out.root / "a.crt"
        certificate.with_name("staged").write_bytes(b"new")
        journals.Journal("leaves", str(out.state)).save(
            {
                "state": "commit",
                "entries": [
                    {
                        "path": str(certificate),
                        "staged": str(certificate.with_name("staged")),
                        "old": "absent",
                        "new": "sha256:" + atomic.sha256(b"new"),
                    }
                ],
            }
        )
        with pytest.raises(PkiError):
            pod_restart.restore(str(out.state))
        assert certificate.read_bytes() == b"new"
        journal.save({"pods": "none"})
        with pytest.raises(PkiError, match="the journal of static pods is damaged"):
            parked.recover(str(out.state))
        assert parked.pending(str(out.state)) == []


def test_check_finds_what_a_killed_run_left_out(tmp_path):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    copy = node.state / "parked" / "kube-scheduler.yaml.x"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    journal = journals.Journal("static-pods", str(node.state))
    entry = {
        "name": "kube-scheduler",
        "path": str(path),
        "parked": str(copy),
        "sha256": atomic.sha256(path.read_bytes()),
        "mode": 0o600,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "token": "x",
    }
    journal.save({"pods": [entry]})
    assert parked.pending(str(node.state)) == []
    path.unlink()
    assert parked.pending(str(node.state)) == [str(path)]
    copy.write_bytes(b"something else")
    with pytest.raises(PkiError) as error:
        parked.recover(str(node.state))
    assert "checksum" in str(error.value) and not path.exists()
    copy.write_bytes(node.original["kube-scheduler"])
    assert [item["action"] for item in parked.recover(str(node.state))] == ["restored"]
    assert_whole(node)


def test_recovery_leaves_a_manifest_that_somebody_wrote_since(tmp_path):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    copy = node.state / "parked" / "x"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    journals.Journal("static-pods", str(node.state)).save(
        {
            "pods": [
                {
                    "name": "kube-scheduler",
                    "path": str(path),
                    "parked": str(copy),
                    "sha256": atomic.sha256(path.read_bytes()),
                    "mode": 0o600,
                    "uid": 0,
                    "gid": 0,
                    "token": "x",
                }
            ]
        }
    )
    path.write_text("# written by an upgrade\n" + path.read_text())
    assert [item["action"] for item in parked.recover(str(node.state))] == ["kept"]
    assert path.read_text().startswith("# written by an upgrade")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_puts_the_manifest_back_first(tmp_path, number):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    with FakeKubelet(node, stop_seconds=3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLER, str(tmp_path), "kube-scheduler", "0", "20"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 10
        while path.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        _out, err = process.communicate(timeout=10)
        assert process.returncode != 0 and "stopped by %s" % signal.Signals(number).name in err
        assert_whole(node)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_manifests_are_put_back_leaves_none_out(tmp_path, monkeypatch, number):
    node = Node(tmp_path)
    for name in ("kube-scheduler", "kube-controller-manager"):
        node.add(name)
    real = pod_restart._Run._return

    def interrupted(run, pod):
        os.kill(os.getpid(), number)
        real(run, pod)

    def fails(_run, pod):
        yield from ()  # a generator, as the real one is
        raise PkiError("the test stops here", path=pod.path)

    def park(run, pods):
        real_park(run, pods)
        for pod in pods:
            os.unlink(pod.path)
            pod.out = True

    real_park = pod_restart._Run._park
    monkeypatch.setattr(pod_restart._Run, "_return", interrupted)
    monkeypatch.setattr(pod_restart._Run, "_bounce", fails)
    monkeypatch.setattr(pod_restart._Run, "_park", park)
    before = signal.getsignal(number)
    with FakeKubelet(node), pytest.raises(PkiError, match="the test stops here"):
        bounce(node, ["kube-scheduler", "kube-controller-manager"])
    assert_whole(node)
    assert signal.getsignal(number) is before


def test_a_manifest_that_changes_meanwhile_is_not_lost(tmp_path):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    with FakeKubelet(node, stop_seconds=0.5):

        def intrude():
            while path.exists():
                time.sleep(0.002)
            path.write_text("# by hand\n" + node.original["kube-scheduler"].decode())

        thread = threading.Thread(target=intrude)
        thread.start()
        result = bounce(node, ["kube-scheduler"])
        thread.join()
    assert path.read_text().startswith("# by hand") and "somebody else wrote" in result["warnings"][0]


def test_unknown_names_duplicates_links_and_damage_are_refused_before_anything_moves(tmp_path):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    runtime = FakeRuntime(tmp_path)
    with pytest.raises(PkiError) as error:
        bounce(node, ["kube-schedule"], runtime)
    assert "no static pod named kube-schedule" in str(error.value) and "kube-scheduler" in error.value.fix
    backup = node.manifests / "kube-scheduler.yaml.bak"
    backup.write_bytes(path.read_bytes())
    with pytest.raises(PkiError) as error:
        bounce(node, ["kube-scheduler"], runtime)
    assert "kube-scheduler.yaml.bak" in str(error.value) and "foreign" in str(error.value)
    backup.unlink()
    path.write_text("kind: Pod\nmetadata: [")
    with pytest.raises(PkiError) as error:
        bounce(node, ["kube-scheduler"], runtime)
    assert str(path) in str(error.value)
    path.unlink()
    (tmp_path / "elsewhere.yaml").write_bytes(node.original["kube-scheduler"])
    path.symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(PkiError) as error:
        bounce(node, ["kube-scheduler"], runtime)
    assert "symbolic link" in str(error.value)
    with pytest.raises(PkiError) as error:
        pod_restart.restart_pods(["x"], str(tmp_path / "none"), str(node.state), runtime=runtime)
    assert str(tmp_path / "none") in str(error.value)
    for inside in (node.manifests / "state", node.manifests):
        before = sorted(node.manifests.iterdir())
        with pytest.raises(PkiError) as error:
            pod_restart.restart_pods(["x"], str(node.manifests), str(inside), runtime=runtime)
        assert "every file is a manifest" in str(error.value) and sorted(node.manifests.iterdir()) == before


def test_a_json_manifest_is_annotated_or_bounced_unchanged(node):
    path = node.add("kube-scheduler")
    document = yaml.safe_load(path.read_text())
    path.write_text(json.dumps(document, indent=2))
    node.original["kube-scheduler"] = path.read_bytes()
    with FakeKubelet(node, backoff=0.1):
        result = bounce(node, ["kube-scheduler"])
    after = yaml.safe_load(path.read_text())
    assert result["pods"][0]["action"] == "restarted"
    after["metadata"].pop("annotations", None)
    assert after == document


names = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    notes=st.one_of(st.none(), st.dictionaries(names, names, max_size=3)),
    style=st.sampled_from([None, True, False]),
    comment=st.booleans(),
    moments=st.lists(st.datetimes().map(str), min_size=1, max_size=2, unique=True),
)
def test_the_annotation_is_all_that_changes(notes, style, comment, moments):
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "namespace": "kube-system"},
        "spec": {"containers": [{"name": "x", "command": ["x", "--a=b: c"]}]},
    }
    if notes is not None:
        document["metadata"]["annotations"] = notes
    data = (("# first\n" if comment else "") + yaml.safe_dump(document, default_flow_style=style, allow_unicode=True)).encode()
    document = yaml.safe_load(data)  # a dump does not come back the same in every corner of Unicode
    notes = document["metadata"].get("annotations")
    for moment in moments:
        try:
            result = manifest_edits.annotated(data, "x.yaml", moment)
        except PkiError:
            assert style is not False or notes is not None  # bounced unchanged; but never what kubeadm writes
            return
        loaded = yaml.safe_load(result)
        assert loaded["metadata"]["annotations"][manifest_edits.ANNOTATION] == moment
        loaded["metadata"]["annotations"].pop(manifest_edits.ANNOTATION)
        before = {key: value for key, value in (notes or {}).items() if key != manifest_edits.ANNOTATION}
        assert loaded["metadata"].pop("annotations") == before
        assert loaded["spec"] == document["spec"] and result.startswith(b"# first") is comment
        data = result


@pytest.mark.parametrize(
    "images, answer, serial", [(20, 20, False), (36, 36, True), (36, None, True), (23, 20, False), (23, 23, True)]
)
def test_how_the_kubelet_behaves_is_known_before_etcd_moves(tmp_path, images, answer, serial):
    """etcd's own image tells no Kubernetes version, and the kubelet takes its time to tell: a wrong guess costs a minute."""
    node = Node(tmp_path, images)
    for name in ("kube-apiserver", "etcd"):
        node.add(name)

    class Slow(FakeRuntime):
        def kubelet(self):
            def minor():
                time.sleep(0.3)
                return answer

            return Kubelet(1, 3600.0, minor)

    node.minor = 36 if serial else 20
    with FakeKubelet(node, backoff=0.1):
        bounce(node, ["etcd"], Slow(tmp_path))
    # Only under a kubelet that serialises pods the same bytes come back.
    assert ((node.manifests / "etcd.yaml").read_bytes() == node.original["etcd"]) is serial
    assert_whole(node)
