# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Just enough of kubeconfig reading for the lab's clients, without a YAML library."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Credentials:
    """What a client needs from an admin.conf: where the API is, whom to trust, who it is (PEM bytes)."""

    host: str
    port: int
    ca: bytes
    certificate: bytes
    key: bytes


def parse(text: str) -> Credentials:
    """Read a kubeconfig with one cluster and one user that embeds its certificates; ValueError otherwise."""

    def value(name: str) -> str:
        match = re.search(rf"[\"']?\b{name}[\"']?\s*:\s*[\"']?([^\s\"',}}]+)", text)
        if not match:
            raise ValueError(f"the kubeconfig has no {name}")
        return match.group(1)

    url = urlsplit(value("server"))
    return Credentials(
        host=url.hostname or "",
        port=url.port or 443,
        ca=base64.b64decode(value("certificate-authority-data")),
        certificate=base64.b64decode(value("client-certificate-data")),
        key=base64.b64decode(value("client-key-data")),
    )
