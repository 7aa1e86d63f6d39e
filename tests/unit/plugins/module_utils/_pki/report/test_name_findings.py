# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import name_findings

from tests.unit.support import throwaway
from tests.unit.support.node_checks import check, codes


def test_names_that_are_missing(node):
    node.address = "10.0.0.99"
    for name in ("apiserver", "etcd-peer"):
        node.issue(name)
    found = check(node)
    assert sorted(codes(found)) == [("error", "san-missing", "apiserver"), ("error", "san-missing", "etcd-peer")]
    assert "10.0.0.1" in found[0]["message"]


def test_the_control_plane_endpoint_has_to_be_named(node):
    path = node.kubernetes("admin.conf")
    path.write_text(path.read_text().replace(throwaway.ENDPOINT, "balancer.example:443"))
    (one,) = check(node)
    assert one["code"] == "san-missing" and "balancer.example" in one["message"] and "control-plane endpoint" in one["message"]


@pytest.mark.parametrize(
    "sans,value,covered",
    [
        (["DNS:a.example"], "A.example.", True),
        (["DNS:*.example"], "a.example", True),
        (["DNS:*.example"], "a.b.example", False),
        (["IP:2001:db8::1"], "2001:DB8:0::0001", True),
        (["IP:2001:db8::1"], "2001:db8::2", False),
        (["IP:::1"], "a\0b", False),
        (["DNS:2001:db8::1"], "2001:db8:0::1", False),
        (["IP:10.0.0.1"], "10.0.0.1", True),
        (["IP:10.0.0.1"], "10.0.0.11", False),
        ([], "a", False),
    ],
)
def test_what_a_certificate_covers(sans, value, covered):
    assert name_findings._covers(sans, value) is covered
