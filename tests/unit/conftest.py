# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the checkout importable under its collection name, wherever it lies."""

from __future__ import annotations

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _package(name: str, path: Path) -> None:
    module = types.ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module


# The helpers beside this file; pytest does that, and ansible-test, which imports it as a part of the collection, does not.
if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

# ansible-test brings Ansible's own loader for collections, which does not take these packages for its own.
# (A process that a test starts inherits PYTEST_PLUGINS, and not the loader.)
if "ansible_pytest_collections" not in sys.modules:
    _package("ansible_collections", ROOT.parent)
    _package("ansible_collections.kubepki", ROOT.parent)
    _package("ansible_collections.kubepki.lifecycle", ROOT)
