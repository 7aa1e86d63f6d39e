# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only one run holds the lock of a node."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import node_lock


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
