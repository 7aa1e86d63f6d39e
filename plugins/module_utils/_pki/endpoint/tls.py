# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS contexts of the ssl module, and the reasons of failed connections."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from typing import Any

from ..errors import PkiError
from ..kubeadm import addresses

# openssl/x509_vfy.h. Go, and so all of Kubernetes, accepts a chain that ends at a trusted certificate that is not
# self-signed; and an expired certificate is here a finding to report, not a reason to see nothing else.
_PARTIAL_CHAIN = 0x80000

_NO_CHECK_TIME = 0x200000


def tls_context(
    client: Any = None, ca_path: str | None = None, ca_pem: bytes | None = None, strict: bool = False
) -> ssl.SSLContext:
    """Return an ssl.SSLContext for the options of http_request and served_der. Raise PkiError naming an unusable file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if ca_path or ca_pem:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= _PARTIAL_CHAIN | _NO_CHECK_TIME
        try:
            context.load_verify_locations(ca_path, None, ca_pem.decode("ascii") if ca_pem else None)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise PkiError(
                "cannot be used as a CA bundle (%s)" % reason(error), path=ca_path, fix="Restore it from a backup."
            ) from None
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


def _load_pair(context: ssl.SSLContext, client: Any) -> None:
    try:
        if isinstance(client[0], bytes):
            from ..fileio import memfd

            with memfd.path_of(client[0] + b"\n" + client[1]) as path:
                context.load_cert_chain(path)
        else:
            context.load_cert_chain(client[0], client[1])
    except (OSError, ssl.SSLError) as error:
        where = None if isinstance(client[0], bytes) else client[0]
        unusable = PkiError(
            "cannot be used as a client certificate with its key (%s)" % reason(error),
            path=where,
            fix="Renew it: cert_leaf makes a new pair.",
        )
        unusable.refused = True
        raise unusable from None


def reason(error: BaseException) -> str:
    """Return what went wrong with a connection, in a few words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS error").replace("_", " ").lower()
    if isinstance(error, socket.timeout):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else (error.strerror or "name not found")
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def unreachable(host: str, port: int, error: BaseException) -> PkiError:
    """Return the PkiError of an unreachable endpoint."""
    fixes: dict[Any, str] = {
        errno.ECONNREFUSED: "Nothing listens there: see whether the component runs (`crictl ps -a`, the kubelet's journal).",
        errno.EHOSTUNREACH: "Check the network and the host's firewall.",
        errno.ENETUNREACH: "Check the network.",
    }
    fix = fixes.get(getattr(error, "errno", None))
    if isinstance(error, socket.timeout):
        fix = "It may hang or a firewall may drop packets: see the component's log."
    found = PkiError(reason(error), path=addresses.join_host_port(host, port), fix=fix)
    # With TLS 1.3 a server says after the handshake that it refuses a client, or only closes the connection.
    found.refused = isinstance(error, (ssl.SSLError, ConnectionError)) and not isinstance(error, ConnectionRefusedError)
    return found


def verify(host: str, port: int, ca_pem: bytes, timeout: float = 3.0) -> None:
    """Connect as a client that trusts a CA bundle (PEM) and compares the name. Raise PkiError: why it would refuse."""
    context = tls_context(ca_pem=ca_pem, strict=True)
    try:
        with socket.create_connection((host, port), timeout) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        raise PkiError(
            "its certificate does not verify (%s)" % error.verify_message,
            path=addresses.join_host_port(host, port),
            fix="The playbook reissue_kubelets with kubepki_kubelet_serving=bootstrap has one signed.",
        ) from None
    except (OSError, ValueError) as error:
        raise unreachable(host, port, error) from None
