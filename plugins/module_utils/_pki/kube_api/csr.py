# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate through the Certificates API: from the request to what was issued."""

from __future__ import annotations

import datetime
import time
from typing import Any, Container, Iterable, Mapping

from .. import errors
from ..errors import PkiError
from ..x509 import csr_read, general_names, x509_read
from . import csr_dangers, csr_object
from .api_client import Api, ApiError, encode, segment
from .csr_object import CertificateSigningRequest

MANAGED_BY = {"app.kubernetes.io/managed-by": "kubepki.lifecycle"}

USER_ANNOTATION = "kubepki.io/user"

# pkg/apis/certificates/validation: expirationSeconds has to be 600 at least; the field came with 1.22.
_SHORTEST, _EXPIRATION_MINOR = 600, 22

_POLL = 0.2


class Wanted:
    """A CertificateSigningRequest as it shall be. usages: as the API spells them, None for those of the signer.
    allowed: names as in csr_dangers.refuse_dangerous_ask().
    """

    def __init__(
        self,
        name: str,
        request: csr_read.Request,
        signer: str,
        usages: Iterable[str] | None = None,
        expiration_seconds: int | None = None,
        labels: Mapping[str, str] | None = None,
        allowed: Container[str] = (),
    ) -> None:
        self.name, self.request, self.signer, self.allowed = name, request, signer, allowed
        self.usages = list(usages or csr_object.USAGES.get(signer) or ())
        self.expiration_seconds, self.labels = expiration_seconds, dict(labels or {})
        if not self.usages:
            raise PkiError(
                "which usages the certificate shall have is not said, and the signer %s has no usual ones" % signer,
                path=name,
                fix="Name the usages, such as server auth and digital signature.",
            )
        if expiration_seconds is not None and expiration_seconds < _SHORTEST:
            raise PkiError(
                "a validity of %d seconds is not possible" % expiration_seconds,
                path=name,
                fix="The Certificates API issues for 600 seconds at least.",
            )

    def refuse_dangerous(self, allowed: Container[str] = ()) -> None:
        """Raise PkiError where no approval would pass, before the object is created. allowed: as in refuse_dangerous_ask()."""
        path = "CertificateSigningRequest %s" % self.name
        csr_dangers.refuse_dangerous_request(self.request.pem, self.signer, allowed, path, self.usages)

    def body(self, api: Api) -> dict[str, Any]:
        """Return the object to create, as this server understands it."""
        spec: dict[str, Any] = {"request": encode(self.request.pem), "signerName": self.signer, "usages": self.usages}
        if self.expiration_seconds is not None and knows_validity(api):
            spec["expirationSeconds"] = self.expiration_seconds
        return {
            "apiVersion": "certificates.k8s.io/" + api.csr_version,
            "kind": "CertificateSigningRequest",
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": spec,
        }


def validity(days: float) -> int:
    """Return a validity in days as expirationSeconds, 600 at least."""
    return max(_SHORTEST, int(days * 86400))


def knows_validity(api: Api) -> bool:
    """Return whether an API server keeps expirationSeconds; an older one drops it, and the signer's own validity counts."""
    return api.minor >= _EXPIRATION_MINOR


def find(api: Api, name: str) -> CertificateSigningRequest | None:
    """Return the request of that name, or None."""
    item = api.get("%s/%s" % (api.csr_path, segment(name)))
    return csr_object.decode(item) if item is not None else None


def every(api: Api, selector: str | None = None) -> list[CertificateSigningRequest]:
    """Return all CertificateSigningRequests (that a label selector selects), in one call for a few hundred."""
    return [csr_object.decode(item) for item in api.list(api.csr_path, selector)]


def create(api: Api, wanted: Wanted) -> CertificateSigningRequest:
    """Create a request and return it. Raise ApiError with status 409 where one of that name exists."""
    return csr_object.decode(api.call("POST", api.csr_path, wanted.body(api)))


def decide(
    api: Api, request: CertificateSigningRequest, kind: str, reason: str, message: str, allowed: Container[str] = ()
) -> CertificateSigningRequest:
    """Put the condition "Approved" or "Denied" on a request and return the new request.

    The one place where this collection approves. allowed: as in csr_dangers.refuse_dangerous_ask(), which every approval has
    to pass. One call unless another client changes the object meanwhile. Raise PkiError where it was decided otherwise.
    """
    if kind == "Approved" and not _decided(request, kind):
        csr_dangers.refuse_dangerous_ask(request, allowed)
    for attempt in range(5):
        if _decided(request, kind):
            return request
        body = dict(request.item, apiVersion="certificates.k8s.io/" + api.csr_version, kind="CertificateSigningRequest")
        status = dict(body.get("status") or {})
        # The API wants UTC to the second (metav1.Time).
        moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": moment}
        status["conditions"] = list(status.get("conditions") or []) + [condition]
        body["status"] = status
        try:
            return csr_object.decode(api.call("PUT", "%s/%s/approval" % (api.csr_path, segment(request.name)), body))
        except ApiError as error:
            if error.status != 409 or attempt == 4:
                raise
        found = find(api, request.name)
        # The decision is about one request, not about another one with its name.
        if found is None or found.uid != request.uid:
            raise PkiError(
                "another request took its name while it was decided",
                path=csr_object.decode(body).path,
                fix="Look at the new one, then run again.",
            )
        request = found
    return request


def _decided(request: CertificateSigningRequest, kind: str) -> bool:
    """Return whether a request is decided already, as wanted. Raise PkiError where it was decided otherwise."""
    if kind == "Denied" and request.state in (csr_object.APPROVED, csr_object.ISSUED):
        raise PkiError(
            "it is approved already, and the API does not deny what was approved",
            path=request.path,
            fix="A certificate cannot be called back: take away what its name may do, and delete the request.",
        )
    if kind == "Approved" and request.state in (csr_object.DENIED, csr_object.FAILED):
        raise PkiError(
            "it is %s already (%s)" % (request.state, errors.printable(request.message or request.reason or "no reason given")),
            path=request.path,
            fix="Delete it and make it again: state present does both.",
        )
    return request.state != csr_object.PENDING


def delete(api: Api, request: CertificateSigningRequest) -> bool:
    """Delete exactly this request, and not another one with its name. Return whether it existed."""
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": request.uid}} if request.uid else None
    try:
        api.call("DELETE", "%s/%s" % (api.csr_path, segment(request.name)), body)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


def wait(api: Api, request: CertificateSigningRequest, seconds: float) -> CertificateSigningRequest:
    """Wait until a request has its certificate and return it. Raise PkiError when it is denied, failed, gone, or time is up."""
    deadline = time.monotonic() + seconds
    while True:
        if request.state == csr_object.ISSUED:
            return request
        if request.state in (csr_object.DENIED, csr_object.FAILED):
            said = errors.printable(request.message or request.reason or "no reason given")
            what = "denied" if request.state == csr_object.DENIED else "approved, and its signer refused it"
            raise PkiError("it was %s (%s)" % (what, said), path=request.path, fix="Correct what was asked for, and ask again.")
        if time.monotonic() > deadline:
            raise _no_certificate(request, seconds)
        time.sleep(_POLL)
        found = find(api, request.name)
        if found is None or found.uid != request.uid:
            raise PkiError("it was deleted while its certificate was waited for", path=request.path, fix="Make it again.")
        request = found


def _no_certificate(request: CertificateSigningRequest, seconds: float) -> PkiError:
    if request.state == csr_object.PENDING:
        return PkiError(
            "nobody approved it within %g seconds" % seconds,
            path=request.path,
            fix="Approve it (state approved, or the playbook manage_csrs), then run again: the request stays.",
        )
    fix = "Look at kube-controller-manager: its --cluster-signing-* files sign for kubernetes.io signers."
    if not request.signer.startswith("kubernetes.io/"):
        fix = "Look at the controller that signs for %s." % errors.printable(request.signer)
    return PkiError("it is approved, and no certificate was issued within %g seconds" % seconds, path=request.path, fix=fix)


class Agreed:
    """What a request has to contain, where the request itself is not at hand: as Wanted, but for the key.

    usages: None for any that its signer gives.
    """

    def __init__(
        self,
        common_name: str | None,
        organizations: Iterable[str] | None,
        sans: Iterable[str] | None,
        signer: str,
        usages: Iterable[str] | None,
        expiration_seconds: int | None,
    ) -> None:
        self.common_names = [common_name] if common_name else []
        self.organizations, self.sans = sorted(organizations or ()), _folded(sans or ())
        self.signer, self.usages, self.expiration_seconds = signer, usages, expiration_seconds


def _folded(sans: Iterable[str]) -> list[str]:
    """Return SANs in the one form that requests have, sorted."""
    pairs = (san.partition(":") for san in sans)
    return sorted(
        "IP:" + general_names.same_name(value) if kind == "IP" else kind + colon + value for kind, colon, value in pairs
    )


def difference(request: CertificateSigningRequest, wanted: Wanted | Agreed, minor: int) -> str | None:
    """Return in what an existing request is not the wanted one, or None. minor: of the server."""
    if request.request is None:
        return "what it holds cannot be read"
    if isinstance(wanted, Wanted) and request.request.key_sha256 != wanted.request.key_sha256:
        return "its key differs"
    what, _have = differing(request, wanted, minor) or (None, None)
    if what is None:
        return None
    return "its %s differs" % what if not what.endswith("s") else "its %s differ" % what


def differing(request: CertificateSigningRequest, wanted: Wanted | Agreed, minor: int) -> tuple[str, list[str]] | None:
    """Return (what, how a readable request has it) of the first thing that is not as wanted, or None; see difference()."""
    have = request.request
    want = wanted.request if isinstance(wanted, Wanted) else wanted
    attributes = sorted(wanted.request.further_attributes) if isinstance(wanted, Wanted) else []
    for what, before, after in (
        ("common name", have.common_names, want.common_names),
        ("organizations", sorted(have.organizations), sorted(want.organizations)),
        ("further attributes", have.further_attributes, attributes),
        ("names", sorted(have.sans), sorted(want.sans)),
        ("signer", [request.signer], [wanted.signer]),
        ("usages", sorted(request.usages), _usages(request, wanted)),
    ):
        if before != after:
            return what, before
    if minor >= _EXPIRATION_MINOR and request.expiration_seconds != wanted.expiration_seconds:
        return "validity", [] if request.expiration_seconds is None else ["%d seconds" % request.expiration_seconds]
    return None


def _usages(request: CertificateSigningRequest, wanted: Wanted | Agreed) -> list[str]:
    if wanted.usages is not None:
        return sorted(wanted.usages)
    usual = csr_object.USAGES.get(wanted.signer, ())
    return sorted(usage for usage in set(request.usages) if usage in usual) if request.usages else list(usual)


def certificate_fault(
    certificate: x509_read.Certificate,
    request: csr_read.Request,
    renew_below: datetime.timedelta | None,
    now: datetime.datetime,
) -> str | None:
    """Return why a certificate has to be replaced for a request, or None.

    renew_below: validity that has to be left, or None for a fifth of all.
    """
    if certificate.key_sha256 != request.key_sha256:
        return "it is for another key"
    if certificate.common_name != request.common_name or sorted(certificate.organizations) != sorted(request.organizations):
        return "its subject differs"
    if sorted(certificate.sans) != sorted(request.sans):
        return "its names differ"
    return due(certificate, renew_below, now)


def due(certificate: x509_read.Certificate, renew_below: datetime.timedelta | None, now: datetime.datetime) -> str | None:
    """Return why a certificate has to be renewed by its dates, or None; arguments as in certificate_fault()."""
    left = certificate.not_after - now
    if left <= datetime.timedelta(0):
        return "it has expired"
    if certificate.not_before > now:
        return "it is not valid yet"
    limit = (certificate.not_after - certificate.not_before) / 5 if renew_below is None else renew_below
    return "it is about to expire" if left < limit else None


def check_issued(issued: CertificateSigningRequest, request: csr_read.Request) -> x509_read.Certificate:
    """Return the certificate of an issued request. Raise PkiError unless it is for the request's key and name."""
    certificate = x509_read.parse_certificate(issued.certificate, issued.path)
    if certificate.key_sha256 != request.key_sha256:
        raise PkiError(
            "what was issued is for another key than the request's",
            path=issued.path,
            fix="Do not use it; find out who answers for the signer %s." % errors.printable(issued.signer),
        )
    if certificate.is_ca or "key_cert_sign" in certificate.usages:
        raise PkiError(
            "what was issued is a CA certificate",
            path=issued.path,
            fix="Do not use it; find out who answers for the signer %s." % errors.printable(issued.signer),
        )
    if issued.signer.startswith("kubernetes.io/") and (
        certificate.common_name != request.common_name or sorted(certificate.organizations) != sorted(request.organizations)
    ):
        raise PkiError(
            "what was issued is for %s" % errors.printable(certificate.subject or "nobody"),
            path=issued.path,
            fix="Do not use it; find out who signs for this cluster.",
        )
    return certificate
