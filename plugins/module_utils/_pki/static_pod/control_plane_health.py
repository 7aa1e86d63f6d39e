# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a control plane can lose one of its nodes for a moment: every apiserver is ready, etcd has all its members."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Collection, Dict, Iterator, List, Optional, Sequence, Tuple

from ..endpoint import health_checks, http_client, parallel
from ..errors import PkiError
from ..etcd import etcd_members
from ..fileio import reading
from ..kubeadm import kubeconfig, layouts
from ..kubeadm.addresses import join_host_port, split_host_port

_ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"

_FIX = "Bring it back before a node is touched; `journalctl -u kubelet` and /var/log/pods on that node say why it is down."

_FIX_EXPIRED = "Something has expired. The playbook recover renews it, and does not need a healthy control plane."


def look(
    layout: layouts.Layout, addresses: Sequence[str] = (), skip: Collection[str] = (), timeout: float = 3.0
) -> Dict[str, Any]:
    """Look once at the control plane from one of its nodes (or from a node of an external etcd).

    layout: layouts.Layout. addresses: of the apiservers; none means the hosts of etcd's members, or where etcd is external those
    that the apiservers themselves have put into the endpoints of the service `kubernetes`. skip: addresses that are not asked.

    Gives {"healthy": bool, "problems": [str],
    "apiservers": [{"address", "ready", "seen"}], "etcd": {"healthy": int, "quorum": int, "members": [{"name", "url", "healthy",
    "seen", "leader", "learner"}]} or None}. Changes nothing and raises no PkiError: what cannot be asked is a problem.
    """
    return _look(layout, addresses, skip, timeout)[0]


def _look(layout: layouts.Layout, addresses: Sequence[str], skip: Collection[str], timeout: float) -> Tuple[Dict[str, Any], Any]:
    """(what look() gives, why only this node's own apiserver was asked, or None)."""
    result: Dict[str, Any] = {"apiservers": [], "etcd": None, "problems": []}
    members, trouble = _members(layout, result["problems"], timeout), None
    if layout.role == layouts.CONTROL_PLANE:
        hosts: List[Any] = list(addresses)
        own = layout.advertise_address or "127.0.0.1"
        if not hosts and "etcd" in layout.parsed:
            hosts = sorted({split_host_port(url)[0] for item in members for url in item["client_urls"][:1]})
        elif not hosts:
            hosts, trouble = _advertised(layout, own, timeout)
        _apiservers(layout, [host for host in hosts or [own] if host not in skip], result, timeout)
    if members:
        _etcd(layout, [item for item in members if not _skipped(item, skip)], len(members), result, timeout)
    result["healthy"] = not result["problems"]
    return result, trouble


def wait(
    layout: layouts.Layout,
    seconds: float,
    expect: int = 0,
    addresses: Sequence[str] = (),
    skip: Collection[str] = (),
    timeout: float = 3.0,
    known: int = 0,
) -> Dict[str, Any]:
    """Look until all is well, for at most `seconds`. Returns the last result, with "waited" (seconds).

    expect: how many apiservers and members of a stacked etcd there have to be; 0 does not count. known: how many hosts of the
    inventory can be members of a stacked etcd, 0 for not asking; with more members than that there is nothing to wait for. An
    external etcd's members are nobody's business here, and it is the apiservers that must not be more than expected.
    """
    began = time.monotonic()
    while True:
        result, trouble = _look(layout, addresses, skip, timeout)
        _count(layout, result, expect - len(skip), trouble, bool(known))
        strangers = "etcd" in layout.parsed and _unknown_members(result, known)
        result["waited"] = round(time.monotonic() - began, 2)
        if result["healthy"] or strangers or result["waited"] >= seconds:
            return result
        time.sleep(0.3)


def require(result: Dict[str, Any]) -> None:
    """Raise PkiError that names every problem of a look, unless there is none."""
    if not result["healthy"]:
        problems = "; ".join(result["problems"])
        raise PkiError(
            "the control plane is not healthy (waited %.0f s): %s" % (result["waited"], problems),
            fix=_FIX_EXPIRED if "expired" in problems else _FIX,
        )


def _count(layout: layouts.Layout, result: Dict[str, Any], expect: int, trouble: Optional[str], whole: bool) -> None:
    if expect <= 0:
        return
    known = [item["address"] for item in result["apiservers"]]
    if layout.role == layouts.CONTROL_PLANE and len(known) < expect:
        result["problems"].append(
            "%d apiservers are known, where %d control-plane nodes are expected%s"
            % (len(known), expect, "" if trouble is None else " (this one does not name the others: %s)" % trouble)
        )
    elif whole and layout.role == layouts.CONTROL_PLANE and "etcd" not in layout.parsed and len(known) > expect:
        # No reason to end at once: an apiserver that was taken away is named for some seconds more.
        result["problems"].append(
            "there are %d apiservers (%s), and the inventory of this run names only %d control-plane nodes; run it with the "
            "whole inventory, and in AWX without job slices" % (len(known), ", ".join(known), expect)
        )
    if (
        result["etcd"]
        and "etcd" in layout.parsed
        and layout.role == layouts.CONTROL_PLANE
        and len(result["etcd"]["members"]) < expect
    ):
        result["problems"].append(
            "etcd has %d members, where %d control-plane nodes are expected" % (len(result["etcd"]["members"]), expect)
        )
    result["healthy"] = not result["problems"]


def _unknown_members(result: Dict[str, Any], known: int) -> bool:
    """Whether etcd has more members than the inventory knows, as in a slice of a job; then that is a problem."""
    members = [item["name"] or item["url"] for item in (result["etcd"] or {}).get("members", [])]
    if not 0 < known < len(members):
        return False
    result["problems"].append(
        "etcd has %d members (%s), and the inventory of this run names only %d nodes that can be one; run it with the whole "
        "inventory, and in AWX without job slices" % (len(members), ", ".join(members), known)
    )
    result["healthy"] = False
    return True


def _skipped(member: Dict[str, Any], skip: Collection[str]) -> bool:
    return any(split_host_port(url)[0] in skip for url in member["client_urls"])


def _clients(layout: layouts.Layout, *names: str) -> Any:
    """Those of the named certificates that this node has with their keys: [(certificate path, key path)]."""
    pairs = [layout.paths.get(name) or (None, None) for name in names]
    return [
        (certificate, key)
        for certificate, key in pairs
        if certificate and key and os.path.exists(certificate) and os.path.exists(key)
    ]


def _etcd_clients(layout: layouts.Layout) -> Any:
    # What is to be renewed must not be what closes the way to its renewal.
    return _clients(layout, "etcd-healthcheck-client", "apiserver-etcd-client", "etcd-server")


def _apiserver_clients(layout: layouts.Layout) -> Iterator[Any]:
    """As whom an apiserver can be asked, one after the other: its own client, then admin.conf."""
    yield from _clients(layout, "apiserver-kubelet-client")
    yield from filter(None, (_admin(layout),))


@contextlib.contextmanager
def _accepted_client() -> Iterator[None]:
    """Pass over a client that is refused; whatever else there is stays an error."""
    try:
        yield
    except PkiError as error:
        if not error.refused:
            raise


def _ca(layout: layouts.Layout, name: str) -> Optional[str]:
    path = (layout.paths.get(name) or (None,))[0]
    return path if path and os.path.exists(path) else None


def _advertised(layout: layouts.Layout, own: str, timeout: float) -> Tuple[List[str], Optional[str]]:
    """(addresses of all apiservers as they registered themselves, this node's own among them; why they are not known, or None).

    Each keeps its own there while it serves (Kubernetes: pkg/controlplane/reconcilers/lease.go) and takes it out when it ends;
    one that was killed stays for 15 seconds.
    """
    url = "https://%s%s" % (join_host_port(own, _port(layout)), _ENDPOINTS)
    try:
        answer = None
        for client in _apiserver_clients(layout):
            with _accepted_client():
                answer = http_client.http_request(url, ca_path=_ca(layout, "ca"), client=client, timeout=timeout)
                if answer.status not in (401, 403):
                    break
        if answer is None or answer.status != 200:
            return [own], "no client of this node may ask" if answer is None else "HTTP %d for %s" % (answer.status, _ENDPOINTS)
        subsets = answer.json().get("subsets") or []
        found = {item["ip"] for subset in subsets for item in (subset.get("addresses") or []) if item.get("ip")}
        return sorted(found | {own}), None
    except PkiError as error:
        return [own], error.message


def _members(layout: layouts.Layout, problems: List[str], timeout: float) -> List[Dict[str, Any]]:
    urls, own = _etcd_urls(layout)
    if not urls:
        return []
    clients = _etcd_clients(layout)
    peer = (layout.flags.get("etcd", {}).get("--initial-advertise-peer-urls") or "").split(",")[0]
    trouble = None
    for url in urls:
        try:
            return etcd_members.members(
                url,
                ca_path=_ca(layout, "etcd-ca"),
                client=clients,
                peer_url=peer if own and peer else None,
                peer_client=_clients(layout, "etcd-peer"),
                timeout=timeout,
            )
        except PkiError as error:
            trouble = error
    if not own:
        # An external etcd may keep its members to itself (no JSON gateway, or users of its own); those named answer for it.
        return [{"id": url, "name": "", "client_urls": [url], "peer_urls": [], "learner": False, "named": True} for url in urls]
    problems.append("etcd's members are unknown: %s" % trouble)
    return []


def _etcd_urls(layout: layouts.Layout) -> Tuple[List[str], bool]:
    """(client URLs of etcd to ask, whether that etcd runs on this node)."""
    own = layout.flags.get("etcd", {}).get("--listen-client-urls") or layout.flags.get("etcd", {}).get("--advertise-client-urls")
    if own:
        return own.split(","), True
    return (layout.flags.get("kube-apiserver", {}).get("--etcd-servers") or "").split(",") if layout.flags.get(
        "kube-apiserver", {}
    ).get("--etcd-servers") else [], False


def _port(layout: layouts.Layout) -> int:
    port = layout.flags.get("kube-apiserver", {}).get("--secure-port", "")
    return int(port) if port.isdigit() else 6443


def _apiservers(layout: layouts.Layout, hosts: Sequence[str], result: Dict[str, Any], timeout: float) -> None:
    port = _port(layout)
    ca = _ca(layout, "ca")

    def call(host: str) -> Callable[[], http_client.Answer]:
        def ask() -> http_client.Answer:
            answer = None
            for client in _apiserver_clients(layout):
                with _accepted_client():
                    answer = _ready(host, port, ca, client, timeout)
                    if answer.status not in (401, 403):
                        return answer
            return answer or _ready(host, port, ca, None, timeout)

        return ask

    answers = parallel.run_parallel({host: call(host) for host in hosts})
    for host in hosts:
        answer = answers[host]
        if isinstance(answer, PkiError):
            ready, seen = False, answer.message
        elif answer.expired:
            ready, seen = False, "serves an expired certificate"
        else:
            ready = answer.status == 200
            seen = "HTTP %d%s" % (answer.status, "" if ready else health_checks.failed_checks(answer))
            if answer.status in (401, 403):
                seen += " for /readyz, to everybody: apiserver-kubelet-client, admin.conf, and without a certificate"
        result["apiservers"].append({"address": join_host_port(host, port), "ready": ready, "seen": seen})
        if not ready:
            result["problems"].append("the apiserver at %s is not ready: %s" % (join_host_port(host, port), seen))


def _ready(host: str, port: int, ca: Optional[str], client: Any, timeout: float) -> http_client.Answer:
    """Ask one apiserver for /readyz: its Answer. Raises PkiError as http_request().

    Where the client certificate is refused, it is asked again without: readiness is public in a default cluster
    (ClusterRole system:public-info-viewer).
    """
    url = "https://%s/readyz?verbose" % join_host_port(host, port)
    answer = http_client.http_request(url, ca_path=ca, client=client, timeout=timeout)
    if answer.status in (401, 403) and client:
        with contextlib.suppress(PkiError):
            second = http_client.http_request(url, ca_path=ca, timeout=timeout)
            if second.status not in (401, 403):
                return second
    return answer


def _admin(layout: layouts.Layout) -> Optional[Tuple[bytes, bytes]]:
    """The client pair of admin.conf as PEM bytes, or None where there is none to be used."""
    path = os.path.join(layout.kubernetes_dir, "admin.conf")
    try:
        found = kubeconfig.Kubeconfig(reading.read(path), path)
    except PkiError:
        return None
    return (found.certificate_data, found.key_data) if found.certificate_data and found.key_data else None


def _etcd(layout: layouts.Layout, members: Sequence[Dict[str, Any]], total: int, result: Dict[str, Any], timeout: float) -> None:
    client, ca = _etcd_clients(layout), _ca(layout, "etcd-ca")
    urls = {item["id"]: item["client_urls"][0] for item in members if item["client_urls"]}
    seen = parallel.run_parallel(
        {key: (lambda url=url: etcd_members.health(url, ca_path=ca, client=client, timeout=timeout)) for key, url in urls.items()}
    )
    leader = next(
        filter(None, (etcd_members.leader(url, ca, client, timeout) for key, url in urls.items() if seen[key][0])), None
    )
    described = []
    for item in members:
        healthy, text = seen.get(item["id"], (False, "has never started"))
        described.append(
            {
                "name": item["name"],
                "url": urls.get(item["id"]),
                "healthy": healthy,
                "seen": text,
                "leader": item["id"] == leader,
                "learner": item["learner"],
            }
        )
        if not healthy:
            result["problems"].append(
                "etcd's member %s (%s) is not healthy: %s"
                % (item["name"] or item["id"], urls.get(item["id"]) or ", ".join(item["peer_urls"]), text)
            )
    voters = total - sum(1 for item in members if item["learner"])
    result["etcd"] = {"members": described, "healthy": sum(1 for item in described if item["healthy"]), "quorum": voters // 2 + 1}
    # Who answers a linearizable read has a leader.
    if urls and leader is None and not result["problems"] and not any(item.get("named") for item in members):
        result["problems"].append("etcd has no leader")
