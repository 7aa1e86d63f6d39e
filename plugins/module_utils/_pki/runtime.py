# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this node really runs, seen without asking the kubelet: from /proc, /var/log/pods and the kubelet's directory.
"""

from __future__ import annotations

__metaclass__ = type

import contextlib
import json
import os
import re
import shutil
import subprocess

from . import files, kubeconfig, probe, serving
from .errors import PkiError

HEALTHZ = "http://127.0.0.1:10248/healthz"
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
# The kubelet mounts a file of its own as each container's termination log: it names the pod's UID and the container.
_POD_FILE = re.compile(r"/([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27})/containers/([^/ ]+)/[^/ ]+ /")
_UID = re.compile(r"(?:pod|^)([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![0-9a-f])")


class Instance:
    """One container process that the kubelet of this node started.

    uid: the pod's UID. container: the container's name. pid: of its first process. started: its start in seconds since boot.
    container_id: 64 hex digits, or None where the control groups do not tell. cgroups: directory in which the control groups
    of this pod and its kind lie, or None.
    """

    def __init__(self, uid, container, pid, started, container_id=None, cgroups=None):
        self.uid, self.container, self.pid, self.started, self.container_id = uid, container, pid, started, container_id
        self.cgroups = cgroups

    @property
    def identity(self):
        """What a person recognises it by: the container ID, else the process."""
        return self.container_id or "pid %d" % self.pid


class Kubelet:
    """The kubelet's process. pid: int. age: seconds since it was started. minor: function that gives 1.<minor>, or None."""

    def __init__(self, pid, age, minor):
        self.pid, self.age, self.minor = pid, age, minor


class Runtime:
    """What this node really runs, from /proc, /var/log/pods and the kubelet's directory; crictl only where it is there.

    A pod's UID is found without any runtime's client: every container has a mount from KUBELET_DIR/pods/UID/containers/NAME
    (its termination log; /proc/PID/mountinfo shows it under every cgroup driver), and the kubelet names
    /var/log/pods/NAMESPACE_NAME-NODE_UID after both.
    """

    def __init__(self, kubelet_dir="/var/lib/kubelet", logs="/var/log/pods", proc="/proc", node_name=None, healthz=HEALTHZ):
        """Take where the kubelet keeps its pods, their logs and /proc. node_name: the node's in the API, when not its host's.

        healthz: URL of the kubelet's own health endpoint, or None where it is switched off.
        """
        self.pods_dir = os.path.join(kubelet_dir, "pods")
        self.logs, self.proc, self._healthz = logs, proc, healthz
        self._node_name = node_name or os.uname().nodename.lower()
        self._known = {}
        self._hertz = float(os.sysconf("SC_CLK_TCK"))
        self._own_mounts = self._link("self/ns/mnt")
        self._crictl = shutil.which("crictl", path=os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/opt/bin")

    @classmethod
    def of(cls, layout):
        """Give the Runtime of the node that a layouts.Layout describes."""
        return cls(layout.kubelet_dir, node_name=layout.node_name, healthz=serving.healthz_url(layout))

    def _link(self, name):
        try:
            return os.readlink(os.path.join(self.proc, name))
        except OSError:
            return None

    def _text(self, pid, name):
        try:
            with open("%s/%s/%s" % (self.proc, pid, name), "rb") as handle:
                return handle.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def _stat(self, pid):
        """(state, start in seconds since boot) of a process, or None when it has ended."""
        fields = self._text(pid, "stat").rpartition(")")[2].split()
        if len(fields) < 20 or fields[0] in "ZXx":
            return None
        return fields[0], int(fields[19]) / self._hertz

    def _uptime(self):
        return float(self._text("", "uptime").split()[0])

    def _pids(self):
        return [name for name in os.listdir(self.proc) if name.isdigit()]

    def kubelet(self):
        """Give the Kubelet, or None where none runs."""
        for pid in self._pids():
            if self._text(pid, "comm").strip() == "kubelet":
                status = self._stat(pid)
                if status:
                    return Kubelet(int(pid), self._uptime() - status[1], lambda pid=pid: self._minor(pid))
        return None

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
            return probe.http_get(self._healthz, timeout=1.0)[0] == 200
        except PkiError:
            return False

    def _connected(self, pid):
        """Whether a process has an established TCP connection that does not end at one of its own ports."""
        sockets = set()
        with contextlib.suppress(OSError):
            for name in os.listdir("%s/%s/fd" % (self.proc, pid)):
                link = self._link("%s/fd/%s" % (pid, name)) or ""
                if link.startswith("socket:["):
                    sockets.add(link[8:-1])
        for table in ("net/tcp", "net/tcp6"):
            for line in self._text(pid, table).splitlines()[1:]:
                fields = line.split()
                local = int(fields[1].rpartition(":")[2], 16)
                if fields[3] == "01" and fields[9] in sockets and local not in (10250, 10248, 10255):
                    return True
        return False

    def _minor(self, pid):
        # The program this process runs, which an upgrade may have replaced on disk since.
        try:
            text = subprocess.run(["%s/%s/exe" % (self.proc, pid), "--version"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, timeout=10, check=False).stdout.decode("ascii", "replace")
        except (OSError, subprocess.SubprocessError):
            return None
        match = re.search(r"v1\.(\d+)", text)
        return int(match.group(1)) if match else None

    def instances(self, manifest):
        """Give the [Instance] of a pod (a manifests.Manifest), one for each container, the oldest process of each."""
        uids = self.uids(manifest)
        found = {}
        for instance in self._containers():
            if instance.uid in uids or (not os.path.isdir(self.logs) and instance.container == manifest.component):
                key = (instance.uid, instance.container, instance.container_id)
                if key not in found or instance.started < found[key].started:
                    found[key] = instance
        return list(found.values())

    def _containers(self):
        pids = self._pids()
        for pid in set(self._known) - set(pids):
            del self._known[pid]
        found = []
        for pid in pids:
            if pid not in self._known:
                self._look_at(pid)
            instance = self._known.get(pid)
            if instance and self.alive(instance):
                found.append(instance)
        return found

    def _look_at(self, pid):
        mounts = self._link("%s/ns/mnt" % pid)
        if mounts is None or mounts == self._own_mounts:
            self._known[pid] = None
            return
        status = self._stat(pid)
        if status is None:
            return
        match = _POD_FILE.search(self._text(pid, "mountinfo"))
        if match:
            groups = self._text(pid, "cgroup")
            identity = _CONTAINER_ID.findall(groups)
            self._known[pid] = Instance(match.group(1), match.group(2), int(pid), status[1], identity[-1] if identity else None,
                                        _cgroups_above(groups))
        elif self._uptime() - status[1] > 5:
            # Younger ones are looked at again: a container's first process begins with the host's mounts.
            self._known[pid] = None

    def alive(self, instance):
        """Tell whether the process of an Instance still is the same and has not ended."""
        status = self._stat(instance.pid)
        return status is not None and status[1] == instance.started

    def age(self, instance):
        """Give for how many seconds an Instance has run."""
        return self._uptime() - instance.started

    def mirror_hash(self, manifest, apiserver, kubernetes_dir):
        """Give the UID of the static pod that its mirror pod in the API stands for, asked with admin.conf, or None."""
        path = os.path.join(kubernetes_dir, "admin.conf")
        try:
            config = kubeconfig.Kubeconfig(files.read(path), path)
            if not (config.certificate_data and config.key_data):
                return None
            pair = config.certificate_data, config.key_data
            answer = probe.http_request("https://%s/api/v1/namespaces/%s/pods/%s-%s" % (
                apiserver.address, manifest.namespace, manifest.name, self._node_name), client=pair)
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
        return subprocess.run([self._crictl] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10,
                              check=True).stdout.decode("utf-8", "replace")

    def last_words(self, manifest):
        """Say how the pod's newest container stands (state, exit code, reason; never its log), or "" when nobody can tell."""
        if not self._crictl:
            return ""
        try:
            listed = json.loads(self._run_crictl("ps", "-a", "-o", "json", "--name", "^%s$" % manifest.component))
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


def _uids_in(directory):
    """The UIDs that names in a directory contain: UID, podUID, kubepods-burstable-podUID.slice (with _ for -)."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            match = _UID.search(name.replace("_", "-"))
            if match:
                found.add(match.group(1))
    return found


def _cgroups_above(groups):
    """From /proc/PID/cgroup of a container: the directory that holds the control groups of pods like its own, or None."""
    for line in groups.splitlines():
        _number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if not _CONTAINER_ID.search(path):
            continue
        mounts = ["/sys/fs/cgroup/" + name.replace("name=", "") for name in controllers.split(",") if name]
        for mount in mounts + ["/sys/fs/cgroup"]:
            directory = os.path.dirname(os.path.dirname(mount + path))
            if os.path.isdir(mount + path) and len(directory) > len(mount):
                return directory
    return None
