# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart the kubelet and the static pods of one node of a failed cluster, and wait for them.

Measured on 1.20: a kubelet whose certificate has expired exits at once, so its credential is renewed
first; a kubelet that reached no API since its start stops no static pod whose manifest is removed, so manifests stay
and the processes are stopped instead; and a stopped kubelet does not start them in between, whatever their back-off.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Iterable, List

from ..endpoint import health_checks, parallel, pod_endpoints, tls_handshake
from ..errors import PkiError
from ..fileio import atomic, journals, reading
from ..kube_api import kubelet_client
from ..kubeadm import kubeconfig, layouts, manifests
from ..kubelet import kubelet_service
from ..node import file_users
from ..node.containers import Runtime
from . import recovery_journal

# They serve no clients any more: their own grace periods (30 s for an apiserver with watchers) are not needed.
_GRACE_SECONDS = 10.0

_KILL_SECONDS = 10.0

# How long a component that should run may have no process before its crash back-off is cut short by a restart of the kubelet.
_BACKOFF_SECONDS = 8.0

_FIX_POD = "See the container's log in /var/log/pods and `journalctl -u kubelet`, correct the cause, and run the playbook again."


def start(
    layout: layouts.Layout,
    components: Iterable[str] | None = None,
    timeout: float = 120.0,
    state_dir: str = atomic.STATE_DIR,
    service: kubelet_service.Service | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Stop the static pods' processes with the kubelet stopped, then start it. Return {"kubelet", "ended", "since"}.

    kubelet: what was seen of it. ended: the components that ran. since: seconds since 1970 when it was started, 0 when not.
    components: of this node; None for those that recovery_journal has. The kubelet, which begins without any back-off, starts
    them again from their unchanged manifests. Proven is the kubelet alone: its process and its healthz. timeout:
    seconds for that. Raise PkiError; the kubelet is then started all the same.
    """
    service, runtime = service or kubelet_service.Service(), runtime or Runtime.of(layout)
    if components is None:
        components = (recovery_journal.load(state_dir) or {}).get("restart", [])
    pods = [layout.parsed[name] for name in components if name in layout.parsed]
    # Other pods that mount a file which was replaced: a container that is started again mounts the new one.
    pods += [
        user.manifest
        for user in file_users.users(layout)
        if user.manifest not in pods and file_users.stale(layout, user, runtime)
    ]
    pending = journals.Journal(journals.KUBELET_RESTART, state_dir)
    if not pods and pending.load() is None and service.state()["active"] == "active":
        return {"kubelet": {}, "ended": [], "since": 0.0}
    if pending.load() is None:
        pending.save({"files": []})
    old = service.state()["pid"]
    try:
        service.stop(timeout)
        ended = end(pods, runtime)
    finally:
        proof = kubelet_service.Proof(layout, service, None, old)
        service.restart(timeout)
    seen = proof.wait(timeout)
    pending.clear()
    recovery_journal.started(state_dir)
    return {"kubelet": seen, "ended": ended, "since": proof.since}


def end(pods: Iterable[manifests.Manifest], runtime: Runtime, grace: float = _GRACE_SECONDS) -> List[str]:
    """Stop the processes of static pods, the apiserver's first. Return the components that ran. Raise PkiError when one stays.

    grace: seconds until a process is killed.
    """
    # etcd under a running apiserver would let requests hang, and with them their clients.
    order = sorted(pods, key=lambda pod: (pod.component != "kube-apiserver", pod.component == "etcd"))
    found = [(pod.component, instance) for pod in order for instance in runtime.instances(pod)]
    for _component, instance in found:
        _signal(instance, signal.SIGTERM)
    deadline = time.monotonic() + grace
    killed = False
    while True:
        living = [(component, instance) for component, instance in found if runtime.alive(instance)]
        if not living:
            return sorted({component for component, _instance in found})
        if time.monotonic() > deadline:
            if killed:
                raise PkiError(
                    "the process %d of %s cannot be ended, not even with SIGKILL" % (living[0][1].pid, living[0][0]),
                    fix="See `ps -o pid,stat,wchan`; a node whose disk hangs needs a reboot.",
                )
            killed = True
            deadline = time.monotonic() + _KILL_SECONDS
            for _component, instance in living:
                _signal(instance, signal.SIGKILL)
        time.sleep(0.05)


def _signal(instance: Any, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(instance.pid, number)


def wait_well(
    layout: layouts.Layout,
    components: Iterable[str],
    timeout: float = 180.0,
    service: kubelet_service.Service | None = None,
    runtime: Runtime | None = None,
) -> List[dict[str, Any]]:
    """Wait until components are healthy and serve what is on disk. Return [{"name", "seconds"}]. Raise PkiError.

    components: static pods of this node; those it does not have are passed over. timeout: seconds for all of them together. One
    that has no process for some seconds waits in the kubelet's crash back-off: then the kubelet is restarted, once.
    """
    service, runtime = service or kubelet_service.Service(), runtime or Runtime.of(layout)
    endpoints = pod_endpoints.node_endpoints(list(layout.parsed.values()), layout.kubernetes_dir)
    began = time.monotonic()
    waiting = {name: layout.parsed[name] for name in components if name in layout.parsed}
    done: List[dict[str, Any]] = []
    lifeless: dict[str, float] = {}
    again = False
    while waiting:
        seen = parallel.run_parallel({name: lambda name=name: _well(endpoints.get(name, [])) for name in waiting})
        for name, trouble in sorted(seen.items()):
            if trouble is None:
                done.append({"name": name, "seconds": round(time.monotonic() - began, 2)})
                del waiting[name]
        now = time.monotonic()
        for name, manifest in waiting.items():
            if runtime.instances(manifest):
                lifeless.pop(name, None)
            else:
                lifeless.setdefault(name, now)
        if now - began > timeout:
            wrong = [
                "%s is not well: %s%s" % (name, _trouble(seen[name]), _words(runtime, waiting[name])) for name in sorted(waiting)
            ]
            raise PkiError(
                "%d s after the kubelet was started, %s" % (timeout, "; ".join(wrong)), path=layout.manifest_dir, fix=_FIX_POD
            )
        if not again and any(now - since > _BACKOFF_SECONDS for name, since in lifeless.items() if name in waiting):
            again = True
            proof = kubelet_service.Proof(layout, service, None, service.state()["pid"])
            service.restart(timeout)
            proof.wait(timeout)
            lifeless.clear()
        time.sleep(0.2)
    return done


def _trouble(seen: Any) -> str:
    return seen.message if isinstance(seen, PkiError) else str(seen)


def _words(runtime: Runtime, manifest: manifests.Manifest) -> str:
    words = runtime.container_status(manifest)
    return " (%s)" % words if words else ""


def _well(endpoints: Iterable[Any]) -> str | None:
    """Return what is wrong with a component, or None."""
    for endpoint in endpoints:
        if endpoint.health:
            healthy, seen = health_checks.health(endpoint, timeout=3.0)
            if not healthy:
                return "%s says %s" % (endpoint.health, seen)
    for endpoint in endpoints:
        digest = health_checks.file_sha256(endpoint.path) if endpoint.path else None
        if digest is not None:
            shown = tls_handshake.served_certificate(endpoint.host, endpoint.port, client=endpoint.client)
            if shown.sha256 != digest:
                return "%s does not serve the certificate of %s" % (endpoint.address, endpoint.path)
    return None


def wait_ready(layout: layouts.Layout, nodes: dict[str, float], timeout: float = 180.0) -> dict[str, float]:
    """Wait until Nodes are Ready, each with a lease that its kubelet renewed since this began. Return {name: seconds}.

    Asked with this node's admin.conf. nodes: {name: since when (seconds since 1970) its condition has to have been reported, 0
    where its kubelet was not restarted}. timeout: seconds. Raise PkiError: which are not, and why.
    """
    config = kubeconfig.Kubeconfig(reading.read(layout.paths["admin.conf"][0]), layout.paths["admin.conf"][0])
    api = kubelet_client.KubeletApi.of(config)
    began, since = time.monotonic(), time.time()
    waiting = dict.fromkeys(nodes, "has not been asked for yet")
    ready: dict[str, float] = {}
    while True:
        answers = parallel.run_parallel(
            {name: lambda name=name: kubelet_client.node_state(api, name, since, nodes[name]) for name in waiting}
        )
        for name, answer in answers.items():
            trouble = answer.message if isinstance(answer, PkiError) else answer[0]
            if trouble is None:
                ready[name] = round(time.monotonic() - began, 2)
                del waiting[name]
            else:
                waiting[name] = trouble
        if not waiting:
            return ready
        if time.monotonic() - began > timeout:
            raise PkiError(
                "after %d s: %s" % (timeout, "; ".join("%s: %s" % item for item in sorted(waiting.items()))),
                path=api.server,
                fix="See `journalctl -u kubelet` on these nodes, and run the playbook again.",
            )
        time.sleep(0.3)
