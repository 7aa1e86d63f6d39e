# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes with real files, through which rotate_ca's calls go in its order: what is derived, staged, written, edited.

No process is restarted and no API is spoken to. What the role kubelet_credentials does is done in short.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import (
    catalogue,
    kubeconfig,
    layouts,
    manifest_edits,
    pki_tree,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import (
    ca_facts,
    declaration,
    desired_state,
    local_ca,
    new_ca,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import pod_restart
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_sign
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import rotation_plan

from tests.unit.support.throwaway import Cluster, Node, key

PKI = "/etc/kubernetes/pki"
LEVEL = {"prepare": 1, "switch": 2, "complete": 3, "rollback of switch": 1, "rollback of prepare": 0}
_CARRIED = ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key", "sa.pub", "sa.key"]


class Killed(BaseException):
    """A run ended here."""


class Host:
    """One node and what the modules do there."""

    def __init__(self, root: Path, cluster: Cluster, name: str, role: str = "control-plane") -> None:
        self.root, self.name, self.role = root, name, role
        self.node = Node(root, cluster, name, role=role, minor=20)
        self.state, self.backups = str(root / "state"), str(root / "backups")
        if role == "control-plane":
            self.manager("%s/ca.crt" % PKI)

    def manager(self, signing: str) -> None:
        self.node.manifest(
            "kube-controller-manager",
            [
                "--kubeconfig=/etc/kubernetes/controller-manager.conf",
                "--root-ca-file=%s/ca.crt" % PKI,
                "--cluster-signing-cert-file=%s" % signing,
                "--cluster-signing-key-file=%s/ca.key" % PKI,
                "--service-account-private-key-file=%s/sa.key" % PKI,
            ],
        )

    def file(self, relative: str) -> Path:
        return self.node.kubernetes(relative)

    def tree(self):
        return pki_tree.read_tree(layouts.find_layout(root=str(self.root)))

    def facts(self) -> dict:
        return dict(ca_facts.facts(self.tree(), self.state), node=self.name)

    def staged(self, names, known, material=None) -> dict:
        declared, pairs = new_ca.declare_staged(self.tree(), names, material, key_type="ecdsa-p256", known=known)
        self._apply(declared)
        return {name: (pair.certificate_pem, pair.key_pem) for name, pair in pairs.items()}

    def files(self, names, level: int, known) -> dict:
        declared = desired_state.declare(self.tree(), names, level, state_dir=self.state, known=known)
        self._apply(declared)
        return declared.edits

    def _apply(self, declared) -> None:
        declaration.apply(self.tree().layout, declared, "rotation", self.state, self.backups)

    def edit(self, edits: dict) -> None:
        for component, flags in edits.items():
            path = self.file("manifests/%s.yaml" % component)
            path.write_bytes(manifest_edits.with_flags(path.read_bytes(), str(path), component, flags))

    def kubelet(self, bundle: bytes, credential: bytes | None) -> None:
        path = self.file("kubelet.conf")
        path.write_bytes(bytes(kubeconfig.Kubeconfig(path.read_bytes(), str(path)).with_ca(bundle)))
        if self.role == "worker":
            self.file("pki/ca.crt").write_bytes(bundle)
        if credential:
            Path(os.path.realpath(self.node.path("/var/lib/kubelet/pki/kubelet-client-current.pem"))).write_bytes(credential)

    def sign(self, name: str) -> bytes:
        current = local_ca.local_cas(self.tree().layout, ["ca"])["ca"].current
        own = key("kubelet of " + name)
        return (
            x509_sign.sign_leaf(
                x509_sign.Profile("system:node:" + name, ["system:nodes"], (), ("client",)),
                own,
                current.certificate,
                current.key,
                365,
            ).pem
            + own.pem
        )


class Nodes:
    """A cluster of Hosts: control-plane nodes cp1, cp2, ..., and workers w1, ..."""

    def __init__(self, folder: Path, planes: int = 2, workers: int = 1) -> None:
        self.folder, self.cluster = folder, Cluster()
        self.hosts = [Host(folder / name, self.cluster, name) for name in ["cp%d" % (n + 1) for n in range(planes)]]
        self.hosts += [Host(folder / name, self.cluster, name, "worker") for name in ["w%d" % (n + 1) for n in range(workers)]]
        self._left: int | None = None

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    @property
    def planes(self) -> list[Host]:
        return [host for host in self.hosts if host.role == "control-plane"]

    def derived(self, target: str = "status", names=catalogue.ROTATABLE) -> dict:
        return rotation_plan.derived([host.facts() for host in self.hosts], list(names), target)

    def phases(self, names=catalogue.ROTATABLE) -> set:
        return set(self.derived(names=names)["phase"].values())

    def run(self, target: str, names=catalogue.ROTATABLE, kill_after: int | None = None) -> dict:
        """What rotate_ca does. Gives the first plan. kill_after: so many calls of modules, then Killed is raised.

        Raises PkiError where the plan or a module refuses, AssertionError where a gate of the role would.
        """
        self._left = kill_after
        for host in self.hosts:
            pod_restart.restore(host.state)
        first = plan = self.derived(target, names)
        for number, phase in enumerate(first["phases"]):
            if number:
                plan = self.derived(target, first["names"])
                assert plan["phases"][:1] in ([], [phase]), (phase, plan["explanation"])
            self._phase(phase, plan, first["work"][phase]["names"])
        self._left = None
        goal = {"prepare": "prepared", "switch": "switched"}.get(target, "stable")
        after = self.derived(names=first["names"])
        assert set(after["phase"].values()) <= {goal}, after["explanation"]
        return first

    def _call(self) -> None:
        if self._left is not None:
            if self._left == 0:
                raise Killed
            self._left -= 1

    def _phase(self, phase: str, plan: dict, names: list) -> None:
        own = {host.name: plan["work"].get(phase, {"nodes": {}})["nodes"].get(host.name, []) for host in self.hosts}
        if phase == "prepare":
            material: dict = {}
            for host in self.planes:
                given = [name for name in names if plan["holders"].get(name) == host.name]
                if given:
                    self._call()
                    material.update(host.staged(given, plan["known"]))
            for host in self.planes:
                self._call()
                host.staged(own[host.name], plan["known"], material)
        for host in self.planes:
            self._call()
            edits = host.files(own[host.name], LEVEL[phase], plan["known"])
            self._call()
            host.edit(edits)
            self._call()
            host.files(own[host.name], LEVEL[phase], plan["known"])
        if "ca" not in names:
            return
        signed = {host.name: self.planes[0].sign(host.name) for host in self.hosts if host.name in plan["new_clients"]}
        for host in self.hosts:
            self._call()
            giver = host if host.role == "control-plane" else self.planes[0]
            host.kubelet(giver.file("pki/ca.crt").read_bytes(), signed.get(host.name))

    def join(self, name: str) -> Host:
        """A new control-plane node by kubeadm: the files of cp1, leaves by whoever signs, the manifest of kubeadm-config."""
        host, first = Host(self.folder / name, self.cluster, name), self.planes[0]
        for path in _CARRIED:
            host.file("pki/" + path).write_bytes(first.file("pki/" + path).read_bytes())
        tree = host.tree()
        held = local_ca.local_cas(tree.layout)
        for item in tree.items.values():
            if item.certificate is None or item.ca is None or item.name.startswith("kubelet"):
                continue
            signer, own = held[item.ca].current, key("joined " + item.name)
            leaf = x509_sign.sign_leaf(x509_sign.Profile.of(item.certificate), own, signer.certificate, signer.key, 365)
            path = Path(item.path)
            if item.kubeconfig is not None:
                config = kubeconfig.Kubeconfig(path.read_bytes(), item.path).with_client(leaf.pem, own.pem)
                path.write_bytes(bytes(config.with_ca(signer.certificate.pem)))
            else:
                path.write_bytes(leaf.pem)
                Path(item.key_path).write_bytes(own.pem)
        host.kubelet(host.file("pki/ca.crt").read_bytes(), first.sign(name))
        split = "ca-signing" in first.file("manifests/kube-controller-manager.yaml").read_text()
        host.manager("%s/%s" % (PKI, "ca-signing.crt" if split else "ca.crt"))
        self.hosts.insert(len(self.planes), host)
        return host
