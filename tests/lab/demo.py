# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a real cluster, its report, a renewal of everything, its report again, and what clients noticed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .errors import LabError
from .lab import Lab
from .playbook import CHECKOUT, Outcome, play


def main() -> int:
    """Run the demonstration; the exit code is 0 when every client was served all the time."""
    lab = Lab(os.environ.get("LAB", "lab"))
    reports = CHECKOUT / "reports"
    title("A kubeadm cluster of three control-plane nodes and two workers")
    lab.up()
    title("Its certificates, before: check_expiry")
    job(lab, "check_expiry", {"kubepki_report_dir": reports / "before"})
    title("All of them renewed, one node at a time, while clients count: renew_leaves")
    with lab.watch() as watch:
        job(lab, "renew_leaves", {"kubepki_force": "true", "kubepki_report_dir": reports / "renewal"}, live=True)
    title("Its certificates, after: check_expiry")
    job(lab, "check_expiry", {"kubepki_report_dir": reports / "after"})
    title("What clients saw meanwhile")
    print(watch.table())
    failed = watch.failures()
    print(f"\nFailed requests of clients through the balancer, of a pod, and of etcd: {failed}")
    print(f"Reports: {Path(reports, 'after', 'report.html')} and the files beside it")
    print("The cluster stays up: `python3 -m tests.lab ssh --name %s cp1` logs in, `make lab-down LAB=%s` removes it." % (
        lab.name, lab.name))
    return 1 if failed else 0


def title(text: str) -> None:
    """A heading between the parts."""
    print(f"\n=== {text}\n", flush=True)


def job(lab: Lab, name: str, variables: dict[str, object], live: bool = False) -> Outcome:
    """Run a playbook; live shows its tasks as they run, otherwise only its report is shown."""
    def show(line: str) -> None:
        if live or not line.startswith(("PLAY", "TASK", "ok:", "changed:", "skipping:", "included:", "\n")):
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
