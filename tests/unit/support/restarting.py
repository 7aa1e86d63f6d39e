# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart the static pods of a fake kubelet's node, and see that all manifests are in their places."""

from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import manifest_edits
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import pod_restart

from tests.unit.support.fakekubelet import FakeRuntime

# For pytest.fixture(): a Node is made with (minor version of the kubelet, whether there are control groups).
EACH_KUBELET = {"params": [(20, True), (36, True), (36, False)], "ids": ["1.20", "1.36", "1.36-without-cgroups"]}


def restart(node, names, runtime=None, **options):
    """Restart static pods of a Node, with a FakeRuntime of it."""
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
