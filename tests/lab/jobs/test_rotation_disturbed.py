# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of what `make test-chaos` does at length: prepare, and the way back, disturbed at seeded points."""

from __future__ import annotations

import pytest

from tests.lab.chaos import Chaos

pytestmark = pytest.mark.timeout(1200)


def test_a_disturbed_rotation_goes_on_when_it_is_run_again(lab):
    chaos = Chaos(lab, seed=20, processes_only=True, cas="front-proxy-ca", within=20.0)
    points = chaos.run(2, per_phase=1, phases=("prepare", "rollback"))
    assert len(points) == 2 and all(point.healed != "-" for point in points)
