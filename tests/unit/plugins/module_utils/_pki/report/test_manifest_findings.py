# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil

from tests.unit.support.node_checks import check, codes


def test_a_key_that_kube_controller_manager_would_miss(node):
    manifest = node.kubernetes("manifests/kube-controller-manager.yaml")
    flag = "    - --cluster-signing-key-file=/etc/kubernetes/pki/ca.key\n"
    manifest.write_text(manifest.read_text().replace("    - --kubeconfig", flag + "    - --kubeconfig"))
    assert check(node) == []
    os.unlink(node.kubernetes("pki/ca.key"))
    worst = check(node)[0]
    assert (
        (worst["severity"], worst["code"]) == ("error", "signing-key-missing")
        and worst["path"] == str(node.kubernetes("pki/ca.key"))
        and "would not start again" in worst["message"]
    )
    manifest.write_text(manifest.read_text().replace(flag, ""))
    assert codes(check(node)) == [("info", "external-ca", "ca")]


def test_files_that_do_not_belong_among_the_manifests(node):
    manifests = node.kubernetes("manifests")
    shutil.copy(manifests / "etcd.yaml", manifests / "etcd.yaml.bak")
    (manifests / "notes.txt").write_text("do not forget")
    (manifests / "kube-vip.yaml").write_text("kind: Pod\nmetadata: {name: kube-vip}\nspec: {containers: [{name: kube-vip}]}\n")
    (manifests / ".etcd.yaml.swp").write_text("ignored")
    found = {os.path.basename(one["path"]): one for one in check(node)}
    assert {name: (one["severity"], one["code"]) for name, one in found.items()} == {
        "etcd.yaml.bak": ("error", "foreign-manifest"),
        "notes.txt": ("error", "foreign-manifest"),
        "kube-vip.yaml": ("info", "other-static-pod"),
    }
    assert "which is etcd.yaml.bak" in found["etcd.yaml.bak"]["message"]


def test_a_damaged_manifest_is_unreadable_and_not_foreign(node):
    node.write("/etc/kubernetes/manifests/kube-scheduler.yaml", b"a: [")
    assert codes(check(node)) == [("error", "unreadable", None)]
