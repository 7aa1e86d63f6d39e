# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup set is complete, and restores what it holds."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    backup_contents,
    backup_restore,
    backup_set,
    transaction_recovery,
)

from tests.unit.support import faults, file_trees


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
        before = file_trees.snapshot(home)
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
        assert file_trees.snapshot(home) == before
        assert backup_restore.restore_backup(directory, state_dir=str(tmp_path / "state")) == []

    def test_a_kill_while_copying_leaves_no_set(self, home, tmp_path):
        sets = tmp_path / "sets"
        for point in range(1, file_trees.POINTS):
            if not faults.kill_at(point, lambda: backup_set.create_backup(self.paths(home), "test", str(sets))):
                break
            for directory in backup_set.list_backups(str(sets)):
                backup_contents.read_backup(directory)
        directory = backup_set.create_backup(self.paths(home), "test", str(sets))
        assert [p.name for p in sets.iterdir() if p.name.startswith(".")] == []
        assert backup_set.list_backups(str(sets))[-1] == directory and point > 20

    def test_a_kill_while_restoring_is_healed(self, home, tmp_path):
        before = file_trees.snapshot(home)
        state = str(tmp_path / "state")
        directory = backup_set.create_backup(self.paths(home), "test", str(tmp_path / "sets"))
        for point in range(1, file_trees.POINTS):
            (home / "admin.conf").write_bytes(b"changed")
            (home / "absent").write_bytes(b"new")
            worse = file_trees.snapshot(home)
            if not faults.kill_at(point, lambda: backup_restore.restore_backup(directory, state_dir=state)):
                break
            transaction_recovery.recover("restore", state)
            assert file_trees.snapshot(home) in (before, worse)
        assert file_trees.snapshot(home) == before and point > 10

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
        before = file_trees.snapshot(home)
        with pytest.raises(PkiError, match="does not match its checksum"):
            backup_restore.restore_backup(directory, state_dir=str(tmp_path / "state"))
        assert file_trees.snapshot(home) == before

    def test_a_set_that_names_a_file_twice_puts_it_back(self, home, tmp_path):
        """/etc/kubernetes/pki is a link to another place; a renewal's set names the link's files and where they are."""
        (home / "pki").rename(tmp_path / "real")
        (home / "pki").symlink_to(tmp_path / "real")
        before = file_trees.snapshot(tmp_path / "real")
        paths = [str(home / "pki" / "ca.key"), str(tmp_path / "real" / "ca.key"), str(home / "pki" / "absent")]
        directory = backup_set.create_backup(paths, "test", str(tmp_path / "sets"))
        (tmp_path / "real" / "ca.key").write_bytes(b"another")
        (tmp_path / "real" / "absent").write_bytes(b"new")
        assert sorted(backup_restore.restore_backup(directory, state_dir=str(tmp_path / "state"))) == sorted(paths)
        assert file_trees.snapshot(tmp_path / "real") == before and (home / "pki").is_symlink()

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
        for point in range(1, file_trees.POINTS):
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


def test_a_set_is_compared_with_one_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"public")
    path.chmod(0o644)
    directory = backup_set.create_backup([str(path)], "test", str(tmp_path / "sets"))
    (entry,) = backup_contents.read_backup(directory)["entries"]
    assert not backup_restore._differs(entry)
    file_trees.replaced_after(monkeypatch, path, b"public", 0o600)
    assert backup_restore._differs(entry)
