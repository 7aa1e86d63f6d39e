# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of the Certificates API do: one request, many requests, a person's credential."""

from __future__ import annotations

__metaclass__ = type

import datetime
import hashlib
import os
import re
import time
from urllib.parse import urlsplit

from . import cluster_api, files, issuing, kubeconfig, profiles, requests, reserved_names, x509
from .errors import PkiError

_OWN_REASON = "KubepkiDecision"
_USER_LABEL = {"kubepki.io/kind": "user"}


def _days(number):
    return None if number is None else datetime.timedelta(days=number)


def _slug(text, longest=40):
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")[:longest].rstrip("-.") or "user"


# --- cert_csr ----------------------------------------------------------------------------------------------------------------

def one_request(params, check):
    """Bring one CertificateSigningRequest to a state, and what was issued to a file: gives cert_csr's result."""
    api = cluster_api.connect(params)
    return _OneRequest(api, params, check).run()


class _OneRequest:
    def __init__(self, api, params, check):
        self.api, self.params, self.check = api, params, check
        self.actions, self.warnings = [], []
        self.before = self.ask = self.wanted = self.certificate = None

    def run(self):
        state, params = self.params["state"], self.params
        if state in ("absent", "denied"):
            self._existing(must_be=state == "denied")
            self._absent() if state == "absent" else self._deny()
            return self._result()
        if self._has_material():
            self._load()
            if state == "approved":
                self.wanted.refuse_dangerous(params["allow_dangerous"])
            if not params["force"] and self._file_serves():
                return self._result()
            self._present()
        else:
            self._existing(must_be=True)
        if state == "approved":
            self._approve()
        wait = params["wait"] if params["wait"] is not None else state == "approved"
        if wait and not self.check:
            self.ask = issuing.wait(self.api, self.ask, params["wait_timeout"])
        self._take_certificate()
        return self._result()

    def _has_material(self):
        params = self.params
        return bool(params["request"] or params["request_path"] or params["privatekey_path"])

    def _existing(self, must_be=False):
        self.ask = issuing.find(self.api, self.params["name"])
        self.before = self.ask
        if self.ask is None and must_be:
            raise PkiError("there is no such request", path="CertificateSigningRequest %s" % self.params["name"],
                           fix="Make it first with state present, or correct the name.")

    def _load(self):
        """Set self.wanted from what the parameters say; makes the private key where it is missing."""
        params = self.params
        if params["request"] or params["request_path"]:
            data = params["request"].encode("utf-8") if params["request"] else files.read(params["request_path"])
            request = x509.parse_request(data, params["request_path"] or "request")
        else:
            request = self._own_request(params["privatekey_path"])
        self.wanted = issuing.Wanted(params["name"], request, params["signer_name"], params["usages"],
                                     params["expiration_seconds"], params["labels"])

    def _own_request(self, path):
        params = self.params
        if not params["common_name"]:
            raise PkiError("a request from %s needs a common name" % path, fix="Give common_name, or a finished request.")
        data = files.read_own(path)
        if data is None:
            key = x509.generate_key(params["key_type"])
            self.actions.append("key made")
            if not self.check:
                files.write(path, key.pem, mode=0o600)
        else:
            key = x509.parse_private_key(data, path)
        usages = params["usages"] or requests.USAGES.get(params["signer_name"]) or ()
        extended = sorted(requests.extended_usages(usages))
        profile = x509.Profile(params["common_name"], params["organizations"] or (), params["sans"] or (), extended)
        return x509.build_request(profile, key)

    def _file_serves(self):
        """Tell whether the certificate file already is what is wanted; the API is not asked then."""
        path = self.params["path"]
        data = files.read_if_exists(path) if path else None
        if data is None:
            return False
        try:
            certificate = x509.parse_certificate(data, path)
        except PkiError as error:
            self.warnings.append("%s It is replaced." % error)
            return False
        if issuing.certificate_fault(certificate, self.wanted.request, _days(self.params["renew_below_days"]), x509.now()):
            return False
        self.certificate = certificate
        return True

    def _present(self):
        self._existing()
        why = self._why_again()
        if self.ask is not None and why is None:
            return
        if self.ask is not None:
            self.actions.append("deleted: %s" % why)
            if not self.check:
                issuing.delete(self.api, self.ask)
        self.actions.append("created")
        if self.wanted.expiration_seconds is not None and self.api.minor < 22:
            self.warnings.append("Kubernetes 1.%d knows no expirationSeconds: the signer's own validity counts "
                                 "(--cluster-signing-duration of kube-controller-manager)." % self.api.minor)
        if self.check:
            self.ask = requests.decode(self.wanted.body(self.api))
        else:
            self.ask = issuing.create(self.api, self.wanted)

    def _why_again(self):
        ask = self.ask
        if ask is None:
            return None
        if self.params["force"]:
            return "force"
        if ask.state in (requests.DENIED, requests.FAILED):
            return "it was denied" if ask.state == requests.DENIED else "its signer refused it"
        why = issuing.difference(ask, self.wanted, self.api.minor)
        if why or ask.state != requests.ISSUED:
            return why
        try:
            certificate = issuing.check_issued(ask, self.wanted.request)
        except PkiError as error:
            return error.message
        return issuing.due(certificate, _days(self.params["renew_below_days"]), x509.now())

    def _approve(self):
        if self.ask.state in (requests.DENIED, requests.FAILED):
            issuing.decide(self.api, self.ask, "Approved", "", "")  # raises
        allowed = self.params["allow_dangerous"]
        requests.refuse_dangerous_ask(self.ask, allowed)
        if not self._has_material():
            self._expected()
        found = requests.dangers(self.ask)
        if found:
            self.warnings.append("%s: %s. It is approved because that was allowed by name." % (self.ask.path, "; ".join(found)))
        if self.ask.state == requests.PENDING:
            self.actions.append("approved")
            if self.check:
                return
        elif self.check and self.ask.state in (requests.APPROVED, requests.ISSUED):
            return
        self.ask = issuing.decide(self.api, self.ask, "Approved", self.params["reason"] or _OWN_REASON,
                                  self.params["comment"] or "Approved with kubepki.lifecycle.cert_csr", allowed)

    def _expected(self):
        """Refuse to approve something else than the parameters describe. What they do not say means none, or the default."""
        params = self.params
        agreed = issuing.Agreed(params["common_name"], params["organizations"], params["sans"], params["signer_name"],
                                params["usages"], params["expiration_seconds"])
        what, have = issuing.differing(self.ask, agreed, self.api.minor) or (None, None)
        if what is not None:
            raise PkiError("it asks for the %s %s, which is not what was to be approved" % (
                what, requests.printable(", ".join(have)) or "(none)"), path=self.ask.path,
                fix="Deny it, or describe it completely in the task: what the task does not name is not approved.")

    def _deny(self):
        if self.ask.state == requests.DENIED:
            return
        self.actions.append("denied")
        if not self.check:
            self.ask = issuing.decide(self.api, self.ask, "Denied", self.params["reason"] or _OWN_REASON,
                                      self.params["comment"] or "Denied with kubepki.lifecycle.cert_csr")

    def _absent(self):
        if self.ask is None:
            return
        self.actions.append("deleted")
        if not self.check:
            issuing.delete(self.api, self.ask)
        self.ask = None

    def _take_certificate(self):
        if self.ask is None or self.ask.state != requests.ISSUED:
            return
        request = self.wanted.request if self.wanted else self.ask.request
        if request is None:
            return
        self.certificate = issuing.check_issued(self.ask, request)
        path = self.params["path"]
        if not path:
            return
        # What the signer issued, chain included where it gives one.
        data = self.ask.certificate.strip() + b"\n"
        if files.read_if_exists(path) != data:
            self.actions.append("written")
            if not self.check:
                files.write(path, data, mode=0o644 if not os.path.exists(path) else None)

    def _result(self):
        moment = x509.now()
        shown = [requests.row(ask, moment) if ask is not None else {} for ask in (self.before, self.ask)]
        pem = None
        if self.ask is not None and self.ask.certificate and self.certificate is not None:
            pem = self.ask.certificate.decode("ascii", "replace")
        elif self.certificate is not None:
            pem = self.certificate.pem.decode("ascii")
        return {"changed": bool(self.actions), "actions": self.actions, "warnings": self.warnings,
                "csr": shown[1] or None, "certificate": pem,
                "certificate_info": self.certificate.describe() if self.certificate is not None else None,
                "diff": {"before": _for_diff(shown[0]), "after": _for_diff(shown[1])}}


def _for_diff(shown):
    return {key: value for key, value in shown.items() if key not in ("age_seconds", "dangers")}


# --- csr_review --------------------------------------------------------------------------------------------------------------

def many_requests(params, check):
    """List requests and decide the pending ones by name, label or policy: gives csr_review's result."""
    api = cluster_api.connect(params)
    action = params["action"]
    policy = _policy(params)
    if action == requests.APPROVE and policy is None and not any(params["names"] or []):
        raise PkiError("a label selector alone approves nothing: the requester writes the labels of a request", path="selector",
                       fix="Give a policy with it (kubepki_csr_policy), or name the requests.")
    asks = issuing.every(api, params["selector"])
    names = [name for name in params["names"] or [] if name]
    missing = sorted(set(names) - {ask.name for ask in asks})
    if missing:
        raise PkiError("there is no CertificateSigningRequest named %s" % ", ".join(missing), path=api.server,
                       fix="Correct the names; without names all pending requests are meant.")
    if action == "list":
        shown = [ask for ask in asks if not names or ask.name in names]
        return _review(api, shown, [], x509.now())
    meant = [ask for ask in asks if (ask.name in names if names else ask.state == requests.PENDING)]
    nodes = _nodes(api, params, meant) if action == requests.APPROVE and not names else None
    decisions = [requests.decide(ask, action, policy, nodes, named=bool(names)) for ask in meant]
    allowed = requests.EVERY_NAME if names else ()
    return _review(api, [], [_Done(api, decision, params, check, allowed) for decision in decisions], x509.now())


def _policy(params):
    if params["policy"]:
        return requests.parse_policy(params["policy"], params["policy_path"] or "the policy")
    if params["policy_path"]:
        return requests.parse_policy(files.read(params["policy_path"]), params["policy_path"])
    # A label says which requests are meant; without one, only the policy does.
    return None if params["selector"] else requests.built_in_policy()


def _nodes(api, params, asks):
    if not any(ask.signer == requests.KUBELET_SERVING for ask in asks):
        return None
    found = reserved_names.find(api)
    masters = set(params["control_plane_hosts"] or [])
    inventory = [{"name": name, "addresses": [address] if address else [], "control_plane": name in masters}
                 for name, address in sorted((params["hosts"] or {}).items())]
    return requests.Nodes(api.list("/api/v1/nodes"), inventory, found.api, found.service_networks, found.domains)


class _Done:
    """A decision, carried out (unless in check mode). error: PkiError or None."""

    def __init__(self, api, decision, params, check, allowed=()):
        self.decision, self.error, self.ask = decision, None, decision.ask
        if decision.action == requests.LEAVE or check:
            return
        kind = "Approved" if decision.action == requests.APPROVE else "Denied"
        message = params["comment"] or "%s with kubepki.lifecycle: %s%s" % (
            kind, decision.why, " (rule %s)" % decision.rule if decision.rule else "")
        try:
            self.ask = issuing.decide(api, decision.ask, kind, params["reason"] or _OWN_REASON, message[:1024], allowed)
        except PkiError as error:
            self.error = error


def _review(api, asks, done, moment):
    rows = [dict(requests.row(ask, moment), decision=None, why=None, rule=None, refused=False, error=None) for ask in asks]
    for entry in done:
        decision = entry.decision
        rows.append(dict(requests.row(entry.ask, moment), decision=decision.action, why=decision.why, rule=decision.rule,
                         refused=decision.refused, error=str(entry.error) if entry.error else None))
    states = [row["state"] for row in rows]
    carried = [row["decision"] for row in rows if row["error"] is None]
    errors = [row["error"] for row in rows if row["error"]]
    counts = {state: states.count(state) for state in (requests.PENDING, requests.APPROVED, requests.ISSUED, requests.DENIED,
                                                       requests.FAILED)}
    counts.update(total=len(rows), approved_now=carried.count(requests.APPROVE), denied_now=carried.count(requests.DENY),
                  left=carried.count(requests.LEAVE), refused=sum(1 for row in rows if row["refused"]), errors=len(errors))
    result = {"changed": bool(counts["approved_now"] or counts["denied_now"]), "requests": rows, "table": requests.table(rows),
              "counts": counts, "api_calls": api.calls}
    if errors:
        result.update(failed=True, msg="%d of %d could not be decided. The first: %s" % (len(errors), len(rows), errors[0]))
    return result


# --- kubelet_serving_api -----------------------------------------------------------------------------------------------------

def serving_requests(api, params, check):
    """Decide the pending requests for kubelets' serving certificates, with what the nodes said over SSH: as many_requests().

    params: "answers" ([{"host", "node", "key"}]), "days", and "hosts", "control_plane_hosts" as in csr_review. Raises PkiError
    when two hosts say that they are the same Node.
    """
    keys, owners = {}, {}
    for answer in params["answers"]:
        other = owners.setdefault(answer["node"], answer["host"])
        if other != answer["host"]:
            raise PkiError("%s and %s both say that they are the Node %s, so nothing was decided" % (
                other, answer["host"], answer["node"]), fix="One of the two is not what it says, or the inventory has it twice.")
        if answer["host"] in keys:
            raise PkiError("two answers are from %s, so nothing was decided" % answer["host"],
                           fix="Gather the answers with kubelet_summary (step answers), each under the host that it came from.")
        keys[answer["host"]] = (answer["node"], answer["key"])
    asks = [ask for ask in issuing.every(api) if ask.state == requests.PENDING and ask.signer == requests.KUBELET_SERVING]
    nodes = _nodes(api, params, asks)
    # An answer counts only for the Node that its host is. Another Node's request is neither approved nor denied for it.
    keys = {host: said for host, said in keys.items() if nodes is not None and nodes.hosts.get(said[0], {}).get("name") == host}
    longest = issuing.validity(params["days"]) if issuing.knows_validity(api) else None
    decisions = [requests.decide_serving(ask, nodes, keys, longest) for ask in asks]
    return _review(api, [], [_Done(api, decision, {"reason": None, "comment": None}, check) for decision in decisions],
                   x509.now())


# --- csr_sign ----------------------------------------------------------------------------------------------------------------

_EXTERNAL = {"kubepki.io/kind": "external-ca"}
_SPELLED = {"client": "client auth", "server": "server auth"}  # what kubeadm's certificates are for; no other is asked for


def sign_many(params, check):
    """Have requests signed that were made elsewhere: gives csr_sign's result.

    One call lists them all, however many there are; one each creates and approves those that need it.
    """
    api = cluster_api.connect(params)
    wanted = [_wanted(entry, params["signer_name"]) for entry in params["requests"]]
    there = {ask.name: ask for ask in issuing.every(api, _selector())} if wanted else {}
    made, approved, wrong = [], [], []
    for one in wanted:
        try:
            ask = there.get(one.name)
            if ask is None:
                made.append(one.name)
                ask = there[one.name] = requests.decode(one.body(api)) if check else _created(api, one)
            why = issuing.difference(ask, one, api.minor)
            if why:
                raise PkiError("%s from what is to be signed" % why, path=ask.path, fix="Delete it, then run again.")
            if params["approve"] and ask.state == requests.PENDING:
                approved.append(one.name)
                if not check:
                    there[one.name] = issuing.decide(api, ask, "Approved", _OWN_REASON,
                                                     "Approved with kubepki.lifecycle.csr_sign", one.allowed)
        except PkiError as error:
            wrong.append(str(error))
    if wrong:
        raise PkiError("%d of %d requests cannot be signed. %s" % (len(wrong), len(wanted), " ".join(wrong[:3])),
                       path=api.server)
    if params["approve"] and not check:
        _wait_for_all(api, wanted, there, params["wait_timeout"])
    issued = [(entry, there[one.name]) for entry, one in zip(params["requests"], wanted)]
    return {"changed": bool(made or approved), "created": made, "approved": approved, "api_calls": api.calls,
            "certificates": [{"host": entry["host"], "name": entry["name"],
                              "certificate": ask.certificate.decode("ascii", "replace")}
                             for entry, ask in issued if ask.state == requests.ISSUED],
            "awaited": [ask.name for _entry, ask in issued if ask.state != requests.ISSUED]}


def _selector():
    return ",".join("%s=%s" % pair for pair in sorted(_EXTERNAL.items()))


def _wanted(entry, signer):
    signer = signer.replace("{ca}", entry["ca"])
    # What a leaf of the catalogue has is allowed by its name; for any other name nothing is.
    where = "the request of %s for %s" % (requests.printable(entry["host"]), requests.printable(entry["name"]))
    allowed = profiles.subject_names(entry["name"])
    request = requests.refuse_dangerous_request(entry["request"], allowed=allowed, path=where)
    unknown = [usage for usage in request.extended_usages if usage not in _SPELLED]
    usages = ["digital signature", "key encipherment"]
    usages += [_SPELLED[usage] for usage in request.extended_usages if usage in _SPELLED]
    given = requests.USAGES.get(signer)
    if unknown or (given and not set(usages) <= set(given)):
        raise PkiError("%s on %s needs the usages %s, and the signer %s does not give them" % (
            entry["name"], entry["host"], ", ".join(usages + unknown), signer), path="the request for %s" % entry["name"],
            fix="Name another signer, or have this one signed by hand or by a command.")
    # The key is in the name, so that a second run finds the same object, and a renewed request makes another.
    name = "kubepki-%s-%s-%s" % (_slug(entry["host"]), _slug(entry["name"]), request.key_sha256[:12])
    return issuing.Wanted(name, request, signer, usages, max(600, int(entry["days"] * 86400)),
                          dict(_EXTERNAL, **issuing.MANAGED_BY), allowed)


def _created(api, wanted):
    try:
        return issuing.create(api, wanted)
    except cluster_api.ApiError as error:
        if error.status != 409:
            raise
    ask = issuing.find(api, wanted.name)
    if ask is None:
        raise PkiError("was there, and is gone", path="CertificateSigningRequest %s" % wanted.name, fix="Run again.")
    return ask


def _wait_for_all(api, wanted, there, seconds):
    """Replace the Asks in there, {name: Ask}, by issued ones. One list call serves for all that are awaited."""
    deadline = time.monotonic() + seconds
    while True:
        awaited = []
        for one in wanted:
            ask = there.get(one.name)
            if ask is None:
                raise PkiError("it was deleted while its certificate was waited for",
                               path="CertificateSigningRequest " + one.name, fix="Run again.")
            if ask.state in (requests.DENIED, requests.FAILED):
                said = requests.printable(ask.message or ask.reason or "no reason given")
                raise PkiError("it was %s (%s)" % ("denied" if ask.state == requests.DENIED else "refused by its signer", said),
                               path=ask.path, fix="Correct the cause and delete it, then run again.")
            if ask.state != requests.ISSUED:
                awaited.append(ask)
        if not awaited:
            return
        if time.monotonic() > deadline:
            raise PkiError("%d of %d requests are approved, and their signer has not signed them within %g seconds" % (
                len(awaited), len(wanted), seconds), path=awaited[0].path,
                fix="Look at the controller that signs for %s; the requests stay." % requests.printable(awaited[0].signer))
        time.sleep(0.3)
        names = {one.name for one in wanted}
        found = {ask.name: ask for ask in issuing.every(api, _selector()) if ask.name in names}
        there.clear()
        there.update(found)


# --- user_access -------------------------------------------------------------------------------------------------------------

def user_access(params, check):
    """Issue a user's certificate and give or remove roles. Return user_access's result.

    Order: check names and groups, then that every role exists, then issue, and bind last. A run that is refused gives nothing
    away.
    """
    api = cluster_api.connect(params)
    server = params["server"] or api.server
    result = {"changed": False, "actions": [], "server": server, "minor": api.minor, "warnings": [],
              "ca": api.ca_pem.decode("ascii", "replace") if api.ca_pem else None, "certificate": None,
              "kubeconfig_name": kubeconfig_name(params["user"], server)}
    if params["state"] == "absent":
        return dict(result, **_revoke(api, params, check))
    requests.refuse_reserved_identity(params["user"], params["groups"] or ())
    if params["state"] == "queried":
        return result
    missing = [binding for binding in _bindings(params) if issuing.bind(api, binding, check=True)]
    if params["request"]:
        _issue(api, params, check, result)
    for binding in missing:
        if check or issuing.bind(api, binding):
            result["actions"].append("bound %s %s" % (binding.kind, binding.role))
    result["changed"] = bool(result["actions"])
    return result


def kubeconfig_name(user, server):
    """Return the default file name of a user's kubeconfig: user and API server, so that two clusters never share one.

    user: str. server: URL. Return str of letters, digits, dots, hyphens, underscores and one @, never a path and never hidden.
    """
    def plain(text):
        word = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")
        if word == text and len(word) <= 60:
            return word
        return "%s-%s" % (word[:60] or "user", hashlib.sha256(text.encode("utf-8")).hexdigest()[:8])

    return "%s@%s.kubeconfig" % (plain(user), plain(urlsplit(server).hostname or "cluster"))


def _bindings(params):
    found = []
    for role in params["cluster_roles"] or []:
        found.append(issuing.Binding(params["user"], "ClusterRole", role, params["namespace"]))
    for role in params["roles"] or []:
        found.append(issuing.Binding(params["user"], "Role", role, params["namespace"]))
    return found


def _issue(api, params, check, result):
    request = x509.parse_request(params["request"].encode("utf-8"), "the request for %s" % params["user"])
    if request.common_names != [params["user"]] or sorted(request.organizations) != sorted(params["groups"] or []):
        raise PkiError("the request is for %s and not for the user" % request.subject, path=params["user"],
                       fix="Make it with user_kubeconfig, for the same user and groups.")
    seconds = int(params["days"] * 86400)
    name = "kubepki-user-%s-%s" % (_slug(params["user"]), request.key_sha256[:8])
    wanted = issuing.Wanted(name, request, requests.CLIENT, None, seconds, dict(issuing.MANAGED_BY, **_USER_LABEL))
    try:
        wanted.refuse_dangerous()
    except PkiError as error:
        raise PkiError(error.message, path=params["user"], fix="Give users names and groups of their own. What the system "
                       "needs is made by kubeadm; for anything else there is cert_csr (allow_dangerous).") from None
    if api.minor < 22:
        result["warnings"].append("Kubernetes 1.%d issues for as long as its controller manager says (one year, unless "
                                  "--cluster-signing-duration is set), not for %g days." % (api.minor, params["days"]))
    result["actions"].append("issued")
    if check:
        return
    ask = issuing.find(api, name)
    if ask is not None and (ask.state in (requests.DENIED, requests.FAILED) or issuing.difference(ask, wanted, api.minor)):
        issuing.delete(api, ask)
        ask = None
    ask = ask or issuing.create(api, wanted)
    ask = issuing.decide(api, ask, "Approved", "KubepkiIssueUser", "Approved with the playbook issue_user of kubepki.lifecycle")
    ask = issuing.wait(api, ask, params["wait_timeout"])
    certificate = issuing.check_issued(ask, request)
    _check_accepted(api, certificate)
    result["certificate"] = certificate.pem.decode("ascii")


def _check_accepted(api, certificate):
    """Make sure that the API servers let in what was issued: their client CA bundle is in a ConfigMap of kube-system."""
    item = api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication") or {}
    bundle = (item.get("data") or {}).get("client-ca-file")
    if not bundle:
        return
    trusted = x509.parse_certificates(bundle.encode("utf-8"), "extension-apiserver-authentication")
    # An intermediate that signs is trusted through a chain, which the proof with a request will show.
    names = [ca.subject for ca in trusted]
    if certificate.issuer in names and not any(certificate.signed_by(ca) for ca in trusted):
        raise PkiError("what was issued is signed by an authority that the API servers do not trust",
                       path=api.server,
                       fix="kube-controller-manager signs with another key than the cluster's CA: see its signing flags.")


def _revoke(api, params, check):
    """Remove the bindings and requests that this collection made for a user. Return what else gives access, and what was looked
    at.

    Groups: those given, and those in the user's requests that are still there; the role adds those in the kubeconfig's
    certificate.
    """
    labels = ",".join("%s=%s" % entry for entry in sorted(dict(issuing.MANAGED_BY, **_USER_LABEL).items()))
    every = [ask for ask in issuing.every(api) if ask.request and ask.request.common_names == [params["user"]]]
    groups = sorted({group for ask in every for group in ask.request.organizations} | set(params["groups"] or ()))
    own, foreign = issuing.bindings_of(api, params["user"], groups)
    ours = {ask.name for ask in issuing.every(api, labels)}
    asks = [ask for ask in every if ask.name in ours]
    actions = ["removed %s %s" % (entry["kind"], entry["name"]) for entry in own] + ["deleted %s" % ask.path for ask in asks]
    if not check:
        for entry in own:
            api.call("DELETE", entry["path"], {"preconditions": {"uid": entry["uid"]}})
        for ask in asks:
            issuing.delete(api, ask)
    shown = ("kind", "namespace", "name", "role", "subject")
    return {"changed": bool(actions), "actions": actions, "groups": groups, "summary": _revoked(params["user"], groups, foreign),
            "remaining": [{key: entry[key] for key in shown} for entry in foreign]}


def _revoked(user, groups, foreign):
    """Return what a revocation leaves, as lines: which bindings still give access, which groups were looked at, what was not."""
    known = "%s and the groups %s" % (user, ", ".join(groups)) if groups else "%s (no group of the user is known)" % user
    lines = ["A copy of the certificate of %s stays valid until it expires: Kubernetes reads no revocation list." % user]
    lines += ["This %s still gives access: %s%s gives %s to %s." % (
        entry["kind"], entry["namespace"] + "/" if entry["namespace"] else "", entry["name"], entry["role"], entry["subject"])
        for entry in foreign]
    if not foreign:
        lines.append("No role binding names %s." % known)
    lines.append("Looked at: bindings for %s. Not looked at: groups of certificates that were issued elsewhere or whose request and "
                 "kubeconfig are gone (name them with kubepki_user_groups), webhook authorizers, and what all authenticated users may do."
                 % known)
    return [requests.printable(line, 1000) for line in lines]


# --- user_kubeconfig ---------------------------------------------------------------------------------------------------------

def user_kubeconfig(params, check):
    """A person's kubeconfig where it lives: its key and request, then the file itself: gives user_kubeconfig's result."""
    job = _UserKubeconfig(params, check)
    if params["state"] == "absent":
        return job.absent()
    return job.requested() if params["state"] == "requested" else job.present()


class _UserKubeconfig:
    def __init__(self, params, check):
        self.params, self.check = params, check
        self.path, self.user, self.groups = params["path"], params["user"], params["groups"] or []
        directory, name = os.path.split(self.path)
        self.pending = os.path.join(directory, ".%s.kubepki-key" % name)
        self.bundle = x509.parse_certificates(params["ca"].encode("utf-8"), "the cluster's CA") if params["ca"] else []

    def _current(self):
        """Give (Kubeconfig, x509.Certificate) of the file, or (None, None). Raises PkiError when it is somebody else's."""
        data = files.read_own(self.path)
        if data is None:
            return None, None
        config = kubeconfig.Kubeconfig(data, self.path)
        certificate = x509.parse_certificate(config.certificate_data, self.path) if config.certificate_data else None
        if certificate is None or certificate.common_name != self.user or config.key_data is None:
            whose = requests.printable(certificate.common_name or "nobody") if certificate else "a user without a certificate"
            raise PkiError("is a kubeconfig of %s, not of %s" % (whose, self.user), path=self.path,
                           fix="Name another path (kubepki_user_kubeconfig), or move the file away.")
        self._refuse_other_cluster(config)
        return config, certificate

    def _refuse_other_cluster(self, config):
        """Raise PkiError when neither the server nor a CA of the file is this cluster's: it is the same user's on another
        cluster."""
        server = self.params["server"]
        if not server or not self.bundle or config.server == server:
            return
        try:
            trusted = {ca.key_sha256 for ca in x509.parse_certificates(config.ca_data, self.path)} if config.ca_data else set()
        except PkiError:
            trusted = set()
        if not trusted & {ca.key_sha256 for ca in self.bundle}:
            raise PkiError("is a kubeconfig of %s for another cluster (%s, not %s), and trusts none of this cluster's CAs" % (
                self.user, requests.printable(config.server or "no server"), server), path=self.path,
                fix="Name another path (kubepki_user_kubeconfig). Nothing was changed.")

    def _why(self, config, certificate):
        if config is None:
            return "there is no kubeconfig yet"
        if self.params["force"]:
            return "asked for"
        if sorted(certificate.organizations) != sorted(self.groups):
            return "the groups differ"
        if x509.private_key_digest(config.key_data, self.path) != certificate.key_sha256:
            return "its key is not its certificate's"
        return self._old_authority(certificate) or issuing.due(certificate, _days(self.params["renew_below_days"]), x509.now())

    def _old_authority(self, certificate):
        # The first certificate of the bundle signs; a later one, or one of the same name with another key, is on its way out.
        if not self.bundle or certificate.signed_by(self.bundle[0]):
            return None
        if any(certificate.issuer == ca.subject for ca in self.bundle):
            return "the cluster's authority was replaced"
        if certificate.verified_by_key(self.bundle[0]):
            return "the subject of the cluster's CA was changed"
        return None

    def requested(self):
        config, certificate = self._current()
        why = self._why(config, certificate)
        result = {"changed": False, "path": self.path, "needed": why is not None, "why": why, "request": None, "warnings": [],
                  "proof": None, "certificate_info": certificate.describe() if certificate else None}
        if why is None:
            return result
        profile = x509.Profile(self.user, self.groups, (), ("client",))
        data = files.read_private(self.pending)
        try:
            key = x509.parse_private_key(data, self.pending) if data else None
        except PkiError:
            key = None  # a key nobody has a certificate for yet
        if key is None:
            key = x509.generate_key(self.params["key_type"])
            if not self.check:
                files.make_directory(os.path.dirname(self.pending) or ".")
                files.write(self.pending, key.pem, mode=0o600)
        result.update(changed=True, request=x509.build_request(profile, key).pem.decode("ascii"))
        return result

    def present(self):
        config, before = self._current()
        certificate, old = before, bytes(config) if config else b""
        if self.params["certificate"]:
            certificate, key = self._issued()
            if config is None:
                config = kubeconfig.Kubeconfig(kubeconfig.build(self._need("server"), self._need("ca").encode("ascii"), self.user,
                                                                certificate.pem, key.pem), self.path)
            else:
                config = config.with_client(certificate.pem, key.pem)
        elif config is None:
            if self.check:
                return self._result(True, None, None)
            raise PkiError("there is no kubeconfig, and no certificate was given", path=self.path,
                           fix="Run state requested first and have its request signed.")
        if self.params["ca"] and config.ca_data != self.params["ca"].encode("ascii"):
            config = config.with_ca(self.params["ca"].encode("ascii"))
        if self.params["server"] and config.server != self.params["server"]:
            config = config.with_server(self.params["server"])
        changed = bytes(config) != old or self._mode() != 0o600
        if changed and not self.check:
            files.write(self.path, bytes(config), mode=0o600)
        if not self.check:
            files.remove(self.pending)
        return self._result(changed, before, certificate)

    def _need(self, name):
        if not self.params[name]:
            raise PkiError("the %s of the cluster is needed for a new kubeconfig" % name, path=self.path,
                           fix="Pass what user_access gave (%s)." % name)
        return self.params[name]

    def _mode(self):
        return os.stat(self.path).st_mode & 0o777 if os.path.exists(self.path) else None

    def _issued(self):
        certificate = x509.parse_certificate(self.params["certificate"].encode("utf-8"), "the issued certificate")
        data = files.read_private(self.pending)
        if data is None:
            raise PkiError("there is no key for the issued certificate", path=self.pending,
                           fix="Run state requested first and have its request signed.")
        key = x509.parse_private_key(data, self.pending)
        if not key.matches(certificate):
            raise PkiError("the key is not the issued certificate's", path=self.pending,
                           fix="Run again from the beginning: another request was made in between.")
        if certificate.common_name != self.user or sorted(certificate.organizations) != sorted(self.groups):
            raise PkiError("was issued for %s, not as asked for" % requests.printable(certificate.subject), path=self.path,
                           fix="Find out what the signer does to subjects.")
        return certificate, key

    def _result(self, changed, before, certificate):
        result = {"changed": changed, "path": self.path, "needed": False, "why": None, "request": None, "warnings": [],
                  "proof": None, "certificate_info": certificate.describe() if certificate else None,
                  "diff": {"before": before.describe() if before else {}, "after": certificate.describe() if certificate else {}}}
        if self.check or self.params["prove"] == "no" or certificate is None:
            return result
        api = cluster_api.from_kubeconfig(self.path, timeout=self.params["api_timeout"])
        try:
            result["proof"] = issuing.prove(api, self.user, self.groups)
        except cluster_api.ApiError:
            raise
        except PkiError as error:
            if self.params["prove"] == "yes":
                raise
            result["warnings"].append("The kubeconfig is complete and was not tried, because from here %s" % error)
        return result

    def absent(self):
        """Remove the file, if it is this user's."""
        config, certificate = self._current()
        if not self.check:
            files.remove(self.pending)
            files.remove(self.path)
        return {"changed": config is not None, "path": self.path, "needed": False, "why": None, "request": None, "warnings": [],
                "proof": None, "certificate_info": certificate.describe() if certificate else None,
                "groups": list(certificate.organizations) if certificate else []}
