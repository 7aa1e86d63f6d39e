# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a live endpoint is healthy, and waiting for the certificate that it has to serve."""

from __future__ import annotations

import base64
import hashlib
import ssl
import time
from typing import Any

from ..errors import PkiError
from . import http_client
from .tls_handshake import served_der


def file_sha256(path: Any) -> str | None:
    """Return the digest of the first certificate in a PEM file as served_der()'s would be, or None when there is none."""
    try:
        with open(path, "rb") as handle:
            text = handle.read().decode("ascii", "replace")
        begin = text.index(ssl.PEM_HEADER) + len(ssl.PEM_HEADER)
        return hashlib.sha256(base64.b64decode(text[begin : text.index(ssl.PEM_FOOTER, begin)])).hexdigest()
    except (OSError, ValueError):
        return None


def health(endpoint: Any, timeout: float = 3.0) -> tuple[bool, str]:
    """Return (whether a component is healthy, what was seen). Never raises PkiError.

    Where the client certificate is rejected (401: expired or foreign), it asks again without it.
    """
    client = endpoint.client if endpoint.health.startswith("https") else None
    seen = ""
    for pair in [client, None] if client else [None]:
        try:
            status, body = http_client.http_get(endpoint.health, client=pair, timeout=timeout)
        except PkiError as error:
            seen = error.message
            continue
        if status == 200 and not unhealthy_etcd(body):
            return True, "200"
        seen = "HTTP %d%s" % (status, _failed_checks(body))
        if status not in (401, 403):
            break
    return False, seen


def unhealthy_etcd(body: bytes) -> bool:
    """Return whether the body of etcd's /health says that it is not healthy."""
    # etcd answers {"health":"true"}; older ones say "false" with status 200.
    return b'"health":"false"' in body.replace(b" ", b"")


def _failed_checks(body: bytes) -> str:
    """Return the names of what readyz lists as failed: the name of "[-]poststarthook/rbac/bootstrap-roles failed: ..." only."""
    names = [line[3:].split(b" ", 1)[0].decode("ascii", "replace") for line in body.splitlines() if line.startswith(b"[-]")]
    return " (%s)" % ", ".join(names[:4]) if names else ""


def wait_digest(
    endpoint: Any, digest: str | None, deadline_seconds: float, interval: float = 0.1, timeout: float = 3.0
) -> tuple[bool, float, str | PkiError]:
    """Poll one Endpoint until it serves the certificate with this SHA-256, for at most deadline_seconds.

    Return (proven: bool, seconds: float until then, last seen: hex digest or PkiError). The interval (seconds) grows to half a
    second: an apiserver may take a minute, and should not be asked 600 times.
    """
    started = time.monotonic()
    seen: str | PkiError
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


def failed_checks(answer: http_client.Answer) -> str:
    """Return " (names of the checks that failed)" of a verbose readyz Answer, or ""."""
    return _failed_checks(answer.body)
