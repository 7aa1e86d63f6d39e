# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of host and port as text."""

from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import addresses


@pytest.mark.parametrize(
    "text,expected",
    [
        ("https://k8s-api:6443", ("k8s-api", 6443)),
        ("https://[fd00::1]:6443/", ("fd00::1", 6443)),
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("name", ("name", None)),
        ("fd00::1", ("fd00::1", None)),
        ("", (None, None)),
    ],
)
def test_split_host_port(text, expected):
    assert addresses.split_host_port(text) == expected
