# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recovery has still to start again on a node, recorded so that the next run continues a killed one."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Optional

from ..fileio import atomic, journals

_NAME = "recovery"


def load(state_dir: str = atomic.STATE_DIR) -> Optional[Dict[str, Any]]:
    """Return {"restart": [static pods to start again], "trust": whether CAs were renewed}, or None without a recovery."""
    return journals.Journal(_NAME, state_dir).load()


def begin(components: Iterable[str], trust: bool = False, state_dir: str = atomic.STATE_DIR) -> None:
    """Record durably what has to be started again, before any file changes.

    components: static pods, beside those that are recorded already. trust: whether CAs are renewed, so that the API's objects
    have to follow in the end.
    """
    before = load(state_dir) or {}
    record = {"restart": sorted(set(components) | set(before.get("restart", []))), "trust": bool(trust or before.get("trust"))}
    if record != before:
        journals.Journal(_NAME, state_dir).save(record)


def started(state_dir: str = atomic.STATE_DIR) -> None:
    """Record that all of them have been started again: from here on, health checks show what fails."""
    record = load(state_dir)
    if record is not None:
        journals.Journal(_NAME, state_dir).save(dict(record, restart=[]))


def finish(state_dir: str = atomic.STATE_DIR) -> bool:
    """Delete what begin() recorded. Return whether there was anything."""
    there = load(state_dir) is not None
    journals.Journal(_NAME, state_dir).clear()
    return there
