# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that renew_leaves does not take are refused before a module looks at them, as a string and as a list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("names", ["kubelet-client", "admin.conf, kubelet-serving", ["apiserver", "kubelet-client"]])
def test_a_kubelets_certificate_is_the_business_of_another_playbook(names, tmp_path):
    role = {"name": "kubepki.lifecycle.leaf_renewal", "tasks_from": "plan.yml"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": role, "vars": {"leaf_renewal_names": names}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "play.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache")),
    )
    assert done.returncode == 2 and "reissue_kubelets" in done.stdout + done.stderr, done.stdout + done.stderr
    assert "What is due on the node" not in done.stdout
