# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot of a path is of one file."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import file_changes

from tests.unit.support import file_trees


def test_a_snapshot_has_bytes_and_mode_of_one_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"public")
    path.chmod(0o644)
    file_trees.replaced_after(monkeypatch, path, b"secret", 0o600)
    snapshot_of = file_changes.snapshot(str(path))
    assert (snapshot_of["data"], snapshot_of["mode"]) == (b"secret", 0o600)


def test_a_file_that_becomes_a_link_is_not_read_through_it(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    (tmp_path / "secret").write_bytes(b"secret")
    real = os.lstat

    def look(name, **options):
        status = real(name, **options)
        if str(name) == str(path) and not path.is_symlink():
            path.unlink()
            path.symlink_to("secret")
        return status

    monkeypatch.setattr(os, "lstat", look)
    with pytest.raises(PkiError, match="/a: "):
        file_changes.snapshot(str(path))
