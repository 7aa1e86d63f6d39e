# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode changes nothing: not even the directory of the lock is made."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.modules import file_backup
from ansible_collections.kubepki.lifecycle.plugins.modules.internal import kubelet_credential, kubelet_restart

from tests.unit.support import throwaway

OPTIONS = {
    "due_only": False,
    "renew_below_days": 400,
    "force": True,
    "ask_server": False,
    "key_type": "rsa-2048",
    "method": "ca",
    "state": "created",
    "paths": [],
    "keep": 5,
}


def snapshot(root):
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in root.rglob("*")}


@pytest.mark.parametrize("act", [kubelet_restart.restart, kubelet_credential.requested, file_backup.work])
def test_nothing_is_made(tmp_path, monkeypatch, act):
    node = throwaway.Node(tmp_path)
    paths = {
        "kubernetes_dir": "/etc/kubernetes",
        "kubelet_dir": "/var/lib/kubelet",
        "state_dir": "/var/lib/kubepki",
        "backup_dir": "/var/lib/kubepki/backups",
    }
    options = dict(OPTIONS, **{name: str(node.path(path)) for name, path in paths.items()})
    before = snapshot(tmp_path)
    assert act(SimpleNamespace(params=options, check_mode=True))["changed"]
    assert snapshot(tmp_path) == before
