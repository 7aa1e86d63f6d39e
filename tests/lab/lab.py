# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as an object: what pytest, molecule and the command line use."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shlex
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import balancer, binaries, cluster, debian, host, inventory, kubeconfig, layer, network, rootfs
from .cache import lock, mounts_below, remove_tree
from .cgroups import ROOT as CGROUPS
from .cgroups import NodeCgroup
from .client import Endpoint, Identity, Request, fetch
from .errors import LabError
from .kubeadm import API_NAME, API_PORT
from .network import Network, Subnet
from .node import Node
from .procs import identify
from .progress import Progress
from .settings import (
    DEFAULT_CONTROL_PLANES,
    DEFAULT_NAME,
    DEFAULT_WORKERS,
    Settings,
    check_name,
    check_size,
)
from .shell import parallel, run, tail, wait_for
from .state import State
from .state import load as load_state

if TYPE_CHECKING:
    from .watch import Watch


@dataclass(frozen=True)
class NodeStatus:
    """One node as ``status`` shows it: whether it runs, is on the network, answers, and what the cluster says."""

    name: str
    address: str
    role: str
    running: bool
    plugged: bool
    ssh: bool
    apiserver: bool | None
    ready: bool | None


@dataclass(frozen=True)
class LabStatus:
    """A lab as ``status`` shows it. ``phase`` is absent, building or ready; ``problems`` is empty when all is well."""

    name: str
    phase: str
    version: str | None
    api: str | None
    balancer: bool
    nodes: list[NodeStatus]
    problems: list[str]


class Lab:
    """A kubeadm cluster on this machine.

    ``Lab("lab").up()`` brings it up (or repairs it, or does nothing when it is healthy); ``down()`` removes it.
    Sizes left as None are those of the existing lab, or three control planes and two workers. Everything it keeps
    lies in ``settings.home / "labs" / name``. Methods raise LabError with the node, the command and the remedy.
    """

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        control_planes: int | None = None,
        workers: int | None = None,
        *,
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.name = check_name(name)
        self.settings = settings or Settings.from_environment()
        self.progress = progress or Progress()
        self.directory = self.settings.home / "labs" / self.name
        self._wanted = (control_planes, workers)
        self._guard = threading.RLock()
        self._state: State | None = None

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def key(self) -> Path:
        """The private key that logs in to every node as root."""
        return self.directory / "ssh_key"

    @property
    def logs(self) -> Path:
        """Where the output of kubeadm and others goes."""
        return self.directory / "logs"

    @property
    def state(self) -> State:
        """What the lab remembers; LabError when there is no such lab."""
        with self._guard:
            if self._state is None:
                self._state = load_state(self.directory)
            if self._state is None:
                raise LabError(f"there is no lab {self.name!r}", fix=f"python3 -m tests.lab up --name {self.name}")
            return self._state

    def exists(self) -> bool:
        """Whether the lab has been brought up (wholly or in part)."""
        return (self.directory / "state.json").exists()

    @property
    def version(self) -> str:
        """The cluster's Kubernetes version, ``v1.20.2``."""
        return self.state.version

    @property
    def network(self) -> Network:
        """The lab's network."""
        return Network(self.name, Subnet(IPv4Network(self.state.subnet)))

    @property
    def balancer_address(self) -> str:
        """The API's stable address."""
        return self.network.subnet.balancer

    @property
    def control_planes(self) -> dict[str, str]:
        """Control-plane nodes: name -> address."""
        return {f"cp{i}": self.network.subnet.control_plane(i) for i in range(1, self.state.control_planes + 1)}

    @property
    def workers(self) -> dict[str, str]:
        """Workers: name -> address."""
        return {f"w{i}": self.network.subnet.worker(i) for i in range(1, self.state.workers + 1)}

    @property
    def addresses(self) -> dict[str, str]:
        """All nodes, control planes first: name -> address."""
        return {**self.control_planes, **self.workers}

    def node(self, name: str) -> Node:
        """A node by name; LabError when the lab has none of that name."""
        addresses = self.addresses
        if name not in addresses:
            raise LabError(f"the lab has no node {name!r}", fix=f"its nodes are {', '.join(addresses)}")
        return Node(
            name=name,
            address=addresses[name],
            control_plane=name in self.control_planes,
            directory=self.directory / "nodes" / name,
            network=self.network,
            lab=self.name,
        )

    @property
    def nodes(self) -> list[Node]:
        """All nodes, control planes first."""
        return [self.node(name) for name in self.addresses]

    # -- talking to nodes ----------------------------------------------------------------------------------------

    def ssh_command(self, node: str, *, tty: bool = False) -> list[str]:
        """The ssh command line that logs in to a node; append a command to it."""
        return [
            "ssh",
            "-F",
            "/dev/null",
            "-i",
            str(self.key),
            *inventory.SSH_OPTIONS,
            "-o",
            "ConnectTimeout=5",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "ServerAliveInterval=5",
            "-o",
            "ServerAliveCountMax=6",
            *(["-t"] if tty else ["-o", "BatchMode=yes"]),
            f"root@{self.node(node).address}",
        ]

    def run(
        self,
        node: str,
        command: str | Sequence[str],
        *,
        check: bool = True,
        timeout: float | None = 300,
        stdin: str | None = None,
        log: Path | None = None,
        what: str | None = None,
        fix: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node as root (a string goes through its shell) and return it with its output.

        LabError when it exits non-zero (unless ``check`` is false) or takes longer than ``timeout`` seconds.
        """
        text = command if isinstance(command, str) else shlex.join(command)
        return run(
            [*self.ssh_command(node), "--", text],
            node=node,
            check=check,
            timeout=timeout,
            stdin=stdin,
            log=log,
            what=what or f"{text.split()[0]} failed",
            fix=fix,
        )

    def ssh(self, node: str, command: Sequence[str] = ()) -> int:
        """Log in to a node on this terminal, or run a command there with its output here; returns the exit code."""
        argv = self.ssh_command(node, tty=not command and os.isatty(0))
        return subprocess.run([*argv, *(["--", *command] if command else [])], check=False).returncode

    def path(self, node: str, inside: str) -> Path:
        """A node's file as seen from this host (reading is safe while the node runs)."""
        machine = self.node(node)
        for part, mounted in (("kubelet", "/var/lib/kubelet"), ("etcd", "/var/lib/etcd")):
            if (inside + "/").startswith(mounted + "/") and (part != "etcd" or machine.control_plane):
                return machine.directory / part / inside[len(mounted) :].lstrip("/")
        return machine.root / inside.lstrip("/")

    def kubectl(self, *arguments: str, node: str = "cp1", check: bool = True, stdin: str | None = None) -> str:
        """Run kubectl on a control-plane node with its admin.conf; returns what it printed."""
        command = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *arguments]
        return self.run(node, command, check=check, stdin=stdin).stdout

    def inventory(self) -> str:
        """The Ansible inventory as INI text."""
        return inventory.render(self.control_planes, self.workers, self.key)

    def api(
        self,
        path: str,
        *,
        method: str = "GET",
        body: str | None = None,
        address: str | None = None,
        timeout: float = 5,
    ) -> tuple[int, Any]:
        """One API request as admin (cp1's admin.conf as it is now), through the balancer or to ``address``.

        Returns status and decoded JSON (or text). OSError when the API does not answer, ValueError when admin.conf
        cannot be read.
        """
        credentials = kubeconfig.parse(self.path("cp1", "/etc/kubernetes/admin.conf").read_text())
        where = address or self.balancer_address
        endpoint = Endpoint(where, API_PORT, address or API_NAME)
        identity = Identity(credentials.ca, credentials.certificate, credentials.key)
        try:
            status, raw = fetch(endpoint, identity, Request(path, method=method, body=body), timeout)
        except http.client.HTTPException as exc:
            raise OSError(f"{where}: {exc}") from exc
        try:
            return status, json.loads(raw)
        except ValueError:
            return status, raw.decode(errors="replace")

    # -- up ------------------------------------------------------------------------------------------------------

    def prepare(self) -> tuple[Path, layer.Layer]:
        """Make what every lab stands on - packages, node root, binaries, images - and return root and layer."""
        self._check_host()
        debian.install_host_packages(self.progress)
        found = binaries.prepare(self.settings, self.progress)
        root = rootfs.prepare(self.settings, self.progress)
        return root, layer.prepare(self.settings, found, root, self.progress)

    def up(self) -> Lab:
        """Bring the lab up: nothing when it is healthy, repaired when it can be, else built anew. Returns itself."""
        with self._locked():
            existing = self._existing()
            if existing and existing.phase == "ready":
                self._state = existing
                self._check_same(existing)
                problems = self._quick_problems()
                if not problems:
                    self.progress.step(f"lab {self.name} is up and healthy ({existing.version})")
                    return self
                self._check_host(running=True)
                if self._repair(problems):
                    return self
            elif existing:
                self.progress.step(f"lab {self.name} was never finished: starting over")
            self._build(existing)
        return self

    def _existing(self) -> State | None:
        try:
            return load_state(self.directory)
        except LabError as exc:
            self.progress.step(f"{exc.message}; building anew")
            return None

    def _check_same(self, existing: State) -> None:
        planes, workers = self._wanted
        if (planes not in (None, existing.control_planes)) or (workers not in (None, existing.workers)):
            raise LabError(
                f"lab {self.name!r} has {existing.control_planes} control planes and {existing.workers} workers",
                fix=f"take it down first (python3 -m tests.lab down --name {self.name}), or give the new one another --name",
            )
        given = self.settings.kubernetes_bin
        if given and binaries.read(given).version != existing.version:
            raise LabError(
                f"lab {self.name!r} runs {existing.version}, not the binaries of {given}",
                fix=f"take it down first (python3 -m tests.lab down --name {self.name}), or give the new one another --name",
            )

    def _check_host(self, running: bool = False) -> None:
        reasons = host.problems(self.settings)
        if reasons and not running:
            raise LabError("the lab cannot run on this machine: " + "; ".join(reasons), fix="see docs/lab.md")

    def _build(self, existing: State | None) -> None:
        planes = self._wanted[0] or (existing.control_planes if existing else DEFAULT_CONTROL_PLANES)
        workers = self._wanted[1] if self._wanted[1] is not None else (existing.workers if existing else DEFAULT_WORKERS)
        check_size(planes, workers)
        root, content = self.prepare()
        self._remove()
        self.progress.step(f"lab {self.name}: {planes} control planes and {workers} workers, Kubernetes {content.version}")
        self._create(planes, workers, root, content)
        try:
            self._power_on()
            cluster.form(self, content)
        except LabError as exc:
            if exc.fix is None:
                exc.fix = f"read {self.logs}; 'python3 -m tests.lab up --name {self.name}' starts over"
            raise
        self.state.phase = "ready"
        self._save()
        self.progress.step(
            f"lab {self.name} is up: https://{self.balancer_address}:{API_PORT}, {content.version},"
            f" nodes {', '.join(self.addresses)}"
        )

    def _create(self, planes: int, workers: int, root: Path, content: layer.Layer) -> None:
        # Two labs coming up at once must not choose the same subnet.
        with lock(self.settings.home / "locks" / "subnet", self.progress, "choosing a subnet"):
            taken = list(network.host_networks())
            for other in (self.settings.home / "labs").glob("*/state.json"):
                with contextlib.suppress(ValueError, KeyError, OSError):
                    taken.append(json.loads(other.read_text())["subnet"])
            subnet = network.choose(taken)
            self.directory.mkdir(parents=True, mode=0o700)
            self.logs.mkdir()
            self._state = State(
                name=self.name,
                control_planes=planes,
                workers=workers,
                subnet=str(subnet.network),
                root=str(root),
                layer=str(content.directory),
                version=content.version,
                token=f"{secrets.token_hex(3)}.{secrets.token_hex(8)}",
                certificate_key=secrets.token_hex(32),
            )
            self._save()
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"kubepki-lab-{self.name}", "-f", self.key])

    def _save(self) -> None:
        with self._guard:
            self.state.save(self.directory)

    def _remember(self, name: str, process: Any) -> None:
        with self._guard:
            self.state.processes[name] = process
            self._save()

    def _power_on(self) -> None:
        """Network, balancer and every node that does not run; returns when all nodes answer on SSH."""
        raised = host.allow_inotify()
        if raised:
            self.progress.step(raised)
        content, root = layer.load(Path(self.state.layer)), Path(self.state.root)
        self.network.up()
        key = self.key.with_suffix(".pub").read_text()
        started = []
        for node in self.nodes:
            if self._running(node):
                # The bridge may be a new one.
                run(["ip", "link", "set", self.network.interface(node.name), "master", self.network.bridge, "up"], check=False)
                node.cgroup.freeze(False)
                continue
            node.mount(content, root)
            node.write(self.addresses, key)
            self._remember(node.name, node.start())
            started.append(node.name)
        if started:
            self.progress.step(f"booting {', '.join(started)}")
        self._start_balancer()
        parallel({n.name: (lambda n=n: self.wait_ssh(n.name)) for n in self.nodes})  # type: ignore[misc]
        if started:
            self.progress.step("all nodes answer")

    def _start_balancer(self) -> None:
        process = self.state.processes.get("balancer")
        if process and process.alive() and self._in_namespace(process.pid):
            return
        self._stop_balancer()
        text = balancer.config(self.balancer_address, self.control_planes)
        self._remember("balancer", balancer.start(self.network.namespace, text, self.directory))

    def _in_namespace(self, pid: int) -> bool:
        try:
            return os.path.samefile(f"/proc/{pid}/ns/net", f"/run/netns/{self.network.namespace}")
        except OSError:
            return False

    def _stop_balancer(self) -> None:
        process = self._state.processes.get("balancer") if self._state else None
        if process:
            process.kill()
        # Also one that a killed `up` had no time to note: whatever lives in the lab's own namespace is the lab's.
        namespace = f"kubepki-lab-{self.name}"
        if Path("/run/netns", namespace).exists():
            for pid in run(["ip", "netns", "pids", namespace], check=False).stdout.split():
                found = identify(int(pid))
                if found:
                    found.kill()

    def _running(self, node: Node) -> bool:
        process = self.state.processes.get(node.name)
        return bool(process and process.alive())

    def wait_ssh(self, name: str, seconds: float = 180) -> None:
        """Wait until a node answers on SSH and its containerd runs; LabError with its console otherwise."""
        node = self.node(name)
        probe = "test -S /run/containerd/containerd.sock && systemctl is-active --quiet containerd kubepki-lab-network"

        def missing() -> str | None:
            if not self._running(node):
                raise LabError("it stopped while booting", node=name, log=node.console_tail(), fix=f"read {node.console}")
            try:
                done = self.run(name, probe, check=False, timeout=20)
            except LabError as exc:
                return exc.message
            return None if done.returncode == 0 else (tail(done.stderr, 1) or "containerd is not up yet")

        wait_for(
            missing,
            seconds=seconds,
            failure=lambda seen: LabError(
                f"it does not come up within {seconds:.0f} s: {seen}",
                node=name,
                log=node.console_tail(),
                fix=f"read {node.console}",
            ),
        )

    def _quick_problems(self) -> list[str]:
        """What is wrong with a finished lab, seen without SSH, in a second or so."""
        found = []
        if not Path(self.state.layer).is_dir() or not Path(self.state.root).is_dir():
            found.append("its node root or images are gone from the cache")
        if not self.network.healthy():
            found.append("its network is not up")
        process = self.state.processes.get("balancer")
        if not (process and process.alive()):
            found.append("its balancer does not run")
        for node in self.nodes:
            if not self._running(node):
                found.append(f"{node.name} does not run")
            elif not node.mounted():
                found.append(f"the disk of {node.name} is not mounted")
            elif not self.network.attached(node.name):
                found.append(f"{node.name} is unplugged")
        return found or cluster.problems(self)

    def _repair(self, problems: Sequence[str], seconds: float = 240) -> bool:
        """Try to make a lab whole that was once Ready; False when it has to be built anew."""
        self.progress.step(f"lab {self.name} is not healthy: {'; '.join(problems)}")
        if not Path(self.state.layer).is_dir() or not Path(self.state.root).is_dir():
            return False
        try:
            self.progress.step("repairing it, with the disks of its nodes kept")
            self._power_on()
            self.progress.step("waiting for the cluster")
            cluster.wait_healthy(self, seconds)
        except (LabError, OSError) as exc:
            self.progress.step(f"it cannot be repaired, so it is built anew; the reason was:\n{exc}")
            return False
        self.progress.step(f"lab {self.name} is up again ({self.state.version})")
        return True

    # -- down ----------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Remove the lab: its processes, mounts, network, cgroups and files, and nothing else."""
        with self._locked():
            there = self.directory.exists() or bool(self._left())
            self._remove()
            left = self._left()
            if left:
                raise LabError(f"something of lab {self.name!r} is left: {', '.join(left)}", fix="run down again")
            self.progress.step(f"lab {self.name} is gone" if there else f"there is no lab {self.name}")

    def _remove(self) -> None:
        """Remove whatever is there, finished or not, remembered or not: names derive from the lab's alone."""
        self._state = None
        with contextlib.suppress(LabError):
            self._state = load_state(self.directory)
        nodes = self._nodes_on_disk()
        parallel({n.name: (lambda n=n: self._remove_node(n)) for n in nodes})  # type: ignore[misc]
        self._stop_balancer()
        for name in self._cgroup_labels():
            cgroup = NodeCgroup(name)
            cgroup.freeze(False)
            cgroup.kill()
            cgroup.remove()
        self._any_network().down()
        for point in mounts_below(self.directory):
            run(["umount", point], what=f"{point} cannot be unmounted")
        remove_tree(self.directory)
        self._state = None

    def _remove_node(self, node: Node) -> None:
        process = self._state.processes.get(node.name) if self._state else None
        node.stop(process)
        node.unmount()
        node.cgroup.remove()

    def _any_network(self) -> Network:
        # Taking down needs the names only, and those derive from the lab's name.
        return Network(self.name, Subnet(IPv4Network("10.89.0.0/24")))

    def _nodes_on_disk(self) -> list[Node]:
        base = self.directory / "nodes"
        if not base.is_dir():
            return []
        return [Node(d.name, "", False, d, self._any_network(), self.name) for d in sorted(base.iterdir())]

    def _cgroup_labels(self) -> list[str]:
        pattern = f"kubepki-lab-{self.name}.*"
        found = {p.name.removesuffix(".scope") for top in (CGROUPS, *CGROUPS.glob("*")) for p in top.glob(pattern)}
        return sorted(found)

    def _left(self) -> list[str]:
        found = list(self._any_network().left())
        found += [f"cgroup {name}" for name in self._cgroup_labels()]
        found += [f"mount {point}" for point in mounts_below(self.directory)]
        if self.directory.exists():
            found.append(str(self.directory))
        return found

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with lock(self.settings.home / "locks" / f"lab-{self.name}", self.progress, f"lab {self.name}"):
            self._state = None
            yield

    # -- power and cables ----------------------------------------------------------------------------------------

    def stop_node(self, name: str) -> None:
        """Cut a node's power: all its processes end at once, its disk is kept."""
        with self._locked():
            self.node(name).stop(self.state.processes.get(name))
            self.progress.step(f"{name} is off")

    def start_node(self, name: str, *, wait: bool = True) -> None:
        """Switch a node on again with the disk it had; with ``wait``, returns when it answers on SSH."""
        with self._locked():
            node = self.node(name)
            if not self._running(node):
                node.mount(layer.load(Path(self.state.layer)), Path(self.state.root))
                node.write(self.addresses, self.key.with_suffix(".pub").read_text())
                self._remember(name, node.start())
            if wait:
                self.wait_ssh(name)
            self.progress.step(f"{name} is on")

    def unplug(self, name: str) -> None:
        """Pull a node's network cable; the node goes on by itself."""
        self.network.attach(self.node(name).name, False)

    def plug(self, name: str) -> None:
        """Put a node's network cable back."""
        self.network.attach(self.node(name).name, True)

    def pause_node(self, name: str) -> None:
        """Freeze every process of a node where it stands (it is there and does not answer)."""
        self.node(name).cgroup.freeze(True)

    def resume_node(self, name: str) -> None:
        """Let a frozen node go on."""
        self.node(name).cgroup.freeze(False)

    def wait_healthy(self, seconds: float = 150) -> None:
        """Wait until every node is Ready, every apiserver serves and etcd has all members; LabError otherwise."""
        cluster.wait_healthy(self, seconds)

    # -- seeing --------------------------------------------------------------------------------------------------

    def status(self) -> LabStatus:
        """What is there and how it does."""
        self._state = None
        if not self.exists():
            return LabStatus(self.name, "absent", None, None, False, [], [])
        ready = cluster.ready_nodes(self)
        rows: list[NodeStatus] = []
        guard = threading.Lock()

        def look(node: Node) -> None:
            running = self._running(node)
            answers = running and self._answers(node.name)
            row = NodeStatus(
                name=node.name,
                address=node.address,
                role="control-plane" if node.control_plane else "worker",
                running=running,
                plugged=running and self.network.attached(node.name),
                ssh=answers,
                apiserver=cluster.apiserver_ready(self, node.address) if node.control_plane else None,
                ready=ready.get(node.name) if ready is not None else None,
            )
            with guard:
                rows.append(row)

        parallel({n.name: (lambda n=n: look(n)) for n in self.nodes})  # type: ignore[misc]
        order = list(self.addresses)
        rows.sort(key=lambda r: order.index(r.name))
        process = self.state.processes.get("balancer")
        return LabStatus(
            name=self.name,
            phase=self.state.phase,
            version=self.state.version,
            api=f"https://{self.balancer_address}:{API_PORT}",
            balancer=bool(process and process.alive()),
            nodes=rows,
            problems=self._quick_problems(),
        )

    def _answers(self, name: str) -> bool:
        try:
            return self.run(name, "true", check=False, timeout=10).returncode == 0
        except LabError:
            return False

    def watch(self, **options: Any) -> Watch:
        """Clients that count what they see while something happens: ``with lab.watch() as w: ...; w.counts()``."""
        from .watch import Watch

        return Watch(self, **options)


def all_labs(settings: Settings) -> list[str]:
    """Names of the labs under this home."""
    base = settings.home / "labs"
    return sorted(p.parent.name for p in base.glob("*/state.json")) if base.is_dir() else []
