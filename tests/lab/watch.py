# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that run while something is done to the cluster, and count what they see.

| client | path to the service | connection | credentials |
|---|---|---|---|
| ``balancer`` | balancer | one a request | admin.conf read once, at the start |
| ``balancer-kept`` | balancer | kept alive | admin.conf read once, at the start |
| ``balancer-reread`` | balancer | one a request | admin.conf read for each request |
| ``balancer-reread-kept`` | balancer | kept alive | admin.conf read for each connection |
| ``pod`` | a real pod, in-cluster address | one a request | mounted CA and token read for each request |
| ``pod-kept`` | the same pod | kept alive | CA read once when the pod starts, token re-read: client-go |
| ``etcd`` | all members, the next one when one does not serve | one a request | healthcheck-client, re-read |
| ``apiserver-cpN`` | that apiserver alone | one a request | admin.conf re-read; informational |
| ``etcd-cpN`` | that member alone | one a request | healthcheck-client, re-read; informational |

An informational client fails whenever its one server restarts; for all others a failure is an outage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from . import kubeconfig
from .client import Client, Endpoint, Identity, Loop, Request, merge, now
from .cluster import ETCD_READ, etcd_identity
from .errors import LabError
from .kubeadm import API_NAME, API_PORT
from .layer import PYTHON_IMAGE
from .procs import Process, identify
from .shell import wait_for

if TYPE_CHECKING:
    from .lab import Lab

#: A read that goes through to etcd.
_READ = Request("/api/v1/namespaces/default")
_NAMESPACE = "kube-system"
_LABEL = "kubepki-lab-watch"
_POD_DIRECTORY = "/var/lib/kubepki-lab/watch"
_POD_CLIENTS = ("pod", "pod-kept")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a client is: its path, its connections, its credentials, and whether its failures are informational."""

    through: str
    connection: str
    credentials: str
    informational: bool = False


KINDS = {
    "balancer": Kind("balancer", "fresh", "once"),
    "balancer-kept": Kind("balancer", "kept-alive", "once"),
    "balancer-reread": Kind("balancer", "fresh", "re-read"),
    "balancer-reread-kept": Kind("balancer", "kept-alive", "re-read"),
    "pod": Kind("pod", "fresh", "re-read"),
    "pod-kept": Kind("pod", "kept-alive", "once"),
    "etcd": Kind("all members", "fresh", "re-read"),
}


def kind_of(client: str) -> Kind:
    """What the client of this name is (``apiserver-cp1`` and ``etcd-cp1`` included)."""
    return KINDS.get(client) or Kind("direct", "fresh", "re-read", informational=True)


def failed(counts: Mapping[str, Mapping[str, Any]]) -> int:
    """Failures in ``Watch.counts()`` that are an outage: those of all clients that are not informational."""
    return sum(int(c["failures"]) for c in counts.values() if not c["informational"])


class Watch:
    """``with lab.watch() as w: ...; w.counts()``.

    Entering starts all clients and returns once each one that is not informational has succeeded; counting begins
    then. Leaving stops them; ``counts()`` works during and after. ``pod=False`` leaves the pod out (it costs some
    seconds to start), ``rate`` is requests per second of the main clients. Several watches of one lab can run.
    """

    def __init__(self, lab: Lab, *, pod: bool = True, rate: float = 5.0) -> None:
        self.lab = lab
        self.run = secrets.token_hex(3)
        self.started_at: str | None = None
        self.ended_at: str | None = None
        self._pod = pod
        self._rate = rate
        self._loops: dict[str, Loop] = {}
        self._begin = 0.0
        self._seconds: float | None = None
        self._last_pod: dict[str, dict[str, Any]] = {}

    # -- life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self, seconds: float = 90) -> None:
        """Start the clients; LabError when one that must succeed does not within ``seconds``."""
        self._clean_left()
        self._note()
        try:
            self._loops = self._make_loops()
            for loop in self._loops.values():
                loop.start()
            if self._pod:
                self._start_pod()
            wait_for(
                self._cold,
                seconds=seconds,
                failure=lambda seen: LabError(
                    f"watch: not every client succeeds within {seconds:.0f} s: {seen}",
                    fix=f"python3 -m tests.lab status --name {self.lab.name}",
                ),
            )
        except BaseException:
            self.stop()
            raise
        self._begin = time.monotonic()
        self.started_at = now()
        for loop in self._loops.values():
            loop.counter.counting = True

    def stop(self) -> None:
        """Stop the clients and remove the pod; never raises because the cluster is unwell."""
        if self._seconds is None and self._begin:
            self._seconds = time.monotonic() - self._begin
            self.ended_at = now()
        for loop in self._loops.values():
            loop.stop()
        for loop in self._loops.values():
            loop.join(15)
        if self._pod:
            self._last_pod = self._pod_counts()
            self._pod = False
            self._remove_pod(self.run)
        with contextlib.suppress(FileNotFoundError):
            self._note_path(self.run).unlink()

    # -- results -------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, dict[str, Any]]:
        """Client name -> what it saw.

        ``requests``, ``failures``, ``reopened``, ``latency_ms`` (p50, p99, max), ``longest_outage_seconds``,
        ``first_failures`` (at, seconds, error), and what it is: through, connection, credentials, informational.
        """
        seen: dict[str, dict[str, Any]] = {name: loop.counts() for name, loop in self._loops.items()}
        seen.update(self._pod_counts() if self._pod else self._last_pod)
        order = [*KINDS, *sorted(n for n in seen if n not in KINDS)]
        return {name: {**dataclasses.asdict(kind_of(name)), **seen[name]} for name in order if name in seen}

    def failures(self) -> int:
        """Failed requests of all clients that are not informational."""
        return failed(self.counts())

    def table(self) -> str:
        """The counts as a table for a person, with the first failures of each client below it."""
        return render(self.report())

    def report(self) -> dict[str, Any]:
        """All of it as plain data, as ``watch --output`` writes it."""
        counts = self.counts()
        running = self._seconds is None
        seconds = time.monotonic() - self._begin if running else self._seconds
        return {
            "schema": 1,
            "lab": self.lab.name,
            "version": self.lab.version,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "running": running,
            "seconds": round(seconds or 0.0, 3),
            "failures": failed(counts),
            "clients": counts,
        }

    # -- clients on the host -------------------------------------------------------------------------------------

    def _make_loops(self) -> dict[str, Loop]:
        lab, rate = self.lab, self._rate
        admin = lab.path("cp1", "/etc/kubernetes/admin.conf")

        def read() -> Identity:
            credentials = kubeconfig.parse(admin.read_text())
            return Identity(credentials.ca, credentials.certificate, credentials.key)

        try:
            once = read()
            etcd_identity(lab)
        except (OSError, ValueError) as exc:
            raise LabError(f"watch: {exc}", node="cp1", fix="the lab has to be up") from exc
        balanced = [Endpoint(lab.balancer_address, API_PORT, API_NAME)]
        clients = {
            "balancer": (Client(balanced, lambda: once, _READ, keep_alive=False), rate),
            "balancer-kept": (Client(balanced, lambda: once, _READ, keep_alive=True), rate),
            "balancer-reread": (Client(balanced, read, _READ, keep_alive=False), rate),
            "balancer-reread-kept": (Client(balanced, read, _READ, keep_alive=True), rate),
            "etcd": (
                Client(
                    [Endpoint(a, 2379, a) for a in lab.control_planes.values()],
                    lambda: _steady_etcd(lab),
                    ETCD_READ,
                    keep_alive=False,
                    timeout=5,
                ),
                2.0,
            ),
        }
        for name, address in lab.control_planes.items():
            clients[f"apiserver-{name}"] = (
                Client([Endpoint(address, API_PORT, address)], read, _READ, keep_alive=False, timeout=5),
                2.0,
            )
            clients[f"etcd-{name}"] = (
                Client(
                    [Endpoint(address, 2379, address)],
                    lambda n=name: _steady_etcd(lab, n),  # type: ignore[misc]
                    ETCD_READ,
                    keep_alive=False,
                    timeout=5,
                ),
                1.0,
            )
        return {name: Loop(name, client, per_second) for name, (client, per_second) in clients.items()}

    def _cold(self) -> str | None:
        """Which clients have not succeeded yet, and why."""
        missing = [
            f"{name} ({loop.counter.last_error or 'no answer yet'})"
            for name, loop in self._loops.items()
            if not kind_of(name).informational and not loop.counter.succeeded
        ]
        if self._pod:
            seen = self._pod_files()
            if not any(all(part.get(c, {}).get("counting") for c in _POD_CLIENTS) for part in seen):
                errors = {str(p.get("last_error")) for part in seen for p in part.values() if p.get("last_error")}
                missing.append(f"pod ({'; '.join(sorted(errors)) or 'it does not run yet'})")
        return ", ".join(missing) or None

    # -- the pod -------------------------------------------------------------------------------------------------

    @property
    def _pod_node(self) -> str:
        return next(iter([*self.lab.workers, *self.lab.control_planes]))

    def _pod_host_directory(self, run: str) -> Path:
        return self.lab.path(self._pod_node, f"{_POD_DIRECTORY}/{run}")

    def _start_pod(self) -> None:
        directory = self._pod_host_directory(self.run)
        directory.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("client.py"), directory / "client.py")
        text = json.dumps(manifests(self.run, self._pod_node, self._rate))
        self.lab.kubectl("apply", "-f", "-", stdin=text)

    def _pod_files(self) -> list[dict[str, Any]]:
        found = []
        for path in self._pod_host_directory(self.run).glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(path.read_text()))
        return found

    def _pod_counts(self) -> dict[str, dict[str, Any]]:
        files = self._pod_files()
        return {name: merge(part[name] for part in files if name in part) for name in _POD_CLIENTS}

    def _remove_pod(self, run: str) -> None:
        with contextlib.suppress(LabError):
            self.lab.run(
                "cp1",
                f"kubectl --kubeconfig=/etc/kubernetes/admin.conf --request-timeout=20s delete --wait=false"
                f" -n {_NAMESPACE} deployment,rolebinding,role,serviceaccount,configmap -l {_LABEL}={run}",
                check=False,
                timeout=60,
            )
        shutil.rmtree(self._pod_host_directory(run), ignore_errors=True)

    # -- runs that died ------------------------------------------------------------------------------------------

    def _note_path(self, run: str) -> Path:
        return self.lab.directory / "watch" / f"{run}.json"

    def _note(self) -> None:
        path = self._note_path(self.run)
        path.parent.mkdir(exist_ok=True)
        process = identify(os.getpid())
        assert process is not None
        path.write_text(json.dumps(dataclasses.asdict(process)))

    def _clean_left(self) -> None:
        """Remove the pod of a watch whose process was killed."""
        for path in self._note_path("x").parent.glob("*.json"):
            try:
                owner = Process(**json.loads(path.read_text()))
            except (OSError, ValueError, TypeError):
                continue
            if not owner.alive():
                self._remove_pod(path.stem)
                path.unlink(missing_ok=True)


def _steady_etcd(lab: Lab, node: str = "cp1") -> Identity:
    """The etcd client's files as one consistent set.

    Certificate and key are two files: a reader that meets a renewal between the two reads again, as kubelet and
    apiserver do.
    """
    for _attempt in range(20):
        identity = etcd_identity(lab, node)
        if identity == etcd_identity(lab, node):
            return identity
        time.sleep(0.02)
    return identity


def manifests(run: str, node: str, rate: float) -> dict[str, Any]:
    """The pod of a watch and what it may read, as a Kubernetes List; all labelled with the run."""
    name = f"{_LABEL}-{run}"
    meta = {"name": name, "namespace": _NAMESPACE, "labels": {_LABEL: run}}
    container = {
        "name": "client",
        "image": PYTHON_IMAGE,
        "imagePullPolicy": "Never",
        "command": [
            "/usr/bin/python3",
            "-B",
            "/watch/client.py",
            "/watch",
            f"/api/v1/namespaces/{_NAMESPACE}/configmaps/{name}",
            str(rate),
        ],
        "volumeMounts": [{"name": "watch", "mountPath": "/watch"}],
    }
    pod = {
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 2,
        "containers": [container],
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": "watch", "hostPath": {"path": f"{_POD_DIRECTORY}/{run}", "type": "Directory"}}],
    }
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"hello": "pod"}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
            {
                "apiVersion": f"{group}/v1",
                "kind": "Role",
                "metadata": meta,
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}],
            },
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": _NAMESPACE}],
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": meta,
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": {_LABEL: run}},
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                    "template": {"metadata": {"labels": {_LABEL: run}}, "spec": pod},
                },
            },
        ],
    }


def render(report: Mapping[str, Any]) -> str:
    """A watch's report as a table for a person."""
    lines = [f"{'client':22} {'requests':>8} {'failed':>6} {'reopened':>8} {'p50 ms':>7} {'max ms':>8} {'outage s':>8}"]
    for name, c in report["clients"].items():
        line = f"{name:22} {c['requests']:8d} {c['failures']:6d} {c['reopened']:8d} {c['latency_ms']['p50']:7.1f}"
        line += f" {c['latency_ms']['max']:8.1f} {c['longest_outage_seconds']:8.2f}"
        lines.append(line + ("  (informational)" if c["informational"] else ""))
    lines.append(f"{report['failures']} failed requests in {report['seconds']:.1f} s, informational clients left out")
    for name, c in report["clients"].items():
        if not c["informational"]:
            lines.extend(f"  {name} {f['at']} after {f['seconds']} s: {f['error']}" for f in c["first_failures"][:5])
    return "\n".join(lines)


def _write(path: Path, report: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.replace(path)


def run_until_stopped(lab: Lab, *, output: Path | None, seconds: float | None, live: bool) -> int:
    """The ``watch`` command: count until SIGINT, SIGTERM or ``seconds``; prints a table, returns the exit code.

    ``output`` appears when counting begins, is kept up to date, and is final when ``running`` in it is false.
    """
    ended = threading.Event()

    def leave(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    if output:
        output.unlink(missing_ok=True)
    lab.progress.step(f"starting the clients of lab {lab.name}")
    with lab.watch() as watch:
        lab.progress.step("counting" + (f" for {seconds:.0f} s" if seconds else "; stop with Ctrl-C or SIGTERM"))
        deadline = time.monotonic() + seconds if seconds else None
        terminal = sys.stderr.isatty()
        shown = 0.0
        while not ended.wait(0.5 if deadline is None else max(0.0, min(0.5, deadline - time.monotonic()))):
            if deadline is not None and time.monotonic() >= deadline:
                break
            report = watch.report()
            if output:
                _write(output, report)
            if live and (terminal or time.monotonic() - shown >= 5):
                shown = time.monotonic()
                line = _live_line(report)
                print(f"\r{line}\x1b[K" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if live and terminal:
            print(file=sys.stderr)
    report = watch.report()
    if output:
        _write(output, report)
    print(render(report))
    return 0


def _live_line(report: Mapping[str, Any]) -> str:
    def share(prefix: str) -> str:
        some = [c for n, c in report["clients"].items() if n.startswith(prefix) and not c["informational"]]
        return f"{sum(c['requests'] for c in some)}/{sum(c['failures'] for c in some)}"

    parts = [f"{name} {share(name)}" for name in ("balancer", "pod", "etcd")]
    return f"{report['seconds']:7.1f} s  requests/failed: {'  '.join(parts)}"
