# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""static_pod_restart: ten restarts in a row of each pod, and all four pods of a node against kube-apiserver alone.

What the module itself reports is measured: from its start on the node until the new instance is proven.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALL = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"]
# The guide's recipe: move the manifest out, wait 20 s, move it back, wait 20 s.
RECIPE_SECONDS = 40.0
LONGEST_SECONDS = 2.5
OVERLAP = 1.15


def restart(inventory: str, host: str, names: list[str]) -> dict:
    """Restart pods once over ssh and give the module's result. Raises RuntimeError when it fails."""
    environment = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"))
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible"),
            "-i",
            inventory,
            host,
            "-m",
            "kubepki.lifecycle.static_pod_restart",
            "-a",
            json.dumps({"names": names}),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    begin = done.stdout.find("{")
    if done.returncode or begin < 0:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return json.loads(done.stdout[begin:])


def adhoc(inventory: str, host: str, module: str, arguments: str) -> float:
    """Run one module once over ssh and give how long the whole command took, in seconds. Raises RuntimeError when it fails."""
    environment = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"))
    began = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible"), "-i", inventory, host, "-m", module, "-a", arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return time.monotonic() - began


def in_a_row(inventory: str, host: str, name: str, rounds: int = 10) -> dict:
    """Restart one pod again and again: a row of the table, with the seconds of each in "each"."""
    each = [restart(inventory, host, [name])["seconds"] for _round in range(rounds)]
    ours = statistics.median(each)
    return {
        "work": "static_pod_restart of %s, %d times in a row" % (name, rounds),
        "against": "the guide's recipe",
        "ours": ours,
        "theirs": RECIPE_SECONDS,
        "ratio": ours / RECIPE_SECONDS,
        "target": LONGEST_SECONDS / RECIPE_SECONDS,
        "each": each,
    }


def overlap(inventory: str, host: str, rounds: int = 2) -> dict:
    """All four pods of a node against kube-apiserver alone, in turn."""
    alone, together = [], []
    for _round in range(rounds):
        alone.append(restart(inventory, host, ALL[:1])["seconds"])
        together.append(restart(inventory, host, ALL)["seconds"])
    ours, theirs = statistics.median(together), statistics.median(alone)
    return {
        "work": "all four pods of a node",
        "against": "kube-apiserver alone",
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs,
        "target": OVERLAP,
        "each": together,
        "each_alone": alone,
    }


def measure(inventory: str, host: str = "cp1", rounds: int = 10) -> list[dict]:
    """Give the rows of the table that concern static_pod_restart. inventory: its path; host: a control-plane node."""
    return [in_a_row(inventory, host, name, rounds) for name in ("kube-scheduler", "kube-controller-manager", "etcd")] + [
        overlap(inventory, host)
    ]


if __name__ == "__main__":
    for row in measure(sys.argv[1], *sys.argv[2:3]):
        print(json.dumps(row), flush=True)
