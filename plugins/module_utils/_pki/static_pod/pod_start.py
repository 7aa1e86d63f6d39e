# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for the new instance of a static pod, and prove that it is healthy. The generators yield while they wait.

A kubelet from 1.22 on rejects a static pod whose previous one it has not finished, and tries again after 10 to 15 s; but it tries
a pod with another UID at once. So a manifest that was placed too early is placed again, with another annotation.
"""

from __future__ import annotations

import time
from typing import Generator, Iterator, Optional, Set, Tuple

from ..endpoint import health_checks
from ..endpoint.discovery import Endpoint
from ..errors import PkiError
from ..fileio import reading
from ..host.processes import Instance
from .background_call import BackgroundCall
from .manifest_mover import ManifestMover
from .restart_plan import RestartPlan
from .static_pod import StaticPod

# How often a manifest is placed, and how long the kubelet gets to begin with the first one (seconds; longer each time).
_MOST_PLACEMENTS, _FIRST_PATIENCE = 4, 0.4


class PodStart:
    """Watches the new instances of the pods of a RestartPlan. mover: places a manifest again."""

    def __init__(self, plan: RestartPlan, mover: ManifestMover) -> None:
        self._plan, self._mover = plan, mover

    def wait_for_instance(self, pod: StaticPod, known: Set[str], began: float) -> Generator[None, None, Instance]:
        """Wait for the new main container; place the manifest again where the kubelet rejected the pod. Return the Instance.

        known: UIDs that the node already knew. began: time.monotonic() of the restart. Raises PkiError after the timeout.
        """
        placed_at, patience = time.monotonic(), _FIRST_PATIENCE
        while True:
            new = self._plan.new_instance(pod)
            if new is not None:
                pod.record_event("%s runs (pid %d)" % (new.identity, new.pid))
                if pod.placements > 1:
                    pod.record_event("the kubelet had turned it away %d times" % (pod.placements - 1))
                return new
            now = time.monotonic()
            if now - began > self._plan.timeout:
                raise PkiError(
                    "has no new container %d s after its manifest was put back%s" % (now - placed_at, self._container_status(pod))
                )
            is_late = now - placed_at > patience and pod.placements < _MOST_PLACEMENTS and self._plan.kubelet.serialises_pods
            if is_late and _is_ours(pod) and not self._has_begun(pod, known):
                self._mover.place(pod)
                placed_at, patience = time.monotonic(), patience * 1.6
            yield

    def _has_begun(self, pod: StaticPod, known: Set[str]) -> bool:
        """Return whether the kubelet has begun to start a pod. What may be another pod's beginning counts, too."""
        runtime, others = self._plan.runtime, set()
        for other in self._plan.pods:
            if other is not pod:
                others |= runtime.uids(other.manifest)
        return bool((runtime.traces(pod.old_instances) | runtime.uids(pod.manifest)) - known - others)

    def _container_status(self, pod: StaticPod) -> str:
        status = self._plan.runtime.container_status(pod.manifest)
        return " (%s)" % status if status else ""

    def wait_until_healthy(self, pod: StaticPod, new: Instance, began: float) -> Iterator[None]:
        """Wait until a component is healthy and still is the container that was seen. Raises PkiError after the timeout."""
        runtime, endpoint = self._plan.runtime, pod.health_endpoint
        since, seen = time.monotonic(), "no answer in time"
        while True:
            if endpoint is None:
                proof, seen = yield from self._check_readiness(new, since, began)
            else:
                proof, answer = yield from self._check_health(endpoint, began)
                seen = answer or seen
            if proof and runtime.alive(new):
                pod.record_event(proof)
                return
            if endpoint is None:
                again = time.monotonic() + 0.3
                while time.monotonic() < again:
                    yield
            if not runtime.alive(new):
                successor = pod.main_instance([item for item in runtime.instances(pod.manifest) if item.pid != new.pid])
                new, since = successor or new, time.monotonic()
                pod.container_after = new.identity
            if time.monotonic() - began > self._plan.timeout:
                raise PkiError(
                    "is not healthy %d s after it was begun: %s%s%s"
                    % (
                        self._plan.timeout,
                        "%s says %s" % (endpoint.health, seen) if endpoint else seen,
                        "" if runtime.alive(new) else ", and its container has ended",
                        self._container_status(pod),
                    )
                )
            yield

    def _check_readiness(self, new: Instance, since: float, began: float) -> Generator[None, None, Tuple[Optional[str], str]]:
        """Return (proof or None, what was seen) of a pod without a health endpoint, from the kubelet's list of pods."""
        call = BackgroundCall(lambda: self._plan.runtime.ready(new.uid))
        yield from self._wait_for(call, began)
        if not call.is_done:
            return None, "the kubelet does not respond"
        if call.value is False:
            return None, "the kubelet says that it is not ready"
        if time.monotonic() - since <= 1:
            return None, "its process does not stay"
        if call.value:
            return "the kubelet calls it ready", "its process does not stay"
        # All that can be seen where the kubelet cannot be asked either is a container that lives for a second.
        return "it has no health endpoint to ask, and its process lives", "its process does not stay"

    def _check_health(self, endpoint: Endpoint, began: float) -> Generator[None, None, Tuple[Optional[str], Optional[str]]]:
        """Return (proof or None, the answer or None where none came in time) of one request to a health endpoint."""
        call = BackgroundCall(lambda: health_checks.health(endpoint, timeout=2.0))
        yield from self._wait_for(call, began)
        if not call.is_done:
            return None, None
        if call.error is not None:
            return None, call.error.message
        healthy, seen = call.value
        return ("%s answers %s" % (endpoint.health, seen) if healthy else None), seen

    def _wait_for(self, call: BackgroundCall, began: float) -> Iterator[None]:
        while not call.is_done and time.monotonic() - began <= self._plan.timeout:
            yield

    def wait_until_serving(self, pod: StaticPod, began: float) -> Iterator[None]:
        """Wait until every certificate that a pod serves is the one on disk. Raises PkiError after the timeout."""
        for endpoint in pod.serving_endpoints:
            digest = health_checks.file_sha256(endpoint.path)
            if digest is None:
                pod.record_event("%s holds no certificate to compare with" % endpoint.path)
                continue
            call = wait_until_served(endpoint, digest, max(1.0, self._plan.timeout - (time.monotonic() - began)))
            while not call.is_done:
                yield
            if call.error is not None or not call.value[0]:
                raise PkiError("runs, but %s does not serve the certificate of %s" % (endpoint.address, endpoint.path))
            pod.record_event("%s serves %s" % (endpoint.address, endpoint.path))


def wait_until_served(endpoint: Endpoint, digest: Optional[str], seconds: float) -> BackgroundCall:
    """Return the BackgroundCall of health_checks.wait_digest(), for at most so many seconds."""
    return BackgroundCall(lambda: health_checks.wait_digest(endpoint, digest, seconds, 0.05))


def _is_ours(pod: StaticPod) -> bool:
    return pod.placed not in (None, pod.data) and reading.read_if_exists(pod.path) == pod.placed
