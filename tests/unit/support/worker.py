# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's kubelet as its files show it, and an answer of an API."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import kubelet_client
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig, layouts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubelet import (
    client_certificate,
    client_request,
    client_signing,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, x509_read, x509_sign

from tests.unit.support import throwaway


class Worker:
    """A worker's files, found as a module finds them: through the directories it is given."""

    def __init__(self, root, cluster, role="worker", name="w1"):
        self.node = throwaway.Node(root, cluster, name=name, role=role)
        self.cluster, self.state = cluster, str(root / "state")
        self.conf = self.node.kubernetes("kubelet.conf")
        self.pki = self.node.path("/var/lib/kubelet/pki")
        self.conf.write_text(self.conf.read_text().replace("/var/lib/kubelet", str(self.node.path("/var/lib/kubelet"))))
        config = self.node.path("/var/lib/kubelet/config.yaml")
        config.write_text(config.read_text().replace("/etc/kubernetes", str(self.node.kubernetes(""))))

    @property
    def layout(self):
        return layouts.find_layout(str(self.node.kubernetes("")).rstrip("/"), str(self.node.path("/var/lib/kubelet")))

    @property
    def current(self):
        return self.pki / "kubelet-client-current.pem"

    def examine(self, **options):
        return client_certificate.examine(self.layout, state_dir=self.state, **options)

    def put(self, days=365, began=1, name=None, ca="ca", organizations=("system:nodes",), cluster=None):
        """Replace the credential in place by another one, that began so many days ago and has so many left."""
        cluster = cluster or self.cluster
        leaf_key = throwaway.key("other kubelet")
        profile = x509_sign.Profile("system:node:" + (name or self.node.name), list(organizations), (), ("client",))
        start = x509_read.now() - x509_sign.datetime.timedelta(days=began)
        authority = ca_sign.build_ca(cluster.cas[ca].common_name, cluster.keys[ca], 3650, start=start)
        certificate = x509_sign.sign_leaf(profile, leaf_key, authority, cluster.keys[ca], days + began, start=start)
        Path(os.path.realpath(self.current)).write_bytes(certificate.pem + leaf_key.pem)

    def signed(self, cluster=None):
        """Make a request and have it signed: gives PEM."""
        cluster = cluster or self.cluster
        request = client_request.make_request(self.layout, None, self.state)
        entry = {"host": "h", "node": self.layout.node_name, "request": request}
        return client_signing.sign_requests([entry], cluster.cas["ca"], cluster.keys["ca"], 365)["h"].encode()

    def issue(self):
        """Give (Certificate, PrivateKey) as an installation takes them."""
        return client_request.check_issued(self.layout, self.signed(), self.cluster.cas["ca"].pem, self.state)

    def apply(self, installation):
        return installation.apply(self.state, str(self.node.root / "backups"))


class Said:
    """An answer: its document and its status."""

    def __init__(self, document, status=200):
        self.document, self.status = document, status

    def json(self):
        return self.document


def signing_entry(profile, key, host="host-1", node="w1"):
    """An entry of the requests that client_signing signs."""
    return {"host": host, "node": node, "request": x509_sign.build_request(profile, key).pem.decode()}


def obsolete_bootstrap(worker):
    """Give a Worker a bootstrap-kubelet.conf that names a CA that is gone."""
    gone = throwaway.Cluster(label="gone").cas["ca"].pem
    text = kubeconfig.build("https://api.example:6443", gone, "tls-bootstrap", b"X", b"Y")
    worker.node.write("/etc/kubernetes/bootstrap-kubelet.conf", text)


def embed_credential(worker):
    """Put the credential of a Worker into its kubelet.conf."""
    config = kubeconfig.Kubeconfig(worker.conf.read_bytes(), str(worker.conf))
    pair = kubelet_client.Credential(config)
    worker.conf.write_bytes(bytes(config.with_client(pair.certificate.pem, throwaway.key("kubelet-clientw1").pem)))
