# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recovery has begun on a node and has still to start again, so that a run that is killed is continued by the next."""

from __future__ import annotations

from ..fileio import atomic, journals

_NAME = "recovery"


def load(state_dir=atomic.STATE_DIR):
    """Give {"restart": [static pods to start again], "trust": whether CAs were renewed}, or None where nothing was begun."""
    return journals.Journal(_NAME, state_dir).load()


def begin(components, trust=False, state_dir=atomic.STATE_DIR):
    """Note durably what has to be started again, before any file changes.

    components: [static pods], beside those that are noted already. trust: whether CAs are renewed, which the API's objects
    have to follow in the end.
    """
    before = load(state_dir) or {}
    record = {"restart": sorted(set(components) | set(before.get("restart", []))), "trust": bool(trust or before.get("trust"))}
    if record != before:
        journals.Journal(_NAME, state_dir).save(record)


def started(state_dir=atomic.STATE_DIR):
    """Note that all of them have been started again: whatever is not well from here on shows itself."""
    record = load(state_dir)
    if record is not None:
        journals.Journal(_NAME, state_dir).save(dict(record, restart=[]))


def finish(state_dir=atomic.STATE_DIR):
    """Forget what begin() noted: it is done. Gives whether there was anything."""
    there = load(state_dir) is not None
    journals.Journal(_NAME, state_dir).clear()
    return there
