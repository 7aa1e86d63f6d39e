# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API for a node's own kubelet: with its credential, about its own Node, for its own certificates."""

from __future__ import annotations

import base64
import calendar
import json
import re
import time
from typing import Any

from ..endpoint import http_client
from ..errors import PkiError, printable
from ..fileio import reading
from ..kubeadm.kubeconfig import Kubeconfig
from ..x509.x509_read import Certificate, parse_certificate, private_key_digest

CLIENT, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"

# All three of each: before 1.27 the signers took nothing else (pkg/controller/certificates/signer).
USAGES = {
    CLIENT: ["digital signature", "key encipherment", "client auth"],
    SERVING: ["digital signature", "key encipherment", "server auth"],
}

_CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"

_SHORTEST = 600  # pkg/apis/certificates/validation: the fewest expirationSeconds


def ca_pem(config: Kubeconfig) -> bytes | None:
    """Return the CA bundle that a kubeconfig trusts, embedded or in a file (PEM); None without one. Raise PkiError."""
    return config.ca_data or (reading.read(config.ca_file) if config.ca_file else None)


class Credential:
    """What a kubelet.conf uses now. pem: (certificate, key) or None.

    problem: PkiError or None, why the pair cannot be used. path: where the certificate lies.
    """

    def __init__(self, config: Kubeconfig) -> None:
        self.certificate: Certificate | None = None
        self.pem: Any = None
        self.problem: PkiError | None = None
        self.path = config.certificate_file or config.path
        try:
            data = config.certificate_data or (reading.read(config.certificate_file) if config.certificate_file else b"")
            key_data = config.key_data or (reading.read(config.key_file) if config.key_file else b"")
            self.certificate = parse_certificate(data, self.path)
            digest = private_key_digest(key_data, config.key_file or config.path, self.certificate)
            if digest != self.certificate.key_sha256:
                raise PkiError("the private key does not belong to the certificate", path=self.path)
            self.pem = (data, key_data)
        except PkiError as error:
            self.problem = error


class KubeletApi:
    """The API server of a kubeconfig, with one credential.

    server: URL. ca: trust bundle (PEM). pair: (certificate, key) as PEM. timeout: seconds a step.
    strict: as in http_client.http_request().
    """

    def __init__(
        self,
        server: str | None,
        ca: bytes | None,
        pair: tuple[bytes, bytes] | None,
        timeout: float = 5.0,
        strict: bool = False,
    ) -> None:
        self.server, self.ca, self.pair, self.timeout = (server or "").rstrip("/"), ca, pair, timeout
        self.strict = strict

    @classmethod
    def of(cls, config: Kubeconfig, timeout: float = 5.0, strict: bool = False) -> KubeletApi:
        """Return one for a kubeconfig: its server, CA and credential. Raise PkiError when the credential is unusable."""
        credential = Credential(config)
        if credential.problem:
            raise credential.problem
        return cls(config.server, ca_pem(config), credential.pem, timeout, strict)

    def call(self, path: str, document: dict[str, Any] | None = None) -> http_client.Answer:
        """GET a path, or POST a document to it. Return the Answer. Raise PkiError without one."""
        body = json.dumps(document).encode("utf-8") if document is not None else None
        return http_client.http_request(
            self.server + path,
            "POST" if body else "GET",
            body,
            ca_pem=self.ca,
            client=self.pair,
            timeout=self.timeout,
            strict=self.strict,
        )

    def node(self, name: str) -> http_client.Answer:
        """Return the Answer about a Node."""
        return self.call("/api/v1/nodes/" + name)

    def lease(self, name: str) -> http_client.Answer:
        """Return the Answer about the lease that the Node's kubelet renews (every 10 s)."""
        return self.call("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/" + name)

    def whoami(self) -> str | None:
        """Return the user name that the API server sees (SelfSubjectReview, 1.28 and later), or None."""
        answer = self.call(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        )
        if answer.status not in (200, 201):
            return None
        return ((answer.json().get("status") or {}).get("userInfo") or {}).get("username")

    def nodes(self) -> list[dict[str, Any]]:
        """Return all Nodes as [{"metadata": {"name"}, "status": {"addresses"}}]. Raise PkiError."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            # A Node with its list of images has 15 KB.
            answer = self.call("/api/v1/nodes?limit=100" + ("&continue=" + token if token else ""))
            if answer.status != 200:
                raise PkiError("the list of Nodes was answered with HTTP %d%s" % (answer.status, said(answer)), path=self.server)
            document = answer.json()
            found += [
                {
                    "metadata": {"name": item["metadata"]["name"]},
                    "status": {"addresses": (item.get("status") or {}).get("addresses") or []},
                }
                for item in document.get("items") or []
            ]
            token = (document.get("metadata") or {}).get("continue") or ""
            if not token:
                return found


def said(answer: http_client.Answer) -> str:
    """Return the message of an Answer, in brackets after a blank; "" where it has none."""
    text = answer.json().get("message")
    return " (%s)" % str(text)[:160] if text else ""


def untrusted(error: PkiError) -> bool:
    """Return whether an error is that of a server's certificate which the CA did not sign."""
    return "not signed by the CA" in error.message


def request_certificate(api: KubeletApi, pem: str, signer: str, days: float, fix: str | None, name: str | None = None) -> str:
    """Create a CertificateSigningRequest for this node. Return its name.

    pem: the request. signer: a key of USAGES. days: the validity (from 1.22 on). fix: what to do where the API server rejects
    it. name: None for a generated one. Raise PkiError.
    """
    spec = {
        "request": base64.b64encode(pem.encode("ascii")).decode("ascii"),
        "signerName": signer,
        "usages": USAGES[signer],
        "expirationSeconds": max(_SHORTEST, int(days * 86400)),
    }
    answer = api.call(
        _CSRS,
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name} if name else {"generateName": "kubepki-"},
            "spec": spec,
        },
    )
    if answer.status not in (200, 201):
        raise PkiError(
            "the API server takes no request from this node (HTTP %d%s)" % (answer.status, said(answer)), path=api.server, fix=fix
        )
    return answer.json()["metadata"]["name"]


def wait_certificate(api: KubeletApi, name: str, timeout: float, denied: str | None, waits: str | None) -> bytes:
    """Wait until a CertificateSigningRequest is signed. Return the certificate's PEM.

    timeout: seconds. denied, waits: what to do when it was denied or failed, and when it has not been signed in time. Raise
    PkiError then, and when it is gone.
    """
    deadline, path = time.monotonic() + timeout, "CertificateSigningRequest " + name
    while True:
        answer = api.call("%s/%s" % (_CSRS, name))
        if answer.status == 404:
            raise PkiError("is gone", path=path, fix="Run the playbook again.")
        status = answer.json().get("status") or {}
        if status.get("certificate"):
            return base64.b64decode(status["certificate"])
        conditions = {item.get("type"): item for item in status.get("conditions") or []}
        for kind in ("Denied", "Failed"):
            if kind in conditions:
                raise PkiError(
                    "the cluster has not signed it: %s (%s)" % (kind, printable(conditions[kind].get("message"), 160)),
                    path=path,
                    fix=denied,
                )
        if time.monotonic() > deadline:
            raise PkiError(
                "was made, and after %d s it is %s"
                % (timeout, "approved, and not signed" if "Approved" in conditions else "not approved"),
                path=path,
                fix=waits,
            )
        time.sleep(0.2)


def node_state(
    api: KubeletApi, name: str, renewed_since: float, reported_since: float = 0.0
) -> tuple[str | None, dict[str, Any]]:
    """Return (why a Node is not Ready, or None; {"lease", "heartbeat", "ready"}).

    renewed_since, reported_since: seconds since 1970; an older lease, or an older report of the Ready condition (which
    a kubelet renews when it starts, and else every five minutes), does not count.
    """
    try:
        lease, node = api.lease(name), api.node(name)
    except PkiError as error:
        return "the API cannot be asked (%s: %s)" % (error.path, error.message), {}
    for what, answer in (("lease", lease), ("Node", node)):
        if answer.status != 200:
            return "the API answers HTTP %d about its %s%s" % (answer.status, what, said(answer)), {}
    renewed = (lease.json().get("spec") or {}).get("renewTime")
    conditions = {item.get("type"): item for item in (node.json().get("status") or {}).get("conditions") or []}
    ready = conditions.get("Ready") or {}
    if epoch(renewed) < renewed_since:
        return "its lease was last renewed at %s, before the restart" % renewed, {}
    # Heartbeats are written in whole seconds.
    if epoch(ready.get("lastHeartbeatTime")) < int(reported_since):
        return "the Node's condition was last reported at %s, before the restart" % ready.get("lastHeartbeatTime"), {}
    if ready.get("status") != "True":
        return "the Node is not Ready (%s)" % str(ready.get("message") or ready.get("reason") or ready.get("status"))[:160], {}
    return None, {"lease": renewed, "heartbeat": ready.get("lastHeartbeatTime"), "ready": True}


def epoch(text: str | None) -> float:
    """Return an API time ("2026-11-21T21:14:36Z", with or without a fraction) as seconds since 1970; 0.0 for none."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", text or "")
    if not match:
        return 0.0
    return calendar.timegm(time.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S")) + float(match.group(2) or 0)
