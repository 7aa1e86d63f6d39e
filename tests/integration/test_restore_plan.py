# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sets `latest` means on two nodes: those of one job are told, those of several are refused before anything changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TODAY, NOW, BEFORE = (f"202611{stamp}.000000Z-cert-leaf" for stamp in ("22T090000", "22T090400", "15T090000"))


def backup_set(folder, name):
    """A set that would take away one file that is not there."""
    (folder / name).mkdir(parents=True)
    entry = {"path": str(folder / "no.such.file"), "type": "absent"}
    document = {"schema": 1, "job": "cert-leaf", "created_at": "", "entries": [entry]}
    (folder / name / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize("other, code", [(NOW, 0), (BEFORE, 2)])
def test_latest_means_the_sets_of_one_job(other, code, tmp_path):
    backup_set(tmp_path / "cp1", TODAY)
    backup_set(tmp_path / "cp2", other)
    local = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    (tmp_path / "inventory").write_text(f"cp1 {local}\ncp2 {local}\n")
    role = {"name": "kubepki.lifecycle.backup", "tasks_from": "plan.yml"}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "any_errors_fatal": True,
        "tasks": [{"ansible.builtin.include_role": role, "vars": {"backup_dir": str(tmp_path) + "/{{ inventory_hostname }}"}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "play.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1"),
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == code, said
    assert f"cp1: {TODAY}, which changes 0 files cp2: {other}, which changes 0 files" in said
    assert ("not of one job" in said and "--limit cp1 " in said and "Nothing was changed" in said) == bool(code), said
