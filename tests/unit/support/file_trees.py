# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of files in tests: what is in one, and a program that replaces a file at a bad moment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

POINTS = 400  # more calls than any tested action makes; each loop ends where the action completed


def snapshot(directory):
    """Everything below a directory: {path: (mode, bytes or link target)}."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        if path.is_symlink():
            found[str(path)] = ("link", os.readlink(path))
        elif path.is_file():
            found[str(path)] = (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


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
