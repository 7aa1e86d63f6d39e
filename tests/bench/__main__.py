# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: the ratios of docs/performance.md, measured on a lab in one run; --write puts the table there."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.playbook import CHECKOUT, environment, play

from . import community, csrs, expiry, kubelets, leaf, static_pods

PAGE = CHECKOUT / "docs/performance.md"
MARK = "<!-- the table below is written by `make bench` -->"
# What rotate_ca says of each control-plane node: the phase, the node, and what was restarted there.
_RESTARTED = re.compile(r"(\w+): (\S+) is done .*?restarted: ([^;]*)")
# The guide's recipe for one node: each of four manifests out for 20 s and in for 20 s.
RECIPE_SECONDS = 160.0


def commands(inventory: str, host: str, ours: tuple[str, str], theirs: tuple[str, str], rounds: int) -> tuple[float, float]:
    """Two `ansible -m MODULE -a ARGUMENTS` in turn: mean seconds of each."""
    took: tuple[list[float], list[float]] = ([], [])
    for _round in range(rounds):
        for seconds, (module, arguments) in zip(took, (ours, theirs)):
            seconds.append(static_pods.adhoc(inventory, host, module, arguments))
    return sum(took[0]) / rounds, sum(took[1]) / rounds


def against_kubeadm(inventory: str, host: str) -> dict:
    """cert_leaf on a node against `kubeadm certs renew all` run there by Ansible's command module."""
    ours, theirs = commands(
        inventory,
        host,
        ("kubepki.lifecycle.cert_leaf", "force=true"),
        ("ansible.builtin.command", "kubeadm certs renew all"),
        rounds=3,
    )
    return {
        "work": "cert_leaf renewing all leaves of a node",
        "against": "`kubeadm certs renew all`, without a backup",
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs,
        "target": None,
    }


def expiry_as_a_command(inventory: str, host: str) -> dict:
    """cert_expiry as a person runs it, Ansible's own start included, against ping run in the same way."""
    ours, theirs = commands(inventory, host, ("kubepki.lifecycle.cert_expiry", ""), ("ansible.builtin.ping", ""), rounds=8)
    return {
        "work": "cert_expiry on a node, as a command",
        "against": "`ansible -m ping` on it",
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs,
        "target": expiry.TARGET,
    }


def renewal(lab: Lab) -> dict:
    """A whole renew_leaves, per control-plane node, against the guide's recipe."""
    outcome = play(lab, "renew_leaves", {"kubepki_force": "true"}).require_success()
    ours = outcome.artifact["seconds"] / len(lab.control_planes)
    hot = 15.0 if int(lab.version.split(".")[1]) >= 30 else 75.0
    return {
        "work": f"renew_leaves, per control-plane node ({outcome.tasks} tasks in all)",
        "against": "the guide's recipe",
        "ours": ours,
        "theirs": RECIPE_SECONDS,
        "ratio": ours / RECIPE_SECONDS,
        "target": hot / RECIPE_SECONDS,
    }


def rotation(lab: Lab) -> dict:
    """A whole rotation of all four authorities, against the restarts in it that cannot be avoided: static pods and kubelets."""
    outcome = play(lab, "rotate_ca", {"kubepki_phase": "all", "kubepki_confirm": "true"}, "-vvv").require_success()
    trips = outcome.round_trips(lab)
    planes = max(trips[name] for name in list(lab.control_planes)[1:] or lab.control_planes)
    workers = max([trips[name] for name in lab.workers], default=0)
    pods, kubelets_took = outcome.artifact["restart_seconds"], outcome.artifact["kubelet_restart_seconds"]
    ours, theirs = outcome.artifact["seconds"], pods + kubelets_took
    return {
        "work": "rotate_ca, all four, %d+%d nodes: %d tasks; SSH commands: %d on the first node, %d on each other of the "
        "control plane, %d on each worker"
        % (len(lab.control_planes), len(lab.workers), outcome.tasks, trips[next(iter(lab.control_planes))], planes, workers),
        "against": "the restarts in it: static pods %.1f s (each node's longest), kubelets %.1f s" % (pods, kubelets_took),
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs,
        "target": 1.5,
        "restarts": [" ".join(found) for found in _RESTARTED.findall(outcome.output)]
        + ["kubelet of every node, once for each phase"],
    }


def rows(lab: Lab, rounds: int) -> Iterator[dict]:
    """Every row, in the order of the table."""
    inventory = lab.directory / "inventory.ini"
    inventory.write_text(lab.inventory())
    yield from static_pods.measure(str(inventory), "cp2", rounds)
    yield leaf.measure()
    yield against_kubeadm(str(inventory), "cp2")
    yield community.measure(str(inventory), "cp2")
    yield renewal(lab)
    yield rotation(lab)
    yield expiry.measure(str(inventory), "cp2")
    yield expiry_as_a_command(str(inventory), "cp2")
    yield from csrs.measure(lab, str(inventory), "cp2")
    yield from kubelets.measure(lab, sorted(lab.workers)[0])


def line(row: dict) -> str:
    """One row as Markdown."""
    target = "-" if row["target"] is None else "%.2f" % row["target"]
    verdict = "" if row["target"] is None else "yes" if row["ratio"] <= row["target"] else "no"
    unit = row.get("unit", "s")
    return "| %s | %s | %.2f %s | %.2f %s | %.2f | %s | %s |" % (
        row["work"],
        row["against"],
        row["ours"],
        unit,
        row["theirs"],
        unit,
        row["ratio"],
        target,
        verdict,
    )


def sizes() -> list[str]:
    """The payload table. Made in a process of its own, as other rows have told this one that the collection is elsewhere."""
    command = [sys.executable, "-m", "tests.bench.payload", "--markdown"]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()


def main() -> int:
    """Measure, print, and with --write keep the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="restarts in a row of each static pod")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args()
    os.environ.update(environment())
    lab = Lab(os.environ.get("LAB", "lab")).up()
    print("| work | against | ours | theirs | ratio | target | met |\n|---|---|---|---|---|---|---|", flush=True)
    table = ["| work | against | ours | theirs | ratio | target | met |", "|---|---|---|---|---|---|---|"]
    for row in rows(lab, options.rounds):
        table.append(line(row))
        print(table[-1], flush=True)
        if "restarts" in row:
            print("  restarts: " + "; ".join(row["restarts"]), file=sys.stderr)
        if "each" in row:
            print("  each: " + ", ".join("%.2f" % seconds for seconds in row["each"]), file=sys.stderr)
    small = sizes()
    print("\n" + "\n".join(small))
    if options.write:
        machine = "%s, %d cores, load %.1f at the end, Python %s, Kubernetes %s, %s" % (
            datetime.date.today().isoformat(),
            os.cpu_count() or 0,
            os.getloadavg()[0],
            platform.python_version(),
            lab.version,
            subprocess.run(
                [str(Path(sys.executable).parent / "ansible"), "--version"], capture_output=True, text=True, check=True
            ).stdout.splitlines()[0],
        )
        head = PAGE.read_text().split(MARK)[0]
        PAGE.write_text(head + MARK + "\n\n" + machine + "\n\n" + "\n".join(table) + "\n\n" + "\n".join(small) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
