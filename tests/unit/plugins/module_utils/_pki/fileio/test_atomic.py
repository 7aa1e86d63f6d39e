# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A write is complete or has no effect, however it is interrupted."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic

from tests.unit.support import faults, file_trees

ROOT = os.geteuid() == 0


class TestWrite:
    def test_new_files_are_private_and_old_ones_keep_their_mode(self, tmp_path):
        path = tmp_path / "a.key"
        atomic.write(str(path), b"one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o640)
        atomic.write(str(path), b"two")
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"two", 0o640)
        atomic.write(str(path), b"three", mode=0o644)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644

    @pytest.mark.skipif(not ROOT, reason="only root can give files away")
    def test_the_owner_is_kept(self, tmp_path):
        path = tmp_path / "a"
        path.write_bytes(b"x")
        os.chown(path, 1234, 4321)
        atomic.write(str(path), b"y")
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)

    def test_a_link_is_followed(self, tmp_path):
        (tmp_path / "real").write_bytes(b"old")
        (tmp_path / "link").symlink_to("real")
        atomic.write(str(tmp_path / "link"), b"new")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"

    @pytest.mark.parametrize(
        "number, word", [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EIO, "input/output")]
    )
    def test_a_failure_at_any_point_leaves_the_old_file_or_the_new_one(self, tmp_path, number, word):
        path = tmp_path / "d" / "a"
        path.parent.mkdir()
        for point in range(1, file_trees.POINTS):
            path.write_bytes(b"old")
            reached, error = faults.fail_at(point, lambda: atomic.write(str(path), b"new"), number)
            assert path.read_bytes() in (b"old", b"new")
            if not reached:
                assert path.read_bytes() == b"new"
                break
            assert isinstance(error, PkiError) and word in str(error) and str(tmp_path) in str(error)
            assert [item.name for item in path.parent.iterdir()] == ["a"]
        assert point > 4

    def test_a_missing_directory_is_named(self, tmp_path):
        with pytest.raises(PkiError, match="gone does not exist"):
            atomic.write(str(tmp_path / "gone" / "a"), b"")

    def test_readers_never_see_a_part(self, tmp_path):
        path = tmp_path / "a"
        old, new = b"o" * 200000, b"n" * 200000
        path.write_bytes(old)
        seen, stop = set(), threading.Event()

        def look():
            while not stop.is_set():
                seen.add(path.read_bytes())

        reader = threading.Thread(target=look)
        reader.start()
        for _round in range(30):
            atomic.write(str(path), new)
            atomic.write(str(path), old)
        stop.set()
        reader.join()
        assert seen <= {old, new}


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
@pytest.mark.parametrize(
    "mode, group, kept",
    [(0o644, 0, 0o600), (0o666, 0, 0o600), (0o640, 0, 0o600), (0o644, 4321, 0o640), (0o440, 4321, 0o440), (0o400, 0, 0o400)],
)
def test_the_mode_of_a_key(tmp_path, mode, group, kept):
    """A group other than root's may read it: kubeadm's RootlessControlPlane, an etcd with a user of its own."""
    path = tmp_path / "a.key"
    assert atomic.key_mode(str(path)) == 0o600
    path.write_bytes(b"")
    os.chown(path, 0, group)
    path.chmod(mode)
    assert atomic.key_mode(str(path)) == kept


class TestMakeDirectory:
    def test_parents_get_the_mode(self, tmp_path):
        atomic.make_directory(str(tmp_path / "a" / "b"), 0o750)
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")} == {0o750}

    def test_what_is_there_keeps_its_mode(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a").chmod(0o1777)
        atomic.make_directory(str(tmp_path / "a" / "b"), 0o700)
        atomic.make_directory(str(tmp_path / "a"), 0o700)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o1777

    def test_a_file_in_the_way_is_named(self, tmp_path):
        (tmp_path / "a").write_bytes(b"")
        with pytest.raises(PkiError, match="/a: is a file where a directory is expected"):
            atomic.make_directory(str(tmp_path / "a"))


def test_the_nearest_directory_of_any_path(tmp_path, monkeypatch):
    """The parent of a relative path's first part is empty, and so is its parent."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("")
    for path in ("no/where", "f", "f/x", str(tmp_path / "a" / "b"), "."):
        assert atomic.existing_directory(path) == str(tmp_path)
    assert atomic.existing_directory("/no/where") == "/" and atomic.free_bytes("no/where") > 0
