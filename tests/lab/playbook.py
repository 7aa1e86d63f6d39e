# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the collection's playbooks against a lab, as a person would, and read what came of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .lab import Lab

CHECKOUT = Path(__file__).resolve().parents[2]
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
_EXEC = re.compile(r"^<([^>]+)> SSH: EXEC", re.MULTILINE)
_STATS = re.compile(r"^\s*RUN: (\{.*\})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """A finished ansible-playbook: exit code, everything it printed, and how long it took in seconds."""

    code: int
    output: str
    seconds: float

    @property
    def artifact(self) -> dict:
        """The run-level artifact ``kubepki``; empty when the run set none."""
        found = _STATS.findall(self.output)
        return json.loads(found[-1])["kubepki"] if found else {}

    @property
    def changed(self) -> dict[str, int]:
        """Changed tasks per host, from the recap."""
        return {host: int(changed) for host, _ok, changed, _unreachable, _failed in _RECAP.findall(self.output)}

    @property
    def tasks(self) -> int:
        """How many tasks ran, over all plays."""
        return len(re.findall(r"^TASK \[", self.output, re.MULTILINE))

    def round_trips(self, lab: Lab) -> dict[str, int]:
        """SSH commands per node; only a run with ``-vvv`` tells. A module with pipelining is one."""
        seen = Counter(_EXEC.findall(self.output))
        return {name: seen[address] for name, address in lab.addresses.items()}

    def require_success(self) -> Outcome:
        """Itself; AssertionError with the output's end when the run failed."""
        assert self.code == 0, f"ansible-playbook ended with {self.code}:\n" + self.output[-6000:]
        return self


def tool(name: str) -> str:
    """The path of a program of the tool environment: that of this Python, or the checkout's ``.venv``."""
    for directory in (Path(sys.executable).parent, CHECKOUT / ".venv/bin"):
        if (directory / name).exists():
            return str(directory / name)
    raise FileNotFoundError(f"{name} is not there: run `make venv`")


def environment() -> dict[str, str]:
    """The environment in which Ansible finds this checkout as a collection, and nothing of the user's own."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    return {
        **own,
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".cache"),
        "ANSIBLE_SHOW_CUSTOM_STATS": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(CHECKOUT / ".cache/ansible"),
    }


def start(
    lab: Lab, name: str, variables: Mapping[str, object] | None = None, *arguments: str, own_group: bool = False
) -> subprocess.Popen[str]:
    """Start a playbook of the collection (``renew_leaves``, ...) and give the process; its output is one stream.

    own_group: whether it leads a process group, so that all of it can be killed.
    """
    inventory = lab.directory / "inventory.ini"
    inventory.write_text(lab.inventory())
    # Strings, as an AWX survey gives them.
    extra = json.dumps({key: str(value) for key, value in (variables or {}).items()})
    command = [tool("ansible-playbook"), "-i", str(inventory), f"kubepki.lifecycle.{name}", "-e", extra, *arguments]
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment(),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=own_group,
    )


def finish(process: subprocess.Popen[str], on_line: Callable[[str], None] | None = None, since: float | None = None) -> Outcome:
    """Read a started playbook to its end. ``on_line`` sees every line as it comes."""
    began = since or time.monotonic()
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if on_line:
            on_line(line)
    return Outcome(process.wait(), "".join(lines), time.monotonic() - began)


def play(
    lab: Lab,
    name: str,
    variables: Mapping[str, object] | None = None,
    *arguments: str,
    on_line: Callable[[str], None] | None = None,
) -> Outcome:
    """Run a playbook of the collection to its end."""
    began = time.monotonic()
    return finish(start(lab, name, variables, *arguments), on_line, began)
