# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""serverTLSBootstrap in a KubeletConfiguration: that of a node, and the one that nodes get which join or are upgraded."""

from __future__ import annotations

from ..fileio import yaml_edit

FIELD = "serverTLSBootstrap"

_CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps/"


def switched_on(text, path):
    """Return a KubeletConfiguration (bytes) with serverTLSBootstrap on, every other byte as it was. Raises PkiError."""
    document = yaml_edit.YamlText(text, path)
    document.set((FIELD,), True)
    return bytes(document)


def publish(api, check=False):
    """Switch serverTLSBootstrap on in the ConfigMap that kubeadm gives to nodes that join or are upgraded.

    api: of kube_api/api_client.py. The ConfigMap is kubelet-config, or before 1.24 the newest kubelet-config-1.NN. Return its
    name when it had to change, else None. Raises PkiError.
    """
    names = {}
    for item in api.list(_CONFIG_MAPS[:-1]):
        name = (item.get("metadata") or {}).get("name", "")
        version = name[len("kubelet-config-1.") :]
        if name == "kubelet-config" or (name.startswith("kubelet-config-1.") and version.isdigit()):
            names[int(version) if version.isdigit() else 1000] = item
    if not names:
        return None  # kubeadm init --skip-phases=upload-config: no node gets its configuration from there
    item = names[max(names)]
    name = item["metadata"]["name"]

    def change(found):
        text = (found.get("data") or {}).get("kubelet")
        changed = switched_on(text, "ConfigMap kube-system/" + name).decode("utf-8") if text else text
        return {"data": {"kubelet": changed}} if changed != text else None

    return name if api.update(_CONFIG_MAPS + name, change, item, check) else None
