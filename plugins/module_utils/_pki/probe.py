# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a live endpoint what it serves and whether it is healthy: TLS and HTTP, with the standard library alone.

A component has taken up a new certificate when it serves it, and not before: this room is where that is seen.
"""

from __future__ import annotations

__metaclass__ = type

import base64
import contextlib
import errno
import hashlib
import json
import os
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

from . import profiles
from .errors import PkiError

APISERVER, KUBELET, MANAGER, SCHEDULER = "apiserver", "kubelet", "controller-manager", "scheduler"
ETCD_SERVER, ETCD_PEER = "etcd-server", "etcd-peer"

# openssl/x509_vfy.h. Go, and so all of Kubernetes, accepts a chain that ends at a trusted certificate that is not
# self-signed; and an expired certificate is here a finding to report, not a reason to see nothing else.
_PARTIAL_CHAIN = 0x80000
_NO_CHECK_TIME = 0x200000

_ANY = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared with, never bound
_LONGEST_BODY = 4 * 1024 * 1024


class Endpoint:
    """Where a component of this node listens.

    name: "apiserver", "kubelet", "controller-manager", "scheduler", "etcd-server" or "etcd-peer". component: the static pod, or
    "kubelet". host: str, port: int. item: catalogue name of the certificate it serves from disk, or None when it makes its own
    in memory. path: that certificate's file, or None. client: (certificate path, key path) to show, or None.
    health: URL that answers 200 when the component is well, or None.
    """

    def __init__(self, name, component, host, port, item=None, path=None, client=None, health=None):
        self.name, self.component, self.host, self.port = name, component, host, port
        self.item, self.path, self.client, self.health = item, path, client, health

    @property
    def address(self):
        """host:port, with brackets around an IPv6 address."""
        return join(self.host, self.port)

    def __repr__(self):
        return "Endpoint(%s at %s)" % (self.name, self.address)


class Answer:
    """What an HTTP server said. status: int. body: bytes. seconds: float, how long it took.

    epoch: the server's own clock as seconds since 1970 (from its Date header), or None. expired: True when the
    certificate it served had expired (only seen where a CA was given to verify it against).
    """

    def __init__(self, status, body, epoch=None, expired=False, seconds=0.0):
        self.status, self.body, self.epoch, self.expired, self.seconds = status, body, epoch, expired, seconds

    def json(self):
        """Give the body as a mapping; {} when it is none."""
        try:
            document = json.loads(self.body.decode("utf-8", "replace"))
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


class View:
    """As much of a pki_tree.Layout as endpoints() looks at, made from the static pods' flags alone.

    flags: {component: {"--flag": value}}. kubernetes_dir: str.
    """

    def __init__(self, flags, kubernetes_dir=profiles.KUBERNETES_DIR):
        self.flags = flags
        self.kubernetes_dir = kubernetes_dir
        self.kubelet = {}
        self.paths = {}
        for name in ("apiserver-kubelet-client", "apiserver-etcd-client", "etcd-healthcheck-client"):
            entry = profiles.BY_NAME[name]
            self.paths[name] = (os.path.join(kubernetes_dir, entry.path), os.path.join(kubernetes_dir, entry.key))
        for component, values in flags.items():
            for flag, name in profiles.CERTIFICATE_FLAGS.get(component, {}).items():
                if flag in values:
                    self.paths[name] = (values[flag], self.paths.get(name, (None, None))[1])
            for flag, name in profiles.KEY_FLAGS.get(component, {}).items():
                if flag in values:
                    self.paths[name] = (self.paths.get(name, (None, None))[0], values[flag])


def join(host, port):
    """Give "host:port" as URLs write it."""
    return "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)


def endpoints(layout):
    """Give the Endpoints of this node, from its manifests' flags and its kubelet's configuration.

    layout: a pki_tree.Layout, or a View. A port that a flag sets to 0 is not listened on, and not given.
    """
    found = []
    if "kube-apiserver" in layout.flags:
        found += _apiserver(layout, layout.flags["kube-apiserver"])
    for component, name, secure, insecure in (("kube-controller-manager", MANAGER, 10257, 10252),
                                              ("kube-scheduler", SCHEDULER, 10259, 10251)):
        if component in layout.flags:
            found += _delegating(component, name, layout.flags[component], secure, insecure)
    if "etcd" in layout.flags:
        found += _etcd(layout, layout.flags["etcd"])
    if layout.kubelet:
        port = int(layout.kubelet.get("port") or 10250)
        certificate = layout.kubelet.get("serving_cert")
        healthz = (layout.kubelet.get("config") or {}).get("healthzPort", 10248)
        found.append(Endpoint(KUBELET, "kubelet", _reachable(layout.kubelet.get("address") or ""), port,
                              "kubelet-serving" if certificate else None, certificate, None,
                              "http://127.0.0.1:%s/healthz" % healthz if healthz else None))
    return found


def _reachable(address):
    return "127.0.0.1" if address in _ANY else address.strip("[]")


def _port(flags, flag, default):
    try:
        return int(flags.get(flag, default))
    except ValueError:
        raise PkiError("the flag %s=%s is not a port number" % (flag, flags[flag]), fix="Correct the manifest.") from None


def _pair(layout, *names):
    """The first of the named client pairs that is there."""
    for name in names:
        certificate, key = layout.paths.get(name) or (None, None)
        if certificate and key and os.path.exists(certificate) and os.path.exists(key):
            return certificate, key
    return None


def _apiserver(layout, flags):
    host, port = _reachable(flags.get("--bind-address", "")), _port(flags, "--secure-port", 6443)
    if not port:
        return []
    return [Endpoint(APISERVER, "kube-apiserver", host, port, "apiserver" if "--tls-cert-file" in flags else None,
                     flags.get("--tls-cert-file"), _pair(layout, "apiserver-kubelet-client"),
                     "https://%s/readyz" % join(host, port))]


def _delegating(component, name, flags, secure, insecure):
    host, port = _reachable(flags.get("--bind-address", "")), _port(flags, "--secure-port", secure)
    if port:
        # No catalogue name: kubeadm gives these no serving certificate. Where a user does, its file is known all the same.
        return [Endpoint(name, component, host, port, None, flags.get("--tls-cert-file"), None,
                         "https://%s/healthz" % join(host, port))]
    # Before 1.23 the insecure port could be the only one.
    port = _port(flags, "--port", insecure)
    host = _reachable(flags.get("--address", ""))
    return [Endpoint(name, component, host, port, None, None, None, "http://%s/healthz" % join(host, port))] if port else []


def _etcd(layout, flags):
    found = []
    pair = _pair(layout, "etcd-healthcheck-client", "apiserver-etcd-client")
    health = next((url.rstrip("/") + "/health" for url in urls(flags.get("--listen-metrics-urls"))), None)
    for url in _loopback_first(urls(flags.get("--listen-client-urls", "http://localhost:2379"))):
        parts = urlsplit(url)
        host = _reachable(parts.hostname or "")
        secure = parts.scheme == "https"
        found.append(Endpoint(ETCD_SERVER, "etcd", host, parts.port or 2379, "etcd-server" if secure else None,
                              flags.get("--cert-file") if secure else None, pair,
                              health or "%s://%s/health" % (parts.scheme, join(host, parts.port or 2379))))
        break
    for url in urls(flags.get("--listen-peer-urls", "http://localhost:2380"))[:1]:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        found.append(Endpoint(ETCD_PEER, "etcd", _reachable(parts.hostname or ""), parts.port or 2380,
                              "etcd-peer" if secure else None, flags.get("--peer-cert-file") if secure else None,
                              _pair(layout, "etcd-peer"), None))
    return found


def urls(text):
    """Give the URLs of a comma-separated flag, without the empty ones."""
    return [url.strip() for url in (text or "").split(",") if url.strip()]


def _loopback_first(candidates):
    return sorted(candidates, key=lambda url: "127.0.0.1" not in url and "localhost" not in url)


def _context(client=None, ca_path=None, ca_pem=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if ca_path or ca_pem:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= _PARTIAL_CHAIN | _NO_CHECK_TIME
        try:
            context.load_verify_locations(ca_path, None, ca_pem.decode("ascii") if ca_pem else None)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise PkiError("cannot be used as a CA bundle (%s)" % _reason(error), path=ca_path,
                           fix="Restore it from a backup.") from None
    else:
        context.verify_mode = ssl.CERT_NONE
        with contextlib.suppress(ssl.SSLError):
            # What is served is to be seen, whatever the distribution thinks of its key size or digest.
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if client:
        _load_pair(context, client)
    return context


def _load_pair(context, client):
    try:
        if isinstance(client[0], bytes):
            with _in_memory(client[0] + b"\n" + client[1]) as path:
                context.load_cert_chain(path)
        else:
            context.load_cert_chain(client[0], client[1])
    except (OSError, ssl.SSLError) as error:
        path = None if isinstance(client[0], bytes) else client[0]
        raise PkiError("cannot be used as a client certificate with its key (%s)" % _reason(error), path=path,
                       fix="Renew it: cert_leaf makes a new pair.") from None


@contextlib.contextmanager
def _in_memory(data):
    # ssl takes keys only from files; this one never reaches a disk.
    descriptor = os.memfd_create("kubepki", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield "/proc/self/fd/%d" % descriptor
    finally:
        os.close(descriptor)


def _reason(error):
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS error").replace("_", " ").lower()
    if isinstance(error, socket.timeout):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else (error.strerror or "name not found")
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _unreachable(host, port, error):
    fixes = {errno.ECONNREFUSED: "Nothing listens there: see whether the component runs (`crictl ps -a`, the kubelet's journal).",
             errno.EHOSTUNREACH: "Check the network and the host's firewall.", errno.ENETUNREACH: "Check the network."}
    fix = fixes.get(getattr(error, "errno", None))
    if isinstance(error, socket.timeout):
        fix = "It may hang or a firewall may drop packets: see the component's log."
    return PkiError(_reason(error), path=join(host, port), fix=fix)


def served_der(host, port, client=None, server_name=None, timeout=3.0):
    """Give the DER (bytes) of the leaf certificate that a TLS server presents; verifies nothing.

    host: name or address; port: int. client: (certificate path, key path), or the two as PEM bytes, or None; a pair that is
    unusable is left away. server_name: for SNI, or None. timeout: seconds for each step.
    Also sees the certificate of a server that refuses us for lack of a client certificate. Raises PkiError.
    """
    try:
        context = _context(client)
    except PkiError:
        context = _context()
    try:
        with socket.create_connection((host, port), timeout) as connection:
            return _handshake(context, connection, server_name)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise _unreachable(host, port, error) from None


def _handshake(context, connection, server_name):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    seen = b""
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            if outgoing.pending:
                connection.sendall(outgoing.read())
            data = connection.recv(16384)
            seen += data
            if data:
                incoming.write(data)
            else:
                incoming.write_eof()
            continue
        except ssl.SSLError:
            # Up to TLS 1.2 the server shows its certificate in the clear before it looks at ours.
            der = _first_certificate(seen)
            if der is None:
                raise
            return der
        with contextlib.suppress(OSError, ssl.SSLError):
            connection.sendall(outgoing.read())  # our Finished: without it the server logs a failed handshake
            tls.unwrap()
        with contextlib.suppress(OSError):
            connection.sendall(outgoing.read())
        return tls.getpeercert(binary_form=True)


def _first_certificate(stream):
    """The first certificate of a server's plain first flight (RFC 5246: 6.2.1 records, 7.4.2 Certificate), or None."""
    messages, at = b"", 0
    while at + 5 <= len(stream) and stream[at] == 22:
        length = int.from_bytes(stream[at + 3:at + 5], "big")
        messages += stream[at + 5:at + 5 + length]
        at += 5 + length
    at = 0
    while at + 4 <= len(messages):
        kind, length = messages[at], int.from_bytes(messages[at + 1:at + 4], "big")
        body = messages[at + 4:at + 4 + length]
        if kind == 11 and len(body) > 6:
            size = int.from_bytes(body[3:6], "big")
            return body[6:6 + size] if len(body) >= 6 + size else None
        at += 4 + length
    return None


def served_certificate(host, port, client=None, server_name=None, timeout=3.0):
    """Give what served_der() sees as an x509.Certificate. Raises PkiError: refused, no answer, unreadable."""
    from . import certificates  # only here: a restart needs the digest alone
    return certificates.parse_der_certificate(served_der(host, port, client, server_name, timeout), join(host, port))


def file_sha256(path):
    """Give the digest of the first certificate in a PEM file as served_der()'s would be, or None when there is none."""
    try:
        with open(path, "rb") as handle:
            text = handle.read().decode("ascii", "replace")
        begin = text.index(ssl.PEM_HEADER) + len(ssl.PEM_HEADER)
        return hashlib.sha256(base64.b64decode(text[begin:text.index(ssl.PEM_FOOTER, begin)])).hexdigest()
    except (OSError, ValueError):
        return None


def http_request(url, method="GET", body=None, ca_path=None, ca_pem=None, client=None, timeout=3.0, headers=None):
    """Ask an HTTP(S) server and give its Answer, whatever status it has.

    url: str. body: bytes or None (sent as JSON). ca_path, ca_pem: whom to trust; with neither, nothing is verified. The
    server's name is not compared: nodes are asked by their addresses. client: as in served_der(). timeout: seconds for each
    step. headers: {name: value} to send besides. Raises PkiError when there is no answer, or when the certificate is not
    signed by that CA.
    """
    import email.utils  # not at the top: who only asks for certificates does without these two
    import http.client

    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    started = time.monotonic()
    context = _context(client, ca_path, ca_pem) if secure else None
    connection = None
    try:
        connection = (http.client.HTTPSConnection(parts.hostname, port, timeout=timeout, context=context) if secure
                      else http.client.HTTPConnection(parts.hostname, port, timeout=timeout))
        connection.connect()
        expired = bool(secure and _expired(connection.sock))
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        headers = dict(headers or {}, **{"User-Agent": "kubepki"})
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        content = response.read(_LONGEST_BODY)
        date = email.utils.parsedate_tz(response.headers.get("Date", ""))
        return Answer(response.status, content, email.utils.mktime_tz(date) if date else None, expired,
                      time.monotonic() - started)
    except ssl.SSLCertVerificationError as error:
        raise PkiError("serves a certificate that is not signed by the CA on disk (%s)" % error.verify_message,
                       path=join(parts.hostname, port),
                       fix="cert_expiry with live shows what is served; restart the component if it is old.") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(parts.hostname, port, error) from None
    finally:
        if connection is not None:
            connection.close()


def _expired(tls):
    until = (tls.getpeercert() or {}).get("notAfter")
    return until is not None and ssl.cert_time_to_seconds(until) < time.time()


def http_get(url, ca_path=None, ca_pem=None, client=None, timeout=3.0):
    """GET a URL as http_request() does. Gives (status, body)."""
    answer = http_request(url, "GET", None, ca_path, ca_pem, client, timeout)
    return answer.status, answer.body


def together(calls):
    """Run several functions at the same time. calls: {key: function without arguments}. Gives {key: value or PkiError}."""
    results = {}

    def run(key, function):
        try:
            results[key] = function()
        except PkiError as error:
            results[key] = error
        except Exception as error:  # a thread that dies silently would look like an endpoint that was never asked
            results[key] = PkiError("could not be asked (%s)" % _reason(error), path=str(key))

    threads = [threading.Thread(target=run, args=call, daemon=True) for call in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def served(layout, names=None, timeout=3.0):
    """Ask every endpoint of this node at once. Gives {endpoint name: x509.Certificate or PkiError}.

    names: only these endpoints. timeout: seconds for each step of each.
    """
    def call(endpoint):
        return lambda: served_certificate(endpoint.host, endpoint.port, endpoint.client, None, timeout)

    return together({endpoint.name: call(endpoint) for endpoint in endpoints(layout)
                     if names is None or endpoint.name in names})


def health(endpoint, timeout=3.0):
    """Ask a component whether it is well. Gives (healthy: bool, what was seen: str). Never raises PkiError.

    Where the client certificate is refused (401, an expired or foreign one), the question is asked again without it.
    """
    client = endpoint.client if endpoint.health.startswith("https") else None
    seen = ""
    for pair in ([client, None] if client else [None]):
        try:
            status, body = http_get(endpoint.health, client=pair, timeout=timeout)
        except PkiError as error:
            seen = error.message
            continue
        if status == 200 and not _unhealthy_etcd(body):
            return True, "200"
        seen = "HTTP %d%s" % (status, _failed_checks(body))
        if status not in (401, 403):
            break
    return False, seen


def _unhealthy_etcd(body):
    # etcd answers {"health":"true"}; older ones say "false" with status 200.
    return b'"health":"false"' in body.replace(b" ", b"")


def _failed_checks(body):
    """The names of what readyz says is not ready: "[-]poststarthook/rbac/bootstrap-roles failed: ..." gives the name only."""
    names = [line[3:].split(b" ", 1)[0].decode("ascii", "replace") for line in body.splitlines() if line.startswith(b"[-]")]
    return " (%s)" % ", ".join(names[:4]) if names else ""


def wait_served(layout, wanted, deadline_seconds, interval=0.1, timeout=3.0):
    """Wait until endpoints serve the certificates they should, all at the same time.

    wanted: {catalogue name: SHA-256 of the certificate's DER in hex}. deadline_seconds: float. Gives {name: (proven: bool,
    seconds: float until then, last seen: hex digest, or PkiError, or None when nothing serves that certificate)}.
    """
    found = {}
    by_item = {endpoint.item: endpoint for endpoint in endpoints(layout) if endpoint.item}

    def call(endpoint, digest):
        return lambda: wait_digest(endpoint, digest, deadline_seconds, interval, timeout)

    calls = {name: call(by_item[name], digest) for name, digest in wanted.items() if name in by_item}
    found.update(together(calls))
    for name in wanted:
        found.setdefault(name, (False, 0.0, None))
    return found


def wait_digest(endpoint, digest, deadline_seconds, interval=0.1, timeout=3.0):
    """Poll one Endpoint until it serves the certificate with this SHA-256. Gives (proven, seconds, last seen) as wait_served().

    The interval (seconds) grows to half a second: an apiserver may take a minute, and should not be asked 600 times.
    """
    started = time.monotonic()
    while True:
        try:
            seen = hashlib.sha256(served_der(endpoint.host, endpoint.port, endpoint.client, None, timeout)).hexdigest()
        except PkiError as error:
            seen = error
        passed = time.monotonic() - started
        if seen == digest:
            return True, round(passed, 3), seen
        if passed >= deadline_seconds:
            return False, round(passed, 3), seen
        time.sleep(min(interval, max(0.0, deadline_seconds - passed)))
        interval = min(interval * 1.3, 0.5)


def apiserver_ready(host, port=6443, ca_path=None, ca_pem=None, client=None, timeout=3.0):
    """Ask one apiserver for /readyz. Gives its Answer: ready when status is 200. Raises PkiError as http_request().

    Where the client certificate is refused, it is asked again without: readiness is public in a default cluster
    (ClusterRole system:public-info-viewer).
    """
    url = "https://%s/readyz?verbose" % join(host, port)
    answer = http_request(url, ca_path=ca_path, ca_pem=ca_pem, client=client, timeout=timeout)
    if answer.status in (401, 403) and client:
        with contextlib.suppress(PkiError):
            second = http_request(url, ca_path=ca_path, ca_pem=ca_pem, timeout=timeout)
            if second.status not in (401, 403):
                return second
    return answer


def failed_checks(answer):
    """Give " (names of the checks that failed)" of a verbose readyz Answer, or ""."""
    return _failed_checks(answer.body)


def etcd_members(url, ca_path=None, client=None, peer_url=None, peer_client=None, timeout=3.0):
    """Give etcd's members as [{"id": str, "name": str, "client_urls": [...], "peer_urls": [...], "learner": bool}].

    url: of a client endpoint. Asked through the JSON gateway (v3, v3beta before 3.4), and where that does not answer, of the
    peer endpoint's /members, which needs no quorum. An empty name is a member that never started. Raises PkiError.
    """
    trouble = None
    for version in ("v3", "v3beta"):
        try:
            answer = http_request("%s/%s/cluster/member/list" % (url.rstrip("/"), version), "POST", b"{}", ca_path=ca_path,
                                  client=client, timeout=timeout)
        except PkiError as error:
            trouble = error
            break
        if answer.status == 200 and answer.json().get("members"):
            return [_member(entry, entry.get("ID"), "isLearner") for entry in answer.json()["members"]]
        trouble = PkiError("the member list was answered with HTTP %d" % answer.status, path=url)
        if answer.status != 404:
            break
    if peer_url:
        with contextlib.suppress(PkiError, ValueError):
            answer = http_request(peer_url.rstrip("/") + "/members", ca_path=ca_path, client=peer_client, timeout=timeout)
            entries = json.loads(answer.body.decode("utf-8")) if answer.status == 200 else None
            if isinstance(entries, list) and entries:
                return [_member(entry, entry.get("id"), "isLearner") for entry in entries if isinstance(entry, dict)]
    raise trouble


def _member(entry, identity, learner):
    return {"id": str(identity), "name": str(entry.get("name") or ""),
            "client_urls": [str(item) for item in entry.get("clientURLs") or []],
            "peer_urls": [str(item) for item in entry.get("peerURLs") or []], "learner": bool(entry.get(learner))}


def etcd_health(url, ca_path=None, client=None, timeout=3.0):
    """Ask one member for /health, which makes a linearizable read. Gives (healthy: bool, what was seen: str)."""
    try:
        answer = http_request(url.rstrip("/") + "/health", ca_path=ca_path, client=client, timeout=timeout)
    except PkiError as error:
        return False, error.message
    if answer.expired:
        return answer.status == 200, "serves an expired certificate"
    if answer.status == 200 and not _unhealthy_etcd(answer.body):
        return True, "200"
    return False, "HTTP %d %s" % (answer.status, str(answer.json().get("reason") or "")[:80])


def etcd_leader(url, ca_path=None, client=None, timeout=3.0):
    """Give the leader's member ID (decimal, as in etcd_members) as one member knows it, or None. Never raises PkiError."""
    with contextlib.suppress(PkiError):
        answer = http_request(url.rstrip("/") + "/v3/maintenance/status", "POST", b"{}", ca_path=ca_path, client=client,
                              timeout=timeout)
        leader = answer.json().get("leader")
        return str(leader) if leader and str(leader) != "0" else None
    return None
