# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's file system as kubeadm leaves it, made in a temporary directory for tests to look at and to damage."""

from __future__ import annotations

import datetime
import functools
import os
from pathlib import Path

import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_read, x509_sign

ENDPOINT = "api.example:6443"


@functools.lru_cache(maxsize=None)
def key(label: str, key_type: str = "ecdsa-p256"):
    """Give one key per label: making keys is what takes time in tests."""
    return private_keys.generate_key(key_type)


class Cluster:
    """Authorities that several nodes share. ca_days, leaf_days: validities from now on."""

    def __init__(self, ca_days: float = 3650, leaf_days: float = 365, label: str = "cluster"):
        self.leaf_days = leaf_days
        self.keys = {name: key(label + name) for name in catalogue.CA_NAMES}
        self.cas = {
            name: ca_sign.build_ca(catalogue.BY_NAME[name].common_name, self.keys[name], ca_days) for name in catalogue.CA_NAMES
        }
        self.sa = key(label + "sa")

    def share(self, name: str) -> "Cluster":
        """Let the cluster's CA be another CA as well, before nodes are made."""
        self.cas[name], self.keys[name] = self.cas["ca"], self.keys["ca"]
        return self

    def leaf(self, name: str, node: str, address: str, days: float | None = None, leaf_key=None):
        """Issue a leaf of the catalogue: gives (Certificate, PrivateKey)."""
        entry = catalogue.BY_NAME[name]
        leaf_key = leaf_key or key(name + node)
        sans: list[str] = []
        if name == "apiserver":
            sans = catalogue.apiserver_sans(node, address, "10.96.0.1", ENDPOINT.rpartition(":")[0])
        elif name in ("etcd-server", "etcd-peer"):
            sans = catalogue.etcd_sans(node, address)
        profile = x509_sign.Profile(entry.common_name.format(node=node), entry.organizations(20), sans, entry.usages)
        ca = entry.ca or "ca"
        days, start = self.leaf_days if days is None else days, None
        if days < 0:  # ended that many days ago
            start, days = x509_read.now() - datetime.timedelta(days=365), 365 + days
        return x509_sign.sign_leaf(profile, leaf_key, self.cas[ca], self.keys[ca], days, start), leaf_key


class Node:
    """One node's files below root. role: "control-plane", "worker" or "etcd"."""

    def __init__(
        self,
        root: Path,
        cluster: Cluster | None = None,
        name: str = "cp1",
        address: str = "10.0.0.1",
        role: str = "control-plane",
        etcd: bool = True,
        minor: int = 20,
    ):
        self.root, self.cluster, self.name, self.address, self.minor = Path(root), cluster or Cluster(), name, address, minor
        self.kubernetes_dir, self.kubelet_dir = "/etc/kubernetes", "/var/lib/kubelet"
        if role == "control-plane":
            self._control_plane(etcd)
        if role == "etcd":
            self._etcd()
        if role != "etcd":
            self._kubelet()

    def path(self, path: str) -> Path:
        """Give where an absolute path of the node lies in this file system."""
        return self.root / path.lstrip("/")

    def kubernetes(self, path: str) -> Path:
        """Give a path below /etc/kubernetes."""
        return self.path(self.kubernetes_dir) / path

    def write(self, path: str, data: str | bytes, mode: int = 0o600) -> Path:
        """Write a file of the node (path as the node sees it)."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)
        target.chmod(mode)
        return target

    def issue(self, name: str, days: float | None = None, leaf_key=None) -> None:
        """Write a leaf or kubeconfig of the catalogue afresh."""
        entry = catalogue.BY_NAME[name]
        certificate, leaf_key = self.cluster.leaf(name, self.name, self.address, days, leaf_key)
        if entry.kind == catalogue.KUBECONFIG:
            server = "https://%s" % (ENDPOINT if "admin" in name else self.address + ":6443")
            text = kubeconfig.build(server, self.cluster.cas["ca"].pem, entry.common_name, certificate.pem, leaf_key.pem)
            self.write("/etc/kubernetes/" + entry.path, text)
        else:
            self.write("/etc/kubernetes/" + entry.path, certificate.pem, 0o644)
            self.write("/etc/kubernetes/" + entry.key, leaf_key.pem)

    def flag(self, component: str, flag: str, value: str) -> None:
        """Set one flag in a static pod's manifest."""
        path = self.kubernetes("manifests/%s.yaml" % component)
        lines = [line for line in path.read_text().splitlines() if not line.startswith("    - %s=" % flag)]
        lines.insert(lines.index("    - " + component) + 1, "    - %s=%s" % (flag, value))
        path.write_text("\n".join(lines) + "\n")

    def share(self, name: str, copy: bool = False) -> None:
        """Take a CA's own files away, and name the cluster's CA file (or a copy of its certificate) in the flags instead."""
        path = self.kubernetes(catalogue.BY_NAME[name].path)
        self.kubernetes(catalogue.BY_NAME[name].key).unlink()
        if not copy:
            path.unlink()
        value = "/etc/kubernetes/pki/ca.crt" if not copy else "/etc/kubernetes/" + catalogue.BY_NAME[name].path
        if name == "front-proxy-ca":
            self.flag("kube-apiserver", "--requestheader-client-ca-file", value)
        else:
            self.flag("kube-apiserver", "--etcd-cafile", value)
            self.flag("etcd", "--trusted-ca-file", value)

    def merge(
        self,
        other: Cluster,
        file_name: str = "admin.conf",
        user: str = "kubernetes-admin-b",
        current: bool = True,
        server: str = "https://other.example:6443",
    ) -> None:
        """Append the administrator of another cluster to a kubeconfig, as `kubectl config view --flatten` does.

        user: his name in the file; where the file has one of that name already, that one stays. current: whether the current
        context is his afterwards.
        """
        certificate, leaf_key = other.leaf("admin.conf", self.name, self.address)
        path = self.kubernetes(file_name)
        data = yaml.safe_load(path.read_text())
        theirs = yaml.safe_load(kubeconfig.build(server, other.cas["ca"].pem, user, certificate.pem, leaf_key.pem, "other"))
        for kind in ("clusters", "contexts", "users"):
            names = [entry["name"] for entry in data[kind]]
            # In front, so that what takes the first entry of a list takes the wrong one.
            data[kind] = [entry for entry in theirs[kind] if entry["name"] not in names] + data[kind]
        if current:
            data["current-context"] = theirs["current-context"]
        path.write_text(yaml.safe_dump(data))

    def _authority(self, name: str, with_key: bool = True) -> None:
        entry = catalogue.BY_NAME[name]
        self.write("/etc/kubernetes/" + entry.path, self.cluster.cas[name].pem, 0o644)
        if with_key:
            self.write("/etc/kubernetes/" + entry.key, self.cluster.keys[name].pem)

    def _control_plane(self, etcd: bool) -> None:
        for name in ("ca", "front-proxy-ca") + (("etcd-ca",) if etcd else ()):
            self._authority(name)
        for entry in catalogue.CATALOGUE:
            if entry.kind in (catalogue.LEAF, catalogue.KUBECONFIG) and not entry.optional and (etcd or entry.ca != "etcd-ca"):
                self.issue(entry.name)
        self.write("/etc/kubernetes/pki/sa.key", self.cluster.sa.pem)
        self.write("/etc/kubernetes/pki/sa.pub", self.cluster.sa.public_pem)
        pki = "/etc/kubernetes/pki"
        apiserver = [
            "--advertise-address=" + self.address,
            "--secure-port=6443",
            "--client-ca-file=%s/ca.crt" % pki,
            "--tls-cert-file=%s/apiserver.crt" % pki,
            "--tls-private-key-file=%s/apiserver.key" % pki,
            "--service-account-key-file=%s/sa.pub" % pki,
        ]
        if etcd:
            apiserver += [
                "--etcd-servers=https://127.0.0.1:2379",
                "--etcd-certfile=%s/apiserver-etcd-client.crt" % pki,
                "--etcd-keyfile=%s/apiserver-etcd-client.key" % pki,
                "--etcd-cafile=%s/etcd/ca.crt" % pki,
            ]
            self.manifest("etcd", self._etcd_flags(), image="registry/etcd:3.4.13-0")
        self.manifest("kube-apiserver", apiserver)
        self.manifest(
            "kube-controller-manager",
            ["--kubeconfig=/etc/kubernetes/controller-manager.conf", "--service-account-private-key-file=%s/sa.key" % pki],
        )
        self.manifest("kube-scheduler", ["--kubeconfig=/etc/kubernetes/scheduler.conf"])

    def move_pki(self, directory: str) -> None:
        """Make it a node as kubeadm does with another certificatesDir: whatever names that directory names this one."""
        named = [*self.kubernetes("manifests").iterdir(), self.path("/var/lib/kubelet/config.yaml")]
        for path in named:
            path.write_text(path.read_text().replace("/etc/kubernetes/pki", directory))
        self.path(directory).parent.mkdir(parents=True, exist_ok=True)
        self.kubernetes("pki").rename(self.path(directory))

    def _etcd_flags(self) -> list[str]:
        pki = "/etc/kubernetes/pki/etcd"
        return [
            "--cert-file=%s/server.crt" % pki,
            "--key-file=%s/server.key" % pki,
            "--peer-cert-file=%s/peer.crt" % pki,
            "--peer-key-file=%s/peer.key" % pki,
            "--trusted-ca-file=%s/ca.crt" % pki,
            "--listen-client-urls=https://127.0.0.1:2379,https://%s:2379" % self.address,
            "--initial-advertise-peer-urls=https://%s:2380" % self.address,
        ]

    def _etcd(self) -> None:
        self._authority("etcd-ca")
        for name in ("etcd-server", "etcd-peer", "etcd-healthcheck-client"):
            self.issue(name)

    def manifest(self, component: str, flags: list[str], image: str | None = None, file_name: str | None = None) -> Path:
        """Write a static pod's manifest."""
        lines = [
            "apiVersion: v1",
            "kind: Pod",
            "metadata:",
            "  labels:",
            "    component: " + component,
            "  name: " + component,
            "  namespace: kube-system",
            "spec:",
            "  containers:",
            "  - command:",
            "    - " + component,
        ] + ["    - " + flag for flag in flags]
        lines += ["    image: %s" % (image or "registry/%s:v1.%d.2" % (component, self.minor)), "    name: " + component, ""]
        return self.write("/etc/kubernetes/manifests/%s" % (file_name or component + ".yaml"), "\n".join(lines))

    def _kubelet(self) -> None:
        certificate, leaf_key = self.cluster.leaf("kubelet-client", self.name, self.address)
        self.write("/var/lib/kubelet/pki/kubelet-client-2026-11-21-19-00-00.pem", certificate.pem + leaf_key.pem)
        os.symlink("kubelet-client-2026-11-21-19-00-00.pem", self.path("/var/lib/kubelet/pki/kubelet-client-current.pem"))
        config = kubeconfig.build("https://" + ENDPOINT, self.cluster.cas["ca"].pem, "default-auth", b"X", b"Y")
        lines = []
        for line in config.splitlines():
            for field in ("client-certificate", "client-key"):
                if field + "-data" in line:
                    line = "    %s: /var/lib/kubelet/pki/kubelet-client-current.pem" % field
            lines.append(line)
        self.write("/etc/kubernetes/kubelet.conf", "\n".join(lines) + "\n")
        self.write(
            "/var/lib/kubelet/config.yaml",
            "\n".join(
                [
                    "apiVersion: kubelet.config.k8s.io/v1beta1",
                    "kind: KubeletConfiguration",
                    "authentication:",
                    "  x509:",
                    "    clientCAFile: /etc/kubernetes/pki/ca.crt",
                    "rotateCertificates: true",
                    "staticPodPath: /etc/kubernetes/manifests",
                    "",
                ]
            ),
            0o644,
        )
        if not self.kubernetes("pki/ca.crt").exists():
            self._authority("ca", with_key=False)
        ca_key = key("kubelet-serving-ca" + self.name)
        ca = ca_sign.build_ca("%s-ca@1" % self.name, ca_key, 365)
        serving_key = key("kubelet-serving" + self.name)
        profile = x509_sign.Profile("%s@1" % self.name, (), ["DNS:" + self.name], ("server",))
        serving = x509_sign.sign_leaf(profile, serving_key, ca, ca_key, 365)
        self.write("/var/lib/kubelet/pki/kubelet.crt", serving.pem + ca.pem, 0o644)
        self.write("/var/lib/kubelet/pki/kubelet.key", serving_key.pem)
