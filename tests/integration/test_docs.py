# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command of the documentation, as far as it can be run here; tests/unit/test_doc_pages.py checks the rest.

A playbook goes through ansible-playbook's syntax check with all variables that any page gives it, plays and tasks on the pages
do, too; make says what it would do; an inventory is read.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.support import doc_pages
from tests.unit.support.doc_pages import ROOT

TOOLS = Path(sys.executable).parent
ENVIRONMENT = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1", ANSIBLE_LOCALHOST_WARNING="false")
BLOCKS = [
    block for page in doc_pages.pages() for block in doc_pages.blocks(page.read_text(), page)
] + doc_pages.internal_examples()
INVENTORY = "[kube_control_plane]\ncp1\ncp2\n[kube_node]\nw1\n"


def commands():
    """Every command of a page once: (program, arguments)."""
    texts = [command for block in BLOCKS if block.language in ("", "sh") for command in doc_pages.commands(block.text)]
    texts += [command for page in doc_pages.pages() for command in doc_pages.said_in_passing(page.read_text())]
    return [doc_pages.judge(text) for text in dict.fromkeys(texts)]


def variables_by_playbook():
    found = {}
    for program, arguments in commands():
        if program == "ansible-playbook":
            named = [word for word in arguments if word.startswith(("kubepki.lifecycle.", "docs/"))]
            given = [arguments[number + 1] for number, word in enumerate(arguments) if word == "-e"]
            assert len(named) == 1, arguments
            found.setdefault(named[0], []).extend(given)
    return found


def run(command, folder):
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def syntax_check(folder, playbook, *arguments):
    (folder / "inventory").write_text(INVENTORY)
    return run([str(TOOLS / "ansible-playbook"), "-i", str(folder / "inventory"), "--syntax-check", playbook, *arguments], folder)


GIVEN = variables_by_playbook()


def test_every_playbook_of_the_collection_is_shown_to_users():
    assert sorted(name.rpartition(".")[2] for name in GIVEN if name.startswith("kubepki.lifecycle.")) == doc_pages.PLAYBOOKS


# test_awx.py runs the one of AWX, with stand-ins for the collection that it needs.
@pytest.mark.parametrize("playbook", sorted(set(GIVEN) - {"docs/examples/awx/configure.yml"}))
def test_a_playbook_of_the_pages_passes_the_syntax_check(playbook, tmp_path):
    arguments = [word for given in GIVEN[playbook] for word in ("-e", given)]
    done = syntax_check(tmp_path, str(ROOT / playbook) if "/" in playbook else playbook, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_plays_and_tasks_of_the_pages_pass_the_syntax_check(tmp_path):
    plays = [(block, doc_pages.plays(block)) for block in BLOCKS if block.language == "yaml"]
    assert len([block for block, found in plays if found]) > 20
    (tmp_path / "pages.yml").write_text(yaml.safe_dump([play for _block, found in plays for play in found]))
    done = syntax_check(tmp_path, "pages.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", ["- hosts: all\n  taskz: []\n", "- kubepki.lifecycle.cert_expire:\n    live: true\n"])
def test_a_play_that_is_none_does_not_pass(text, tmp_path):
    (block,) = doc_pages.blocks(f"```yaml\n{text}```\n")
    (tmp_path / "pages.yml").write_text(yaml.safe_dump(doc_pages.plays(block)))
    assert syntax_check(tmp_path, "pages.yml").returncode != 0


def test_make_knows_every_target():
    targets = [arguments for program, arguments in commands() if program == "make"]
    assert len(targets) > 8
    for arguments in targets:
        done = run(["make", "-n", *arguments], ROOT)
        assert done.returncode == 0, f"make {shlex.join(arguments)}: {done.stderr}"


def test_an_inventory_is_read(tmp_path):
    texts = [block.text for block in BLOCKS if block.language == "ini"]
    assert texts
    for text in texts:
        (tmp_path / "inventory").write_text(text)
        done = run([str(TOOLS / "ansible-inventory"), "-i", str(tmp_path / "inventory"), "--list"], tmp_path)
        assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
        assert json.loads(done.stdout)["kube_control_plane"]["hosts"]


def test_the_lab_says_whether_it_can_run():
    """Python's standard library is all it needs, as its page says."""
    done = run([sys.executable, "-S", "-m", "tests.lab", "check"], ROOT)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr
