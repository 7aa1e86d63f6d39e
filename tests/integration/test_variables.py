# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that no playbook reads, and values that it cannot use: said by the variable's name, before any node is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.playbook_variables import find_specification, read_variables

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "ansible_host=127.0.0.1 ansible_port=9"
PLAYBOOKS = sorted({playbook for variable in read_variables().values() for playbook in variable.playbooks})


def run(folder, playbook, extra, inventory="", *arguments):
    (folder / "inventory").write_text(f"[kube_control_plane]\ncp1 {NOBODY}\n[kube_node]\nw1 {NOBODY}\n{inventory}")
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(folder / "inventory"),
        "kubepki.lifecycle." + playbook,
        "-e",
        json.dumps(extra),
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


def unusable(playbook):
    """A bad value for every variable of the playbook that not every text is good for."""
    specs = {name: find_specification(name, playbook) for name in read_variables()}
    return {
        name: "no such thing"
        for name, spec in specs.items()
        if spec and (spec["type"] not in ("str", "list") or {"choices", "pattern"} & set(spec))
    }


def is_literal(variable):
    return variable.specification(variable.playbooks[0]).get("literal")


def test_there_are_playbooks_and_bad_values_for_them():
    assert len(PLAYBOOKS) == 11 and sum(len(unusable(name)) for name in PLAYBOOKS) > 60


@pytest.mark.parametrize("playbook", [name for name in PLAYBOOKS if unusable(name)])
def test_every_bad_value_is_named_by_its_variable_at_once(playbook, tmp_path):
    code, said = run(tmp_path, playbook, unusable(playbook))
    assert code == 2 and "Nothing was changed" in said and "did not answer" not in said, said
    assert [name for name in unusable(playbook) if f"{name} is 'no such thing', which is no " not in said] == [], said


def test_an_extra_variable_that_is_misspelt_is_refused_before_anything(tmp_path):
    code, said = run(tmp_path, "rotate_ca", {"kubepki_phsae": "status", "kubepki_confirm": "true"})
    assert code == 2 and "no variable kubepki_phsae. Did you mean kubepki_phase?" in said
    assert "did not answer" not in said and "kubepki_confirm" not in said


def test_one_in_the_inventory_is_a_warning_and_a_value_there_is_judged(tmp_path):
    groups = "[all:vars]\nkubepki_ours=1\nkubepki_fore=true\nkubepki_batch=50%\n[kube_control_plane:vars]\nkubepki_leaf_days=0\n"
    code, said = run(tmp_path, "reissue_kubelets", {"kubepki_phase": "{{ no.such.thing }}"}, groups)
    assert "reads kubepki_fore (did you mean kubepki_force?), kubepki_ours" in said and "kubepki_batch has no effect" in said
    assert code == 2 and "kubepki_leaf_days is 0, which is no number above 0. (cp1)" in said and "did not answer" not in said


def test_a_value_that_only_a_later_task_can_know_is_left_to_it(tmp_path):
    code, said = run(
        tmp_path,
        "check_expiry",
        {
            "kubepki_report_dir": "{{ nowhere.defined }}",
            "kubepki_warn_below_days": "{{ 20 + 5 }}",
            "kubepki_live": "{{ 'maybe' }}",
        },
    )
    assert code == 2 and "kubepki_live is 'maybe'" in said and "kubepki_warn_below_days" not in said


@pytest.mark.parametrize(
    ("playbook", "name"),
    sorted((variable.playbooks[0], name) for name, variable in read_variables().items() if is_literal(variable)),
)
@pytest.mark.parametrize("wrap", [str, lambda text: [text], lambda text: {"a": [text]}], ids=["text", "list", "mapping"])
def test_a_template_in_a_literal_variable_is_refused_and_never_evaluated(playbook, name, wrap, tmp_path):
    trap = tmp_path / "evaluated"
    code, said = run(tmp_path, playbook, {name: wrap("{{ lookup('ansible.builtin.pipe', 'touch %s') }}" % trap)})
    assert code == 2 and f"{name} holds a template" in said, said
    assert not trap.exists()


def test_a_policy_that_is_no_file_is_named_by_its_variable(tmp_path):
    code, said = run(tmp_path, "manage_csrs", {"kubepki_csr_policy": str(tmp_path / "none.yml")})
    assert code == 2 and f"kubepki_csr_policy is {tmp_path}/none.yml, which is no file" in said, said
    assert "unreachable=0" in said
    (tmp_path / "none.yml").write_text("version: 1\nrules: []\n")
    code, said = run(tmp_path, "manage_csrs", {"kubepki_csr_policy": str(tmp_path / "none.yml")})
    assert code != 0 and "unreachable=1" in said, said
