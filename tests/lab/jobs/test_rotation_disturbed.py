# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of what `make test-chaos` does at length: prepare, and the way back, disturbed at seeded points."""

from __future__ import annotations

import pytest

from tests.lab.chaos import Chaos

from .conftest import snapshots

pytestmark = pytest.mark.timeout(1200)


def files(lab) -> dict[str, dict[str, list]]:
    """What the nodes hold, but for manifests: a restart leaves its annotation there."""
    return {
        node: {path: seen for path, seen in found.items() if "/manifests/" not in path} for node, found in snapshots(lab).items()
    }


def test_a_disturbed_rotation_goes_on_when_it_is_run_again_and_its_way_back_leaves_the_files_of_before(lab):
    before = files(lab)
    chaos = Chaos(lab, seed=20, processes_only=True, cas="front-proxy-ca,sa", within=20.0)
    points = chaos.run(2, per_phase=1, phases=("prepare", "rollback"))
    assert len(points) == 2 and all(point.healed != "-" for point in points)
    assert files(lab) == before
