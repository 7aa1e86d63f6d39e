# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host and port as text, as flags, URLs and kubeconfigs write them."""

from __future__ import annotations

import re
from typing import Optional, Tuple

_ANY_ADDRESS = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared with, never bound


def join_host_port(host: str, port: int) -> str:
    """Return "host:port" as URLs write it, with brackets around an IPv6 address."""
    return "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)


def split_host_port(text: str) -> Tuple[Optional[str], Optional[int]]:
    """Return (host, port) of "https://host:port/path", "host:port", "[::1]:port" or "host"; None for what is not there."""
    rest = text.split("://", 1)[-1].split("/", 1)[0]
    match = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?", rest) or re.fullmatch(r"([^:]+)(?::(\d+))?", rest)
    if not match:
        return (rest or None), None
    return match.group(1), int(match.group(2)) if match.group(2) else None


def local_address(address: str) -> str:
    """Return the address at which this node reaches a component that listens on an address (loopback for "any address")."""
    return "127.0.0.1" if address in _ANY_ADDRESS else address.strip("[]")
