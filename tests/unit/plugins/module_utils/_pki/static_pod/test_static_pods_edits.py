# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags of a manifest change while it is out, and nothing else does."""

from __future__ import annotations

import time

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import manifest_edits
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import pod_restart

from tests.unit.support.fakekubelet import FakeKubelet, FakeRuntime, Node, served_node

MANIFEST = b"""apiVersion: v1
kind: Pod
metadata:
  name: kube-controller-manager  # ours
spec:
  containers:
  - command:
    - kube-controller-manager
    - --cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt   # the signer
    - --leader-elect=true
    image: x
    name: kube-controller-manager
"""
FLAG = "--cluster-signing-cert-file"


def edit(flags, data=MANIFEST):
    return manifest_edits.with_flags(data, "m.yaml", "kube-controller-manager", flags)


def test_there_and_back_is_the_same_file():
    there = edit({FLAG: "/etc/kubernetes/pki/ca-signing.crt"})
    assert there == MANIFEST.replace(b"pki/ca.crt", b"pki/ca-signing.crt")
    assert edit({FLAG: "/etc/kubernetes/pki/ca.crt"}, there) == MANIFEST
    assert edit({}) == MANIFEST


def test_a_flag_is_added_and_taken_away():
    added = edit({"--feature-gates": "X=true"})
    assert added == MANIFEST.replace(b"    - --leader-elect=true\n", b"    - --leader-elect=true\n    - --feature-gates=X=true\n")
    assert edit({"--feature-gates": None}, added) == MANIFEST


def test_a_flag_in_two_words_is_refused_before_anything_moves():
    with pytest.raises(PkiError, match="two words"):
        edit({FLAG: "x"}, MANIFEST.replace(FLAG.encode() + b"=", FLAG.encode() + b"\n    - "))


SHELL = MANIFEST.replace(
    b"""    - kube-controller-manager
    - --cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt   # the signer
    - --leader-elect=true
""",
    b"""    - /bin/sh
    - -c
    - exec kube-controller-manager --cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt --leader-elect=true 2>&1
""",
)


@pytest.mark.parametrize("flags", [{FLAG: "/etc/kubernetes/pki/ca-signing.crt"}, {FLAG: None}, {"--feature-gates": "X=true"}])
def test_a_flag_that_would_change_nothing_behind_a_shell_is_refused_before_anything_moves(flags):
    with pytest.raises(PkiError, match="m.yaml: .*shell"):
        edit(flags, SHELL)


def test_a_flag_of_a_sidecar_is_no_flag_of_the_component():
    sidecar = MANIFEST.replace(b"  - command:", b"  - command: [logger, --v=5]\n    name: logger\n  - command:", 1)
    assert yaml.safe_load(edit({"--v": "2"}, sidecar))["spec"]["containers"][1]["command"][-1] == "--v=2"
    assert edit({"--v": None}, edit({"--v": "2"}, sidecar)) == sidecar


def test_a_bounce_puts_the_edited_manifest_back(tmp_path):
    node = Node(tmp_path, 36)
    node.add("kube-scheduler")
    with FakeKubelet(node):
        pod_restart.restart_pods(
            ["kube-scheduler"],
            str(node.manifests),
            str(node.state),
            timeout=20,
            runtime=FakeRuntime(node.root, node.minor),
            edits={"kube-scheduler": {"--v": "2"}},
        )
    before = yaml.safe_load(node.original["kube-scheduler"])
    after = yaml.safe_load((node.manifests / "kube-scheduler.yaml").read_text())
    before["spec"]["containers"][0]["command"].append("--v=2")
    assert after["spec"] == before["spec"]


def test_a_flag_is_not_lost_while_a_slow_etcd_is_waited_for(tmp_path):
    node, _new, pair = served_node(tmp_path)
    node.minor = 36
    path = node.manifests / "kube-apiserver.yaml"
    node.original["kube-apiserver"] = path.read_bytes().replace(b":v1.20.2", b":v1.36.2")
    path.write_bytes(node.original["kube-apiserver"])
    node.add("etcd")
    with FakeKubelet(node, stop_seconds=0.3, start_seconds=1.5, housekeeping=0.3, pair=pair):
        time.sleep(1.6)  # both have come up
        result = pod_restart.restart_pods(
            ["kube-apiserver", "etcd"],
            str(node.manifests),
            str(node.state),
            timeout=20,
            runtime=FakeRuntime(node.root, 36),
            edits={"kube-apiserver": {"--v": "2"}},
        )
        assert b"--v=2" in path.read_bytes(), result["pods"]
    assert {pod["name"]: pod["action"] for pod in result["pods"]} == {"etcd": "restarted", "kube-apiserver": "restarted"}


def test_a_pod_that_came_up_without_its_flags_is_not_said_to_be_done(tmp_path, monkeypatch):
    node = Node(tmp_path, 36)
    path = node.add("kube-scheduler")
    monkeypatch.setattr(manifest_edits, "with_flags", lambda data, *_rest: data)
    with FakeKubelet(node), pytest.raises(PkiError, match="has not got what was asked for: --v"):
        pod_restart.restart_pods(
            ["kube-scheduler"],
            str(node.manifests),
            str(node.state),
            timeout=20,
            runtime=FakeRuntime(node.root, node.minor),
            edits={"kube-scheduler": {"--v": "2"}},
        )
    assert path.exists()


@pytest.mark.parametrize(
    "manifest",
    [
        b"spec:\n  containers: # none\n",
        b"spec: x\n",
        b"spec:\n  containers:\n  - x\n",
        b"[]",
        b"metadata: # none\nspec: {}\n",
        b"metadata: []\n",
    ],
)
def test_a_manifest_of_another_form_is_one_sentence(manifest):
    with pytest.raises(PkiError):
        edit({FLAG: "/x"}, manifest)
    try:
        assert manifest_edits.ANNOTATION.encode() in manifest_edits.annotated(manifest, "m.yaml")
    except PkiError:
        assert manifest in (b"[]", b"metadata: []\n")
