# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the clients of a watch may have seen during a job."""

from __future__ import annotations

#: Clients that must not see one failed request, whatever is renewed or restarted.
STRICT = ("balancer", "balancer-kept", "balancer-reread", "balancer-reread-kept", "pod", "pod-kept", "etcd")


def assert_unnoticed(counts: dict, leader_changes: int = 0) -> None:
    """No client that must not notice anything has noticed anything, and each of them did ask.

    leader_changes: how often etcd's leadership moved, in a job that restarts etcd. An apiserver before 1.23 passes the read that
    it catches on to the client (kubernetes#105069), who can be told nothing else: one request of one client each.
    """
    failures = []
    for name in STRICT:
        assert counts[name]["requests"] > 20, (name, counts[name])
        assert counts[name]["failures"] == len(counts[name]["first_failures"]), counts[name]
        failures += [(name, failure["error"]) for failure in counts[name]["first_failures"]]
    assert [item for item in failures if "etcdserver: leader changed" not in item[1]] == []
    assert len(failures) <= leader_changes, failures
