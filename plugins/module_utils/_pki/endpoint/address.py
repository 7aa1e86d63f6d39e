# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of endpoints as text."""

from __future__ import annotations


def join(host, port):
    """Give "host:port" as URLs write it."""
    return "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)
