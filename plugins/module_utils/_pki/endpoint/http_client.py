# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP client of the standard library for live endpoints."""

from __future__ import annotations

import json
import ssl
import time
from typing import Any, Callable, Mapping
from urllib.parse import urlsplit

from ..errors import PkiError
from ..kubeadm.addresses import join_host_port
from .parallel import WHOLE, call_within
from .tls import tls_context, unreachable

_LONGEST_BODY = 4 * 1024 * 1024


class Answer:
    """What an HTTP server said. status: int. body: bytes. seconds: float, how long it took.

    epoch: the server's own clock as seconds since 1970 (from its Date header), or None. expired: True when the
    certificate it served had expired (only seen where a CA was given to verify it against).
    """

    def __init__(self, status: int, body: bytes, epoch: float | None = None, expired: bool = False, seconds: float = 0.0) -> None:
        self.status, self.body, self.epoch, self.expired, self.seconds = status, body, epoch, expired, seconds

    def json(self) -> dict[str, Any]:
        """Return the body as a mapping; {} when it is none."""
        try:
            document = json.loads(self.body.decode("utf-8", "replace"))
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


def http_request(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    ca_path: str | None = None,
    ca_pem: bytes | None = None,
    client: Any = None,
    timeout: float = 3.0,
    headers: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Answer:
    """Ask an HTTP(S) server and return its Answer, whatever status it has.

    body: sent as JSON. ca_path, ca_pem: trust bundle; with neither, nothing is verified. strict: the
    server's name and its certificate's dates count, too; else they do not, as nodes are asked by their addresses and may be in
    disrepair. client: as in served_der(), or a list of such: the first that is accepted asks. timeout: seconds for each step;
    the whole exchange may take three times as long. headers: {name: value} to send besides. Raise PkiError when there is no
    answer, or when the certificate is not signed by that CA.
    """
    import email.utils  # not at the top: certificates are read without these two
    import http.client

    if isinstance(client, list):
        return _skip_rejected_clients(
            client, lambda one: http_request(url, method, body, ca_path, ca_pem, one, timeout, headers, strict)
        )
    parts: Any = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    started = time.monotonic()
    context = tls_context(client, ca_path, ca_pem, strict) if secure else None

    def exchange() -> tuple[Any, bytes, bool]:
        connection = (
            http.client.HTTPSConnection(parts.hostname, port, timeout=timeout, context=context)
            if secure
            else http.client.HTTPConnection(parts.hostname, port, timeout=timeout)
        )
        try:
            connection.connect()
            expired = bool(secure and _expired(connection.sock))
            target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
            sent = dict(headers or {}, **{"User-Agent": "kubepki"})
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            return response, response.read(_LONGEST_BODY), expired
        finally:
            connection.close()

    try:
        response, content, expired = call_within(WHOLE * timeout, exchange)
        date = email.utils.parsedate_tz(response.headers.get("Date", ""))
        return Answer(
            response.status, content, email.utils.mktime_tz(date) if date else None, expired, time.monotonic() - started
        )
    except ssl.SSLCertVerificationError as error:
        raise PkiError(
            "serves a certificate that is not signed by the CA on disk (%s)" % error.verify_message,
            path=join_host_port(parts.hostname, port),
            fix="cert_expiry with live shows what is served; restart the component if it is old.",
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise unreachable(parts.hostname, port, error) from None


def _skip_rejected_clients(clients: list[Any], ask: Callable[[Any], Answer]) -> Answer:
    """Return ask(client) of the first client that is not rejected; where all are, raise the first error."""
    first: Any = None
    for client in clients or [None]:
        try:
            return ask(client)
        except PkiError as error:
            first = first or error
            if not error.refused:
                break
    raise first


def _expired(tls: Any) -> bool:
    until = (tls.getpeercert() or {}).get("notAfter")
    return until is not None and ssl.cert_time_to_seconds(until) < time.time()


def http_get(
    url: str, ca_path: str | None = None, ca_pem: bytes | None = None, client: Any = None, timeout: float = 3.0
) -> tuple[int, bytes]:
    """GET a URL as http_request() does. Return (status, body)."""
    answer = http_request(url, "GET", None, ca_path, ca_pem, client, timeout)
    return answer.status, answer.body
