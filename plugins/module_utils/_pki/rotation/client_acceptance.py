# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which client certificates the components of a node accept: connects with a client of each CA."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

from ..endpoint import discovery, http_client, parallel
from ..errors import PkiError
from ..fileio import atomic, reading
from ..kubeadm.layouts import Layout
from ..x509.x509_read import now, parse_certificate
from . import local_ca, probe_client

COMPONENTS = ("apiserver", "etcd-server", "kubelet")

_AUTHENTICATING_ENDPOINTS = {"ca": ("apiserver", "kubelet"), "front-proxy-ca": ("apiserver",), "etcd-ca": ("etcd-server",)}


def prove(
    layout: Layout,
    names: Sequence[str],
    accepted: bool,
    state_dir: str = atomic.STATE_DIR,
    components: Sequence[str] = COMPONENTS,
    timeout: float = 5.0,
) -> List[Dict[str, Any]]:
    """Connect to the components of this node with a client of each CA. Return [{"authority", "endpoint", "seen", "right"}].

    accepted: True to use a client of the staged new CA (or of the CA that signs), which has to be accepted; False to use that of
    the old CA, which has to be rejected. components: of COMPONENTS. timeout: seconds. right: whether that is what was seen.
    """
    calls: Dict[Tuple[str, str], Callable[[], int]] = {}
    found = []
    endpoints = {endpoint.name: endpoint for endpoint in discovery.endpoints(layout) if endpoint.secure}
    for name, local in local_ca.local_cas(layout, [name for name in names if name != "sa"]).items():
        if accepted:
            signer = local.next or local.current
            pair = probe_client.build(layout, name, signer) if signer else None
        else:
            data = reading.read_if_exists(probe_client.path_of(state_dir, name))
            # An expired one would be rejected by a component that still trusts its CA, too.
            pair = (data, data) if data and parse_certificate(data).not_after > now() else None
        for target in _AUTHENTICATING_ENDPOINTS[name]:
            if pair and target in endpoints and target in components:
                calls[(name, target)] = _request(endpoints[target], pair, name, timeout)
    for (name, target), seen in sorted(parallel.run_parallel(calls).items()):
        is_accepted = not isinstance(seen, PkiError) and seen != 401
        found.append(
            {
                "authority": name,
                "endpoint": target,
                "seen": str(seen.message if isinstance(seen, PkiError) else seen),
                "right": is_accepted == accepted and not _is_unreachable(seen),
            }
        )
    return found


def _is_unreachable(seen: Union[int, PkiError]) -> bool:
    # A component that did not respond has rejected nothing.
    return isinstance(seen, PkiError) and any(word in seen.message for word in ("connection refused", "no answer", "no route"))


def _request(endpoint: discovery.Endpoint, pair: Tuple[bytes, bytes], name: str, timeout: float) -> Callable[[], int]:
    headers = {"X-Remote-User": probe_client.USER} if name == "front-proxy-ca" else None
    # The kubelet answers an unknown path with 404 before it authenticates the client.
    path = {"etcd-server": "/version", "kubelet": "/pods"}.get(endpoint.name, "/api")
    url = "https://%s%s" % (endpoint.address, path)
    return lambda: http_client.http_request(url, client=pair, timeout=timeout, headers=headers).status


# A component that reloads its files does so within a minute (kube-apiserver 1.20).
RELOAD_SECONDS = 75


def wait_until_proven(
    layout: Layout, names: Sequence[str], accepted: bool, state_dir: str, components: Sequence[str]
) -> List[Dict[str, Any]]:
    """Wait until the components of this node accept or reject the clients of the CAs as expected. Return what prove() returns.

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
