# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the checkout importable under its collection name, wherever it lies."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _package(name: str, path: Path) -> None:
    module = types.ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module


# ansible-test and an installed collection bring these packages; a plain checkout does not have them.
if importlib.util.find_spec("ansible_collections") is None or "kubepki" not in str(
        getattr(sys.modules.get("ansible_collections"), "__path__", "")):
    _package("ansible_collections", ROOT.parent)
    _package("ansible_collections.kubepki", ROOT.parent)
    _package("ansible_collections.kubepki.lifecycle", ROOT)
