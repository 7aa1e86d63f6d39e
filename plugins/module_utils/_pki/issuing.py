# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate through the Certificates API, from the request to what was issued; and who may use it for what."""

from __future__ import annotations

__metaclass__ = type

import datetime
import hashlib
import re
import time

from . import requests, x509
from .cluster_api import ApiError, encode, segment
from .errors import PkiError

MANAGED_BY = {"app.kubernetes.io/managed-by": "kubepki.lifecycle"}
USER_ANNOTATION = "kubepki.io/user"
# pkg/apis/certificates/validation: expirationSeconds has to be 600 at least; the field came with 1.22.
_SHORTEST, _EXPIRATION_MINOR = 600, 22
_POLL = 0.2
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Wanted:
    """A CertificateSigningRequest as it shall be. request: x509.Request; usages: [str] as the API spells them;
    expiration_seconds: int or None; labels: {str: str}; allowed: names as in requests.refuse_dangerous_ask().
    """

    def __init__(self, name, request, signer, usages=None, expiration_seconds=None, labels=None, allowed=()):
        self.name, self.request, self.signer, self.allowed = name, request, signer, allowed
        self.usages = list(usages or requests.USAGES.get(signer) or ())
        self.expiration_seconds, self.labels = expiration_seconds, dict(labels or {})
        if not self.usages:
            raise PkiError("which usages the certificate shall have is not said, and the signer %s has no usual ones" % signer,
                           path=name, fix="Name the usages, such as server auth and digital signature.")
        if expiration_seconds is not None and expiration_seconds < _SHORTEST:
            raise PkiError("a validity of %d seconds is not possible" % expiration_seconds, path=name,
                           fix="The Certificates API issues for 600 seconds at least.")

    def refuse_dangerous(self, allowed=()):
        """Raise PkiError where no approval would pass, before the object is made. allowed: as in refuse_dangerous_ask()."""
        path = "CertificateSigningRequest %s" % self.name
        requests.refuse_dangerous_request(self.request.pem, self.signer, allowed, path, self.usages)

    def body(self, api):
        """Give the object to create, as this server understands it."""
        spec = {"request": encode(self.request.pem), "signerName": self.signer, "usages": self.usages}
        if self.expiration_seconds is not None and knows_validity(api):
            spec["expirationSeconds"] = self.expiration_seconds
        return {"apiVersion": "certificates.k8s.io/" + api.csr_version, "kind": "CertificateSigningRequest",
                "metadata": {"name": self.name, "labels": self.labels}, "spec": spec}


def validity(days):
    """Give a validity in days as the seconds that can be asked for."""
    return max(_SHORTEST, int(days * 86400))


def knows_validity(api):
    """Tell whether an API server keeps expirationSeconds; an older one drops it, and the signer's own validity counts."""
    return api.minor >= _EXPIRATION_MINOR


def find(api, name):
    """Give the Ask of that name, or None."""
    item = api.get("%s/%s" % (api.csr_path, segment(name)))
    return requests.decode(item) if item is not None else None


def every(api, selector=None):
    """Give the Asks of all CertificateSigningRequests (that a label selector selects), in one call for a few hundred."""
    return [requests.decode(item) for item in api.list(api.csr_path, selector)]


def create(api, wanted):
    """Create a request: gives its Ask. Raises ApiError with status 409 where one of that name exists."""
    return requests.decode(api.call("POST", api.csr_path, wanted.body(api)))


def decide(api, ask, kind, reason, message, allowed=()):
    """Put the condition "Approved" or "Denied" on a request: gives the new Ask.

    The one place where this collection approves. allowed: as in requests.refuse_dangerous_ask(), which every approval has to
    pass. One call when nobody else changed the object meanwhile. Raises PkiError where it has been decided otherwise.
    """
    if kind == "Approved" and not _decided(ask, kind):
        requests.refuse_dangerous_ask(ask, allowed)
    for attempt in range(5):
        if _decided(ask, kind):
            return ask
        body = dict(ask.item, apiVersion="certificates.k8s.io/" + api.csr_version, kind="CertificateSigningRequest")
        status = dict(body.get("status") or {})
        # The API wants UTC to the second (metav1.Time).
        moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": moment}
        status["conditions"] = list(status.get("conditions") or []) + [condition]
        body["status"] = status
        try:
            return requests.decode(api.call("PUT", "%s/%s/approval" % (api.csr_path, segment(ask.name)), body))
        except ApiError as error:
            if error.status != 409 or attempt == 4:
                raise
        uid, ask = ask.uid, find(api, ask.name)
        # Who approves has seen one request; another one under its name is not meant.
        if ask is None or ask.uid != uid:
            raise PkiError("another request took its name while it was decided", path=requests.decode(body).path,
                           fix="Look at the new one, then run again.")
    return ask


def _decided(ask, kind):
    """Tell whether somebody decided a request as we would. Raises PkiError where it was decided otherwise."""
    if kind == "Denied" and ask.state in (requests.APPROVED, requests.ISSUED):
        raise PkiError("it is approved already, and the API does not deny what was approved", path=ask.path,
                       fix="A certificate cannot be called back: take away what its name may do, and delete the request.")
    if kind == "Approved" and ask.state in (requests.DENIED, requests.FAILED):
        raise PkiError("it is %s already (%s)" % (ask.state, requests.printable(ask.message or ask.reason or "no reason given")),
                       path=ask.path, fix="Delete it and make it again: state present does both.")
    return ask.state != requests.PENDING


def delete(api, ask):
    """Delete exactly this request, and not another one that took its name. Gives whether it was there."""
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": ask.uid}} if ask.uid else None
    try:
        api.call("DELETE", "%s/%s" % (api.csr_path, segment(ask.name)), body)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


def wait(api, ask, seconds):
    """Wait until a request has its certificate: gives its Ask. Raises PkiError when it is denied, failed, gone, or time is up."""
    deadline = time.monotonic() + seconds
    while True:
        if ask.state == requests.ISSUED:
            return ask
        if ask.state in (requests.DENIED, requests.FAILED):
            said = requests.printable(ask.message or ask.reason or "no reason given")
            what = "denied" if ask.state == requests.DENIED else "approved, and its signer refused it"
            raise PkiError("it was %s (%s)" % (what, said), path=ask.path, fix="Correct what was asked for, and ask again.")
        if time.monotonic() > deadline:
            raise _no_certificate(ask, seconds)
        time.sleep(_POLL)
        found = find(api, ask.name)
        if found is None or found.uid != ask.uid:
            raise PkiError("it was deleted while its certificate was waited for", path=ask.path, fix="Make it again.")
        ask = found


def _no_certificate(ask, seconds):
    if ask.state == requests.PENDING:
        return PkiError("nobody approved it within %g seconds" % seconds, path=ask.path,
                        fix="Approve it (state approved, or the playbook manage_csrs), then run again: the request stays.")
    fix = "Look at kube-controller-manager: its --cluster-signing-* files sign for kubernetes.io signers."
    if not ask.signer.startswith("kubernetes.io/"):
        fix = "Look at the controller that signs for %s." % requests.printable(ask.signer)
    return PkiError("it is approved, and no certificate was issued within %g seconds" % seconds, path=ask.path, fix=fix)


class Agreed:
    """What a request has to ask for, where the request itself is not at hand: as Wanted, but for the key.

    usages: None for any that its signer gives.
    """

    def __init__(self, common_name, organizations, sans, signer, usages, expiration_seconds):
        self.common_names = [common_name] if common_name else []
        self.organizations, self.sans = sorted(organizations or ()), _folded(sans or ())
        self.signer, self.usages, self.expiration_seconds = signer, usages, expiration_seconds


def _folded(sans):
    """Give SANs in the one form that requests have, sorted."""
    pairs = (san.partition(":") for san in sans)
    return sorted("IP:" + x509.same_name(value) if kind == "IP" else kind + colon + value for kind, colon, value in pairs)


def difference(ask, wanted, minor):
    """Tell in what an existing request is not the wanted one (str), or None. wanted: Wanted or Agreed. minor: of the server."""
    if ask.request is None:
        return "what it holds cannot be read"
    if isinstance(wanted, Wanted) and ask.request.key_sha256 != wanted.request.key_sha256:
        return "its key differs"
    what, _have = differing(ask, wanted, minor) or (None, None)
    if what is None:
        return None
    return "its %s differs" % what if not what.endswith("s") else "its %s differ" % what


def differing(ask, wanted, minor):
    """Give (what, how a readable request has it) of the first thing that is not as wanted, or None; see difference()."""
    have = ask.request
    want = wanted.request if isinstance(wanted, Wanted) else wanted
    attributes = sorted(want.further_attributes) if isinstance(wanted, Wanted) else []
    for what, before, after in (
            ("common name", have.common_names, want.common_names),
            ("organizations", sorted(have.organizations), sorted(want.organizations)),
            ("further attributes", have.further_attributes, attributes),
            ("names", sorted(have.sans), sorted(want.sans)),
            ("signer", [ask.signer], [wanted.signer]), ("usages", sorted(ask.usages), _usages(ask, wanted))):
        if before != after:
            return what, before
    if minor >= _EXPIRATION_MINOR and ask.expiration_seconds != wanted.expiration_seconds:
        return "validity", [] if ask.expiration_seconds is None else ["%d seconds" % ask.expiration_seconds]
    return None


def _usages(ask, wanted):
    if wanted.usages is not None:
        return sorted(wanted.usages)
    usual = requests.USAGES.get(wanted.signer, ())
    return sorted(usage for usage in set(ask.usages) if usage in usual) if ask.usages else list(usual)


def certificate_fault(certificate, request, renew_below, now):
    """Tell why a certificate does not serve for a request any more (str), or None.

    certificate: x509.Certificate. renew_below: timedelta that has to be left, or None for a fifth of its validity.
    """
    if certificate.key_sha256 != request.key_sha256:
        return "it is for another key"
    if certificate.common_name != request.common_name or sorted(certificate.organizations) != sorted(request.organizations):
        return "its subject differs"
    if sorted(certificate.sans) != sorted(request.sans):
        return "its names differ"
    return due(certificate, renew_below, now)


def due(certificate, renew_below, now):
    """Tell why a certificate has to be renewed by its dates (str), or None; arguments as in certificate_fault()."""
    left = certificate.not_after - now
    if left <= datetime.timedelta(0):
        return "it has expired"
    if certificate.not_before > now:
        return "it is not valid yet"
    limit = (certificate.not_after - certificate.not_before) / 5 if renew_below is None else renew_below
    return "it is about to expire" if left < limit else None


def check_issued(ask, request):
    """Give the x509.Certificate of an issued Ask. Raises PkiError unless it is for the request's key and name."""
    certificate = x509.parse_certificate(ask.certificate, ask.path)
    if certificate.key_sha256 != request.key_sha256:
        raise PkiError("what was issued is for another key than the request's", path=ask.path,
                       fix="Do not use it; find out who answers for the signer %s." % requests.printable(ask.signer))
    if certificate.is_ca or "key_cert_sign" in certificate.usages:
        raise PkiError("what was issued is a CA certificate", path=ask.path,
                       fix="Do not use it; find out who answers for the signer %s." % requests.printable(ask.signer))
    if ask.signer.startswith("kubernetes.io/") and (
            certificate.common_name != request.common_name or sorted(certificate.organizations) != sorted(request.organizations)):
        raise PkiError("what was issued is for %s" % requests.printable(certificate.subject or "nobody"), path=ask.path,
                       fix="Do not use it; find out who signs for this cluster.")
    return certificate


# --- what a name may do --------------------------------------------------------------------------------------------------------

class Binding:
    """A role given to a user. kind: "ClusterRole" or "Role"; role: its name; namespace: str, or None for the whole cluster."""

    def __init__(self, user, kind, role, namespace=None):
        if kind == "Role" and not namespace:
            raise PkiError("the Role %s needs a namespace" % role, fix="Name it, or give a ClusterRole.")
        self.user, self.kind, self.role, self.namespace = user, kind, role, namespace or None

    @property
    def name(self):
        """The binding's own name: readable, and different for each user and role."""
        digest = hashlib.sha256(("%s\0%s\0%s" % (self.user, self.kind, self.role)).encode("utf-8")).hexdigest()[:8]
        word = re.sub(r"[^a-z0-9.-]+", "-", self.user.lower()).strip("-.")[:60] or "user"
        return "kubepki:%s:%s:%s" % (word, re.sub(r"[/%]", "-", self.role), digest)

    @property
    def path(self):
        """Where bindings of this kind are made."""
        return _RBAC + ("/namespaces/%s/rolebindings" % segment(self.namespace) if self.namespace else "/clusterrolebindings")

    def body(self):
        """Give the object."""
        return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding" if self.namespace else "ClusterRoleBinding",
                "metadata": {"name": self.name, "labels": MANAGED_BY, "annotations": {USER_ANNOTATION: self.user}},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": self.kind, "name": self.role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user}]}


def bindings_of(api, user, groups=()):
    """Return (own, foreign): the bindings this collection made for a user, and all others that name the user or a group.

    Each one: {"kind", "namespace", "name", "role", "subject", "path", "uid"}. Labels and annotation can be written by others: only a
    binding whose one subject is the user is this collection's own.
    """
    own, foreign = [], []
    for kind, path in (("ClusterRoleBinding", "/clusterrolebindings"), ("RoleBinding", "/rolebindings")):
        for item in api.list(_RBAC + path):
            metadata = item.get("metadata") or {}
            subject = next(("%s %s" % (entry.get("kind"), entry.get("name")) for entry in item.get("subjects") or []
                            if (entry.get("kind"), entry.get("name")) == ("User", user)
                            or (entry.get("kind") == "Group" and entry.get("name") in groups)), None)
            if subject is None:
                continue
            namespace, name = metadata.get("namespace"), metadata.get("name")
            where = "/namespaces/%s/rolebindings" % segment(namespace) if namespace else path
            entry = {"kind": kind, "namespace": namespace, "name": name, "role": (item.get("roleRef") or {}).get("name"),
                     "subject": subject, "path": "%s%s/%s" % (_RBAC, where, segment(name)), "uid": metadata.get("uid")}
            alone = [(each.get("kind"), each.get("name")) for each in item.get("subjects") or []] == [("User", user)]
            mine = alone and (metadata.get("annotations") or {}).get(USER_ANNOTATION) == user and all(
                (metadata.get("labels") or {}).get(key) == value for key, value in MANAGED_BY.items())
            (own if mine else foreign).append(entry)
    return own, foreign


def bind(api, binding, check=False):
    """Make sure a role is given: gives whether it had to be. Raises PkiError where the role does not exist."""
    item = api.get("%s/%s" % (binding.path, segment(binding.name)))
    body = binding.body()
    if item is not None and item.get("roleRef") == body["roleRef"] and item.get("subjects") == body["subjects"]:
        return False
    roles = "/namespaces/%s/roles" % segment(binding.namespace) if binding.kind == "Role" else "/clusterroles"
    if api.get("%s%s/%s" % (_RBAC, roles, segment(binding.role))) is None:
        raise PkiError("there is no such %s" % binding.kind, path=binding.role,
                       fix="Create it first, or name one that exists: a binding to nothing would give access later, unseen.")
    if check:
        return True
    if item is not None:
        # A binding's role cannot be changed in place.
        api.call("DELETE", "%s/%s" % (binding.path, segment(binding.name)))
    api.call("POST", binding.path, body)
    return True


def prove(api, user=None, groups=()):
    """Prove that a connection is let in, and as whom: gives {"how", "user", "groups"}. Raises PkiError otherwise.

    From 1.28 on the API says who somebody is; before, that it answers an authenticated question proves that it lets them in.
    """
    try:
        answer = api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                          {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    except ApiError as error:
        # A server that does not know the kind says 403 to whoever may not look for it, and 404 to the others.
        if error.status not in (403, 404):
            raise
        question = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                    "spec": {"nonResourceAttributes": {"path": "/version", "verb": "get"}}}
        answer = api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", question)
        if "allowed" not in (answer.get("status") or {}):
            raise PkiError("answers a SelfSubjectAccessReview without a decision", path=api.server) from None
        return {"how": "SelfSubjectAccessReview", "user": None, "groups": []}
    info = (answer.get("status") or {}).get("userInfo") or {}
    if user is not None and info.get("username") != user:
        raise PkiError("takes this credential for %s, not for %s" % (requests.printable(info.get("username")), user),
                       path=api.server, fix="Look at the API server's authentication; the credential is not what was asked for.")
    missing = [group for group in groups if group not in (info.get("groups") or [])]
    if missing:
        raise PkiError("does not see the group %s in this credential" % missing[0], path=api.server,
                       fix="Issue it again with kubepki_user_force=true.")
    return {"how": "SelfSubjectReview", "user": info.get("username"), "groups": info.get("groups") or []}
