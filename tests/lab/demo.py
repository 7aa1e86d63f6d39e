# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a real cluster, its report, a renewal of everything, its report again, and what clients noticed."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import LabError
from .lab import Lab
from .playbook import CHECKOUT, Outcome, play
from .watch import failed

#: How a certificate that `renew_leaves` leaves alone is called in the sum.
_OTHERS = {"ca": "of a CA", "kubelet": "of the kubelet"}
_RECAP = re.compile(r"^\S+\s+: ok=\d+\s")


def main() -> int:
    """Run the demonstration; the exit code is 0 when every client was served all the time."""
    lab = Lab(os.environ.get("LAB", "lab"))
    reports = CHECKOUT / "reports"
    title("A kubeadm cluster of three control-plane nodes and two workers")
    lab.up()
    title("Its certificates, before: check_expiry")
    job(lab, "check_expiry", {"kubepki_report_dir": reports / "before"})
    title("All of them renewed for two years, one node at a time, while clients count: renew_leaves")
    with lab.watch() as watch:
        job(
            lab,
            "renew_leaves",
            {"kubepki_force": "true", "kubepki_leaf_days": "730", "kubepki_report_dir": reports / "renewal"},
            live=True,
        )
    title("Its certificates, after: check_expiry")
    job(lab, "check_expiry", {"kubepki_report_dir": reports / "after"})
    title("What was replaced")
    before, after = (json.loads((reports / name / "report.json").read_text()) for name in ("before", "after"))
    print(replaced(before, after))
    title("What clients saw meanwhile")
    print(watch.table())
    print("\n" + verdict(before, after, watch.counts()))
    print(f"Reports: {Path(reports, 'after', 'report.html')} and the files beside it")
    print(
        "The cluster stays up: `python3 -m tests.lab ssh --name %s cp1` logs in, `make lab-down LAB=%s` removes it."
        % (lab.name, lab.name)
    )
    return 1 if watch.failures() else 0


def replaced(before: dict, after: dict) -> str:
    """What happened between two reports (as report.json has them): a line for each certificate that is another one, then a sum
    for each node, which also says what stays."""
    lines = [f"{'node':<6}{'certificate':<28}{'serial before':<16}{'serial now':<16}days left"]
    sums = []
    for node, old, new in _nodes(before, after):
        changed = _changed(old, new)
        for name in changed:
            lines.append(
                f"{node:<6}{name:<28}{_serial(old[name]):<16}{_serial(new[name]):<16}{_days(old[name])} -> {_days(new[name])}"
            )
        rest = Counter(_OTHERS.get(row["kind"], "other") for name, row in new.items() if name not in changed)
        stays = " and ".join(f"{count} {what}" for what, count in sorted(rest.items()))
        sums.append(
            f"{node}: {_count(len(changed))} replaced"
            + (f", {stays} as {'it was' if sum(rest.values()) == 1 else 'they were'}" if stays else "")
        )
    return "\n".join([*(lines if len(lines) > 1 else []), *([""] if len(lines) > 1 else []), *sums])


def verdict(before: dict, after: dict, counts: Mapping[str, Mapping[str, Any]]) -> str:
    """The sentence it was all for. counts: as ``Watch.counts()`` gives them."""
    per_node = [len(_changed(old, new)) for _node, old, new in _nodes(before, after)]
    asked = sum(int(seen["requests"]) for seen in counts.values() if not seen["informational"])
    total, nodes = sum(per_node), len([number for number in per_node if number])
    return (
        f"{_count(total)} on {nodes} nodes {'was' if total == 1 else 'were'} replaced, while clients made {asked} requests "
        f"through the balancer, from a pod and to etcd, and {failed(counts)} of them failed."
    )


def for_people(line: str, live: bool) -> bool:
    """Whether a line of ansible-playbook is for a person; the artifact, which the lab's tests have printed, is for machines.

    live: the run is watched task by task; otherwise only what it reports is shown.
    """
    if line.startswith("CUSTOM STATS") or line.lstrip().startswith("RUN: {"):
        return False
    if live:
        return True
    return not (line.startswith(("PLAY", "TASK", "ok:", "changed:", "skipping:", "included:", "\n")) or _RECAP.match(line))


def _nodes(before: dict, after: dict) -> Iterator[tuple[str, dict, dict]]:
    """(node, its rows before, its rows after) by certificate, without what is missing."""
    for node in sorted(after["nodes"]):
        old, new = (
            {row["name"]: row for row in report["nodes"].get(node, {}).get("certificates", []) if row.get("serial")}
            for report in (before, after)
        )
        yield node, old, new


def _changed(old: dict, new: dict) -> list[str]:
    return [name for name in new if name in old and new[name]["serial"] != old[name]["serial"]]


def _serial(row: dict) -> str:
    digits = row["serial"].removeprefix("0x")
    return digits if len(digits) <= 12 else digits[:8] + "..."


def _days(row: dict) -> str:
    return str(int(row["residual_seconds"] // 86400))


def _count(number: int) -> str:
    return f"{number or 'no'} certificate{'' if number in (0, 1) else 's'}"


def title(text: str) -> None:
    """A heading between the parts."""
    print(f"\n=== {text}\n", flush=True)


def job(lab: Lab, name: str, variables: dict[str, object], live: bool = False) -> Outcome:
    """Run a playbook; live shows its tasks as they run, otherwise only its report is shown."""

    def show(line: str) -> None:
        if for_people(line, live):
            print(line, end="", flush=True)

    outcome = play(lab, name, variables, on_line=show)
    if outcome.code:
        raise LabError(f"{name} failed with exit code {outcome.code}", fix="its output is above")
    return outcome


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
