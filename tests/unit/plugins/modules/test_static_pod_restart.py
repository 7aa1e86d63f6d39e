# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible starts it: options in, one JSON out, with a fake kubelet underneath."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.unit.support.fakekubelet import ROOT, FakeKubelet, Node, served_node

# What AnsiballZ does, with a runtime that looks at the fake node.
STARTER = """
import io, json, sys
sys.path[:0] = [%(root)r + "/tests/unit"]
import conftest
from ansible.module_utils import basic
from tests.unit.support.fakekubelet import FakeRuntime
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import containers
from ansible_collections.kubepki.lifecycle.plugins.modules import static_pod_restart
root, arguments = sys.argv[1], json.loads(sys.argv[2])
containers.Runtime.of = lambda layout: FakeRuntime(root)
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
basic._ANSIBLE_PROFILE = "legacy"
static_pod_restart.main()
""" % {"root": str(ROOT)}


def call(node, **options):
    """Run the module in a process of its own; give (exit code, its JSON)."""
    arguments = dict(
        {
            "manifest_dir": str(node.manifests),
            "kubernetes_dir": str(node.manifests.parent),
            "state_dir": str(node.state),
            "timeout": "20",
        },
        **options,
    )
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(node.root), json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.startswith("\n{") or done.stdout.startswith("{"), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    made.add("kube-scheduler")
    return made


def test_restart_with_diff(node):
    with FakeKubelet(node):
        code, result = call(node, names=["kube-scheduler"], _ansible_diff=True)
    pod = result["pods"][0]
    assert (code, result["changed"], pod["action"]) == (0, True, "restarted")
    assert result["diff"] == {
        "before": {"kube-scheduler": pod["container_before"]},
        "after": {"kube-scheduler": pod["container_after"]},
    }
    assert pod["container_before"] != pod["container_after"] and result["seconds"] > 0


def test_the_manifests_are_where_the_kubelet_reads_them(node, tmp_path):
    (tmp_path / "kubelet").mkdir()
    (tmp_path / "kubelet/config.yaml").write_text("staticPodPath: %s/\n" % node.manifests)
    elsewhere = {"manifest_dir": None, "kubelet_dir": str(tmp_path / "kubelet"), "kubernetes_dir": str(tmp_path / "none")}
    with FakeKubelet(node):
        code, result = call(node, names=["kube-scheduler"], **elsewhere)
    assert (code, [pod["action"] for pod in result["pods"]]) == (0, ["restarted"]), result


def test_check_mode_foretells_no_restart_of_what_serves_its_file(tmp_path):
    node, new, pair = served_node(tmp_path)
    node.add("kube-scheduler")

    def plan(**options):
        code, result = call(node, _ansible_check_mode=True, **options)
        assert code == 0
        return result["changed"], {pod["name"]: pod["action"] for pod in result["pods"]}

    with FakeKubelet(node, pair=pair):
        assert plan(unless_reloaded=["kube-apiserver"]) == (False, {"kube-apiserver": "kept"})
        assert plan(names=["kube-scheduler"], unless_reloaded=["kube-apiserver"]) == (
            True,
            {"kube-scheduler": "restarted", "kube-apiserver": "kept"},
        )
        assert plan(names=["kube-apiserver"]) == (True, {"kube-apiserver": "restarted"})
        new()
        assert plan(unless_reloaded=["kube-apiserver"]) == (True, {"kube-apiserver": "restarted"})


def test_check_mode_moves_nothing(node):
    code, result = call(node, names=["kube-scheduler"], _ansible_check_mode=True)
    assert (code, result["changed"]) == (0, True)
    assert [(pod["name"], pod["action"]) for pod in result["pods"]] == [("kube-scheduler", "restarted")]
    assert (node.manifests / "kube-scheduler.yaml").read_bytes() == node.original["kube-scheduler"]
    assert not node.state.exists()


def test_restored_says_and_does_what_is_missing_and_then_nothing(node):
    static = node.manifests / "kube-scheduler.yaml"
    parked = node.state / "parked" / "kube-scheduler.yaml.x"
    parked.parent.mkdir(parents=True)
    from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic, journals

    parked.write_bytes(static.read_bytes())
    journals.Journal("static-pods", str(node.state)).save(
        {
            "pods": [
                {
                    "name": "kube-scheduler",
                    "path": str(static),
                    "parked": str(parked),
                    "sha256": atomic.sha256(static.read_bytes()),
                    "mode": 0o600,
                    "uid": 0,
                    "gid": 0,
                    "token": "x",
                }
            ]
        }
    )
    static.unlink()
    _code, plan = call(node, state="restored", _ansible_check_mode=True)
    assert plan["changed"] and plan["restored"] == [str(static)] and not static.exists()
    # A restart's plan knows that the pod comes back first.
    for skip in (False, True):
        _code, plan = call(node, names=["kube-scheduler"], skip_missing=skip, _ansible_check_mode=True)
        assert [(pod["name"], pod["action"]) for pod in plan["pods"]] == [("kube-scheduler", "restored")]
        assert plan["missing"] == []
    code, result = call(node, state="restored")
    assert (code, result["changed"], result["restored"]) == (0, True, [str(static)]) and static.exists()
    code, result = call(node, state="restored")
    assert (code, result["changed"], result["pods"]) == (0, False, [])


@pytest.mark.parametrize(
    "options, text",
    [
        ({"names": ["kube-schedule"]}, "there is no static pod named kube-schedule"),
        ({}, "names is empty"),
        ({"names": ["kube-scheduler"], "manifest_dir": "/nonexistent/manifests"}, "/nonexistent/manifests: is not a directory"),
    ],
)
def test_bad_options_are_one_message(node, options, text):
    code, result = call(node, **options)
    assert code != 0 and result["failed"] and text in result["msg"] and "\n" not in result["msg"]
    assert result["fix"] and "exception" not in result


def test_a_failure_says_what_is_known_of_each_pod(node):
    with FakeKubelet(node) as kubelet:
        kubelet.broken.add("kube-scheduler")
        code, result = call(node, names=["kube-scheduler"], timeout=2)
    assert code != 0 and "kube-scheduler is not healthy" in result["msg"]
    assert result["pods"][0]["name"] == "kube-scheduler" and result["pods"][0]["proof"]


@pytest.mark.parametrize("check", [False, True])
def test_what_is_not_on_the_node_is_passed_over_only_where_that_is_asked_for(node, check):
    names = ["kube-scheduler", "etcd"]
    code, result = call(node, names=names, _ansible_check_mode=True)
    assert code == 1 and "no static pod named etcd" in result["msg"]
    with FakeKubelet(node):
        code, result = call(node, names=names, skip_missing=True, _ansible_check_mode=check)
    assert (code, result["changed"], [pod["name"] for pod in result["pods"]]) == (0, True, ["kube-scheduler"])
    assert result["missing"] == ["etcd"]
    code, result = call(node, names=["etcd"], skip_missing=True, _ansible_check_mode=check)
    assert (code, result["changed"], result["pods"], result["missing"]) == (0, False, [], ["etcd"])
    code, result = call(node, names=["etcd"], skip_missing=True, manifest_dir=str(node.root / "none"), _ansible_check_mode=check)
    assert (code, result["changed"]) == (0, False)


@pytest.mark.parametrize("check", [False, True])
def test_who_may_reload_is_passed_over_as_well_where_the_node_does_not_have_it(node, check):
    maybe = ["kube-apiserver", "kube-scheduler", "etcd"]
    with FakeKubelet(node):
        code, result = call(node, names=["etcd"], unless_reloaded=maybe, skip_missing=True, _ansible_check_mode=check)
    assert (code, [pod["name"] for pod in result["pods"]]) == (0, ["kube-scheduler"]), result
    assert result["missing"] == ["etcd", "kube-apiserver"] and "skipped" not in result
    code, result = call(node, unless_reloaded=maybe, _ansible_check_mode=check)
    assert code == 1 and "no static pod named kube-apiserver" in result["msg"]


def test_a_manifest_that_cannot_be_read_is_not_passed_over(node):
    (node.manifests / "etcd.yaml").write_text("{")
    code, result = call(node, names=["etcd"], skip_missing=True)
    assert code == 1 and "etcd.yaml" in result["msg"]
