# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of reading systemd units."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host import systemd
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host.processes import Processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import kubelet_service


def test_a_unit_of_another_name_is_said_clearly(monkeypatch):
    def none(arguments, timeout):
        return subprocess.CompletedProcess(arguments, 0, b"LoadState=not-found\nActiveState=inactive\nMainPID=0\n", b"")

    monkeypatch.setattr(systemd, "run_command", none)
    with pytest.raises(PkiError, match=r"has no unit kubelet.service that it could start \(not-found\).*as kubelet.service"):
        kubelet_service.Service().state()
    with pytest.raises(PkiError, match=r"systemd has no unit kubelet.service"):
        Processes(show=systemd.show_unit).kubelet()


def test_a_service_manager_that_is_missing_or_hangs_is_an_error_of_ours(monkeypatch):
    for raised, text in ((FileNotFoundError(), "there is no systemctl"), (subprocess.TimeoutExpired("x", 20), "has not ended")):

        def run(*_words, raised=raised, **_options):
            raise raised

        monkeypatch.setattr(systemd.subprocess, "run", run)
        with pytest.raises(PkiError, match=text):
            systemd.show_unit("kubelet.service")
