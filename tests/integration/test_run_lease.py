# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Lease of a run as the playbooks take, renew and release it: with real plays, against an API in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_client, run_lease
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import run_identity

from tests.unit.support.fake_api import FakeApi

ROOT = Path(__file__).resolve().parents[2]
OTHER = "bob@west_c0ffee00-0000-4000-8000-000000000000.4026531836.77.88"


@pytest.fixture
def api(tmp_path):
    fake = FakeApi(tls=tmp_path)
    fake.write_admin_conf(tmp_path / "admin.conf")
    yield fake
    fake.stop()


def role(entry: str, **variables) -> dict:
    return {"ansible.builtin.include_role": {"name": "kubepki.lifecycle.preflight", "tasks_from": entry}, "vars": variables}


def mark(text: str, **more) -> dict:
    return {"ansible.builtin.debug": {"msg": text + " {{ inventory_hostname }}"}, **more}


def release_of(playbook: str, play: int) -> list:
    """What a playbook of ours does at the end of a play."""
    plays = [play for play in yaml.safe_load((ROOT / "playbooks" / playbook).read_text()) if "hosts" in play]
    return plays[play]["tasks"][0]["always"]


def run(folder: Path, middle: list, take_over: bool = False, arguments=(), admin_conf: str | None = None, serial: int = 1):
    """Run three plays as our playbooks are made: take it; node by node behind the gate; release it at the end.

    The worker is in the second one alone.
    """
    common = {
        "hosts": "all",
        "gather_facts": False,
        "connection": "local",
        "module_defaults": {"kubepki.lifecycle.internal.run_lease": {"kubeconfig": admin_conf or str(folder / "admin.conf")}},
    }
    plays = [
        {
            **common,
            "hosts": "kube_control_plane",
            "tasks": [
                {
                    "block": [role("lease", preflight_job="renew_leaves", preflight_take_over=take_over)],
                    "always": release_of("renew_leaves.yml", 0),
                }
            ],
        },
        {
            **common,
            "serial": serial,
            "tasks": [{"block": [role("guard"), mark("CHANGED"), *middle], "always": release_of("renew_leaves.yml", 0)}],
        },
        {
            **common,
            "hosts": "kube_control_plane[0]",
            "tasks": [{"block": [mark("REPORT")], "always": release_of("renew_leaves.yml", -1)}],
        },
    ]
    (folder / "play.yml").write_text(json.dumps(plays))
    (folder / "inventory").write_text(
        f"[kube_control_plane]\ncp1\ncp2\ncp3\n[kube_node]\nw1\n[all:vars]\nansible_python_interpreter={sys.executable}\n"
    )
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "play.yml", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1", COLUMNS="1000"),
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def lease_of(api: FakeApi, holder: str) -> run_lease.RunLease:
    """Another run's, written into the API without a call."""

    class Direct(api_client.Api):
        def _send(self, method, target, headers, body):
            before, api.before = api.before, lambda *_call: None
            status, document = api.answer(method, target, headers, json.loads(body) if body else None)
            api.before = before
            return status, json.dumps(document).encode()

    return run_lease.RunLease(Direct("https://here", None, 5), holder, "rotate_ca")


def holder(api: FakeApi) -> str | None:
    return api.objects.get(run_lease.PATH, {}).get("spec", {}).get("holderIdentity")


def test_a_run_takes_the_lease_renews_it_at_every_gate_and_gives_it_back(api, tmp_path):
    seen = []
    api.before = lambda method, path: seen.append((method, holder(api))) if path.startswith(run_lease.LEASES) else None
    code, said = run(tmp_path, [])
    assert code == 0 and said.count("CHANGED") == 4 and "changed=1" not in said, said
    assert [method for method, _holder in seen] == ["GET", "POST"] + ["GET", "PATCH"] * 5
    ours = {held for _method, held in seen[2:]}
    assert len(ours) == 1 and ours.pop().partition("@")[0] and holder(api) is None


def test_the_second_of_two_controllers_stops_before_any_change_and_names_the_first(api, tmp_path):
    lease_of(api, OTHER).take()
    code, said = run(tmp_path, [])
    assert code == 2 and "another run is working on this cluster: rotate_ca of bob@west" in said, said
    assert "kubepki_take_over=true" in said and "CHANGED" not in said and holder(api) == OTHER


def test_a_lease_is_taken_over_on_request(api, tmp_path):
    lease_of(api, OTHER).take()
    code, said = run(tmp_path, [], take_over=True)
    assert code == 0 and "was taken from bob@west" in said and said.count("CHANGED") == 4, said


def test_a_run_that_fails_gives_it_back(api, tmp_path):
    code, said = run(tmp_path, [{"ansible.builtin.fail": {"msg": "BOOM"}, "when": "inventory_hostname == 'cp2'"}])
    assert code == 2 and "CHANGED cp2" in said and "CHANGED cp3" not in said, said
    assert run_lease.PATH in api.objects and holder(api) is None


def test_after_a_batch_that_lost_a_host_no_node_of_the_next_one_changes(api, tmp_path):
    """Ansible starts the next batch where a host of an earlier one became unreachable."""
    lost = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}
    middle = [
        {"ansible.builtin.set_fact": lost, "when": "inventory_hostname == 'cp2'"},
        {"ansible.builtin.ping": {}},
    ]
    code, said = run(tmp_path, middle, serial=2)
    assert code != 0 and "CHANGED cp1" in said and "CHANGED cp2" in said, said
    assert "cp2 failed or became unreachable, so the next nodes (cp3, w1) were not changed" in said, said
    assert "CHANGED cp3" not in said and "CHANGED w1" not in said and "REPORT" not in said
    assert run_lease.PATH in api.objects and holder(api) is None


def test_a_run_whose_lease_was_taken_stops_before_the_next_node(api, tmp_path):
    renewed = []

    def before(method, path):
        if method == "PATCH" and path == run_lease.PATH:
            renewed.append(path)
        if len(renewed) == 2 and method == "GET":
            lease_of(api, OTHER).take(take_over=True)
            renewed.append("taken")

    api.before = before
    code, said = run(tmp_path, [])
    assert code == 2 and "this run holds it no more: rotate_ca of bob@west" in said, said
    assert "CHANGED cp2" in said and "CHANGED cp3" not in said and holder(api) == OTHER


def test_check_mode_takes_nothing_and_tells_of_another_run(api, tmp_path):
    lease_of(api, OTHER).take()
    api.calls.clear()
    code, said = run(tmp_path, [], arguments=["--check"])
    assert code == 0 and "another run is working on this cluster" in said and said.count("CHANGED") == 4, said
    assert holder(api) == OTHER and {method for method, _path in api.calls} == {"GET"}


def test_where_no_api_answers_the_run_goes_on_with_a_note(api, tmp_path):
    text = (tmp_path / "admin.conf").read_text()
    (tmp_path / "away.conf").write_text(text.replace(api.url, "https://127.0.0.1:9"))
    code, said = run(tmp_path, [], admin_conf=str(tmp_path / "away.conf"))
    assert code == 0 and "This run holds no Lease" in said and said.count("CHANGED") == 4, said
    assert said.count("This run holds no Lease") == 1 and "could not be renewed" not in said


def test_the_lease_of_a_run_of_this_controller_that_was_killed_is_taken(api, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    user, _sign, process = run_identity.get_identity().rpartition("_")
    machine = process.rsplit(".", 2)[0]
    lease_of(api, "%s_%s.%d.1" % (user, machine, gone.pid)).take()
    code, said = run(tmp_path, [])
    assert code == 0 and said.count("CHANGED") == 4 and "was taken from" in said, said


def test_the_lease_of_a_run_of_this_controller_that_still_works_is_not_taken(api, tmp_path):
    there = run_identity.get_identity()  # of the process that started this test
    lease_of(api, there).take()
    code, said = run(tmp_path, [])
    assert code == 2 and "another run is working on this cluster" in said and holder(api) == there, said


@pytest.mark.parametrize("seed", ["1", "4"])  # Ansible's set filters give their items in the order of these seeds
def test_a_host_that_does_not_answer_is_not_the_end_of_the_play_and_the_next_one_is_asked(api, tmp_path, monkeypatch, seed):
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    (tmp_path / "host_vars").mkdir()
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}
    (tmp_path / "host_vars/cp1.json").write_text(json.dumps(away))
    code, said = run(tmp_path, [])
    assert code == 0 and said.count("CHANGED") == 4 and "cp1 did not answer" in said, said
    assert run_lease.PATH in api.objects and holder(api) is None


def test_where_the_last_host_of_a_play_has_failed_the_lease_is_given_back_through_another(api, tmp_path):
    """cp1, the only host of the play, is lost: no host of it is left, and cp1 is the first of the group."""
    lost = {"ansible.builtin.set_fact": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}}
    everywhere = {**lost, "delegate_to": "cp1", "delegate_facts": True}
    code, said = run(tmp_path, [everywhere, {"ansible.builtin.fail": {"msg": "BOOM"}}], arguments=["--limit", "cp1"])
    assert code == 2 and "BOOM" in said and "cp1 did not answer" in said, said
    assert run_lease.PATH in api.objects and holder(api) is None
