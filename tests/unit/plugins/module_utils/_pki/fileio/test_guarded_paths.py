# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In a directory that other users can write to, no link of theirs is followed."""

from __future__ import annotations

import json
import os
import stat

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    atomic,
    backup_set,
    guarded_files,
    guarded_paths,
    journals,
    node_lock,
    transaction_recovery,
    transactions,
)

ROOT = os.geteuid() == 0


@pytest.fixture
def shared(tmp_path):
    """A directory that other users can write to, with a link that one of them could have placed, and what it leads to."""
    folder, target = tmp_path / "shared", tmp_path / "target"
    folder.mkdir()
    folder.chmod(0o777)
    target.write_bytes(b"untouched")
    target.chmod(0o600)
    (folder / "link").symlink_to(target)
    return folder


def untouched(shared):
    target = shared.parent / "target"
    return target.read_bytes() == b"untouched" and stat.S_IMODE(target.stat().st_mode) == 0o600


class TestSharedDirectories:
    """Other users can write there: no link of theirs is followed, and nothing is given to them."""

    def test_a_link_is_replaced_and_what_it_leads_to_stays(self, shared):
        atomic.write(str(shared / "link"), b"new", mode=0o644)
        assert untouched(shared) and not (shared / "link").is_symlink() and (shared / "link").read_bytes() == b"new"

    def test_a_link_on_the_way_is_refused_by_name(self, shared):
        elsewhere = shared.parent / "elsewhere"
        elsewhere.mkdir()
        (shared / "way").symlink_to(elsewhere)
        path = str(shared / "way" / "a")
        for action in (
            lambda: atomic.write(path, b"x"),
            lambda: atomic.stage(path, b"x"),
            lambda: atomic.remove(path),
            lambda: atomic.make_directory(path),
            lambda: atomic.sync_directory(str(shared / "way")),
            lambda: atomic.rename(path, path + "b"),
            lambda: atomic.unlink(path),
            lambda: atomic.symlink("x", path),
            lambda: transactions.Transaction("t", str(shared.parent / "state")).write(path, b"x"),
        ):
            with pytest.raises(
                PkiError,
                match="shared/way: is a symbolic link that another user could have placed: the "
                "directory .*/shared belongs to user",
            ):
                action()
        assert os.listdir(elsewhere) == []

    def test_a_transaction_refuses_a_link(self, shared):
        with pytest.raises(PkiError, match="shared/link: is a symbolic link that another user could have placed"):
            transactions.Transaction("t", str(shared.parent / "state")).write(str(shared / "link"), b"x")

    @pytest.mark.skipif(not ROOT, reason="only root can give files away")
    @pytest.mark.parametrize("mode", [0o755, 0o1777])
    def test_links_of_a_user_who_owns_the_directory_or_the_link(self, shared, mode):
        shared.chmod(mode)
        os.chown(shared, 65534 if mode == 0o755 else 0, 0)
        os.chown(shared / "link", 65534, 65534, follow_symlinks=False)
        with pytest.raises(PkiError, match="the link belongs to user 65534"):
            guarded_paths.resolve(str(shared / "link"))
        atomic.write(str(shared / "link"), b"new")
        assert untouched(shared)

    @pytest.mark.skipif(not ROOT, reason="only root can give files away")
    def test_a_link_of_root_in_a_directory_of_another_user(self, shared):
        """It is followed on the way and for what is put together; a report or a request is never written through it."""
        shared.chmod(0o755)
        os.chown(shared, 65534, 0)
        elsewhere = shared.parent / "elsewhere"
        elsewhere.mkdir()
        (shared / "way").symlink_to(elsewhere)
        atomic.write(str(shared / "way" / "a"), b"x")
        assert os.listdir(elsewhere) == ["a"]
        assert guarded_paths.resolve(str(shared / "link")) == str(shared.parent / "target")
        atomic.write(str(shared / "link"), b"new")
        assert untouched(shared) and not (shared / "link").is_symlink()
        shared.chmod(0o775)
        with pytest.raises(PkiError, match="shared/way: is a symbolic link that another user could have placed"):
            atomic.write(str(shared / "way" / "a"), b"x")

    @pytest.mark.skipif(not ROOT, reason="only root can give files away")
    def test_a_file_that_was_placed_gives_neither_mode_nor_owner(self, shared):
        shared.chmod(0o1777)
        placed = shared / "a.key"
        placed.write_bytes(b"")
        placed.chmod(0o644)
        os.chown(placed, 65534, 65534)
        atomic.write(str(placed), b"a key")
        assert (placed.stat().st_uid, stat.S_IMODE(placed.stat().st_mode)) == (0, 0o600)

    def test_root_links_in_root_directories_are_followed(self, tmp_path):
        """pki -> /etc/kubernetes/ssl and /var/lib/kubelet on a data disk, also through two links and a relative one."""
        (tmp_path / "data" / "ssl").mkdir(parents=True)
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "pki").symlink_to("../data/./link/../ssl")
        (tmp_path / "data" / "link").symlink_to(tmp_path / "data" / "ssl")
        atomic.write(str(tmp_path / "etc" / "pki" / "a"), b"x")
        atomic.make_directory(str(tmp_path / "etc" / "pki" / "b"))
        assert sorted(os.listdir(tmp_path / "data" / "ssl")) == ["a", "b"]
        (tmp_path / "data" / "link").unlink()
        (tmp_path / "data" / "link").symlink_to("link")
        with pytest.raises(PkiError, match="lead in a circle"):
            atomic.write(str(tmp_path / "data" / "link" / "a"), b"x")

    def test_a_link_to_a_disk_that_is_not_mounted_is_refused(self, tmp_path):
        (tmp_path / "kubelet").symlink_to(tmp_path / "disk" / "kubelet")
        with pytest.raises(PkiError, match="kubelet: is a symbolic link to a place that does not exist. Mount or create"):
            atomic.make_directory(str(tmp_path / "kubelet" / "pki"))
        assert not (tmp_path / "disk").exists()
        (tmp_path / "disk").mkdir()
        (tmp_path / "mounted").symlink_to("disk")
        (tmp_path / "outer").symlink_to("mounted/kubelet")
        with pytest.raises(PkiError, match="outer: is a symbolic link to a place that does not exist"):
            atomic.make_directory(str(tmp_path / "outer" / "pki"))
        atomic.make_directory(str(tmp_path / "mounted" / "kubelet" / "pki"))

    def test_a_directory_that_is_swapped_for_a_link_is_still_the_one(self, tmp_path, monkeypatch):
        """Between a look at a path and the write, its owner puts a link in its place."""
        home, target = tmp_path / "home", tmp_path / "target"
        home.mkdir()
        target.mkdir()
        real = atomic._stage

        def swapped(*arguments):
            home.rename(tmp_path / "moved")
            home.symlink_to(target)
            return real(*arguments)

        monkeypatch.setattr(atomic, "_stage", swapped)
        atomic.write(str(home / "a"), b"x")
        assert os.listdir(target) == [] and os.listdir(tmp_path / "moved") == ["a"]

    @pytest.mark.parametrize("what", ["lock", "journal", "backup"])
    def test_state_and_backups_lie_where_only_root_writes(self, shared, what):
        actions = {
            "lock": lambda: node_lock.lock(str(shared)).__enter__(),
            "journal": lambda: journals.Journal("t", str(shared)).save({}),
            "backup": lambda: backup_set.create_backup([str(shared.parent / "target")], "test", str(shared)),
        }
        with pytest.raises(PkiError, match=r"/shared: other users can write to this directory \(mode 0777\).*chmod go-w"):
            actions[what]()

    def test_a_journal_that_another_user_can_write_is_not_carried_out(self, tmp_path):
        (tmp_path / "journal").mkdir()
        (tmp_path / "journal" / "t.json").write_text(
            json.dumps({"state": "commit", "entries": [{"path": str(tmp_path / "a"), "remove": True}]})
        )
        (tmp_path / "journal" / "t.json").chmod(0o666)
        (tmp_path / "a").write_bytes(b"")
        with pytest.raises(PkiError, match="t.json: other users can write to this file"):
            transaction_recovery.recover("t", str(tmp_path))
        assert (tmp_path / "a").exists()

    def test_mode_and_owner_are_set_on_the_file_alone(self, shared):
        with pytest.raises(PkiError, match="is a symbolic link that another user could have placed"):
            guarded_files.set_attributes(str(shared / "link"), 0o666, (-1, -1))
        os.link(shared.parent / "target", shared / "name")
        with pytest.raises(PkiError, match="has 2 names"):
            guarded_files.set_attributes(str(shared / "name"), 0o666, (-1, -1))
        assert untouched(shared)
