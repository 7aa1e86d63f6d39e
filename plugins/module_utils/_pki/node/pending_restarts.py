# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which components still run with the files of before the last change, and how long restarts took.

A change of files that a component reads only once is recorded together with the files, in the state directory; who has begun
since is asked of /proc, so that neither a run that ends early nor a restart by somebody else is forgotten."""

from __future__ import annotations

import json
import os
import time

from ..fileio import reading
from ..host import processes

RECORD = "rotation.json"  # in the state directory


def read_record(state_dir):
    """Give what the last applications left in the state directory: {"boot", "pending", "seconds"}; {} when none did."""
    data = reading.read_if_exists(os.path.join(state_dir, RECORD))
    try:
        record = json.loads(data.decode("utf-8")) if data else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def uptime():
    """Give (boot id, seconds since boot): a clock that nobody sets."""
    seen = processes.own()
    try:
        return seen.boot_id(), seen.uptime()
    except (ValueError, IndexError):
        return "", 0.0


def stale(record):
    """Give the components that have run since before the last change of a file they read only once, sorted."""
    boot, _now = uptime()
    if record.get("boot") != boot:
        return []
    return sorted(component for component, since in record.get("pending", {}).items() if 0 <= started(component) < since)


def started(component):
    """Return when a component's newest process began, in seconds since boot; -1 where none runs."""
    return processes.own().component_started(component)


def written_since(component, paths):
    """Give those of the paths that were written when a component's newest process ran already, as a list; [] where none runs.

    paths: files, through links; what is not there is left out. Within a second of the start, nothing is said to be later: two
    clocks are compared.
    """
    since = started(component)
    if since < 0:
        return []
    since += time.time() - uptime()[1] + 1
    return [path for path in paths if os.path.exists(path) and os.stat(path).st_mtime > since]


def took(record):
    """Give {phase: seconds from its files to the start of the last component it restarted} as far as this node knows."""
    known, last = dict(record.get("seconds") or {}), record.get("last")
    if last and record.get("boot") == uptime()[0]:
        begun = [started(component) for component in last["components"]]
        if begun and min(begun) >= last["at"]:
            known[last["phase"]] = round(max(begun) - last["at"], 1)
    return known


def recorded(state_dir, restarts, phase):
    record = read_record(state_dir)
    record["seconds"] = took(record)
    boot, now = uptime()
    pending = record.get("pending", {}) if record.get("boot") == boot else {}
    # A process that begins while the transaction is under way may have read either.
    pending.update({component: round(now + 0.3, 2) for component in restarts})
    if restarts and phase:
        record["last"] = {"phase": phase, "at": round(now, 2), "components": sorted(restarts)}
    return dict(record, boot=boot, pending=pending)
