# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths that other users can change are refused."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import path_trust

ROOT = os.geteuid() == 0


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
