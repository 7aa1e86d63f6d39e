# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the files that say where the kubelet keeps what."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubelet_settings, layouts

from tests.unit.support import throwaway


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
