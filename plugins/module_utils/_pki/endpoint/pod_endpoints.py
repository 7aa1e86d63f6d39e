# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the static pods of a node listen, from their manifests alone."""

from __future__ import annotations

import os
from typing import Any, Sequence

from ..kubeadm import catalogue
from ..kubeadm.addresses import join_host_port
from .discovery import Endpoint, endpoints


class View:
    """As much of a layouts.Layout as endpoints() looks at, made from the static pods' flags alone.

    flags: {component: {"--flag": value}}. kubernetes_dir: str.
    """

    def __init__(self, flags: dict[str, dict[str, str]], kubernetes_dir: str = catalogue.KUBERNETES_DIR) -> None:
        self.flags = flags
        self.kubernetes_dir = kubernetes_dir
        self.kubelet: dict[str, Any] = {}
        self.paths: dict[str, tuple[str | None, str | None]] = {}
        for name in ("apiserver-kubelet-client", "apiserver-etcd-client", "etcd-healthcheck-client"):
            entry: Any = catalogue.BY_NAME[name]
            self.paths[name] = (os.path.join(kubernetes_dir, entry.path), os.path.join(kubernetes_dir, entry.key))
        for component, values in flags.items():
            for flag, name in catalogue.CERTIFICATE_FLAGS.get(component, {}).items():
                if flag in values:
                    self.paths[name] = (values[flag], self.paths.get(name, (None, None))[1])
            for flag, name in catalogue.KEY_FLAGS.get(component, {}).items():
                if flag in values:
                    self.paths[name] = (self.paths.get(name, (None, None))[0], values[flag])


def node_endpoints(everything: Sequence[Any], kubernetes_dir: str) -> dict[str, list[Endpoint]]:
    """Return {component: [Endpoint]} of all static pods; for a pod that is no control-plane component, its own HTTP probe.

    Of these, {path of the manifest: [Endpoint]}, too: two may have one label.

    everything: [manifests.Manifest] of the node.
    """
    view = View({item.component: item.flags for item in everything}, kubernetes_dir)
    found: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints(view):
        found.setdefault(endpoint.component, []).append(endpoint)
    for item in everything:
        if item.component not in catalogue.STATIC_PODS:
            found[item.path] = _probe_endpoint(item)
        if item.component not in found:
            found[item.component] = _probe_endpoint(item)
    return found


def endpoints_of(found: dict[str, list[Endpoint]], manifest: Any) -> list[Endpoint]:
    """Return the [Endpoint] of one Manifest among what node_endpoints() returned."""
    return found.get(manifest.path, found.get(manifest.component, []))


def _probe_endpoint(manifest: Any) -> list[Endpoint]:
    spec = manifest.data.get("spec") or {}
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        settings = manifest.probes.get(kind)
        if settings and isinstance(settings.get("port"), int) and (spec.get("hostNetwork") or settings.get("host")):
            host = settings.get("host") or "127.0.0.1"
            url = "%s://%s/%s" % (
                str(settings.get("scheme") or "HTTP").lower(),
                join_host_port(host, settings["port"]),
                str(settings.get("path") or "/").lstrip("/"),
            )
            return [Endpoint(manifest.component, manifest.component, host, settings["port"], health=url)]
    return []
