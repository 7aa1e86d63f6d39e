# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm's configuration files, in the words of each version (1.20 to 1.36 and newer)."""

from __future__ import annotations

from dataclasses import dataclass

from .binaries import minor

POD_SUBNET = "10.244.0.0/16"
SERVICE_SUBNET = "10.96.0.0/16"
#: The first address of the service subnet is the API's, as the apiserver's certificate has it.
SERVICE_API = "10.96.0.1"
API_NAME = "k8s-api"
API_PORT = 6443


@dataclass(frozen=True)
class Bootstrap:
    """What one cluster's init and joins share: version, image names, the join token and the certificate key."""

    version: str
    registry: str
    etcd_tag: str
    token: str
    certificate_key: str


def api_version(version: str) -> str:
    """The newest kubeadm API of a Kubernetes version (v1beta2 to 1.21, v1beta3 to 1.30, v1beta4 from 1.31)."""
    number = minor(version)
    if number >= 31:
        return "kubeadm.k8s.io/v1beta4"
    return "kubeadm.k8s.io/v1beta3" if number >= 22 else "kubeadm.k8s.io/v1beta2"


def cri_socket(version: str) -> str:
    """containerd's socket; a URL from 1.24 on, a plain path before (older kubelets add the scheme themselves)."""
    path = "/run/containerd/containerd.sock"
    return f"unix://{path}" if minor(version) >= 24 else path


def kubelet_config(version: str) -> str:
    """The KubeletConfiguration document of a lab's nodes."""
    lines = [
        "apiVersion: kubelet.config.k8s.io/v1beta1",
        "kind: KubeletConfiguration",
        "cgroupDriver: cgroupfs",
        "failSwapOn: false",
        # The disk is the host's: a kubelet must neither evict nor delete images that it cannot pull again.
        "imageGCHighThresholdPercent: 100",
        'evictionHard: {memory.available: "50Mi", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}',
    ]
    if minor(version) >= 35:
        lines.append("failCgroupV1: false")
    return "\n".join(lines) + "\n"


def init_config(boot: Bootstrap, node: str, address: str) -> str:
    """Configuration for ``kubeadm init`` on ``node`` with ``address``."""
    api = api_version(boot.version)
    return f"""\
apiVersion: {api}
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}, bindPort: {API_PORT}}}
nodeRegistration: {{name: {node}, criSocket: "{cri_socket(boot.version)}"}}
bootstrapTokens: [{{token: {boot.token}, ttl: 0s}}]
certificateKey: {boot.certificate_key}
---
apiVersion: {api}
kind: ClusterConfiguration
kubernetesVersion: {boot.version}
imageRepository: {boot.registry}
controlPlaneEndpoint: {API_NAME}:{API_PORT}
networking: {{podSubnet: {POD_SUBNET}, serviceSubnet: {SERVICE_SUBNET}}}
etcd: {{local: {{dataDir: /var/lib/etcd, imageTag: "{boot.etcd_tag}"}}}}
---
{kubelet_config(boot.version)}"""


def join_config(boot: Bootstrap, node: str, ca_hash: str, advertise: str | None) -> str:
    """Configuration for ``kubeadm join`` on ``node``.

    ``ca_hash`` is ``sha256:...`` of the cluster CA's public key; ``advertise`` is the node's address for a
    control-plane node and None for a worker.
    """
    text = f"""\
apiVersion: {api_version(boot.version)}
kind: JoinConfiguration
discovery:
  bootstrapToken: {{apiServerEndpoint: "{API_NAME}:{API_PORT}", token: {boot.token}, caCertHashes: ["{ca_hash}"]}}
nodeRegistration: {{name: {node}, criSocket: "{cri_socket(boot.version)}"}}
"""
    if advertise:
        text += f"""\
controlPlane:
  localAPIEndpoint: {{advertiseAddress: {advertise}, bindPort: {API_PORT}}}
  certificateKey: {boot.certificate_key}
"""
    return text
