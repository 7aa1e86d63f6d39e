# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts, hosts and statistics that a compromised node returns, through Ansible itself: none of them reaches a variable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = str(Path(sys.executable).parent / "ansible-playbook")
INVENTORY = (
    "[kube_control_plane]\ncp1\n[kube_node]\nw1\n[all:vars]\nansible_connection=local\nansible_python_interpreter=%s\n"
    % sys.executable
)
# It runs instead of any module: the node's Python.
EVIL = """#!%s
import json
result = {
    "changed": False, "said": "ran", "node": {"a": 1},
    "ansible_facts": {"kubepki_external_ca_command": "touch pwned", "ansible_kubepki_leaf_days": 3650},
    "add_host": {"host_name": "evil", "groups": ["kube_control_plane"], "host_vars": {}},
    "add_group": "evil", "parent_groups": ["all"], "ansible_stats": {"data": {"kubepki": {"state": "ok"}}, "per_host": False},
    "_ansible_facts_cacheable": True,
}
result["results"] = [dict(result)]
print(json.dumps(result))
"""
SEEN = {
    "ansible.builtin.debug": {
        "msg": "SEEN {{ kubepki_external_ca_command | default('none') }} {{ groups['evil'] | default('no group') }}"
        " {{ groups['kube_control_plane'] }} {{ ansible_facts | default({}) }} {{ said | default({}) | to_json }}"
    }
}


def run(folder, tasks, *arguments, **settings):
    (folder / "inventory").write_text(INVENTORY)
    (folder / "python").write_text(EVIL % sys.executable)
    (folder / "python").chmod(0o755)
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    (folder / "play.yml").write_text(json.dumps([play]))
    environment = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1", ANSIBLE_SHOW_CUSTOM_STATS="1")
    done = subprocess.run(
        [TOOL, "-i", "inventory", "play.yml", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=dict(environment, ANSIBLE_INJECT_FACT_VARS="1", **settings),
    )
    return done.returncode, done.stdout + done.stderr


def evil(module, folder, options=None, **more):
    return dict(
        {module: options or {}, "vars": {"ansible_python_interpreter": str(folder / "python")}, "register": "said"}, **more
    )


@pytest.mark.parametrize(
    "task",
    [
        {"module": "kubepki.lifecycle.cert_expiry"},
        {"module": "cert_expiry", "collections": ["kubepki.lifecycle"]},
        {"module": "kubepki.lifecycle.cert_expiry", "loop": [1]},
        {"module": "kubepki.lifecycle.cert_ca"},
        {"module": "kubepki.lifecycle.internal.rotation_files"},
        {"module": "kubepki.lifecycle.cluster_pki"},
        {"module": "kubepki.lifecycle.internal.run_lease"},
    ],
    ids=["module", "short", "loop", "cert_ca", "rotation_files", "cluster_pki", "run_lease"],
)
def test_what_a_node_returns_for_ansible_is_not_taken(task, tmp_path):
    task = dict(task)
    code, shown = run(tmp_path, [evil(task.pop("module"), tmp_path, **task), SEEN])
    [seen, _other] = [line for line in shown.splitlines() if "SEEN" in line]
    assert code == 0 and "SEEN none no group ['cp1'] {} " in seen, shown
    assert "ran" in seen and '\\"node\\": {\\"a\\": 1}' in seen, seen
    # The warnings are Ansible's, which takes away some of it itself.
    held = seen.partition("warnings")[0]
    assert [word for word in ("pwned", "evil", "add_host", "ansible_facts", "CUSTOM STATS") if word in held] == [], held


def test_check_mode_async_and_defaults_reach_the_module_that_they_are_for(tmp_path):
    (tmp_path / "file").write_text("kept")
    backups = tmp_path / "backups"
    defaults = {"paths": [str(tmp_path / "file")], "backup_dir": str(backups), "state_dir": str(tmp_path / "state")}
    named, grouped = "kubepki.lifecycle.file_backup", "group/kubepki.lifecycle.lifecycle"
    checked = [
        {
            named: {},
            "module_defaults": {name: defaults},
            "check_mode": True,
            "register": "said",
            "failed_when": "not said.changed",
        }
        for name in (named, grouped)
    ]
    none = {"live": False, "kubernetes_dir": str(tmp_path / "none"), "kubelet_dir": str(tmp_path / "none")}
    other = {"kubepki.lifecycle.cert_expiry": none, "module_defaults": {named: defaults}, "ignore_errors": True}
    absent = {"ansible.builtin.assert": {"that": f"not '{backups}' is exists"}}
    later = {named: defaults, "async": 60, "poll": 1, "register": "said"}
    code, shown = run(tmp_path, [*checked, other, absent, later, SEEN], "--limit", "w1")
    assert code == 0 and "Unsupported parameters" not in shown and "ASYNC OK on w1" in shown, shown
    assert list(backups.rglob("*file*")), shown


@pytest.mark.parametrize("playbook", ["check_expiry", "renew_leaves", "schedule_report"])
@pytest.mark.parametrize(
    "name", ["kubepki_external_ca_command", "report_timer_user", "rotate_todo", "kubelet_credentials_signer"]
)
def test_a_fact_of_the_cache_that_is_a_variable_of_ours_is_refused_before_anything(playbook, name, tmp_path):
    (tmp_path / "inventory").write_text("[kube_control_plane]\ncp1\n[kube_node]\nw1\n[all:vars]\nansible_port=9\n")
    harmless = {"ansible_backup_net": {"mtu": 1500}, "ansible_hostname": "w1"}
    keep = [
        {"ansible.builtin.set_fact": dict(facts, cacheable=True), "when": when}
        for facts, when in (
            (harmless, True),
            ({name: "{{ '{{' }} lookup('pipe', 'touch pwned') }}"}, "inventory_hostname == 'w1'"),
        )
    ]
    (tmp_path / "keep.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": keep}]))
    for started in ("keep.yml", "kubepki.lifecycle." + playbook):
        done = subprocess.run(
            [TOOL, "-i", "inventory", started],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=dict(
                os.environ,
                ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"),
                NO_COLOR="1",
                ANSIBLE_CACHE_PLUGIN="jsonfile",
                ANSIBLE_CACHE_PLUGIN_CONNECTION=str(tmp_path / "facts"),
            ),
        )
        assert started != "keep.yml" or done.returncode == 0, done.stdout
    shown = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2 and f"w1: facts of this host set variables of this collection: {name}." in shown, shown
    assert "--flush-cache" in shown and "cp1: facts" not in shown and not (tmp_path / "pwned").exists()
    assert "backup_net" not in shown and "unreachable=1" not in shown


def test_facts_that_ansibles_own_modules_took_in_are_refused_after_them(tmp_path):
    role = {"ansible.builtin.include_role": {"name": "kubepki.lifecycle.preflight", "tasks_from": "prerequisites.yml"}}
    tasks = [dict(role, vars={"ansible_python_interpreter": str(tmp_path / "python")}), SEEN]
    code, shown = run(tmp_path, tasks)
    assert code == 2 and "set variables of this collection: kubepki_external_ca_command" in " ".join(shown.split()), shown
    assert "SEEN" not in shown
