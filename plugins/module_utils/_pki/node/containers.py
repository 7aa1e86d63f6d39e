# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this node really runs, seen without asking the kubelet: its processes, /var/log/pods and the kubelet's directory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess

from ..endpoint import http_client
from ..errors import PkiError
from ..fileio import reading
from ..host import processes
from ..kubeadm import addresses, kubeconfig, kubelet_settings

HEALTHZ = "http://127.0.0.1:10248/healthz"

_DELETED = "//deleted"

_UID = re.compile(r"(?:pod|^)([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![0-9a-f])")


class Kubelet:
    """The kubelet's process. pid: int. age: seconds since it was started. minor: function that gives 1.<minor>, or None."""

    def __init__(self, pid, age, minor):
        self.pid, self.age, self.minor = pid, age, minor


class Runtime:
    """What this node really runs, from its processes, /var/log/pods and the kubelet's directory; crictl only where it is there.

    A container is found without any runtime's client (see processes.py), and the kubelet names
    /var/log/pods/NAMESPACE_NAME-NODE_UID after its pod.
    """

    def __init__(
        self,
        kubelet_dir=processes.KUBELET_DIR,
        logs="/var/log/pods",
        node_name=None,
        healthz=HEALTHZ,
        seen=None,
        kubelet_pods=None,
    ):
        """Take where the kubelet keeps its pods, and their logs. node_name: the node's in the API, when not its host's.

        healthz: URL of the kubelet's own health endpoint, or None where it is switched off. seen: the processes.Processes to
        look at, by default those of this node. kubelet_pods: (URL of the kubelet's list of pods, (path of the client certificate,
        path of its key)), or None where it cannot be asked.
        """
        self.kubelet_pods = kubelet_pods
        self.kubelet_dir, self.pods_dir = kubelet_dir, os.path.join(kubelet_dir, "pods")
        self.logs, self._healthz = logs, healthz
        self._node_name = node_name or os.uname().nodename.lower()
        self.processes = seen or processes.Processes()
        self._crictl = shutil.which("crictl", path=os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/opt/bin")

    @classmethod
    def of(cls, layout):
        """Give the Runtime of the node that a layouts.Layout describes."""
        told = layout.kubelet["flags"].get("--root-dir")
        directory = layout.at(told) if told else layout.kubelet_dir
        return cls(
            directory,
            node_name=layout.node_name,
            healthz=kubelet_settings.healthz_url(layout),
            kubelet_pods=_kubelet_pods(layout),
        )

    def kubelet(self):
        """Return the Kubelet. Raise PkiError, which says why there is none."""
        found = self.processes.kubelet()
        return Kubelet(found.pid, self.processes.uptime() - found.started, self.processes.kubelet_minor)

    def settled(self, kubelet):
        """Tell whether a young kubelet already manages its pods: it is well, and it speaks with an apiserver.

        Until its pod list from the apiserver has arrived it stops no pod whose manifest goes away (pkg/kubelet: deletePod,
        "skipping delete because sources aren't ready yet").
        """
        return kubelet.age > 10 and self._kubelet_well() and self._connected(kubelet.pid)

    def _kubelet_well(self):
        if not self._healthz:
            return True
        try:
            return http_client.http_get(self._healthz, timeout=1.0)[0] == 200
        except PkiError:
            return False

    def _connected(self, pid):
        """Whether a process has an established TCP connection that does not end at one of its own ports."""
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

    def instances(self, manifest):
        """Give the [Instance] of a static pod (a manifests.Manifest), one for each container, the oldest process of each."""
        uids, logged = self.uids(manifest), os.path.isdir(self.logs)
        metadata = manifest.data.get("metadata")
        own = metadata.get("uid") if isinstance(metadata, dict) else None
        found = {}
        for instance in self.processes.instances(self.kubelet_dir):
            # A pod of the API may have a static pod's name, and a container of its name, but no UID of its kind.
            if (instance.is_static or instance.uid == own) and (
                instance.uid in uids if logged else instance.container == manifest.component
            ):
                key = (instance.uid, instance.container, instance.container_id)
                if key not in found or instance.started < found[key].started:
                    found[key] = instance
        return list(found.values())

    def alive(self, instance):
        """Tell whether the process of an Instance still is the same and has not ended."""
        return self.processes.alive(instance)

    def age(self, instance):
        """Give for how many seconds an Instance has run."""
        return self.processes.uptime() - instance.started

    def lost_files(self, instance):
        """Return the paths (set of str, in their file systems) of what an Instance has mounted and its node has replaced since.

        The kernel marks such a mount in /proc/PID/mountinfo (fs/d_path.c: the name of an unlinked file ends in "//deleted").
        """
        lines = self.processes.text("mountinfo", instance.pid).splitlines()
        roots = [(line.split() + [""] * 4)[3] for line in lines] if self.alive(instance) else []
        return {
            re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), root[: -len(_DELETED)])
            for root in roots
            if root.endswith(_DELETED)
        }

    def ready(self, uid):
        """Return whether the kubelet calls a pod (str, its UID) ready, or None where it cannot be asked.

        Of a static pod its own list of pods has the state also without the API (pkg/kubelet: GetPods, kubernetes#57106).
        """
        if not self.kubelet_pods:
            return None
        url, pair = self.kubelet_pods
        try:
            answer = http_client.http_request(url, client=pair, timeout=3.0)
            pods = answer.json().get("items") or [] if answer.status == 200 else []
            pod = next((item for item in pods if (item.get("metadata") or {}).get("uid") == uid), None)
            conditions = ((pod or {}).get("status") or {}).get("conditions") or []
            return {"True": True, "False": False}.get(
                next((item.get("status") for item in conditions if item.get("type") == "Ready"), None)
            )
        except (PkiError, AttributeError, TypeError):
            return None

    def mirror_hash(self, manifest, apiserver, kubernetes_dir):
        """Give the UID of the static pod that its mirror pod in the API stands for, asked with admin.conf, or None."""
        path = os.path.join(kubernetes_dir, "admin.conf")
        try:
            config = kubeconfig.Kubeconfig(reading.read(path), path)
            if not (config.certificate_data and config.key_data):
                return None
            pair = config.certificate_data, config.key_data
            answer = http_client.http_request(
                "https://%s/api/v1/namespaces/%s/pods/%s-%s"
                % (apiserver.address, manifest.namespace, manifest.name, self._node_name),
                client=pair,
            )
            return answer.json()["metadata"]["annotations"]["kubernetes.io/config.mirror"]
        except (PkiError, KeyError, IndexError, TypeError, ValueError):
            return None

    def uids(self, manifest):
        """Give the UIDs (set of str) under which a pod has run on this node and left something, or is about to run."""
        found = set()
        prefix = "%s_%s-" % (manifest.namespace, manifest.name)
        exact = "%s_%s-%s_" % (manifest.namespace, manifest.name, self._node_name)
        with contextlib.suppress(OSError):
            names = [name for name in os.listdir(self.logs) if name.startswith(prefix)]
            # "etcd-" also begins "etcd-backup-node".
            own = [name for name in names if name.startswith(exact)] or names
            found.update(name.rsplit("_", 1)[1] for name in own)
        return found

    def traces(self, instances):
        """Give the UIDs (set of str) of all pods of which the kubelet keeps a directory or a control group.

        instances: [Instance] of the pod in question, which say where its control groups lie.
        """
        return _uids_in(self.pods_dir) | self.groups(instances)

    @staticmethod
    def groups(instances):
        """Give the UIDs (set of str) of the pods with a control group beside the instances' own.

        Empty where the kubelet runs with --cgroups-per-qos=false.
        It is the first thing a kubelet makes for a pod and the last it removes (pkg/kubelet: SyncPod, SyncTerminatedPod).
        """
        found = set()
        for directory in {item.cgroups for item in instances if item.cgroups}:
            found |= _uids_in(directory)
        return found

    def remove_sandboxes(self, uid):
        """Remove what the container runtime keeps of a dead pod, where crictl is there. Gives whether anything was removed."""
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

    def _run_crictl(self, *arguments):
        return subprocess.run(
            [self._crictl] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10, check=True
        ).stdout.decode("utf-8", "replace")

    def last_words(self, manifest):
        """Say how the pod's newest container stands (state, exit code, reason; never its log), or "" when nobody can tell."""
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


def _kubelet_pods(layout):
    """Return whom to ask for the kubelet's pods, and as whom, as Runtime() takes it: only a control-plane node has the client."""
    pair = layout.paths.get("apiserver-kubelet-client")
    if not pair or not all(pair):
        return None
    return "https://%s/pods" % addresses.join_host_port(*kubelet_settings.serving_address(layout)), pair


def _uids_in(directory):
    """The UIDs that names in a directory contain: UID, podUID, kubepods-burstable-podUID.slice (with _ for -)."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            match = _UID.search(name.replace("_", "-"))
            if match:
                found.add(match.group(1))
    return found
