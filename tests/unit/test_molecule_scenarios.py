# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every molecule scenario has to show, whoever wrote it (issue 6, item 5)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "extensions" / "molecule"
SHARED = yaml.safe_load((FOLDER / "config.yml").read_text())
SCENARIOS = sorted(path.parent for path in FOLDER.glob("*/molecule.yml"))


def config(scenario: Path, *keys: str):
    """What molecule takes: the scenario's own, or else what all share."""
    own = yaml.safe_load((scenario / "molecule.yml").read_text()) or {}
    for source in (own, SHARED):
        found = source
        for key in keys:
            found = (found or {}).get(key)
        if found is not None:
            return found
    return None


def sequence(scenario: Path) -> list[str]:
    return config(scenario, "scenario", "test_sequence")


def test_every_job_has_its_scenario():
    assert [path.name for path in SCENARIOS] == [
        "ca_rotation",
        "default",
        "kubelets",
        "own_pki",
        "recovery",
        "single_control_plane",
        "unreachable_node",
    ]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_check_mode_comes_first_and_is_verified_and_a_second_run_follows(scenario):
    steps = sequence(scenario)
    check = steps.index("check")
    assert steps[check + 1].startswith("verify ") and steps[check + 1].endswith("unchanged.yml")
    assert steps[check + 2 : check + 5] == ["converge", "idempotence", "verify"]
    # Molecule passes over it from the second run in one shared state on.
    assert "prepare" not in steps


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_every_playbook_of_a_sequence_is_there(scenario):
    """A playbook that is missing is a step that molecule counts as done."""
    steps = sequence(scenario)
    named = [name for step in steps for name in step.split()[1:]] + ["converge.yml", "verify.yml"]
    named += ["cleanup.yml"] if "cleanup" in steps else []
    # With shared state these two are those of `default`.
    shared = FOLDER / "default" if config(scenario, "shared_state") else scenario
    named += [config(shared, "ansible", "playbooks", step) for step in ("create", "destroy") if step in steps]
    named.append(config(scenario, "ansible", "playbooks", "side_effect"))
    assert [name for name in named if not (scenario / name).is_file()] == []
