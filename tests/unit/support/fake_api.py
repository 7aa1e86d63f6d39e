# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of a Kubernetes API server as the Certificates API needs, in this process: with its conflicts and refusals."""

from __future__ import annotations

import base64
import itertools
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    ca_sign,
    csr_read,
    private_keys,
    x509_read,
    x509_sign,
)

CA_KEY = private_keys.generate_key("ecdsa-p256")
CA = ca_sign.build_ca("kubernetes", CA_KEY, 10)
CSRS = "certificatesigningrequests"


class FakeApi:
    """objects: {path of the object: mapping}. calls: [(method, path)]. before: called with them ahead of each answer."""

    def __init__(
        self, minor=28, versions=("v1",), signs=True, token=None, requester="kubernetes-admin", tls: Path | None = None, page=None
    ):
        self.minor, self.versions, self.signs, self.token, self.requester = minor, versions, signs, token, requester
        self.page = page
        self.groups = ["system:authenticated"]
        self.texts: dict[str, tuple[int, bytes]] = {}
        self.objects: dict[str, dict] = {}
        self.calls: list[tuple[str, str]] = []
        self.refuse: dict[tuple[str, str], tuple[int, str]] = {}
        self.before = lambda method, path: None
        self.days = 1.0
        self._version = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self._server.server_port
        if tls is not None:
            self._serve_tls(tls)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _serve_tls(self, directory: Path) -> None:
        key = private_keys.generate_key("ecdsa-p256")
        leaf = x509_sign.sign_leaf(
            x509_sign.Profile("api", (), ["DNS:api.example", "IP:127.0.0.1"], ("server",)), key, CA, CA_KEY, 1
        )
        (directory / "server.pem").write_bytes(leaf.pem + key.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem")
        context.load_verify_locations(cadata=CA.pem.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def write_admin_conf(self, path: Path) -> None:
        """Write a kubeconfig of an administrator of this API, which has to serve TLS."""
        key = private_keys.generate_key("ecdsa-p256")
        client = x509_sign.sign_leaf(x509_sign.Profile("kubernetes-admin", (), [], ("client",)), key, CA, CA_KEY, 1)
        authority, certificate, secret = (base64.b64encode(pem).decode() for pem in (CA.pem, client.pem, key.pem))
        path.write_text(
            json.dumps(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                    "clusters": [{"name": "k", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
                    "users": [{"name": "u", "user": {"client-certificate-data": certificate, "client-key-data": secret}}],
                }
            )
        )

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, path: str, item: dict) -> dict:
        """Store an object as the server would."""
        metadata = item.setdefault("metadata", {})
        metadata["name"] = unquote(path.rsplit("/", 1)[-1])
        if "/namespaces/" in path:
            metadata["namespace"] = path.split("/namespaces/")[1].split("/")[0]
        metadata.setdefault("uid", "uid-%d" % next(self._version))
        metadata["resourceVersion"] = str(next(self._version))
        metadata.setdefault("creationTimestamp", x509_read.timestamp(x509_read.now()))
        self.objects[path] = item
        return item

    def csr(self, name: str) -> dict:
        return self.objects[self.csr_path(name)]

    def csr_path(self, name: str) -> str:
        return "/apis/certificates.k8s.io/%s/%s/%s" % (self.versions[0], CSRS, name)

    def issue(self, item: dict, key=None, subject=None) -> None:
        """Do what a signer does with an approved request."""
        request = csr_read.parse_request(base64.b64decode(item["spec"]["request"]))
        seconds = item["spec"].get("expirationSeconds") if self.minor >= 22 else None
        profile = x509_sign.Profile(
            subject or request.common_name,
            request.organizations,
            request.sans,
            ("server" if item["spec"]["signerName"].endswith("serving") else "client",),
        )
        leaf = x509_sign.sign_leaf(profile, key or request, CA, CA_KEY, seconds / 86400 if seconds else self.days)
        item["status"]["certificate"] = base64.b64encode(leaf.pem).decode()

    # --- answers -----------------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, headers, body):
        parts = urlsplit(target)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        self.calls.append((method, path))
        self.before(method, path)
        if self.token and headers.get("Authorization") != "Bearer " + self.token:
            return _status(401, "Unauthorized", "Unauthorized")
        for (refused, prefix), (code, message) in self.refuse.items():
            if method == refused and path.startswith(prefix):
                return _status(code, "Forbidden" if code == 403 else "", message)
        if path == "/version":
            return 200, {"major": "1", "minor": "%d+" % self.minor}
        if path == "/apis/certificates.k8s.io":
            return 200, {"kind": "APIGroup", "versions": [{"version": version} for version in self.versions]}
        if path.endswith(("selfsubjectreviews", "selfsubjectaccessreviews")):
            return self._review(path)
        if path in self.texts:
            return self.texts[path]
        return getattr(self, "_" + method.lower())(path, query, body)

    def _review(self, path):
        if path.endswith("selfsubjectreviews"):
            if self.minor < 28:
                return _status(403, "Forbidden", "User alice cannot create resource selfsubjectreviews")  # as 1.20.2 says it
            return 201, {"status": {"userInfo": {"username": self.requester, "groups": ["dev", "system:authenticated"]}}}
        return 201, {"status": {"allowed": False}}

    def _get(self, path, query, body):
        if path in self.objects:
            return 200, self.objects[path]
        if path.rsplit("/", 1)[-1] in (
            CSRS,
            "nodes",
            "pods",
            "services",
            "configmaps",
            "secrets",
            "serviceaccounts",
            "clusterrolebindings",
            "rolebindings",
            "clusterroles",
            "roles",
        ):
            return self._list(path, query)
        return _status(404, "NotFound", "%s not found" % path)

    def _list(self, path, query):
        kind = path.rsplit("/", 1)[-1]
        items = [
            item
            for key, item in sorted(self.objects.items())
            if key.rsplit("/", 2)[-2] == kind and key.startswith(path.rsplit("/", 1)[0])
        ]
        for pair in filter(None, query.get("labelSelector", "").split(",")):
            key, _equal, value = pair.partition("=")
            items = [item for item in items if item["metadata"].get("labels", {}).get(key) == value]
        start = int(query.get("continue", 0))
        size = self.page or int(query.get("limit", 500))
        rest = str(start + size) if start + size < len(items) else ""
        return 200, {"kind": "List", "metadata": {"continue": rest}, "items": items[start : start + size]}

    def _post(self, path, query, body):
        name = body["metadata"]["name"]
        key = "%s/%s" % (path, name)
        if key in self.objects:
            return _status(409, "AlreadyExists", "%s already exists" % name)
        if path.endswith(CSRS):
            if self.minor < 22:
                body["spec"].pop("expirationSeconds", None)
            body["spec"].update(username=self.requester, groups=list(self.groups))
            body.setdefault("status", {})
        return 201, self.put(key, body)

    def _put(self, path, query, body):
        key = path[: -len("/approval")] if path.endswith("/approval") else path
        item = self.objects.get(key)
        if item is None:
            return _status(404, "NotFound", "not found")
        if body["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified")
        if "/leases/" in key:
            return 200, self.put(key, body)
        kinds = [condition["type"] for condition in body["status"]["conditions"]]
        if len(kinds) != len(set(kinds)) or {"Approved", "Denied"} <= set(kinds):
            return _status(422, "Invalid", "Approved and Denied conditions are mutually exclusive")
        stored = self.put(key, json.loads(json.dumps(dict(item, status=body["status"]))))
        if self.signs and "Approved" in kinds:
            self.issue(stored)
        return 200, stored

    def _patch(self, path, query, body):
        item = self.objects.get(path)
        if item is None:
            return _status(404, "NotFound", "not found")
        version = item["metadata"]["resourceVersion"]
        if body.get("metadata", {}).get("resourceVersion", version) != version:
            return _status(409, "Conflict", "the object has been modified")
        return 200, self.put(path, _merged(item, body))

    def meanwhile(self, method: str, path: str, change, times: int = 1) -> None:
        """Let another client change an object just before a request arrives. change: called with the object, so many times."""
        left = [times]

        def before(asked, where):
            if (asked, where) == (method, path) and left[0]:
                left[0] -= 1
                change(self.objects[path])
                self.put(path, self.objects[path])

        self.before = before

    def _delete(self, path, query, body):
        item = self.objects.get(path)
        if item is None:
            return _status(404, "NotFound", "not found")
        wanted = ((body or {}).get("preconditions") or {}).get("uid")
        if wanted and wanted != item["metadata"]["uid"]:
            return _status(409, "Conflict", "uid precondition failed")
        del self.objects[path]
        return 200, _status(200, "", "")[1]

    def _handler(self):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _do(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, document = fake.answer(self.command, self.path, self.headers, body)
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

            def log_message(self, *arguments):
                pass

        return Handler


def _merged(item, patch):
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(item) if isinstance(item, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _status(code, reason, message):
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}
