# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of the Kubernetes API: objects as plain mappings, page by page, changed without losing updates.

The `kubernetes` library is not on nodes, so the client needs nothing but the standard library. api_connection.py has the
transports of a controller or an administrator.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import quote as url_quote
from urllib.parse import urlencode

from ..endpoint import http_client
from ..errors import PkiError

_PAGE = 500  # objects

_CONFLICTS = 5  # how often an object is read and changed again that other clients write, too


class ApiError(PkiError):
    """The API refused a request. status: the HTTP status. reason: the API's own word for it ("NotFound"), or ""."""

    def __init__(self, message: str, path: str, fix: Optional[str], status: int, reason: str) -> None:
        super().__init__(message, path=path, fix=fix)
        self.status, self.reason = status, reason


class Api:
    """A connection to one API server. server: URL. ca_pem: PEM bytes that it is verified with, or None for the system's."""

    def __init__(self, server: str, ca_pem: Optional[bytes], timeout: float) -> None:
        self.server, self.ca_pem, self.timeout = server.rstrip("/"), ca_pem, timeout
        self._minor: Optional[int] = None
        self._csr_version: Optional[str] = None
        self.calls = 0

    def _send(self, method: str, target: str, headers: Dict[str, str], body: Optional[bytes]) -> Tuple[int, bytes]:
        """Send one request. Return (status, body). target: path with query. Raise PkiError when the server does not respond."""
        raise NotImplementedError

    def call(
        self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, query: Optional[Mapping[str, str]] = None
    ) -> Dict[str, Any]:
        """Send a request and return the mapping that the API answers with. query: {name: value}.

        Raise ApiError when the API refuses, PkiError when it cannot be reached within the timeout.
        """
        target = path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": "application/json", "User-Agent": "kubepki.lifecycle"}
        data = None
        if body is not None:
            data = json.dumps(body).encode("utf-8")
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        self.calls += 1
        status, answer = self._send(method, target, headers, data)
        try:
            document = json.loads(answer.decode("utf-8")) if answer.strip() else {}
        except ValueError:
            document = {}
        document = document if isinstance(document, dict) else {}
        if status >= 400:
            raise _refusal(self.server, method, path, status, document)
        if not document and method == "GET":
            raise PkiError(
                "answers with something that is not the Kubernetes API",
                path=self.server,
                fix="Check the address: it has to be the API server's.",
            )
        return document

    def raw(self, path: str) -> Tuple[int, bytes]:
        """GET what is no object, such as a log. Return (status, body). Raise PkiError when the server does not respond."""
        self.calls += 1
        return self._send("GET", path, {"Accept": "*/*", "User-Agent": "kubepki.lifecycle"}, None)

    def get(self, path: str) -> Optional[Dict[str, Any]]:
        """Return an object, or None where there is none. Raise PkiError."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def update(self, path: str, change: Callable[[dict], dict | None], found: dict | None = None, check: bool = False) -> bool:
        """Change one object as it is now: what another client wrote since it was read is never overwritten.

        path: of the object. change: called with the object, returns a merge patch (a mapping), or None where nothing has to
        change; called again with the object read again where another client has changed it meanwhile. found: the object where it
        has just been read, with its resourceVersion. check: whether to write nothing. Return whether it had to change; False
        also where there is no such object. Raise PkiError.

        Source: Kubernetes API conventions, "Concurrency Control and Consistency": a patch with a resourceVersion that is not the
        present one is answered with 409.
        """
        for _attempt in range(_CONFLICTS):
            found = self.get(path) if found is None else found
            patch = change(found) if found is not None else None
            if found is None or patch is None:
                return False
            if check:
                return True
            version = (found.get("metadata") or {}).get("resourceVersion")
            if version:
                patch = dict(patch, metadata=dict(patch.get("metadata") or {}, resourceVersion=version))
            try:
                self.call("PATCH", path, patch)
                return True
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
            found = None
        raise PkiError(
            "another client changed it each of the %d times that it was to be changed" % _CONFLICTS,
            path=path,
            fix="Find the client that writes it, stop it, and run again.",
        )

    def pages(self, path: str, selector: Optional[str] = None, limit: int = _PAGE) -> Iterator[List[Dict[str, Any]]]:
        """Yield the items of a list, page by page. selector: a label selector. limit: the most objects of a page."""
        query = {"limit": str(limit)}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = self.call("GET", path, query=query)
            yield [entry for entry in page.get("items") or [] if isinstance(entry, dict)]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    def list(self, path: str, selector: Optional[str] = None) -> List[Dict[str, Any]]:
        """Return all items of a list. selector: a label selector, or None. Raise PkiError."""
        return [item for page in self.pages(path, selector) for item in page]

    def whoami(self) -> Optional[Dict[str, Any]]:
        """Return the userInfo that the API server sees ({"username", "groups"}), or None before Kubernetes 1.28.

        Raise PkiError. A server that does not know SelfSubjectReview says 403 to a client that may not look for it, else 404.
        """
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        except ApiError as error:
            if error.status in (403, 404):
                return None
            raise
        return (answer.get("status") or {}).get("userInfo") or {}

    @property
    def minor(self) -> int:
        """Return <minor> of the server's Kubernetes 1.<minor>."""
        if self._minor is None:
            match = re.match(r"\d+", str(self.call("GET", "/version").get("minor", "")))
            self._minor = int(match.group(0)) if match else 0
        return self._minor

    @property
    def csr_version(self) -> str:
        """Return the version of the Certificates API: "v1" where the server has it (1.19 and later), else "v1beta1"."""
        if self._csr_version is None:
            group = self.get("/apis/certificates.k8s.io") or {}
            versions = [entry.get("version") for entry in group.get("versions") or []]
            self._csr_version = next((version for version in ("v1", "v1beta1") if version in versions), None)
            if self._csr_version is None:
                raise PkiError(
                    "has no Certificates API this collection knows (certificates.k8s.io v1 or v1beta1)",
                    path=self.server,
                    fix="Enable it on the API servers (--runtime-config).",
                )
        return self._csr_version

    @property
    def csr_path(self) -> str:
        """Return the path of CertificateSigningRequests."""
        return "/apis/certificates.k8s.io/%s/certificatesigningrequests" % self.csr_version


def segment(name: str) -> str:
    """Return a name as one segment of a URL's path."""
    return url_quote(name, safe="")


def _refusal(server: str, method: str, path: str, status: int, document: Dict[str, Any]) -> ApiError:
    reason, said = (text if isinstance(text, str) else "" for text in (document.get("reason"), document.get("message")))
    if status == 401:
        message = "does not accept these credentials (401)"
        fix: Optional[str] = "Use a kubeconfig or token that is valid for this cluster."
    elif status == 403:
        message, fix = "does not allow it (403): %s" % said, "Use an identity that RBAC allows to do this."
    else:
        message, fix = "answers %s %s with %d: %s" % (method, path, status, said or reason or "no explanation"), None
    return ApiError(message.rstrip(". :"), server, fix, status, reason)


class NodeApi(Api):
    """A client for nodes: a new connection for each request, so that each one proves what the server presents now.

    pair: (certificate PEM, key PEM) as bytes, or None. strict: as in http_client.http_request(): without it the server's name
    and the dates of its certificate do not count.
    """

    def __init__(
        self,
        server: Optional[str],
        ca: Optional[bytes],
        pair: Optional[Tuple[bytes, bytes]],
        timeout: float = 5.0,
        strict: bool = False,
    ) -> None:
        super().__init__(server or "", ca, timeout)
        self.pair, self.strict = pair, strict

    def _request(
        self, method: str, target: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> http_client.Answer:
        return http_client.http_request(
            self.server + target,
            method,
            body,
            ca_pem=self.ca_pem,
            client=self.pair,
            timeout=self.timeout,
            headers=headers,
            strict=self.strict,
        )

    def _send(self, method: str, target: str, headers: Dict[str, str], body: Optional[bytes]) -> Tuple[int, bytes]:
        answer = self._request(method, target, body, headers)
        return answer.status, answer.body

    def answer(self, path: str, document: Optional[Dict[str, Any]] = None) -> http_client.Answer:
        """GET a path, or POST a document to it. Return the Answer, whatever its status. Raise PkiError without an answer."""
        body = json.dumps(document).encode("utf-8") if document is not None else None
        return self._request("POST" if body else "GET", path, body)


def encode(data: bytes) -> str:
    """Return bytes as the API carries them: base64."""
    return base64.b64encode(data).decode("ascii")
