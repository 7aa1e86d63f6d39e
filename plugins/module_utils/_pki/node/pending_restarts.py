# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which components still run with the files from before the last change, and how long restarts took.

A change of files that a component reads only once is recorded in the state directory, together with the files. /proc tells which
components started since: so a run that was interrupted counts, and a restart by any other means as well.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, Iterable, List, Tuple

from ..fileio import reading
from ..host import processes

RECORD = "rotation.json"  # in the state directory


def read_record(state_dir: str) -> Dict[str, Any]:
    """Return the record of earlier changes, {"boot", "pending", "seconds", "last"}; {} where there is none."""
    data = reading.read_if_exists(os.path.join(state_dir, RECORD))
    try:
        record = json.loads(data.decode("utf-8")) if data else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def uptime() -> Tuple[str, float]:
    """Return (boot ID, seconds since boot): a clock that no user and no time server changes."""
    seen = processes.own()
    try:
        return seen.boot_id(), seen.uptime()
    except (ValueError, IndexError):
        return "", 0.0


def stale(record: Dict[str, Any]) -> List[str]:
    """Return the components that started before the last change of a file that they read only once, sorted."""
    boot, _now = uptime()
    if record.get("boot") != boot:
        return []
    return sorted(component for component, since in record.get("pending", {}).items() if 0 <= started(component) < since)


def started(component: str) -> float:
    """Return when a component's newest process began, in seconds since boot; -1 where none runs."""
    return processes.own().component_started(component)


def written_since(component: str, paths: Iterable[str]) -> List[str]:
    """Return those of the paths that were written after a component's newest process started; [] where none runs.

    paths: files, through links; missing ones are left out. A file counts from one second after the start: two clocks are
    compared.
    """
    since = started(component)
    if since < 0:
        return []
    since += time.time() - uptime()[1] + 1
    return [path for path in paths if os.path.exists(path) and os.stat(path).st_mtime > since]


def phase_durations(record: Dict[str, Any]) -> Dict[str, float]:
    """Return {phase: seconds from the change of its files to the start of the last component it restarted}, where known."""
    known, last = dict(record.get("seconds") or {}), record.get("last")
    if last and record.get("boot") == uptime()[0]:
        begun = [started(component) for component in last["components"]]
        if begun and min(begun) >= last["at"]:
            known[last["phase"]] = round(max(begun) - last["at"], 1)
    return known


def updated_record(state_dir: str, restarts: Iterable[str], phase: str | None) -> Dict[str, Any]:
    """Return the record of a state directory with a change added: restarts are the components that have to start again."""
    record = read_record(state_dir)
    record["seconds"] = phase_durations(record)
    boot, now = uptime()
    pending = record.get("pending", {}) if record.get("boot") == boot else {}
    # A process that begins while the transaction is under way may have read either.
    pending.update({component: round(now + 0.3, 2) for component in restarts})
    if restarts and phase:
        record["last"] = {"phase": phase, "at": round(now, 2), "components": sorted(restarts)}
    return dict(record, boot=boot, pending=pending)
