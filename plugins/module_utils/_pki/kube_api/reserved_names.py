# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names and addresses that belong to the API servers and to the cluster's Services, and so to no node's kubelet."""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import Any, Mapping, NamedTuple
from urllib.parse import urlsplit

from ..endpoint import parallel, tls_handshake
from ..errors import PkiError
from ..fileio import yaml_load
from ..x509 import general_names, x509_read
from .api_client import Api

_KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"

_SERVICE = "/api/v1/namespaces/default/services/kubernetes"

_ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"

_SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"

_DEFAULT_DOMAIN = "cluster.local"

# Of the SANs that kubeadm gives every API server, the one that ends with the cluster's domain.
_IN_CLUSTER = "kubernetes.default.svc."

_SECONDS = 3.0


class Reserved(NamedTuple):
    """What node_identity.Nodes reserves: api (names and addresses of API servers), service_networks (CIDR), domains."""

    api: set[str]
    service_networks: list[str]
    domains: set[str]


def find(api: Api, timeout: float = _SECONDS) -> Reserved:
    """Return what belongs to the API servers and Services of a cluster.

    Reads kubeadm-config, the Service and the Endpoints of the API, the ServiceCIDRs where the cluster
    has them (1.33 and newer), and the certificate of each API server that responds within the timeout (seconds, for all of them
    together). Where no network holds the API's own Service, the addresses of all Services count, too. Raise PkiError where the
    API does not respond.
    """
    config = _cluster_configuration(api)
    networking = _mapping(config.get("networking"))
    spec = _mapping((api.get(_SERVICE) or {}).get("spec"))
    own = {text for text in [spec.get("clusterIP"), *_list(spec.get("clusterIPs"))] if isinstance(text, str) and text}
    names = own | _configured(config)
    for certificate in _certificates(api, timeout):
        names |= {san.partition(":")[2] for san in certificate.sans}
    domains = {str(networking.get("dnsDomain") or _DEFAULT_DOMAIN)}
    domains |= {name[len(_IN_CLUSTER) :] for name in names if name.startswith(_IN_CLUSTER)}
    return Reserved({name for name in names if name}, _service_networks(api, networking, own), domains)


def _cluster_configuration(api: Api) -> dict[Any, Any]:
    data = _mapping((api.get(_KUBEADM) or {}).get("data"))
    text = data.get("ClusterConfiguration")
    return yaml_load.load_mapping(text, "ConfigMap kube-system/kubeadm-config") if isinstance(text, str) and text.strip() else {}


def _configured(config: Mapping[Any, Any]) -> set[str]:
    """Return the names of API servers that kubeadm-config gives: certSANs and the host of controlPlaneEndpoint."""
    sans = {san for san in _list(_mapping(config.get("apiServer")).get("certSANs")) if isinstance(san, str)}
    endpoint = config.get("controlPlaneEndpoint")
    host = urlsplit("//%s" % endpoint).hostname if isinstance(endpoint, str) and endpoint else None
    return sans | ({host} if host else set())


def _certificates(api: Api, timeout: float) -> list[x509_read.Certificate]:
    """Return the certificates of the API servers that respond: of each one in Endpoints, and of the one of this connection."""
    places: set[tuple[Any, int]] = set()
    parts = urlsplit(api.server)
    if parts.scheme == "https" and parts.hostname:
        places.add((parts.hostname, parts.port or 443))
    for subset in _list((api.get(_ENDPOINTS) or {}).get("subsets")):
        ports = [_mapping(port).get("port") for port in _list(_mapping(subset).get("ports"))]
        for address in _list(_mapping(subset).get("addresses")):
            places |= {(_mapping(address).get("ip"), port) for port in ports if isinstance(port, int)}
    calls = {place: partial(tls_handshake.served_certificate, *place, timeout=timeout) for place in places if place[0]}
    # One that does not respond hides nothing that matters: its names are those of its node and of kubeadm-config.
    return [found for found in parallel.run_parallel(calls).values() if not isinstance(found, PkiError)]


def _service_networks(api: Api, networking: Mapping[str, Any], own: set[str]) -> list[str]:
    texts = str(networking.get("serviceSubnet") or "").split(",")
    for item in _list((api.get(_SERVICE_CIDRS) or {}).get("items")):
        texts += [text for text in _list(_mapping(_mapping(item).get("spec")).get("cidrs")) if isinstance(text, str)]
    found = [text.strip() for text in texts if _is_network(text.strip())]
    networks = [ipaddress.ip_network(text, strict=False) for text in found]
    addresses = [general_names.address(text) for text in own]
    if networks and all(any(address in network for network in networks) for address in addresses if address is not None):
        return found
    for item in api.list("/api/v1/services"):
        spec = _mapping(item.get("spec"))
        found += [text for text in [spec.get("clusterIP"), *_list(spec.get("clusterIPs"))] if _is_network(text)]
    return sorted(set(found))


def _is_network(text: object) -> bool:
    if not isinstance(text, str) or not text:
        return False
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _mapping(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
