# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch's clients count, against real TLS servers on this machine: what fails, what is reopened, what is not."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import watch
from tests.lab.client import CLOSED, Client, Counter, Endpoint, Failure, Identity, Loop, Request, fetch, merge, pod_loops


class Server:
    """An HTTPS server on 127.0.0.1 whose behaviour a test changes while it runs."""

    def __init__(self, directory: Path) -> None:
        outer = self
        self.status = 200
        self.seen: list[str] = []
        self.tokens: list[str | None] = []
        self.close_after_answer = False
        self.drop = False

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.seen.append(self.path)
                outer.tokens.append(self.headers.get("Authorization"))
                if outer.drop:
                    self.close_connection = True
                    return
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")
                if outer.close_after_answer:
                    # Like a server that stops: no "Connection: close", the connection just ends.
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem")
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.http.server_address[1], "k8s-api")

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("pki")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=base, check=True, capture_output=True)

    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("ca", "other"):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", "/CN=kubernetes")
    openssl(
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=kube-apiserver",
    )
    (base / "ext").write_text("subjectAltName=DNS:k8s-api,IP:127.0.0.1\n")
    openssl(
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "ext",
        "-out",
        "server.crt",
    )
    (base / "server.pem").write_text((base / "server.crt").read_text() + (base / "server.key").read_text())
    return base


@pytest.fixture
def server(pki: Path) -> Iterator[Server]:
    running = Server(pki)
    yield running
    running.stop()


@pytest.fixture
def identity(pki: Path) -> Identity:
    return Identity((pki / "ca.crt").read_bytes())


def client(server: Server, identity: Identity, **options: Any) -> Client:
    return Client([server.endpoint], lambda: identity, Request("/x"), **{"keep_alive": False, "timeout": 2, **options})


def test_a_served_request_is_no_failure(server: Server, identity: Identity) -> None:
    client(server, identity).attempt()
    assert server.seen == ["/x"]


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_any_other_status_is_a_failure_and_not_retried(server: Server, identity: Identity, status: int) -> None:
    server.status = status
    with pytest.raises(Failure, match=f"HTTP {status}"):
        client(server, identity).attempt()
    assert len(server.seen) == 1


def test_a_failure_on_a_kept_connection_is_counted_once(server: Server, identity: Identity) -> None:
    kept = client(server, identity, keep_alive=True)
    kept.attempt()
    server.status = 500
    with pytest.raises(Failure, match="HTTP 500"):
        kept.attempt()
    server.status = 200
    kept.attempt()
    assert kept.reopened == 0


def test_a_dropped_request_on_a_new_connection_is_a_failure_and_not_retried(server: Server, identity: Identity) -> None:
    server.drop = True
    with pytest.raises(Failure, match=f"^{CLOSED}"):
        client(server, identity).attempt()
    assert len(server.seen) == 1


@pytest.mark.parametrize("how", ["at once", "reset", "in the handshake", "after the handshake"])
def test_a_server_that_ends_reads_the_same_whenever_it_does(pki: Path, identity: Identity, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def end() -> None:
            connection = listener.accept()[0]
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "in the handshake":
                connection.recv(1 << 16)
            elif how == "after the handshake":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(pki / "server.pem")
                tls = context.wrap_socket(connection, server_side=True)
                tls.settimeout(0)
                with contextlib.suppress(ssl.SSLError, OSError):
                    tls.unwrap()  # says that it closes, as Go does
                connection = tls
            connection.close()

        thread = threading.Thread(target=end)
        thread.start()
        endpoint = Endpoint("127.0.0.1", listener.getsockname()[1], "k8s-api")
        with pytest.raises(Failure, match=f"^{CLOSED}: ."):
            Client([endpoint], lambda: identity, Request("/x"), keep_alive=False, timeout=5).attempt()
        thread.join()


def test_a_server_that_is_not_there_is_a_failure(server: Server, identity: Identity) -> None:
    server.stop()
    with pytest.raises(Failure, match="refused"):
        client(server, identity).attempt()


def test_a_certificate_of_another_ca_is_a_failure(server: Server, pki: Path) -> None:
    with pytest.raises(Failure, match="(?i)certificate"):
        client(server, Identity((pki / "other.crt").read_bytes())).attempt()
    assert server.seen == []


def test_a_bundle_with_the_right_ca_is_trusted(server: Server, pki: Path) -> None:
    bundle = (pki / "other.crt").read_bytes() + (pki / "ca.crt").read_bytes()
    client(server, Identity(bundle)).attempt()


def test_a_certificate_for_another_name_is_a_failure(server: Server, identity: Identity) -> None:
    wrong = Endpoint("127.0.0.1", server.endpoint.port, "elsewhere")
    with pytest.raises(Failure, match="(?i)hostname|elsewhere"):
        Client([wrong], lambda: identity, Request("/x"), keep_alive=False).attempt()


def test_a_kept_connection_that_the_server_closed_while_idle_is_reopened(server: Server, identity: Identity) -> None:
    kept = client(server, identity, keep_alive=True)
    server.close_after_answer = True
    kept.attempt()
    time.sleep(0.1)
    kept.attempt()
    assert kept.reopened == 1
    assert len(server.seen) == 2


def test_a_kept_connection_is_used_again(server: Server, identity: Identity) -> None:
    reads: list[int] = []
    kept = Client([server.endpoint], lambda: (reads.append(1), identity)[1], Request("/x"), keep_alive=True)
    for _turn in range(3):
        kept.attempt()
    assert (len(reads), kept.reopened, len(server.seen)) == (1, 0, 3)


def test_a_request_dropped_on_a_kept_connection_is_sent_once_more_and_then_fails(server: Server, identity: Identity) -> None:
    kept = client(server, identity, keep_alive=True)
    kept.attempt()
    server.drop = True
    with pytest.raises(Failure):
        kept.attempt()
    assert len(server.seen) == 3
    assert kept.reopened == 1


def test_with_several_endpoints_one_that_serves_is_enough(pki: Path, server: Server, identity: Identity) -> None:
    other = Server(pki)
    many = Client([other.endpoint, server.endpoint], lambda: identity, Request("/x"), keep_alive=False, timeout=2)
    many.attempt()
    other.stop()
    for _turn in range(4):
        many.attempt()
    assert len(server.seen) == 4
    server.status = 503
    with pytest.raises(Failure, match="refused.*HTTP 503|HTTP 503.*refused"):
        many.attempt()


def test_the_pods_token_is_read_anew_and_its_ca_is_not(server: Server, pki: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
    (tmp_path / "token").write_text("one")
    loops = pod_loops(tmp_path, "127.0.0.1", server.endpoint.port, "/y", 5)
    fresh, kept = loops["pod"].client, loops["pod-kept"].client
    fresh.attempt()
    kept.attempt()
    (tmp_path / "token").write_text("two")
    fresh.attempt()
    kept.attempt()
    assert server.tokens == ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]
    (tmp_path / "ca.crt").write_bytes((pki / "other.crt").read_bytes())
    kept.close()
    kept.attempt()
    with pytest.raises(Failure, match="(?i)certificate"):
        fresh.attempt()


def test_a_loop_counts_only_once_it_is_told_to(server: Server, identity: Identity) -> None:
    loop = Loop("x", client(server, identity), 100)
    loop.start()
    deadline = time.monotonic() + 10
    while not loop.counter.succeeded and time.monotonic() < deadline:
        time.sleep(0.01)
    assert loop.counts()["requests"] == 0
    loop.counter.counting = True
    while loop.counts()["requests"] < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.status = 500
    while loop.counts()["failures"] < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    loop.stop()
    loop.join(5)
    counts = loop.counts()
    assert counts["requests"] >= 5
    assert counts["failures"] >= 2
    assert "HTTP 500" in counts["first_failures"][0]["error"]


def test_a_counter_tells_latency_outage_and_the_first_failures() -> None:
    counter = Counter(limit=2)
    counter.counting = True
    for n in range(98):
        counter.success(0.010, float(n))
    counter.failure("a", 1.0, 101.0)
    counter.failure("b", 0.5, 102.0)
    counter.failure("c", 0.5, 103.0)
    counter.success(0.020, 104.0)
    counts = counter.as_dict()
    assert (counts["requests"], counts["failures"]) == (102, 3)
    assert counts["latency_ms"] == {"p50": 10.0, "p99": 500.0, "max": 1000.0}
    assert counts["longest_outage_seconds"] == pytest.approx(4.0)
    assert [f["error"] for f in counts["first_failures"]] == ["a", "b"]
    assert counts["first_failures"][0]["at"].endswith("Z")


def test_counts_of_a_replaced_pod_add_up() -> None:
    one, two = Counter(), Counter()
    for counter in (one, two):
        counter.counting = True
    one.success(0.01, 1.0)
    two.failure("x", 0.3, 2.0)
    total = merge([{**one.as_dict(), "reopened": 2}, {**two.as_dict(), "reopened": 1}])
    assert (total["requests"], total["failures"], total["reopened"]) == (2, 1, 3)
    assert total["latency_ms"]["max"] == 300.0
    assert merge([])["requests"] == 0


def test_failures_of_informational_clients_are_no_outage() -> None:
    def counted(name: str, failures: int) -> dict[str, Any]:
        counter = Counter()
        counter.counting = True
        for n in range(failures):
            counter.failure("x", 0.1, float(n))
        return {"informational": watch.kind_of(name).informational, "reopened": 0, **counter.as_dict()}

    counts = {n: counted(n, f) for n, f in (("balancer", 2), ("apiserver-cp1", 7), ("etcd-cp2", 7), ("etcd", 1), ("pod-kept", 0))}
    assert watch.failed(counts) == 3
    text = watch.render({"clients": counts, "failures": 3, "seconds": 1.5})
    assert "3 failed requests in 1.5 s" in text
    assert sum("(informational)" in line for line in text.splitlines()) == 2


def test_the_pods_objects_are_complete_and_named_after_the_run() -> None:
    items = watch.manifests("abc123", "w1", 5.0)["items"]
    assert sorted(i["kind"] for i in items) == ["ConfigMap", "Deployment", "Role", "RoleBinding", "ServiceAccount"]
    assert {i["metadata"]["name"] for i in items} == {"kubepki-lab-watch-abc123"}
    assert all(i["metadata"]["labels"] == {"kubepki-lab-watch": "abc123"} for i in items)
    spec = next(i for i in items if i["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/hostname": "w1"}
    role = next(i for i in items if i["kind"] == "Role")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["kubepki-lab-watch-abc123"], "verbs": ["get"]}
    ]
    assert json.loads(json.dumps(items)) == items


def test_keys_do_not_show_in_a_repr(pki: Path) -> None:
    assert "secret" not in repr(Identity(b"ca", b"crt", b"secret", "secret"))


def test_a_client_certificate_is_used_without_touching_the_disk(
    pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem")
    context.load_verify_locations(pki / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    subjects: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            raw = listener.accept()[0]
            with context.wrap_socket(raw, server_side=True) as secure:
                subjects.append(secure.getpeercert())
                secure.recv(4096)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        who = Identity((pki / "ca.crt").read_bytes(), (pki / "server.crt").read_bytes(), (pki / "server.key").read_bytes())
        assert fetch(Endpoint("127.0.0.1", listener.getsockname()[1], "k8s-api"), who, Request("/"), 5) == (200, b"ok")
        thread.join(5)
    assert subjects[0]["subject"] == ((("commonName", "kube-apiserver"),),)
    assert list(tmp_path.iterdir()) == []
