# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""--limit to hosts without which a playbook cannot do its job: Ansible would pass over its plays, and end as if all were well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "ansible_host=127.0.0.1 ansible_port=9"
INVENTORY = f"""[kube_control_plane]
cp1 {NOBODY}
cp2 {NOBODY}
[kube_node]
w1 {NOBODY}
[others]
www1 {NOBODY}
"""


def run(folder, playbook, *arguments):
    (folder / "inventory").write_text(INVENTORY)
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(folder / "inventory"),
        "kubepki.lifecycle." + playbook,
        "-e",
        "kubepki_confirm=true",
        *arguments,
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), ANSIBLE_LOCALHOST_WARNING="0", NO_COLOR="1"),
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    "playbook, limit, left_out",
    [
        ("check_expiry", "others", "none of them: cp1, cp2, w1."),
        ("check_signers", "kube_node", "none of them: cp1, cp2."),
        ("renew_leaves", "w1", "none of them: cp1, cp2."),
        ("restart_static_pods", "kube_node", "none of them: cp1, cp2."),
        ("restore", "kube_node:others", "none of them: cp1, cp2."),
        ("reissue_kubelets", "cp2,w1", "leaves out: cp1."),
        ("rotate_ca", "kube_control_plane", "leaves out: w1."),
        ("rotate_ca", "others", "leaves out: cp1, cp2, w1."),
        ("recover", "cp1:w1", "leaves out: cp2."),
        ("issue_user", "cp2", "leaves out: cp1."),
        ("manage_csrs", "w1", "leaves out: cp1."),
        ("schedule_report", "cp1", "leaves out: localhost."),
    ],
)
def test_a_limit_without_the_hosts_that_are_needed_is_refused_and_named(playbook, limit, left_out, tmp_path):
    code, said = run(tmp_path, playbook, "--limit", limit)
    assert code == 2, said
    assert f"--limit {limit}" in said and left_out in said and playbook in said, said
    assert "did not answer" not in said and "Nothing was changed" in said


@pytest.mark.parametrize(
    "playbook, limit",
    [
        ("check_expiry", "w1"),
        ("renew_leaves", "cp2"),
        ("restore", "cp1"),
        ("reissue_kubelets", "cp1,w1"),
        ("recover", "kube_control_plane"),
    ],
)
def test_a_limit_that_leaves_what_is_needed_is_none_of_its_business(playbook, limit, tmp_path):
    code, said = run(tmp_path, playbook, "--limit", limit)
    assert code == 2 and "did not answer" in said and "--limit" not in said, said


@pytest.mark.parametrize(
    "playbook, variable",
    [("issue_user", "kubepki_api_host"), ("manage_csrs", "kubepki_api_host"), ("schedule_report", "kubepki_timer_host")],
)
def test_a_host_that_the_inventory_does_not_have_is_refused(playbook, variable, tmp_path):
    code, said = run(tmp_path, playbook, "-e", variable + "=cp9")
    assert code == 2 and f"{variable} is cp9" in said and "no host" in said, said
