# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several files change together, and a killed transaction is finished or undone."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    atomic,
    file_changes,
    journals,
    transaction_recovery,
    transactions,
)

from tests.unit.support import faults, file_trees

ROOT = os.geteuid() == 0


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
    old = file_trees.snapshot(home)
    change()
    new = file_trees.snapshot(home)
    assert old != new and len(new) == 4
    reset()
    return home, str(tmp_path / "state"), reset, change, old, new


class TestTransaction:
    def test_a_kill_at_any_point_is_healed(self, tree):
        home, state, reset, change, old, new = tree
        outcomes = set()
        for point in range(1, file_trees.POINTS):
            reset()
            if not faults.kill_at(point, change):
                break
            outcomes.add(transaction_recovery.recover("t", state))
            assert file_trees.snapshot(home) in (old, new)
            assert transaction_recovery.recover("t", state) == "nothing"
            assert not [path for path in Path(state).rglob("*") if ".kubepki-" in path.name]
            change()
            assert file_trees.snapshot(home) == new
        assert outcomes == {"nothing", "undone", "finished"} and point > 20

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
    def test_a_failure_at_any_point_changes_nothing_or_all(self, tree, number):
        home, state, reset, change, old, new = tree
        for point in range(1, file_trees.POINTS):
            reset()
            reached, error = faults.fail_at(point, change, number)
            if not reached:
                break
            assert isinstance(error, PkiError)
            transaction_recovery.recover("t", state)
            assert file_trees.snapshot(home) in (old, new), "point %d" % point
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
        assert file_trees.snapshot(home) == old
        assert transaction_recovery.recover("t", state) == "nothing"

    @pytest.mark.skipif(not ROOT, reason="chattr needs root")
    def test_an_immutable_file_stops_it_before_anything_changed(self, tree):
        home, _state, _reset, change, old, _new = tree
        if subprocess.run(["chattr", "+i", str(home / "a.key")], capture_output=True, check=False).returncode:
            pytest.skip("this file system has no immutable files")
        try:
            with pytest.raises(PkiError, match="a.key: operation not permitted.*lsattr"):
                change()
            assert file_trees.snapshot(home) == old
        finally:
            subprocess.run(["chattr", "-i", str(home / "a.key")], check=True)

    def test_a_directory_in_the_way_stops_it_before_anything_changed(self, tree):
        home, _state, _reset, change, old, _new = tree
        (home / "b.key").mkdir()
        with pytest.raises(PkiError, match="b.key: is a directory"):
            change()
        assert file_trees.snapshot(home) == old

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
        for point in range(1, file_trees.POINTS):
            reset()
            if not faults.kill_at(point, change):
                break
            for name in renewed:
                (home / name).unlink(missing_ok=True)
                if name == "current":
                    (home / name).symlink_to("a.key")
                else:
                    (home / name).write_bytes(b"renewed by kubeadm")
            before = file_trees.snapshot(home)
            try:
                said.add(transaction_recovery.recover("another-job", state))
            except PkiError as error:
                said.add("discarded")
                assert "another program changed" in str(error) and all(str(home / name) in str(error) for name in renewed)
                assert "check_expiry" in error.fix
            left = file_trees.snapshot(home)
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
        for point in range(1, file_trees.POINTS):
            reset()
            if not faults.kill_at(point, change):
                break
            for path in sorted(home.iterdir()):
                if path.name.startswith(".b.key.kubepki-"):
                    path.unlink()
            half = file_trees.snapshot(home)
            try:
                seen.add(transaction_recovery.recover("t", state))
            except PkiError as error:
                seen.add("discarded")
                assert "gone or damaged" in str(error) and str(home / "a.crt") in str(error)
                assert half[str(home / "a.crt")] != old[str(home / "a.crt")]
            else:
                assert file_trees.snapshot(home) in (old, new), "point %d" % point
            assert not [name for name in file_trees.snapshot(home) if ".kubepki-" in name]
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
        assert dict(file_trees.snapshot(home), **{str(home / "a.key"): None}) == dict(old, **{str(home / "a.key"): None})
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

        for point in range(1, file_trees.POINTS):
            reset()
            with monkeypatch.context() as patch:
                self.immutable(patch)
                killed = faults.kill_at(point, refused)
            if not killed:
                break
            transaction_recovery.recover("t", state)
            assert file_trees.snapshot(home) in (old, new), "point %d" % point
            assert transaction_recovery.recover("t", state) == "nothing"
        assert point > 40

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
    def test_renames_that_cannot_be_taken_back_now_are_by_the_next_run(self, tree, monkeypatch, number):
        home, state, reset, change, old, new = tree
        waiting = 0
        for point in range(1, file_trees.POINTS):
            reset()
            with monkeypatch.context() as patch:
                self.immutable(patch)
                reached, error = faults.fail_at(point, change, number)
            assert isinstance(error, PkiError)
            if "could not be put back yet" in str(error):
                waiting += 1
                assert "nothing was changed" not in str(error) and "the next run" in error.fix
            transaction_recovery.recover("t", state)
            assert file_trees.snapshot(home) in (old, new), "point %d" % point
            assert transaction_recovery.recover("t", state) == "nothing"
            if error.message.startswith("operation not permitted") and "put back" not in error.message and point > 60:
                break
        assert waiting > 10

    @pytest.mark.parametrize("name", ["a.crt", "current", "gone"])
    def test_a_journal_without_digests_is_recovered_only_where_nothing_can_be_overwritten(self, tree, name):
        """As version 0.1.0 wrote it."""
        home, state, reset, change, old, new = tree
        seen = set()
        for point in range(1, file_trees.POINTS):
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
            before = file_trees.snapshot(home)
            try:
                seen.add(transaction_recovery.recover("t", state))
            except PkiError as error:
                seen.add("refused")
                assert file_trees.snapshot(home) == before and "older version" in str(error)
                assert "rename %s/." % home in str(error) or "to do: remove %s" % (home / "gone") in str(error)
                journal.clear()
            else:
                assert file_trees.snapshot(home) == {path: content for path, content in before.items() if ".kubepki-" not in path}
            assert (home / name).read_bytes() == b"by kubeadm"
            assert journal.load() is None
        assert seen >= {"nothing", "undone", "refused"}

    def test_an_error_in_one_journal_does_not_keep_others_from_being_recovered(self, tree, tmp_path):
        home, state, _reset, change, old, new = tree
        point = 1
        while faults.kill_at(point, change) and (journals.Journal("t", state).load() or {}).get("state") != "commit":
            transaction_recovery.recover("t", state)
            point += 1
        assert point > 10 and file_trees.snapshot(home) not in (old, new)
        (tmp_path / "state" / "journal" / "damaged.json").write_text("{")
        with pytest.raises(PkiError, match="damaged.json: the journal is not JSON"):
            transaction_recovery.recover("damaged", state)
        assert file_trees.snapshot(home) in (old, new) and journals.Journal("t", state).load() is None

    def test_what_another_job_left_is_finished_before_this_one_writes(self, tmp_path):
        """A killed restore must not put its old key over what a renewal wrote in between."""
        paths, state = [tmp_path / "a.crt", tmp_path / "a.key"], str(tmp_path / "state")

        def change(job, content):
            transaction = transactions.Transaction(job, state)
            for path in paths:
                transaction.write(str(path), content)
            transaction.commit()

        seen = set()
        for point in range(1, file_trees.POINTS):
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
