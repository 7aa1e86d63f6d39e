# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the node, and since when: the only reader of /proc (proc(5)).

A process may give itself any name, and any command line, and a pod may have the host's pids. So a name is never proof:
- The kubelet is the main process of its systemd unit. It has uid 0 and the pid and mount namespaces of PID 1.
- Where systemd is not the init system, the kubelet is a process with the same uid and namespaces whose program only root can
  replace.
- A container of a pod is known by its termination log: a mount of a file that the kubelet keeps below its own directory, which
  only root can enter. The pod's UID in the control group has to be the same.
- A static pod's UID is a hash of its manifest, while the API gives each of its own pods a UUID.
Nothing that is found through /proc is executed.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess

from ..errors import PkiError

KUBELET_UNIT = "kubelet.service"

KUBELET_DIR = "/var/lib/kubelet"

FIX_SYSTEMD = "Only a kubelet that systemd runs as %s is known and can be restarted." % KUBELET_UNIT

_FIX_MAIN = (
    "Run with become: true (root). A kubelet in a container is not supported, nor are settings of its unit that give it "
    "mounts of its own (PrivateTmp=, ProtectHome= and the like)."
)

_PROPERTIES = ("LoadState", "ActiveState", "SubState", "MainPID", "ExecStart", "Result")

_BOOTED = "/run/systemd/system"  # sd_booted(3)

# Where packages and installers put the kubelet, for a unit that starts it through a shell.
_PROGRAMS = ("/usr/bin/kubelet", "/usr/local/bin/kubelet", "/opt/bin/kubelet", "/usr/sbin/kubelet")

# The kernel counts starts in ticks since boot, and gives the boot's time in whole seconds.
_ROUNDING = 2.0

# A user may make a hundred thousand mounts in a namespace of their own.
_MOST_MOUNTS = 8 << 20

_LONGEST_COMMAND = 2 << 20  # what the kernel takes by default, a quarter of an 8 MiB stack

_POD_UID = r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_POD_FILE = re.compile(r"/(%s)/containers/([^/]+)/[^/]+" % _POD_UID)

_POD_GROUP = re.compile(r"(?:.*-)?pod(%s)(?:\.slice)?" % _POD_UID)

_STATIC_UID = re.compile(r"[0-9a-f]{32}")  # pkg/kubelet/config/common.go: applyDefaults

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


class NotIdentified(PkiError):
    """The kubelet may run, and nothing that can be trusted says which process it is."""


class Process:
    """A process that was identified. pid: int. started: seconds since boot. command: [str].

    program: path of the executable that the init system starts, or None where it is not known.
    """

    def __init__(self, pid, started, command, program=None):
        self.pid, self.started, self.command, self.program = pid, started, command, program


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

    @property
    def is_static(self) -> bool:
        """Whether the kubelet read the pod from a manifest."""
        return _STATIC_UID.fullmatch(self.uid) is not None


def run_for_units(arguments, timeout):
    """Run systemctl or journalctl. Return the CompletedProcess. Raise PkiError where it is not there or does not end.

    arguments: [str]. timeout: seconds.
    """
    try:
        return subprocess.run(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout,
            check=False,
            env=dict(os.environ, LC_ALL="C", SYSTEMD_PAGER=""),
        )
    except FileNotFoundError:
        raise PkiError("there is no %s on this node" % arguments[0], fix=FIX_SYSTEMD) from None
    except subprocess.TimeoutExpired:
        raise PkiError(
            "`%s` has not ended within %d s" % (" ".join(arguments), timeout),
            fix="See `systemctl status kubelet` and `systemctl list-jobs`.",
        ) from None


def show_unit(unit):
    """Return what systemd knows of a unit: {property: text}. Raise PkiError where it has none that it could start."""
    done = run_for_units(["systemctl", "show", unit, "--property=" + ",".join(_PROPERTIES)], 20)
    found = dict.fromkeys(_PROPERTIES, "")
    found.update(line.partition("=")[::2] for line in done.stdout.decode("utf-8", "replace").splitlines())
    if done.returncode or found["LoadState"] != "loaded":
        raise NotIdentified(
            "systemd has no unit %s that it could start (%s)"
            % (unit, found["LoadState"] or done.stderr.decode("utf-8", "replace").strip()[:120]),
            fix=FIX_SYSTEMD,
        )
    return found


def only_root_writes(path: str) -> bool:
    """Tell whether only root can change a file, or put another in its place: its links, and all directories above."""
    path = os.path.realpath(path)
    try:
        while True:
            status = os.lstat(path)
            loose = stat.S_IWOTH if status.st_gid == 0 else stat.S_IWOTH | stat.S_IWGRP
            if status.st_uid != 0 or status.st_mode & loose:
                return False
            if path == os.path.dirname(path):
                return True
            path = os.path.dirname(path)
    except OSError:
        return False


class Processes:
    """The processes of this node. proc: where proc(5) is mounted. show: function that does what show_unit() does, or None.

    show is None where systemd is not the init system.
    """

    def __init__(self, proc="/proc", show=None):
        self.proc = proc
        self._show = show or (show_unit if proc == "/proc" and os.path.isdir(_BOOTED) else None)
        self._known = {}
        self._kubelet = None
        self._pods, self._outer = {}, None
        self._hertz = float(os.sysconf("SC_CLK_TCK"))

    def read(self, name, pid="", most=-1) -> bytes:
        """Return the content of a file of a process, or of /proc itself. Empty where the process has ended. most: bytes."""
        try:
            with open(os.path.join(self.proc, str(pid), name), "rb") as handle:
                return handle.read(most)
        except OSError:
            return b""

    def text(self, name, pid="", most=-1) -> str:
        """Return what read() returns, as text."""
        return self.read(name, pid, most).decode("utf-8", "replace")

    def link(self, pid, name):
        """Return where a link of a process leads, or None."""
        try:
            return os.readlink(os.path.join(self.proc, str(pid), name))
        except OSError:
            return None

    def pids(self) -> list:
        """Return the pids (int) of all processes."""
        return [int(name) for name in os.listdir(self.proc) if name.isdigit()]

    def started(self, pid):
        """Return when a process began, in seconds since boot (stat, field 22), or None when it has ended."""
        # The second field, the name, may hold spaces and parentheses.
        fields = self.text("stat", pid).rpartition(")")[2].split()
        return None if len(fields) < 20 or fields[0] in "ZXx" else int(fields[19]) / self._hertz

    def uptime(self) -> float:
        """Return the seconds since boot."""
        return float(self.text("uptime").split()[0])

    def boot_id(self) -> str:
        """Return the kernel's ID of the present boot, or ""."""
        return self.text("sys/kernel/random/boot_id").strip()

    def booted(self) -> int:
        """Return when the machine was booted, in seconds since 1970."""
        for line in self.read("stat").splitlines():
            if line.startswith(b"btime "):
                return int(line.split()[1])
        raise PkiError("has no btime", path=os.path.join(self.proc, "stat"), fix="Mount proc(5) there.")

    def command(self, pid) -> list:
        """Return the command line of a process."""
        return [word for word in self.text("cmdline", pid, _LONGEST_COMMAND).split("\0") if word]

    def is_of_the_node(self, pid) -> bool:
        """Tell whether a process is root's, in every respect, and in the node's own pid and mount namespaces, as PID 1 is."""
        ids = self._status(pid, "Uid")
        return ids == ["0"] * 4 and all(
            own is not None and own == self.link(pid, name)
            for name, own in ((name, self.link(1, name)) for name in ("ns/pid", "ns/mnt"))
        )

    def _status(self, pid, key) -> list:
        for line in self.text("status", pid).splitlines():
            if line.startswith(key + ":"):
                return line.split()[1:]
        return []

    def kubelet(self) -> Process:
        """Return the kubelet's Process. Raise PkiError, which says why there is none."""
        known = self._kubelet
        if known is None or self.started(known.pid) != known.started:
            known = self._kubelet_of_systemd() if self._show else self._kubelet_without_systemd()
            # Between fork and exec, or before its shell has started it, the same process does not show its flags yet.
            self._kubelet = known if self._is_called_kubelet(known.pid) else None
        return known

    def _kubelet_of_systemd(self):
        unit = self._show(KUBELET_UNIT)
        main = unit["MainPID"]
        if not main.isdigit() or main == "0":
            raise PkiError(
                "%s is %s (%s)" % (KUBELET_UNIT, unit["ActiveState"], unit["SubState"]),
                fix="See `systemctl status kubelet` and `journalctl -u kubelet`.",
            )
        if not self.is_of_the_node(main):
            raise NotIdentified(
                "the main process %s of %s is not seen to run as root in the node's own pid and mount namespaces"
                % (main, KUBELET_UNIT),
                fix=_FIX_MAIN,
            )
        program = re.search(r"\bpath=(\S+)", unit["ExecStart"])
        return self._identified(self._behind_a_shell(int(main)), program.group(1) if program else None)

    def _identified(self, pid, program):
        started = self.started(pid)
        if started is None:
            raise PkiError("the process %d of the kubelet has just ended" % pid, fix="See `journalctl -u kubelet`.")
        return Process(pid, started, self.command(pid), program)

    def _behind_a_shell(self, main):
        """The process that is the kubelet: the main one, or that of its descendants whose program is called so."""
        if self._is_called_kubelet(main):
            return main
        parents = {pid: self._parent(pid) for pid in self.pids()}
        for pid in sorted(parents):
            if main in _ancestors(pid, parents) and self.is_of_the_node(pid) and self._is_called_kubelet(pid):
                return pid
        return main

    def _is_called_kubelet(self, pid):
        return os.path.basename((self.command(pid) or [""])[0]) == "kubelet"

    def _parent(self, pid):
        parent = self._status(pid, "PPid")
        return int(parent[0]) if parent and parent[0].isdigit() else 0

    def _kubelet_without_systemd(self):
        for pid in sorted(self.pids()):
            program = self.link(pid, "exe") or ""
            # Its program, because a program that is setuid may be started under any name, and some give themselves uid 0.
            if os.path.basename(program) == "kubelet" and self.is_of_the_node(pid) and only_root_writes(program):
                return self._identified(pid, program)
        raise PkiError(
            "systemd is not the init system here, and root runs no kubelet from a file that only root can write",
            fix="Start it, or see whether others can write its program or a directory above.",
        )

    def kubelet_minor(self):
        """Return <minor> of the version 1.<minor> of the kubelet that runs, else of the installed one; None where unknown.

        Asked is a program in a place that only root can write, never the one behind /proc/PID/exe. It counts for a kubelet that
        runs only where it is the same file, which it is not after an upgrade.
        """
        try:
            kubelet = self.kubelet()
        except PkiError:
            kubelet = None
        own = [kubelet.program] if kubelet and os.path.basename(kubelet.program or "") == "kubelet" else []
        for program in own + [path for path in _PROGRAMS if path not in own]:
            if os.path.isfile(program) and only_root_writes(program) and (kubelet is None or self._runs(kubelet, program)):
                return _version_minor(os.path.realpath(program))
        return None

    def _runs(self, process, program):
        try:
            return os.path.samestat(os.stat(os.path.join(self.proc, str(process.pid), "exe")), os.stat(program))
        except OSError:
            return False

    def instances(self, kubelet_dir=None) -> list:
        """Return an Instance for each process in a container of this node's kubelet.

        kubelet_dir: where it keeps its pods, as --root-dir says; by default what the kubelet that runs was told.
        """
        pids = self.pids()
        for pid in set(self._known) - set(pids):
            del self._known[pid]
        pods = self._pods_of(kubelet_dir or self._root_dir())
        own, found = self.link(1, "ns/mnt"), []
        seen: dict[tuple, re.Match | None] = {}
        for pid in pids:
            if pid not in self._known:
                self._look_at(pid, pods, own, seen)
            instance = self._known.get(pid)
            if instance and self.alive(instance):
                found.append(instance)
            elif instance:
                del self._known[pid]  # its pid has another process now
        return found

    def alive(self, instance) -> bool:
        """Tell whether the process of an Instance still is the same and has not ended."""
        return self.started(instance.pid) == instance.started

    def _root_dir(self):
        try:
            words = self.kubelet().command
        except PkiError:
            return KUBELET_DIR
        for word, following in zip(words, words[1:] + [""]):
            flag, equals, value = word.partition("=")
            if flag.lstrip("-").replace("_", "-") == "root-dir":
                return (value if equals else following) or KUBELET_DIR
        return KUBELET_DIR

    def _pods_of(self, kubelet_dir):
        """(device, path within its file system) of the directory of the kubelet's pods, as mountinfo shows both."""
        if kubelet_dir not in self._pods:
            real, longest, found = os.path.realpath(os.path.join(kubelet_dir, "pods")), -1, ("", "")
            for device, root, point in self._mounts(1):
                point = point.rstrip("/")
                if (real + "/").startswith(point + "/") and len(point) >= longest:
                    longest, found = len(point), (device, root.rstrip("/") + real[len(point) :])
            self._pods[kubelet_dir] = found
        return self._pods[kubelet_dir]

    def _mounts(self, pid):
        """[(device, root, mount point)] of the mounts that a process sees (proc(5): /proc/PID/mountinfo)."""
        lines = self.text("mountinfo", pid, _MOST_MOUNTS).splitlines()
        return [tuple(fields[2:5]) for fields in (line.split() for line in lines) if len(fields) > 5]

    def _look_at(self, pid, pods, own, seen):
        mounts = self.link(pid, "ns/mnt")
        if mounts is None or mounts == own:
            self._known[pid] = None
            return
        started = self.started(pid)
        if started is None:
            return
        groups = self.text("cgroup", pid)
        # A process sees the mounts of its namespace that are below its root.
        key = (mounts, self.link(pid, "root"))
        match = seen[key] if key in seen else self._pod_file(pid, pods)
        if self.started(pid) == started:  # of a process that has ended, mountinfo is empty
            seen[key] = match
        if match and self._is_in_groups_of(match.group(1), groups):
            identity = _CONTAINER_ID.findall(groups)
            self._known[pid] = Instance(
                match.group(1), match.group(2), pid, started, identity[-1] if identity else None, _cgroups_above(groups)
            )
        elif self.uptime() - started > 5:
            # Younger ones are looked at again: a container's first process begins with the host's mounts.
            self._known[pid] = None

    def _is_in_groups_of(self, uid, groups):
        """Whether the control groups of a process are those of a pod, or of none (--cgroups-per-qos=false)."""
        if self._outer is None:
            # A node that is a pod itself has its own UID in all of its paths.
            self._outer = {found for line in _pods_of_groups(self.text("cgroup", 1)) for found in line}
        nearest = [[found for found in line if found not in self._outer][:1] for line in _pods_of_groups(groups)]
        return all(found == [uid] for found in nearest if found)

    def _pod_file(self, pid, pods):
        device, directory = pods
        for mounted, root, _point in self._mounts(pid):
            if device and mounted == device and root.startswith(directory + "/"):
                match = _POD_FILE.fullmatch(root[len(directory) :])
                if match:
                    return match
        return None

    def component_started(self, component) -> float:
        """Return when the newest process of a component began, in seconds since boot; -1 where none runs.

        component: "kubelet", or the container of a static pod. Its process is the oldest in the container.
        """
        if component == "kubelet":
            try:
                return self.kubelet().started
            except PkiError:
                return -1.0
        found: dict[tuple, float] = {}
        for item in self.instances():
            if item.is_static and item.container == component:
                key = (item.uid, item.container_id)
                found[key] = min(item.started, found.get(key, item.started))
        return max(found.values(), default=-1.0)

    def older_than(self, component, path) -> bool:
        """Tell whether a static pod's component runs that was told to use a file and began before that was last written.

        component: its container, such as "kube-scheduler". path: the file, which one of its arguments names
        (--kubeconfig=PATH). False where either is not there.
        """
        try:
            written, booted = os.stat(path).st_mtime, self.booted()
        except (OSError, PkiError):
            return False
        return any(
            item.is_static
            and item.container == component
            and booted + item.started + _ROUNDING < written
            and any(word.endswith("=" + path) for word in self.command(item.pid))
            for item in self.instances()
        )


_OWN = Processes()


def own() -> Processes:
    """Return the Processes of this node."""
    return _OWN


def older_than(component, path) -> bool:
    """Tell what Processes.older_than() tells of this node."""
    return _OWN.older_than(component, path)


def _ancestors(pid, parents):
    found = []
    while parents.get(pid) and pid not in found:
        found.append(pid)
        pid = parents[pid]
    return found[1:] + [pid]


def _version_minor(program):
    try:
        done = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v1\.(\d+)", done.stdout.decode("ascii", "replace"))
    return int(match.group(1)) if match else None


def _pods_of_groups(groups):
    """From /proc/PID/cgroup: [[the UIDs of the pods in a path, that nearest to the root first]], one list for each hierarchy."""
    paths = [line.split(":", 2)[-1].split("/") for line in groups.splitlines()]
    matches = [[_POD_GROUP.fullmatch(name.replace("_", "-")) for name in path] for path in paths]
    return [[match.group(1) for match in path if match] for path in matches]


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
