# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that others may have put there: no links of theirs, no pipes, nothing large."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import guarded_read


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    return path


@pytest.mark.parametrize("mode, follows", [(0o755, True), (0o775, False), (0o1777, False)])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_is_followed_only_where_others_cannot_make_one(tmp_path, secret, mode, follows, absolute):
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "link").symlink_to(secret if absolute else "../secret")
    folder.chmod(mode)
    if follows:
        assert guarded_read.read(str(folder / "link")) == b"secret"
    else:
        with pytest.raises(PkiError, match="symbolic link"):
            guarded_read.read(str(folder / "link"))


def test_a_link_in_the_middle_of_a_path_counts_too(tmp_path, secret):
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    folder.chmod(0o777)
    with pytest.raises(PkiError, match="symbolic link"):
        guarded_read.read(str(folder / "link" / "secret"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_counts_as_writable(tmp_path, secret):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    os.chown(folder, 65534, 65534)
    with pytest.raises(PkiError, match="symbolic link"):
        guarded_read.read(str(folder / "link"))


def test_what_is_no_small_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (guarded_read.LARGEST + 1))
    (tmp_path / "loop").symlink_to("loop")
    for name, said in (
        ("pipe", "no regular file"),
        ("large", "larger than"),
        ("loop", "circle"),
        ("none", "does not exist"),
        ("", "no regular file"),
        ("a\0b", "no possible name"),
        ("\ud800", "no possible name"),
    ):
        with pytest.raises(PkiError, match=said):
            guarded_read.read(str(tmp_path / name))
    assert guarded_read.read(str(tmp_path / "large"), guarded_read.LARGEST + 1)
