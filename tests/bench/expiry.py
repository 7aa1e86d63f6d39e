# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert_expiry on a node against a module that only imports cryptography and PyYAML, in turn, over one ssh connection."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 12
TARGET = 1.3


def measure(inventory: str, host: str = "cp1", rounds: int = ROUNDS, live: bool = True) -> dict:
    """Give {"work", "against", "ours", "theirs", "ratio", "target"}: medians in seconds. inventory: its path."""
    tasks: list[dict] = [
        {"name": "warm", "imports_only": {}},
        {"name": "warm", "kubepki.lifecycle.cert_expiry": {"live": live}},
    ]
    for _round in range(rounds):
        tasks += [
            {"name": "imports", "imports_only": {}},
            {"name": "cert_expiry", "kubepki.lifecycle.cert_expiry": {"live": live}},
        ]
    with tempfile.TemporaryDirectory() as folder:
        playbook, durations = Path(folder, "play.yml"), Path(folder, "durations")
        playbook.write_text(json.dumps([{"hosts": host, "gather_facts": False, "tasks": tasks}]))
        environment = dict(
            os.environ,
            DURATIONS=str(durations),
            ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "tests/bench/callbacks"),
            ANSIBLE_CALLBACKS_ENABLED="durations",
            ANSIBLE_LIBRARY=str(ROOT / "tests/bench/library"),
            ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"),
        )
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", inventory, str(playbook)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        lines = [json.loads(line) for line in durations.read_text().splitlines()]
    medians = {
        name: statistics.median(line["seconds"] for line in lines if line["task"] == name) for name in ("imports", "cert_expiry")
    }
    work = "cert_expiry on a node" + ("" if live else ", without asking endpoints")
    return {
        "work": work,
        "against": "a module that only imports cryptography and PyYAML",
        "ours": medians["cert_expiry"],
        "theirs": medians["imports"],
        "ratio": medians["cert_expiry"] / medians["imports"],
        "target": TARGET,
    }


if __name__ == "__main__":
    for live in (True, False):
        print(json.dumps(measure(sys.argv[1], live=live)))
