# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's serving certificate, signed by the cluster: judged, asked for, installed, proven.

A kubelet that asks for one by itself makes the key in memory, and writes it only with the certificate (client-go
util/certificate/certificate_manager.go: generateCSR, rotateCerts). While its request is pending, nothing shows whether the key
in it is that node's. So here the node makes the key first, reports its digest over SSH, and asks with its own credential; the
certificate is put where the kubelet keeps its own, and a kubelet that finds one for all its addresses asks for no other.
"""

from __future__ import annotations

import os
import time
from typing import Any, Collection, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from ..endpoint import discovery, health_checks, tls
from ..errors import PkiError
from ..fileio import atomic, journals, reading
from ..kube_api import kubelet_client
from ..kubeadm import kubelet_config_map
from ..kubeadm.layouts import Layout
from ..x509 import general_names, private_keys, x509_read, x509_sign
from ..x509.private_keys import PrivateKey
from ..x509.x509_read import Certificate
from . import kubelet_files

LEAVE, RENEW, BOOTSTRAP = "leave", "renew", "bootstrap"

_CURRENT = "kubelet-server-current.pem"

# pkg/kubelet/certificate/kubelet.go: addressesToHostnamesAndIPs
_NAMES, _ADDRESSES = ("Hostname", "InternalDNS", "ExternalDNS"), ("Hostname", "InternalIP", "ExternalIP")


def current_path(layout: Layout) -> str:
    """Return the path of the link behind which a kubelet keeps a serving certificate that the cluster signed (str)."""
    return os.path.join(layout.kubelet["cert_dir"], _CURRENT)


def staged_key_path(state_dir: str = atomic.STATE_DIR) -> str:
    """Return where the key of a request waits for its certificate (0600, in a directory with 0700)."""
    return os.path.join(state_dir, "kubelet", "serving.key")


def connect(layout: Layout, timeout: float = 10) -> kubelet_client.KubeletApi:
    """Return a KubeletApi with the kubelet's own credential; only the API server itself will do. Raises PkiError."""
    return kubelet_client.KubeletApi.of(kubelet_files.read_config(layout), timeout, strict=True)


def node_sans(item: Dict[str, Any]) -> List[str]:
    """Return the SANs a kubelet asks for: of its Node object (dict) each address, as ["DNS:...", "IP:..."], names first."""
    dns: Set[str] = set()
    ips: Set[str] = set()
    for entry in (item.get("status") or {}).get("addresses") or []:
        kind, value = entry.get("type"), entry.get("address")
        if value and general_names.address(value):
            ips.update(["IP:" + general_names.same_name(value)] if kind in _ADDRESSES else [])
        elif value and kind in _NAMES:
            dns.add("DNS:" + general_names.same_name(value))
    return sorted(dns) + sorted(ips)


def own_sans(layout: Layout, api: kubelet_client.KubeletApi) -> List[str]:
    """Return node_sans() of this node's own Node object. Raises PkiError when there is none, or the API is unreachable."""
    answer = api.node(kubelet_files.check_node_name(layout.node_name))
    if answer.status == 404:
        raise PkiError(
            "the API has no Node named %s" % layout.node_name,
            path=api.server,
            fix="Correct the kubelet's --hostname-override or the host's name; or join the host first.",
        )
    if answer.status != 200:
        raise PkiError(
            "the API server does not say which addresses the Node %s has (HTTP %d%s)"
            % (layout.node_name, answer.status, kubelet_client.said(answer)),
            path=api.server,
            fix="It was asked with the kubelet's credential: HTTP 401 means that this is not valid any more (reissue_kubelets).",
        )
    return node_sans(answer.json())


def installed_certificate(layout: Layout) -> Optional[Certificate]:
    """Return the Certificate behind the link, or None when there is none that can be read."""
    path = current_path(layout)
    try:
        return x509_read.parse_certificate(reading.read(path), path)
    except PkiError:
        return None


def own_certificate(layout: Layout) -> Optional[str]:
    """Return the path of a serving certificate that the user gave the kubelet (tlsCertFile), or None."""
    named = layout.kubelet["flags"].get("--tls-cert-file") or layout.kubelet["config"].get("tlsCertFile")
    return named if isinstance(named, str) and named else None


def examine(
    layout: Layout,
    mode: str,
    sans: Optional[Collection[str]],
    below_days: float = 90.0,
    force: bool = False,
    state_dir: str = atomic.STATE_DIR,
) -> Dict[str, Any]:
    """Judge this node's serving certificate. Returns {"node", "action", "reasons", "before"}, as client_certificate.examine().

    mode: "renew" concerns nodes whose kubelets have serverTLSBootstrap on, "bootstrap" all of them. sans: what the certificate
    has to name (node_sans()), or None where that is not known. A certificate that the user gave the kubelet (tlsCertFile) is left
    alone, and reasons says so.
    """
    verdict: Dict[str, Any] = {"node": layout.node_name, "action": kubelet_files.KEEP, "reasons": [], "before": None}
    if own_certificate(layout):
        verdict["reasons"] = ["its serving certificate is the user's own (%s)" % own_certificate(layout)]
        return verdict
    if mode == RENEW and not layout.kubelet["server_bootstrap"]:
        return verdict
    if layout.kubelet["flags"].get("--rotate-server-certificates") == "false":
        raise PkiError(
            "the kubelet's flag --rotate-server-certificates=false overrides serverTLSBootstrap",
            path=layout.kubelet["config_path"],
            fix="Take the flag out of the kubelet's unit or its environment file.",
        )
    certificate, why = _judge(layout, sans, below_days)
    reasons = [] if layout.kubelet["server_bootstrap"] else ["serverTLSBootstrap is off"]
    reasons += [why] if why else []
    if force and not reasons:
        reasons = ["asked for"]
    verdict.update(
        action=kubelet_files.REISSUE if reasons else kubelet_files.KEEP,
        reasons=reasons,
        before=certificate.describe() if certificate else None,
    )
    if not reasons and journals.Journal(journals.KUBELET_RESTART, state_dir).load() is not None:
        verdict.update(action=kubelet_files.RESTART, reasons=["a run that did not end has left the kubelet's restart undone"])
    return verdict


def _judge(layout: Layout, sans: Optional[Collection[str]], below_days: float) -> Tuple[Optional[Certificate], Optional[str]]:
    """Return (Certificate or None, why another one is due or None)."""
    path = current_path(layout)
    if not os.path.lexists(path):
        return None, "there is no serving certificate that the cluster signed"
    try:
        data = reading.read(path)
        certificate = x509_read.parse_certificate(data, path)
        if x509_read.private_key_digest(data, path, certificate) != certificate.key_sha256:
            return certificate, "the serving certificate and its key do not belong together"
    except PkiError as error:
        return None, "the serving certificate is unusable: %s" % error.message
    if certificate.common_name != kubelet_files.NODE_PREFIX + layout.node_name or "server" not in certificate.extended_usages:
        return certificate, "it is made out to %s, and this node is %s" % (certificate.subject, layout.node_name)
    named = _folded(certificate.sans)
    lacking = [text for text in sans or () if text.lower() not in named]
    if lacking:
        return certificate, "it does not name %s" % ", ".join(lacking)
    cas = kubelet_files.trusted(layout)
    if cas and not certificate.signed_by(cas[0]):
        others = any(certificate.signed_by(ca) for ca in cas)
        return (
            certificate,
            "a CA that is about to be removed has signed it" if others else "no CA of this node's ca.crt has signed it",
        )
    return certificate, kubelet_files.wrong_dates(certificate, below_days)


def _folded(sans: Iterable[str]) -> Set[str]:
    return {text.lower() for text in sans}


def request_certificate(
    layout: Layout,
    api: kubelet_client.KubeletApi,
    sans: Sequence[str],
    days: float,
    key_type: Optional[str] = None,
    state_dir: str = atomic.STATE_DIR,
) -> Dict[str, str]:
    """Make a key on this node and ask the cluster for a serving certificate with it. Returns {"name", "key"}.

    api: connect(). sans: what it shall name. days: the validity that is asked for (from 1.22 on). key_type: one of
    private_keys.KEY_TYPES, or None for what a kubelet makes. The key is staged 0600 and stays here; "key" is the
    digest of its public half, "name" that of the CertificateSigningRequest. Raises PkiError.
    """
    node = kubelet_files.check_node_name(layout.node_name)
    if not sans:
        raise PkiError(
            "its Node object has no addresses yet", path="Node " + node, fix="Wait until the kubelet has reported them."
        )
    key = private_keys.generate_key(key_type or kubelet_files.DEFAULT_KEY_TYPE)
    profile = x509_sign.Profile(kubelet_files.NODE_PREFIX + node, [kubelet_files.NODES_GROUP], sans, ("server",))
    request = x509_sign.build_request(profile, key)
    path = staged_key_path(state_dir)
    atomic.make_directory(os.path.dirname(path))
    atomic.write(path, key.pem, mode=0o600)
    name = "kubepki-serving-%s-%s" % (node[:180], request.key_sha256[:12])
    kubelet_client.request_certificate(
        api,
        request.pem.decode("ascii"),
        kubelet_client.SERVING,
        days,
        name=name,
        fix="See that the kubelet's own credential is valid (reissue_kubelets), and run the playbook again.",
    )
    return {"name": name, "key": request.key_sha256}


class ServingInstallation:
    """What an installation on this node would change: the pair, its link, and serverTLSBootstrap in the kubelet's configuration.

    changes: as in ClientInstallation. certificate: the new Certificate, or None.
    """

    def __init__(self, layout: Layout, certificate: Optional[Certificate] = None, key: Optional[PrivateKey] = None) -> None:
        """Plan. certificate, key: the new Certificate and its PrivateKey, or None to leave the pair alone. Raises PkiError."""
        self.layout, self.certificate = layout, certificate
        self.changes: List[Dict[str, Any]] = []
        if certificate is not None and key is not None:
            self.changes += kubelet_files.pair_changes(current_path(layout), certificate.pem + key.pem)
            if not layout.kubelet["server_bootstrap"]:
                path = layout.kubelet["config_path"]
                self.changes.append(
                    {"path": path, "data": kubelet_config_map.switched_on(reading.read(path), path), "mode": None}
                )

    def paths(self) -> List[str]:
        """Return the paths that change."""
        return [change["path"] for change in self.changes]

    def apply(
        self, state_dir: str = atomic.STATE_DIR, backup_dir: str = atomic.BACKUP_DIR, backup_keep: int = 5
    ) -> Optional[str]:
        """Back up what changes, then change it in one transaction; as ClientInstallation.apply()."""
        if not self.changes:
            return None
        backup = kubelet_files.carry_out(self.changes, current_path(self.layout), state_dir, backup_dir, backup_keep)
        atomic.remove(staged_key_path(state_dir))
        return backup


def wait_for_certificate(
    layout: Layout,
    api: kubelet_client.KubeletApi,
    name: str,
    sans: Collection[str],
    timeout: float = 60.0,
    state_dir: str = atomic.STATE_DIR,
) -> Tuple[Certificate, PrivateKey]:
    """Wait for what was asked for, and give (Certificate, PrivateKey) when it is what this node may install.

    name: of the CertificateSigningRequest. sans: what it has to name. Raises PkiError: denied, not signed, another key,
    subject, names or signer, not valid now.
    """
    pem = kubelet_client.wait_certificate(
        api,
        name,
        timeout,
        denied="Correct what was wrong with it, and run the playbook again.",
        waits="Look at kube-controller-manager's --cluster-signing-* files (check_signers does), and run the playbook again.",
    )
    certificate = x509_read.parse_certificate(pem, "the serving certificate for %s" % layout.node_name)
    path = staged_key_path(state_dir)
    key = private_keys.parse_private_key(reading.read(path), path)
    if not key.matches(certificate):
        raise PkiError("the certificate is not for the key that waits here", path=path, fix="Run the playbook again.")
    if (
        certificate.common_name != kubelet_files.NODE_PREFIX + layout.node_name
        or "server" not in certificate.extended_usages
        or certificate.is_ca
        or _folded(certificate.sans) != _folded(sans)
    ):
        raise PkiError(
            "is not what was asked for (%s)" % certificate.subject,
            path=certificate.path,
            fix="Find out who signs for %s." % kubelet_client.SERVING,
        )
    kubelet_files.check_clock(certificate)
    cas = kubelet_files.trusted(layout)
    if not any(certificate.signed_by(ca) for ca in cas):
        raise PkiError(
            "is not signed by the cluster's CA (ca.crt of this node)",
            path=certificate.path,
            fix="Look at kube-controller-manager's --cluster-signing-* files; check_signers does.",
        )
    return certificate, key


def wait_until_serving(layout: Layout, certificate: Certificate, sans: Sequence[str], timeout: float = 60.0) -> float:
    """Wait until the kubelet serves a certificate, and see that it holds for each of its IP addresses. Returns seconds.

    layout: found again after the change. Raises PkiError: what is served, or for which address it does not verify.
    """
    began = time.monotonic()
    endpoint = next((one for one in discovery.endpoints(layout) if one.name == discovery.KUBELET), None)
    if endpoint is None:
        raise PkiError(
            "the kubelet serves nothing, so its new certificate cannot be seen",
            path=layout.kubelet["config_path"],
            fix="Give it a port (port in its configuration).",
        )
    proven, _seconds, seen = health_checks.wait_digest(endpoint, certificate.sha256, timeout)
    if not proven:
        what = seen.message if isinstance(seen, PkiError) else "serves another certificate (%s)" % str(seen)[:16]
        raise PkiError(
            "the kubelet does not serve its new certificate after %d s: %s" % (timeout, what),
            path=endpoint.address,
            fix="See `journalctl -u kubelet`; a drop-in configuration may set %s to false." % kubelet_config_map.FIELD,
        )
    trust = x509_read.bundle(kubelet_files.trusted(layout))
    if endpoint.host == "127.0.0.1":  # it listens everywhere
        for address in [text[3:] for text in sans if text.startswith("IP:") and _is_here(text[3:])]:
            tls.verify(address, endpoint.port, trust)
    return round(time.monotonic() - began, 3)


def _is_here(address: str) -> bool:
    """Return whether an address is one of this machine's: a node's external address may be a router's."""
    import socket  # used once in a run

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probing:
        try:
            probing.bind((address, 0))
        except OSError:
            return False
    return True
