# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role bindings of a user, and the proof of who a credential is."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Collection, Iterable

from .. import errors
from ..errors import PkiError
from . import csr
from .api_client import Api, segment

_RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Binding:
    """A role given to a user. kind: "ClusterRole" or "Role"; role: its name; namespace: None for the whole cluster."""

    def __init__(self, user: str, kind: str, role: str, namespace: str | None = None) -> None:
        if kind == "Role" and not namespace:
            raise PkiError("the Role %s needs a namespace" % role, fix="Name it, or give a ClusterRole.")
        self.user, self.kind, self.role, self.namespace = user, kind, role, namespace or None

    @property
    def name(self) -> str:
        """Return the binding's own name: readable, and different for each user and role."""
        digest = hashlib.sha256(("%s\0%s\0%s" % (self.user, self.kind, self.role)).encode("utf-8")).hexdigest()[:8]
        word = re.sub(r"[^a-z0-9.-]+", "-", self.user.lower()).strip("-.")[:60] or "user"
        return "kubepki:%s:%s:%s" % (word, re.sub(r"[/%]", "-", self.role), digest)

    @property
    def path(self) -> str:
        """Return the API path of bindings of this kind."""
        return _RBAC + ("/namespaces/%s/rolebindings" % segment(self.namespace) if self.namespace else "/clusterrolebindings")

    def body(self) -> dict[str, Any]:
        """Return the object."""
        return {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding" if self.namespace else "ClusterRoleBinding",
            "metadata": {"name": self.name, "labels": csr.MANAGED_BY, "annotations": {csr.USER_ANNOTATION: self.user}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": self.kind, "name": self.role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user}],
        }


def bindings_of(api: Api, user: str, groups: Collection[str] = ()) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (own, foreign): the bindings this collection made for a user, and all others that name the user or a group.

    Each one: {"kind", "namespace", "name", "role", "subject", "path", "uid"}. Labels and annotation can be written by others:
    only a binding whose one subject is the user is this collection's own.
    """
    own: list[dict[str, Any]] = []
    foreign: list[dict[str, Any]] = []
    for kind, path in (("ClusterRoleBinding", "/clusterrolebindings"), ("RoleBinding", "/rolebindings")):
        for item in api.list(_RBAC + path):
            metadata = item.get("metadata") or {}
            subject = next(
                (
                    "%s %s" % (entry.get("kind"), entry.get("name"))
                    for entry in item.get("subjects") or []
                    if (entry.get("kind"), entry.get("name")) == ("User", user)
                    or (entry.get("kind") == "Group" and entry.get("name") in groups)
                ),
                None,
            )
            if subject is None:
                continue
            namespace = metadata.get("namespace")
            name: Any = metadata.get("name")
            where = "/namespaces/%s/rolebindings" % segment(namespace) if namespace else path
            entry = {
                "kind": kind,
                "namespace": namespace,
                "name": name,
                "role": (item.get("roleRef") or {}).get("name"),
                "subject": subject,
                "path": "%s%s/%s" % (_RBAC, where, segment(name)),
                "uid": metadata.get("uid"),
            }
            alone = [(each.get("kind"), each.get("name")) for each in item.get("subjects") or []] == [("User", user)]
            mine = (
                alone
                and (metadata.get("annotations") or {}).get(csr.USER_ANNOTATION) == user
                and all((metadata.get("labels") or {}).get(key) == value for key, value in csr.MANAGED_BY.items())
            )
            (own if mine else foreign).append(entry)
    return own, foreign


def bind(api: Api, binding: Binding, check: bool = False) -> bool:
    """Create a binding unless it exists and return whether it had to be created. Raise PkiError where the role does not exist."""
    item = api.get("%s/%s" % (binding.path, segment(binding.name)))
    body = binding.body()
    if item is not None and item.get("roleRef") == body["roleRef"] and item.get("subjects") == body["subjects"]:
        return False
    roles = "/namespaces/%s/roles" % segment(binding.namespace or "") if binding.kind == "Role" else "/clusterroles"
    if api.get("%s%s/%s" % (_RBAC, roles, segment(binding.role))) is None:
        raise PkiError(
            "there is no such %s" % binding.kind,
            path=binding.role,
            fix="Create it first, or name one that exists: a binding to nothing would give access later, unseen.",
        )
    if check:
        return True
    if item is not None:
        # A binding's role cannot be changed in place.
        uid = (item.get("metadata") or {}).get("uid")
        body_of_delete = {"preconditions": {"uid": uid}} if uid else None
        api.call("DELETE", "%s/%s" % (binding.path, segment(binding.name)), body_of_delete)
    api.call("POST", binding.path, body)
    return True


def prove(api: Api, user: str | None = None, groups: Iterable[str] = ()) -> dict[str, Any]:
    """Return {"how", "user", "groups"} of the identity that the API accepts. Raise PkiError where it is not the expected one.

    From 1.28 on the API returns the user of a connection; before, an answer to a SelfSubjectAccessReview proves that it
    accepts the credential.
    """
    info = api.whoami()
    if info is None:
        question = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"nonResourceAttributes": {"path": "/version", "verb": "get"}},
        }
        answer = api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", question)
        if "allowed" not in (answer.get("status") or {}):
            raise PkiError("answers a SelfSubjectAccessReview without a decision", path=api.server)
        return {"how": "SelfSubjectAccessReview", "user": None, "groups": []}
    if user is not None and info.get("username") != user:
        raise PkiError(
            "takes this credential for %s, not for %s" % (errors.printable(info.get("username")), user),
            path=api.server,
            fix="Look at the API server's authentication; the credential is not what was asked for.",
        )
    missing = [group for group in groups if group not in (info.get("groups") or [])]
    if missing:
        raise PkiError(
            "does not see the group %s in this credential" % missing[0],
            path=api.server,
            fix="Issue it again with kubepki_user_force=true.",
        )
    return {"how": "SelfSubjectReview", "user": info.get("username"), "groups": info.get("groups") or []}
