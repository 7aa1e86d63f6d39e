# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of trust has to reach, as the API shows it: the Nodes, and objects that have not followed."""

from __future__ import annotations

import base64
from typing import Any, Iterable

from ..errors import PkiError
from ..fileio import yaml_edit
from . import trust_objects
from .api_client import Api


def check_nodes(api: Api, names: Iterable[str]) -> None:
    """Raise PkiError unless a change of trust reaches every Node: all are Ready, and the play covers each of them.

    names: of the covered nodes, as the API names them. A kubelet that is left out and the API servers reject each other once
    the old CA is dropped.
    """
    found = {item["metadata"]["name"]: _not_ready(item) for item in api.list("/api/v1/nodes")}
    uncovered = sorted(set(found) - set(names))
    if uncovered:
        raise PkiError(
            "the cluster has nodes that the inventory does not: %s" % ", ".join(uncovered),
            fix="Add them to the group kube_node, or remove the Node objects of machines that are gone.",
        )
    ill = sorted((name, why) for name, why in found.items() if why)
    if ill:
        raise PkiError(
            "%d of %d nodes are not Ready: %s" % (len(ill), len(found), "; ".join("%s (%s)" % item for item in ill[:5])),
            fix="Bring them back first (`journalctl -u kubelet` there says more); nothing was changed.",
        )


def _not_ready(node: dict[str, Any]) -> str | None:
    """Return why a Node is not Ready, or None."""
    conditions = (node.get("status") or {}).get("conditions") or []
    ready: dict[str, Any] = next((item for item in conditions if item.get("type") == "Ready"), {})
    if ready.get("status") == "True":
        return None
    return str(ready.get("message") or ready.get("reason") or "its kubelet never reported")[:160]


def find(api: Api, bundle: bytes, signer: str) -> list[dict[str, str]]:
    """Return the API objects that do not trust the CA that signs: [{"what", "path", "why"}].

    bundle: the cluster's trust as it is, PEM. signer: digest of the CA that signs.
    """
    found = []
    info = ((api.get(trust_objects.CLUSTER_INFO) or {}).get("data") or {}).get("kubeconfig")
    if info:
        place = trust_objects.cluster_info_place(info)
        data = yaml_edit.YamlText(info, "cluster-info").get(place) or ""
        if trust_objects.digests(base64.b64decode(data)) != trust_objects.digests(bundle):
            found.append({"what": "cluster-info", "path": "kube-public/cluster-info", "why": "trusts others than ca.crt does"})
    found += [
        {"what": "kube-root-ca.crt", "path": name, "why": "trusts others than ca.crt does"}
        for name in trust_objects.lagging_roots(api, bundle)
    ]
    found += [
        {"what": "token secret", "path": name, "why": "trusts others than ca.crt does"}
        for name in trust_objects.lagging_secrets(api, bundle)
    ]
    trust = trust_objects.extension_trust(api)
    if trust is not None and trust[0] != trust_objects.digests(bundle):
        found.append(
            {
                "what": "extension-apiserver-authentication",
                "path": "kube-system/extension-apiserver-authentication",
                "why": "trusts other client authorities than ca.crt does",
            }
        )
    found += [
        {"what": "ClusterTrustBundle", "path": name, "why": "trusts others than ca.crt does"}
        for name in trust_objects.lagging_bundles(api, bundle)
    ]
    pods = list(api.list("/api/v1/pods"))
    return found + _ca_bundles(api, bundle, signer) + _older_pods(api, pods) + _bundles_by_name(pods)


def bundle_files(api: Api) -> dict[str, list[dict[str, Any]]]:
    """Return where pods have a ClusterTrustBundle of the API servers' mounted: {node: [{"uid", "volume", "path"}]}.

    Pods are listed only where kube-controller-manager publishes one.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for pod in api.list("/api/v1/pods") if trust_objects.published_bundles(api) else []:
        node = (pod.get("spec") or {}).get("nodeName")
        for volume, source in _bundle_sources(pod):
            # Without a label selector it holds nothing (core/v1: ClusterTrustBundleProjection).
            if node and source.get("signerName") == trust_objects.BUNDLE_SIGNER and source.get("labelSelector") is not None:
                found.setdefault(node, []).append(
                    {"uid": pod["metadata"].get("uid"), "volume": volume, "path": source.get("path")}
                )
    return found


def _bundle_sources(pod: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Return [(name of a volume, clusterTrustBundle source)] of a pod that runs."""
    if (pod.get("status") or {}).get("phase") not in ("Running", "Pending"):
        return []
    return [
        (volume.get("name"), source["clusterTrustBundle"])
        for volume in (pod.get("spec") or {}).get("volumes") or []
        for source in (volume.get("projected") or {}).get("sources") or []
        if source.get("clusterTrustBundle")
    ]


def _bundles_by_name(pods: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Return pods that name a ClusterTrustBundle which kube-controller-manager replaces by one of another name."""
    return [
        {
            "what": "pod",
            "path": "%s/%s" % (pod["metadata"]["namespace"], pod["metadata"]["name"]),
            "why": "mounts the ClusterTrustBundle %s by its name, which ends with the CA: let it select by signerName"
            % source["name"],
        }
        for pod in pods
        for _volume, source in _bundle_sources(pod)
        if str(source.get("name") or "").startswith(trust_objects.BUNDLE_SIGNER.replace("/", ":") + ":")
    ]


def _older_pods(api: Api, pods: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Return pods older than the last change of their namespace's trust: client-go reads its CA once (InClusterConfig).

    The change is when kube-controller-manager last wrote kube-root-ca.crt, as its managedFields say.
    """
    changed = {
        item["metadata"]["namespace"]: max(
            [str(entry.get("time") or "") for entry in item["metadata"].get("managedFields") or []], default=""
        )
        for item in trust_objects.root_maps(api)
    }
    found = []
    for item in pods:
        metadata, status = item["metadata"], item.get("status") or {}
        # Both are RFC 3339 in UTC without fractions, and so in order as text.
        if (
            status.get("phase") == "Running"
            and str(status.get("startTime") or "9") < changed.get(metadata["namespace"], "")
            and _mounts_trust(item)
        ):
            found.append(
                {
                    "what": "pod",
                    "path": "%s/%s" % (metadata["namespace"], metadata["name"]),
                    "why": "began before its ca.crt changed, and may have read it only once: restart it",
                }
            )
    return found


def _mounts_trust(pod: dict[str, Any]) -> bool:
    """Return whether a pod has a service account's ca.crt: in a projected volume, or in a token secret's (before 1.21)."""
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        sources = (volume.get("projected") or {}).get("sources") or []
        if any((source.get("configMap") or {}).get("name") == trust_objects.ROOT for source in sources):
            return True
        if "-token-" in str((volume.get("secret") or {}).get("secretName")):
            return True
    return False


def _ca_bundles(api: Api, bundle: bytes, signer: str) -> list[dict[str, str]]:
    """Return webhooks and APIServices that verify their servers with a CA of this cluster which does not sign any more."""
    ours = trust_objects.digests(bundle)
    found: list[dict[str, str]] = []
    webhooks = "/apis/admissionregistration.k8s.io/v1/%swebhookconfigurations"
    for kind in ("mutating", "validating"):
        for item in api.list(webhooks % kind):
            for hook in item.get("webhooks") or []:
                found += _verifies(
                    (hook.get("clientConfig") or {}).get("caBundle"),
                    ours,
                    signer,
                    kind + " webhook",
                    "%s/%s" % (item["metadata"]["name"], hook.get("name")),
                )
    for item in api.list("/apis/apiregistration.k8s.io/v1/apiservices"):
        found += _verifies((item.get("spec") or {}).get("caBundle"), ours, signer, "APIService", item["metadata"]["name"])
    return found


def _verifies(encoded: str | None, ours: set[str], signer: str, what: str, path: str) -> list[dict[str, str]]:
    trusted = trust_objects.digests(base64.b64decode(encoded)) if encoded else set()
    if trusted & ours and signer not in trusted:
        return [{"what": what, "path": path, "why": "its caBundle lacks the authority that signs"}]
    return []
