# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private files are read only where no other user could have made or read them."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import guarded_files

ROOT = os.geteuid() == 0


class TestReadPrivate:
    @pytest.mark.parametrize(
        "mode, word", [(0o644, "other users may have read it"), (0o640, "other users may"), (0o600, None), (0o400, None)]
    )
    def test_only_0600_is_read(self, tmp_path, mode, word):
        path = tmp_path / "key"
        assert guarded_files.read_private(str(path)) is None
        path.write_bytes(b"key")
        path.chmod(mode)
        if word is None:
            assert guarded_files.read_private(str(path)) == b"key"
        else:
            with pytest.raises(PkiError, match=word):
                guarded_files.read_private(str(path))

    def test_links_pipes_and_second_names_are_refused(self, tmp_path):
        (tmp_path / "key").write_bytes(b"key")
        (tmp_path / "key").chmod(0o600)
        (tmp_path / "link").symlink_to("key")
        os.mkfifo(tmp_path / "pipe")
        for name, word in (("link", "is a symbolic link where a file"), ("pipe", "neither a file")):
            with pytest.raises(PkiError, match=word):
                guarded_files.read_private(str(tmp_path / name))
        os.link(tmp_path / "key", tmp_path / "other")
        with pytest.raises(PkiError, match="2 names"):
            guarded_files.read_private(str(tmp_path / "key"))

    @pytest.mark.skipif(not ROOT, reason="only root can give files away")
    def test_another_users_file_is_refused(self, tmp_path):
        (tmp_path / "key").write_bytes(b"key")
        (tmp_path / "key").chmod(0o600)
        os.chown(tmp_path / "key", 65534, 65534)
        with pytest.raises(PkiError, match="belongs to user 65534"):
            guarded_files.read_private(str(tmp_path / "key"))
