# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until the old instance of a static pod has ended and the kubelet has cleaned up. The generators yield while they wait."""

from __future__ import annotations

import time
from typing import Generator, Iterator, Set

from ..errors import PkiError
from .restart_plan import RestartPlan, refuses_connections
from .static_pod import StaticPod

# Beside its own grace period, the time that the kubelet gets to notice and to stop a pod.
_SHORTEST_STOP = 30

# Housekeeping comes every two seconds. Waiting longer is not worth it: a pod that the kubelet rejects is placed again.
_CLEANUP_SECONDS = 5


class PodStop:
    """Watches the old instances of the pods of a RestartPlan."""

    def __init__(self, plan: RestartPlan) -> None:
        self._plan = plan

    def wait_until_stopping(self, pod: StaticPod) -> Iterator[None]:
        """Wait until the kubelet has begun to stop a pod: its listener closes, or its process is gone. Raises PkiError."""
        endpoint = pod.health_endpoint
        while self._plan.is_old_pod_running(pod):
            if endpoint is not None and pod.was_listening and refuses_connections(endpoint):
                pod.record_event("nothing listens at %s" % endpoint.address)
                return
            self._check_time(pod)
            yield

    def wait_until_ended(self, pod: StaticPod) -> Generator[None, None, float]:
        """Wait until the old containers have ended. Return when that was, or when kube-apiserver's listener closed.

        The moment is of time.monotonic(). Raises PkiError.
        """
        closed = None
        endpoint = pod.health_endpoint
        while self._plan.is_old_pod_running(pod):
            if closed is None and pod.name == "kube-apiserver" and endpoint is not None and refuses_connections(endpoint):
                closed = time.monotonic()
            self._check_time(pod)
            yield
        pod.record_event("%s has ended" % (pod.container_before or "no container of it ran, or it"))
        return closed or time.monotonic()

    def _check_time(self, pod: StaticPod) -> None:
        """Raise PkiError when a pod has had the time to end."""
        seconds = pod.grace_seconds + max(_SHORTEST_STOP, self._plan.timeout - pod.grace_seconds)
        if time.monotonic() > pod.moved_at + seconds:
            raise PkiError("did not end within %d s of its manifest being moved out; the kubelet has not stopped it" % seconds)

    def wait_until_finished(self, pod: StaticPod, uids: Set[str]) -> Iterator[None]:
        """Wait until the kubelet has removed the control groups of a pod, which it does last (pkg/kubelet: SyncTerminatedPod)."""
        deadline = time.monotonic() + _CLEANUP_SECONDS
        # A housekeeping between the end and this look has started the pod again, under the same UID.
        while (
            self._plan.runtime.groups(pod.old_instances) & uids
            and time.monotonic() < deadline
            and self._plan.new_instance(pod) is None
        ):
            yield
        pod.record_event("the kubelet has finished with it")
        # What it does after that is a few lines of code.
        deadline = time.monotonic() + 0.08
        while time.monotonic() < deadline:
            yield

    def wait_until_cleaned_up(self, pod: StaticPod, uids: Set[str]) -> Iterator[None]:
        """Wait until the kubelet has removed directories and control groups of a pod, as far as they can be seen."""
        deadline = time.monotonic() + _CLEANUP_SECONDS
        while self._plan.runtime.traces(pod.old_instances) & uids and time.monotonic() < deadline:
            yield
        pod.record_event("the kubelet has cleaned up")
