# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab writes for each version: kubeadm's files, containerd's, haproxy's, a node's, the inventory."""

from __future__ import annotations

import configparser
import json
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from tests.lab import balancer, inventory, kubeadm, layer, node, settings
from tests.lab.errors import LabError
from tests.lab.network import Network, Subnet

SUBNET = Subnet(IPv4Network("10.89.7.0/24"))
ADDRESSES = {"cp1": "10.89.7.11", "cp2": "10.89.7.12", "w1": "10.89.7.21"}


def boot(version: str) -> kubeadm.Bootstrap:
    return kubeadm.Bootstrap(version, "registry.k8s.io", "3.5.16-0", "abcdef.0123456789abcdef", "c" * 64)


@pytest.mark.parametrize(
    ("version", "api", "socket"),
    [
        ("v1.20.2", "v1beta2", "/run/containerd/containerd.sock"),
        ("v1.21.14", "v1beta2", "/run/containerd/containerd.sock"),
        ("v1.22.0", "v1beta3", "/run/containerd/containerd.sock"),
        ("v1.24.1", "v1beta3", "unix:///run/containerd/containerd.sock"),
        ("v1.30.9", "v1beta3", "unix:///run/containerd/containerd.sock"),
        ("v1.31.0", "v1beta4", "unix:///run/containerd/containerd.sock"),
        ("v1.36.2", "v1beta4", "unix:///run/containerd/containerd.sock"),
    ],
)
def test_kubeadm_speaks_each_versions_words(version: str, api: str, socket: str) -> None:
    init, cluster, kubelet = yaml.safe_load_all(kubeadm.init_config(boot(version), "cp1", "10.89.7.11"))
    assert init["apiVersion"] == cluster["apiVersion"] == f"kubeadm.k8s.io/{api}"
    assert init["nodeRegistration"] == {"name": "cp1", "criSocket": socket}
    assert init["localAPIEndpoint"]["advertiseAddress"] == "10.89.7.11"
    assert init["certificateKey"] == "c" * 64
    assert cluster["kubernetesVersion"] == version
    assert cluster["controlPlaneEndpoint"] == "k8s-api:6443"
    assert cluster["imageRepository"] == "registry.k8s.io"
    assert cluster["etcd"]["local"]["imageTag"] == "3.5.16-0"
    assert kubelet["kind"] == "KubeletConfiguration"


@pytest.mark.parametrize(("version", "expected"), [("v1.34.3", None), ("v1.35.0", False), ("v1.36.2", False)])
def test_cgroup_v1_is_allowed_from_the_version_that_refuses_it(version: str, expected: object) -> None:
    assert yaml.safe_load(kubeadm.kubelet_config(version)).get("failCgroupV1") is expected


def test_the_kubelet_never_deletes_images_it_cannot_pull() -> None:
    config = yaml.safe_load(kubeadm.kubelet_config("v1.20.2"))
    assert config["imageGCHighThresholdPercent"] == 100
    assert config["evictionHard"]["imagefs.available"] == "0%"


def test_only_control_planes_join_as_control_planes() -> None:
    plane = yaml.safe_load(kubeadm.join_config(boot("v1.20.2"), "cp2", "sha256:ab", "10.89.7.12"))
    worker = yaml.safe_load(kubeadm.join_config(boot("v1.20.2"), "w1", "sha256:ab", None))
    assert plane["controlPlane"]["localAPIEndpoint"]["advertiseAddress"] == "10.89.7.12"
    assert plane["controlPlane"]["certificateKey"] == "c" * 64
    assert "controlPlane" not in worker
    for config in (plane, worker):
        assert config["discovery"]["bootstrapToken"]["caCertHashes"] == ["sha256:ab"]
        assert config["discovery"]["bootstrapToken"]["apiServerEndpoint"] == "k8s-api:6443"


@pytest.mark.parametrize(
    ("version", "etcd", "front"),
    [
        ("v1.20.2", "3.4.23", False),
        ("v1.33.0", "3.5.16", False),
        ("v1.34.0", "3.5.16", True),
        ("v1.36.2", "3.6.1", False),
    ],
)
def test_etcd_gets_a_front_only_where_kubeadm_is_newer(version: str, etcd: str, front: bool) -> None:
    assert layer.needs_etcd_front(version, etcd) is front


def test_containerd_configuration_follows_its_version() -> None:
    tomllib = pytest.importorskip("tomllib")
    old = tomllib.loads(layer.containerd_config("1.6.20", "k8s.gcr.io/pause:3.2"))
    new = tomllib.loads(layer.containerd_config("2.1.4", "registry.k8s.io/pause:3.10"))
    assert old["version"] == 2
    assert old["plugins"]["io.containerd.grpc.v1.cri"]["sandbox_image"] == "k8s.gcr.io/pause:3.2"
    assert new["version"] == 3
    assert new["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == "registry.k8s.io/pause:3.10"


def test_balancer_checks_readyz_of_every_control_plane() -> None:
    text = balancer.config("10.89.7.100", {"cp1": "10.89.7.11", "cp2": "10.89.7.12"})
    lines = [line.strip() for line in text.splitlines()]
    assert "bind 10.89.7.100:6443" in lines
    assert "option httpchk GET /readyz" in lines
    assert "server cp1 10.89.7.11:6443" in lines
    assert "server cp2 10.89.7.12:6443" in lines
    assert any("inter 1s fall 2" in line for line in lines)


def test_network_script_is_shell_and_reaches_pods_and_api(tmp_path: Path) -> None:
    text = node.network_script("cp1", ADDRESSES, Network("lab", SUBNET))
    script = tmp_path / "network.sh"
    script.write_text(text)
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert "ip address replace 10.89.7.11/24 dev host0" in text
    assert "ip route replace 10.244.21.0/24 via 10.89.7.21" in text
    assert "10.244.11.0/24" not in text, "no route to its own pods: the kernel has it"
    assert text.count("--to-destination 10.89.7.100:6443") == 4


def test_hosts_file_names_every_node_and_the_api() -> None:
    lines = node.hosts_file(ADDRESSES, "10.89.7.100").splitlines()
    assert "10.89.7.21 w1" in lines
    assert "10.89.7.100 k8s-api" in lines


def test_cni_gives_each_node_its_own_pod_subnet() -> None:
    subnets = {json.loads(node.cni_config(a))["plugins"][0]["ipam"]["subnet"] for a in ADDRESSES.values()}
    assert subnets == {"10.244.11.0/24", "10.244.12.0/24", "10.244.21.0/24"}


def test_nodes_get_no_more_open_files_than_the_host_may_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.resource, "getrlimit", lambda _: (1024, 20000))
    assert node.open_files() == 20000
    monkeypatch.setattr(node.resource, "getrlimit", lambda _: (1024, node.resource.RLIM_INFINITY))
    assert node.open_files() == 1048576


def test_inventory_has_the_groups_users_have(tmp_path: Path) -> None:
    text = inventory.render({"cp1": "10.89.7.11"}, {"w1": "10.89.7.21", "w2": "10.89.7.22"}, tmp_path / "key")
    parsed = configparser.ConfigParser(allow_no_value=True, delimiters=("=",), interpolation=None)
    parsed.read_string(text)
    assert list(parsed["kube_control_plane"]) == ["cp1 ansible_host"]
    assert list(parsed["kube_node"]) == ["w1 ansible_host", "w2 ansible_host"]
    assert parsed["kube_node"]["w2 ansible_host"] == "10.89.7.22"
    assert parsed["all:vars"]["ansible_ssh_private_key_file"] == str(tmp_path / "key")
    assert parsed["all:vars"]["ansible_user"] == "root"


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "a b", "../x", "a" * 31, "lab."])
def test_a_lab_name_that_could_do_harm_is_refused(name: str) -> None:
    with pytest.raises(LabError):
        settings.check_name(name)


@pytest.mark.parametrize(("planes", "workers"), [(0, 2), (10, 0), (3, -1), (3, 51)])
def test_sizes_outside_the_address_plan_are_refused(planes: int, workers: int) -> None:
    with pytest.raises(LabError):
        settings.check_size(planes, workers)


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    found = settings.Settings.from_environment({"LAB_KUBERNETES_BIN": str(tmp_path), "KUBEPKI_LAB_HOME": str(tmp_path / "h")})
    assert (found.kubernetes_bin, found.home, found.kubernetes_archive) == (tmp_path, tmp_path / "h", None)
    assert settings.Settings.from_environment({}).home == settings.DEFAULT_HOME
