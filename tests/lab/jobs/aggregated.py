# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An extension API server behind the lab's aggregation layer, and a client that asks it through the balancer.

It does what k8s.io/apiserver does behind a front proxy: it takes its request-header CAs from extension-apiserver-authentication
and follows them, and believes X-Remote-User only from a client that they signed and that the ConfigMap allows by name.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab import kubeconfig
from tests.lab.client import Client, Endpoint, Identity, Loop, Request, fetch
from tests.lab.errors import LabError
from tests.lab.kubeadm import API_NAME, API_PORT
from tests.lab.lab import Lab
from tests.lab.playbook import play
from tests.lab.shell import wait_for

_GROUP, _VERSION, _SERVICE = "extension.kubepki.test", "v1", "kubepki-extension"
_READ = Request(f"/apis/{_GROUP}/{_VERSION}")
_CONFIG = Request("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")


class Extension:
    """``with Extension(lab, directory) as extension: ...; extension.counts()``."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.refused: list[str] = []
        self._trust = b""
        self._allowed: list[str] = []
        self._stopping = threading.Event()
        self._pair = directory / "extension.pem"
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=extension",
                "-keyout",
                str(directory / "key.pem"),
                "-out",
                str(directory / "crt.pem"),
            ],
            check=True,
            capture_output=True,
        )
        self._pair.write_bytes((directory / "crt.pem").read_bytes() + (directory / "key.pem").read_bytes())
        self._server = self._make_server()
        balanced = [Endpoint(lab.balancer_address, API_PORT, API_NAME)]
        client = Client(balanced, self._admin, _READ, keep_alive=False)
        self._loop = Loop("aggregated", client, 4.0)

    def __enter__(self) -> Extension:
        self._follow_once()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        threading.Thread(target=self._follow, daemon=True).start()
        self.lab.kubectl("apply", "-f", "-", stdin=json.dumps(self._objects()))
        self._loop.start()
        try:
            self._wait(40)
        except LabError:
            # In a cluster that has just been made, an apiserver of 1.20 may not see the service (ServiceNotFound) until it is
            # restarted.
            play(self.lab, "restart_static_pods", {"kubepki_names": "kube-apiserver"}).require_success()
            self._wait(120)
        self._loop.counter.counting = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.stop()
        self._loop.join(15)
        self._stopping.set()
        with contextlib.suppress(LabError):
            self.lab.kubectl("delete", "--wait=false", "apiservice", f"{_VERSION}.{_GROUP}")
            self.lab.kubectl("delete", "--wait=false", "-n", "kube-system", "service", _SERVICE)
        self._server.shutdown()
        self._server.server_close()

    def _wait(self, seconds: float) -> None:
        # Each apiserver finds out for itself whether it is available, and looks again after half a minute.
        wait_for(
            lambda: self._missing() or self._missing() or self._missing(),
            seconds=seconds,
            interval=1.0,
            failure=lambda seen: LabError(f"the aggregated API does not answer: {seen}"),
        )

    def _missing(self) -> str | None:
        """Which apiserver does not pass requests on to it yet, and what that says; None when all do."""
        for name, address in self.lab.control_planes.items():
            try:
                status, body = fetch(Endpoint(address, API_PORT, API_NAME), self._admin(), _READ)
            except (OSError, http.client.HTTPException) as error:
                return f"{name}: {error}"
            if status != 200:
                return f"{name}: HTTP {status} {body[:200].decode(errors='replace')}"
        return None

    def counts(self) -> dict[str, Any]:
        """What the client saw, as the clients of a watch count it."""
        return self._loop.counts()

    def _admin(self) -> Identity:
        found = kubeconfig.parse(self.lab.path("cp1", "/etc/kubernetes/admin.conf").read_text())
        return Identity(found.ca, found.certificate, found.key)

    def _follow(self) -> None:
        while not self._stopping.wait(0.5):
            with contextlib.suppress(Exception):  # an API that does not answer now leaves the trust as it is
                self._follow_once()

    def _follow_once(self) -> None:
        status, body = fetch(Endpoint(self.lab.balancer_address, API_PORT, API_NAME), self._admin(), _CONFIG)
        if status == 200:
            data = json.loads(body)["data"]
            self._trust = data["requestheader-client-ca-file"].encode()
            self._allowed = json.loads(data["requestheader-allowed-names"])

    def _make_server(self) -> ThreadingHTTPServer:
        extension = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                subject = dict(part[0] for part in self.connection.getpeercert()["subject"])  # type: ignore[attr-defined]
                trusted = subject["commonName"] in extension._allowed and self.headers.get("X-Remote-User")
                body = json.dumps(
                    {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{_GROUP}/{_VERSION}", "resources": []}
                ).encode()
                self.send_response(200 if trusted else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def finish_request(self, request: Any, client_address: Any) -> None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(extension._pair)
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(cadata=extension._trust.decode())
                try:
                    wrapped = context.wrap_socket(request, server_side=True)
                except (OSError, ssl.SSLError) as error:
                    extension.refused.append(str(error))
                    return
                with contextlib.suppress(OSError):
                    super().finish_request(wrapped, client_address)

        return Server((self.lab.network.subnet.host, 0), Handler)

    def _objects(self) -> dict[str, Any]:
        port = self._server.server_address[1]
        return {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": _SERVICE, "namespace": "kube-system"},
                    "spec": {"type": "ExternalName", "externalName": self.lab.network.subnet.host, "ports": [{"port": port}]},
                },
                {
                    "apiVersion": "apiregistration.k8s.io/v1",
                    "kind": "APIService",
                    "metadata": {"name": f"{_VERSION}.{_GROUP}"},
                    "spec": {
                        "group": _GROUP,
                        "version": _VERSION,
                        "groupPriorityMinimum": 100,
                        "versionPriority": 100,
                        "insecureSkipTLSVerify": True,
                        "service": {"name": _SERVICE, "namespace": "kube-system", "port": port},
                    },
                },
            ],
        }
