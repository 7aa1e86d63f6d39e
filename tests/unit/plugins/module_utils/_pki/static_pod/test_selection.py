# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which manifests a restart takes, and which pods serve the certificates on disk."""

from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import (
    pod_restart,
    selection,
)

from tests.unit.support.fakekubelet import FakeKubelet, FakeRuntime, Node, served_node
from tests.unit.support.restarting import restart


def test_an_etcd_in_the_clear_has_nothing_to_take_up(tmp_path):
    node = Node(tmp_path)
    node.add("etcd")
    chosen, everything, _warnings = selection.select_manifests(["etcd"], str(node.manifests))
    assert selection.up_to_date(chosen, everything, str(node.manifests)) == {str(node.manifests / "etcd.yaml")}
    with FakeKubelet(node) as kubelet:
        (pod,) = restart(node, [], unless_reloaded=["etcd"], reload_timeout=0.5)["pods"]
        assert (pod["action"], kubelet.starts) == ("reloaded", 1)
        (pod,) = restart(node, ["etcd"], unless_reloaded=["etcd"])["pods"]
        assert pod["action"] == "restarted"


def test_one_look_tells_who_serves_what_is_on_disk(tmp_path):
    node, new, pair = served_node(tmp_path)
    node.add("kube-scheduler")

    def current():
        chosen, everything, _warnings = selection.select_manifests(["kube-apiserver", "kube-scheduler"], str(node.manifests))
        return selection.up_to_date(chosen, everything, str(node.manifests))

    assert current() == set()
    with FakeKubelet(node, pair=pair):
        assert current() == {str(node.manifests / "kube-apiserver.yaml")}
        new()
        assert current() == set()


def test_unknown_names_duplicates_links_and_damage_are_refused_before_anything_moves(tmp_path):
    node = Node(tmp_path)
    path = node.add("kube-scheduler")
    runtime = FakeRuntime(tmp_path)
    with pytest.raises(PkiError) as error:
        restart(node, ["kube-schedule"], runtime)
    assert "no static pod named kube-schedule" in str(error.value) and "kube-scheduler" in error.value.fix
    backup = node.manifests / "kube-scheduler.yaml.bak"
    backup.write_bytes(path.read_bytes())
    with pytest.raises(PkiError) as error:
        restart(node, ["kube-scheduler"], runtime)
    assert "kube-scheduler.yaml.bak" in str(error.value) and "foreign" in str(error.value)
    backup.unlink()
    path.write_text("kind: Pod\nmetadata: [")
    with pytest.raises(PkiError) as error:
        restart(node, ["kube-scheduler"], runtime)
    assert str(path) in str(error.value)
    path.unlink()
    (tmp_path / "elsewhere.yaml").write_bytes(node.original["kube-scheduler"])
    path.symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(PkiError) as error:
        restart(node, ["kube-scheduler"], runtime)
    assert "symbolic link" in str(error.value)
    with pytest.raises(PkiError) as error:
        pod_restart.restart_pods(["x"], str(tmp_path / "none"), str(node.state), runtime=runtime)
    assert str(tmp_path / "none") in str(error.value)
    for inside in (node.manifests / "state", node.manifests):
        before = sorted(node.manifests.iterdir())
        with pytest.raises(PkiError) as error:
            pod_restart.restart_pods(["x"], str(node.manifests), str(inside), runtime=runtime)
        assert "every file is a manifest" in str(error.value) and sorted(node.manifests.iterdir()) == before
