# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restart has to know of the kubelet and of the containers of a static pod, read on the node itself.

crictl is used only where it is installed, and only to describe or remove a container.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from typing import Callable, Iterable, Optional, Set, Tuple

from ..endpoint import http_client
from ..endpoint.discovery import Endpoint
from ..errors import PkiError
from ..fileio import reading
from ..host import processes
from ..host.container_processes import Instance
from ..kubeadm import addresses, kubeconfig, kubelet_settings
from ..kubeadm.layouts import Layout
from ..kubeadm.manifests import Manifest
from . import pod_processes

HEALTHZ = "http://127.0.0.1:10248/healthz"

_UID = re.compile(r"(?:pod|^)([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![0-9a-f])")


class Kubelet:
    """The kubelet's process. pid: int. age: seconds since it started. minor: function that returns 1.<minor>, or None."""

    def __init__(self, pid: int, age: float, minor: Callable[[], Optional[int]]) -> None:
        self.pid, self.age, self.minor = pid, age, minor


class Runtime(pod_processes.PodProcesses):
    """The kubelet and the containers of this node.

    healthz: URL of the kubelet's own health endpoint, or None where it is switched off. kubelet_pods: (URL of the kubelet's list
    of pods, (path of the client certificate, path of its key)), or None where it cannot be asked.
    """

    def __init__(
        self,
        kubelet_dir: str = processes.KUBELET_DIR,
        logs: str = "/var/log/pods",
        node_name: Optional[str] = None,
        healthz: Optional[str] = HEALTHZ,
        seen: Optional[processes.Processes] = None,
        kubelet_pods: Optional[Tuple[str, Tuple[str, str]]] = None,
    ) -> None:
        super().__init__(kubelet_dir, logs, node_name, seen)
        self.kubelet_pods = kubelet_pods
        self.pods_dir = os.path.join(kubelet_dir, "pods")
        self._healthz = healthz
        self._crictl = shutil.which("crictl", path=os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/opt/bin")

    @classmethod
    def of(cls, layout: Layout) -> Runtime:
        """Return the Runtime of the node that a Layout describes."""
        return cls(
            pod_processes.pods_directory(layout),
            node_name=layout.node_name,
            healthz=kubelet_settings.healthz_url(layout),
            kubelet_pods=_kubelet_pods(layout),
        )

    def kubelet(self) -> Kubelet:
        """Return the Kubelet. Raise PkiError, which says why there is none."""
        found = self.processes.kubelet()
        return Kubelet(found.pid, self.processes.uptime() - found.started, self.processes.kubelet_minor)

    def manages_pods(self, kubelet: Kubelet) -> bool:
        """Return whether a young kubelet already manages its pods: it is healthy, and connected to an API server.

        Until its pod list from the API server has arrived it stops no pod whose manifest is removed (pkg/kubelet: deletePod,
        "skipping delete because sources aren't ready yet").
        """
        return kubelet.age > 10 and self._is_healthy() and self._connected(kubelet.pid)

    def _is_healthy(self) -> bool:
        if not self._healthz:
            return True
        try:
            return http_client.http_get(self._healthz, timeout=1.0)[0] == 200
        except PkiError:
            return False

    def _connected(self, pid: int) -> bool:
        """Return whether a process has an established TCP connection that does not end at one of its own ports."""
        sockets = set()
        with contextlib.suppress(OSError):
            for name in os.listdir("%s/%s/fd" % (self.processes.proc, pid)):
                link = self.processes.link(pid, "fd/" + name) or ""
                if link.startswith("socket:["):
                    sockets.add(link[8:-1])
        for table in ("net/tcp", "net/tcp6"):
            for line in self.processes.text(table, pid).splitlines()[1:]:
                fields = line.split()
                local = int(fields[1].rpartition(":")[2], 16)
                if fields[3] == "01" and fields[9] in sockets and local not in (10250, 10248, 10255):
                    return True
        return False

    def ready(self, uid: str) -> Optional[bool]:
        """Return whether the kubelet calls the pod with a UID ready, or None where it cannot be asked.

        Its own list of pods has the state of a static pod without the API, too (pkg/kubelet: GetPods, kubernetes#57106).
        """
        if not self.kubelet_pods:
            return None
        url, pair = self.kubelet_pods
        try:
            answer = http_client.http_request(url, client=pair, timeout=3.0)
            pods = answer.json().get("items") or [] if answer.status == 200 else []
            pod = next((item for item in pods if (item.get("metadata") or {}).get("uid") == uid), None)
            conditions = ((pod or {}).get("status") or {}).get("conditions") or []
            status = next((item.get("status") for item in conditions if item.get("type") == "Ready"), "")
            return {"True": True, "False": False}.get(status)
        except (PkiError, AttributeError, TypeError):
            return None

    def mirror_hash(self, manifest: Manifest, apiserver: Optional[Endpoint], kubernetes_dir: str) -> Optional[str]:
        """Return the UID of the static pod that its mirror pod in the API stands for, read with admin.conf, or None."""
        if apiserver is None:
            return None
        path = os.path.join(kubernetes_dir, "admin.conf")
        try:
            config = kubeconfig.Kubeconfig(reading.read(path), path)
            if not (config.certificate_data and config.key_data):
                return None
            pair = config.certificate_data, config.key_data
            answer = http_client.http_request(
                "https://%s/api/v1/namespaces/%s/pods/%s-%s"
                % (apiserver.address, manifest.namespace, manifest.name, self.node_name),
                client=pair,
            )
            return answer.json()["metadata"]["annotations"]["kubernetes.io/config.mirror"]
        except (PkiError, KeyError, IndexError, TypeError, ValueError):
            return None

    def traces(self, instances: Iterable[Instance]) -> Set[str]:
        """Return the UIDs of all pods of which the kubelet keeps a directory or a control group.

        instances: of the pod in question; they name the directory of its control groups.
        """
        return _uids_in(self.pods_dir) | self.groups(instances)

    @staticmethod
    def groups(instances: Iterable[Instance]) -> Set[str]:
        """Return the UIDs of the pods with a control group beside those of the instances.

        The group is the first thing that a kubelet makes for a pod and the last that it removes (pkg/kubelet: SyncPod,
        SyncTerminatedPod). Empty where the kubelet runs with --cgroups-per-qos=false.
        """
        found: Set[str] = set()
        for directory in {item.cgroups for item in instances if item.cgroups}:
            found |= _uids_in(directory)
        return found

    def remove_sandboxes(self, uid: str) -> bool:
        """Remove what the container runtime keeps of a dead pod, with crictl. Return whether anything was removed."""
        if not self._crictl:
            return False
        try:
            listed = self._run_crictl("pods", "-q", "--label", "io.kubernetes.pod.uid=" + uid)
            sandboxes = listed.split()
            if sandboxes:
                self._run_crictl("rmp", "-f", *sandboxes)
            return bool(sandboxes)
        except (OSError, subprocess.SubprocessError):
            return False

    def _run_crictl(self, *arguments: str) -> str:
        return subprocess.run(
            [self._crictl or "crictl"] + list(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=True,
        ).stdout.decode("utf-8", "replace")

    def container_status(self, manifest: Manifest) -> str:
        """Return a phrase about the pod's newest container (state, exit code, reason; never its log), or "" if unknown."""
        if not self._crictl:
            return ""
        try:
            listed = json.loads(
                self._run_crictl(
                    "ps",
                    "-a",
                    "-o",
                    "json",
                    "--name",
                    "^%s$" % manifest.component,
                    "--label",
                    "io.kubernetes.pod.namespace=" + manifest.namespace,
                )
            )
            newest = max(listed.get("containers") or [], key=lambda item: int(item.get("createdAt") or 0), default=None)
            if newest is None:
                return "no container was made"
            status = json.loads(self._run_crictl("inspect", newest["id"])).get("status") or {}
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, AttributeError):
            return ""
        text = "its container is %s" % str(status.get("state") or "unknown").replace("CONTAINER_", "").lower()
        if status.get("state") == "CONTAINER_EXITED":
            text += " with exit code %s (%s)" % (status.get("exitCode"), status.get("reason") or "no reason")
        return text


def _kubelet_pods(layout: Layout) -> Optional[Tuple[str, Tuple[str, str]]]:
    """Return the parameter kubelet_pods of Runtime: only a control-plane node has that client certificate."""
    pair = layout.paths.get("apiserver-kubelet-client")
    if not pair or not all(pair):
        return None
    return "https://%s/pods" % addresses.join_host_port(*kubelet_settings.serving_address(layout)), pair


def _uids_in(directory: str) -> Set[str]:
    """Return the UIDs in the names of a directory: UID, podUID, kubepods-burstable-podUID.slice (with _ for -)."""
    found: Set[str] = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            match = _UID.search(name.replace("_", "-"))
            if match:
                found.add(match.group(1))
    return found
