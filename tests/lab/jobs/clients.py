# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the clients of a watch may have seen during a job."""

from __future__ import annotations

#: Clients that must not see one failed request, whatever is renewed or restarted.
STRICT = ("balancer", "balancer-kept", "balancer-reread", "balancer-reread-kept", "pod", "pod-kept", "etcd")


_RESET = ("Connection reset by peer", "EOF occurred in violation of protocol", "Remote end closed connection")


def assert_unnoticed(counts: dict, leader_changes: int = 0, rolls: int = 0) -> None:
    """No client that must not notice anything has noticed anything, and each of them did ask.

    Two things no order of steps can keep from clients, in a job that restarts what it has to:
    leader_changes: how often etcd's leadership moved. An apiserver before 1.23 passes the read that it catches on to the client
    (kubernetes#105069), who can be told nothing else: one request of one client each.
    rolls: how often all apiservers were stopped, one after the other. A connection that is being made in the moment its apiserver
    stops is closed; no balancer can mend that. It is rare (docs/rotation.md): one in a roll may happen, more is a defect.
    """
    failures = []
    for name in STRICT:
        assert counts[name]["requests"] > 20, (name, counts[name])
        assert counts[name]["failures"] == len(counts[name]["first_failures"]), counts[name]
        failures += [(name, failure["error"]) for failure in counts[name]["first_failures"]]
    etcd = [item for item in failures if item[0] == "etcd"]
    changes = [item for item in failures if "etcdserver: leader changed" in item[1]]
    resets = [item for item in failures if any(text in item[1] for text in _RESET)]
    assert len(changes) <= leader_changes and len(resets) <= rolls, failures
    assert [item for item in failures if item not in changes + resets] == etcd == [], failures
