# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""probe against real TLS servers in threads."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import subprocess
import threading
import time
import types
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.endpoint import (
    discovery,
    health_checks,
    http_client,
    pod_endpoints,
    tls_handshake,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read

from tests.unit.support.tlsservers import Authority, Server, free_port


@pytest.fixture
def serve():
    servers = []

    def start(*args, **kwargs):
        servers.append(Server(*args, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_served_certificate_is_the_one_openssl_sees(authority, serve):
    pair = authority.leaf("apiserver")
    server = serve(pair)
    seen = tls_handshake.served_certificate("127.0.0.1", server.port)
    assert seen.sha256 == pair[2].sha256
    text = subprocess.run(
        ["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port], input=b"", capture_output=True, check=False
    ).stdout
    assert x509_read.parse_certificate(text).sha256 == seen.sha256


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("client", ["none", "good", "foreign", "broken"])
def test_server_that_wants_a_client_certificate_is_seen_whatever_we_show(authority, serve, tmp_path, version, client):
    pair = authority.leaf("etcd")
    server = serve(pair, client_ca=authority.path, version=version)
    (tmp_path / "other").mkdir()
    foreign = Authority(tmp_path / "other").leaf("client")
    (tmp_path / "empty.crt").write_text("")
    shown = {
        "none": None,
        "good": authority.leaf("client")[:2],
        "foreign": foreign[:2],
        "broken": (str(tmp_path / "empty.crt"), pair[1]),
    }[client]
    if version == ssl.TLSVersion.TLSv1_2 and client != "good":
        # Before TLS 1.3 a server that rejects its client ends the handshake, and the ssl module then shows no certificate.
        with pytest.raises(PkiError) as rejected:
            tls_handshake.served_certificate("127.0.0.1", server.port, client=shown)
        assert rejected.value.refused and str(server.port) in str(rejected.value)
    else:
        assert tls_handshake.served_certificate("127.0.0.1", server.port, client=shown).sha256 == pair[2].sha256


def test_refused_and_silent_servers_are_named(authority):
    port = free_port()
    with pytest.raises(PkiError) as refused:
        tls_handshake.served_certificate("127.0.0.1", port)
    assert str(port) in str(refused.value) and "connection refused" in str(refused.value)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(PkiError) as hung:
            tls_handshake.served_certificate("127.0.0.1", silent.getsockname()[1], timeout=0.2)
    assert "no answer in time" in str(hung.value)


def test_server_without_tls_is_a_message(serve):
    server = serve()
    with pytest.raises(PkiError) as error:
        tls_handshake.served_certificate("127.0.0.1", server.port)
    assert str(server.port) in str(error.value)


def test_http_verifies_against_the_ca(authority, serve, tmp_path):
    server = serve(authority.leaf("apiserver"), {"/readyz": (200, b"ok")})
    assert http_client.http_get(server.url("/readyz"), ca_path=authority.path) == (200, b"ok")
    assert http_client.http_get(server.url("/readyz"), ca_pem=authority.certificate.pem) == (200, b"ok")
    (tmp_path / "new").mkdir()
    other = Authority(tmp_path / "new")  # the same name, another key: what a half-done rotation looks like
    with pytest.raises(PkiError) as error:
        http_client.http_get(server.url("/readyz"), ca_path=other.path)
    assert "not signed by the CA on disk" in str(error.value)
    bundle = other.certificate.pem + authority.certificate.pem
    assert http_client.http_get(server.url("/readyz"), ca_pem=bundle)[0] == 200


def test_expired_server_certificate_is_a_finding_and_no_failure(authority, serve):
    start = x509_read.now() - datetime.timedelta(days=30)
    pair = authority.leaf("old", days=1.0, start=start)
    assert pair[2].not_after < x509_read.now()
    server = serve(pair, {"/readyz": (200, b"ok")})
    answer = http_client.http_request(server.url("/readyz"), ca_path=authority.path)
    assert (answer.status, answer.expired) == (200, True)
    fresh = serve(authority.leaf("new"), {"/readyz": (200, b"ok")})
    assert http_client.http_request(fresh.url("/readyz"), ca_path=authority.path).expired is False


def test_expired_ca_still_answers(tmp_path, serve):
    authority = Authority(tmp_path)
    authority.certificate = ca_sign.build_ca("kubernetes", authority.key, 1, start=x509_read.now() - datetime.timedelta(days=9))
    (tmp_path / "kubernetes.crt").write_bytes(authority.certificate.pem)
    server = serve(authority.leaf("apiserver"), {"/readyz": (200, b"ok")})
    assert http_client.http_get(server.url("/readyz"), ca_path=authority.path)[0] == 200


def test_client_pair_as_bytes_never_touches_a_disk(authority, serve, tmp_path):
    server = serve(authority.leaf("apiserver"), {"/": (200, b"hello")}, client_ca=authority.path)
    certificate, key, _parsed = authority.leaf("admin")
    pair = (Path(certificate).read_bytes(), Path(key).read_bytes())
    before = sorted(tmp_path.iterdir())
    assert http_client.http_get(server.url("/"), client=pair) == (200, b"hello")
    assert sorted(tmp_path.iterdir()) == before
    assert dict(item[0] for item in server.asked[0][2]["subject"])["commonName"] == "admin"


def test_readiness_is_asked_again_without_a_refused_client_certificate(authority, serve):
    pages = {"/readyz": lambda peer: (401, b"") if peer else (200, b"ok")}
    server = serve(authority.leaf("apiserver"), pages)
    server.context.load_verify_locations(authority.path)
    server.context.verify_mode = ssl.CERT_OPTIONAL
    pair = authority.leaf("client")[:2]
    endpoint = discovery.Endpoint(
        "apiserver", "kube-apiserver", "127.0.0.1", server.port, client=pair, health=server.url("/readyz")
    )
    assert health_checks.health(endpoint) == (True, "200")
    assert [bool(peer) for _method, _path, peer in server.asked] == [True, False]


def test_health_says_which_checks_failed(authority, serve):
    body = b"[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed: x\nreadyz check failed\n"
    server = serve(authority.leaf("apiserver"), {"/readyz": (500, body)})
    endpoint = discovery.Endpoint("apiserver", "kube-apiserver", "127.0.0.1", server.port, health=server.url("/readyz"))
    assert health_checks.health(endpoint) == (False, "HTTP 500 (etcd, poststarthook/rbac/bootstrap-roles)")


KUBEADM = {
    "kube-apiserver": {
        "--advertise-address": "10.0.0.1",
        "--secure-port": "6443",
        "--tls-cert-file": "/etc/kubernetes/pki/apiserver.crt",
    },
    "kube-controller-manager": {"--bind-address": "127.0.0.1", "--port": "0"},
    "kube-scheduler": {"--bind-address": "127.0.0.1"},
    "etcd": {
        "--listen-client-urls": "https://10.0.0.1:2379,https://127.0.0.1:2379",
        "--listen-peer-urls": "https://10.0.0.1:2380",
        "--listen-metrics-urls": "http://127.0.0.1:2381",
        "--cert-file": "/etc/kubernetes/pki/etcd/server.crt",
        "--peer-cert-file": "/etc/kubernetes/pki/etcd/peer.crt",
    },
}


def test_endpoints_of_a_kubeadm_node():
    found = {item.name: item for item in discovery.endpoints(pod_endpoints.View(KUBEADM))}
    assert {name: (item.address, item.item, item.path, item.health) for name, item in found.items()} == {
        "apiserver": ("127.0.0.1:6443", "apiserver", "/etc/kubernetes/pki/apiserver.crt", "https://127.0.0.1:6443/readyz"),
        "controller-manager": ("127.0.0.1:10257", None, None, "https://127.0.0.1:10257/healthz"),
        "scheduler": ("127.0.0.1:10259", None, None, "https://127.0.0.1:10259/healthz"),
        "etcd-server": ("127.0.0.1:2379", "etcd-server", "/etc/kubernetes/pki/etcd/server.crt", "http://127.0.0.1:2381/health"),
        "etcd-peer": ("10.0.0.1:2380", "etcd-peer", "/etc/kubernetes/pki/etcd/peer.crt", None),
    }


def test_endpoints_follow_flags_and_not_habit():
    flags = {
        "kube-apiserver": {"--bind-address": "fd00::1", "--secure-port": "8443"},
        "kube-controller-manager": {"--secure-port": "0", "--port": "12345"},
        "kube-scheduler": {"--secure-port": "0", "--port": "0"},
        "etcd": {"--listen-client-urls": "http://[fd00::1]:12379", "--listen-peer-urls": "http://[fd00::1]:12380"},
    }
    found = {item.name: (item.address, item.item, item.health) for item in discovery.endpoints(pod_endpoints.View(flags))}
    assert found == {
        "apiserver": ("[fd00::1]:8443", None, "https://[fd00::1]:8443/readyz"),
        "controller-manager": ("127.0.0.1:12345", None, "http://127.0.0.1:12345/healthz"),
        "etcd-server": ("[fd00::1]:12379", None, "http://[fd00::1]:12379/health"),
        "etcd-peer": ("[fd00::1]:12380", None, None),
    }
    with pytest.raises(PkiError) as error:
        discovery.endpoints(pod_endpoints.View({"kube-apiserver": {"--secure-port": "six"}}))
    assert "--secure-port=six" in str(error.value)


def test_of_several_urls_of_etcd_the_one_with_a_certificate_is_looked_at():
    """Its health is asked where it is nearest, and in the clear."""
    flags = {
        "etcd": {
            "--listen-client-urls": "http://127.0.0.1:2379,https://10.0.0.1:2379",
            "--cert-file": "s.crt",
            "--listen-peer-urls": "http://127.0.0.1:2380,https://10.0.0.1:2380",
            "--peer-cert-file": "p.crt",
        }
    }
    found = discovery.endpoints(pod_endpoints.View(flags))
    assert [(item.address, item.item, item.path, item.secure, item.health) for item in found] == [
        ("10.0.0.1:2379", "etcd-server", "s.crt", True, "http://127.0.0.1:2379/health"),
        ("10.0.0.1:2380", "etcd-peer", "p.crt", True, None),
    ]
    flags["etcd"]["--listen-client-urls"] = "http://127.0.0.1:2379,https://10.0.0.1:2379,https://127.0.0.1:2378"
    assert discovery.endpoints(pod_endpoints.View(flags))[0].address == "127.0.0.1:2378"


def test_no_handshake_is_tried_with_what_speaks_plain_http(serve):
    plain = serve(pages={"/healthz": (200, b"ok")})
    view = pod_endpoints.View(
        {
            "kube-scheduler": {"--secure-port": "0", "--port": str(plain.port)},
            "kube-controller-manager": {"--secure-port": "10257"},
            "etcd": {"--listen-client-urls": plain.url(), "--listen-peer-urls": plain.url()},
        }
    )
    assert {item.name: item.secure for item in discovery.endpoints(view)} == {
        "scheduler": False,
        "controller-manager": True,
        "etcd-server": False,
        "etcd-peer": False,
    }
    assert list(tls_handshake.served(view, ["scheduler", "etcd-server", "etcd-peer"])) == []


def test_kubelet_endpoint_comes_from_its_configuration():
    kubelet = {
        "address": "0.0.0.0",
        "port": 20250,
        "serving_cert": "/x/kubelet.crt",
        "config": {"healthzPort": 20248},
        "running": True,
    }
    layout = types.SimpleNamespace(flags={}, paths={}, kubelet=kubelet)
    found = discovery.endpoints(layout)
    assert [(item.name, item.address, item.item, item.path, item.health) for item in found] == [
        ("kubelet", "127.0.0.1:20250", "kubelet-serving", "/x/kubelet.crt", "http://127.0.0.1:20248/healthz")
    ]


@pytest.mark.parametrize("there", [None, "kubeconfig_path", "bootstrap_kubeconfig_path", "config_path", "static pod"])
def test_only_a_node_that_has_a_kubelet_is_asked_for_one(tmp_path, there):
    """One that is stopped is: its files, or the static pods that it would run, say that there should be one."""
    names = ("kubeconfig_path", "bootstrap_kubeconfig_path", "config_path")
    kubelet = dict({name: str(tmp_path / name) for name in names}, running=False, address="0.0.0.0", port=free_port())  # noqa: S104
    if there in names:
        (tmp_path / there).write_text("")
    flags = {"etcd": {"--listen-client-urls": "https://127.0.0.1:1"}} if there == "static pod" else {}
    layout = types.SimpleNamespace(flags=flags, paths={}, kubelet=kubelet)
    assert [item.name for item in discovery.endpoints(layout) if item.component == "kubelet"] == (["kubelet"] if there else [])


def layout_for(servers):
    flags = {
        "kube-apiserver": {"--secure-port": str(servers[0].port), "--tls-cert-file": "a"},
        "etcd": {
            "--listen-client-urls": servers[1].url(),
            "--cert-file": "b",
            "--listen-peer-urls": "https://127.0.0.1:%d" % free_port(),
            "--peer-cert-file": "c",
        },
    }
    return pod_endpoints.View(flags)


def test_served_asks_all_and_keeps_errors(authority, serve):
    pairs = [authority.leaf("apiserver"), authority.leaf("etcd-server")]
    layout = layout_for([serve(pair) for pair in pairs])
    seen = tls_handshake.served(layout)
    assert seen["apiserver"].sha256 == pairs[0][2].sha256 and seen["etcd-server"].sha256 == pairs[1][2].sha256
    assert isinstance(seen["etcd-peer"], PkiError)
    assert list(tls_handshake.served(layout, ["apiserver"])) == ["apiserver"]


def silent(stack):
    """A listener that answers nothing. Gives its port."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(8)
    return listener.getsockname()[1]


def full(stack):
    """One whose queue is full: it does not even take a connection."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _each in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    return listener.getsockname()[1]


def halting(stack):
    """One that begins an answer and does not go on."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(8)

    def answer():
        connection = stack.enter_context(listener.accept()[0])
        connection.recv(16384)
        connection.sendall(b"\x16")

    threading.Thread(target=answer, daemon=True).start()
    return listener.getsockname()[1]


@pytest.mark.parametrize("kind", [silent, full, halting])
def test_endpoints_that_hang_cost_one_timeout_and_not_their_sum(kind, authority, serve):
    pair = authority.leaf("kubelet")
    server = serve(pair)
    with contextlib.ExitStack() as stack:
        hanging = [kind(stack) for _each in range(5)]
        found = [discovery.Endpoint(str(number), "x", "127.0.0.1", port) for number, port in enumerate(hanging)]
        found.append(discovery.Endpoint("kubelet", "kubelet", "127.0.0.1", server.port))
        started = time.monotonic()
        seen = tls_handshake.collect_certificates(tls_handshake.start_handshakes(found, 0.5))
        took = time.monotonic() - started
    assert took < 1.5 and seen.pop("kubelet").sha256 == pair[2].sha256
    assert len(seen) == 5 and all(isinstance(item, PkiError) for item in seen.values())


def test_a_port_that_is_none_is_an_error_of_that_endpoint():
    seen = tls_handshake.collect_certificates(
        tls_handshake.start_handshakes([discovery.Endpoint("kubelet", "kubelet", "127.0.0.1", 10**20)])
    )["kubelet"]
    assert isinstance(seen, PkiError) and seen.path == "127.0.0.1:%d" % 10**20


def test_only_etcd_is_shown_a_client_certificate(authority):
    pair, client, shown = authority.leaf("server"), authority.leaf("client"), {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair[:2])
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_OPTIONAL
    with contextlib.ExitStack() as stack:
        found, threads = [], []
        for name in ("etcd", "kube-apiserver"):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen()

            def answer(name=name, listener=listener):
                with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    shown[name] = bool(connection.getpeercert())

            threads.append(threading.Thread(target=answer, daemon=True))
            threads[-1].start()
            found.append(discovery.Endpoint(name, name, *listener.getsockname(), client=client[:2]))
        seen = tls_handshake.collect_certificates(tls_handshake.start_handshakes(found))
        for thread in threads:
            thread.join(10)
    assert {item.sha256 for item in seen.values()} == {pair[2].sha256}
    assert shown == {"etcd": True, "kube-apiserver": False}


def test_waiting_sees_a_reload_and_says_what_it_saw_otherwise(authority, serve):
    old, other = authority.leaf("old"), authority.leaf("etcd-server")
    servers = [serve(old), serve(other)]
    new = authority.leaf("new")

    def reload():
        servers[0].context.load_cert_chain(new[0], new[1])

    threading.Timer(0.3, reload).start()
    apiserver, etcd, _peer = discovery.endpoints(layout_for(servers))
    proven, seconds, _seen = health_checks.wait_digest(apiserver, new[2].sha256, 1.0)
    assert proven is True and 0.2 < seconds < 1.0
    proven, seconds, seen = health_checks.wait_digest(etcd, old[2].sha256, 1.0)
    assert proven is False and seen == other[2].sha256 and seconds >= 1.0


def test_file_digest_is_the_certificates(authority, tmp_path):
    path, key, certificate = authority.leaf("apiserver")
    assert health_checks.file_sha256(path) == certificate.sha256
    (tmp_path / "chain.crt").write_bytes(b"# comment\n" + certificate.pem + authority.certificate.pem)
    assert health_checks.file_sha256(str(tmp_path / "chain.crt")) == certificate.sha256
    assert health_checks.file_sha256(key) is None and health_checks.file_sha256(str(tmp_path / "absent")) is None
    (tmp_path / "half.crt").write_bytes(certificate.pem[:200])
    assert health_checks.file_sha256(str(tmp_path / "half.crt")) is None


class Drip:
    """A server that sends what it has to say one byte at a time, for as long as its client stays."""

    def __init__(self, begin):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, args=(begin,), daemon=True).start()

    def _serve(self, begin):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._drip, args=(self.socket.accept()[0], begin), daemon=True).start()

    @staticmethod
    def _drip(connection, begin):
        with contextlib.suppress(OSError), connection:
            connection.recv(5000)
            connection.sendall(begin)
            for _byte in range(100):
                connection.sendall(b"x")
                time.sleep(0.1)


DRIPS = pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-"], ids=["body", "headers"]
)


@DRIPS
def test_a_server_that_sends_byte_by_byte_does_not_hold_its_client(begin):
    server, started = Drip(begin), time.monotonic()
    with server.socket, pytest.raises(PkiError, match="no answer in time"):
        http_client.http_get("http://127.0.0.1:%d/healthz" % server.port, timeout=0.3)
    assert time.monotonic() - started < 2


def test_a_handshake_byte_by_byte_does_not_hold_a_client_either():
    server, started = Drip(b"\x16\x03\x03\x40\x00\x02"), time.monotonic()
    with server.socket, pytest.raises(PkiError, match="no answer in time"):
        http_client.http_get("https://127.0.0.1:%d/healthz" % server.port, timeout=0.3)
    assert time.monotonic() - started < 2


@DRIPS
def test_the_client_of_the_api_is_not_held_either(begin):
    server, started = Drip(begin), time.monotonic()
    with server.socket, pytest.raises(PkiError, match="no answer within"):
        api_connection.BuiltIn("http://127.0.0.1:%d" % server.port, timeout=0.3).call("GET", "/version")
    assert time.monotonic() - started < 2
