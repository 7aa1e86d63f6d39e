# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts registered, as action plugins take it."""

from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import node_results

from tests.unit.support import malformed

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def test_nothing_that_a_terminal_obeys_gets_past_the_entry():
    said = {"msg": malformed.EVIL, malformed.EVIL: [malformed.EVIL, {"x": malformed.EVIL}], "pem": PEM, "number": 5, "none": None}
    task_vars = {"hostvars": {"w1": {"said": said}}}
    found = node_results.read_registered(task_vars, "w1", "said")
    assert found["pem"] == PEM and found["number"] == 5 and found["none"] is None
    assert str(found).replace("\\n", "").isprintable() and "\\x1b]0;pwned" in found["msg"] and "\\u202e" in found["msg"]
    assert all(line.isprintable() for line in found["msg"].split("\n")) and malformed.EVIL not in found
    assert node_results.read_registered(task_vars, "w2", "said") == {}


def test_why_a_host_said_nothing_is_one_printable_line():
    hostvars = {
        "w1": {"said": {"msg": malformed.EVIL, "failed": True}},
        "w2": {"said": {"unreachable": True}},
        "w3": {"said": {"msg": "x" * 100000}},
        "w4": {"said": {"node": {"a": 1}}},
    }
    found, silent = node_results.sort_registered({"hostvars": hostvars}, hostvars, "said", "node")
    assert found == {"w4": {"a": 1}} and silent["w2"] == "did not answer" and silent["w1"].isprintable()
    assert len(silent["w3"]) < 3000


def test_the_inventory_is_all_nodes_whether_they_are_in_the_play_or_not():
    task_vars = {
        "groups": {"kube_control_plane": ["cp1"], "kube_node": ["cp1", "w1", "w2"], "etcd": ["e1"]},
        "hostvars": {"cp1": {"ansible_host": "10.0.0.1"}, "w1": {}},
    }
    assert node_results.inventory_addresses(task_vars) == {"cp1": "10.0.0.1", "w1": "", "w2": ""}
    assert node_results.inventory_addresses({}) == {}


def test_what_a_node_returns_for_ansible_is_taken_away():
    facts = {"kubepki_leaf_days": 3650, "discovered_interpreter_python": "/usr/bin/python3"}
    evil = {"ansible_facts": facts, "add_host": {"host_name": "x"}, "add_group": "x", "ansible_stats": {"data": {"kubepki": 1}}}
    evil.update({"_ansible_notify": ["x"], "_ansible_delegated_vars": {}, "parent": {"ansible_facts": "harmless here"}})
    said = dict(evil, changed=True, results=[dict(evil, item=1), "text", None], _ansible_parsed=True)
    kept = {"parent": evil["parent"]}
    assert node_results.sanitize_result(said) == {
        "ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3"},
        "changed": True,
        "results": [dict(kept, item=1), "text", None],
        "_ansible_parsed": True,
        **kept,
    }
    assert said["ansible_facts"] is facts and "add_host" in said["results"][0]
    for odd in (None, [], "text", {}, {"kubepki_batch": 1}):
        assert node_results.sanitize_result({"ansible_facts": odd, "results": odd}) == {"results": odd}
