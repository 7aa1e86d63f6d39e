# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One control-plane node: nobody else answers while its apiserver restarts, which is said before and measured."""

from __future__ import annotations

import os
import re

import pytest

from tests.lab.lab import Lab
from tests.lab.playbook import play

from .clients import assert_unnoticed

pytestmark = pytest.mark.timeout(1800)
_AWAY = re.compile(r"The API was unavailable for ([\d.]+) s\.")


@pytest.fixture(scope="module")
def single():
    """A cluster of its own: one control-plane node and one worker."""
    lab = Lab(os.environ.get("LAB", "test") + "-single", 1, 1).up()
    yield lab
    if not os.environ.get("KUBEPKI_KEEP_LAB"):
        lab.down()


def test_a_renewal_costs_no_outage(single):
    with single.watch() as watch:
        outcome = play(single, "renew_leaves", {"kubepki_force": "true"}).require_success()
    assert outcome.artifact["renewed"] >= 10
    assert_unnoticed(single, watch.counts())


def test_a_rotation_announces_its_outage_and_measures_it(single):
    plan = play(single, "rotate_ca", {}, "--check").require_success()
    assert "the API is away meanwhile" in plan.output
    with single.watch() as watch:
        outcome = play(single, "rotate_ca", {"kubepki_phase": "all", "kubepki_confirm": "true"}).require_success()
    assert set(outcome.artifact["phase"].values()) == {"stable"}
    told = [float(seconds) for seconds in _AWAY.findall(outcome.output)]
    assert told, outcome.output[-4000:]
    # A client that asks five times a second sees what was told; the balancer needs a moment to notice.
    seen = watch.counts()["balancer-reread"]
    assert 0 < seen["longest_outage_seconds"] < max(told) + 6, (told, seen)
    with single.watch() as watch:
        again = play(single, "rotate_ca", {"kubepki_phase": "status"}).require_success()
    assert again.artifact["state"] == "ok"
    assert_unnoticed(single, watch.counts())
