# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the Kubernetes API: credentials and transports for api_client.Api.

A controller or an execution environment that reaches the API has the `kubernetes` library, with all its ways to log in. A
control-plane node, which Ansible reaches by SSH, does not have it: there the standard library and admin.conf are enough. The
only file that imports `kubernetes`, and only when it is used.
"""

from __future__ import annotations

import functools
import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Dict, Optional, Tuple
from urllib.parse import urlsplit

from ..endpoint.parallel import WHOLE, call_within
from ..errors import PkiError
from ..fileio import memfd, reading
from ..kubeadm.kubeconfig import ADMIN_NAMES, Kubeconfig
from .api_client import Api

AUTO, LIBRARY, BUILT_IN = "auto", "kubernetes", "builtin"

ADMIN_CONF = "/etc/kubernetes/admin.conf"

# Option: (the environment variable that stands in for it, as with kubernetes.core; its type)
_OPTIONS = {
    "kubeconfig": ("K8S_AUTH_KUBECONFIG", "path"),
    "context": ("K8S_AUTH_CONTEXT", "str"),
    "host": ("K8S_AUTH_HOST", "str"),
    "api_key": ("K8S_AUTH_API_KEY", "str"),
    "ca_cert": ("K8S_AUTH_SSL_CA_CERT", "path"),
    "client_cert": ("K8S_AUTH_CERT_FILE", "path"),
    "client_key": ("K8S_AUTH_KEY_FILE", "path"),
    "validate_certs": ("K8S_AUTH_VERIFY_SSL", "bool"),
}

_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

# openssl/x509_vfy.h. Go, and so every other client of Kubernetes, accepts a chain that ends at a trusted certificate which is
# not self-signed; while two authorities are trusted (a rotation) that happens.
_PARTIAL_CHAIN = 0x80000

_LONGEST_BODY = 256 * 1024 * 1024


def connection_options(env_fallback: Callable[..., Any]) -> Dict[str, Dict[str, Any]]:
    """Return the argument spec of a connection, as users of kubernetes.core know it. env_fallback: Ansible's function."""
    options: Dict[str, Dict[str, Any]] = {
        name: {"type": kind, "fallback": (env_fallback, [variable])} for name, (variable, kind) in _OPTIONS.items()
    }
    options["api_key"]["no_log"] = True
    options["client_key"]["no_log"] = False
    options["client"] = {"type": "str", "choices": [AUTO, LIBRARY, BUILT_IN], "default": AUTO}
    options["api_timeout"] = {"type": "int", "default": 30}
    return options


class BuiltIn(Api):
    """A client of the standard library: certificate or token; one connection, kept alive."""

    def __init__(
        self,
        server: str,
        ca_pem: Optional[bytes] = None,
        timeout: float = 30,
        client: Optional[Tuple[bytes, bytes]] = None,
        token: Optional[str] = None,
        verify: bool = True,
        server_name: Optional[str] = None,
    ) -> None:
        """Take a URL, a CA bundle (PEM bytes), seconds, client: (certificate PEM, key PEM) or None, token: str or None."""
        super().__init__(server, ca_pem, timeout)
        parts = urlsplit(self.server)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise PkiError("is not the URL of an API server", path=server, fix="Write it as https://host:port.")
        self._token, self._server_name = token, server_name
        self._connection: Optional[http.client.HTTPConnection] = None
        self._prefix = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._context = _context(ca_pem, client, verify, self.server) if parts.scheme == "https" else None

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self.timeout)
        elif self._server_name:
            connection = _Named(self._host, self._port, self._server_name, self._context, self.timeout)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=self.timeout, context=self._context)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _send(self, method: str, target: str, headers: Dict[str, str], body: Optional[bytes]) -> Tuple[int, bytes]:
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        deadline = time.monotonic() + self.timeout
        while True:
            kept, self._connection = self._connection, None
            try:
                exchange = functools.partial(self._exchange, kept, method, target, headers, body)
                self._connection, status, answer = call_within(WHOLE * self.timeout, exchange)
                return status, answer
            except (OSError, http.client.HTTPException, ValueError) as error:
                # The server may close a connection that was kept; it has not seen the request then, nor answered it.
                if kept and isinstance(error, (ConnectionError, http.client.BadStatusLine)) and time.monotonic() < deadline:
                    continue
                raise _unreachable(self.server, error, self.timeout) from None

    def _exchange(
        self,
        kept: Optional[http.client.HTTPConnection],
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Optional[bytes],
    ) -> Tuple[http.client.HTTPConnection, int, bytes]:
        """Return (connection, HTTP status, body bytes) of one request over a kept connection, or a new one."""
        connection = kept or self._connect()
        try:
            connection.request(method, self._prefix + target, body, headers)
            response = connection.getresponse()
            return connection, response.status, response.read(_LONGEST_BODY)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Named(http.client.HTTPSConnection):
    """Verifies the server under another name than the one it is reached by (tls-server-name of a kubeconfig)."""

    def __init__(self, host: str, port: int, server_name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._server_name, self._tls = server_name, context

    def connect(self) -> None:
        """Connect, and verify the server's certificate for the other name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def _context(ca_pem: Optional[bytes], client: Optional[Tuple[bytes, bytes]], verify: bool, server: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif ca_pem:
            context.verify_flags |= _PARTIAL_CHAIN
            context.load_verify_locations(cadata=ca_pem.decode("ascii"))
        else:
            context.load_default_certs()
        if client:
            with memfd.path_of(client[0].rstrip() + b"\n" + client[1]) as path:
                context.load_cert_chain(path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise PkiError(
            "the CA bundle or the client certificate for it cannot be used (%s)"
            % (getattr(error, "reason", None) or type(error).__name__),
            path=server,
            fix="Correct the kubeconfig.",
        ) from None
    return context


def _unreachable(server: str, error: Exception, timeout: float) -> PkiError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return PkiError(
            "its certificate is not accepted (%s)" % error.verify_message,
            path=server,
            fix="Use the CA bundle of this cluster; an expired certificate has to be renewed on the control plane.",
        )
    if isinstance(error, ssl.SSLError):
        said = (error.reason or "TLS error").replace("_", " ").lower()
        return PkiError("the TLS connection fails (%s)" % said, path=server, fix="Check the address and the client certificate.")
    if isinstance(error, socket.timeout) or "timed out" in str(error):
        said = "no answer within %g seconds" % timeout
    elif isinstance(error, socket.gaierror):
        said = "the name cannot be resolved"
    else:
        said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0][:160]
    return PkiError(
        "the API server cannot be reached (%s)" % said,
        path=server,
        fix="Check that it runs and that this machine reaches it, then run again: this request changed nothing.",
    )


def from_kubeconfig(
    path: str,
    context: Optional[str] = None,
    timeout: float = 30,
    validate_certs: Optional[bool] = None,
    server: Optional[str] = None,
) -> BuiltIn:
    """Return a BuiltIn connection as a kubeconfig describes it. server: URL of one API server instead of the one it names.

    Reads embedded and named certificates, token, tokenFile, tls-server-name and insecure-skip-tls-verify. Raise PkiError
    for what needs the library (exec, auth-provider, a proxy) and for a kubeconfig that cannot be used.
    """
    config = Kubeconfig(reading.read(path), path, context)
    user, cluster = _entry(config, "users", "user", config.user), _entry(config, "clusters", "cluster", config.cluster)
    for key, mapping in (("exec", user), ("auth-provider", user), ("username", user), ("proxy-url", cluster)):
        if mapping.get(key):
            raise PkiError(
                "uses %s, which only the Python library kubernetes can do" % key,
                path=path,
                fix="Install it where this task runs (`pip install kubernetes`), or use another kubeconfig.",
            )
    if not config.server:
        raise PkiError("names no server", path=path, fix="Correct it, or name another kubeconfig.")
    certificate, private_key = config.certificate_data, config.key_data
    if certificate is None and config.certificate_file:
        certificate = reading.read(config.certificate_file)
    if private_key is None and config.key_file:
        private_key = reading.read(config.key_file)
    token = user.get("token")
    if not token and user.get("tokenFile"):
        token = reading.read(os.path.join(os.path.dirname(path), user["tokenFile"])).decode("ascii", "replace").strip()
    verify = not cluster.get("insecure-skip-tls-verify") if validate_certs is None else validate_certs
    ca_pem = config.ca_data or (reading.read(config.ca_file) if config.ca_file else None)
    return BuiltIn(
        server or config.server,
        ca_pem,
        timeout,
        (certificate, private_key) if certificate and private_key else None,
        token,
        verify,
        cluster.get("tls-server-name"),
    )


def _entry(config: Kubeconfig, kind: str, inner: str, name: Optional[str]) -> Dict[str, Any]:
    for entry in config.data.get(kind) or []:
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(inner), dict):
            return entry[inner]
    return {}


class Library(Api):
    """The `kubernetes` library's way to log in, and its connection pool; the objects stay plain mappings.

    The generated classes of the library changed with version 36; what is used here is in all of them.
    """

    def __init__(self, configuration: Any, timeout: float) -> None:
        from kubernetes.client import rest

        ca_pem = reading.read(configuration.ssl_ca_cert) if configuration.ssl_ca_cert else None
        super().__init__(configuration.host, ca_pem, timeout)
        self._configuration = configuration
        self._pool = rest.RESTClientObject(configuration).pool_manager

    def _send(self, method: str, target: str, headers: Dict[str, str], body: Optional[bytes]) -> Tuple[int, bytes]:
        import urllib3

        for setting in self._configuration.auth_settings().values():
            if setting.get("in") == "header" and setting.get("value"):
                headers[setting["key"]] = setting["value"]
        try:
            response = call_within(
                WHOLE * self.timeout,
                lambda: self._pool.request(
                    method,
                    self.server + target,
                    body=body,
                    headers=headers,
                    retries=False,
                    timeout=urllib3.Timeout(total=self.timeout),
                ),
            )
        except (urllib3.exceptions.HTTPError, socket.timeout) as error:
            raise _unreachable(self.server, _innermost(error), self.timeout) from None
        return response.status, response.data


def _innermost(error: Exception) -> Exception:
    """Return the OSError or ssl.SSLError that urllib3 wraps, or the error itself."""
    for inner in (getattr(error, "reason", None), error.__cause__, error.__context__):
        if isinstance(inner, Exception) and inner is not error:
            return _innermost(inner)
    return error


def has_library() -> bool:
    """Return whether the `kubernetes` library can be imported."""
    try:
        import kubernetes  # noqa: F401
    except Exception:  # a half-installed library raises more than ImportError
        return False
    return True


def _library(options: Mapping[str, Any]) -> Library:
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = False
    context = _own_context(options)
    try:
        if options.get("host") and not options.get("kubeconfig"):
            configuration.host = options["host"]
        elif options.get("kubeconfig") or options.get("context") or not os.path.isdir(_SERVICE_ACCOUNT):
            config.load_kube_config(options.get("kubeconfig"), context, configuration, persist_config=False)
        else:
            config.incluster_config.InClusterConfigLoader(
                token_filename=os.path.join(_SERVICE_ACCOUNT, "token"),
                cert_filename=os.path.join(_SERVICE_ACCOUNT, "ca.crt"),
            ).load_and_set(configuration)
    except Exception as error:  # ConfigException, and whatever YAML and files raise: the text never quotes keys' values
        said = (
            (str(error).splitlines() or [type(error).__name__])[0][:200]
            if type(error).__name__ == "ConfigException"
            else (type(error).__name__)
        )
        raise PkiError(
            "no connection can be made from it (%s)" % said,
            path=options.get("kubeconfig") or "the kubeconfig",
            fix="Name a kubeconfig, or host with api_key or client_cert; see docs/requests.md.",
        ) from None
    for option, attribute in (
        ("host", "host"),
        ("ca_cert", "ssl_ca_cert"),
        ("client_cert", "cert_file"),
        ("client_key", "key_file"),
        ("validate_certs", "verify_ssl"),
    ):
        if options.get(option) is not None:
            setattr(configuration, attribute, options[option])
    if options.get("api_key"):
        configuration.refresh_api_key_hook = None
        # Older versions of the library look for it under the second name.
        configuration.api_key = dict.fromkeys(("BearerToken", "authorization"), "Bearer " + options["api_key"])
    return Library(configuration, options["api_timeout"])


def _own_context(options: Mapping[str, Any]) -> Optional[str]:
    """Return the name of the context to use, None for the current one. In a node's own files it is that of its cluster."""
    path = options.get("kubeconfig")
    if options.get("context") or not path or os.path.basename(path) not in ADMIN_NAMES:
        return options.get("context")
    return Kubeconfig(reading.read(path), path).context


def _built_in(options: Mapping[str, Any]) -> BuiltIn:
    timeout, validate = options["api_timeout"], options.get("validate_certs")
    if options.get("host") and not options.get("kubeconfig"):
        pair = None
        if options.get("client_cert"):
            pair = (reading.read(options["client_cert"]), reading.read(options.get("client_key") or options["client_cert"]))
        ca_pem = reading.read(options["ca_cert"]) if options.get("ca_cert") else None
        return BuiltIn(options["host"], ca_pem, timeout, pair, options.get("api_key"), validate is not False)
    path = options.get("kubeconfig") or _default_kubeconfig()
    if path:
        return from_kubeconfig(path, options.get("context"), timeout, validate)
    if os.path.isdir(_SERVICE_ACCOUNT):
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        token = reading.read(os.path.join(_SERVICE_ACCOUNT, "token")).decode("ascii", "replace").strip()
        server = "https://%s:%s" % ("[%s]" % host if ":" in host else host, port)
        return BuiltIn(server, reading.read(os.path.join(_SERVICE_ACCOUNT, "ca.crt")), timeout, None, token)
    raise PkiError(
        "nothing says how to reach the API",
        fix="Name a kubeconfig, or host with api_key or client_cert, or set "
        "K8S_AUTH_* in the environment; on a control-plane node run as root, who can read %s." % ADMIN_CONF,
    )


def _default_kubeconfig() -> Optional[str]:
    places = [entry for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry]
    for path in places[:1] + [os.path.expanduser("~/.kube/config"), ADMIN_CONF]:
        if os.access(path, os.R_OK):
            return path
    return None


def connect(options: Mapping[str, Any]) -> Api:
    """Return an Api for a module's options (see connection_options). No request is sent yet.

    client "auto" takes the `kubernetes` library where it is installed, and the standard library otherwise.
    """
    if options["client"] == BUILT_IN:
        return _built_in(options)
    if has_library():
        return _library(options)
    if options["client"] == LIBRARY:
        raise PkiError(
            "the Python library kubernetes is missing where this task runs",
            fix="Install it (`pip install kubernetes`), or run the task on a control-plane node with client: builtin.",
        )
    return _built_in(options)
