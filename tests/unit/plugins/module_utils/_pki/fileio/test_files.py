# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes are whole or not at all, whatever ends them."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    atomic,
    backup_contents,
    backup_restore,
    backup_set,
    file_changes,
    guarded_files,
    guarded_paths,
    journals,
    node_lock,
    path_trust,
    reading,
    transaction_recovery,
    transactions,
)

from tests.unit.support import faults

ROOT = os.geteuid() == 0
POINTS = 400  # more than any action below has; each loop ends where its action ran through


def snapshot(directory):
    """Everything below a directory: {path: (mode, bytes or link target)}."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        if path.is_symlink():
            found[str(path)] = ("link", os.readlink(path))
        elif path.is_file():
            found[str(path)] = (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


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
        for point in range(1, POINTS):
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


class TestRequireTrusted:
    def test_the_whole_way_counts(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        path = tmp_path / "a" / "b" / "c"
        path.write_bytes(b"")
        path_trust.require_trusted(str(path))
        for part in (path, path.parent, path.parent.parent):
            before = part.stat().st_mode
            part.chmod(0o777)
            with pytest.raises(PkiError, match="%s: other users can write to this" % part):
                path_trust.require_trusted(str(path))
            part.chmod(before)
        (tmp_path / "link").symlink_to("a/b/c")
        path_trust.require_trusted(str(tmp_path / "link"))
        path.parent.chmod(0o777)
        with pytest.raises(PkiError, match="a/b: other users"):
            path_trust.require_trusted(str(tmp_path / "link"))
        path.parent.chmod(0o1777)
        path_trust.require_trusted(str(path))

    def test_what_other_users_can_create_is_refused(self, tmp_path):
        """group_vars beside an inventory in /tmp."""
        (tmp_path / "a").mkdir()
        path_trust.require_trusted(str(tmp_path / "a" / "group_vars"))
        (tmp_path / "link").symlink_to("a/group_vars")
        (tmp_path / "a").chmod(0o1777)
        for path in (tmp_path / "a" / "group_vars", tmp_path / "a" / "group_vars" / "all.yml", tmp_path / "link"):
            for check in (path_trust.require_trusted, path_trust.require_trusted_tree):
                with pytest.raises(
                    PkiError, match=r"a/group_vars: does not exist, and other users can create it \(.*/a has the mode 1777\)"
                ):
                    check(str(path))
        (tmp_path / "a" / "group_vars").mkdir()
        path_trust.require_trusted(str(tmp_path / "a" / "group_vars" / "all.yml"))

    def test_everything_below_a_directory_counts_and_what_links_lead_to(self, tmp_path):
        for name in ("venv/bin", "venv/lib", "system"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "system" / "python").write_bytes(b"")
        (tmp_path / "system" / "more").mkdir()
        (tmp_path / "venv" / "bin" / "python").symlink_to(tmp_path / "system" / "python")
        (tmp_path / "venv" / "lib64").symlink_to("lib")
        (tmp_path / "venv" / "lib" / "circle").symlink_to("..")
        (tmp_path / "venv" / "lib" / "more").symlink_to(tmp_path / "system")
        (tmp_path / "venv" / "lib" / "gone").symlink_to("nowhere")
        (tmp_path / "venv" / "lib" / "a.py").write_bytes(b"")
        path_trust.require_trusted_tree(str(tmp_path / "venv"))
        for name in ("venv/lib/a.py", "venv/lib", "venv", "system/python", "system", "system/more"):
            before = (tmp_path / name).stat().st_mode
            (tmp_path / name).chmod(0o777)
            with pytest.raises(PkiError, match="%s: other users can write" % (tmp_path / name)):
                path_trust.require_trusted_tree(str(tmp_path / "venv"))
            (tmp_path / name).chmod(before)
        path_trust.require_trusted_tree(str(tmp_path / "venv"))

    @pytest.mark.skipif(not ROOT, reason="only root can give files away")
    def test_another_user_is_named_and_can_be_allowed(self, tmp_path):
        (tmp_path / "a").mkdir()
        os.chown(tmp_path / "a", 65534, 65534)
        path_trust.require_trusted(str(tmp_path / "a" / "gone"), users=[65534])
        with pytest.raises(PkiError, match="/a: this directory belongs to user 65534"):
            path_trust.require_trusted(str(tmp_path / "a" / "gone"))


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


@pytest.fixture
def tree(tmp_path):
    """A pair, a link, a file that goes and a file that comes; and what a transaction makes of them."""
    home = tmp_path / "pki"
    home.mkdir()

    def reset():
        for item in home.iterdir():
            item.unlink()
        (home / "a.crt").write_bytes(b"old crt")
        (home / "a.crt").chmod(0o644)
        (home / "a.key").write_bytes(b"old key")
        (home / "a.key").chmod(0o600)
        (home / "current").symlink_to("a.crt")
        (home / "gone").write_bytes(b"old")

    def change():
        transaction = transactions.Transaction("t", str(tmp_path / "state"))
        transaction.write(str(home / "a.crt"), b"new crt")
        transaction.write(str(home / "a.key"), b"new key")
        transaction.write(str(home / "b.key"), b"new file")
        transaction.symlink(str(home / "current"), "b.key")
        transaction.remove(str(home / "gone"))
        transaction.commit()

    reset()
    old = snapshot(home)
    change()
    new = snapshot(home)
    assert old != new and len(new) == 4
    reset()
    return home, str(tmp_path / "state"), reset, change, old, new


class TestTransaction:
    def test_a_kill_at_any_point_is_healed(self, tree):
        home, state, reset, change, old, new = tree
        outcomes = set()
        for point in range(1, POINTS):
            reset()
            if not faults.kill_at(point, change):
                break
            outcomes.add(transaction_recovery.recover("t", state))
            assert snapshot(home) in (old, new)
            assert transaction_recovery.recover("t", state) == "nothing"
            assert not [path for path in Path(state).rglob("*") if ".kubepki-" in path.name]
            change()
            assert snapshot(home) == new
        assert outcomes == {"nothing", "undone", "finished"} and point > 20

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
    def test_a_failure_at_any_point_changes_nothing_or_all(self, tree, number):
        home, state, reset, change, old, new = tree
        for point in range(1, POINTS):
            reset()
            reached, error = faults.fail_at(point, change, number)
            if not reached:
                break
            assert isinstance(error, PkiError)
            transaction_recovery.recover("t", state)
            assert snapshot(home) in (old, new), "point %d" % point
        assert point > 20

    def test_a_rename_that_fails_takes_the_others_back(self, tree, monkeypatch):
        home, state, _reset, change, old, _new = tree
        real = os.rename

        def rename(source, target, **directories):
            if os.path.basename(target) == "current" and ".kubepki-" in source:
                raise PermissionError(errno.EPERM, "immutable", target)
            real(source, target, **directories)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(PkiError, match="current: operation not permitted"):
            change()
        assert snapshot(home) == old
        assert transaction_recovery.recover("t", state) == "nothing"

    @pytest.mark.skipif(not ROOT, reason="chattr needs root")
    def test_an_immutable_file_stops_it_before_anything_changed(self, tree):
        home, _state, _reset, change, old, _new = tree
        if subprocess.run(["chattr", "+i", str(home / "a.key")], capture_output=True, check=False).returncode:
            pytest.skip("this file system has no immutable files")
        try:
            with pytest.raises(PkiError, match="a.key: operation not permitted.*lsattr"):
                change()
            assert snapshot(home) == old
        finally:
            subprocess.run(["chattr", "-i", str(home / "a.key")], check=True)

    def test_a_directory_in_the_way_stops_it_before_anything_changed(self, tree):
        home, _state, _reset, change, old, _new = tree
        (home / "b.key").mkdir()
        with pytest.raises(PkiError, match="b.key: is a directory"):
            change()
        assert snapshot(home) == old

    def test_the_journal_holds_no_content(self, tree):
        home, state, reset, change, _old, _new = tree
        reset()
        point = 1
        while faults.kill_at(point, change):
            journal = Path(state, "journal", "t.json")
            if journal.exists():
                assert b"new key" not in journal.read_bytes()
                assert stat.S_IMODE(journal.stat().st_mode) == 0o600
            transaction_recovery.recover("t", state)
            reset()
            point += 1
        assert point > 20

    @pytest.mark.parametrize("renewed", [("a.crt", "a.key"), ("a.crt",), ("a.key",), ("current",), ("gone",), ("b.key",)])
    def test_what_was_written_after_a_kill_is_never_overwritten(self, tree, renewed):
        """Killed between two renames, then `kubeadm certs renew`, then any job."""
        home, state, reset, change, _old, _new = tree
        said = set()
        for point in range(1, POINTS):
            reset()
            if not faults.kill_at(point, change):
                break
            for name in renewed:
                (home / name).unlink(missing_ok=True)
                if name == "current":
                    (home / name).symlink_to("a.key")
                else:
                    (home / name).write_bytes(b"renewed by kubeadm")
            before = snapshot(home)
            try:
                said.add(transaction_recovery.recover("another-job", state))
            except PkiError as error:
                said.add("discarded")
                assert "another program changed" in str(error) and all(str(home / name) in str(error) for name in renewed)
                assert "check_expiry" in error.fix
            left = snapshot(home)
            assert left == {path: content for path, content in before.items() if ".kubepki-" not in path}, "point %d" % point
            assert transaction_recovery.recover("t", state) == "nothing"
            assert not [path for path in Path(state).rglob("*") if ".kubepki-" in path.name]
        assert said == {"nothing", "undone", "finished", "discarded"} and point > 20

    def test_a_discarded_transaction_says_which_files_are_of_which_version(self, tree, monkeypatch):
        home, state, _reset, change, _old, _new = tree
        real = file_changes.apply_entries

        def killed(entries, done):
            real(entries[:1], done)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(file_changes, "apply_entries", killed)
            with pytest.raises(KeyboardInterrupt):
                change()
        (home / "gone").write_bytes(b"by hand")
        with pytest.raises(PkiError) as error:
            transaction_recovery.recover("t", state)
        text = str(error.value)
        assert text.startswith(str(home / "gone") + ": ")
        assert (
            "the version of that run is in %s; the version from before it is in %s, " % (home / "a.crt", home / "a.key") in text
        )

    def test_staged_files_that_went_away_are_not_half_a_transaction(self, tree):
        home, state, reset, change, old, new = tree
        seen = set()
        for point in range(1, POINTS):
            reset()
            if not faults.kill_at(point, change):
                break
            for path in sorted(home.iterdir()):
                if path.name.startswith(".b.key.kubepki-"):
                    path.unlink()
            half = snapshot(home)
            try:
                seen.add(transaction_recovery.recover("t", state))
            except PkiError as error:
                seen.add("discarded")
                assert "gone or damaged" in str(error) and str(home / "a.crt") in str(error)
                assert half[str(home / "a.crt")] != old[str(home / "a.crt")]
            else:
                assert snapshot(home) in (old, new), "point %d" % point
            assert not [name for name in snapshot(home) if ".kubepki-" in name]
            assert transaction_recovery.recover("t", state) == "nothing"
        assert seen == {"nothing", "undone", "finished", "discarded"}

    def test_the_names_of_staged_files_are_durable_before_the_journal_commits(self, tree, monkeypatch):
        home, _state, _reset, change, _old, _new = tree
        events = []
        sync, save = atomic.sync_directory, journals.Journal.save
        monkeypatch.setattr(
            atomic,
            "sync_directory",
            lambda directory: (
                events.append(
                    (directory, sorted(path.name.split(".kubepki-")[0] for path in home.iterdir() if ".kubepki-" in path.name))
                ),
                sync(directory),
            ),
        )
        monkeypatch.setattr(journals.Journal, "save", lambda self, record: (events.append(record["state"]), save(self, record)))
        change()
        before = events[events.index("staging") : events.index("commit")]
        assert (str(home), [".a.crt", ".a.key", ".b.key", ".current"]) in before

    def test_a_file_that_changes_while_others_are_staged_stops_it(self, tree, monkeypatch):
        home, state, _reset, change, old, _new = tree
        stage = file_changes.stage_all

        def slow(*arguments):
            stage(*arguments)
            (home / "a.key").write_bytes(b"by the kubelet")

        monkeypatch.setattr(file_changes, "stage_all", slow)
        with pytest.raises(PkiError, match="a.key: another program changed it while this was running"):
            change()
        assert (home / "a.key").read_bytes() == b"by the kubelet"
        assert dict(snapshot(home), **{str(home / "a.key"): None}) == dict(old, **{str(home / "a.key"): None})
        assert transaction_recovery.recover("t", state) == "nothing"

    @staticmethod
    def immutable(monkeypatch, last="current"):
        """Let the rename to one of the paths fail, as for an immutable file."""
        real = os.rename

        def rename(source, target, **directories):
            if os.path.basename(target) == last and ".kubepki-" in source:
                raise PermissionError(errno.EPERM, "immutable", target)
            real(source, target, **directories)

        monkeypatch.setattr(os, "rename", rename)

    def test_a_kill_while_renames_are_taken_back_is_healed(self, tree, monkeypatch):
        home, state, reset, change, old, new = tree

        def refused():
            with pytest.raises(PkiError):
                change()

        for point in range(1, POINTS):
            reset()
            with monkeypatch.context() as patch:
                self.immutable(patch)
                killed = faults.kill_at(point, refused)
            if not killed:
                break
            transaction_recovery.recover("t", state)
            assert snapshot(home) in (old, new), "point %d" % point
            assert transaction_recovery.recover("t", state) == "nothing"
        assert point > 40

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
    def test_renames_that_cannot_be_taken_back_now_are_by_the_next_run(self, tree, monkeypatch, number):
        home, state, reset, change, old, new = tree
        waiting = 0
        for point in range(1, POINTS):
            reset()
            with monkeypatch.context() as patch:
                self.immutable(patch)
                reached, error = faults.fail_at(point, change, number)
            assert isinstance(error, PkiError)
            if "could not be put back yet" in str(error):
                waiting += 1
                assert "nothing was changed" not in str(error) and "the next run" in error.fix
            transaction_recovery.recover("t", state)
            assert snapshot(home) in (old, new), "point %d" % point
            assert transaction_recovery.recover("t", state) == "nothing"
            if error.message.startswith("operation not permitted") and "put back" not in error.message and point > 60:
                break
        assert waiting > 10

    @pytest.mark.parametrize("name", ["a.crt", "current", "gone"])
    def test_a_journal_without_digests_is_recovered_only_where_nothing_can_be_overwritten(self, tree, name):
        """As version 0.1.0 wrote it."""
        home, state, reset, change, old, new = tree
        seen = set()
        for point in range(1, POINTS):
            reset()
            if not faults.kill_at(point, change):
                break
            journal = journals.Journal("t", state)
            record = journal.load() or {}
            for entry in record.get("entries", []):
                del entry["old"], entry["new"]
            if record:
                journal.save(record)
            (home / name).unlink(missing_ok=True)
            (home / name).write_bytes(b"by kubeadm")
            before = snapshot(home)
            try:
                seen.add(transaction_recovery.recover("t", state))
            except PkiError as error:
                seen.add("refused")
                assert snapshot(home) == before and "older version" in str(error)
                assert "rename %s/." % home in str(error) or "to do: remove %s" % (home / "gone") in str(error)
                journal.clear()
            else:
                assert snapshot(home) == {path: content for path, content in before.items() if ".kubepki-" not in path}
            assert (home / name).read_bytes() == b"by kubeadm"
            assert journal.load() is None
        assert seen >= {"nothing", "undone", "refused"}

    def test_an_error_in_one_journal_does_not_keep_others_from_being_recovered(self, tree, tmp_path):
        home, state, _reset, change, old, new = tree
        point = 1
        while faults.kill_at(point, change) and (journals.Journal("t", state).load() or {}).get("state") != "commit":
            transaction_recovery.recover("t", state)
            point += 1
        assert point > 10 and snapshot(home) not in (old, new)
        (tmp_path / "state" / "journal" / "damaged.json").write_text("{")
        with pytest.raises(PkiError, match="damaged.json: the journal is not JSON"):
            transaction_recovery.recover("damaged", state)
        assert snapshot(home) in (old, new) and journals.Journal("t", state).load() is None

    def test_what_another_job_left_is_finished_before_this_one_writes(self, tmp_path):
        """A killed restore must not put its old key over what a renewal wrote in between."""
        paths, state = [tmp_path / "a.crt", tmp_path / "a.key"], str(tmp_path / "state")

        def change(job, content):
            transaction = transactions.Transaction(job, state)
            for path in paths:
                transaction.write(str(path), content)
            transaction.commit()

        seen = set()
        for point in range(1, POINTS):
            change("restore", b"present")
            if not faults.kill_at(point, lambda: change("restore", b"restored")):
                break
            seen.add(transaction_recovery.recover("leaves", state))
            change("leaves", b"renewed")
            assert transaction_recovery.recover("restore", state) == "nothing"
            assert [path.read_bytes() for path in paths] == [b"renewed"] * 2
        assert seen == {"nothing", "undone", "finished"}

    def test_only_transactions_of_other_jobs_are_touched(self, tmp_path):
        journal = journals.Journal("static-pods", str(tmp_path))
        journal.save({"pods": []})
        (tmp_path / "journal" / "damaged.json").write_text("{")
        assert transaction_recovery.recover("leaves", str(tmp_path)) == "nothing"
        assert journal.load() == {"pods": []} and (tmp_path / "journal" / "damaged.json").exists()

    @pytest.mark.parametrize(
        "content",
        [
            "not json",
            "[]",
            '{"state": "commit"}',
            '{"entries": [1]}',
            '{"state": "commit", "entries": [{"path": "/a"}]}',
            '{"state": "commit", "entries": [{"path": 1, "staged": "/a"}]}',
        ],
    )
    def test_a_damaged_journal_is_named(self, tmp_path, content):
        (tmp_path / "journal").mkdir()
        (tmp_path / "journal" / "t.json").write_text(content)
        with pytest.raises(PkiError, match="journal/t.json: the journal is"):
            transaction_recovery.recover("t", str(tmp_path))


@pytest.mark.parametrize("reader", [reading.read, reading.read_if_exists])
def test_a_pipe_is_not_waited_for(tmp_path, reader):
    os.mkfifo(tmp_path / "ca.crt")
    signal.alarm(20)  # ends the tests, should it be waited for
    try:
        with pytest.raises(PkiError, match="ca.crt: is a pipe where a file is expected. Move it away."):
            reader(str(tmp_path / "ca.crt"))
    finally:
        signal.alarm(0)


class TestLock:
    def test_a_second_run_waits_and_then_says_so(self, tmp_path):
        with node_lock.lock(str(tmp_path)), pytest.raises(PkiError, match="another kubepki job is running"), node_lock.lock(
            str(tmp_path), seconds=0.2
        ):
            raise AssertionError("two locks at a time")
        with node_lock.lock(str(tmp_path), seconds=0.2):
            assert (tmp_path / "lock").exists()

    def test_a_killed_run_holds_no_lock(self, tmp_path):
        child = os.fork()
        if child == 0:
            node_lock.lock(str(tmp_path)).__enter__()
            os._exit(9)
        os.waitpid(child, 0)
        with node_lock.lock(str(tmp_path), seconds=0):
            assert (tmp_path / "lock").exists()


class TestBackup:
    @pytest.fixture
    def home(self, tmp_path):
        home = tmp_path / "etc"
        (home / "pki").mkdir(parents=True)
        (home / "pki" / "ca.key").write_bytes(b"key")
        (home / "pki" / "ca.key").chmod(0o600)
        (home / "admin.conf").write_bytes(b"conf")
        (home / "link").symlink_to("admin.conf")
        return home

    def paths(self, home):
        return [str(home / name) for name in ("pki/ca.key", "admin.conf", "link", "absent")]

    def test_a_set_puts_everything_back(self, home, tmp_path):
        before = snapshot(home)
        directory = backup_set.create_backup(self.paths(home), "test", str(tmp_path / "sets"))
        assert {stat.S_IMODE(p.stat().st_mode) for p in Path(directory).rglob("*") if p.is_file()} == {0o600}
        assert {stat.S_IMODE(p.stat().st_mode) for p in Path(directory).rglob("*") if p.is_dir()} == {0o700}
        (home / "pki" / "ca.key").unlink()
        (home / "admin.conf").write_bytes(b"changed")
        (home / "link").unlink()
        (home / "link").write_bytes(b"a file now")
        (home / "absent").write_bytes(b"new")
        changed = backup_restore.restore_backup(directory, state_dir=str(tmp_path / "state"))
        assert sorted(changed) == sorted(self.paths(home))
        assert snapshot(home) == before
        assert backup_restore.restore_backup(directory, state_dir=str(tmp_path / "state")) == []

    def test_a_kill_while_copying_leaves_no_set(self, home, tmp_path):
        sets = tmp_path / "sets"
        for point in range(1, POINTS):
            if not faults.kill_at(point, lambda: backup_set.create_backup(self.paths(home), "test", str(sets))):
                break
            for directory in backup_set.list_backups(str(sets)):
                backup_contents.read_backup(directory)
        directory = backup_set.create_backup(self.paths(home), "test", str(sets))
        assert [p.name for p in sets.iterdir() if p.name.startswith(".")] == []
        assert backup_set.list_backups(str(sets))[-1] == directory and point > 20

    def test_a_kill_while_restoring_is_healed(self, home, tmp_path):
        before = snapshot(home)
        state = str(tmp_path / "state")
        directory = backup_set.create_backup(self.paths(home), "test", str(tmp_path / "sets"))
        for point in range(1, POINTS):
            (home / "admin.conf").write_bytes(b"changed")
            (home / "absent").write_bytes(b"new")
            worse = snapshot(home)
            if not faults.kill_at(point, lambda: backup_restore.restore_backup(directory, state_dir=state)):
                break
            transaction_recovery.recover("restore", state)
            assert snapshot(home) in (before, worse)
        assert snapshot(home) == before and point > 10

    def test_only_the_newest_sets_stay(self, home, tmp_path):
        made = [backup_set.create_backup(self.paths(home), "test", str(tmp_path / "sets"), keep=3) for _number in range(5)]
        assert backup_set.list_backups(str(tmp_path / "sets")) == made[-3:]
        assert sorted(os.listdir(tmp_path / "sets")) == [os.path.basename(name) for name in made[-3:]]

    def test_sets_of_other_jobs_are_not_displaced(self, home, tmp_path):
        sets = str(tmp_path / "sets")
        by_hand = backup_set.create_backup(self.paths(home), "backup", sets, keep=2)
        made = [backup_set.create_backup(self.paths(home), job, sets, keep=2) for job in ("phase", "phase", "a-phase", "phase")]
        assert backup_set.list_backups(sets) == [by_hand, *made[1:]]

    def test_a_damaged_copy_is_refused(self, home, tmp_path):
        directory = backup_set.create_backup(self.paths(home), "test", str(tmp_path / "sets"))
        Path(directory, "files", str(home / "admin.conf").lstrip("/")).write_bytes(b"tampered")
        before = snapshot(home)
        with pytest.raises(PkiError, match="does not match its checksum"):
            backup_restore.restore_backup(directory, state_dir=str(tmp_path / "state"))
        assert snapshot(home) == before

    def test_a_set_that_names_a_file_twice_puts_it_back(self, home, tmp_path):
        """/etc/kubernetes/pki is a link to another place; a renewal's set names the link's files and where they are."""
        (home / "pki").rename(tmp_path / "real")
        (home / "pki").symlink_to(tmp_path / "real")
        before = snapshot(tmp_path / "real")
        paths = [str(home / "pki" / "ca.key"), str(tmp_path / "real" / "ca.key"), str(home / "pki" / "absent")]
        directory = backup_set.create_backup(paths, "test", str(tmp_path / "sets"))
        (tmp_path / "real" / "ca.key").write_bytes(b"another")
        (tmp_path / "real" / "absent").write_bytes(b"new")
        assert sorted(backup_restore.restore_backup(directory, state_dir=str(tmp_path / "state"))) == sorted(paths)
        assert snapshot(tmp_path / "real") == before and (home / "pki").is_symlink()

    @pytest.mark.parametrize("without", ["path", "mode", "uid", "sha256"])
    def test_a_manifest_that_lacks_something_is_refused(self, home, tmp_path, without):
        directory = backup_set.create_backup(self.paths(home), "test", str(tmp_path / "sets"))
        manifest = Path(directory, "manifest.json")
        document = json.loads(manifest.read_text())
        for value in (None, "", "x/../y", [3]):
            for entry in document["entries"]:
                entry.pop(without, None)
                if value is not None and without != "sha256":
                    entry[without] = value
            manifest.write_text(json.dumps(document))
            with pytest.raises(PkiError, match="manifest of this backup set is damaged"):
                backup_restore.plan_restore(directory)

    def test_a_copy_that_is_gone_is_refused(self, home, tmp_path):
        directory = backup_set.create_backup(self.paths(home), "test", str(tmp_path / "sets"))
        Path(directory, "files", str(home / "admin.conf").lstrip("/")).unlink()
        with pytest.raises(PkiError, match="is gone from the backup set. Choose another set"):
            backup_restore.plan_restore(directory)

    @pytest.mark.parametrize("document", ["x", "{}", '{"entries": [{}]}', '{"entries": [{"type": "device", "path": "/x"}]}'])
    def test_a_damaged_manifest_is_refused(self, tmp_path, document):
        (tmp_path / "manifest.json").write_text(document)
        with pytest.raises(PkiError, match="manifest of this backup set"):
            backup_contents.read_backup(str(tmp_path))

    def test_no_set_where_there_is_no_space(self, home, tmp_path):
        for point in range(1, POINTS):
            reached, error = faults.fail_at(
                point, lambda: backup_set.create_backup(self.paths(home), "test", str(tmp_path / "sets")), errno.ENOSPC
            )
            if not reached:
                break
            if error:  # the last call only makes the set's name durable
                assert isinstance(error, PkiError) and "no space left" in str(error)
            for directory in backup_set.list_backups(str(tmp_path / "sets")):
                backup_contents.read_backup(directory)
        assert point > 20

    def test_a_directory_is_refused(self, home, tmp_path):
        with pytest.raises(PkiError, match="neither a file nor a symbolic link"):
            backup_set.create_backup([str(home)], "test", str(tmp_path / "sets"))
        assert os.listdir(tmp_path / "sets") == []

    def test_the_manifest_says_what_is_in_the_set(self, home, tmp_path):
        directory = backup_set.create_backup(self.paths(home), "renew-leaves", str(tmp_path / "sets"))
        document = json.loads(Path(directory, "manifest.json").read_text())
        kinds = {entry["path"]: entry["type"] for entry in document["entries"]}
        assert kinds == dict(zip(self.paths(home), ["file", "file", "symlink", "absent"]))
        with pytest.raises(PkiError, match="does not fit"):
            backup_set.create_backup([], "../x", str(tmp_path / "sets"))


def test_the_nearest_directory_of_any_path(tmp_path, monkeypatch):
    """The parent of a relative path's first part is empty, and so is its parent."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("")
    for path in ("no/where", "f", "f/x", str(tmp_path / "a" / "b"), "."):
        assert atomic.existing_directory(path) == str(tmp_path)
    assert atomic.existing_directory("/no/where") == "/" and atomic.free_bytes("no/where") > 0


def replaced_after(monkeypatch, path, content, mode):
    """Let another program replace a file with its own right after the first look at it."""
    real = os.lstat

    def look(name, **options):
        status = real(name, **options)
        if str(name) == str(path):
            monkeypatch.setattr(os, "lstat", real)
            new = path.with_name("new")
            new.write_bytes(content)
            new.chmod(mode)
            new.rename(path)
        return status

    monkeypatch.setattr(os, "lstat", look)


def test_a_snapshot_has_bytes_and_mode_of_one_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"public")
    path.chmod(0o644)
    replaced_after(monkeypatch, path, b"secret", 0o600)
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


def test_a_set_is_compared_with_one_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"public")
    path.chmod(0o644)
    directory = backup_set.create_backup([str(path)], "test", str(tmp_path / "sets"))
    (entry,) = backup_contents.read_backup(directory)["entries"]
    assert not backup_restore._differs(entry)
    replaced_after(monkeypatch, path, b"public", 0o600)
    assert backup_restore._differs(entry)
