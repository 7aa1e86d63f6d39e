# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's credential: certificate and roles in the cluster, kubeconfig where the user is."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, Dict, Optional
from urllib.parse import urlsplit

from .. import errors
from ..errors import PkiError
from ..fileio import atomic, guarded_files
from ..kube_api import api_client, api_connection, csr, csr_dangers, csr_object, rbac
from ..kubeadm import kubeconfig
from ..x509 import csr_read, private_keys, x509_read, x509_sign
from . import one_csr


def user_access(params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Issue a user's certificate and give or remove roles. Return user_access's result.

    Order: check names and groups, then that every role exists, then issue, and bind last. A run that is refused gives nothing
    away.
    """
    api = api_connection.connect(params)
    server = params["server"] or api.server
    result: Dict[str, Any] = {
        "changed": False,
        "actions": [],
        "server": server,
        "minor": api.minor,
        "warnings": [],
        "ca": api.ca_pem.decode("ascii", "replace") if api.ca_pem else None,
        "certificate": None,
        "kubeconfig_name": kubeconfig_name(params["user"], server),
    }
    if params["state"] == "absent":
        return dict(result, **_revoke(api, params, check))
    csr_dangers.refuse_reserved_identity(params["user"], params["groups"] or ())
    if params["state"] == "queried":
        return result
    missing = [binding for binding in _bindings(params) if rbac.bind(api, binding, check=True)]
    if params["request"]:
        _issue(api, params, check, result)
    for binding in missing:
        if check or rbac.bind(api, binding):
            result["actions"].append("bound %s %s" % (binding.kind, binding.role))
    result["changed"] = bool(result["actions"])
    return result


def kubeconfig_name(user: str, server: str) -> str:
    """Return the default file name of a user's kubeconfig: user and API server, so that two clusters never share one.

    user: str. server: URL. Return str of letters, digits, dots, hyphens, underscores and one @, never a path and never hidden.
    """

    def plain(text: str) -> str:
        word = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")
        if word == text and len(word) <= 60:
            return word
        return "%s-%s" % (word[:60] or "user", hashlib.sha256(text.encode("utf-8")).hexdigest()[:8])

    return "%s@%s.kubeconfig" % (plain(user), plain(urlsplit(server).hostname or "cluster"))


def _bindings(params: Dict[str, Any]) -> list[rbac.Binding]:
    found = []
    for role in params["cluster_roles"] or []:
        found.append(rbac.Binding(params["user"], "ClusterRole", role, params["namespace"]))
    for role in params["roles"] or []:
        found.append(rbac.Binding(params["user"], "Role", role, params["namespace"]))
    return found


def _issue(api: api_client.Api, params: Dict[str, Any], check: bool, result: Dict[str, Any]) -> None:
    request = csr_read.parse_request(params["request"].encode("utf-8"), "the request for %s" % params["user"])
    if request.common_names != [params["user"]] or sorted(request.organizations) != sorted(params["groups"] or []):
        raise PkiError(
            "the request is for %s and not for the user" % request.subject,
            path=params["user"],
            fix="Make it with user_kubeconfig, for the same user and groups.",
        )
    seconds = int(params["days"] * 86400)
    name = "kubepki-user-%s-%s" % (one_csr.slug(params["user"]), request.key_sha256[:8])
    wanted = csr.Wanted(name, request, csr_object.CLIENT, None, seconds, dict(csr.MANAGED_BY, **one_csr.USER_LABEL))
    try:
        wanted.refuse_dangerous()
    except PkiError as error:
        raise PkiError(
            error.message,
            path=params["user"],
            fix="Give users names and groups of their own. What the system "
            "needs is made by kubeadm; for anything else there is cert_csr (allow_dangerous).",
        ) from None
    if api.minor < 22:
        result["warnings"].append(
            "Kubernetes 1.%d issues for as long as its controller manager says (one year, unless "
            "--cluster-signing-duration is set), not for %g days." % (api.minor, params["days"])
        )
    result["actions"].append("issued")
    if check:
        return
    ask = csr.find(api, name)
    if ask is not None and (ask.state in (csr_object.DENIED, csr_object.FAILED) or csr.difference(ask, wanted, api.minor)):
        csr.delete(api, ask)
        ask = None
    ask = ask or csr.create(api, wanted)
    ask = csr.decide(api, ask, "Approved", "KubepkiIssueUser", "Approved with the playbook issue_user of kubepki.lifecycle")
    ask = csr.wait(api, ask, params["wait_timeout"])
    certificate = csr.check_issued(ask, request)
    _check_accepted(api, certificate)
    result["certificate"] = certificate.pem.decode("ascii")


def _check_accepted(api: api_client.Api, certificate: x509_read.Certificate) -> None:
    """Raise PkiError unless the API servers accept what was issued: their client CA bundle is in a ConfigMap of kube-system."""
    item = api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication") or {}
    bundle = (item.get("data") or {}).get("client-ca-file")
    if not bundle:
        return
    trusted = x509_read.parse_certificates(bundle.encode("utf-8"), "extension-apiserver-authentication")
    # An intermediate that signs is trusted through a chain, which the proof with a request will show.
    names = [ca.subject for ca in trusted]
    if certificate.issuer in names and not any(certificate.signed_by(ca) for ca in trusted):
        raise PkiError(
            "what was issued is signed by an authority that the API servers do not trust",
            path=api.server,
            fix="kube-controller-manager signs with another key than the cluster's CA: see its signing flags.",
        )


def _revoke(api: api_client.Api, params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Remove the bindings and requests that this collection made for a user. Return what else gives access, and what was looked
    at.

    Groups: those given, and those in the user's requests that are still there; the role adds those in the kubeconfig's
    certificate.
    """
    labels = ",".join("%s=%s" % entry for entry in sorted(dict(csr.MANAGED_BY, **one_csr.USER_LABEL).items()))
    every = [ask for ask in csr.every(api) if ask.request and ask.request.common_names == [params["user"]]]
    groups = sorted({group for ask in every for group in ask.request.organizations} | set(params["groups"] or ()))
    own, foreign = rbac.bindings_of(api, params["user"], groups)
    ours = {ask.name for ask in csr.every(api, labels)}
    asks = [ask for ask in every if ask.name in ours]
    actions = ["removed %s %s" % (entry["kind"], entry["name"]) for entry in own] + ["deleted %s" % ask.path for ask in asks]
    if not check:
        for entry in own:
            api.call("DELETE", entry["path"], {"preconditions": {"uid": entry["uid"]}})
        for ask in asks:
            csr.delete(api, ask)
    shown = ("kind", "namespace", "name", "role", "subject")
    return {
        "changed": bool(actions),
        "actions": actions,
        "groups": groups,
        "summary": _revoked(params["user"], groups, foreign),
        "remaining": [{key: entry[key] for key in shown} for entry in foreign],
    }


def _revoked(user: str, groups: list[str], foreign: list[Dict[str, Any]]) -> list[str]:
    """Return what a revocation leaves, as lines: which bindings still give access, which groups were looked at, what was not."""
    known = "%s and the groups %s" % (user, ", ".join(groups)) if groups else "%s (no group of the user is known)" % user
    lines = ["A copy of the certificate of %s stays valid until it expires: Kubernetes reads no revocation list." % user]
    lines += [
        "This %s still gives access: %s%s gives %s to %s."
        % (entry["kind"], entry["namespace"] + "/" if entry["namespace"] else "", entry["name"], entry["role"], entry["subject"])
        for entry in foreign
    ]
    if not foreign:
        lines.append("No role binding names %s." % known)
    lines.append(
        "Looked at: bindings for %s. Not looked at: groups of certificates that were issued elsewhere or whose request and "
        "kubeconfig are gone (name them with kubepki_user_groups), webhook authorizers, and what all authenticated users may do."
        % known
    )
    return [errors.printable(line, 1000) for line in lines]


def user_kubeconfig(params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Make a user's key and request, then the kubeconfig, or remove it. Return user_kubeconfig's result."""
    job = _UserKubeconfig(params, check)
    if params["state"] == "absent":
        return job.absent()
    return job.requested() if params["state"] == "requested" else job.present()


class _UserKubeconfig:
    def __init__(self, params: Dict[str, Any], check: bool) -> None:
        self.params, self.check = params, check
        self.path, self.user, self.groups = params["path"], params["user"], params["groups"] or []
        directory, name = os.path.split(self.path)
        self.pending = os.path.join(directory, ".%s.kubepki-key" % name)
        self.bundle = x509_read.parse_certificates(params["ca"].encode("utf-8"), "the cluster's CA") if params["ca"] else []

    def _current(self) -> tuple[kubeconfig.Kubeconfig, x509_read.Certificate] | tuple[None, None]:
        """Return (Kubeconfig, Certificate) of the file, or (None, None). Raise PkiError when it is another user's."""
        data = guarded_files.read_own(self.path)
        if data is None:
            return None, None
        config = kubeconfig.Kubeconfig(data, self.path)
        certificate = x509_read.parse_certificate(config.certificate_data, self.path) if config.certificate_data else None
        if certificate is None or certificate.common_name != self.user or config.key_data is None:
            whose = errors.printable(certificate.common_name or "nobody") if certificate else "a user without a certificate"
            raise PkiError(
                "is a kubeconfig of %s, not of %s" % (whose, self.user),
                path=self.path,
                fix="Name another path (kubepki_user_kubeconfig), or move the file away.",
            )
        self._refuse_other_cluster(config)
        return config, certificate

    def _refuse_other_cluster(self, config: kubeconfig.Kubeconfig) -> None:
        """Raise PkiError when neither the server nor a CA of the file is this cluster's: it is the same user's on another
        cluster."""
        server = self.params["server"]
        if not server or not self.bundle or config.server == server:
            return
        try:
            trusted = (
                {ca.key_sha256 for ca in x509_read.parse_certificates(config.ca_data, self.path)} if config.ca_data else set()
            )
        except PkiError:
            trusted = set()
        if not trusted & {ca.key_sha256 for ca in self.bundle}:
            raise PkiError(
                "is a kubeconfig of %s for another cluster (%s, not %s), and trusts none of this cluster's CAs"
                % (self.user, errors.printable(config.server or "no server"), server),
                path=self.path,
                fix="Name another path (kubepki_user_kubeconfig). Nothing was changed.",
            )

    def _why(self, config: Optional[kubeconfig.Kubeconfig], certificate: Any) -> Optional[str]:
        if config is None:
            return "there is no kubeconfig yet"
        if self.params["force"]:
            return "asked for"
        if sorted(certificate.organizations) != sorted(self.groups):
            return "the groups differ"
        if x509_read.private_key_digest(config.key_data, self.path) != certificate.key_sha256:
            return "its key is not its certificate's"
        return self._old_ca_reason(certificate) or csr.due(
            certificate, one_csr.days_between(self.params["renew_below_days"]), x509_read.now()
        )

    def _old_ca_reason(self, certificate: x509_read.Certificate) -> Optional[str]:
        # The first certificate of the bundle signs; a later one, or one of the same name with another key, is an old CA.
        if not self.bundle or certificate.signed_by(self.bundle[0]):
            return None
        if any(certificate.issuer == ca.subject for ca in self.bundle):
            return "the cluster's authority was replaced"
        if certificate.verified_by_key(self.bundle[0]):
            return "the subject of the cluster's CA was changed"
        return None

    def requested(self) -> Dict[str, Any]:
        """Create key and request where a certificate is due. Return user_kubeconfig's result."""
        config, certificate = self._current()
        why = self._why(config, certificate)
        result = self._answer(False, certificate, needed=why is not None, why=why)
        if why is None:
            return result
        profile = x509_sign.Profile(self.user, self.groups, (), ("client",))
        data = guarded_files.read_private(self.pending)
        try:
            key = private_keys.parse_private_key(data, self.pending) if data else None
        except PkiError:
            key = None  # no certificate was issued for it yet
        if key is None:
            key = private_keys.generate_key(self.params["key_type"])
            if not self.check:
                atomic.make_directory(os.path.dirname(self.pending) or ".")
                atomic.write(self.pending, key.pem, mode=0o600)
        result.update(changed=True, request=x509_sign.build_request(profile, key).pem.decode("ascii"))
        return result

    def present(self) -> Dict[str, Any]:
        """Write the kubeconfig and return user_kubeconfig's result. Raise PkiError."""
        config, before = self._current()
        certificate, old = before, bytes(config) if config else b""
        if self.params["certificate"]:
            certificate, key = self._issued()
            if config is None:
                config = kubeconfig.Kubeconfig(
                    kubeconfig.build(self._need("server"), self._need("ca").encode("ascii"), self.user, certificate.pem, key.pem),
                    self.path,
                )
            else:
                config = config.with_client(certificate.pem, key.pem)
        elif config is None:
            if self.check:
                return self._result(True, None, None)
            raise PkiError(
                "there is no kubeconfig, and no certificate was given",
                path=self.path,
                fix="Run state requested first and have its request signed.",
            )
        if self.params["ca"] and config.ca_data != self.params["ca"].encode("ascii"):
            config = config.with_ca(self.params["ca"].encode("ascii"))
        if self.params["server"] and config.server != self.params["server"]:
            config = config.with_server(self.params["server"])
        changed = bytes(config) != old or self._mode() != 0o600
        if changed and not self.check:
            atomic.write(self.path, bytes(config), mode=0o600)
        if not self.check:
            atomic.remove(self.pending)
        return self._result(changed, before, certificate)

    def _need(self, name: str) -> str:
        if not self.params[name]:
            raise PkiError(
                "the %s of the cluster is needed for a new kubeconfig" % name,
                path=self.path,
                fix="Pass what user_access returned (%s)." % name,
            )
        return self.params[name]

    def _mode(self) -> Optional[int]:
        return os.stat(self.path).st_mode & 0o777 if os.path.exists(self.path) else None

    def _issued(self) -> tuple[x509_read.Certificate, private_keys.PrivateKey]:
        certificate = x509_read.parse_certificate(self.params["certificate"].encode("utf-8"), "the issued certificate")
        data = guarded_files.read_private(self.pending)
        if data is None:
            raise PkiError(
                "there is no key for the issued certificate",
                path=self.pending,
                fix="Run state requested first and have its request signed.",
            )
        key = private_keys.parse_private_key(data, self.pending)
        if not key.matches(certificate):
            raise PkiError(
                "the key is not the issued certificate's",
                path=self.pending,
                fix="Run again from the beginning: another request was made in between.",
            )
        if certificate.common_name != self.user or sorted(certificate.organizations) != sorted(self.groups):
            raise PkiError(
                "was issued for %s, not as asked for" % errors.printable(certificate.subject),
                path=self.path,
                fix="Find out what the signer does to subjects.",
            )
        return certificate, key

    def _result(
        self, changed: bool, before: Optional[x509_read.Certificate], certificate: Optional[x509_read.Certificate]
    ) -> Dict[str, Any]:
        diff = {"before": before.describe() if before else {}, "after": certificate.describe() if certificate else {}}
        result = self._answer(changed, certificate, diff=diff)
        if self.check or self.params["prove"] == "no" or certificate is None:
            return result
        api = api_connection.from_kubeconfig(self.path, timeout=self.params["api_timeout"])
        try:
            result["proof"] = rbac.prove(api, self.user, self.groups)
        except api_client.ApiError:
            raise
        except PkiError as error:
            if self.params["prove"] == "yes":
                raise
            result["warnings"].append("The kubeconfig is complete and was not tried, because from here %s" % error)
        return result

    def absent(self) -> Dict[str, Any]:
        """Remove the file, if it is this user's."""
        config, certificate = self._current()
        if not self.check:
            atomic.remove(self.pending)
            atomic.remove(self.path)
        return self._answer(config is not None, certificate, groups=list(certificate.organizations) if certificate else [])

    def _answer(self, changed: bool, certificate: Optional[x509_read.Certificate], **more: Any) -> Dict[str, Any]:
        """Return user_kubeconfig's result with the given fields set."""
        answer = {
            "changed": changed,
            "path": self.path,
            "needed": False,
            "why": None,
            "request": None,
            "warnings": [],
            "proof": None,
            "certificate_info": certificate.describe() if certificate else None,
        }
        return dict(answer, **more)
