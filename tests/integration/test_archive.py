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


def run(command, folder, collections):
    """Run a command as a user without a checkout would: nothing of this one is on any path. Returns its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(ANSIBLE_COLLECTIONS_PATH=str(collections), ANSIBLE_HOME=str(folder / "home"), NO_COLOR="1")
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=folder, env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False)
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
    inventory = "[kube_control_plane]\ncp1\n[kube_node]\nw1\n"
    (installed / "inventory").write_text(inventory)
    said = run(["ansible-playbook", "-i", "inventory", "--list-tasks", f"kubepki.lifecycle.{playbook}"], installed,
               installed / "collections")
    assert "kube_control_plane" in said
