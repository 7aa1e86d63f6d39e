# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is let in: asks the components of a node with a client of each authority."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Sequence

from ..endpoint import discovery, http_client, parallel
from ..errors import PkiError
from ..fileio import atomic, reading
from ..kubeadm import layouts
from ..x509.x509_read import now, parse_certificate
from . import ca_store

COMPONENTS = ("apiserver", "etcd-server", "kubelet")

_AUTHENTICATING_ENDPOINTS = {"ca": ("apiserver", "kubelet"), "front-proxy-ca": ("apiserver",), "etcd-ca": ("etcd-server",)}


def prove(layout, names, accepted, state_dir=atomic.STATE_DIR, components=COMPONENTS, timeout=5.0):
    """Ask the components of this node with a client of each authority. Gives [{"authority", "endpoint", "seen", "right"}].

    accepted: True to show a client of the staged successor (or of the authority that signs), which has to be let in; False to
    show that of the dropped authority, which has to be refused. components: of COMPONENTS, those to ask. right: whether that is
    what was seen.
    """
    calls, found = {}, []
    endpoints = {endpoint.name: endpoint for endpoint in discovery.endpoints(layout) if endpoint.secure}
    for name, held in ca_store.local_cas(layout, [name for name in names if name != "sa"]).items():
        if accepted:
            signer = held.next or held.current
            pair = ca_store.probe_client(layout, name, signer) if signer else None
        else:
            data = reading.read_if_exists(ca_store.probe_path(state_dir, name))
            # One that has ended would be refused by whoever trusts its authority still.
            pair = (data, data) if data and parse_certificate(data).not_after > now() else None
        for target in _AUTHENTICATING_ENDPOINTS[name]:
            if pair and target in endpoints and target in components:
                calls[(name, target)] = _question(endpoints[target], pair, name, timeout)
    for (name, target), seen in sorted(parallel.run_parallel(calls).items()):
        let_in = not isinstance(seen, PkiError) and seen != 401
        found.append(
            {
                "authority": name,
                "endpoint": target,
                "seen": str(seen.message if isinstance(seen, PkiError) else seen),
                "right": let_in == accepted and not _silent(seen),
            }
        )
    return found


def _silent(seen):
    # Who does not answer has refused nobody.
    return isinstance(seen, PkiError) and any(word in seen.message for word in ("connection refused", "no answer", "no route"))


def _question(endpoint, pair, name, timeout):
    headers = {"X-Remote-User": ca_store.PROBE} if name == "front-proxy-ca" else None
    # The kubelet answers what it does not know with 404 before it looks who asks.
    path = {"etcd-server": "/version", "kubelet": "/pods"}.get(endpoint.name, "/api")
    url = "https://%s%s" % (endpoint.address, path)
    return lambda: http_client.http_request(url, client=pair, timeout=timeout, headers=headers).status


# What reloads its files by itself does so within a minute (kube-apiserver 1.20).
RELOAD_SECONDS = 75


def wait_until_proven(
    layout: layouts.Layout, names: Sequence[str], accepted: bool, state_dir: str, components: Sequence[str]
) -> List[Dict[str, Any]]:
    """Wait until the components of this node answer the clients of the CAs as expected, and return what prove() returns.

    Raise PkiError with the first component that does not within RELOAD_SECONDS.
    """
    deadline = time.monotonic() + RELOAD_SECONDS
    while True:
        found = prove(layout, names, accepted, state_dir, components)
        wrong = [item for item in found if not item["right"]]
        if not wrong:
            return found
        if time.monotonic() > deadline:
            seen, expected = ("rejected", "accepted") if accepted else ("accepted", "rejected")
            raise PkiError(
                "a client of %s is %s (%s), and has to be %s" % (wrong[0]["authority"], seen, wrong[0]["seen"], expected),
                path=wrong[0]["endpoint"],
                fix="Restart that component (playbook restart_static_pods), then run again.",
            )
        time.sleep(1)
