# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of ClusterTrustBundle volumes that pods of a node have mounted."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pod_volumes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import mounted_trust

from tests.unit.support.throwaway import Node, key
from tests.unit.support.trust_api import BOTH, NEW, OLD

UID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, role="worker")


def layout(node):
    return layouts.find_layout(root=str(node.root))


def volume(node, pem, path="ca.pem"):
    folder = "/var/lib/kubelet/pods/%s/volumes/kubernetes.io~projected/trust/" % UID
    node.write(folder + "..2026/" + path, pem)
    for name, target in (("..data", "..2026"), (path.split("/")[0], "..data/" + path.split("/")[0])):
        if not os.path.lexists(node.path(folder + name)):
            os.symlink(target, node.path(folder + name))
    return [{"uid": UID, "volume": "trust", "path": path}]


@pytest.mark.parametrize("path", ["ca.pem", "deep/ca.pem"])
def test_a_volume_that_lags_is_found(node, path):
    place = "pods/%s/volumes/kubernetes.io~projected/trust/%s" % (UID, path)
    assert pod_volumes.lagging_bundles(layout(node), BOTH, None, volume(node, OLD.pem, path)) == [place]
    assert pod_volumes.lagging_bundles(layout(node), BOTH, NEW.key_sha256, volume(node, OLD.pem, path)) == [place]
    for pem in (BOTH, key("site").public_pem):
        assert pod_volumes.lagging_bundles(layout(node), BOTH, NEW.key_sha256, volume(node, pem, path)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"uid": "../" + UID},
        {"uid": None},
        {"volume": "../trust"},
        {"path": "../../../../../../../ca.pem"},
        {"path": "/ca.pem"},
        {"path": "out"},
        {"path": "none"},
        {"path": ""},
        {"path": "a\0b"},
    ],
)
def test_a_place_outside_of_the_volume_is_not_read(node, change):
    (place,) = volume(node, BOTH)
    node.write("/ca.pem", OLD.pem)
    os.symlink(node.path("/ca.pem"), node.path("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~projected/trust/out" % UID))
    assert pod_volumes.lagging_bundles(layout(node), BOTH, None, [dict(place, **change)]) == []


def test_a_phase_waits_for_these_volumes_for_as_long_as_kubelets_keep_bundles(node, monkeypatch):
    monkeypatch.setattr(mounted_trust, "BUNDLE_SECONDS", 1)
    node.write("/etc/kubernetes/pki/ca.crt", BOTH)
    options = {"seconds": 0, "needed": NEW.key_sha256, "old_sa": None, "bundles": volume(node, OLD.pem)}
    with pytest.raises(PkiError, match="1 volumes with a ClusterTrustBundle still have other certificates after 1 s"):
        mounted_trust.wait(layout(node), **options)
    volume(node, BOTH)
    assert mounted_trust.wait(layout(node), **options) == 0
