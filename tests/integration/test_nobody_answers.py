# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook over nodes that nobody can log in to: it fails, says who did not answer, and concludes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = """[kube_control_plane]
cp1 ansible_host=127.0.0.1 ansible_port=9
[kube_node]
w1 ansible_host=127.0.0.1 ansible_port=9
"""


@pytest.mark.parametrize(
    "playbook", ["check_expiry", "renew_leaves", "rotate_ca", "reissue_kubelets", "restart_static_pods", "recover", "restore"]
)
def test_it_is_said_and_no_conclusion_is_drawn(playbook, tmp_path):
    (tmp_path / "inventory").write_text(INVENTORY)
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(tmp_path / "inventory"),
        "kubepki.lifecycle." + playbook,
        "-e",
        "kubepki_confirm=true",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), ANSIBLE_LOCALHOST_WARNING="0"),
    )
    said = done.stdout + done.stderr
    errors = "\n".join(line for line in said.splitlines() if line.startswith("[ERROR]"))
    assert done.returncode == 2, said
    assert "cp1: did not answer" in errors, said
    for word in ("Nothing is wrong", "No certificate has expired", "Traceback"):
        assert word not in said


@pytest.mark.parametrize("seed", ["1", "4", "8"])
def test_one_control_plane_node_of_three_is_named_and_nothing_was_changed(seed, tmp_path):
    """Whichever of them the Lease is asked for on: the gate says who is missing, and why nothing happens."""
    here = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    (tmp_path / "inventory").write_text(
        f"[kube_control_plane]\ncp1 {here}\n"
        "cp2 ansible_host=127.0.0.1 ansible_port=9\ncp3 ansible_host=127.0.0.1 ansible_port=9\n"
    )
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "kubepki.lifecycle.renew_leaves"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), PYTHONHASHSEED=seed, COLUMNS="1000"),
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2 and "Nothing was changed anywhere" in said, said
    assert "cp2: did not answer" in said and "cp3: did not answer" in said, said
