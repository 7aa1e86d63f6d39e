# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from tests.unit.support import throwaway


@pytest.fixture
def node(tmp_path):
    return throwaway.Node(tmp_path)
