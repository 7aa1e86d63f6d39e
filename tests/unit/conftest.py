# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the checkout importable under its collection name, wherever it lies."""

from __future__ import annotations

import sys
import types
from pathlib import Path

from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[2]


def _package(name: str, path: Path) -> None:
    module = types.ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module


# The packages of the checkout: `tests.unit.support`, `tests.lab`, `tools`.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# ansible-test brings Ansible's own loader for collections, which does not take these packages for its own.
# (A process that a test starts inherits PYTEST_PLUGINS, and not the loader.)
if "ansible_pytest_collections" not in sys.modules:
    _package("ansible_collections", ROOT.parent)
    _package("ansible_collections.kubepki", ROOT.parent)
    _package("ansible_collections.kubepki.lifecycle", ROOT)

# A machine that does something else meanwhile is no fault of a strategy or of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
