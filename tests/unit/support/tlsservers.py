# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificate authorities in a directory and HTTPS servers in threads, for tests that ask live endpoints."""

from __future__ import annotations

import http.server
import random
import socket
import ssl
import threading

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_sign


class Authority:
    """A CA with leaves in files."""

    def __init__(self, directory, name="kubernetes"):
        self.directory = directory
        self.name = name
        self.key = private_keys.generate_key("ecdsa-p256")
        self.certificate = ca_sign.build_ca(name, self.key, 3650)
        self.path = str(directory / (name + ".crt"))
        (directory / (name + ".crt")).write_bytes(self.certificate.pem)

    def leaf(self, name, usages=("server", "client"), days=30.0, start=None):
        """Write NAME.crt and NAME.key; give (certificate path, key path, Certificate)."""
        key = private_keys.generate_key("ecdsa-p256")
        profile = x509_sign.Profile(name, sans=["IP:127.0.0.1", "DNS:localhost"], extended_usages=usages)
        certificate = x509_sign.sign_leaf(profile, key, self.certificate, self.key, days, start)
        (self.directory / (name + ".crt")).write_bytes(certificate.pem)
        (self.directory / (name + ".key")).write_bytes(key.pem)
        return str(self.directory / (name + ".crt")), str(self.directory / (name + ".key")), certificate


class Server:
    """An HTTPS server in a thread; pages: {path: (status, body)}. host, port: where it listens."""

    def __init__(self, pair=None, pages=None, client_ca=None, version=None, host="127.0.0.1", port=0):
        self.pages = {} if pages is None else pages
        self.asked = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                peer = self.connection.getpeercert() if hasattr(self.connection, "getpeercert") else None
                server.asked.append((self.command, self.path, peer))
                page = server.pages.get(self.path.partition("?")[0], (404, b""))
                status, body = page(peer) if callable(page) else page
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _answer

            def log_message(self, *args):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass

        self.httpd = Quiet((host, port), Handler)
        self.httpd.daemon_threads = True
        self.port = self.httpd.server_address[1]
        self.context = None
        if pair:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(pair[0], pair[1])
            if version:
                self.context.maximum_version = version
            if client_ca:
                self.context.load_verify_locations(client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED
            self.httpd.socket = self.context.wrap_socket(self.httpd.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.httpd.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path=""):
        return "%s://127.0.0.1:%d%s" % ("https" if self.context else "http", self.port, path)

    def close(self):
        self.httpd.shutdown()
        self.httpd.server_close()


def free_port() -> int:
    """Give a port nobody listens on, and that no outgoing connection is given meanwhile (those begin at 32768)."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
