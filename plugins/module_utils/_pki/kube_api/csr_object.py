# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CertificateSigningRequest of the API as data. Its requester wrote what is in it; nothing here raises for it."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from ..errors import PkiError, printable
from ..x509 import csr_read

# staging/src/k8s.io/api/certificates/v1/types.go
CLIENT = "kubernetes.io/kube-apiserver-client"

KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"

KUBELET_SERVING = "kubernetes.io/kubelet-serving"

LEGACY = "kubernetes.io/legacy-unknown"

PENDING, APPROVED, ISSUED, DENIED, FAILED = "pending", "approved", "issued", "denied", "failed"

APPROVE, DENY, LEAVE = "approve", "deny", "leave"

# What the built-in signers accept (pkg/controller/certificates/signer/signer.go, pkg/apis/certificates/v1beta1/defaults.go).
SERVER_USAGES = ("digital signature", "key encipherment", "server auth")

_CLIENT_USAGES = ("digital signature", "key encipherment", "client auth")

USAGES = {CLIENT: _CLIENT_USAGES, KUBELET_CLIENT: _CLIENT_USAGES, KUBELET_SERVING: SERVER_USAGES}

# The API's usages that are extended key usages, as x509.Request spells those (pkg/controller/certificates/authority).
EXTENDED_USAGES = {
    "client auth": "client",
    "server auth": "server",
    "any": "2.5.29.37.0",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}


class CertificateSigningRequest:
    """A CertificateSigningRequest as data.

    version: resourceVersion. usages: as the API spells them. requester: the user name. created: datetime or None.
    state: "pending", "approved" (not issued yet), "issued", "denied" or "failed"; reason, message: of that state.
    request: csr_read.Request, or None where problem (PkiError) is the reason. certificate: PEM or None. item: the object.
    """

    def __init__(self, item: dict[str, Any]) -> None:
        self.item = item
        metadata, spec, status = (as_mapping(item.get(key)) for key in ("metadata", "spec", "status"))
        self.name, self.uid = as_text(metadata.get("name")), as_text(metadata.get("uid"))
        self.version = as_text(metadata.get("resourceVersion"))
        self.created = parse_time(metadata.get("creationTimestamp"))
        self.labels = {str(key): str(value) for key, value in as_mapping(metadata.get("labels")).items()}
        # Before 1.18 there were no signer names, and the controller manager signed everything.
        self.signer = as_text(spec.get("signerName")) or LEGACY
        self.usages = [as_text(usage) for usage in as_list(spec.get("usages"))]
        self.requester = as_text(spec.get("username"))
        self.requester_groups = [as_text(group) for group in as_list(spec.get("groups"))]
        seconds = spec.get("expirationSeconds")
        self.expiration_seconds = seconds if isinstance(seconds, int) and not isinstance(seconds, bool) else None
        self.certificate: Any = from_base64(status.get("certificate")) or None
        self.state, self.reason, self.message = _state(status, self.certificate)
        self.request: Any = None
        self.problem: PkiError | None = None
        try:
            self.request = _request(spec.get("request"), self.name)
        except PkiError as error:
            self.problem = error

    @property
    def path(self) -> str:
        """Return its name for messages."""
        return "CertificateSigningRequest %s" % printable(self.name)


def decode(item: object) -> CertificateSigningRequest:
    """Return the data of an object of the API (v1 or v1beta1), however damaged. Never raises."""
    return CertificateSigningRequest(item if isinstance(item, dict) else {})


def _request(text: object, name: str) -> csr_read.Request:
    path = "CertificateSigningRequest %s" % printable(name)
    fix = "Deny or delete it, and have it made again."
    data = from_base64(text)
    if data is None:
        raise PkiError("its request is not base64", path=path, fix=fix)
    return parse_request_text(data, path, fix)


def parse_request_text(data: bytes, path: str | None, fix: str) -> csr_read.Request:
    """Return the request of exactly one PEM block. Raise PkiError with this path and fix."""
    data = data.strip()
    # Go passes over a block that it finds malformed and takes the next one (encoding/pem), which Python might not.
    if (
        data.count(b"-----BEGIN") != 1
        or not data.startswith(b"-----BEGIN CERTIFICATE REQUEST-----")
        or not data.endswith(b"-----END CERTIFICATE REQUEST-----")
    ):
        raise PkiError("its request is not exactly one PEM block of type CERTIFICATE REQUEST", path=path, fix=fix)
    try:
        return csr_read.parse_request(data, path)
    except PkiError as error:
        raise PkiError(printable(error.message), path=path, fix=fix) from None
    except Exception as error:  # whatever a parser's fault is, a request that cannot be read is not approved
        raise PkiError("its request cannot be read (%s)" % type(error).__name__, path=path, fix=fix) from None


def _state(status: dict[str, Any], certificate: bytes | None) -> tuple[str, str, str]:
    conditions: dict[str, Any] = {}
    for condition in as_list(status.get("conditions")):
        condition = as_mapping(condition)
        # v1beta1 knew no status of a condition: it was there, or it was not.
        if as_text(condition.get("status")) in ("", "True"):
            conditions.setdefault(as_text(condition.get("type")), condition)
    for kind, state in (("Denied", DENIED), ("Failed", FAILED)):
        if kind in conditions:
            return state, as_text(conditions[kind].get("reason")), as_text(conditions[kind].get("message"))
    approval = conditions.get("Approved")
    if approval is None:
        return PENDING, "", ""
    return (ISSUED if certificate else APPROVED), as_text(approval.get("reason")), as_text(approval.get("message"))


def as_mapping(value: object) -> dict[str, Any]:
    """Return a mapping; {} for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return a list; [] for anything else."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return a string; "" for anything else."""
    return value if isinstance(value, str) else ""


def from_base64(value: object) -> bytes | None:
    """Return the decoded bytes; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return None


def parse_time(value: Any) -> datetime.datetime | None:
    """Return an API time; None for anything else."""
    try:
        return datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    except (TypeError, ValueError):
        return None
