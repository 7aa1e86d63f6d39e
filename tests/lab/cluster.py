# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forming the cluster with kubeadm on nodes that run, and telling whether it is whole."""

from __future__ import annotations

import base64
import hashlib
import http.client
import ssl
import threading
from typing import TYPE_CHECKING

from .client import Endpoint, Identity, Request, fetch
from .errors import LabError
from .kubeadm import API_PORT, Bootstrap, init_config, join_config
from .layer import Layer
from .shell import parallel, wait_for

if TYPE_CHECKING:
    from .lab import Lab

_CONFIG = "/etc/kubepki-lab/kubeadm.yaml"


def form(lab: Lab, content: Layer) -> None:
    """``kubeadm init`` on cp1, then all joins: workers at once, each control plane when the last one's etcd serves."""
    state = lab.state
    boot = Bootstrap(content.version, content.registry, content.etcd_tag, state.token, state.certificate_key)
    _write(lab, "cp1", init_config(boot, "cp1", lab.control_planes["cp1"]))
    lab.progress.step("kubeadm init on cp1")
    _kubeadm(lab, "cp1", "init --upload-certs --skip-phases=preflight,addon")
    ca_hash = _ca_hash(lab)

    def join(name: str) -> None:
        _write(lab, name, join_config(boot, name, ca_hash, lab.control_planes.get(name)))
        _kubeadm(lab, name, "join --skip-phases=preflight")
        lab.progress.step(f"{name} has joined")

    def join_planes() -> None:
        joining: dict[str, threading.Thread] = {}
        errors: list[BaseException] = []

        def guarded(name: str) -> None:
            try:
                join(name)
            except BaseException as exc:
                errors.append(exc)

        for name in list(lab.control_planes)[1:]:
            joining[name] = threading.Thread(target=guarded, args=(name,), name=f"join-{name}", daemon=True)
            joining[name].start()
            # etcd takes one new member at a time; what comes after that overlaps with the next node's join.
            while joining[name].is_alive() and not etcd_member_serves(lab, name):
                joining[name].join(0.5)
            if errors:
                break
        for thread in joining.values():
            thread.join()
        if errors:
            raise errors[0]

    _wait_for_token(lab)
    lab.progress.step(f"kubeadm join on {', '.join(list(lab.addresses)[1:]) or 'no other node'}")
    parallel({"control planes": join_planes, **{w: (lambda w=w: join(w)) for w in lab.workers}})  # type: ignore[misc]
    lab.progress.step("waiting until every node is Ready")
    wait_healthy(lab, 240)


def _wait_for_token(lab: Lab) -> None:
    """Wait until cluster-info is signed with the join token; kubeadm join would look again only every five seconds."""
    key = f"jws-kubeconfig-{lab.state.token.split('.')[0]}"

    def missing() -> str | None:
        try:
            status, answer = lab.api("/api/v1/namespaces/kube-public/configmaps/cluster-info")
        except (OSError, ValueError) as exc:
            return str(exc)
        return None if status == 200 and key in answer.get("data", {}) else "cluster-info is not signed yet"

    wait_for(
        missing,
        seconds=120,
        failure=lambda seen: LabError(f"the controller manager does not sign the join token: {seen}", node="cp1"),
    )


def _write(lab: Lab, name: str, text: str) -> None:
    path = lab.path(name, _CONFIG)
    path.write_text(text)
    path.chmod(0o600)


def _kubeadm(lab: Lab, name: str, words: str) -> None:
    verb, _space, rest = words.partition(" ")
    log = lab.logs / f"kubeadm-{verb}-{name}.log"
    try:
        lab.run(name, f"kubeadm {verb} --config {_CONFIG} {rest} --v=1", log=log, timeout=400, what=f"kubeadm {verb} failed")
    except LabError as exc:
        # kubeadm only says that the kubelet does not work; the kubelet says why.
        kubelet = lab.run(
            name, "journalctl -u kubelet -o cat --no-pager | grep -E '^[EF][0-9]{4}|err=' | tail -n 5", check=False, timeout=30
        ).stdout
        lines = [line for line in (exc.log or "").splitlines() if not line.startswith("\t")]
        exc.log = "\n".join([*lines[-6:], *(f"kubelet: {line[:300]}" for line in kubelet.splitlines())])
        raise


def _ca_hash(lab: Lab) -> str:
    """kubeadm's pin of the cluster CA: SHA-256 over its public key (DER)."""
    pem = lab.run("cp1", "openssl x509 -noout -pubkey -in /etc/kubernetes/pki/ca.crt").stdout
    body = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    return "sha256:" + hashlib.sha256(base64.b64decode(body)).hexdigest()


def apiserver_ready(lab: Lab, address: str) -> bool:
    """Whether the apiserver at this address answers 200 on /readyz, asked as anybody may."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, API_PORT, timeout=2, context=context)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ready_nodes(lab: Lab) -> dict[str, bool] | None:
    """Node name -> whether the API says it is Ready; None when the API does not answer."""
    try:
        status, answer = lab.api("/api/v1/nodes")
    except (OSError, ValueError):
        return None
    if status != 200:
        return None
    return {
        item["metadata"]["name"]: any(
            c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", [])
        )
        for item in answer["items"]
    }


def etcd_members(lab: Lab) -> dict[str, bool]:
    """Control-plane node -> whether its etcd member answers a linearizable read (so has quorum)."""
    return {name: etcd_member_serves(lab, name) for name in lab.control_planes}


def etcd_member_serves(lab: Lab, name: str) -> bool:
    """Whether the etcd member of this control plane answers a linearizable read."""
    address = lab.control_planes[name]
    try:
        return fetch(Endpoint(address, 2379, address), etcd_identity(lab, name), ETCD_READ, 3)[0] == 200
    except (OSError, ValueError, http.client.HTTPException):
        return False


#: A linearizable read of a key that need not exist, through etcd's JSON gateway.
ETCD_READ = Request("/v3/kv/range", method="POST", body='{"key":"aGVhbHRo"}')


def etcd_identity(lab: Lab, node: str = "cp1") -> Identity:
    """An etcd client as a node's own health checks are: its healthcheck-client certificate, as it is now."""
    base = lab.path(node, "/etc/kubernetes/pki/etcd")
    return Identity(
        (base / "ca.crt").read_bytes(),
        (base / "healthcheck-client.crt").read_bytes(),
        (base / "healthcheck-client.key").read_bytes(),
    )


def problems(lab: Lab) -> list[str]:
    """What keeps the cluster from being whole, as phrases; empty when every part serves."""
    found = [f"the apiserver of {n} does not serve" for n, a in lab.control_planes.items() if not apiserver_ready(lab, a)]
    found += [f"the etcd member of {n} does not serve" for n, ok in etcd_members(lab).items() if not ok]
    ready = ready_nodes(lab)
    if ready is None:
        found.append("the API does not answer through the balancer")
    else:
        found += [f"node {n} is not Ready" for n in lab.addresses if not ready.get(n)]
    return found


def wait_healthy(lab: Lab, seconds: float) -> None:
    """Wait until ``problems`` finds nothing; LabError with what is still wrong after ``seconds``."""

    def missing() -> str | None:
        return "; ".join(problems(lab)) or None

    wait_for(
        missing,
        seconds=seconds,
        interval=0.5,
        failure=lambda seen: LabError(
            f"the cluster is not whole after {seconds:.0f} s: {seen}",
            fix=f"look at the kubelet: python3 -m tests.lab ssh --name {lab.name} cp1 journalctl -u kubelet",
        ),
    )
