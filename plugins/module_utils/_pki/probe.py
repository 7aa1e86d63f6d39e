# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a live endpoint what it serves and whether it is healthy: TLS and HTTP, with the standard library alone.

A component has taken up a new certificate when it serves it, and not before: this room is where that is seen.
"""

from __future__ import annotations

__metaclass__ = type

import base64
import hashlib
import json
import ssl
import time
from urllib.parse import urlsplit

from .errors import PkiError

# What a certificate's own look needs is a room below; its names are this room's, too.
from .serving import (
    APISERVER,
    ETCD_PEER,
    ETCD_SERVER,
    KUBELET,
    MANAGER,
    SCHEDULER,
    Endpoint,
    endpoints,
    join,
    reason,
    served,
    served_certificate,
    served_der,
    tls_context,
    together,
    unreachable,
    urls,
)

# Imported for those who use this room alone.
__all__ = ("APISERVER", "ETCD_PEER", "ETCD_SERVER", "Endpoint", "KUBELET", "MANAGER", "SCHEDULER", "endpoints", "reason",
           "served", "served_certificate", "together", "urls")

_LONGEST_BODY = 4 * 1024 * 1024


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


def file_sha256(path):
    """Give the digest of the first certificate in a PEM file as served_der()'s would be, or None when there is none."""
    try:
        with open(path, "rb") as handle:
            text = handle.read().decode("ascii", "replace")
        begin = text.index(ssl.PEM_HEADER) + len(ssl.PEM_HEADER)
        return hashlib.sha256(base64.b64decode(text[begin:text.index(ssl.PEM_FOOTER, begin)])).hexdigest()
    except (OSError, ValueError):
        return None


def http_request(url, method="GET", body=None, ca_path=None, ca_pem=None, client=None, timeout=3.0, headers=None, strict=False):
    """Ask an HTTP(S) server and give its Answer, whatever status it has.

    url: str. body: bytes or None (sent as JSON). ca_path, ca_pem: whom to trust; with neither, nothing is verified. strict: the
    server's name and its certificate's dates count, too; else they do not, as nodes are asked by their addresses and may be in
    disrepair. client: as in served_der(), or a list of such: the first that is let in asks. timeout: seconds for each step.
    headers: {name: value} to send besides. Raises PkiError when there is no answer, or when the certificate is not signed by
    that CA.
    """
    import email.utils  # not at the top: who only asks for certificates does without these two
    import http.client

    if isinstance(client, list):
        return _first_let_in(client, lambda one: http_request(url, method, body, ca_path, ca_pem, one, timeout, headers, strict))
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    started = time.monotonic()
    context = tls_context(client, ca_path, ca_pem, strict) if secure else None
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
        raise unreachable(parts.hostname, port, error) from None
    finally:
        if connection is not None:
            connection.close()


def _first_let_in(clients, ask):
    """What ask(client) gives with the first that is not refused; where all are, what happened to the first."""
    first = None
    for client in clients or [None]:
        try:
            return ask(client)
        except PkiError as error:
            first = first or error
            if not error.refused:
                break
    raise first


def _expired(tls):
    until = (tls.getpeercert() or {}).get("notAfter")
    return until is not None and ssl.cert_time_to_seconds(until) < time.time()


def http_get(url, ca_path=None, ca_pem=None, client=None, timeout=3.0):
    """GET a URL as http_request() does. Gives (status, body)."""
    answer = http_request(url, "GET", None, ca_path, ca_pem, client, timeout)
    return answer.status, answer.body


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
        if status == 200 and not unhealthy_etcd(body):
            return True, "200"
        seen = "HTTP %d%s" % (status, _failed_checks(body))
        if status not in (401, 403):
            break
    return False, seen


def unhealthy_etcd(body):
    """Tell whether the body (bytes) of etcd's /health says that it is not well."""
    # etcd answers {"health":"true"}; older ones say "false" with status 200.
    return b'"health":"false"' in body.replace(b" ", b"")


def _failed_checks(body):
    """The names of what readyz says is not ready: "[-]poststarthook/rbac/bootstrap-roles failed: ..." gives the name only."""
    names = [line[3:].split(b" ", 1)[0].decode("ascii", "replace") for line in body.splitlines() if line.startswith(b"[-]")]
    return " (%s)" % ", ".join(names[:4]) if names else ""


def wait_digest(endpoint, digest, deadline_seconds, interval=0.1, timeout=3.0):
    """Poll one Endpoint until it serves the certificate with this SHA-256, for at most deadline_seconds (float).

    Gives (proven: bool, seconds: float until then, last seen: hex digest or PkiError). The interval (seconds) grows to half a
    second: an apiserver may take a minute, and should not be asked 600 times.
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


def failed_checks(answer):
    """Give " (names of the checks that failed)" of a verbose readyz Answer, or ""."""
    return _failed_checks(answer.body)
