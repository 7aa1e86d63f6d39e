# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that users install: what is in it, and that it works away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from userland import ROOT, attempt, run

TOP_LEVEL = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "requirements.txt",
    "roles",
}
FOLDER = ROOT / "plugins" / "modules"
MODULES = sorted(".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in FOLDER.rglob("*.py"))
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml") if not path.name.startswith("_"))


def test_the_archive_holds_what_users_need_and_nothing_else(archive):
    with tarfile.open(archive) as tar:
        names = [member.name for member in tar.getmembers()]
        assert [member.name for member in tar.getmembers() if member.issym() or member.islnk()] == []
    # The picture that README.md shows is in docs; a page of megabytes would be somebody's mistake.
    assert {name.split("/")[0] for name in names if name not in (".", "./")} == TOP_LEVEL
    assert [name for name in names if name.endswith((".pyc", ".key", ".pem", "~")) or "__pycache__" in name] == []
    assert archive.stat().st_size < 2_000_000


def test_galaxy_takes_it_as_it_is(archive, tmp_path):
    """What galaxy.ansible.com does with an upload; ansible-lint and ansible-test, which it can call, are calls of `make lint`."""
    settings = tmp_path / "importer.cfg"
    settings.write_text(
        "[galaxy-importer]\nCHECK_REQUIRED_TAGS = True\nCHECK_CHANGELOG = True\nRUN_ANSIBLE_DOC = True\n"
        "RUN_ANSIBLE_LINT = False\nRUN_ANSIBLE_TEST = False\nRUN_FLAKE8 = False\n"
    )
    bin_folder = Path(sys.executable).parent
    importer = [sys.executable, "-m", "galaxy_importer.main", str(archive)]
    done = subprocess.run(
        importer,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env={**os.environ, "GALAXY_IMPORTER_CONFIG": str(settings), "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "Importer processing completed successfully" in said, said[-4000:]
    assert [line for line in said.splitlines() if line.startswith(("WARNING", "ERROR"))] == []


def test_every_module_explains_itself_by_its_full_name(installed):
    names = [f"kubepki.lifecycle.{name}" for name in MODULES]
    told = json.loads(run(["ansible-doc", "--json", *names], installed, installed / "collections"))
    assert sorted(told) == names
    for name in names:
        assert told[name]["doc"]["short_description"]
        assert Path(told[name]["doc"]["filename"]).is_relative_to(installed)


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_is_found_by_its_full_name(installed, playbook):
    (installed / "inventory").write_text("[kube_control_plane]\ncp1\n[kube_node]\nw1\n")
    said = run(
        ["ansible-playbook", "-i", "inventory", "--list-tasks", f"kubepki.lifecycle.{playbook}"],
        installed,
        installed / "collections",
    )
    assert "Require a control plane" in said and said.count("play #") > 1


# What AWX tells each slice of a job: nothing but the name of the workflow that it made of them, which is the job template's.
SLICE = ["-e", '{"awx_job_template_name": "certificates: renew", "awx_workflow_job_name": "certificates: renew"}']
NOBODY = "ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_common_args='-o ConnectTimeout=1'"


@pytest.mark.parametrize("playbook", [name for name in PLAYBOOKS if name != "check_expiry"])
def test_a_slice_of_a_job_is_refused_before_any_node_is_asked(installed, playbook):
    (installed / "slice").write_text(f"[kube_control_plane]\ncp1 {NOBODY}\n[kube_node]\n")
    done = attempt(
        ["ansible-playbook", "-i", "slice", f"kubepki.lifecycle.{playbook}", *SLICE], installed, installed / "collections"
    )
    assert done.returncode == 2
    assert "number of slices to 1" in done.stdout and "cp1" not in done.stdout


def test_a_report_may_be_a_slice_even_without_a_control_plane_node(installed):
    # AWX leaves the groups in a slice's inventory, also when none of their hosts is in it.
    (installed / "workers").write_text(f"[kube_control_plane]\n[kube_node]\nw1 {NOBODY}\n")
    done = attempt(
        ["ansible-playbook", "-i", "workers", "kubepki.lifecycle.check_expiry", *SLICE], installed, installed / "collections"
    )
    assert "No node could be read: w1: did not answer" in done.stdout and "number of slices" not in done.stdout


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_an_inventory_without_the_groups_ends_with_the_remedy(installed, playbook):
    (installed / "empty").write_text("[webservers]\nwww1\n")
    done = attempt(["ansible-playbook", "-i", "empty", f"kubepki.lifecycle.{playbook}"], installed, installed / "collections")
    assert done.returncode == 2
    assert "Put the control-plane nodes in that group" in done.stdout
    assert "www1" not in done.stdout


@pytest.mark.timeout(900)
def test_the_requirements_of_an_execution_environment_are_enough(installed, tools):
    """A new environment with ansible-core and what meta/execution-environment.yml names runs a playbook by its full name."""
    host = f"localhost ansible_connection=local ansible_python_interpreter={tools}/python"
    (installed / "local").write_text(f"[kube_control_plane]\n{host}\n")
    run(
        [
            "ansible-playbook",
            "-i",
            "local",
            "kubepki.lifecycle.check_expiry",
            "-e",
            "kubepki_live=false",
            "-e",
            f"kubepki_report_dir={installed}/reports",
        ],
        installed,
        installed / "collections",
        tools,
    )
    report = json.loads((installed / "reports" / "report.json").read_text())
    assert list(report["nodes"]) == ["localhost"]
    run(["python", "-c", "import jmespath, kubernetes"], installed, installed, tools)
