# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain HTTPS client that counts what it sees. Used by ``watch`` on the host and, as a single file, in its pod.

It behaves as HTTP libraries do: a request that fails has failed, with one exception - a kept-alive connection that
the server had closed while it was idle is opened again (Go's net/http and urllib3 both do that), which is counted
as ``reopened``.
"""

from __future__ import annotations

import array
import contextlib
import datetime
import http.client
import json
import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIRST_FAILURES = 20
TIMEOUT = 10.0


@dataclass(frozen=True)
class Endpoint:
    """Where a request goes: the address to connect to, and the name its certificate must have."""

    address: str
    port: int
    server_name: str


@dataclass(frozen=True)
class Identity:
    """Whom a client trusts and who it is: CA bundle, certificate and key (PEM), or a bearer token; no repr of keys."""

    ca: bytes
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        """A TLS context for this identity, as lenient and as strict as Go's: any CA of the bundle is an anchor."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=self.ca.decode())
        if self.certificate and self.key:
            # The ssl module takes files only; these never touch a disk.
            descriptor = os.memfd_create("identity")
            try:
                with os.fdopen(os.dup(descriptor), "wb") as out:
                    out.write(self.certificate + b"\n" + self.key)
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)
        return context


@dataclass(frozen=True)
class Request:
    """What is asked: method, path, body (JSON text) and the answer that counts as success."""

    path: str
    method: str = "GET"
    body: str | None = None
    status: int = 200


class Failure(Exception):
    """A request that did not get the answer it should have got."""


class Connection:
    """One TLS connection to an endpoint."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext, timeout: float) -> None:
        raw = socket.create_connection((endpoint.address, endpoint.port), timeout=timeout)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = context.wrap_socket(raw, server_hostname=endpoint.server_name)
        except BaseException:
            raw.close()
            raise
        self.http = http.client.HTTPConnection(endpoint.server_name, endpoint.port, timeout=timeout)
        self.http.sock = self.socket
        # Without this http.client would quietly connect again, in clear text.
        self.http.auto_open = 0
        self.used = False

    def idle_closed(self) -> bool:
        """Whether the server has closed (or said anything on) this idle connection."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def ask(self, request: Request, token: str | None) -> tuple[int, bytes, bool]:
        """Send a request; returns status, body and whether the connection can be used again."""
        headers = {"Accept": "application/json", "User-Agent": "kubepki-lab-watch"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.http.request(request.method, request.path, body=request.body, headers=headers)
        response = self.http.getresponse()
        body = response.read()
        self.used = True
        return response.status, body, not response.will_close

    def close(self) -> None:
        """Close it; never raises."""
        with contextlib.suppress(OSError):
            self.http.close()


def fetch(endpoint: Endpoint, identity: Identity, request: Request, timeout: float = TIMEOUT) -> tuple[int, bytes]:
    """One request on a connection of its own; returns status and body. OSError or HTTPException when it fails."""
    connection = Connection(endpoint, identity.context(), timeout)
    try:
        status, body = connection.ask(request, identity.token)[:2]
        return status, body
    finally:
        connection.close()


#: Gives the identity for the next connection; called again for each one (a client that reads once closes over it).
Source = Callable[[], Identity]

#: How a failure begins whose connection the server closed before it answered.
CLOSED = "connection closed"

#: A server that ends shows itself as one of these, each with words of its own; the words differ with Python and OpenSSL, too.
_CLOSED = (
    http.client.RemoteDisconnected,
    ConnectionResetError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


class Client:
    """A client of one service that has one or several endpoints (it goes on to the next when one does not serve)."""

    def __init__(
        self, endpoints: Sequence[Endpoint], source: Source, request: Request, *, keep_alive: bool, timeout: float = TIMEOUT
    ) -> None:
        self.endpoints = list(endpoints)
        self.source = source
        self.request = request
        self.keep_alive = keep_alive
        self.timeout = timeout
        self.reopened = 0
        self._open: dict[Endpoint, tuple[Connection, Identity]] = {}
        self._last: tuple[Identity, ssl.SSLContext] | None = None
        self._turn = 0

    def attempt(self) -> None:
        """Make one request; raises Failure (with the reason of every endpoint) when no endpoint serves it."""
        reasons = []
        for step in range(len(self.endpoints)):
            endpoint = self.endpoints[(self._turn + step) % len(self.endpoints)]
            try:
                self._once(endpoint)
                # The next request begins with another endpoint: a client with several balances over them.
                self._turn += step + 1
                return
            except (OSError, http.client.HTTPException, ValueError, Failure) as exc:
                text = (f"{CLOSED}: " if isinstance(exc, _CLOSED) else "") + (str(exc) or type(exc).__name__)
                reasons.append(f"{endpoint.address}: {text}" if len(self.endpoints) > 1 else text)
        raise Failure("; ".join(reasons))

    def _context(self, identity: Identity) -> ssl.SSLContext:
        # Parsing keys is most of a small client's work; the same bytes give the same context.
        if self._last is None or self._last[0] != identity:
            self._last = (identity, identity.context())
        return self._last[1]

    def _connect(self, endpoint: Endpoint) -> tuple[Connection, Identity]:
        identity = self.source()
        return Connection(endpoint, self._context(identity), self.timeout), identity

    def _once(self, endpoint: Endpoint) -> None:
        kept = self._open.pop(endpoint, None)
        if kept and kept[0].idle_closed():
            kept[0].close()
            kept = None
            self.reopened += 1
        connection, identity = kept or self._connect(endpoint)
        try:
            try:
                self._ask(endpoint, connection, identity)
            except _CLOSED:
                if not connection.used:
                    raise
                # The server closed it in the moment the request was sent: no byte of an answer has come.
                connection.close()
                self.reopened += 1
                connection, identity = self._connect(endpoint)
                self._ask(endpoint, connection, identity)
        except Failure:
            raise  # an answer came; the connection is kept or closed as the server asked
        except BaseException:
            connection.close()
            raise

    def _ask(self, endpoint: Endpoint, connection: Connection, identity: Identity) -> None:
        token = identity.token
        if token is not None and connection.used:
            # client-go reads the token file anew, whatever the age of the connection.
            token = self.source().token
        status, body, reusable = connection.ask(self.request, token)
        if self.keep_alive and reusable:
            self._open[endpoint] = (connection, identity)
        else:
            connection.close()
        if status != self.request.status:
            raise Failure(f"HTTP {status}: {body[:200].decode(errors='replace').strip()}")

    def close(self) -> None:
        """Close what is kept alive."""
        for connection, _identity in self._open.values():
            connection.close()
        self._open.clear()


def now() -> str:
    """The time as reports and failures have it: UTC, with milliseconds."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Counter:
    """Counts one client's requests. Not counting yet (``counting`` false) it only notes whether one succeeded."""

    def __init__(self, limit: int = FIRST_FAILURES) -> None:
        self.counting = False
        self.succeeded = False
        self.last_error: str | None = None
        self.requests = 0
        self.failures = 0
        self.first_failures: list[dict[str, Any]] = []
        self.longest_outage = 0.0
        self._limit = limit
        self._latencies = array.array("d")
        self._failing_since: float | None = None

    def success(self, seconds: float, at: float) -> None:
        """A request succeeded after ``seconds``; ``at`` is the monotonic time it ended."""
        self.succeeded = True
        if not self.counting:
            return
        self.requests += 1
        self._latencies.append(seconds)
        if self._failing_since is not None:
            self.longest_outage = max(self.longest_outage, at - self._failing_since)
            self._failing_since = None

    def failure(self, error: str, seconds: float, at: float) -> None:
        """A request failed after ``seconds``; ``at`` is the monotonic time it ended."""
        self.last_error = error
        if not self.counting:
            return
        self.requests += 1
        self.failures += 1
        self._latencies.append(seconds)
        if self._failing_since is None:
            self._failing_since = at - seconds
        self.longest_outage = max(self.longest_outage, at - self._failing_since)
        if len(self.first_failures) < self._limit:
            self.first_failures.append({"at": now(), "seconds": round(seconds, 3), "error": error[:500]})

    def as_dict(self) -> dict[str, Any]:
        """Counts as plain data; latencies in milliseconds, the longest outage in seconds."""
        ordered = sorted(self._latencies)

        def quantile(share: float) -> float:
            return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0

        return {
            "requests": self.requests,
            "failures": self.failures,
            "latency_ms": {"p50": quantile(0.5), "p99": quantile(0.99), "max": quantile(1.0)},
            "longest_outage_seconds": round(self.longest_outage, 3),
            "first_failures": list(self.first_failures),
        }


def merge(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up counts of the same client from several processes (a pod that was replaced): ``Counter.as_dict`` data.

    Quantiles cannot be added; the largest stands for all.
    """
    total: dict[str, Any] = {
        "requests": 0,
        "failures": 0,
        "reopened": 0,
        "latency_ms": {"p50": 0.0, "p99": 0.0, "max": 0.0},
        "longest_outage_seconds": 0.0,
        "first_failures": [],
    }
    for part in parts:
        for name in ("requests", "failures", "reopened"):
            total[name] += part.get(name, 0)
        for name in total["latency_ms"]:
            total["latency_ms"][name] = max(total["latency_ms"][name], part["latency_ms"][name])
        total["longest_outage_seconds"] = max(total["longest_outage_seconds"], part["longest_outage_seconds"])
        total["first_failures"].extend(part["first_failures"])
    total["first_failures"] = sorted(total["first_failures"], key=lambda f: str(f["at"]))[:FIRST_FAILURES]
    return total


class Loop(threading.Thread):
    """Runs one client at a steady rate until it is told to stop."""

    def __init__(self, name: str, client: Client, rate: float) -> None:
        super().__init__(name=f"watch-{name}", daemon=True)
        self.client = client
        self.counter = Counter()
        self._pause = 1.0 / rate
        self._stopping = threading.Event()

    def run(self) -> None:
        """Make requests; a slow answer delays the next request, it is not caught up."""
        while not self._stopping.is_set():
            begin = time.monotonic()
            try:
                self.client.attempt()
            except Failure as exc:
                end = time.monotonic()
                self.counter.failure(str(exc), end - begin, end)
            else:
                end = time.monotonic()
                self.counter.success(end - begin, end)
            self._stopping.wait(max(0.0, self._pause - (time.monotonic() - begin)))
        self.client.close()

    def stop(self) -> None:
        """Ask the loop to end; join it to wait for that."""
        self._stopping.set()

    def counts(self) -> dict[str, Any]:
        """What has been counted so far."""
        return {**self.counter.as_dict(), "reopened": self.client.reopened}


SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def pod_loops(directory: Path, host: str, port: int, path: str, rate: float) -> dict[str, Loop]:
    """The two clients of the pod.

    ``pod`` opens a connection for each request and reads CA and token for each; ``pod-kept`` is client-go: a kept
    connection, the CA read once when the process starts, the token read anew.
    """
    ca_at_start = (directory / "ca.crt").read_bytes()

    def token() -> str:
        return (directory / "token").read_text().strip()

    endpoint = Endpoint(host, port, host)
    request = Request(path)
    return {
        "pod": Loop(
            "pod",
            Client([endpoint], lambda: Identity((directory / "ca.crt").read_bytes(), token=token()), request, keep_alive=False),
            rate,
        ),
        "pod-kept": Loop(
            "pod-kept",
            Client([endpoint], lambda: Identity(ca_at_start, token=token()), request, keep_alive=True),
            rate,
        ),
    }


def main(arguments: Sequence[str]) -> int:
    """In the pod: ``client.py RESULTS_DIRECTORY PATH RATE``. Writes its counts there until it is terminated."""
    results, path, rate = Path(arguments[0]), arguments[1], float(arguments[2])
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    loops = pod_loops(
        SERVICE_ACCOUNT, os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]), path, rate
    )
    target = results / f"{socket.gethostname()}.json"
    for loop in loops.values():
        loop.start()

    def report() -> None:
        data = {
            name: {**loop.counts(), "counting": loop.counter.counting, "last_error": loop.counter.last_error}
            for name, loop in loops.items()
        }
        temporary = target.with_suffix(".new")
        temporary.write_text(json.dumps(data))
        temporary.replace(target)

    while not ended.wait(0.25):
        if all(loop.counter.succeeded for loop in loops.values()):
            for loop in loops.values():
                loop.counter.counting = True
        report()
    for loop in loops.values():
        loop.stop()
    for loop in loops.values():
        loop.join(TIMEOUT)
    report()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
