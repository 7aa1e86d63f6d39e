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
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TOP_LEVEL = {
    "CHANGELOG.md", "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "changelogs", "docs", "meta",
    "playbooks", "plugins", "requirements.txt", "roles",
}
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml") if not path.name.startswith("_"))


def attempt(command, folder, collections, tools=BIN):
    """Run a command as a user without a checkout would: nothing of this one is on any path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(ANSIBLE_COLLECTIONS_PATH=str(collections), ANSIBLE_HOME=str(folder / "home"), NO_COLOR="1",
                       PATH=f"{tools}:{os.environ['PATH']}")
    return subprocess.run([str(tools / command[0]), *command[1:]], cwd=folder, env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False)


def run(command, folder, collections, tools=BIN):
    """The same, for a command that has to succeed. Returns its output."""
    done = attempt(command, folder, collections, tools)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    run(["ansible-galaxy", "collection", "build", "--output-path", str(folder), str(ROOT)], folder, folder / "none")
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    return folder / f"kubepki-lifecycle-{version}.tar.gz"


@pytest.fixture(scope="module")
def installed(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    run(["ansible-galaxy", "collection", "install", "--offline", "-p", str(folder / "collections"), str(archive)],
        folder, folder / "collections")
    return folder


def test_the_archive_holds_what_users_need_and_nothing_else(archive):
    with tarfile.open(archive) as tar:
        names = [member.name for member in tar.getmembers()]
        assert [member.name for member in tar.getmembers() if member.issym() or member.islnk()] == []
    # The picture that README.md shows is in docs; a page of megabytes would be somebody's mistake.
    assert {name.split("/")[0] for name in names if name not in (".", "./")} == TOP_LEVEL
    assert [name for name in names if name.endswith((".pyc", ".key", ".pem", "~")) or "__pycache__" in name] == []
    assert archive.stat().st_size < 2_000_000


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
    said = run(["ansible-playbook", "-i", "inventory", "--list-tasks", f"kubepki.lifecycle.{playbook}"], installed,
               installed / "collections")
    assert "There is a control plane in it" in said and said.count("play #") > 1


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_an_inventory_without_the_groups_ends_with_the_remedy(installed, playbook):
    (installed / "empty").write_text("[webservers]\nwww1\n")
    done = attempt(["ansible-playbook", "-i", "empty", f"kubepki.lifecycle.{playbook}"], installed, installed / "collections")
    assert done.returncode == 2
    assert "Put the control-plane nodes in that group" in done.stdout
    assert "www1" not in done.stdout


@pytest.mark.timeout(900)
def test_the_requirements_of_an_execution_environment_are_enough(installed):
    """A new environment with ansible-core and what meta/execution-environment.yml names runs a playbook by its full name."""
    collection = installed / "collections" / "ansible_collections" / "kubepki" / "lifecycle"
    named = yaml.safe_load((collection / "meta" / "execution-environment.yml").read_text())["dependencies"]["python"]
    subprocess.run([sys.executable, "-m", "venv", str(installed / "venv")], check=True)
    tools = installed / "venv" / "bin"
    core = run(["python", "-c", "from ansible.release import __version__; print(__version__)"], installed, installed)
    run(["python", "-m", "pip", "install", "-q", f"ansible-core=={core.strip()}", "-r", str(collection / named)], installed,
        installed, tools)
    host = f"localhost ansible_connection=local ansible_python_interpreter={tools}/python"
    (installed / "local").write_text(f"[kube_control_plane]\n{host}\n")
    run(["ansible-playbook", "-i", "local", "kubepki.lifecycle.check_expiry", "-e", "kubepki_live=false",
         "-e", f"kubepki_report_dir={installed}/reports"], installed, installed / "collections", tools)
    report = json.loads((installed / "reports" / "report.json").read_text())
    assert list(report["nodes"]) == ["localhost"]
    run(["python", "-c", "import jmespath, kubernetes"], installed, installed, tools)
