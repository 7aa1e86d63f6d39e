# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations that are disturbed at seeded points, again and again, and brought to their end each time by running them again.

``python3 -m tests.lab.chaos --name NAME --points 50 --write`` puts the table of outcomes into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import playbook
from .client import now
from .lab import Lab
from .watch import Watch

PAGE = playbook.CHECKOUT / "docs/reliability.md"
MARK = "<!-- the table below is written by `make test-chaos` -->"
PHASES = ("prepare", "switch", "complete")
MANIFESTS = ["etcd.yaml", "kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml"]
_AFTER = {"prepare": "prepared", "switch": "switched", "complete": "stable"}
_LONGEST_DISTURBED = 6  # runs of one phase that are disturbed before one is left alone
# Every public key of an authority that a node holds or trusts: current, staged and kept ones.
_KEYS = r"""
for file in /etc/kubernetes/pki/%(ca)s /etc/kubernetes/pki.next/%(ca)s /etc/kubernetes/pki.previous/%(ca)s; do
  [ -f $file ] && awk '/BEGIN/{n++} {print > ("/tmp/kubepki-chaos-" n)}' $file && for one in /tmp/kubepki-chaos-*; do
    openssl x509 -in $one -noout -pubkey | sha256sum; rm $one; done; done; true
"""


@dataclass
class Point:
    """One disturbance: which phase, what happened after how many seconds, in which task, and what came of it."""

    number: int
    phase: str
    what: str
    after: float
    task: str = "-"
    ended: str = "-"
    failed_requests: int = 0
    healed: str = "-"
    said: list[str] = field(default_factory=list)  # what failed requests said


@dataclass(frozen=True)
class Disturbance:
    """What is done to a run, and how it is put right afterwards.

    begin: gets the lab, a node and the run's process group; gives whether there was something to disturb.
    """

    name: str
    begin: Callable[[Lab, str, int], bool]
    end: Callable[[Lab, str], None]


def _kill_controller(_lab: Lab, _node: str, pid: int) -> bool:
    os.killpg(pid, signal.SIGKILL)
    return True


def _modules(lab: Lab, node: str) -> list[int]:
    """The processes of Ansible's modules on a control-plane node: nothing else is Python there."""
    found = []
    for pid in lab.node(node).cgroup.processes():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith("python3"):
                found.append(pid)
    return found


def _kill_modules(lab: Lab, node: str, pid: int) -> bool:
    """Kill -9 the next modules that run on the node; False when the run ends before there are any."""
    machine = lab.node(node)
    while Path(f"/proc/{pid}").exists():
        if _modules(lab, node):
            machine.cgroup.freeze(True)
            try:
                modules = _modules(lab, node)
                for module in modules:
                    os.kill(module, signal.SIGKILL)
            finally:
                machine.cgroup.freeze(False)
            if modules:
                return True
        time.sleep(0.02)
    return False


def _cut_power(lab: Lab, node: str, _pid: int) -> bool:
    lab.stop_node(node)
    return True


def _pull_cable(lab: Lab, node: str, _pid: int) -> bool:
    lab.unplug(node)
    return True


def _nothing(_lab: Lab, _node: str) -> None:
    """Nothing has to be put right."""


def _power_back(lab: Lab, node: str) -> None:
    lab.start_node(node)
    lab.wait_healthy(300)


def _cable_back(lab: Lab, node: str) -> None:
    lab.plug(node)
    lab.wait_healthy(300)


DISTURBANCES = [
    Disturbance("the controller is killed", _kill_controller, _nothing),
    Disturbance("the modules on {node} are killed", _kill_modules, _nothing),
    Disturbance("{node} loses its power", _cut_power, _power_back),
    Disturbance("{node} loses its network", _pull_cable, _cable_back),
]
# Power and network cost a minute each; most of what goes wrong in practice are the first two.
_WEIGHTS = [5, 5, 1, 1]


class Chaos:
    """Disturbs rotations of all four authorities. lab: up and stable. seed: what happens when. say: sees a line per point.

    processes_only: only processes are killed, and no node loses power or network. cas: which authorities. within: seconds in
    which a phase is disturbed until one has ended undisturbed.
    """

    def __init__(
        self,
        lab: Lab,
        seed: int,
        say: Callable[[str], None] = print,
        processes_only: bool = False,
        cas: str = "ca,front-proxy-ca,etcd-ca,sa",
        within: float = 80.0,
    ) -> None:
        self.lab, self.seed, self._say = lab, seed, say
        self._cas, self._within = cas, within
        self._weights = _WEIGHTS[:2] + [0, 0] if processes_only else _WEIGHTS
        self._random = random.Random(seed)
        self._usual: dict[str, float] = {}
        self.points: list[Point] = []

    def run(self, wanted: int, per_phase: int = _LONGEST_DISTURBED, phases: tuple[str, ...] = PHASES) -> list[Point]:
        """Disturb until there are so many points, then end the rotation undisturbed. AssertionError where one does not heal."""
        while True:
            for phase in phases:
                many = self._random.randint(1, per_phase) if len(self.points) < wanted else 0
                # A new watch for each: who read the former authority's credentials once is refused after complete.
                with self.lab.watch() as watch:
                    self._phase(phase, min(many, wanted - len(self.points)), watch)
            if len(self.points) >= wanted:
                return self.points

    def _phase(self, phase: str, disturbed: int, watch: Watch) -> None:
        first = len(self.points)
        for _run in range(disturbed):
            self._disturb(phase, watch)
        began = time.monotonic()
        outcome = playbook.play(self.lab, "rotate_ca", _variables(phase, self._cas)).require_success()
        took = time.monotonic() - began
        reached = {outcome.artifact["phase"][name] for name in self._cas.split(",")}
        assert reached == {_AFTER.get(phase, "stable")}, outcome.artifact
        self._in_order(reached == {"stable"})
        if not disturbed:
            self._usual[phase] = took
        for point in self.points[first:]:
            last = point is self.points[-1]
            point.healed = "finished in %.0f s" % took if last else "the next one went on"
            self._say(
                f"  {point.number:3d} {point.phase:8s} {point.what:32s} {point.after:5.1f} s  {point.task[:50]:50s} "
                f"{point.healed}"
            )

    def _disturb(self, phase: str, watch: Watch) -> None:
        kind = self._random.choices(DISTURBANCES, self._weights)[0]
        node = self._random.choice(list(self.lab.control_planes))
        point = Point(
            len(self.points) + 1,
            phase,
            kind.name.format(node=node),
            round(self._random.uniform(2.0, self._usual.get(phase, self._within)), 1),
        )
        before, began = watch.failures(), now()
        process = playbook.start(self.lab, "rotate_ca", _variables(phase, self._cas), own_group=True)
        struck = threading.Event()

        def strike() -> None:
            if process.poll() is None and kind.begin(self.lab, node, process.pid):
                struck.set()

        timer = threading.Timer(point.after, strike)
        timer.start()

        def follow(line: str) -> None:
            task = re.match(r"TASK \[(?:kubepki\.lifecycle\.)?(.+?)\]", line)
            if task and not struck.is_set():
                point.task = task.group(1)

        outcome = playbook.finish(process, follow)
        timer.cancel()
        timer.join()
        if not struck.is_set():
            return  # it had ended before
        kind.end(self.lab, node)
        point.ended = "killed" if outcome.code < 0 else "exit %d" % outcome.code
        point.failed_requests = watch.failures() - before
        point.said = _said(watch, began)
        for line in point.said:
            self._say("      " + line)
        assert "Traceback" not in outcome.output, outcome.output[-6000:]
        self.points.append(point)

    def _in_order(self, stable: bool) -> None:
        """Every manifest is in its place and nothing else, no journal is left, and no authority has a third key.

        stable: and no flag that only a rotation under way needs.
        """
        for ca in ("ca.crt", "front-proxy-ca.crt", "etcd/ca.crt"):
            keys: set[str] = set()
            for node in self.lab.control_planes:
                keys |= set(self.lab.run(node, _KEYS % {"ca": ca}).stdout.split()) - {"-"}
            assert 1 <= len(keys) <= 2, (ca, keys)
        for node in self.lab.control_planes:
            assert sorted(self.lab.run(node, "ls -A /etc/kubernetes/manifests").stdout.split()) == MANIFESTS, node
            left = self.lab.run(node, "cd /var/lib/kubepki && ls -A journal parked 2>/dev/null | grep -v :; true").stdout
            assert not left.split(), (node, left)
            flags = self.lab.run(node, "grep -e service-account-lookup -e ca-signing /etc/kubernetes/manifests/*; true").stdout
            assert not (stable and flags), (node, flags)


def _said(watch: Watch, since: str) -> list[str]:
    """What the clients that must not notice anything were told since then, one line each."""
    return [
        f"{client} {failure['at'][11:19]} after {failure['seconds']} s: {failure['error'][:200]}"
        for client, seen in watch.counts().items()
        if not seen["informational"]
        for failure in seen["first_failures"]
        if failure["at"] >= since
    ]


def _variables(phase: str, cas: str) -> dict[str, str]:
    return {"kubepki_phase": phase, "kubepki_cas": cas, "kubepki_confirm": "true"}


def table(points: list[Point]) -> Iterator[str]:
    """The outcomes as lines of a Markdown table."""
    yield "| | phase | what happened | after | in the task | the run | then | failed requests |"
    yield "|---|---|---|---|---|---|---|---|"
    for point in points:
        yield "| %d | %s | %s | %.0f s | %s | %s | %s | %d |" % (
            point.number,
            point.phase,
            point.what,
            point.after,
            point.task.replace("|", "/"),
            point.ended,
            point.healed,
            point.failed_requests,
        )
    for point in points:
        if point.said and not point.what.startswith("cp"):  # a node without power or network takes requests with it
            yield ""
            yield "What failed at %d:" % point.number
            yield ""
            yield from ("- `%s`" % line.replace("`", "'") for line in point.said)


def write(points: list[Point], lab: Lab, seed: int, page: Path = PAGE) -> None:
    """Put the table under its mark in docs/reliability.md."""
    head = page.read_text().split(MARK)[0]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    about = "%s, Kubernetes %s, %d control-plane nodes and %d workers, seed %d, %d points\n" % (
        today,
        lab.version,
        len(lab.control_planes),
        len(lab.workers),
        seed,
        len(points),
    )
    page.write_text(head + MARK + "\n\n" + about + "\n" + "\n".join(table(points)) + "\n")


def main(arguments: list[str]) -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="chaos", help="which lab; it is brought up, and removed where it was not there before")
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args(arguments)
    lab = Lab(options.name, 3, 1)
    there = lab.exists()
    lab.up()
    chaos = Chaos(lab, options.seed)
    try:
        chaos.run(options.points)
        if options.write:
            write(chaos.points, lab, options.seed)
    finally:
        print("\n".join(table(chaos.points)))
        if not there:
            lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
