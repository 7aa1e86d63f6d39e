# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several modules saw of each node, put together on the controller."""

from __future__ import annotations

from ansible_collections.kubepki.lifecycle.plugins.action.internal.recovery_plan import ActionModule


def test_what_several_modules_saw_is_one_look_and_a_rehearsal_that_failed_is_a_problem():
    well = {"looked": {"look": {"problems": []}}, "read": {"node": {"facts": {}}}}
    hostvars = {
        "cp1": {**well, "tried": {"failed": False, "msg": "no key"}},
        "cp2": {**well, "looked": {"look": {"problems": ["full"]}}, "tried": {"unreachable": True, "msg": None}},
        "cp3": {**well, "tried": {"leaves": []}},
        "w1": {**well, "tried": {"skipped": True}},
        "w2": {"looked": {"look": {"problems": []}}, "read": {"failed": True, "msg": "no such library"}},
        "w3": {"looked": {"unreachable": True, "msg": "timed out"}, "read": {"skipped": True}},
    }
    options = {"hosts": list(hostvars), "looks": "looked", "reports": "read", "rehearsals": "tried"}
    looks, silent = ActionModule._collect({"hostvars": hostvars}, options)
    assert {host: look["problems"] for host, look in looks.items()} == {
        "cp1": ["no key"],
        "cp2": ["full", "The renewal could not be rehearsed."],
        "cp3": [],
        "w1": [],
    }
    assert all(look["node"] == {"facts": {}} for look in looks.values())
    assert silent == {"w2": "no such library", "w3": "did not answer"}
    looks, _silent = ActionModule._collect({"hostvars": hostvars}, dict(options, rehearsals=None))
    assert looks["cp1"]["problems"] == []
