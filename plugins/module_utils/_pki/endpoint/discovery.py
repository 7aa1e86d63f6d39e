# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which endpoints a node has, and where they listen."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from ..errors import PkiError
from ..kubeadm import addresses, kubelet_settings

APISERVER, KUBELET, MANAGER, SCHEDULER = "apiserver", "kubelet", "controller-manager", "scheduler"

ETCD_SERVER, ETCD_PEER = "etcd-server", "etcd-peer"


class Endpoint:
    """Where a component of this node listens.

    name: "apiserver", "kubelet", "controller-manager", "scheduler", "etcd-server" or "etcd-peer". component: the static pod, or
    "kubelet". host: str, port: int. item: catalogue name of the certificate it serves from disk, or None when it makes its own
    in memory. path: that certificate's file, or None. client: (certificate path, key path) to show, or None.
    health: URL that answers 200 when the component is well, or None. secure: False where it is plain http, which no handshake
    is tried with.
    """

    def __init__(
        self,
        name: str,
        component: str,
        host: str,
        port: int,
        item: str | None = None,
        path: str | None = None,
        client: tuple[str, str] | None = None,
        health: str | None = None,
        secure: bool = True,
    ) -> None:
        self.name, self.component, self.host, self.port = name, component, host, port
        self.item, self.path, self.client, self.health, self.secure = item, path, client, health, secure

    @property
    def address(self) -> str:
        """host:port, with brackets around an IPv6 address."""
        return addresses.join_host_port(self.host, self.port)

    def __repr__(self) -> str:
        return "Endpoint(%s at %s)" % (self.name, self.address)


def endpoints(layout: Any) -> list[Endpoint]:
    """Return the Endpoints of this node, from its manifests' flags and its kubelet's configuration.

    layout: a layouts.Layout, or a View. A port that a flag sets to 0 is not listened on, and not given; nor is a
    kubelet where the node has none.
    """
    found = []
    if "kube-apiserver" in layout.flags:
        found += _apiserver(layout, layout.flags["kube-apiserver"])
    for component, name, secure, insecure in (
        ("kube-controller-manager", MANAGER, 10257, 10252),
        ("kube-scheduler", SCHEDULER, 10259, 10251),
    ):
        if component in layout.flags:
            found += _delegating(component, name, layout.flags[component], secure, insecure)
    if "etcd" in layout.flags:
        found += _etcd(layout, layout.flags["etcd"])
    if _has_kubelet(layout):
        certificate = layout.kubelet.get("serving_cert")
        address: tuple[str, int] = kubelet_settings.serving_address(layout)
        found.append(
            Endpoint(
                KUBELET,
                "kubelet",
                *address,
                item="kubelet-serving" if certificate else None,
                path=certificate,
                health=kubelet_settings.healthz_url(layout),
            )
        )
    return found


def _has_kubelet(layout: Any) -> bool:
    # A member of an external etcd may have none. One that is stopped has left files, or pods that it should run.
    kubelet = layout.kubelet
    return bool(kubelet) and bool(
        kubelet.get("running")
        or layout.flags
        or any(
            os.path.lexists(kubelet.get(name) or "") for name in ("kubeconfig_path", "bootstrap_kubeconfig_path", "config_path")
        )
    )


def _port(flags: dict[str, str], flag: str, default: int) -> int:
    try:
        return int(flags.get(flag, default))
    except ValueError:
        raise PkiError("the flag %s=%s is not a port number" % (flag, flags[flag]), fix="Correct the manifest.") from None


def _pair(layout: Any, *names: str) -> tuple[str, str] | None:
    """Return the first of the named client pairs that exists."""
    for name in names:
        certificate, key = layout.paths.get(name) or (None, None)
        if certificate and key and os.path.exists(certificate) and os.path.exists(key):
            return certificate, key
    return None


def _apiserver(layout: Any, flags: dict[str, str]) -> list[Endpoint]:
    host, port = addresses.local_address(flags.get("--bind-address", "")), _port(flags, "--secure-port", 6443)
    if not port:
        return []
    return [
        Endpoint(
            APISERVER,
            "kube-apiserver",
            host,
            port,
            "apiserver" if "--tls-cert-file" in flags else None,
            flags.get("--tls-cert-file"),
            _pair(layout, "apiserver-kubelet-client"),
            "https://%s/readyz" % addresses.join_host_port(host, port),
        )
    ]


def _delegating(component: str, name: str, flags: dict[str, str], secure: int, insecure: int) -> list[Endpoint]:
    host, port = addresses.local_address(flags.get("--bind-address", "")), _port(flags, "--secure-port", secure)
    if port:
        # No catalogue name: kubeadm gives these no serving certificate. Where a user does, its file is known all the same.
        return [
            Endpoint(
                name,
                component,
                host,
                port,
                None,
                flags.get("--tls-cert-file"),
                None,
                "https://%s/healthz" % addresses.join_host_port(host, port),
            )
        ]
    # Before 1.23 the insecure port could be the only one.
    port = _port(flags, "--port", insecure)
    host = addresses.local_address(flags.get("--address", ""))
    health = "http://%s/healthz" % addresses.join_host_port(host, port)
    return [Endpoint(name, component, host, port, health=health, secure=False)] if port else []


def _etcd(layout: Any, flags: dict[str, str]) -> list[Endpoint]:
    found = []
    pair = _pair(layout, "etcd-healthcheck-client", "apiserver-etcd-client")
    clients = _loopback_first(urls(flags.get("--listen-client-urls", "http://localhost:2379")))
    health = next((url.rstrip("/") + "/health" for url in urls(flags.get("--listen-metrics-urls"))), None)
    for url in clients[:1] if health is None else []:
        health = "%s://%s/health" % (urlsplit(url).scheme, addresses.join_host_port(*_address(url, 2379)))
    for url in _secure_first(clients)[:1]:
        found.append(_etcd_endpoint(ETCD_SERVER, url, 2379, flags.get("--cert-file"), pair, health))
    for url in _secure_first(urls(flags.get("--listen-peer-urls", "http://localhost:2380")))[:1]:
        found.append(_etcd_endpoint(ETCD_PEER, url, 2380, flags.get("--peer-cert-file"), _pair(layout, "etcd-peer"), None))
    return found


def _etcd_endpoint(
    name: str, url: str, port: int, path: str | None, client: tuple[str, str] | None, health: str | None
) -> Endpoint:
    host, port = _address(url, port)
    if _is_secure(url):
        return Endpoint(name, "etcd", host, port, name, path, client, health)
    return Endpoint(name, "etcd", host, port, client=client, health=health, secure=False)


def _address(url: str, port: int) -> tuple[str, int]:
    parts = urlsplit(url)
    return addresses.local_address(parts.hostname or ""), parts.port or port


def urls(text: str | None) -> list[str]:
    """Return the URLs of a comma-separated flag, without the empty ones."""
    return [url.strip() for url in (text or "").split(",") if url.strip()]


def _loopback_first(candidates: list[str]) -> list[str]:
    return sorted(candidates, key=lambda url: "127.0.0.1" not in url and "localhost" not in url)


def _is_secure(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def _secure_first(candidates: list[str]) -> list[str]:
    return sorted(candidates, key=lambda url: not _is_secure(url))
