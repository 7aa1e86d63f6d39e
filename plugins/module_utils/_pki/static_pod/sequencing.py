# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of a restart: which pod waits for which, and who takes over leadership meanwhile.

All pods restart in parallel, with three exceptions: etcd waits until the kube-apiserver of the node has stopped; a kube-apiserver
comes back to an etcd that answers; pods that are no control-plane components come last. The generators yield while they wait.
"""

from __future__ import annotations

import functools
import time
from typing import Iterator

from ..errors import PkiError
from ..etcd import etcd_members
from ..kube_api import leader_lease
from ..kubeadm.catalogue import STATIC_PODS
from .background_call import BackgroundCall
from .restart_plan import RestartPlan, refuses_connections
from .static_pod import StaticPod

# The kubelet syncs each pod at least this often (syncFrequency of a minute, with up to half of it again as jitter).
_MIRROR_SECONDS = 95

# How long an apiserver that takes no new connections keeps its etcd, to answer the requests it has begun.
_DRAIN_SECONDS = 1.0

# How long releasing the leases may take: they expire soon by themselves (client-go: LeaseDuration).
_RELEASE_SECONDS = 2.0

# How long the API may take to tell who the leader is.
_LEADER_SECONDS = 3.0


class RestartSequence:
    """Lets the pods of a RestartPlan go in the right order."""

    def __init__(self, plan: RestartPlan) -> None:
        self._plan = plan

    def wait_for_turn(self, pod: StaticPod) -> Iterator[None]:
        """Wait until a pod may stop without failing a request in flight. Raises PkiError where a component did not come back."""
        plan = self._plan
        if pod is plan.apiserver:
            while plan.etcd is not None and not plan.etcd.is_decided:
                yield
        if pod.name not in STATIC_PODS:
            yield from self._wait_for_components(pod)
        if pod is plan.etcd:
            yield from self._wait_for_etcds_turn(pod)

    def _wait_for_components(self, pod: StaticPod) -> Iterator[None]:
        # kube-vip, for example, needs the API server of its node.
        components = self._plan.other_components(pod)
        while not all(other.is_finished for other in components):
            yield
        failed = sorted(other.name for other in components if other.failure)
        if failed:
            raise PkiError("was not restarted, because %s did not come back" % " and ".join(failed))

    def _wait_for_etcds_turn(self, etcd: StaticPod) -> Iterator[None]:
        plan = self._plan
        if plan.apiserver is not None:
            yield from self._wait_for_drained_apiserver(plan.apiserver)
        if plan.is_etcd_under_running_apiserver(etcd):
            etcd.warning = (
                "restarted under a running kube-apiserver, whose requests hang meanwhile; restarted together with "
                "kube-apiserver, none would"
            )
            # A kubelet that has to change a mirror pod hangs with these requests; so no other component may restart now. Pods
            # that are no components wait for etcd.
            while not all(other.is_finished for other in plan.other_components(etcd)):
                yield
            if plan.kubelet.serialises_pods:
                yield from self._wait_for_mirror_pod(etcd)

    def _wait_for_drained_apiserver(self, apiserver: StaticPod) -> Iterator[None]:
        plan = self._plan
        while not apiserver.is_decided:
            yield
        while not apiserver.is_finished and not (apiserver.is_out or apiserver.placed):
            yield
        while not apiserver.is_finished and plan.local_apiserver is not None and not refuses_connections(plan.local_apiserver):
            yield
        # It listens no more, but still answers what it has accepted, and needs etcd for that.
        closed = time.monotonic()
        while not apiserver.is_finished and time.monotonic() - closed < _DRAIN_SECONDS and plan.is_old_pod_running(apiserver):
            yield

    def _wait_for_mirror_pod(self, etcd: StaticPod) -> Iterator[None]:
        """Wait until a young etcd's mirror pod is up to date: the kubelet would have to change it while the apiserver hangs.

        After a restart without an apiserver this takes until the kubelet's next sync of the pod, a minute and a half at most.
        """
        plan, longest = self._plan, _MIRROR_SECONDS
        while True:
            main = etcd.main_instance(plan.runtime.instances(etcd.manifest))
            if main is None or plan.runtime.age(main) > longest:
                return
            call = BackgroundCall(lambda: plan.runtime.mirror_hash(etcd.manifest, plan.local_apiserver, plan.kubernetes_dir))
            again = time.monotonic() + 0.5
            while not call.is_done or time.monotonic() < again:
                yield
            if call.value == main.uid:
                return
            # An outdated mirror pod was seen: its update will come.
            longest = _MIRROR_SECONDS if call.value is None else 2 * _MIRROR_SECONDS

    def wait_for_etcd(self, pod: StaticPod) -> Iterator[None]:
        """Wait, where a pod is kube-apiserver, until etcd answers: an apiserver without etcd backs off for far longer."""
        plan = self._plan
        if pod is plan.apiserver and plan.etcd is not None and plan.etcd.action != "reloaded":
            while not plan.etcd.is_finished and plan.new_instance(pod) is None:
                yield

    def move_etcd_leader(self, pod: StaticPod) -> Iterator[None]:
        """Move etcd's leadership to another member, where a pod is the etcd that leads."""
        flags = pod.manifest.flags
        url = (flags.get("--listen-client-urls") or "").split(",")[0]
        if pod is not self._plan.etcd or not url:
            return
        pair = (flags.get("--cert-file"), flags.get("--key-file"))
        call = BackgroundCall(lambda: etcd_members.hand_over(url, flags.get("--trusted-ca-file"), pair if all(pair) else None))
        while not call.is_done:
            yield
        if call.value:
            pod.proof.append("it led etcd; now %s does" % call.value)

    def find_lease(self, pod: StaticPod) -> Iterator[None]:
        """Set the lease that a pod holds as leader: until another instance has it, nothing does the pod's work."""
        if pod.name not in leader_lease.COMPONENTS:
            return
        lease = leader_lease.Lease(pod.name, pod.manifest.flags, self._plan.kubernetes_dir)
        call, deadline = BackgroundCall(lease.look), time.monotonic() + _LEADER_SECONDS
        while not call.is_done and time.monotonic() < deadline:
            yield
        pod.lease = lease if call.value else None

    def release_leases(self) -> None:
        """Release the leases of the pods that led and have ended, as far as the API answers in time.

        Call it when all pods are back: a new leader begins with many requests, and etcd should not change its leader then.
        """
        calls = []
        for pod in self._plan.pods:
            if pod.lease and pod.has_ended:
                calls.append((pod, BackgroundCall(functools.partial(pod.lease.give_up, _RELEASE_SECONDS))))
        deadline = time.monotonic() + _RELEASE_SECONDS
        for pod, call in calls:
            call.wait(max(0.0, deadline - time.monotonic()))
            if call.value:
                pod.proof.append("it led; its lease was given up when it had ended")
