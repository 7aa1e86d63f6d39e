# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which endpoints a node has, and which certificate each serves: TLS with the standard library alone.

Apart from probe, because a look at a node needs no more of it than this.
"""

from __future__ import annotations

__metaclass__ = type

import contextlib
import errno
import os
import socket
import ssl
import threading
from urllib.parse import urlsplit

from .errors import PkiError

APISERVER, KUBELET, MANAGER, SCHEDULER = "apiserver", "kubelet", "controller-manager", "scheduler"
ETCD_SERVER, ETCD_PEER = "etcd-server", "etcd-peer"

# openssl/x509_vfy.h. Go, and so all of Kubernetes, accepts a chain that ends at a trusted certificate that is not
# self-signed; and an expired certificate is here a finding to report, not a reason to see nothing else.
_PARTIAL_CHAIN = 0x80000
_NO_CHECK_TIME = 0x200000

_ANY = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared with, never bound


class Endpoint:
    """Where a component of this node listens.

    name: "apiserver", "kubelet", "controller-manager", "scheduler", "etcd-server" or "etcd-peer". component: the static pod, or
    "kubelet". host: str, port: int. item: catalogue name of the certificate it serves from disk, or None when it makes its own
    in memory. path: that certificate's file, or None. client: (certificate path, key path) to show, or None.
    health: URL that answers 200 when the component is well, or None. secure: False where it is plain http, which no handshake
    is tried with.
    """

    def __init__(self, name, component, host, port, item=None, path=None, client=None, health=None, secure=True):
        self.name, self.component, self.host, self.port = name, component, host, port
        self.item, self.path, self.client, self.health, self.secure = item, path, client, health, secure

    @property
    def address(self):
        """host:port, with brackets around an IPv6 address."""
        return join(self.host, self.port)

    def __repr__(self):
        return "Endpoint(%s at %s)" % (self.name, self.address)


def join(host, port):
    """Give "host:port" as URLs write it."""
    return "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)


def endpoints(layout):
    """Give the Endpoints of this node, from its manifests' flags and its kubelet's configuration.

    layout: a layouts.Layout, or a View. A port that a flag sets to 0 is not listened on, and not given; nor is a
    kubelet where the node has none.
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
    if _has_kubelet(layout):
        port = int(layout.kubelet.get("port") or 10250)
        certificate = layout.kubelet.get("serving_cert")
        found.append(Endpoint(KUBELET, "kubelet", _reachable(layout.kubelet.get("address") or ""), port,
                              "kubelet-serving" if certificate else None, certificate, None,
                              healthz_url(layout)))
    return found


def _has_kubelet(layout):
    # A member of an etcd of one's own may have none. One that is stopped has left files, or pods that it should run.
    kubelet = layout.kubelet
    return bool(kubelet) and bool(kubelet.get("running") or layout.flags or any(
        os.path.lexists(kubelet.get(name) or "") for name in ("kubeconfig_path", "bootstrap_kubeconfig_path", "config_path")))


def healthz_url(layout):
    """Give the URL of the kubelet's own health endpoint, or None when it is switched off (healthzPort: 0)."""
    config, flags = (layout.kubelet.get(name) or {} for name in ("config", "flags"))
    port = str(flags.get("--healthz-port") or config.get("healthzPort", 10248))
    host = _reachable(str(flags.get("--healthz-bind-address") or config.get("healthzBindAddress") or "127.0.0.1"))
    return None if port == "0" or not port.isdigit() else "http://%s/healthz" % join(host, int(port))


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
    health = "http://%s/healthz" % join(host, port)
    return [Endpoint(name, component, host, port, health=health, secure=False)] if port else []


def _etcd(layout, flags):
    found = []
    pair = _pair(layout, "etcd-healthcheck-client", "apiserver-etcd-client")
    clients = _loopback_first(urls(flags.get("--listen-client-urls", "http://localhost:2379")))
    health = next((url.rstrip("/") + "/health" for url in urls(flags.get("--listen-metrics-urls"))), None)
    for url in clients[:1] if health is None else []:
        health = "%s://%s/health" % (urlsplit(url).scheme, join(*_address(url, 2379)))
    for url in _secure_first(clients)[:1]:
        found.append(_etcd_endpoint(ETCD_SERVER, url, 2379, flags.get("--cert-file"), pair, health))
    for url in _secure_first(urls(flags.get("--listen-peer-urls", "http://localhost:2380")))[:1]:
        found.append(_etcd_endpoint(ETCD_PEER, url, 2380, flags.get("--peer-cert-file"), _pair(layout, "etcd-peer"), None))
    return found


def _etcd_endpoint(name, url, port, path, client, health):
    host, port = _address(url, port)
    if _is_secure(url):
        return Endpoint(name, "etcd", host, port, name, path, client, health)
    return Endpoint(name, "etcd", host, port, client=client, health=health, secure=False)


def _address(url, port):
    parts = urlsplit(url)
    return _reachable(parts.hostname or ""), parts.port or port


def urls(text):
    """Give the URLs of a comma-separated flag, without the empty ones."""
    return [url.strip() for url in (text or "").split(",") if url.strip()]


def _loopback_first(candidates):
    return sorted(candidates, key=lambda url: "127.0.0.1" not in url and "localhost" not in url)


def _is_secure(url):
    return urlsplit(url).scheme == "https"


def _secure_first(candidates):
    return sorted(candidates, key=lambda url: not _is_secure(url))


def tls_context(client=None, ca_path=None, ca_pem=None, strict=False):
    """Give an ssl.SSLContext as http_request and served_der take their options. Raises PkiError naming an unusable file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if ca_path or ca_pem:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= _PARTIAL_CHAIN | _NO_CHECK_TIME
        try:
            context.load_verify_locations(ca_path, None, ca_pem.decode("ascii") if ca_pem else None)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise PkiError("cannot be used as a CA bundle (%s)" % reason(error), path=ca_path,
                           fix="Restore it from a backup.") from None
    else:
        context.verify_mode = ssl.CERT_NONE
        with contextlib.suppress(ssl.SSLError):
            # What is served is to be seen, whatever the distribution thinks of its key size or digest.
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if client:
        _load_pair(context, client)
    if strict:
        context.check_hostname = True  # and with it CERT_REQUIRED
        context.verify_flags &= ~_NO_CHECK_TIME
    return context


def _load_pair(context, client):
    try:
        if isinstance(client[0], bytes):
            from . import memory_files
            with memory_files.path_of(client[0] + b"\n" + client[1]) as path:
                context.load_cert_chain(path)
        else:
            context.load_cert_chain(client[0], client[1])
    except (OSError, ssl.SSLError) as error:
        path = None if isinstance(client[0], bytes) else client[0]
        unusable = PkiError("cannot be used as a client certificate with its key (%s)" % reason(error), path=path,
                            fix="Renew it: cert_leaf makes a new pair.")
        unusable.refused = True
        raise unusable from None


def reason(error):
    """Give what went wrong with a connection, in a few words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS error").replace("_", " ").lower()
    if isinstance(error, socket.timeout):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else (error.strerror or "name not found")
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def unreachable(host, port, error):
    """Give the PkiError of an endpoint that could not be talked to."""
    fixes = {errno.ECONNREFUSED: "Nothing listens there: see whether the component runs (`crictl ps -a`, the kubelet's journal).",
             errno.EHOSTUNREACH: "Check the network and the host's firewall.", errno.ENETUNREACH: "Check the network."}
    fix = fixes.get(getattr(error, "errno", None))
    if isinstance(error, socket.timeout):
        fix = "It may hang or a firewall may drop packets: see the component's log."
    found = PkiError(reason(error), path=join(host, port), fix=fix)
    # With TLS 1.3 a server says after the handshake that it refuses a client, or only closes the connection.
    found.refused = isinstance(error, (ssl.SSLError, ConnectionError)) and not isinstance(error, ConnectionRefusedError)
    return found


class Handshake:
    """A TLS handshake with a server in a thread of its own, for the certificate it serves; verifies nothing.

    host: name or address; port: int. context: from showing(). timeout: seconds for each step. server_name: for SNI, or None.
    Making one begins it; certificate() waits for it. Never raises before that.
    """

    def __init__(self, host, port, context, timeout, server_name=None):
        self.address = join(host, port)
        self._host, self._port, self._context, self._timeout, self._server_name = host, port, context, timeout, server_name
        self._der, self._trouble = None, None
        self._thread = threading.Thread(target=self._shake, daemon=True)
        self._thread.start()

    def _shake(self):
        try:
            with socket.create_connection((self._host, self._port), self._timeout) as connection:
                with self._context.wrap_socket(connection, server_hostname=self._server_name) as tls:
                    self._der = tls.getpeercert(binary_form=True)
                    with contextlib.suppress(OSError, ValueError):
                        tls.unwrap()  # say good-bye, or the server logs an error
        except Exception as error:  # a configuration can name anything as a port
            self._trouble = error

    def certificate(self):
        """Return the DER (bytes) of the leaf certificate that the server presents. Raises PkiError.

        With TLS 1.3 also that of a server that rejects this client; up to TLS 1.2 such a handshake ends before the certificate
        counts.
        """
        self._thread.join()
        if self._der is not None:
            return self._der
        raise unreachable(self._host, self._port, self._trouble or ValueError("presents no certificate")) from None


def showing(client=None):
    """Give the ssl.SSLContext of who verifies nothing, and shows a client certificate where a server asks for one.

    client: (certificate path, key path), or the two as PEM bytes, or None; a pair that is unusable is left away.
    """
    try:
        return tls_context(client)
    except PkiError:
        return tls_context()


def served_der(host, port, client=None, server_name=None, timeout=3.0):
    """Give the DER (bytes) of the leaf certificate that a TLS server presents, whoever signed it. Raises PkiError.

    client: as showing() takes it. The others: as Handshake takes them. timeout: seconds for each step.
    """
    return Handshake(host, port, showing(client), timeout, server_name).certificate()


def served_certificate(host, port, client=None, server_name=None, timeout=3.0):
    """Give what served_der() sees as an x509.Certificate. Raises PkiError: refused, no answer, unreadable."""
    from . import certificates  # only here: a restart needs the digest alone
    return certificates.parse_der_certificate(served_der(host, port, client, server_name, timeout), join(host, port))


def verify(host, port, ca_pem, timeout=3.0):
    """Connect as a client that trusts a CA bundle (PEM bytes) and compares the name. Raises PkiError: why it would refuse."""
    context = tls_context(ca_pem=ca_pem, strict=True)
    try:
        with socket.create_connection((host, port), timeout) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        raise PkiError("its certificate does not verify (%s)" % error.verify_message, path=join(host, port),
                       fix="The playbook reissue_kubelets with kubepki_kubelet_serving=bootstrap has one signed.") from None
    except (OSError, ValueError) as error:
        raise unreachable(host, port, error) from None


def together(calls):
    """Run several functions at the same time. calls: {key: function without arguments}. Gives {key: value or PkiError}."""
    results = {}

    def run(key, function):
        try:
            results[key] = function()
        except PkiError as error:
            results[key] = error
        except Exception as error:  # a thread that dies silently would look like an endpoint that was never asked
            results[key] = PkiError("could not be asked (%s)" % reason(error), path=str(key))

    threads = [threading.Thread(target=run, args=call, daemon=True) for call in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def ask(found, timeout=3.0):
    """Start the TLS handshakes with Endpoints. Return {name: Handshake} for hear(); nothing for plain http.

    timeout: seconds for each step; all run at the same time.
    """
    # etcd alone insists on a client's certificate, and complains in its log of who has none.
    clients = {endpoint.name: endpoint.client if endpoint.component == "etcd" else None for endpoint in found if endpoint.secure}
    contexts = {client: showing(client) for client in set(clients.values())}
    return {endpoint.name: Handshake(endpoint.host, endpoint.port, contexts[clients[endpoint.name]], timeout)
            for endpoint in found if endpoint.secure}


def hear(asked):
    """Return the certificates that the servers of ask() present: {name: certificates.Certificate or PkiError}."""
    from .certificates import parse_der_certificate
    seen = {}
    for name, handshake in asked.items():
        try:
            seen[name] = parse_der_certificate(handshake.certificate(), handshake.address)
        except PkiError as error:
            seen[name] = error
    return seen


def served(layout, names=None, timeout=3.0):
    """Ask every endpoint of this node. Return {endpoint name: certificates.Certificate or PkiError}; nothing for plain http.

    names: only these endpoints. timeout: seconds for each step.
    """
    return hear(ask([endpoint for endpoint in endpoints(layout) if names is None or endpoint.name in names], timeout))
