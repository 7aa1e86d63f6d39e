# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The throw-away nodes of the unit tests serve here, too, and need the collection to be importable."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

UNIT = Path(__file__).resolve().parents[1] / "unit"

sys.path.insert(0, str(UNIT))
runpy.run_path(str(UNIT / "conftest.py"))
