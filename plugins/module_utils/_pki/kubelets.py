# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's client credential: judge it, make a request for another, sign requests, install, restart, prove.

Where the kubelet keeps it: kubelet.conf names <cert dir>/kubelet-client-current.pem for certificate and key, a symbolic link to
the newest kubelet-client-<time>.pem, which holds both (client-go util/certificate/certificate_store.go; issue 4). The kubelet
takes a replaced file up when it is restarted, and not before.
"""

from __future__ import annotations

__metaclass__ = type

import base64
import calendar
import contextlib
import json
import os
import re
import stat
import subprocess
import time

from . import files, kubeconfig, probe, restarts, serving, x509
from .errors import PkiError

NODE_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
KEEP, REISSUE, RESTART = "keep", "reissue", "restart"

# The transaction of an installation, and the note that a kubelet has to be restarted before a run is done.
JOB = "kubelet-credential"
PENDING = restarts.KUBELET
BACKUP_JOB = "kubelet"

# What the kubelet itself makes (pkg/kubelet/certificate/kubelet.go: ECDSA P-256), where nothing tells the key type.
DEFAULT_KEY_TYPE = "ecdsa-p256"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
_CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_CURRENT = "kubelet-client-current.pem"
_DATED = r"%s-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d\.pem"
# RFC 1123 subdomain, as the API server takes it for the name of a Node (apimachinery util/validation).
_NODE_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_DAY = 86400.0
_SYSTEMD = "Only kubelets that systemd runs can be restarted."
_AGAIN = "Run the playbook again: it makes a new key and a new request."


def current_path(layout):
    """Give the path of the link that kubelet.conf has to name (str)."""
    return os.path.join(layout.kubelet["cert_dir"], _CURRENT)


def read_config(layout):
    """Give this node's kubelet.conf as a Kubeconfig. Raises PkiError when it is missing or damaged."""
    path = layout.kubelet["kubeconfig_path"]
    return kubeconfig.Kubeconfig(files.read(path), path)


def _read_config_if_usable(layout):
    try:
        return read_config(layout)
    except PkiError:
        return None


def certificate_in_use(layout):
    """Give the x509.Certificate that kubelet.conf leads to, or None when there is none that can be read."""
    config = _read_config_if_usable(layout)
    return Credential(config).certificate if config else None


class Credential:
    """What a kubelet.conf uses now. certificate: x509.Certificate or None; pem: (certificate, key) as bytes or None.

    problem: PkiError or None, why the pair cannot be used. path: where the certificate lies.
    """

    def __init__(self, config):
        self.certificate = self.pem = self.problem = None
        self.path = config.certificate_file or config.path
        try:
            data = config.certificate_data or (files.read(config.certificate_file) if config.certificate_file else b"")
            key_data = config.key_data or (files.read(config.key_file) if config.key_file else b"")
            self.certificate = x509.parse_certificate(data, self.path)
            digest = x509.private_key_digest(key_data, config.key_file or config.path)
            if digest != self.certificate.key_sha256:
                raise PkiError("the private key does not belong to the certificate", path=self.path)
            self.pem = (data, key_data)
        except PkiError as error:
            self.problem = error


def _ca_file(layout):
    return layout.kubelet["ca_file"] or os.path.join(layout.pki_dir, "ca.crt")


def trusted(layout):
    """Give the [Certificate] of the CA file that this node has for clients (pki/ca.crt), empty where it is unreadable."""
    path = _ca_file(layout)
    try:
        return x509.parse_certificates(files.read(path), path)
    except PkiError:
        return []


def examine(layout, below_days=90.0, force=False, state_dir=files.STATE_DIR, ask=None):
    """Judge this node's credential. Gives {"node", "action", "reasons", "before"}.

    layout: a pki_tree.Layout. below_days: fewer days left are too few, for a short-lived
    certificate fewer than a third of its life. force: reissue in any case. ask: function(Kubeconfig,
    pem pair) that gives None, or why the API server does not take the pair; None asks nobody. action: "keep"; "reissue"; or
    "restart", when a killed run has installed a credential that no restart of the kubelet has followed. reasons: [str].
    before: what a diff shows of the certificate, or None. Raises PkiError when the node has no kubelet of kubeadm's kind.
    """
    if layout.role == "none":
        raise PkiError("no kubelet is set up here: neither %s nor %s exists" % (
            layout.kubelet["kubeconfig_path"], layout.kubelet["config_path"]), fix="Take the host out of kube_node, or join it.")
    config, credential, reasons = None, None, []
    try:
        config = read_config(layout)
        credential = Credential(config)
    except PkiError as error:
        reasons.append("%s %s" % (os.path.basename(layout.kubelet["kubeconfig_path"]), error.message))
    if config is not None:
        reasons += _wrong_place(layout, config)
        reasons += _wrong_certificate(layout, credential, below_days)
        reasons += _dead_trust(layout, config)
    if not reasons and ask is not None:
        refused = ask(config, credential.pem)
        reasons += [refused] if refused else []
    if force and not reasons:
        reasons.append("asked for")
    action = REISSUE if reasons else KEEP
    pending = files.Journal(PENDING, state_dir).load()
    if pending is not None and action == KEEP:
        action, reasons = RESTART, ["a run that did not end has left the kubelet's restart undone"]
    certificate = credential.certificate if credential else None
    return {"node": layout.node_name, "action": action, "reasons": reasons,
            "before": certificate.describe() if certificate else None}


def _wrong_place(layout, config):
    current = current_path(layout)
    if config.certificate_data or config.key_data:
        return ["kubelet.conf holds the credential itself, where rotation cannot replace it"]
    if config.certificate_file != current or config.key_file != current:
        named = config.certificate_file or config.key_file or "no certificate"
        return ["kubelet.conf names %s instead of %s" % (named, _CURRENT)]
    if not os.path.lexists(current):
        return ["%s is missing" % _CURRENT]
    if not os.path.islink(current):
        return ["%s is not a symbolic link, so that the kubelet cannot rotate it" % _CURRENT]
    if not os.path.exists(current):
        return ["%s is a broken link" % _CURRENT]
    mode = stat.S_IMODE(os.stat(current).st_mode)
    return ["the private key is open to others (mode %04o)" % mode] if mode & 0o077 else []


def _wrong_certificate(layout, credential, below_days):
    certificate = credential.certificate
    if certificate is None or credential.problem:
        return ["the credential is unusable: %s" % credential.problem.message]
    if certificate.common_name != NODE_PREFIX + layout.node_name or certificate.organizations != [NODES_GROUP]:
        return ["it is made out to %s, and this node is %s" % (certificate.subject, layout.node_name)]
    dates = wrong_dates(certificate, below_days)
    if dates:
        return [dates]
    authorities = trusted(layout)
    if authorities and not any(certificate.signed_by(ca) for ca in authorities):
        return ["no CA of this node's ca.crt has signed it"]
    return []


def wrong_dates(certificate, below_days):
    """Say why a certificate is due by its dates (str), or give None. below_days: as in examine()."""
    left = (certificate.not_after - x509.now()).total_seconds() / _DAY
    if left <= 0:
        return "it expired on %s" % x509.timestamp(certificate.not_after)
    lifetime = (certificate.not_after - certificate.not_before).total_seconds() / _DAY
    # Where the cluster signs for a month or a day, below_days alone would always be true; the kubelet itself rotates when 10 to
    # 30 percent are left (client-go util/certificate: nextRotationDeadline).
    return "%.1f days of its %.0f are left" % (left, lifetime) if left < min(below_days, lifetime / 3) else None


def _dead_trust(layout, config):
    reasons = [] if _alive(config) else ["kubelet.conf names no CA that is still valid"]
    if _dead_bootstrap(layout):
        reasons.append("%s names a CA that is gone" % os.path.basename(layout.kubelet["bootstrap_kubeconfig_path"]))
    return reasons


def _dead_bootstrap(layout):
    path = layout.kubelet["bootstrap_kubeconfig_path"]
    try:
        bootstrap = kubeconfig.Kubeconfig(files.read(path), path)
    except PkiError:
        return False  # usually it is not there: kubeadm removes it once the kubelet has its certificate
    known = {ca.sha256 for ca in trusted(layout)}
    return bool(known) and not {ca.sha256 for ca in _authorities(bootstrap)} & known


def _authorities(config):
    try:
        return x509.parse_certificates(ca_pem(config) or b"", config.path)
    except PkiError:
        return []


def _alive(config):
    return any(ca.not_after > x509.now() for ca in _authorities(config))


def ca_pem(config):
    """Give the CA bundle that a Kubeconfig trusts, embedded or named, as PEM bytes; None without one. Raises PkiError."""
    return config.ca_data or (files.read(config.ca_file) if config.ca_file else None)


# --- the request, on the node ---------------------------------------------------------------------------------------------


def staged_key_path(state_dir=files.STATE_DIR):
    """Give where the key of a request waits for its certificate (0600, in a directory with 0700)."""
    return os.path.join(state_dir, "kubelet", "requested.key")


def make_request(layout, key_type=None, state_dir=files.STATE_DIR):
    """Make a new key and a request for this node's name. Gives the request's PEM (str), which is public.

    key_type: one of x509.KEY_TYPES, or None for that of the present certificate. The key stays on the node, staged 0600; an
    earlier staged one is replaced. Raises PkiError (unknown type, no space, read-only).
    """
    name = check_node_name(layout.node_name)
    if not key_type:
        certificate = certificate_in_use(layout)
        key_type = certificate.key_type if certificate and certificate.key_type in x509.KEY_TYPES else DEFAULT_KEY_TYPE
    key = x509.generate_key(key_type)
    request = x509.build_request(x509.Profile(NODE_PREFIX + name, [NODES_GROUP], (), ("client",)), key)
    path = staged_key_path(state_dir)
    files.make_directory(os.path.dirname(path))
    files.write(path, key.pem, mode=0o600)
    return request.pem.decode("ascii")


def check_node_name(name):
    """Give the name when a Node can have it. Raises PkiError otherwise."""
    if not name or len(name) > 253 or not _NODE_NAME.match(name):
        raise PkiError("%r cannot be the name of a Node" % (name,),
                       fix="Set the kubelet's --hostname-override, or the host's name.")
    return name


# --- signing, on a control-plane node -----------------------------------------------------------------------------------------


def sign(requests, ca, ca_key, days, known=None):
    """Sign a list of requests with the cluster's CA. Gives {host: certificate PEM (str)}.

    requests: [{"host": inventory name, "node": name it says it has, "request": PEM str}]. ca, ca_key: Certificate and
    PrivateKey. days: validity, cut to the CA's own. known: names of the Nodes in the API (a set), or None when nobody could be
    asked. Every request is checked before the first is signed: raises one PkiError that names the host at fault.
    """
    x509.check_signer(ca, ca_key)
    left = (ca.not_after - x509.now()).total_seconds() / _DAY
    if left <= 0:
        raise PkiError("the CA expired on %s" % x509.timestamp(ca.not_after), path=ca.path,
                       fix="Renew it first: the playbook kubepki.lifecycle.recover does.")
    parsed, owners = [], {}
    for entry in requests:
        parsed.append((entry["host"], _checked(entry, known)))
        other = owners.setdefault(entry["node"], entry["host"])
        if other != entry["host"]:
            raise PkiError("%s and %s both say that they are the Node %s, so no request was signed" % (
                other, entry["host"], entry["node"]), fix="One of the two is not what it says, or the inventory has it twice.")
    signed = {}
    for host, request in parsed:
        profile = x509.Profile(request.common_name, [NODES_GROUP], (), ("client",))
        signed[host] = x509.sign_leaf(profile, request, ca, ca_key, min(days, left)).pem.decode("ascii")
    return signed


def _checked(entry, known):
    host, node = entry["host"], entry["node"]
    check_node_name(node)
    request = x509.parse_request(entry["request"].encode("utf-8"), "the request of %s" % host)
    # The whole subject, not its parts: another attribute would go unnoticed, and into the certificate of a laxer signer.
    wanted = x509.Profile(NODE_PREFIX + node, [NODES_GROUP]).subject
    if request.raw.subject != wanted:
        raise PkiError("the request asks for the subject %s, and only %s may be signed for it" % (
            request.subject, wanted.rfc4514_string()), path=host, fix="Nothing was signed. See who made that request.")
    if request.sans or request.wants_ca or request.extended_usages not in ([], ["client"]):
        raise PkiError("the request asks for more than a client certificate (names, other usages or a CA)", path=host,
                       fix="Nothing was signed. See who made that request.")
    if known is not None and node not in known:
        raise PkiError("calls itself %s, and the API has no Node of that name (it has %s)" % (node, _some(known)), path=host,
                       fix="Correct the kubelet's --hostname-override or the host's name; or join the host first.")
    return request


def _some(names, count=5):
    names = sorted(names)
    return ", ".join(names[:count]) + (" and %d more" % (len(names) - count) if len(names) > count else "") if names else "none"


# --- the API, as this node sees it --------------------------------------------------------------------------------------------


class Api:
    """The API server that a kubeconfig names, asked with one credential.

    server: URL. ca: PEM bytes whom to trust, or None. pair: (certificate PEM, key PEM) as bytes. timeout: seconds a step.
    """

    def __init__(self, server, ca, pair, timeout=5.0):
        self.server, self.ca, self.pair, self.timeout = (server or "").rstrip("/"), ca, pair, timeout

    @classmethod
    def of(cls, config, timeout=5.0):
        """Make one from a Kubeconfig: its server, CA and credential. Raises PkiError when the credential is unusable."""
        credential = Credential(config)
        if credential.problem:
            raise credential.problem
        return cls(config.server, ca_pem(config), credential.pem, timeout)

    def call(self, path, document=None):
        """GET a path, or POST a document (dict) to it. Gives the probe.Answer. Raises PkiError without an answer."""
        body = json.dumps(document).encode("utf-8") if document is not None else None
        return probe.http_request(self.server + path, "POST" if body else "GET", body, ca_pem=self.ca, client=self.pair,
                                  timeout=self.timeout)

    def node(self, name):
        """Give the Answer about a Node."""
        return self.call("/api/v1/nodes/" + name)

    def lease(self, name):
        """Give the Answer about the lease that the Node's kubelet renews (every 10 s)."""
        return self.call("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/" + name)

    def whoami(self):
        """Give the user name that the API server sees (SelfSubjectReview, 1.28 and later), or None where it cannot say."""
        answer = self.call("/apis/authentication.k8s.io/v1/selfsubjectreviews",
                           {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        if answer.status not in (200, 201):
            return None
        return ((answer.json().get("status") or {}).get("userInfo") or {}).get("username")

    def node_names(self):
        """Give the names of all Nodes, as a set. Raises PkiError."""
        names, token = set(), ""
        while True:
            # A Node with its list of images has 15 KB.
            answer = self.call("/api/v1/nodes?limit=100" + ("&continue=" + token if token else ""))
            if answer.status != 200:
                raise PkiError("the list of Nodes was answered with HTTP %d%s" % (answer.status, _said(answer)), path=self.server)
            document = answer.json()
            names.update(item["metadata"]["name"] for item in document.get("items") or [])
            token = (document.get("metadata") or {}).get("continue") or ""
            if not token:
                return names


def _said(answer):
    text = answer.json().get("message")
    return " (%s)" % str(text)[:160] if text else ""


def untrusted(error):
    """Tell whether a PkiError says that a server's certificate is not signed by the CA that it was checked against."""
    return "not signed by the CA" in error.message


def refusal(config, pair, node, timeout=3.0):
    """Say why the API server does not take a credential, or give None: it does, or it cannot be asked.

    config: a Kubeconfig, for server and CA. pair: (certificate, key) as PEM bytes.
    """
    try:
        answer = Api(config.server, ca_pem(config), pair, timeout).node(node)
    except PkiError as error:
        return "kubelet.conf does not trust the API server: it %s" % error.message if untrusted(error) else None
    return "the API server does not take it (HTTP 401)" if answer.status == 401 else None


def certify(config, request, days, timeout=60.0):
    """Let the cluster sign a request through the Certificates API, as the kubelet does when it rotates by itself.

    config: the node's kubelet.conf, whose credential has to be valid still: with it the node asks for itself, which kubeadm's
    clusters approve (ClusterRole system:certificates.k8s.io:certificatesigningrequests:selfnodeclient). request: PEM (str). days:
    the validity that is asked for (from 1.22 on; the cluster may give less). timeout: seconds until it is signed.
    Gives the certificate's PEM (str). Raises PkiError: denied, not approved, not signed.
    """
    api = Api.of(config)
    spec = {"request": base64.b64encode(request.encode("ascii")).decode("ascii"), "signerName": CLIENT_SIGNER,
            # All three: before 1.27 the signer took nothing else (pkg/controller/certificates/signer).
            "usages": ["digital signature", "key encipherment", "client auth"], "expirationSeconds": max(600, int(days * _DAY))}
    document = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                "metadata": {"generateName": "kubepki-"}, "spec": spec}
    answer = api.call(_CSRS, document)
    if answer.status not in (200, 201):
        raise PkiError("the API server takes no request from this node (HTTP %d%s)" % (answer.status, _said(answer)),
                       path=api.server,
                       fix="Without a valid credential the node cannot ask for itself: use kubepki_kubelet_method=ca.")
    name = answer.json()["metadata"]["name"]
    deadline = time.monotonic() + timeout
    while True:
        status = api.call("%s/%s" % (_CSRS, name)).json().get("status") or {}
        if status.get("certificate"):
            return base64.b64decode(status["certificate"]).decode("ascii")
        conditions = {item.get("type"): item for item in status.get("conditions") or []}
        for kind in ("Denied", "Failed"):
            if kind in conditions:
                raise PkiError("the cluster has not signed it: %s (%s)" % (kind, str(conditions[kind].get("message"))[:160]),
                               path="CertificateSigningRequest " + name, fix="Use kubepki_kubelet_method=ca.")
        if time.monotonic() > deadline:
            raise PkiError("was made %d s ago, and is %s" % (
                timeout, "approved, and not signed" if "Approved" in conditions else "not approved"),
                path="CertificateSigningRequest " + name,
                fix="See whether kube-controller-manager runs, and whether it approves nodes' requests for themselves "
                    "(ClusterRoleBinding kubeadm:node-autoapprove-certificate-rotation); or use kubepki_kubelet_method=ca.")
        time.sleep(0.2)


# --- installing, on the node --------------------------------------------------------------------------------------------------


class Installation:
    """What an installation on this node would change.

    changes: [{"path", "data", "mode"} or {"path", "target"}], only what differs. certificate: the new Certificate or None.
    config: the Kubeconfig as it will be. pair: the (certificate, key) in PEM that it will use, or None for the present one.
    """

    def __init__(self, layout, certificate=None, key=None, ca_bundle=None, server=None, spare_ca=None):
        """Plan. certificate, key: the new Certificate and its PrivateKey, or None to leave the credential alone.

        ca_bundle: PEM bytes that kubelet.conf, bootstrap-kubelet.conf and, on a worker, the CA file for clients shall trust, or
        None to leave them alone. server, spare_ca: URL and PEM bytes, for a kubelet.conf that has to be made from nothing;
        spare_ca also for a kubelet.conf or bootstrap-kubelet.conf that names only dead CAs. Raises PkiError.
        """
        self.layout, self.certificate, self.changes = layout, certificate, []
        self.ca_bundle, self._spare = ca_bundle, spare_ca
        if certificate is not None:
            self._pair(certificate, key)
        self.config = self._kubelet_conf(server)
        self._bootstrap_conf()
        if ca_bundle and layout.role == "worker":
            # On a control-plane node this file is a CA of the tree, and belongs to whoever rotates that.
            self._write(_ca_file(layout), ca_bundle, mode=0o644)
        self.pair = (certificate.pem, key.pem) if certificate is not None else None

    def _write(self, path, data, mode=None):
        if files.read_if_exists(path) != data:
            self.changes.append({"path": path, "data": data, "mode": mode})

    def _pair(self, certificate, key):
        self.changes += pair_changes(current_path(self.layout), certificate.pem + key.pem)

    def _kubelet_conf(self, server):
        path = self.layout.kubelet["kubeconfig_path"]
        config = _read_config_if_usable(self.layout)
        if config is None:
            if self.certificate is None:
                return read_config(self.layout)  # raises
            bundle = self.ca_bundle or self._spare
            if not (server and bundle):
                raise PkiError("cannot be used, and neither server nor CA are known to make it again", path=path,
                               fix="Restore it from a backup, or let the playbook bring both from a control-plane node.")
            text = kubeconfig.build(server, bundle, NODE_PREFIX + self.layout.node_name, b"-", b"-")
            config = kubeconfig.Kubeconfig(text, path)
        bundle = self.ca_bundle or (None if _alive(config) else self._spare)
        if bundle and config.ca_data != bundle:
            config = config.with_ca(bundle)
        if self.certificate is not None:
            config = config.with_client_file(current_path(self.layout))
        self._write(path, bytes(config), mode=0o600)
        return config

    def _bootstrap_conf(self):
        path = self.layout.kubelet["bootstrap_kubeconfig_path"]
        bundle = self.ca_bundle or (self._spare if _dead_bootstrap(self.layout) else None)
        if bundle and os.path.lexists(path):
            with contextlib.suppress(PkiError):  # a broken bootstrap file serves nobody, and is not ours to rebuild
                bootstrap = kubeconfig.Kubeconfig(files.read(path), path)
                self._write(path, bytes(bootstrap.with_ca(bundle)), mode=0o600)

    def paths(self):
        """Give the paths that change."""
        return [change["path"] for change in self.changes]

    def apply(self, state_dir=files.STATE_DIR, backup_dir=files.BACKUP_DIR, backup_keep=5):
        """Back up what changes, then change it in one transaction. Gives the backup set's directory, or None without changes.

        Leaves the note that the kubelet has to be restarted. Raises PkiError with nothing changed.
        """
        if not self.changes:
            return None
        backup = carry_out(self.changes, current_path(self.layout), state_dir, backup_dir, backup_keep)
        if self.certificate is not None:
            files.remove(staged_key_path(state_dir))
        return backup


def pair_changes(current, data):
    """Give the changes that put a new dated file (mode 0600) behind a link kubelet-<what>-current.pem, as the kubelet does it.

    current: path of the link. data: certificate and key in PEM (bytes).
    """
    moment = time.time()
    while True:
        # The node's local time, as the kubelet takes it (time.Now().Format("2006-01-02-15-04-05")).
        path = current.replace("-current.pem", time.strftime("-%Y-%m-%d-%H-%M-%S.pem", time.localtime(moment)))
        if not os.path.lexists(path):
            return [{"path": path, "data": data, "mode": 0o600}, {"path": current, "target": path}]
        moment += 1


def carry_out(changes, current, state_dir=files.STATE_DIR, backup_dir=files.BACKUP_DIR, backup_keep=5):
    """Back up what changes, then change it in one transaction, and note that the kubelet has to be restarted.

    changes: as in Installation. current: the link whose file is backed up, too. Gives the backup set's directory. Raises PkiError
    with nothing changed.
    """
    paths = [change["path"] for change in changes]
    backed_up = paths + ([os.path.realpath(current)] if os.path.exists(current) else [])
    backup = files.create_backup(backed_up, BACKUP_JOB, backup_dir, backup_keep)
    transaction = files.Transaction(JOB, state_dir)
    for change in changes:
        if "target" in change:
            transaction.symlink(change["path"], change["target"])
        else:
            transaction.write(change["path"], change["data"], mode=change["mode"])
    pending = files.Journal(PENDING, state_dir)
    already = pending.load()
    pending.save({"files": paths})
    try:
        transaction.commit()
    except PkiError:
        if already is None:
            with contextlib.suppress(PkiError):
                pending.clear()
        raise
    return backup


def check_issued(layout, pem, ca_bundle=None, state_dir=files.STATE_DIR):
    """Give (Certificate, PrivateKey) of an issued certificate and the key staged for it, when they are what was asked for.

    pem: bytes. ca_bundle: PEM bytes of the CA that should have signed it, or None for this node's ca.crt. Raises PkiError:
    another key, subject, signer or usage, or not valid now.
    """
    certificate = x509.parse_certificate(pem, "the certificate for %s" % layout.node_name)
    path = staged_key_path(state_dir)
    data = files.read_if_exists(path)
    if data is None:
        raise PkiError("no key waits for a certificate here", path=path, fix=_AGAIN)
    key = x509.parse_private_key(data, path)
    if not key.matches(certificate):
        raise PkiError("the certificate is not for the key that waits here", path=path, fix=_AGAIN)
    if certificate.common_name != NODE_PREFIX + layout.node_name or certificate.organizations != [NODES_GROUP]:
        raise PkiError("is made out to %s, and this node is %s" % (certificate.subject, layout.node_name), path=certificate.path,
                       fix=_AGAIN)
    if certificate.is_ca or "client" not in certificate.extended_usages:
        raise PkiError("is no client certificate", path=certificate.path, fix=_AGAIN)
    now = x509.now()
    if not certificate.not_before <= now < certificate.not_after:
        raise PkiError("is valid from %s to %s, and this node's clock says %s" % (
            x509.timestamp(certificate.not_before), x509.timestamp(certificate.not_after), x509.timestamp(now)),
            path=certificate.path, fix="Correct the clock of this node or of the control-plane node (see `timedatectl`).")
    authorities = x509.parse_certificates(ca_bundle, "the given CA bundle") if ca_bundle else trusted(layout)
    if authorities and not any(certificate.signed_by(ca) for ca in authorities):
        raise PkiError("is signed by a CA with another key than those this node trusts (the name may be the same)",
                       path=certificate.path,
                       fix="Compare ca.crt on this node with that of the control-plane nodes; it has to be the same file.")
    return certificate, key


def check_accepted(installation, timeout=5.0):
    """Ask the API server, with the credential and trust that are about to be installed, about this node's own Node.

    Gives the user name that it sees, or None where it cannot say (before 1.28). Raises PkiError when it refuses, or cannot be
    asked; untrusted() tells whether that is because the server's certificate is not signed by the CA.
    """
    config = installation.config
    if not config.server:
        raise PkiError("names no server", path=config.path, fix="Restore it from a backup.")
    pair = installation.pair or Credential(config).pem
    api = Api(config.server, ca_pem(config), pair, timeout)
    name = installation.layout.node_name
    try:
        answer = api.node(name)
    except PkiError as error:
        raise PkiError("the API server could not be asked whether it takes the new credential (it %s), so nothing was changed"
                       % error.message, path=error.path, fix=error.fix) from None
    if answer.status != 200:
        raise PkiError("the API server does not take the new credential of %s (HTTP %d%s), so nothing was changed" % (
            name, answer.status, _said(answer)), path=config.server,
            fix="HTTP 401: its --client-ca-file does not hold the CA that signed; 404: there is no Node of that name.")
    return api.whoami()


def expired_files(current, keep):
    """Give the dated files beyond the newest `keep` that a link (kubelet-<what>-current.pem) does not lead to, oldest first."""
    directory, link = os.path.split(current)
    used = os.path.realpath(current)
    dated = re.compile(_DATED % re.escape(link.replace("-current.pem", "")))
    try:
        names = [name for name in os.listdir(directory) if dated.fullmatch(name)]
    except OSError:
        return []
    paths = [os.path.join(directory, name) for name in names]
    old = sorted((path for path in paths if os.path.realpath(path) != used), key=lambda path: (os.lstat(path).st_mtime, path))
    return old[:max(0, len(old) - max(0, keep))]


# --- the restart, and its proof -------------------------------------------------------------------------------------------------


class Service:
    """The kubelet's systemd unit. Nothing else is ever started or stopped here."""

    UNIT = "kubelet.service"

    def _run(self, arguments, timeout):
        try:
            return subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False,
                                  env=dict(os.environ, LC_ALL="C", SYSTEMD_PAGER=""))
        except FileNotFoundError:
            raise PkiError("there is no %s on this node" % arguments[0], fix=_SYSTEMD) from None
        except subprocess.TimeoutExpired:
            raise PkiError("`%s` has not ended within %d s" % (" ".join(arguments), timeout),
                           fix="See `systemctl status kubelet` and `systemctl list-jobs`.") from None

    def state(self):
        """Give {"load", "active", "sub", "pid" (int), "result"} as systemd sees the unit. Raises PkiError."""
        names = {"LoadState": "load", "ActiveState": "active", "SubState": "sub", "MainPID": "pid", "Result": "result"}
        done = self._run(["systemctl", "show", self.UNIT, "--property=" + ",".join(names)], 20)
        lines = dict(line.partition("=")[::2] for line in done.stdout.decode("utf-8", "replace").splitlines())
        found = {short: lines.get(name, "") for name, short in names.items()}
        found["pid"] = int(found["pid"]) if found["pid"].isdigit() else 0
        if done.returncode or found["load"] != "loaded":
            raise PkiError("systemd has no unit %s that it could start (%s)" % (
                self.UNIT, found["load"] or done.stderr.decode("utf-8", "replace").strip()[:120]),
                fix=_SYSTEMD)
        return found

    def restart(self, timeout):
        """Restart the unit, or start it. timeout: seconds for the old process to end. Raises PkiError."""
        done = self._run(["systemctl", "restart", self.UNIT], timeout)
        if done.returncode:
            raise PkiError("the kubelet could not be restarted (%s)" % done.stderr.decode("utf-8", "replace").strip()[:200],
                           fix="See `systemctl status kubelet` and `journalctl -u kubelet`.")

    def stop(self, timeout):
        """Stop the unit. timeout: seconds for its process to end. Raises PkiError."""
        done = self._run(["systemctl", "stop", self.UNIT], timeout)
        if done.returncode:
            raise PkiError("the kubelet could not be stopped (%s)" % done.stderr.decode("utf-8", "replace").strip()[:200],
                           fix="See `systemctl status kubelet`.")

    @staticmethod
    def started(pid):
        """Give when a process began, in seconds since the machine's (proc(5): stat, field 22), or None when it is gone."""
        try:
            with open("/proc/%d/stat" % pid, "rb") as handle:
                # The name in parentheses may hold anything.
                fields = handle.read().rsplit(b")", 1)[-1].split()
        except OSError:
            return None
        return int(fields[19]) / float(os.sysconf("SC_CLK_TCK"))

    def complaint(self):
        """Give the last error line of the kubelet's journal, or ""."""
        with contextlib.suppress(PkiError):
            done = self._run(["journalctl", "--unit", self.UNIT, "--lines", "200", "--output", "cat", "--no-pager"], 10)
            for line in reversed(done.stdout.decode("utf-8", "replace").splitlines()):
                if re.match(r"^[EF]\d{4} ", line) or line.startswith("Error:"):
                    return line[:200]
        return ""


def restart(layout, timeout=120.0, ready=True, state_dir=files.STATE_DIR, service=None):
    """Restart the kubelet and prove that the new one works. Gives a mapping of what was seen; see Proof.

    timeout: seconds until the proof. ready: the Node has to be Ready again, as the API says it; False asks for the process and
    its health alone (the API is down). Raises PkiError when the proof does not come; the note of a due restart stays then.
    """
    service = service or Service()
    config = read_config(layout)
    api = Api.of(config) if ready else None
    before = service.state()
    pending = files.Journal(PENDING, state_dir)
    if pending.load() is None:
        pending.save({"files": []})
    proof = Proof(layout, service, api, before["pid"])
    service.restart(timeout)
    seen = proof.wait(timeout)
    pending.clear()
    return seen


class Proof:
    """Waits until a restarted kubelet is seen to work with the credential on disk.

    Seen are: another process than old_pid, begun after the restart (and so after the files were written); its healthz; and, asked
    with the kubelet's own credential, a lease renewed and a Ready condition reported after the restart.
    """

    def __init__(self, layout, service, api, old_pid):
        self.layout, self.service, self.api, self.old_pid = layout, service, api, old_pid
        self.began = time.monotonic()
        self.since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.since = time.time()
        self.seen = {}

    def wait(self, deadline, interval=0.1):
        """Poll until all is seen, for at most deadline seconds. Gives what was seen. Raises PkiError: what is missing."""
        while True:
            missing = self._look()
            passed = time.monotonic() - self.began
            if missing is None:
                return dict(self.seen, seconds=round(passed, 3))
            if passed >= deadline:
                complaint = self.service.complaint()
                raise PkiError("the kubelet of %s was restarted, and after %d s %s%s" % (
                    self.layout.node_name, deadline, missing, "; its journal says: " + complaint if complaint else ""),
                    fix="See `journalctl -u kubelet`; run again when it is mended: the restart is still noted as due.")
            time.sleep(min(interval, max(0.0, deadline - passed)))
            interval = min(interval * 1.3, 0.5)

    def _look(self):
        return self._process() or self._healthz() or (self._node() if self.api else None)

    def _process(self):
        state = self.service.state()
        pid = state["pid"]
        started = self.service.started(pid) if pid else None
        if state["active"] != "active" or started is None:
            return "its unit is %s (%s, %s)" % (state["active"], state["sub"], state["result"])
        if pid == self.old_pid or started < self.since_boot - 0.05:
            return "the old process %d still runs" % pid
        self.seen["pid"] = pid
        return None

    def _healthz(self):
        url = serving.healthz_url(self.layout)
        if url is None:
            return None
        try:
            status, body = probe.http_get(url, timeout=3.0)
        except PkiError as error:
            return "its healthz cannot be asked (%s)" % error.message
        if status != 200:
            return "its healthz says HTTP %d" % status
        self.seen["healthz"] = body.decode("utf-8", "replace").strip()[:40]
        return None

    def _node(self):
        trouble, seen = node_state(self.api, self.layout.node_name, self.since, self.since)
        self.seen.update(seen)
        return trouble


def node_state(api, name, renewed_since, reported_since=0.0):
    """Say why the API does not call a Node Ready, or None, and what was seen: (str or None, {"lease", "heartbeat", "ready"}).

    api: Api. renewed_since, reported_since: seconds since 1970; an older lease, or an older report of the Ready condition (which
    a kubelet renews when it begins, and else every five minutes), does not count.
    """
    try:
        lease, node = api.lease(name), api.node(name)
    except PkiError as error:
        return "the API cannot be asked (%s: %s)" % (error.path, error.message), {}
    for what, answer in (("lease", lease), ("Node", node)):
        if answer.status != 200:
            return "the API answers HTTP %d about its %s%s" % (answer.status, what, _said(answer)), {}
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


def epoch(text):
    """Give an API time ("2026-11-21T21:14:36Z", with or without a fraction) as seconds since 1970; 0.0 for none."""
    match = re.match(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z$", text or "")
    if not match:
        return 0.0
    return calendar.timegm(time.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S")) + float(match.group(2) or 0)
