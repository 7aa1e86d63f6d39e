# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import memfd


def test_what_a_path_in_memory_gives_has_no_name_on_a_disk_and_ends_with_the_context():
    with memfd.path_of(b"a key") as path:
        assert Path(path).read_bytes() == b"a key"
        assert os.readlink(path).startswith("/memfd:")
    assert not os.path.exists(path)


def test_where_there_are_no_files_in_memory_it_is_its_owners_and_ends_with_the_context(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with pytest.raises(ZeroDivisionError), memfd.path_of(b"a key") as path:
        assert Path(path).read_bytes() == b"a key"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        raise ZeroDivisionError
    assert not os.path.exists(path)
