# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two molecule scenarios, on the lab that is up already. `make test-molecule` runs all, on labs of their own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.playbook import CHECKOUT, environment, tool

pytestmark = pytest.mark.timeout(1500)


def test_scenarios_pass(lab):
    program = tool("molecule")
    env = {**environment(), "KUBEPKI_MOLECULE_LAB": lab.name, "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [program, "test", "-s", "default", "-s", "own_pki"],
        cwd=CHECKOUT,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    for action in ("check", "converge", "idempotence", "verify"):
        assert f"{action}: Executed: Successful" in plain, plain[-6000:]
    assert "Missing playbook" not in plain, plain[-6000:]
