# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes said, through Ansible itself: each answer stands under its host, and no terminal obeys it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EVIL = "\x1b]0;pwned\x07\x9b2J\u202e"
INVENTORY = "[kube_control_plane]\ncp1 ansible_host=192.0.2.1\n[kube_node]\nw1 ansible_host=192.0.2.2\nw2\n"


def play(tmp_path, said, *tasks):
    """Run tasks on the controller in a cluster whose hosts registered what is given."""
    (tmp_path / "inventory").write_text(INVENTORY)
    (tmp_path / "host_vars").mkdir()
    for host, value in said.items():
        (tmp_path / "host_vars" / f"{host}.json").write_text(json.dumps({"said": value}))
    keep = {
        "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(tmp_path / "result.json")},
        "delegate_to": "localhost",
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    }
    (tmp_path / "play.yml").write_text(
        json.dumps(
            [
                {
                    "hosts": "all",
                    "gather_facts": False,
                    "tasks": [dict(task, run_once=True, register="result", ignore_errors=True) for task in tasks]
                    + [dict(keep, run_once=True)],
                }
            ]
        )
    )
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory", "play.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1"),
    )
    assert (tmp_path / "result.json").exists(), done.stdout + done.stderr
    return json.loads((tmp_path / "result.json").read_text()), done.stdout + done.stderr


def asks(host, node):
    return {
        "action": "reissue",
        "reasons": ["asked for" + EVIL],
        "node": node,
        "changed": True,
        "signing": {"host": host, "node": node, "request": "R-" + host, "previous": "", "voucher": ""},
    }


def test_requests_and_the_inventory(tmp_path):
    said = {
        "cp1": {"action": "keep", "node": "cp1", "reasons": [], "signing": {}},
        "w1": asks("cp1", "cp1"),
        "w2": asks("cp1", "w2"),
    }
    result, _shown = play(
        tmp_path,
        said,
        {
            "kubepki.lifecycle.internal.kubelet_summary": {
                "step": "requests",
                "hosts": ["cp1", "w1", "w2"],
                "needed": ["cp1"],
                "requests": "said",
            }
        },
    )
    assert [(entry["host"], entry["node"], entry["request"]) for entry in result["signing"]] == [("w2", "w2", "R-cp1")]
    assert list(result["absent"]) == ["w1"] and result["inventory"] == {"cp1": "192.0.2.1", "w1": "192.0.2.2", "w2": ""}


def test_keys_of_serving_certificates(tmp_path):
    said = {
        "w1": {"action": "reissue", "node": "w2", "answer": {"host": "w2", "node": "w2", "key": "K1"}},
        "w2": {"action": "reissue", "node": "w2", "answer": {"host": "w2", "node": "w2", "key": "K2"}},
    }
    result, _shown = play(
        tmp_path,
        said,
        {"kubepki.lifecycle.internal.kubelet_summary": {"step": "answers", "hosts": ["cp1", "w1", "w2"], "requests": "said"}},
    )
    assert result["answers"] == [{"host": "w2", "node": "w2", "key": "K2"}]


def test_the_report_of_a_reissue_is_printable(tmp_path):
    said = {"cp1": asks("cp1", "cp1"), "w1": {"failed": True, "msg": EVIL}, "w2": {"action": ["odd"]}}
    result, shown = play(
        tmp_path,
        said,
        {"kubepki.lifecycle.internal.kubelet_summary": {"step": "report", "hosts": ["cp1", "w1", "w2"], "requests": "said"}},
    )
    assert result["artifact"]["failed"] == ["w1", "w2"] and "\\x1b]0;pwned" in shown
    assert not set(shown) & set(EVIL) - set("]0;pwned2J")


def test_a_malformed_node_does_not_end_the_report(tmp_path):
    facts = {"role": "worker", "node_name": "w1"}
    said = {host: {"node": {"certificates": [], "findings": [], "facts": dict(facts, node_name=host)}} for host in ("cp1", "w1")}
    said["w2"] = {"node": {"certificates": [{"status": EVIL}], "findings": [], "facts": {}}}
    result, shown = play(tmp_path, said, {"kubepki.lifecycle.internal.cluster_report": {"job": "check_expiry", "result": "said"}})
    assert result["report"]["nodes"]["w2"]["findings"][0]["code"] == "malformed-answer" and "Traceback" not in shown
    assert len(result["report"]["nodes"]) == 3 and not set(shown) & set(EVIL) - set("]0;pwned2J")


def test_a_worker_that_says_it_is_the_control_plane(tmp_path):
    facts = {"node": "w1", "role": "control-plane", "journal": None, "pending": [], "authorities": {}}
    result, shown = play(tmp_path, {}, {"kubepki.lifecycle.cluster_pki": {"nodes": [facts], "hosts": ["w1"]}})
    assert result["failed"] and result["msg"].startswith("w1: says that its role is control-plane"), shown
