# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API objects that carry the cluster's trust: read, updated, and waited for where a controller updates them."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING, Any, Callable, Set, Union

from ..errors import PkiError
from ..fileio import yaml_edit, yaml_load
from ..x509 import service_account_token
from ..x509.x509_read import parse_certificates
from .api_client import Api, segment

if TYPE_CHECKING:
    from ..x509.private_keys import PrivateKey

SIGNING_FLAG = "cluster-signing-cert-file"

ROOT = "kube-root-ca.crt"

CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"

_EXTENSION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"

_EXTENSION_KEYS = ("client-ca-file", "requestheader-client-ca-file")

# What kube-controller-manager publishes of --root-ca-file (pkg/controller/certificates/clustertrustbundlepublisher).
BUNDLE_SIGNER = "kubernetes.io/kube-apiserver-serving"

_BUNDLES = "/apis/certificates.k8s.io/%s/clustertrustbundles"

POLL = 0.3

_SETTLED = 5.0  # seconds: an API server that adds an old CA again does so as soon as it sees the change

Digests = Callable[[Union[str, bytes, None]], Set[str]]  # digests, or certificates_in


def digests(pem: str | bytes | None) -> set[str]:
    """Return the public-key digests of a PEM bundle; empty where it holds none."""
    data = pem.encode("utf-8") if isinstance(pem, str) else pem or b""
    try:
        return {item.key_sha256 for item in parse_certificates(data)}
    except PkiError:
        return set()


def certificates_in(pem: str | bytes | None) -> set[str]:
    """Return the digests of the certificates of a PEM bundle: one that is renewed with the same key is another one."""
    data = pem.encode("utf-8") if isinstance(pem, str) else pem or b""
    try:
        return {item.sha256 for item in parse_certificates(data)}
    except PkiError:
        return set()


def trust_name(bundle: str | bytes | None, of: Digests = digests) -> str:
    """Return a short name of the CAs of a bundle, the same in any order."""
    return hashlib.sha256("".join(sorted(of(bundle))).encode("ascii")).hexdigest()[:16]


def cluster_info_place(text: str) -> tuple[str | int, ...]:
    """Return where cluster-info holds the CA that joining nodes trust, as a place for YamlText.

    The entry without a name, else that of the current context (kubeadm: util/kubeconfig.GetClusterFromKubeConfig). Other entries
    are not this cluster's. Raise PkiError where there is none.
    """
    data = yaml_load.load_mapping(text, "cluster-info")
    clusters, contexts = (
        [entry if isinstance(entry, dict) else {} for entry in data.get(kind) or []] for kind in ("clusters", "contexts")
    )
    current = next(
        ((entry.get("context") or {}).get("cluster") for entry in contexts if entry.get("name") == data.get("current-context")),
        None,
    )
    names = [entry.get("name") or "" for entry in clusters]
    index = names.index("") if "" in names else 0 if len(names) == 1 else names.index(current) if current in names else None
    if index is None:
        raise PkiError(
            "no cluster entry is that of its current context",
            path="kube-public/cluster-info",
            fix="Correct it: kubectl -n kube-public edit configmap cluster-info.",
        )
    return ("clusters", index, "cluster", "certificate-authority-data")


def publish_cluster_info(api: Api, bundle: bytes, check: bool = False) -> bool:
    """Make cluster-info, by which nodes join, trust a bundle (PEM). Return whether it had to change."""
    wanted = base64.b64encode(bundle).decode("ascii")

    def change(found: dict[str, Any]) -> dict[str, Any] | None:
        text = (found.get("data") or {}).get("kubeconfig")
        if not text:
            return None  # kubeadm init --skip-phases=bootstrap-token: no node joins by it
        document = yaml_edit.YamlText(text, "cluster-info")
        place = cluster_info_place(text)
        if document.get(place) == wanted:
            return None
        document.set(place, wanted)
        return {"data": {"kubeconfig": document.text}}

    return api.update(CLUSTER_INFO, change, check=check)


def lagging_roots(api: Api, bundle: bytes, of: Digests = digests) -> list[str]:
    """Return the namespaces whose kube-root-ca.crt does not trust exactly what a bundle does."""
    wanted = of(bundle)
    return sorted(
        item["metadata"]["namespace"] for item in root_maps(api) if of((item.get("data") or {}).get("ca.crt") or "") != wanted
    )


def root_maps(api: Api) -> list[dict[str, Any]]:
    """Return the ConfigMaps kube-root-ca.crt of all namespaces."""
    return api.call("GET", "/api/v1/configmaps", query={"fieldSelector": "metadata.name=" + ROOT}).get("items") or []


def lagging_secrets(api: Api, bundle: bytes, of: Digests = digests) -> list[str]:
    """Return namespace/name of the service-account token secrets whose ca.crt does not trust exactly what a bundle does."""
    wanted = of(bundle)
    items = (
        api.call("GET", "/api/v1/secrets", query={"fieldSelector": "type=kubernetes.io/service-account-token"}).get("items") or []
    )
    found = []
    for item in items:
        data = (item.get("data") or {}).get("ca.crt")
        if data and of(base64.b64decode(data)) != wanted:
            found.append("%s/%s" % (item["metadata"]["namespace"], item["metadata"]["name"]))
    return sorted(found)


def published_bundles(api: Api) -> list[dict[str, Any]]:
    """Return the ClusterTrustBundles of BUNDLE_SIGNER; [] where the cluster has none, or not the API (1.33)."""
    for version in ("v1", "v1beta1", "v1alpha1"):
        found = api.get(_BUNDLES % version)
        if found is not None:
            return [item for item in found.get("items") or [] if (item.get("spec") or {}).get("signerName") == BUNDLE_SIGNER]
    return []


def lagging_bundles(api: Api, bundle: bytes, of: Digests = digests) -> list[str]:
    """Return the names of the published ClusterTrustBundles that do not trust exactly what a bundle does, sorted.

    One that has nothing in common with the bundle is another CA's.
    """
    wanted, ours, found = of(bundle), digests(bundle), []
    for item in published_bundles(api):
        text = item["spec"].get("trustBundle") or ""
        if digests(text) & ours and of(text) != wanted:
            found.append(item["metadata"]["name"])
    return sorted(found)


def wait_followers(api: Api, bundle: bytes, seconds: float, of: Digests = digests) -> float:
    """Wait until kube-root-ca.crt of every namespace, the token secrets and the published ClusterTrustBundles follow.

    Return the seconds that it took. Raise PkiError when time is up.
    """
    began = time.monotonic()
    while True:
        roots, secrets = lagging_roots(api, bundle, of), lagging_secrets(api, bundle, of)
        published = lagging_bundles(api, bundle, of)
        passed = time.monotonic() - began
        if not roots and not secrets and not published:
            return round(passed, 1)
        if passed > seconds:
            first = (
                ["ConfigMap %s/kube-root-ca.crt" % name for name in roots[:1]]
                + ["Secret " + name for name in secrets[:1]]
                + ["ClusterTrustBundle " + name for name in published[:1]]
            )[0]
            raise PkiError(
                "%d namespaces, %d token secrets and %d ClusterTrustBundles have not followed the cluster's trust within %d s"
                % (len(roots), len(secrets), len(published), seconds),
                path=first,
                fix="See kube-controller-manager's log (--root-ca-file); run again when it follows.",
            )
        time.sleep(POLL)


def renew_tokens(api: Api, signer: PrivateKey, check: bool = False) -> list[str]:
    """Sign the token secrets again that another key than the signer signed. Return their "namespace/name".

    The new token replaces the old one in one write. kube-controller-manager would fill in a missing one
    (pkg/controller/serviceaccount/tokens_controller.go), but a kubelet that syncs meanwhile removes the file from its pods
    until its next sync, up to a minute later. A token with other claims than that controller's is left to the controller.
    """
    items = (
        api.call("GET", "/api/v1/secrets", query={"fieldSelector": "type=kubernetes.io/service-account-token"}).get("items") or []
    )
    accounts = {
        tuple(item["metadata"].get(key) for key in ("namespace", "name", "uid"))
        for item in api.call("GET", "/api/v1/serviceaccounts").get("items") or []
    }

    def change(item: dict[str, Any]) -> dict[str, Any] | None:
        token = base64.b64decode((item.get("data") or {}).get("token") or "")
        if service_account_token.signing_key_digest(token) in (None, signer.key_sha256):
            return None
        again = service_account_token.resign_token(item, token, signer, accounts)
        return {"data": {"token": base64.b64encode(again).decode("ascii") if again else None}}

    renewed = []
    for item in items:
        namespace, name = (item["metadata"].get(key) or "" for key in ("namespace", "name"))
        if api.update("/api/v1/namespaces/%s/secrets/%s" % (segment(namespace), segment(name)), change, item, check):
            renewed.append("%s/%s" % (namespace, name))
    return sorted(renewed)


def extension_trust(api: Api, of: Digests = digests) -> tuple[set[str], ...] | None:
    """Return ({digests of client CAs}, {digests of request-header CAs}) of extension-apiserver-authentication, or None."""
    found = api.get(_EXTENSION)
    return tuple(_extension_trust(found, of).values()) if found is not None else None


def _extension_trust(found: dict[str, Any], of: Digests) -> dict[str, set[str]]:
    return {key: of((found.get("data") or {}).get(key) or "") for key in _EXTENSION_KEYS}


def wait_extension(
    api: Api,
    client: bytes,
    header: bytes,
    exact: bool,
    seconds: float,
    check: bool = False,
    of: Digests = digests,
    settled: float = _SETTLED,
) -> bool:
    """Wait until extension-apiserver-authentication trusts the bundles client and header (PEM bytes).

    exact: and no other CA. The API servers only add to it (pkg/controlplane/controller/clusterauthenticationtrust), so surplus
    CAs are removed here, and again each time an API server adds them that has not reloaded its files yet (once a minute).
    settled: seconds in which none may have added them again. Return whether it had to change. Raise PkiError when time is up.
    """
    bundles = dict(zip(_EXTENSION_KEYS, (client, header)))
    wanted = {key: of(bundle) for key, bundle in bundles.items()}

    def change(found: dict[str, Any]) -> dict[str, Any] | None:
        seen = _extension_trust(found, of)
        surplus = [key for key in bundles if exact and seen[key] - wanted[key]]
        return {"data": {key: bundles[key].decode("utf-8") for key in surplus}} if surplus else None

    deadline = time.monotonic() + seconds
    changed: float | None = None
    while True:
        found, now = api.get(_EXTENSION), time.monotonic()
        if found is not None:
            seen, surplus = _extension_trust(found, of), change(found) is not None
            if surplus and check:
                return True
            complete = all(wanted[key] <= seen[key] for key in bundles)
            settling = changed is not None and now - changed < settled
            if complete and not surplus and not settling:
                return changed is not None
            if surplus and not settling and now <= deadline:
                if api.update(_EXTENSION, change, found):
                    changed = now
                continue
        if check:
            return False
        if now > deadline + settled:
            raise PkiError(
                "does not hold the cluster's trust within %d s" % seconds,
                path="ConfigMap kube-system/extension-apiserver-authentication",
                fix="An API server may still have the former authority: see cluster_pki, then run again.",
            )
        time.sleep(POLL)
