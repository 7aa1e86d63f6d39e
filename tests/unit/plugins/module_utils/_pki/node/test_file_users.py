# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static pods that mount files which are replaced: found in their manifests, and whether they still use the old ones."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import file_users

from tests.unit.support.throwaway import Node


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


class Running:
    """A runtime in which every pod has run for an hour. lost: what its mounts have lost."""

    def __init__(self, lost=(), age=3600.0, runs=True):
        self.lost, self._age, self.runs = set(lost), age, runs

    def instances(self, manifest):
        return [SimpleNamespace(pid=1)] if self.runs else []

    def age(self, instance):
        return self._age

    def lost_files(self, instance):
        return self.lost


def vip(node, host, inside="/etc/kubernetes/admin.conf", name="kube-vip", file_name=None, init=False, **container):
    """Write the manifest of a static pod with one hostPath volume."""
    mount = dict({"name": "v", "mountPath": inside}, **container.pop("mount", {}))
    own = {"name": name, "image": "kube-vip", "volumeMounts": [mount]}
    own.update(container)
    other = {"name": "main", "image": "x"}
    spec = {"containers": [other if init else own], "volumes": [{"name": "v", "hostPath": {"path": host}}], "hostNetwork": True}
    if init:
        spec["initContainers"] = [own]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "kube-system"}, "spec": spec}
    return node.write("/etc/kubernetes/manifests/" + (file_name or name + ".yaml"), yaml.safe_dump(pod))


def layout(node):
    return layouts.find_layout(root=str(node.root))


def aged(node, hours=2.0):
    """Make every file of the node older than its pods."""
    for folder, _folders, names in os.walk(node.root):
        for name in names:
            os.utime(os.path.join(folder, name), (time.time() - hours * 3600,) * 2, follow_symlinks=False)


ARGS = {"args": ["--kubeconfig=/host/admin.conf"]}


@pytest.mark.parametrize(
    "host, inside, container, how",
    [
        ("/etc/kubernetes/admin.conf", "/etc/kubernetes/admin.conf", {}, "file"),
        ("/etc/kubernetes//admin.conf/", "/anything", {}, "file"),
        ("/etc/kubernetes", "/conf", {"mount": {"subPath": "admin.conf"}}, "file"),
        ("/etc/kubernetes", "/host", ARGS, "named"),
        ("/etc/kubernetes", "/host", {"command": ["sh", "-c", "exec x --kubeconfig /host/admin.conf; true"]}, "named"),
        ("/etc/kubernetes", "/host", {"env": [{"name": "KUBECONFIG", "value": "/host/admin.conf"}]}, "named"),
        ("/etc", "/host", {"args": ["/host/kubernetes/admin.conf"]}, "named"),
        ("/etc/kubernetes", "/host", {"args": ["/host/admin.conf.d"]}, "directory"),
        ("/etc/kubernetes", "/host", {}, "directory"),
        ("/etc", "/host", {}, None),
        ("/etc/kubernetes/admin.conf.d", "/x", {}, None),
        ("/opt", "/etc/kubernetes", ARGS, None),
    ],
)
@pytest.mark.parametrize("init", [False, True])
def test_how_a_pod_uses_a_file(node, host, inside, container, how, init):
    vip(node, host, inside, init=init, **container)
    found = {user.name: user.files.get(str(node.kubernetes("admin.conf"))) for user in file_users.users(layout(node))}
    assert found == ({"kube-vip": how} if how else {})


def test_a_mount_through_a_link_is_the_same_file(node):
    os.symlink(node.kubernetes("."), node.path("/conf"))
    vip(node, "/conf/admin.conf")
    assert [user.uses() for user in file_users.users(layout(node))] == [[str(node.kubernetes("admin.conf"))]]


@pytest.mark.parametrize(
    "path, names",
    [
        ("/etc/kubernetes/admin.conf", ["ca"]),
        ("/etc/kubernetes/pki/ca.crt", ["ca"]),
        ("/etc/kubernetes/pki/etcd/ca.crt", ["etcd-ca"]),
        ("/etc/kubernetes/pki/etcd/healthcheck-client.key", ["etcd-ca"]),
        ("/etc/kubernetes/pki/sa.pub", ["sa"]),
        ("/etc/kubernetes/kubelet.conf", ["ca"]),
    ],
)
def test_which_rotations_concern_a_pod(node, path, names):
    vip(node, path)
    (user,) = file_users.users(layout(node))
    assert file_users.cas(layout(node), user) == names


def test_the_credential_that_the_kubelet_rotates_itself_restarts_nothing(node):
    vip(node, "/var/lib/kubelet/pki/kubelet-client-current.pem", "/x")
    assert file_users.users(layout(node)) == []


def test_a_pod_is_due_when_its_file_is_replaced_now_or_was_since_it_started(node):
    vip(node, "/etc/kubernetes/admin.conf")
    admin = str(node.kubernetes("admin.conf"))
    aged(node)
    assert file_users.due(layout(node), runtime=Running()) == []
    assert file_users.due(layout(node), [admin], Running()) == ["kube-vip"]
    assert file_users.due(layout(node), [str(node.kubernetes("scheduler.conf"))], Running()) == []
    # An earlier run ended between the rename and the restart, or kubeadm renewed it.
    os.utime(admin)
    assert file_users.due(layout(node), runtime=Running()) == ["kube-vip"]
    assert file_users.due(layout(node), runtime=Running(age=-5)) == []
    assert file_users.due(layout(node), runtime=Running(runs=False)) == []


def test_the_inode_tells_where_the_clock_does_not(node):
    vip(node, "/etc/kubernetes/admin.conf")
    aged(node)
    assert file_users.due(layout(node), runtime=Running(["/kubernetes/admin.conf"])) == ["kube-vip"]
    assert file_users.due(layout(node), runtime=Running(["/kubernetes/other.conf"])) == []


def test_the_components_own_directories_are_no_reason(node):
    text = node.kubernetes("manifests/kube-scheduler.yaml").read_text()
    node.write(
        "/etc/kubernetes/manifests/kube-scheduler.yaml",
        text.replace(
            "    name: kube-scheduler",
            "\n".join(["    name: kube-scheduler", "    volumeMounts:", "    - {name: v, mountPath: /etc/kubernetes}"]),
        )
        + "  volumes:\n  - {name: v, hostPath: {path: /etc/kubernetes}}\n",
    )
    assert file_users.users(layout(node)) == []


def test_what_cannot_be_restarted_is_named_with_the_reason_and_not_due(node):
    path = vip(node, "/etc/kubernetes/admin.conf", name="twice")
    vip(node, "/etc/kubernetes/admin.conf", name="twice", file_name="again.yaml")
    linked = vip(node, "/etc/kubernetes/admin.conf", name="linked")
    linked.rename(node.path("/linked.yaml"))
    linked.symlink_to(node.path("/linked.yaml"))
    vip(node, "/etc/kubernetes", "/conf", name="reads")
    aged(node)
    assert file_users.left(layout(node), Running()) == []
    os.utime(node.kubernetes("admin.conf"))
    assert file_users.due(layout(node), [str(node.kubernetes("admin.conf"))], Running()) == []
    found = {item["path"]: item["why"] for item in file_users.left(layout(node), Running())}
    assert "it is in several files" in found[str(path)] and "symbolic link" in found[str(linked)]
    assert "may read that only once" in found[str(node.kubernetes("manifests/reads.yaml"))]
    assert "kubepki_names=reads" in found[str(node.kubernetes("manifests/reads.yaml"))]


def test_status_names_a_pod_that_an_interrupted_run_has_left_behind(node):
    path = vip(node, "/etc/kubernetes/admin.conf")
    aged(node)
    os.utime(node.kubernetes("admin.conf"))
    (found,) = file_users.left(layout(node), Running())
    assert found["path"] == str(path) and "uses %s as it was before" % node.kubernetes("admin.conf") in found["why"]
    assert "kubepki_names=kube-vip" in found["why"]


def test_a_pod_that_ends_by_itself_is_not_restarted(node):
    path = vip(node, "/etc/kubernetes/admin.conf")
    path.write_text(path.read_text().replace("spec:", "spec:\n  restartPolicy: OnFailure", 1))
    assert file_users.due(layout(node), [str(node.kubernetes("admin.conf"))], Running()) == []


def test_impossible_paths_of_a_manifest_are_passed_over(node):
    vip(node, "/etc/kubernetes\0/admin.conf")
    vip(node, "/etc/kubernetes", name="other", mount={"subPath": "admin\0.conf"})
    assert file_users.users(layout(node)) == []


def test_two_pods_of_one_name_are_told_apart_by_their_files(node):
    vip(node, "/etc/kubernetes/admin.conf", name="vip", file_name="one.yaml")
    other = vip(node, "/opt", name="vip", file_name="two.yaml")
    other.write_text(other.read_text().replace("kube-system", "elsewhere"))
    assert [(user.name, user.why) for user in file_users.users(layout(node))] == [("one", None)]
