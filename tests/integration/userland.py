# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a user has it: built, installed, and run without anything of this checkout on any path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def attempt(command, folder, collections, tools=BIN):
    """Run a command of the environment `tools` in `folder`, with the collections of `collections` alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") and name != "PYTHONPATH"}
    environment.update(
        ANSIBLE_COLLECTIONS_PATH=str(collections),
        ANSIBLE_HOME=str(folder / "home"),
        NO_COLOR="1",
        PATH=f"{tools}:{os.environ['PATH']}",
    )
    return subprocess.run(
        [str(tools / command[0]), *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def run(command, folder, collections, tools=BIN):
    """The same, for a command that has to succeed. Returns its output."""
    done = attempt(command, folder, collections, tools)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder):
    """Build the archive into `folder`, and give its path."""
    run(["ansible-galaxy", "collection", "build", "--output-path", str(folder), str(ROOT)], folder, folder / "none")
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    return folder / f"kubepki-lifecycle-{version}.tar.gz"


def install(archive, folder):
    """Install the archive into folder/collections."""
    run(
        ["ansible-galaxy", "collection", "install", "--offline", "-p", str(folder / "collections"), str(archive)],
        folder,
        folder / "collections",
    )


def execution_environment(installed):
    """Make an environment of ansible-core, ansible-runner and what the collection names. Gives its bin folder."""
    collection = installed / "collections" / "ansible_collections" / "kubepki" / "lifecycle"
    named = yaml.safe_load((collection / "meta" / "execution-environment.yml").read_text())["dependencies"]["python"]
    subprocess.run([sys.executable, "-m", "venv", str(installed / "venv")], check=True)
    tools = installed / "venv" / "bin"
    core = run(["python", "-c", "from ansible.release import __version__; print(__version__)"], installed, installed)
    run(
        [
            "python",
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            f"ansible-core=={core.strip()}",
            "ansible-runner",
            "-r",
            str(collection / named),
        ],
        installed,
        installed,
        tools,
    )
    return tools
