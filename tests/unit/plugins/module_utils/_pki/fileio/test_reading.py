# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a file never blocks."""

from __future__ import annotations

import os
import signal

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import reading


@pytest.mark.parametrize("reader", [reading.read, reading.read_if_exists])
def test_a_pipe_is_not_waited_for(tmp_path, reader):
    os.mkfifo(tmp_path / "ca.crt")
    signal.alarm(20)  # ends the tests, should it be waited for
    try:
        with pytest.raises(PkiError, match="ca.crt: is a pipe where a file is expected. Move it away."):
            reader(str(tmp_path / "ca.crt"))
    finally:
        signal.alarm(0)
