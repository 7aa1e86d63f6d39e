# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The static pods that one run restarts, and what all its steps share."""

from __future__ import annotations

import errno
import socket
from typing import List, Optional

from ..endpoint.discovery import Endpoint
from ..host.processes import Instance
from ..kubeadm.catalogue import STATIC_PODS
from ..node.containers import Runtime
from .kubelet_behaviour import KubeletBehaviour
from .static_pod import StaticPod


class RestartPlan:
    """The pods of one run. local_apiserver: Endpoint of this node's kube-apiserver, or None. timeout: seconds for each pod.

    kubernetes_dir: where admin.conf is. apiserver, etcd: those two among the pods, or None.
    """

    def __init__(
        self,
        pods: List[StaticPod],
        runtime: Runtime,
        kubelet: KubeletBehaviour,
        local_apiserver: Optional[Endpoint],
        kubernetes_dir: str,
        timeout: float,
    ) -> None:
        # kube-apiserver first: it needs its whole grace period, and etcd waits until it has stopped listening.
        self.pods = sorted(pods, key=lambda pod: pod.name != "kube-apiserver")
        self.runtime, self.kubelet, self.timeout = runtime, kubelet, timeout
        self.local_apiserver, self.kubernetes_dir = local_apiserver, kubernetes_dir
        self.apiserver = next((pod for pod in self.pods if pod.name == "kube-apiserver"), None)
        self.etcd = next((pod for pod in self.pods if pod.name == "etcd"), None)

    def other_components(self, pod: StaticPod) -> List[StaticPod]:
        """Return the other pods that are control-plane components."""
        return [other for other in self.pods if other is not pod and other.name in STATIC_PODS]

    def is_old_pod_running(self, pod: StaticPod) -> bool:
        """Return whether any container that ran before the restart still runs."""
        return any(self.runtime.alive(instance) for instance in pod.old_instances)

    def new_instance(self, pod: StaticPod) -> Optional[Instance]:
        """Return the Instance of the pod's main container that was started after the restart, or None."""
        old = {instance.pid for instance in pod.old_instances}
        return pod.main_instance([item for item in self.runtime.instances(pod.manifest) if item.pid not in old])

    def is_etcd_under_running_apiserver(self, pod: StaticPod) -> bool:
        """Return whether a pod is etcd, and the kube-apiserver of this node goes on running while it restarts."""
        if pod is not self.etcd or self.local_apiserver is None:
            return False
        return (self.apiserver is None or self.apiserver.is_finished) and not refuses_connections(self.local_apiserver)


def refuses_connections(endpoint: Endpoint) -> bool:
    """Return whether nothing listens at an Endpoint."""
    try:
        socket.create_connection((endpoint.host, endpoint.port), 0.2).close()
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return False
