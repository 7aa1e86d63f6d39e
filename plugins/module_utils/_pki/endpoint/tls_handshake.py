# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS handshakes with live endpoints, for the certificates that they serve (the ssl module)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Any, Iterable

from ..errors import PkiError
from ..kubeadm import addresses
from . import discovery, tls


class Handshake:
    """A TLS handshake with a server in a thread of its own, for the certificate it serves; verifies nothing.

    host: name or address. context: from unverified_context(). timeout: seconds for each step. server_name: for SNI, or None.
    Making one begins it; certificate() waits for it. Never raises before that.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, timeout: float, server_name: str | None = None) -> None:
        self.address = addresses.join_host_port(host, port)
        self._host, self._port, self._context, self._timeout, self._server_name = host, port, context, timeout, server_name
        self._der: bytes | None = None
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._shake, daemon=True)
        self._thread.start()

    def _shake(self) -> None:
        try:
            with socket.create_connection((self._host, self._port), self._timeout) as connection, self._context.wrap_socket(
                connection, server_hostname=self._server_name
            ) as tls:
                self._der = tls.getpeercert(binary_form=True)
                with contextlib.suppress(OSError, ValueError):
                    tls.unwrap()  # or the server logs an error
        except Exception as error:  # a configuration can name anything as a port
            self._trouble = error

    def certificate(self) -> bytes:
        """Return the DER of the leaf certificate that the server presents. Raise PkiError.

        With TLS 1.3 also that of a server that rejects this client; up to TLS 1.2 such a handshake ends before the certificate
        counts.
        """
        self._thread.join()
        if self._der is not None:
            return self._der
        raise tls.unreachable(self._host, self._port, self._trouble or ValueError("presents no certificate")) from None


def unverified_context(client: Any = None) -> ssl.SSLContext:
    """Return an ssl.SSLContext that verifies nothing, with a client certificate where a server asks for one.

    client: (certificate path, key path), or the two as PEM bytes, or None; a pair that is unusable is left out.
    """
    try:
        return tls.tls_context(client)
    except PkiError:
        return tls.tls_context()


def served_der(host: str, port: int, client: Any = None, server_name: str | None = None, timeout: float = 3.0) -> bytes:
    """Return the DER of the leaf certificate that a TLS server presents, whatever its issuer. Raise PkiError.

    client: as unverified_context() takes it. The others: as Handshake takes them. timeout: seconds for each step.
    """
    return Handshake(host, port, unverified_context(client), timeout, server_name).certificate()


def served_certificate(host: str, port: int, client: Any = None, server_name: str | None = None, timeout: float = 3.0) -> Any:
    """Return what served_der() sees as an x509_read.Certificate. Raise PkiError: refused, no answer, unreadable."""
    from ..x509 import x509_read  # only here: a restart needs the digest alone

    return x509_read.parse_der_certificate(
        served_der(host, port, client, server_name, timeout), addresses.join_host_port(host, port)
    )


def start_handshakes(found: Iterable[discovery.Endpoint], timeout: float = 3.0) -> dict[str, Handshake]:
    """Start the TLS handshakes with Endpoints. Return {name: Handshake} for collect_certificates(); nothing for plain http.

    timeout: seconds for each step; all run at the same time.
    """
    # etcd alone insists on a client's certificate, and logs an error about clients without one.
    clients = {endpoint.name: endpoint.client if endpoint.component == "etcd" else None for endpoint in found if endpoint.secure}
    contexts = {client: unverified_context(client) for client in set(clients.values())}
    return {
        endpoint.name: Handshake(endpoint.host, endpoint.port, contexts[clients[endpoint.name]], timeout)
        for endpoint in found
        if endpoint.secure
    }


def collect_certificates(asked: dict[str, Handshake]) -> dict[str, Any]:
    """Return the certificates that the servers present: {name: x509_read.Certificate or PkiError}."""
    from ..x509.x509_read import parse_der_certificate

    seen: dict[str, Any] = {}
    for name, handshake in asked.items():
        try:
            seen[name] = parse_der_certificate(handshake.certificate(), handshake.address)
        except PkiError as error:
            seen[name] = error
    return seen


def served(layout: Any, names: Iterable[str] | None = None, timeout: float = 3.0) -> dict[str, Any]:
    """Ask every endpoint of this node. Return {endpoint name: x509_read.Certificate or PkiError}; nothing for plain http.

    names: only these endpoints. timeout: seconds for each step.
    """
    return collect_certificates(
        start_handshakes(
            [endpoint for endpoint in discovery.endpoints(layout) if names is None or endpoint.name in names], timeout
        )
    )
