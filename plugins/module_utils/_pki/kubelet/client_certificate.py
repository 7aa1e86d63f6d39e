# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's client credential: judge it, make a request for another, sign requests, install.

kubelet.conf names <cert dir>/kubelet-client-current.pem for certificate and key (see kubelet_files).
"""

from __future__ import annotations

import contextlib
import os
import stat

from ..errors import PkiError
from ..fileio import atomic, journals, reading
from ..kube_api import kubelet_client
from ..kubeadm import kubeconfig
from ..x509 import csr_read, private_keys, x509_read, x509_sign
from . import kubelet_files

_CURRENT = "kubelet-client-current.pem"

_DAY = 86400.0

_BY_KEY = "use kubepki_kubelet_method=ca."

_AGAIN = "Run the playbook again: it makes a new key and a new request."


def current_path(layout):
    """Give the path of the link that kubelet.conf has to name (str)."""
    return os.path.join(layout.kubelet["cert_dir"], _CURRENT)


def _read_config_if_usable(layout):
    try:
        return kubelet_files.read_config(layout)
    except PkiError:
        return None


def certificate_in_use(layout):
    """Give the x509.Certificate that kubelet.conf leads to, or None when there is none that can be read."""
    credential = credential_in_use(layout)
    return credential.certificate if credential else None


def examine(layout, below_days=90.0, force=False, state_dir=atomic.STATE_DIR, ask=None):
    """Judge this node's credential. Gives {"node", "action", "reasons", "before"}.

    layout: a layouts.Layout. below_days: as in kubelet_files.wrong_dates(). force: reissue in any case. ask: function that
    takes (Kubeconfig, pem pair) and gives None, or why the API server does not take the pair; None asks nobody. action: "keep";
    "reissue"; or "restart", when a killed run has installed a credential that no restart of the kubelet has followed. reasons:
    [str]. before: what a diff shows of the certificate, or None. Raises PkiError when the node has no kubelet of kubeadm's kind.
    """
    if layout.role == "none":
        raise PkiError(
            "no kubelet is set up here: neither %s nor %s exists"
            % (layout.kubelet["kubeconfig_path"], layout.kubelet["config_path"]),
            fix="Take the host out of kube_node, or join it.",
        )
    config, credential, reasons = None, None, []
    try:
        config = kubelet_files.read_config(layout)
        credential = kubelet_client.Credential(config)
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
    action = kubelet_files.REISSUE if reasons else kubelet_files.KEEP
    pending = journals.Journal(journals.KUBELET_RESTART, state_dir).load()
    if pending is not None and action == kubelet_files.KEEP:
        action, reasons = kubelet_files.RESTART, ["a run that did not end has left the kubelet's restart undone"]
    certificate = credential.certificate if credential else None
    return {
        "node": layout.node_name,
        "action": action,
        "reasons": reasons,
        "before": certificate.describe() if certificate else None,
    }


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
    if not kubelet_files.made_out_to(certificate, layout.node_name):
        return ["it is made out to %s, and this node is %s" % (certificate.subject, layout.node_name)]
    dates = kubelet_files.wrong_dates(certificate, below_days)
    if dates:
        return [dates]
    authorities = kubelet_files.trusted(layout)
    if authorities and not any(certificate.signed_by(ca) for ca in authorities):
        return ["no CA of this node's ca.crt has signed it"]
    return []


def _dead_trust(layout, config):
    reasons = [] if _not_expired(config) else ["kubelet.conf names no CA that is still valid"]
    if _dead_bootstrap(layout):
        reasons.append("%s names a CA that is gone" % os.path.basename(layout.kubelet["bootstrap_kubeconfig_path"]))
    return reasons


def _dead_bootstrap(layout):
    path = layout.kubelet["bootstrap_kubeconfig_path"]
    try:
        bootstrap = kubeconfig.Kubeconfig(reading.read(path), path)
    except PkiError:
        return False  # usually it is not there: kubeadm removes it once the kubelet has its certificate
    known = {ca.sha256 for ca in kubelet_files.trusted(layout)}
    return bool(known) and not {ca.sha256 for ca in _authorities(bootstrap)} & known


def _authorities(config):
    try:
        return x509_read.parse_certificates(kubelet_client.ca_pem(config) or b"", config.path)
    except PkiError:
        return []


def _not_expired(config):
    return any(ca.not_after > x509_read.now() for ca in _authorities(config))


def refusal(config, pair, node, timeout=3.0):
    """Say why the API server does not take a credential, or give None: it does, or it cannot be asked.

    config: a Kubeconfig, for server and CA. pair: (certificate, key) as PEM bytes.
    """
    try:
        answer = kubelet_client.KubeletApi(config.server, kubelet_client.ca_pem(config), pair, timeout).node(node)
    except PkiError as error:
        return "kubelet.conf does not trust the API server: it %s" % error.message if kubelet_client.untrusted(error) else None
    return "the API server does not take it (HTTP 401)" if answer.status == 401 else None


def staged_key_path(state_dir=atomic.STATE_DIR):
    """Give where the key of a request waits for its certificate (0600, in a directory with 0700)."""
    return os.path.join(state_dir, "kubelet", "requested.key")


def credential_in_use(layout):
    """Return the kubelet_api.Credential that kubelet.conf leads to, or None where there is no kubelet.conf that can be read."""
    config = _read_config_if_usable(layout)
    return kubelet_client.Credential(config) if config else None


def make_request(layout, key_type=None, state_dir=atomic.STATE_DIR):
    """Make a new key and a request for this node's name. Gives the request's PEM (str), which is public.

    key_type: one of x509.KEY_TYPES, or None for that of the present certificate. The key stays on the node, staged 0600; an
    earlier staged one is replaced. Raises PkiError (unknown type, no space, read-only).
    """
    name = kubelet_files.check_node_name(layout.node_name)
    if not key_type:
        certificate = certificate_in_use(layout)
        usual = certificate is not None and certificate.key_type in private_keys.KEY_TYPES
        key_type = certificate.key_type if usual else kubelet_files.DEFAULT_KEY_TYPE
    key = private_keys.generate_key(key_type)
    profile = x509_sign.Profile(kubelet_files.NODE_PREFIX + name, [kubelet_files.NODES_GROUP], (), ("client",))
    request = x509_sign.build_request(profile, key)
    path = staged_key_path(state_dir)
    atomic.make_directory(os.path.dirname(path))
    atomic.write(path, key.pem, mode=0o600)
    return request.pem.decode("ascii")


def certify(layout, request, days, timeout=60.0):
    """Let the cluster sign a request through the Certificates API, as the kubelet does when it rotates by itself.

    The credential in use has to be valid still: with it the node asks for itself, which kubeadm's clusters approve (ClusterRole
    system:certificates.k8s.io:certificatesigningrequests:selfnodeclient). request: PEM (str). days: the validity that is asked
    for (from 1.22 on; the cluster may give less). timeout: seconds until it is signed. Gives the certificate's PEM (str). Raises
    PkiError: denied, not approved, not signed.
    """
    api = kubelet_client.KubeletApi.of(kubelet_files.read_config(layout))
    name = kubelet_client.request_certificate(
        api, request, kubelet_client.CLIENT, days, fix="Without a valid credential the node cannot ask for itself: " + _BY_KEY
    )
    pem = kubelet_client.wait_certificate(
        api,
        name,
        timeout,
        denied=_BY_KEY.capitalize(),
        waits="See whether kube-controller-manager runs, and whether it approves nodes' requests for themselves "
        "(ClusterRoleBinding kubeadm:node-autoapprove-certificate-rotation); or " + _BY_KEY,
    )
    return pem.decode("ascii")


def sign(requests, ca, ca_key, days, known=None, require_bound=None):
    """Sign a list of requests with the cluster's CA. Gives {host: certificate PEM (str)}.

    requests: [{"host": inventory name, "node": name it says it has, "request": PEM str}] and what node_identity.vouch() gave.
    ca, ca_key: Certificate and PrivateKey. days: validity, cut to the CA's own. known: names of the Nodes in the API (a set), or
    None when the API was not asked. require_bound: function that takes (entry, x509.Request) and raises PkiError unless the host
    is that Node (node_identity.require_bound); None where the caller has seen to that. Every request is checked before the first
    is signed: raises one PkiError that names the host at fault.
    """
    x509_sign.check_signer(ca, ca_key)
    left = (ca.not_after - x509_read.now()).total_seconds() / _DAY
    if left <= 0:
        raise PkiError(
            "the CA expired on %s" % x509_read.timestamp(ca.not_after),
            path=ca.path,
            fix="Renew it first: the playbook kubepki.lifecycle.recover does.",
        )
    if ca.not_before > x509_read.now():
        raise PkiError(
            "the CA is not valid before %s" % x509_read.timestamp(ca.not_before),
            path=ca.path,
            fix="Set this node's clock right (`timedatectl`), then run again.",
        )
    parsed, owners = [], {}
    for entry in requests:
        request = _checked(entry, known)
        if require_bound is not None:
            require_bound(entry, request)
        parsed.append((entry["host"], request))
        other = owners.setdefault(entry["node"], entry["host"])
        if other != entry["host"]:
            raise PkiError(
                "%s and %s both say that they are the Node %s, so no request was signed" % (other, entry["host"], entry["node"]),
                fix="One of the two is not what it says, or the inventory has it twice.",
            )
    signed = {}
    for host, request in parsed:
        profile = x509_sign.Profile(request.common_name, [kubelet_files.NODES_GROUP], (), ("client",))
        signed[host] = x509_sign.sign_leaf(profile, request, ca, ca_key, min(days, left)).pem.decode("ascii")
    return signed


def _checked(entry, known):
    host, node = entry["host"], entry["node"]
    kubelet_files.check_node_name(node)
    request = csr_read.parse_request(entry["request"].encode("utf-8"), "the request of %s" % host)
    # The whole subject, not its parts: another attribute would go unnoticed, and into the certificate of a laxer signer.
    wanted = x509_sign.Profile(kubelet_files.NODE_PREFIX + node, [kubelet_files.NODES_GROUP]).subject
    if request.raw.subject != wanted:
        raise PkiError(
            "the request asks for the subject %s, and only %s may be signed for it" % (request.subject, wanted.rfc4514_string()),
            path=host,
            fix="Nothing was signed. See who made that request.",
        )
    if request.sans or request.wants_ca or request.extended_usages not in ([], ["client"]):
        raise PkiError(
            "the request asks for more than a client certificate (names, other usages or a CA)",
            path=host,
            fix="Nothing was signed. See who made that request.",
        )
    x509_sign.refuse_unfit(request)
    if known is not None and node not in known:
        raise PkiError(
            "calls itself %s, and the API has no Node of that name (it has %s)" % (node, _some(known)),
            path=host,
            fix="Correct the kubelet's --hostname-override or the host's name; or join the host first.",
        )
    return request


def _some(names, count=5):
    names = sorted(names)
    return ", ".join(names[:count]) + (" and %d more" % (len(names) - count) if len(names) > count else "") if names else "none"


class ClientInstallation:
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
            self._write(kubelet_files.ca_file(layout), ca_bundle, mode=0o644)
        self.pair = (certificate.pem, key.pem) if certificate is not None else None

    def _write(self, path, data, mode=None):
        if reading.read_if_exists(path) != data:
            self.changes.append({"path": path, "data": data, "mode": mode})

    def _pair(self, certificate, key):
        self.changes += kubelet_files.pair_changes(current_path(self.layout), certificate.pem + key.pem)

    def _kubelet_conf(self, server):
        path = self.layout.kubelet["kubeconfig_path"]
        config = _read_config_if_usable(self.layout)
        if config is None:
            if self.certificate is None:
                return kubelet_files.read_config(self.layout)  # raises
            bundle = self.ca_bundle or self._spare
            if not (server and bundle):
                raise PkiError(
                    "cannot be used, and neither server nor CA are known to make it again",
                    path=path,
                    fix="Restore it from a backup, or let the playbook bring both from a control-plane node.",
                )
            text = kubeconfig.build(server, bundle, kubelet_files.NODE_PREFIX + self.layout.node_name, b"-", b"-")
            config = kubeconfig.Kubeconfig(text, path)
        bundle = self.ca_bundle or (None if _not_expired(config) else self._spare)
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
                bootstrap = kubeconfig.Kubeconfig(reading.read(path), path)
                self._write(path, bytes(bootstrap.with_ca(bundle)), mode=0o600)

    def paths(self):
        """Give the paths that change."""
        return [change["path"] for change in self.changes]

    def apply(self, state_dir=atomic.STATE_DIR, backup_dir=atomic.BACKUP_DIR, backup_keep=5):
        """Back up what changes, then change it in one transaction. Gives the backup set's directory, or None without changes.

        Leaves the note that the kubelet has to be restarted. Raises PkiError with nothing changed.
        """
        if not self.changes:
            return None
        backup = kubelet_files.carry_out(self.changes, current_path(self.layout), state_dir, backup_dir, backup_keep)
        if self.certificate is not None:
            atomic.remove(staged_key_path(state_dir))
        return backup


def check_issued(layout, pem, ca_bundle=None, state_dir=atomic.STATE_DIR):
    """Give (Certificate, PrivateKey) of an issued certificate and the key staged for it, when they are what was asked for.

    pem: bytes. ca_bundle: PEM bytes of the CA that should have signed it, or None for this node's ca.crt. Raises PkiError:
    another key, subject, signer or usage, or not valid now.
    """
    certificate = x509_read.parse_certificate(pem, "the certificate for %s" % layout.node_name)
    path = staged_key_path(state_dir)
    data = reading.read_if_exists(path)
    if data is None:
        raise PkiError("no key waits for a certificate here", path=path, fix=_AGAIN)
    key = private_keys.parse_private_key(data, path)
    if not key.matches(certificate):
        raise PkiError("the certificate is not for the key that waits here", path=path, fix=_AGAIN)
    if not kubelet_files.made_out_to(certificate, layout.node_name):
        raise PkiError(
            "is made out to %s, and this node is %s" % (certificate.subject, layout.node_name), path=certificate.path, fix=_AGAIN
        )
    if certificate.is_ca or "client" not in certificate.extended_usages:
        raise PkiError("is no client certificate", path=certificate.path, fix=_AGAIN)
    kubelet_files.check_clock(certificate)
    authorities = x509_read.parse_certificates(ca_bundle, "the given CA bundle") if ca_bundle else kubelet_files.trusted(layout)
    if authorities and not any(certificate.signed_by(ca) for ca in authorities):
        raise PkiError(
            "is signed by a CA with another key than those this node trusts (the name may be the same)",
            path=certificate.path,
            fix="Compare ca.crt on this node with that of the control-plane nodes; it has to be the same file.",
        )
    return certificate, key


def check_accepted(installation, timeout=5.0):
    """Ask the API server, with the credential and trust that are about to be installed, about this node's own Node.

    Gives the user name that it sees, or None where it cannot say (before 1.28). Raises PkiError when it refuses, or cannot be
    asked; kubelet_api.untrusted() tells whether that is because the server's certificate is not signed by the CA.
    """
    config = installation.config
    if not config.server:
        raise PkiError("names no server", path=config.path, fix="Restore it from a backup.")
    pair = installation.pair or kubelet_client.Credential(config).pem
    api = kubelet_client.KubeletApi(config.server, kubelet_client.ca_pem(config), pair, timeout)
    name = installation.layout.node_name
    try:
        answer = api.node(name)
    except PkiError as error:
        raise PkiError(
            "the API server could not be asked whether it takes the new credential (it %s), so nothing was changed"
            % error.message,
            path=error.path,
            fix=error.fix,
        ) from None
    if answer.status != 200:
        raise PkiError(
            "the API server does not take the new credential of %s (HTTP %d%s), so nothing was changed"
            % (name, answer.status, kubelet_client.said(answer)),
            path=config.server,
            fix="HTTP 401: its --client-ca-file does not hold the CA that signed; 404: there is no Node of that name.",
        )
    return api.whoami()
