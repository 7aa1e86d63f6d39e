# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/examples/awx: what AWX is to be told of the playbooks is what the playbooks and roles take."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import playbook_variables, variable_review

ROOT = Path(__file__).resolve().parents[2]
AWX = ROOT / "docs" / "examples" / "awx"
DEFINITIONS = yaml.safe_load((AWX / "definitions.yml").read_text())
TEMPLATES = {one["name"]: one["playbook"] for one in DEFINITIONS["kubepki_awx_job_templates"]}
NODES = {one["identifier"]: one for one in DEFINITIONS["kubepki_awx_workflow_nodes"]}
SURVEYS = sorted((AWX / "surveys").glob("*.json"))
# Roles pass these through to a module, which is the one that says what it takes.
MODULE_OPTIONS = {
    "kubepki_key_type": ("cert_leaf", "key_type"),
    "kubepki_phase": ("cluster_pki", "target"),
    "kubepki_kubelet_method": ("internal/kubelet_credential", "method"),
}
# What an answer of AWX's question types may be given to.
FITS = {"integer": {"int", "float"}, "text": {"str", "list", "path"}, "multiplechoice": {"str", "bool"}}
# Not a role's option: `serial` of a play, and a default that asks for less than the playbook's.
NO_ROLE = {"kubepki_batch"}


def survey(path):
    return {one["variable"]: one for one in json.loads(path.read_text())["spec"]}


def specification(playbook, variable):
    """The argument specification of the role's option to which a playbook, or one that it imports, gives a variable."""
    text = (ROOT / "playbooks" / f"{playbook}.yml").read_text()
    imported = sorted(set(re.findall(r"import_playbook: (_\w+\.yml)", text)))
    text += "".join((ROOT / "playbooks" / name).read_text() for name in imported)
    options = [
        option
        for option, value in re.findall(r"^ +([a-z_]+): (.+)$", text, re.MULTILINE)
        if re.search(rf"\b{variable}\b", value) and option in SPECIFICATIONS
    ]
    assert options, f"{playbook} gives {variable} to no role"
    return SPECIFICATIONS[options[0]]


SPECIFICATIONS = {
    option: given
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")
    for entry in yaml.safe_load(path.read_text())["argument_specs"].values()
    for option, given in (entry.get("options") or {}).items()
}


def module_choices(module, option):
    (path,) = (ROOT / "plugins" / "modules").rglob(f"{module}.py")
    tree = ast.parse(path.read_text())
    text = next(node.value.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "DOCUMENTATION")
    return yaml.safe_load(text)["options"][option]["choices"]


@pytest.mark.parametrize("path", SURVEYS, ids=lambda path: path.stem)
def test_a_survey_is_one_that_awx_accepts(path):
    document = json.loads(path.read_text())
    assert set(document) == {"name", "description", "spec"}
    questions = document["spec"]
    assert len({one["variable"] for one in questions}) == len(questions) > 0
    for one in questions:
        assert set(one) >= {"type", "question_name", "variable", "required"} and isinstance(one["required"], bool)
        assert one["type"] in FITS
        if one["type"] == "multiplechoice":
            assert all(isinstance(choice, str) and choice for choice in one["choices"])
            assert one.get("default", one["choices"][0]) in one["choices"]
        elif one["type"] == "integer":
            assert isinstance(one["default"], int) and one["min"] <= one["default"] <= one["max"]
        else:
            assert isinstance(one["default"], str)


@pytest.mark.parametrize("path", SURVEYS, ids=lambda path: path.stem)
def test_a_survey_asks_for_what_the_role_takes_in_the_roles_type_with_its_choices(path):
    playbook = (ROOT / "playbooks" / f"{path.stem}.yml").read_text()
    for variable, question in survey(path).items():
        if variable in NO_ROLE:
            assert re.search(rf"serial: .*\b{variable}\b", playbook)
            continue
        given = specification(path.stem, variable)
        assert given["type"] in FITS[question["type"]], variable
        if question["type"] != "multiplechoice":
            continue
        if given["type"] == "bool":
            assert question["choices"] == ["false", "true"], variable
        else:
            choices = module_choices(*MODULE_OPTIONS[variable]) if variable in MODULE_OPTIONS else given["choices"]
            assert sorted(question["choices"]) == sorted(choices), variable


@pytest.mark.parametrize("path", SURVEYS, ids=lambda path: path.stem)
def test_what_a_survey_gives_when_nobody_changes_anything_is_taken(path):
    values = {name: question.get("default", "") for name, question in survey(path).items()}
    given = [(name, value, None) for name, value in values.items()]
    assert variable_review.review(path.stem, set(values), given, set(values)) == ([], [])
    assert all(playbook_variables.find_specification(name, path.stem) for name in values)


@pytest.mark.parametrize("path", SURVEYS, ids=lambda path: path.stem)
def test_free_text_of_a_survey_is_literal_and_takes_only_what_its_meaning_needs(path):
    for variable, question in survey(path).items():
        if question["type"] == "text":
            spec = playbook_variables.find_specification(variable, path.stem)
            assert spec.get("literal") and {"pattern", "choices"} & set(spec), variable
            for bad in ("{{ 1 }}", "a b; c", "$(id)", "../x", "a'b", "x\ny"):
                assert variable_review.find_fault(bad, spec), (variable, bad)
    assert any(question["type"] == "text" for one in SURVEYS for question in survey(one).values())


def test_no_authority_is_named_beforehand_because_a_named_one_has_to_be_one_of_the_clusters():
    assert survey(AWX / "surveys" / "rotate_ca.json")["kubepki_cas"]["default"] == ""


def test_every_template_has_its_playbook_in_the_project_and_its_survey():
    assert sorted(TEMPLATES.values()) == sorted(path.stem for path in SURVEYS)
    assert sorted(TEMPLATES.values()) == sorted(path.stem for path in (AWX / "project").glob("*.yml"))
    for playbook in TEMPLATES.values():
        (play,) = yaml.safe_load((AWX / "project" / f"{playbook}.yml").read_text())
        assert play["ansible.builtin.import_playbook"] == f"kubepki.lifecycle.{playbook}"
        assert (ROOT / "playbooks" / f"{playbook}.yml").exists()
    page = (ROOT / "docs" / "awx.md").read_text()
    assert [name for name in TEMPLATES if f"| {name} |" not in page] == []


def test_a_confirmation_is_asked_for_where_the_playbook_wants_one_and_never_given_beforehand():
    for path in SURVEYS:
        wanted = "kubepki_confirm" in (ROOT / "playbooks" / f"{path.stem}.yml").read_text()
        assert wanted == ("kubepki_confirm" in survey(path)), path.stem
        assert survey(path).get("kubepki_confirm", {"default": "false"})["default"] == "false"


def test_the_workflow_renews_only_after_somebody_approved():
    def next_of(name):
        return {kind: [one["identifier"] for one in nodes] for kind, nodes in NODES[name].get("related", {}).items()}

    assert next_of("check") == {"failure_nodes": ["approve"]}
    assert NODES["approve"]["unified_job_template"]["type"] == "workflow_approval"
    assert next_of("approve") == {"success_nodes": ["renew"]}
    assert next_of("renew") == {"always_nodes": ["report"]}
    assert next_of("report") == {}
    assert set(NODES) == {"check", "approve", "renew", "report"}
    jobs = {name: TEMPLATES[node["unified_job_template"]["name"]] for name, node in NODES.items() if name != "approve"}
    assert jobs == {"check": "check_expiry", "renew": "renew_leaves", "report": "check_expiry"}
    for name, playbook in jobs.items():
        # AWX drops a variable that no survey asks for.
        assert set(NODES[name]["extra_data"]) <= set(survey(AWX / "surveys" / f"{playbook}.json")), name


def test_no_workflow_has_the_name_by_which_a_slice_is_known():
    assert DEFINITIONS["kubepki_awx_workflow"] not in TEMPLATES


def test_schedules_start_what_exists_at_times_that_awx_accepts():
    known = {*TEMPLATES, "{{ kubepki_awx_workflow }}"}
    for one in DEFINITIONS["kubepki_awx_schedules"]:
        assert one["unified_job_template"] in known
        assert re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=[A-Z]+;INTERVAL=\d+(;[A-Z]+=\w+)*", one["rrule"]), one["name"]
