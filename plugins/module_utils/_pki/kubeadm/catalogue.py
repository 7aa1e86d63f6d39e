# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: every certificate of a kubeadm cluster, its issuer, the component that uses it and how that reads a new one.

Names, subjects and usages are kubeadm's (cmd/kubeadm/app/phases/certs/certlist.go, .../kubeconfig/kubeconfig.go); who
reloads what was measured on 1.20.2 and 1.36.2. What a cluster really has is read from its files (pki_tree): the catalogue
names things, orders them, and says how to make what is missing.
"""

from __future__ import annotations

import ipaddress
from typing import Callable, Iterable, List, Optional, Sequence

KUBERNETES_DIR = "/etc/kubernetes"

KUBELET_DIR = "/var/lib/kubelet"

# The CAs of a cluster.
CA_NAMES = ("ca", "front-proxy-ca", "etcd-ca")

# The key pair that signs service-account tokens.
SERVICE_ACCOUNT = "sa"

# What can be rotated, in the order in which it is shown.
ROTATABLE = (*CA_NAMES, SERVICE_ACCOUNT)

LEAVE_ETCD_OUT = (
    "Rotate it with the tool that set etcd up, which also gives the control-plane nodes their certificate for it; "
    "the others with kubepki_cas=ca,front-proxy-ca,sa."
)

# How a consumer takes up a new file.
RELOADS = "reloads"  # by itself, and what it serves then proves it

CLIENT = "client"  # by itself at a later handshake (client-go re-reads files within five minutes), unseen from outside

RESTARTS = "restarts"  # only when it is restarted

READ_ON_USE = "nobody"  # read again at each use (kubectl, probes)

# Kinds, as in the report.
CA, LEAF, KUBECONFIG, KUBELET = "ca", "leaf", "kubeconfig", "kubelet"

# Not in the catalogue: a certificate that the user added. It is reported and never written.
OTHER = "other"


class Entry:
    """One certificate of the catalogue.

    name: kubeadm's. kind: "ca", "leaf", "kubeconfig" or "kubelet". path: of the certificate or kubeconfig, below
    /etc/kubernetes (kubelet: below /var/lib/kubelet). key: path of the private key, or None when it is embedded.
    ca: name of the signer, None for a CA. common_name: with {node} for the node's name. organizations(minor): list for a
    Kubernetes minor version (int). usages: ("server", "client"). consumer: the static pod (or "kubelet") that reads it, or
    None. takes_up: RELOADS, CLIENT, RESTARTS or READ_ON_USE. flags: {component: (certificate flag, key flag)} by which
    manifests name it. endpoint: the port key of probe endpoints that serves it, or None.
    optional: kubeadm does not create it on every node.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        path: str,
        key: Optional[str] = None,
        ca: Optional[str] = None,
        common_name: str = "",
        organizations: Optional[Callable[[int], List[str]]] = None,
        usages: Sequence[str] = (),
        consumer: Optional[str] = None,
        takes_up: str = READ_ON_USE,
        endpoint: Optional[str] = None,
        optional: bool = False,
    ) -> None:
        self.name, self.kind, self.path, self.key, self.ca = name, kind, path, key, ca
        self.common_name = common_name
        self._organizations = organizations or (lambda minor: [])
        self.usages, self.consumer, self.takes_up, self.endpoint = usages, consumer, takes_up, endpoint
        self.optional = optional

    def organizations(self, minor: int) -> List[str]:
        """Return the organisations kubeadm of Kubernetes 1.<minor> puts in the subject."""
        return self._organizations(minor)


def _masters(minor: int) -> List[str]:
    return ["system:masters"]


def _admins(minor: int) -> List[str]:
    # kubeadm 1.29 moved admin.conf to a group that RBAC can take away (kubernetes#121305).
    return ["kubeadm:cluster-admins"] if minor >= 29 else ["system:masters"]


def _kubelet_client(minor: int) -> List[str]:
    # kubeadm 1.29 to 1.36.0 gave cluster-admins; from 1.36.1 on RBAC needs no group.
    return [] if minor >= 37 else _admins(minor)


def _etcd_client(minor: int) -> List[str]:
    # Up to 1.24 kubeadm put system:masters in these, which etcd ignores.
    return ["system:masters"] if minor < 25 else []


CATALOGUE = (
    Entry(
        "apiserver",
        LEAF,
        "pki/apiserver.crt",
        "pki/apiserver.key",
        "ca",
        "kube-apiserver",
        usages=("server",),
        consumer="kube-apiserver",
        takes_up=RELOADS,
        endpoint="apiserver",
    ),
    Entry(
        "apiserver-kubelet-client",
        LEAF,
        "pki/apiserver-kubelet-client.crt",
        "pki/apiserver-kubelet-client.key",
        "ca",
        "kube-apiserver-kubelet-client",
        _kubelet_client,
        ("client",),
        "kube-apiserver",
        CLIENT,
    ),
    Entry(
        "front-proxy-client",
        LEAF,
        "pki/front-proxy-client.crt",
        "pki/front-proxy-client.key",
        "front-proxy-ca",
        "front-proxy-client",
        usages=("client",),
        consumer="kube-apiserver",
        takes_up=CLIENT,
    ),
    Entry(
        "apiserver-etcd-client",
        LEAF,
        "pki/apiserver-etcd-client.crt",
        "pki/apiserver-etcd-client.key",
        "etcd-ca",
        "kube-apiserver-etcd-client",
        _etcd_client,
        ("client",),
        "kube-apiserver",
        CLIENT,
    ),
    Entry(
        "etcd-server",
        LEAF,
        "pki/etcd/server.crt",
        "pki/etcd/server.key",
        "etcd-ca",
        "{node}",
        usages=("server", "client"),
        consumer="etcd",
        takes_up=RELOADS,
        endpoint="etcd-server",
    ),
    Entry(
        "etcd-peer",
        LEAF,
        "pki/etcd/peer.crt",
        "pki/etcd/peer.key",
        "etcd-ca",
        "{node}",
        usages=("server", "client"),
        consumer="etcd",
        takes_up=RELOADS,
        endpoint="etcd-peer",
    ),
    Entry(
        "etcd-healthcheck-client",
        LEAF,
        "pki/etcd/healthcheck-client.crt",
        "pki/etcd/healthcheck-client.key",
        "etcd-ca",
        "kube-etcd-healthcheck-client",
        _etcd_client,
        ("client",),
    ),
    Entry("admin.conf", KUBECONFIG, "admin.conf", None, "ca", "kubernetes-admin", _admins, ("client",)),
    Entry(
        "super-admin.conf",
        KUBECONFIG,
        "super-admin.conf",
        None,
        "ca",
        "kubernetes-super-admin",
        _masters,
        ("client",),
        optional=True,
    ),
    Entry(
        "controller-manager.conf",
        KUBECONFIG,
        "controller-manager.conf",
        None,
        "ca",
        "system:kube-controller-manager",
        usages=("client",),
        consumer="kube-controller-manager",
        takes_up=RESTARTS,
    ),
    Entry(
        "scheduler.conf",
        KUBECONFIG,
        "scheduler.conf",
        None,
        "ca",
        "system:kube-scheduler",
        usages=("client",),
        consumer="kube-scheduler",
        takes_up=RESTARTS,
    ),
    Entry(
        "kubelet-client",
        KUBELET,
        "pki/kubelet-client-current.pem",
        None,
        "ca",
        "system:node:{node}",
        lambda minor: ["system:nodes"],
        ("client",),
        "kubelet",
        RESTARTS,
    ),
    Entry(
        "kubelet-serving",
        KUBELET,
        "pki/kubelet.crt",
        "pki/kubelet.key",
        None,
        "{node}",
        usages=("server",),
        consumer="kubelet",
        takes_up=RELOADS,
        endpoint="kubelet",
        optional=True,
    ),
    Entry("ca", CA, "pki/ca.crt", "pki/ca.key", common_name="kubernetes"),
    Entry("front-proxy-ca", CA, "pki/front-proxy-ca.crt", "pki/front-proxy-ca.key", common_name="front-proxy-ca"),
    Entry("etcd-ca", CA, "pki/etcd/ca.crt", "pki/etcd/ca.key", common_name="etcd-ca"),
)

BY_NAME = {entry.name: entry for entry in CATALOGUE}

# What `renew_leaves` renews; the kubelet's certificates are the job of `reissue_kubelets`.
RENEWABLE = tuple(entry.name for entry in CATALOGUE if entry.kind in (LEAF, KUBECONFIG))

# Flags by which the static pods name files, per component: {flag: catalogue name}. Where a user moved a file, this finds it.
CERTIFICATE_FLAGS = {
    "kube-apiserver": {
        "--tls-cert-file": "apiserver",
        "--kubelet-client-certificate": "apiserver-kubelet-client",
        "--proxy-client-cert-file": "front-proxy-client",
        "--etcd-certfile": "apiserver-etcd-client",
        "--client-ca-file": "ca",
        "--requestheader-client-ca-file": "front-proxy-ca",
        "--etcd-cafile": "etcd-ca",
    },
    "etcd": {"--cert-file": "etcd-server", "--peer-cert-file": "etcd-peer", "--trusted-ca-file": "etcd-ca"},
}

KEY_FLAGS = {
    "kube-apiserver": {
        "--tls-private-key-file": "apiserver",
        "--kubelet-client-key": "apiserver-kubelet-client",
        "--proxy-client-key-file": "front-proxy-client",
        "--etcd-keyfile": "apiserver-etcd-client",
    },
    "etcd": {"--key-file": "etcd-server", "--peer-key-file": "etcd-peer"},
}

KUBECONFIG_FLAGS = {
    "kube-controller-manager": {"--kubeconfig": "controller-manager.conf"},
    "kube-scheduler": {"--kubeconfig": "scheduler.conf"},
}

STATIC_PODS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")


def subject_names(name: str) -> set[str]:
    """Return the user and the groups that kubeadm of any version gives a leaf of the catalogue; nothing for another name."""
    entry = BY_NAME.get(name)
    if entry is None or entry.kind == CA:
        return set()
    groups = {group for minor in range(100) for group in entry.organizations(minor)}
    return groups | ({entry.common_name} if entry.common_name and "{" not in entry.common_name else set())


def apiserver_sans(
    node_name: str,
    advertise_address: Optional[str],
    service_ip: Optional[str],
    endpoint_host: Optional[str] = None,
    dns_domain: str = "cluster.local",
    extra: Iterable[str] = (),
) -> List[str]:
    """Return the SANs kubeadm puts in apiserver.crt (pkiutil: GetAPIServerAltNames), as "DNS:..." and "IP:...".

    endpoint_host: host of controlPlaneEndpoint, name or address. extra: certSANs of the ClusterConfiguration.
    """
    names: List[Optional[str]] = [
        node_name,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc." + dns_domain,
    ]
    return _sans(names + [service_ip, advertise_address] + ([endpoint_host] if endpoint_host else []) + list(extra))


def etcd_sans(node_name: str, advertise_address: Optional[str], extra: Iterable[str] = ()) -> List[str]:
    """Return the SANs kubeadm puts in etcd's server and peer certificates (pkiutil: getAltNames for etcd)."""
    return _sans([node_name, "localhost", advertise_address, "127.0.0.1", "::1"] + list(extra))


def node_sans(node_name: str, address: Optional[str]) -> List[str]:
    """Return the SANs of a kubelet's serving certificate: what the API server and metrics collectors dial."""
    return _sans([node_name, address])


def _sans(values: Iterable[Optional[str]]) -> List[str]:
    found: List[str] = []
    for value in filter(None, values):
        text = ("IP:%s" if _is_address(value) else "DNS:%s") % value
        if text not in found:
            found.append(text)
    return sorted(found, key=lambda text: text.startswith("IP:"))


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
