# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install a client certificate and trusted CAs for this node's kubelet, in one transaction."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, List, Optional

from ..errors import PkiError
from ..fileio import atomic, reading
from ..kube_api import kubelet_client
from ..kubeadm import kubeconfig
from ..kubeadm.kubeconfig import Kubeconfig
from ..kubeadm.layouts import Layout
from ..x509.private_keys import PrivateKey
from ..x509.x509_read import Certificate
from . import client_certificate, client_request, kubelet_files


class ClientInstallation:
    """What an installation on this node would change.

    changes: [{"path", "data", "mode"} or {"path", "target"}], only what differs. certificate: the new one or None. config: the
    Kubeconfig as it will be. pair: the (certificate, key) in PEM that it will use, or None for the present one.
    """

    def __init__(
        self,
        layout: Layout,
        certificate: Optional[Certificate] = None,
        key: Optional[PrivateKey] = None,
        ca_bundle: Optional[bytes] = None,
        server: Optional[str] = None,
        spare_ca: Optional[bytes] = None,
    ) -> None:
        """Plan. certificate, key: the new pair, or None to leave the credential alone.

        ca_bundle: PEM that kubelet.conf, bootstrap-kubelet.conf and, on a worker, the CA file for clients shall trust, or None to
        leave them alone. server, spare_ca: URL and PEM for a kubelet.conf to be made; spare_ca also replaces obsolete CAs.
        Raises PkiError.
        """
        self.layout, self.certificate = layout, certificate
        self.changes: List[Dict[str, Any]] = []
        self.ca_bundle, self._spare_ca = ca_bundle, spare_ca
        self.pair: Optional[client_certificate.Pair] = None
        if certificate is not None and key is not None:
            self.pair = (certificate.pem, key.pem)
            self.changes += kubelet_files.pair_changes(client_certificate.current_path(layout), certificate.pem + key.pem)
        self.config = self._plan_kubelet_conf(server)
        self._plan_bootstrap_conf()
        if ca_bundle and layout.role == "worker":
            # On a control-plane node this file is the cluster's CA; a rotation replaces it.
            self._plan_file(kubelet_files.ca_file(layout), ca_bundle, mode=0o644)

    def _plan_file(self, path: str, data: bytes, mode: int) -> None:
        if reading.read_if_exists(path) != data:
            self.changes.append({"path": path, "data": data, "mode": mode})

    def _plan_kubelet_conf(self, server: Optional[str]) -> Kubeconfig:
        path = self.layout.kubelet["kubeconfig_path"]
        config = client_certificate.read_config_if_usable(self.layout)
        if config is None:
            if self.certificate is None:
                return kubelet_files.read_config(self.layout)  # raises
            bundle = self.ca_bundle or self._spare_ca
            if not (server and bundle):
                raise PkiError(
                    "cannot be used, and neither server nor CA are known to make it again",
                    path=path,
                    fix="Restore it from a backup, or let the playbook bring both from a control-plane node.",
                )
            text = kubeconfig.build(server, bundle, kubelet_files.NODE_PREFIX + self.layout.node_name, b"-", b"-")
            config = kubeconfig.Kubeconfig(text, path)
        bundle = self.ca_bundle or (None if client_certificate.has_valid_ca(config) else self._spare_ca)
        if bundle and config.ca_data != bundle:
            config = config.with_ca(bundle)
        if self.certificate is not None:
            config = config.with_client_file(client_certificate.current_path(self.layout))
        self._plan_file(path, bytes(config), mode=0o600)
        return config

    def _plan_bootstrap_conf(self) -> None:
        path = self.layout.kubelet["bootstrap_kubeconfig_path"]
        bundle = self.ca_bundle or (self._spare_ca if client_certificate.is_bootstrap_obsolete(self.layout) else None)
        if bundle and os.path.lexists(path):
            with contextlib.suppress(PkiError):  # a broken bootstrap file is of no use, and is not ours to rebuild
                bootstrap = kubeconfig.Kubeconfig(reading.read(path), path)
                self._plan_file(path, bytes(bootstrap.with_ca(bundle)), mode=0o600)

    def paths(self) -> List[str]:
        """Return the paths that change."""
        return [change["path"] for change in self.changes]

    def apply(
        self, state_dir: str = atomic.STATE_DIR, backup_dir: str = atomic.BACKUP_DIR, backup_keep: int = 5
    ) -> Optional[str]:
        """Back up what changes, then change it in one transaction. Return the backup set's directory, or None without changes.

        Leaves the note that the kubelet has to be restarted. Raises PkiError with nothing changed.
        """
        if not self.changes:
            return None
        current = client_certificate.current_path(self.layout)
        backup = kubelet_files.carry_out(self.changes, current, state_dir, backup_dir, backup_keep)
        if self.certificate is not None:
            atomic.remove(client_request.staged_key_path(state_dir))
        return backup


def check_accepted(installation: ClientInstallation, timeout: float = 5.0) -> Optional[str]:
    """Ask the API server for this node's own Node, with the credential and trust that are about to be installed.

    Returns the user name that it sees, or None (before 1.28). Raises PkiError when it refuses or is unreachable.
    """
    config = installation.config
    if not config.server:
        raise PkiError("names no server", path=config.path, fix="Restore it from a backup.")
    pair = installation.pair or kubelet_client.Credential(config).pem
    api = kubelet_client.KubeletApi(config.server, kubelet_client.ca_pem(config), pair, timeout)
    name = installation.layout.node_name
    try:
        answer = api.node(name)
    except PkiError as error:
        raise PkiError(
            "the API server could not be asked whether it takes the new credential (it %s), so nothing was changed"
            % error.message,
            path=error.path,
            fix=error.fix,
        ) from None
    if answer.status != 200:
        raise PkiError(
            "the API server does not take the new credential of %s (HTTP %d%s), so nothing was changed"
            % (name, answer.status, kubelet_client.said(answer)),
            path=config.server,
            fix="HTTP 401: its --client-ca-file does not hold the CA that signed; 404: there is no Node of that name.",
        )
    return api.whoami()
