# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the clients of a watch may have seen during a job."""

from __future__ import annotations

from tests.lab.binaries import minor
from tests.lab.client import CLOSED
from tests.lab.lab import Lab

#: Clients that must not see one failed request, whatever is renewed or restarted.
STRICT = ("balancer", "balancer-kept", "balancer-reread", "balancer-reread-kept", "pod", "pod-kept", "etcd")


def assert_unnoticed(lab: Lab, counts: dict, rolls: int = 0, etcd_rolls: int = 0) -> None:
    """No client that must not notice anything has noticed anything, and each of them did ask.

    Two things no order of steps can keep from clients, in a job that restarts what it has to:
    rolls: how often all apiservers were stopped, one after the other. A connection that is being made in the moment its apiserver
    stops is closed; no balancer can mend that. It is rare (docs/rotation.md): one in a roll may happen, more is a defect.
    etcd_rolls: the same of etcd's members. Each moves the leadership once, or twice where the first node led. An apiserver before
    1.23 passes the read that this catches on to the client (kubernetes#105069), who can do nothing else; a newer one asks again.
    """
    leader_changes = 2 * etcd_rolls if minor(lab.version) < 23 else 0
    failures = []
    for name in [*STRICT, *({"aggregated"} & counts.keys())]:
        assert counts[name]["requests"] > 20, (name, counts[name])
        assert counts[name]["failures"] == len(counts[name]["first_failures"]), counts[name]
        failures += [(name, failure["error"]) for failure in counts[name]["first_failures"]]
    etcd = [item for item in failures if item[0] == "etcd"]
    changes = [item for item in failures if "etcdserver: leader changed" in item[1]]
    resets = [item for item in failures if item[1].startswith(CLOSED)]
    assert len(changes) <= leader_changes and len(resets) <= rolls, failures
    assert [item for item in failures if item not in changes + resets] == etcd == [], failures
