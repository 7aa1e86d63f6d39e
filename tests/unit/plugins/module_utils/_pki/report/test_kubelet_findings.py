# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig

from tests.unit.support import throwaway
from tests.unit.support.node_checks import check

CURRENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"


def _dangling(node):
    os.unlink(node.path(CURRENT))
    os.symlink("kubelet-client-gone.pem", node.path(CURRENT))


def _a_file(node):
    data = node.path(CURRENT).read_bytes()
    os.unlink(node.path(CURRENT))
    node.write(CURRENT, data)


def _without_key(node):
    target = node.path(CURRENT).resolve()
    target.write_bytes(target.read_bytes().split(b"-----BEGIN EC")[0])


def _embedded(node):
    certificate, key = node.cluster.leaf("kubelet-client", "cp1", "10.0.0.1")
    node.write(
        "/etc/kubernetes/kubelet.conf",
        kubeconfig.build(
            "https://" + throwaway.ENDPOINT, node.cluster.cas["ca"].pem, "system:node:cp1", certificate.pem, key.pem
        ),
    )


def _somebody(node):
    certificate, key = node.cluster.leaf("admin.conf", "cp1", "10.0.0.1")
    node.path(CURRENT).resolve().write_bytes(certificate.pem + key.pem)


@pytest.mark.parametrize(
    "damage,severity,word",
    [
        (lambda node: os.unlink(node.path(CURRENT)), "error", "does not exist"),
        (_dangling, "error", "kubelet-client-gone.pem"),
        (_a_file, "warning", "not a symbolic link"),
        (_without_key, "error", "no PEM private key"),
        (_embedded, "warning", "embeds"),
        (_somebody, "error", "kubernetes-admin"),
        (lambda node: node.write("/etc/kubernetes/kubelet.conf", b"- 1"), "error", "mapping"),
        (lambda node: os.unlink(node.kubernetes("kubelet.conf")), "error", "bootstrap"),
    ],
)
def test_a_broken_kubelet_client(node, damage, severity, word):
    damage(node)
    (one,) = [one for one in check(node) if one["code"] == "kubelet-client-broken"]
    assert one["severity"] == severity and word in one["message"]
    assert {other["code"] for other in check(node)} == {"kubelet-client-broken"}
