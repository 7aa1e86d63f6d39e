# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart static pods under a fake kubelet: what moves, when, and what is left after a kill at every step."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import health_checks
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import manifest_edits
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import (
    pod_restart,
    pod_stop,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import faults
from tests.unit.support.fakekubelet import KILLER, FakeKubelet, FakeRuntime, Node, served_node
from tests.unit.support.restarting import EACH_KUBELET, assert_whole, restart


@pytest.fixture(**EACH_KUBELET)
def node(request, tmp_path):
    return Node(tmp_path, *request.param)


def test_a_pod_comes_back_new_healthy_and_annotated(node):
    node.add("kube-scheduler")
    with FakeKubelet(node) as kubelet:
        before = node.containers()[0]
        result = restart(node, ["kube-scheduler"])
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
            seconds.append(restart(node, ["kube-scheduler"])["pods"][0]["seconds"])
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
        result = restart(node, ["kube-scheduler"], Hasty(node.root, 36))
    assert "away" in [event for _moment, event, _name in kubelet.events]
    assert "the kubelet had turned it away" in " ".join(result["pods"][0]["proof"])
    assert result["pods"][0]["seconds"] < 30
    assert_whole(node)


def test_with_control_groups_a_newer_kubelet_is_never_asked_too_early(tmp_path):
    node = Node(tmp_path, 36)
    node.add("kube-scheduler")
    with FakeKubelet(node, housekeeping=30, requeue=60, stop_seconds=0.3) as kubelet:
        result = restart(node, ["kube-scheduler"])
    # Without housekeeping in all that time: the old pod was finished because its manifest was back meanwhile.
    assert "away" not in [event for _moment, event, _name in kubelet.events]
    assert result["pods"][0]["seconds"] < 15 and kubelet.starts == 2
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
        result = restart(node, ["one", "two"], runtime)
    assert [pod["action"] for pod in result["pods"]] == ["restarted", "restarted"] and kubelet.starts == 4
    assert_whole(node)


def test_a_pod_without_a_health_endpoint_is_proven_by_the_kubelets_word(node):
    node.add("kube-vip")
    runtime = FakeRuntime(node.root, node.minor)
    runtime.readiness = lambda age: age > 1.5
    with FakeKubelet(node):
        pod = restart(node, ["kube-vip"], runtime)["pods"][0]
        assert pod["proof"][-1].endswith("the kubelet calls it ready") and pod["seconds"] > 1.5
        runtime.readiness = lambda age: False
        with pytest.raises(pod_restart.RestartError, match="kube-vip is not healthy .* the kubelet says that it is not ready"):
            restart(node, ["kube-vip"], runtime, timeout=4)
    assert_whole(node)


def test_a_deaf_kubelet_is_a_failure_and_the_manifest_is_back(node):
    node.add("kube-scheduler", grace=0)
    with FakeKubelet(node, deaf=True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pod_stop, "_SHORTEST_STOP", 0.3)
        with pytest.raises(pod_restart.RestartError) as error:
            restart(node, ["kube-scheduler"], timeout=0.3)
    assert "has not stopped it" in str(error.value)
    assert error.value.as_result()["pods"][0]["name"] == "kube-scheduler"
    assert_whole(node)


def test_a_pod_that_stays_ill_is_a_failure_with_what_was_seen_and_the_others_finish(node):
    for name in ("kube-scheduler", "kube-controller-manager"):
        node.add(name)
    with FakeKubelet(node) as kubelet:
        kubelet.broken.add("kube-scheduler")
        with pytest.raises(pod_restart.RestartError) as error:
            restart(node, ["kube-scheduler", "kube-controller-manager"], timeout=2.5)
    text = str(error.value)
    assert "kube-scheduler is not healthy" in text and "connection refused" in text and "kube-controller-manager is" not in text
    assert {pod["name"]: pod["proof"][-1:] for pod in error.value.pods}["kube-controller-manager"][0].endswith("answers 200")
    assert_whole(node)


def test_a_health_endpoint_that_never_ends_its_answer_is_a_failure_in_time(tmp_path, monkeypatch):
    node = Node(tmp_path)
    node.add("kube-scheduler")
    released = threading.Event()
    monkeypatch.setattr(health_checks, "health", lambda *_args, **_options: (released.wait(30), "200"))
    started = time.monotonic()
    try:
        with FakeKubelet(node), pytest.raises(pod_restart.RestartError, match="is not healthy .* no answer in time"):
            restart(node, ["kube-scheduler"], timeout=2.5)
    finally:
        released.set()
    assert time.monotonic() - started < 10
    assert_whole(node)


def test_unless_reloaded_keeps_what_serves_its_file_and_restarts_what_does_not(tmp_path):
    node, new, pair = served_node(tmp_path)
    node.add("kube-scheduler")
    with FakeKubelet(node, pair=pair) as kubelet:
        result = restart(node, ["kube-scheduler"], unless_reloaded=["kube-apiserver"], reload_timeout=3)
        actions = [(pod["name"], pod["action"]) for pod in result["pods"]]
        assert actions == [("kube-apiserver", "reloaded"), ("kube-scheduler", "restarted")]
        assert (node.manifests / "kube-apiserver.yaml").read_bytes() == node.original["kube-apiserver"]
        assert "apiserver.crt" in result["pods"][0]["proof"][0]
        new()
        result = restart(node, [], unless_reloaded=["kube-apiserver"], reload_timeout=0.5)
    assert [(pod["name"], pod["action"]) for pod in result["pods"]] == [("kube-apiserver", "restarted")]
    assert "serves" in result["pods"][0]["proof"][-1]
    assert kubelet.starts == 4
    assert_whole(node)


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
            restart(node, ["kube-apiserver"], timeout=2)
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
                assert restart(node, list(node.original))["changed"]
            else:
                pod_restart.restore(str(node.state))
                assert pod_restart.restore(str(node.state)) == ([], "nothing")
            assert kubelet.wrong == [], point
        assert_whole(node)
    assert 20 < point < 199  # the test would prove nothing if nothing were killed


class TestFaults:
    """A disk that is full, read-only or broken, at every system call of a restart."""

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
    def test_of_a_restart(self, tmp_path, number, lasting, minor):
        node = Node(tmp_path, minor)
        node.add("kube-scheduler", grace=0)
        path, said = node.manifests / "kube-scheduler.yaml", set()
        with FakeKubelet(node, housekeeping=0.05, stop_seconds=0.01, start_seconds=0.01, backoff=0, requeue=0.1) as kubelet:
            for point in range(1, 200):
                shutil.rmtree(node.state, ignore_errors=True)
                node.original["kube-scheduler"] = path.read_bytes()
                reached, error = faults.fail_at(point, lambda: restart(node, ["kube-scheduler"], timeout=5), number, lasting)
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
        result = restart(node, ["kube-scheduler"])
        thread.join()
    assert path.read_text().startswith("# by hand") and "another program wrote" in result["warnings"][0]


def test_a_json_manifest_is_annotated_or_bounced_unchanged(node):
    path = node.add("kube-scheduler")
    document = yaml.safe_load(path.read_text())
    path.write_text(json.dumps(document, indent=2))
    node.original["kube-scheduler"] = path.read_bytes()
    with FakeKubelet(node, backoff=0.1):
        result = restart(node, ["kube-scheduler"])
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
