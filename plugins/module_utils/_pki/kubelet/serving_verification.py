# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who verifies the kubelets: an API server with --kubelet-certificate-authority, and whether it could reach them all then."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from ..endpoint import parallel, tls
from ..errors import PkiError, printable
from ..kube_api import api_client
from ..kubeadm import addresses
from ..kubeadm.layouts import Layout

# A Node as the API returns it.
NodeObject = Dict[str, Any]

FLAG = "kubelet-certificate-authority"

_APISERVER = "kube-apiserver"

_AT_ONCE = 64

# cmd/kube-apiserver/app/options: the default of --kubelet-preferred-address-types
_DIALLED = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"


class KubeletVerification:
    """What this node's API server verifies kubelets with.

    path: the file that its flag names, else the cluster's ca.crt. types: --kubelet-preferred-address-types or None. server: URL
    of this very API server.
    """

    def __init__(self, layout: Layout) -> None:
        """layout: layouts.Layout. Raises PkiError when no API server of kubeadm's kind is on this node."""
        flags = layout.flags.get(_APISERVER)
        if flags is None or not layout.advertise_address:
            raise PkiError(
                "there is no manifest of %s on this node" % _APISERVER,
                path=layout.manifest_dir,
                fix="Run this on a control-plane node.",
            )
        self.named = flags.get("--" + FLAG)
        self.path = self.named or layout.paths["ca"][0]
        self.types = flags.get("--kubelet-preferred-address-types")
        port = flags.get("--secure-port", "6443")
        self.server = "https://" + addresses.join_host_port(layout.advertise_address, int(port) if port.isdigit() else 6443)

    def edits(self, wanted: bool) -> Dict[str, Dict[str, Optional[str]]]:
        """Return the change of the manifest, as restart_pods() takes it, that sets the flag or takes it away; {} for none."""
        if bool(self.named) == wanted:
            return {}
        return {_APISERVER: {"--" + FLAG: self.path if wanted else None}}


def require_verified(items: Sequence[NodeObject], types: Optional[str], ca_pem: bytes, timeout: float = 10.0) -> None:
    """Raise one PkiError that names the Nodes of unverified(), if there are any."""
    _require(
        unverified(items, types, ca_pem, timeout),
        len(items),
        "would be refused by an API server that verifies kubelets, so nothing was changed",
        "The playbook reissue_kubelets with kubepki_kubelet_serving=bootstrap has their certificates signed by the cluster.",
    )


def wait_reached(api: api_client.Api, items: Sequence[NodeObject], deadline: float) -> None:
    """Wait until reached() names no Node, for at most deadline seconds. Raises one PkiError that names the Nodes that are left.

    An API server that has just started, or a pod that restarts with it, may need a moment.
    """
    end, left = time.monotonic() + deadline, items
    while True:
        found = reached(api, left)
        if not found or time.monotonic() > end:
            break
        left = [item for item in items if item["metadata"]["name"] in found]
        time.sleep(0.5)
    _require(
        found,
        len(items),
        "cannot be reached through this API server",
        "kubepki_kubelet_authority=remove takes the verification away again; the kubelets' journals say more.",
        api.server,
    )


def _require(found: Dict[str, str], count: int, what: str, fix: str, path: Optional[str] = None) -> None:
    if found:
        shown = "; ".join("%s (%s)" % item for item in sorted(found.items())[:5])
        raise PkiError(
            "%d of %d kubelets %s: %s%s"
            % (len(found), count, what, shown, " and %d more" % (len(found) - 5) if len(found) > 5 else ""),
            path=path,
            fix=fix,
        )


def dialled(item: NodeObject, types: Optional[str]) -> Optional[Tuple[str, int]]:
    """Return (address, port) at which an API server reaches a Node's kubelet, or None when it has none of these types.

    item: Node object. types: --kubelet-preferred-address-types, or None for its default (pkg/util/node: GetPreferredNodeAddress).
    """
    status = item.get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 10250
    for kind in (types or _DIALLED).split(","):
        for entry in status.get("addresses") or []:
            if entry.get("type") == kind.strip() and entry.get("address"):
                return entry["address"], port
    return None


def unverified(items: Sequence[NodeObject], types: Optional[str], ca_pem: bytes, timeout: float = 5.0) -> Dict[str, str]:
    """Return {node name: why} of the Nodes whose kubelets an API server would refuse that verifies them with a CA bundle.

    items: Node objects. types: as in dialled(). ca_pem: PEM bytes. Asks some dozens at the same time.
    """
    found: Dict[str, str] = {}
    calls: Dict[str, Tuple[str, int]] = {}
    for item in items:
        name, place = item["metadata"]["name"], dialled(item, types)
        if place is None:
            found[name] = "has no address of the types %s" % (types or _DIALLED)
        else:
            calls[name] = place
    names = sorted(calls)
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        answers = parallel.run_parallel({name: _verification(calls[name], ca_pem, timeout) for name in some})
        found.update(
            {name: "%s: %s" % (answer.path, answer.message) for name, answer in answers.items() if isinstance(answer, PkiError)}
        )
    return found


def _verification(place: Tuple[str, int], ca_pem: bytes, timeout: float) -> Callable[[], None]:
    return lambda: tls.verify(place[0], place[1], ca_pem, timeout)


def reached(api: api_client.Api, items: Sequence[NodeObject]) -> Dict[str, str]:
    """Have the API server speak to each Node's kubelet, as `kubectl logs` does. Returns {node name: why not} of those it cannot.

    items: Node objects. Where a pod runs on the node, its log is read; else the kubelet's healthz through the API server.
    """
    pods: Dict[str, Dict[str, Any]] = {}
    found: Dict[str, str] = {}
    pod: Optional[Dict[str, Any]]
    for pod in api.list("/api/v1/pods"):
        status, spec = pod.get("status") or {}, pod.get("spec") or {}
        running = [state for state in status.get("containerStatuses") or [] if "running" in (state.get("state") or {})]
        if running and spec.get("nodeName") and not (pod.get("metadata") or {}).get("deletionTimestamp"):
            pods.setdefault(spec["nodeName"], pod)
    for item in items:
        name = item["metadata"]["name"]
        path = "/api/v1/nodes/%s/proxy/healthz" % api_client.segment(name)
        pod = pods.get(name)
        if pod is not None:
            metadata = pod["metadata"]
            name_of = next(state["name"] for state in pod["status"]["containerStatuses"] if "running" in state["state"])
            path = "/api/v1/namespaces/%s/pods/%s/log?tailLines=1&container=%s" % (
                api_client.segment(metadata["namespace"]),
                api_client.segment(metadata["name"]),
                name_of,
            )
        status, body = api.raw(path)
        if status != 200:
            found[name] = "HTTP %d, %s" % (status, printable(body.decode("utf-8", "replace"), 200))
    return found
