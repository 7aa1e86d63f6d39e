# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/examples/awx/configure.yml, run against stand-ins for the modules of awx.awx that write down what they are given."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from userland import BIN, ROOT

AWX = ROOT / "docs" / "examples" / "awx"
# The options of the modules of awx.awx 24.6 that matter here.
OPTIONS = {
    "project": "name organization scm_type scm_url scm_branch credential update_project wait state",
    "job_template": "name description organization project inventory credentials execution_environment playbook job_type limit "
    "forks extra_vars become_enabled job_slice_count allow_simultaneous use_fact_cache survey_enabled "
    "survey_spec timeout verbosity ask_variables_on_launch state",
    "workflow_job_template": "name description organization extra_vars inventory limit allow_simultaneous survey_enabled "
    "survey_spec workflow_nodes destroy_current_nodes state",
    "schedule": "name description unified_job_template rrule extra_data enabled organization state",
}
STAND_IN = """#!/usr/bin/python
DOCUMENTATION = "module: {name}"
import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={{name: {{"type": "raw"}} for name in {options!r}.split()}})
with open({calls!r}, "a") as stream:
    stream.write(json.dumps([{name!r}, {{key: value for key, value in module.params.items() if value is not None}}]) + "\\n")
module.exit_json(changed=True)
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """What configure.yml gives to each module: {module: [options]}."""
    folder = tmp_path_factory.mktemp("awx")
    modules = folder / "ansible_collections" / "awx" / "awx" / "plugins" / "modules"
    modules.mkdir(parents=True)
    for name, options in OPTIONS.items():
        (modules / f"{name}.py").write_text(STAND_IN.format(name=name, options=options, calls=str(folder / "calls")))
    environment = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(folder), NO_COLOR="1")
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), str(AWX / "configure.yml"), "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {name: [] for name in OPTIONS}
    for line in (folder / "calls").read_text().splitlines():
        name, options = json.loads(line)
        made[name].append(options)
    return made


def test_a_template_is_never_sliced_never_twice_at_once_and_has_its_survey(calls):
    assert len(calls["job_template"]) == len(list((AWX / "surveys").glob("*.json")))
    for one in calls["job_template"]:
        assert (one["job_slice_count"], one["allow_simultaneous"], one["use_fact_cache"]) == (1, False, False)
        assert one["become_enabled"] is True and one["survey_enabled"] is True
        assert (AWX / "project" / one["playbook"]).exists()
        assert one["survey_spec"] == json.loads((AWX / "surveys" / one["playbook"].replace(".yml", ".json")).read_text())
        assert one["project"] == calls["project"][0]["name"]


def test_the_workflow_and_the_schedules_name_what_was_made(calls):
    (workflow,) = calls["workflow_job_template"]
    templates = {one["name"] for one in calls["job_template"]}
    for node in workflow["workflow_nodes"]:
        job = node["unified_job_template"]
        assert job["type"] == "workflow_approval" or (
            job["name"] in templates and job["organization"] == {"name": calls["project"][0]["organization"]}
        )
    assert {one["unified_job_template"] for one in calls["schedule"]} <= templates | {workflow["name"]}
