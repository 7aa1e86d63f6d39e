# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the playbooks, read from playbooks and argument specs."""

from __future__ import annotations

import os

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import playbook_variables, variable_review, variable_rules

VARIABLES = playbook_variables.read_variables()


@pytest.mark.parametrize(
    "name, value, fits",
    [
        ("kubepki_phase", "prepare", True),
        ("kubepki_phase", "prepair", False),
        ("kubepki_cas", "ca,sa", True),
        ("kubepki_cas", "ca,etcd", False),
        ("kubepki_force", "true", True),
        ("kubepki_force", True, True),
        ("kubepki_force", "maybe", False),
        ("kubepki_leaf_days", "90", True),
        ("kubepki_leaf_days", "90d", False),
        ("kubepki_key_type", "ed25519", False),
        ("kubepki_user_name", "alice", True),
        ("kubepki_csr_action", "approve", True),
        ("kubepki_csr_action", "allow", False),
    ],
)
def test_what_a_variable_may_be(name, value, fits):
    specs = [VARIABLES[name].specification(playbook) for playbook in VARIABLES[name].playbooks]
    assert any(variable_review.find_fault(value, spec) is None for spec in specs) == fits


def test_rules_are_for_variables_that_exist():
    named = {*variable_rules.OF_PLAYBOOKS, *variable_rules.CHOICES, *variable_rules.STRICTER}
    assert named | {name for name, _playbook in variable_rules.CHOICES_OF_PLAYBOOK} <= set(VARIABLES)


def test_a_boolean_needs_nothing_but_its_type():
    assert VARIABLES["kubepki_force"].specification("renew_leaves") == {"type": "bool"}


@pytest.fixture
def collection(tmp_path, monkeypatch):
    """A collection with one role and one playbook, for files that the test writes."""
    monkeypatch.setattr(playbook_variables, "COLLECTION", str(tmp_path))
    for read in (playbook_variables.read_playbooks, playbook_variables.read_variables):
        read.cache_clear()

    def write(path, data):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(yaml.safe_dump(data))

    options = {
        "of_role_days": {"type": "float", "default": 30, "description": "Days."},
        "of_role_names": {"type": "list", "elements": "str", "required": True, "description": "Names."},
        "of_role_seen": {"type": "bool", "default": False, "description": "Whether days are set."},
    }
    write("roles/of_role/meta/argument_specs.yml", {"argument_specs": {"main": {"options": options}}})
    write("playbooks/job.yml", [{"ansible.builtin.import_playbook": "_inner.yml"}])
    yield write
    playbook_variables.read_playbooks.cache_clear()
    playbook_variables.read_variables.cache_clear()


def play(**arguments):
    task = {"ansible.builtin.include_role": {"name": "kubepki.lifecycle.of_role"}, "vars": arguments}
    return [{"hosts": "all", "tasks": [{"block": [task]}]}]


def test_a_variable_is_what_the_option_is_that_it_sets(collection):
    collection(
        "playbooks/_inner.yml",
        play(
            of_role_days="{{ kubepki_days | default(7) }}",
            of_role_names="{{ kubepki_words | default([]) }}",
            of_role_seen="{{ kubepki_days is defined }}",
        ),
    )
    found = playbook_variables.read_variables()
    assert list(found) == ["kubepki_days", "kubepki_words"]
    (meaning,) = found["kubepki_days"].meanings
    assert (meaning.playbooks, meaning.option, meaning.spec["default"]) == (["job"], "of_role_days", 7)
    assert found["kubepki_days"].specification("job") == {"type": "float"}
    assert found["kubepki_words"].specification("job") == {"type": "list", "empty": True}
    assert playbook_variables.find_specification("kubepki_days", "job") == {"type": "float"}
    assert playbook_variables.find_specification("kubepki_days", "other") is None
    assert playbook_variables.find_specification("kubepki_other", "job") is None


def test_the_files_are_read_once(collection):
    collection("playbooks/_inner.yml", play(of_role_days="{{ kubepki_days }}"))
    assert list(playbook_variables.read_variables()) == ["kubepki_days"]
    os.remove(os.path.join(playbook_variables.COLLECTION, "playbooks", "_inner.yml"))
    assert list(playbook_variables.read_variables()) == ["kubepki_days"]


def test_an_empty_value_counts_as_unset_where_the_default_says_so(collection):
    collection("playbooks/_inner.yml", play(of_role_days="{{ kubepki_days | default(7, true) }}"))
    assert playbook_variables.read_variables()["kubepki_days"].specification("job") == {"type": "float", "empty": True}


def test_the_same_variable_for_two_options_has_the_widest_type(collection):
    collection("playbooks/_inner.yml", play(of_role_days="{{ kubepki_days }}", of_role_names="{{ kubepki_days }}"))
    variable = playbook_variables.read_variables()["kubepki_days"]
    assert [meaning.option for meaning in variable.meanings] == ["of_role_days", "of_role_names"]
    assert variable.specification("job")["type"] == "list"


def test_a_variable_in_a_keyword_of_a_play_is_found(collection):
    collection("playbooks/_inner.yml", [{"hosts": "all", "serial": "{{ kubepki_batch | default('10%') }}", "tasks": []}])
    assert playbook_variables.read_variables()["kubepki_batch"].specification("job")["of_play"]
