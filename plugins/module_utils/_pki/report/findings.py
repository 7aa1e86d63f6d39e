# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about a node's certificates: expiry and everything else that is wrong with them."""

from __future__ import annotations

import os
import re
import socket

from ..errors import PkiError
from ..kubeadm import addresses, catalogue, layouts, pki_tree
from ..x509 import x509_read
from . import finding

# Replacing an authority takes planning (external clients, pinned copies): half a year is when to begin.
CA_LEAD_DAYS = 180

_RENEW = "Run the playbook renew_leaves with kubepki_names=%s."

_RENEW_FORCED = "Run the playbook renew_leaves with kubepki_names=%s and kubepki_force=true."

_REISSUE = "Run the playbook reissue_kubelets: it replaces what is due, and leaves the other nodes alone."

_SERVING = "Run the playbook reissue_kubelets with kubepki_kubelet_serving=bootstrap."

_RESTORE = "Restore it from a backup set (playbook restore), or from another control-plane node."

_BROUGHT = "Renew it where it came from, or take it away if nobody reads it. Nothing here replaces it."

_EARLY_CA = "Restore the CA certificate from before from a backup set (playbook restore), or wait until it is valid."

_ELSEWHERE = "Renew it where its key is, and copy the certificate to every node."

_OWN_SERVING = re.compile(r"\bCN=.+-ca@[0-9]+(,|\Z)")  # client-go: util/cert.GenerateSelfSignedCertKeyWithFixtures

# kubeadm makes the one on its first node only; the other a kubelet makes for itself when it starts without.
_OPTIONAL = ("super-admin.conf", "kubelet-serving")


def check(tree, now=None, warn_days=30, critical_days=7, owner=0):
    """Give the findings of what is on a node's disk. now: datetime in UTC. owner: the uid that files have to have."""
    now = now or x509_read.now()
    found = []
    for error in tree.layout.problems:
        if error.path not in tree.layout.foreign or _is_manifest_name(error.path):
            found.append(_unreadable(error))
    for item in tree.items.values():
        if _is_alias(tree, item):
            continue  # the other name of the same file has the findings
        found += _presence(tree, item)
        if item.certificate is not None:
            found += _pair(item)
            found += _expiry(tree, item, now, warn_days, critical_days)
            found += _signature(tree, item)
            found += _validity_of_ca(tree, item)
            found += _serial(item)
        found += _modes(tree, item, owner)
    for item in tree.others:
        found += _unmanaged_certificate(item, now, warn_days, critical_days)
    found += _check_cas(tree)
    found += _names(tree)
    found += _kubelet_client(tree)
    found += _kubeconfig_authorities(tree)
    found += _service_account(tree, owner)
    found += _manifest_directory(tree)
    found += _signing_keys(tree)
    return finding.ordered(found)


def _unreadable(error, name=None):
    code = "unreadable-ca" if name in catalogue.CA_NAMES else "unreadable"
    return finding.finding(finding.ERROR, code, error.path, error.message, error.fix or _RESTORE, name)


def _unmanaged_certificate(item, now, warn_days, critical_days):
    """What the user put beside the catalogue: its time is told, and what it is for is not known."""
    if item.problem is not None:
        return [finding.finding(finding.WARNING, "unreadable", item.path, item.problem.message, _BROUGHT, item.name)]
    if item.certificate.not_before > now:
        return [
            not_yet_valid(
                finding.WARNING, item.path, "%s, which is not kubeadm's," % item.name, item.certificate, _BROUGHT, item.name
            )
        ]
    state = pki_tree.state_of(item.certificate, now, warn_days, critical_days)
    if state == "ok":
        return []
    code, word = ("expired", "expired") if state == "expired" else ("expires-soon", "ends")
    message = "%s, which is not kubeadm's, %s on %s" % (item.name, word, x509_read.timestamp(item.certificate.not_after))
    return [finding.finding(finding.WARNING, code, item.path, message, _BROUGHT, item.name)]


def own_serving(name, issuer):
    """Whether a certificate is the one that a kubelet makes for itself when it has no other.

    It is made for a year, never renewed, and verified by nobody: who verifies kubelets has given them others. name: of the row;
    issuer: as the report has it.
    """
    return name == "kubelet-serving" and _OWN_SERVING.search(issuer or "") is not None


def is_optional_and_missing(row):
    """Whether a row of the report is of a certificate that is not there and does not have to be."""
    return row["status"] == "missing" and row["name"] in _OPTIONAL


def due(rows, days):
    """Give the rows of the report that have fewer days left than `days`, [(seconds left, row, word)], the shortest first.

    One that cannot be read, or is not there and should be, has nothing left. What a kubelet made for itself does not count.
    word: "unreadable", "missing", "expired", or how many days. days: 0 or less is never.
    """
    found = []
    for row in rows if days and days > 0 else ():
        left = row.get("residual_seconds")
        word = (
            "unreadable"
            if row.get("problem")
            else "missing"
            if row["status"] == "missing" and not is_optional_and_missing(row)
            else "expired"
            if row["status"] == "expired"
            else ""
        )
        if not own_serving(row["name"], row.get("issuer")) and (word or (left is not None and left < days * 86400)):
            found.append((left or 0, row, word or "%.1f days" % (left / 86400.0)))
    return sorted(found, key=lambda item: item[0])


def remedies(rows):
    """Say what gives rows of the report more days: sentences."""
    playbooks, sentences = set(), []
    for row in rows:
        outside = row.get("externally_managed")
        if row["kind"] == catalogue.OTHER:
            sentences.append("%s: %s" % (row["name"], _BROUGHT))
        elif row["kind"] == catalogue.CA and outside:
            sentences.append("%s: %s" % (row["name"], _ELSEWHERE))
        elif row["kind"] == catalogue.CA:
            playbooks.add("recover" if row["status"] == "expired" else "rotate_ca")
        elif row["name"] == "kubelet-serving":
            sentences.append("Run the playbook kubepki.lifecycle.reissue_kubelets with kubepki_kubelet_serving=renew.")
        else:
            playbooks.add("reissue_kubelets" if row["kind"] == catalogue.KUBELET else "renew_leaves")
    if playbooks:
        limit = " (kubepki_renew_below_days is 90 there)" if playbooks & {"renew_leaves", "reissue_kubelets"} else ""
        sentences.insert(
            0, "Run the playbook %s%s." % (" and ".join("kubepki.lifecycle." + name for name in sorted(playbooks)), limit)
        )
    return " ".join(dict.fromkeys(sentences))


def _presence(tree, item):
    if item.kind == catalogue.KUBELET and item.name == "kubelet-client":
        return []  # _kubelet_client says more
    found = []
    if item.missing:
        found += _missing(tree, item)
    elif item.problem is not None:
        found.append(_unreadable(item.problem, item.name))
    elif item.other_login:
        message = "%s logs in without a certificate, so nothing in it is renewed" % item.name
        found.append(
            finding.finding(
                finding.INFO,
                "other-login",
                item.path,
                message,
                "Nothing, if it is meant so. Named in kubepki_names, it gets a certificate.",
                item.name,
            )
        )
    if item.key_problem is not None:
        found.append(_unreadable(item.key_problem, item.name))
    elif item.key_missing and item.certificate is not None and item.kind != catalogue.CA:
        found.append(
            finding.finding(
                finding.ERROR,
                "key-missing",
                item.key_path or item.path,
                "there is no private key for %s" % item.name,
                _fix(item),
                item.name,
            )
        )
    return found


def _missing(tree, item):
    if item.name == "super-admin.conf":
        return []  # kubeadm makes it on the first node only
    if item.name == "kubelet-serving":
        if not tree.layout.kubelet["server_bootstrap"]:
            return []  # the kubelet makes one when it starts
        return [
            finding.finding(
                finding.WARNING,
                "missing",
                item.path,
                "the kubelet has no serving certificate",
                _SERVING + " Or approve the request it made itself (manage_csrs): nobody does so by default.",
                item.name,
            )
        ]
    # Nobody's operation depends on these two.
    severity = finding.WARNING if item.entry.consumer is None and item.kind != catalogue.CA else finding.ERROR
    return [
        finding.finding(
            severity,
            "missing",
            item.path,
            "%s does not exist" % item.name,
            _RESTORE if item.kind == catalogue.CA else _fix(item),
            item.name,
        )
    ]


def _pair(item):
    if item.key_sha256 is None or item.key_sha256 == item.certificate.key_sha256:
        return []
    message = "the private key is not that of the certificate"
    fix = _fix(item)
    if item.kind == catalogue.CA:
        message = "the private key %s is not that of the first certificate in the file, with which kubeadm signs" % item.key_path
        fix = _RESTORE
        for index, other in enumerate(item.bundle[1:], 2):
            if other.key_sha256 == item.key_sha256:
                message += "; it is that of certificate %d" % index
                fix = "Put the certificate that belongs to the key first in the file."
    return [finding.finding(finding.ERROR, "key-mismatch", item.key_path or item.path, message, fix, item.name)]


def _expiry(tree, item, now, warn_days, critical_days):
    certificate = item.certificate
    if item.kind == catalogue.CA:
        return _ca_expiry(item, now, critical_days)
    if certificate.not_before > now:
        return [not_yet_valid(finding.ERROR, item.path, item.name, certificate, _fix(item), item.name)]
    state = pki_tree.state_of(certificate, now, warn_days, critical_days)
    if state == "ok":
        return []
    when = x509_read.timestamp(certificate.not_after)
    if own_serving(item.name, certificate.issuer):
        return [
            finding.finding(
                finding.WARNING,
                "expired" if state == "expired" else "expires-soon",
                item.path,
                "%s, which the kubelet made for itself and does not renew, %s on %s; the API server does not verify it, "
                "who reads metrics may" % (item.name, "expired" if state == "expired" else "ends", when),
                _SERVING + " Or remove the file and restart the kubelet, which makes another one for a year.",
                item.name,
            )
        ]
    if state == "expired":
        return [
            finding.finding(finding.ERROR, "expired", item.path, "%s expired on %s" % (item.name, when), _fix(item), item.name)
        ]
    message = "%s ends on %s, in %s" % (item.name, when, finding.span((certificate.not_after - now).total_seconds()))
    if item.name == "kubelet-client" and tree.layout.kubelet["rotate"]:
        message += "; the kubelet, which renews it by itself much earlier, has not"
    return [
        finding.finding(
            finding.ERROR if state == "critical" else finding.WARNING, "expires-soon", item.path, message, _fix(item), item.name
        )
    ]


def not_yet_valid(severity, path, what, certificate, fix, name):
    """Return the finding of a certificate from the future. what: the beginning of the message."""
    return finding.finding(
        severity,
        "not-yet-valid",
        path,
        "%s is not valid before %s" % (what, x509_read.timestamp(certificate.not_before)),
        "Check this node's clock (timedatectl). If it is right: " + fix[:1].lower() + fix[1:],
        name,
    )


def _ca_expiry(item, now, critical_days):
    found = []
    for index, ca in enumerate(item.bundle):
        which = item.name if index == 0 else "certificate %d of %s" % (index + 1, item.name)
        if ca.not_before > now:
            # Clients refuse every chain that ends at it; one that is only trusted besides disturbs nothing until it signs.
            found.append(
                not_yet_valid(
                    finding.ERROR if index == 0 else finding.WARNING,
                    item.path,
                    "the CA %s" % which,
                    ca,
                    _ELSEWHERE if item.externally_managed else _EARLY_CA,
                    item.name,
                )
            )
            continue
        state = pki_tree.state_of(ca, now, CA_LEAD_DAYS, critical_days)
        fix = "Run the playbook rotate_ca with kubepki_cas=%s." % item.name
        if item.externally_managed:
            fix = _ELSEWHERE
        if state == "expired":
            # A retired authority at the end of a bundle trusts nobody any more: it is only in the way.
            severity = finding.ERROR if index == 0 else finding.INFO
            if index == 0 and not item.externally_managed:
                fix = "Run the playbook recover: it renews the CA with the key it has, and brings the cluster back."
            found.append(
                finding.finding(
                    severity,
                    "ca-expired",
                    item.path,
                    "the CA %s expired on %s" % (which, x509_read.timestamp(ca.not_after)),
                    fix,
                    item.name,
                )
            )
        elif state != "ok" and index == 0:
            found.append(
                finding.finding(
                    finding.ERROR if state == "critical" else finding.WARNING,
                    "ca-expires",
                    item.path,
                    "the CA %s ends on %s, in %s, and with it all that it signed"
                    % (which, x509_read.timestamp(ca.not_after), finding.span((ca.not_after - now).total_seconds())),
                    fix,
                    item.name,
                )
            )
    return found


def _signature(tree, item):
    if item.kind == catalogue.CA:
        return []
    name = item.ca or ("ca" if tree.layout.kubelet["server_bootstrap"] and not item.certificate.self_issued else None)
    bundle = tree.ca_bundle(name)
    if not bundle or tree.signer(item) is not None:
        return []
    path, foreign = tree.items[name].path, False
    if any(item.certificate.verified_by_key(ca) for ca in bundle):
        message = (
            "is signed with the key of the CA in %s, but its issuer (%s) is not byte for byte the subject of that CA "
            "(%s): the CA certificate was made again with the same key, and clients refuse what was signed before"
            % (path, item.certificate.issuer, next(ca.subject for ca in bundle if item.certificate.verified_by_key(ca)))
        )
    elif any(item.certificate.issuer == ca.subject for ca in bundle):
        message = "is signed by another authority of the same name than the one in %s" % path
    else:
        message = "is signed by %s, which is not in %s" % (item.certificate.issuer, path)
        foreign = True
    fix = _fix(item)
    if foreign and item.kind in (catalogue.LEAF, catalogue.KUBECONFIG):
        fix = _RENEW_FORCED % item.name  # what the user brought is kept, unless it is named and forced
    if item.externally_managed:
        fix = "Put the right CA certificate into %s, or have the certificate issued by that CA." % path
    return [finding.finding(finding.ERROR, "not-signed-by-ca", item.path, message, fix, item.name)]


def _validity_of_ca(tree, item):
    signer = tree.signer(item) if item.kind != catalogue.CA else None
    if signer is None or item.certificate.not_after <= signer.not_after:
        return []
    return [
        finding.finding(
            finding.ERROR,
            "leaf-outlives-ca",
            item.path,
            "ends on %s, but its CA already on %s: it is worthless from then on"
            % (x509_read.timestamp(item.certificate.not_after), x509_read.timestamp(signer.not_after)),
            "Replace the CA before that day: run the playbook rotate_ca with kubepki_cas=%s." % (item.ca or "ca"),
            item.name,
        )
    ]


def _serial(item):
    """A serial number below 0 (RFC 5280 4.1.2.2): Go 1.23 and later refuses the certificate (x509negativeserial)."""
    fix = _RENEW_FORCED % item.name if item.kind in (catalogue.LEAF, catalogue.KUBECONFIG) else _fix(item)
    return [
        finding.finding(
            finding.WARNING,
            "negative-serial",
            item.path,
            "the serial number of %s is %d, and programs written in Go 1.23 or later "
            "refuse that" % (certificate.subject, certificate.serial),
            fix,
            item.name,
        )
        for certificate in item.bundle
        if certificate.serial < 0  # not 0: kubeadm 1.20 gives that to its CAs, and Go takes it
    ]


def _modes(tree, item, owner):
    secret = item.key_path is None and item.kind in (catalogue.KUBECONFIG, catalogue.KUBELET)
    found = _mode(tree, item.path, (item.mode, item.uid, item.gid), secret, owner, item.name)
    if item.key_path and item.key_path != item.path and item.name not in tree.layout.shared:
        found += _mode(tree, item.key_path, (item.key_mode, item.key_uid, item.key_gid), True, owner, item.name)
    return found


def _mode(tree, path, status, secret, owner, name):
    mode, uid, gid = status
    if mode is None:
        return []
    found = []
    # kubeadm's RootlessControlPlane gives a component's files to the user it runs as, group-readable.
    users = {owner} | {manifest.user for manifest in tree.layout.parsed.values()}
    if uid not in users:
        found.append(
            finding.finding(
                finding.WARNING, "wrong-owner", path, "belongs to user %d, not to root" % uid, "chown root:root %s" % path, name
            )
        )
    wanted = 0o600 if secret else 0o644
    if secret and mode & 0o007:
        found.append(
            finding.finding(
                finding.ERROR,
                "wrong-mode",
                path,
                "holds a private key and everybody on the node can read it (mode %04o)" % mode,
                "chmod 0600 %s" % path,
                name,
            )
        )
    elif secret and mode & 0o070 and gid != 0 and gid not in users:
        found.append(
            finding.finding(
                finding.WARNING,
                "wrong-mode",
                path,
                "holds a private key and the group %d can read it (mode %04o)" % (gid, mode),
                "chmod 0600 %s" % path,
                name,
            )
        )
    elif mode & 0o022:
        found.append(
            finding.finding(
                finding.ERROR if mode & 0o002 else finding.WARNING,
                "wrong-mode",
                path,
                "others than root can change it (mode %04o)" % mode,
                "chmod %04o %s" % (wanted, path),
                name,
            )
        )
    return found


def _is_alias(tree, item):
    """Tell whether a CA's file is the file of another CA of this node."""
    other = tree.items.get(tree.layout.shared.get(item.name))
    return other is not None and os.path.realpath(other.path) == os.path.realpath(item.path)


def _shared_cas(tree):
    """Return the findings of CAs that are the cluster's CA as well: what it signs is then trusted by more than the API."""
    found, cluster = [], tree.items.get("ca")
    for name in ("front-proxy-ca", "etcd-ca"):
        item = tree.items.get(name)
        if (
            cluster is None
            or cluster.certificate is None
            or item is None
            or item.certificate is None
            or item.certificate.key_sha256 != cluster.certificate.key_sha256
        ):
            continue
        if name == "etcd-ca":
            text = (
                "etcd trusts the cluster's CA (%s): every client certificate that this CA signs, of a kubelet or of a user, "
                "can read and write all data of etcd" % cluster.path
            )
        else:
            allowed = tree.layout.flags.get("kube-apiserver", {}).get("--requestheader-allowed-names") or ""
            names = "one of the names %s" % allowed if allowed else "any name (--requestheader-allowed-names is empty)"
            text = (
                "kube-apiserver trusts the cluster's CA (%s) for front proxies: every client certificate that this CA signs "
                "with %s can act as any user and any group" % (cluster.path, names)
            )
        found.append(finding.finding(finding.WARNING, "shared-ca", item.path, text, layouts.separate_ca(tree.layout, name), name))
    return found


def _check_cas(tree):
    found = _shared_cas(tree)
    for name in catalogue.CA_NAMES:
        item = tree.items.get(name)
        if item is None or item.certificate is None or _is_alias(tree, item):
            continue
        if item.externally_managed:
            found.append(
                finding.finding(
                    finding.INFO,
                    "external-ca",
                    item.path,
                    "the CA %s is externally managed: its key is not on this node, and what it signs "
                    "cannot be renewed here" % name,
                    "Set kubepki_external_ca_dir for the playbook renew_leaves: it writes requests there, and takes back what is "
                    "signed.",
                    name,
                )
            )
        if not item.certificate.is_ca:
            found.append(
                finding.finding(
                    finding.ERROR,
                    "not-a-ca",
                    item.path,
                    "the first certificate in it is not that of an authority",
                    _RESTORE,
                    name,
                )
            )
        subjects = {}
        for ca in item.bundle:
            subjects.setdefault(ca.subject, {})[ca.key_sha256] = ca
        for subject, keys in subjects.items():
            if len(keys) > 1:
                told_apart = all(ca.subject_key_id for ca in keys.values())
                found.append(
                    finding.finding(
                        finding.INFO if told_apart else finding.WARNING,
                        "ca-same-name",
                        item.path,
                        "holds %d authorities named %s with different keys%s"
                        % (len(keys), subject, "" if told_apart else ", and no key identifiers to tell them apart"),
                        "That is how a rotation looks while it is under way: finish it with the playbook rotate_ca.",
                        name,
                    )
                )
    return found


def _names(tree):
    layout = tree.layout
    wanted = []
    if layout.advertise_address:
        wanted += [
            (name, layout.advertise_address, "the address this node advertises")
            for name in ("apiserver", "etcd-server", "etcd-peer")
        ]
    host = addresses.split_host_port(layout.control_plane_endpoint or "")[0]
    if host:
        wanted.append(("apiserver", host, "the control-plane endpoint"))
    found = []
    for name, value, what in wanted:
        item = tree.items.get(name)
        if item is None or item.certificate is None or _covers(item.certificate.sans, value):
            continue
        found.append(
            finding.finding(
                finding.ERROR,
                "san-missing",
                item.path,
                "does not name %s, %s, so clients refuse it there" % (value, what),
                "Add it to certSANs in kubeadm-config, move this certificate and its key away, and make them again with "
                "`kubeadm init phase certs %s --config ...`." % name,
                name,
            )
        )
    return found


def _covers(sans, value):
    value = value.lower().rstrip(".")
    address = _packed(value)
    for san in sans:
        name = san.partition(":")[2].lower()
        if address and san.startswith("IP:") and _packed(name) == address:
            return True
        if name == value or (name.startswith("*.") and san.startswith("DNS:") and value.partition(".")[2] == name[2:]):
            return True
    return False


def _packed(text):
    """Give an address as bytes, however it is written (2001:DB8:0::1, 2001:db8::1), or None for what is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
    return None


def _broken(severity, path, message, fix=_REISSUE):
    return finding.finding(severity, "kubelet-client-broken", path, message, fix, "kubelet-client")


def _kubelet_client(tree):
    layout = tree.layout
    item = tree.items.get("kubelet-client")
    config_path = layout.kubelet["kubeconfig_path"]
    if item is None:
        if layout.kubelet["config"] and not os.path.lexists(layout.kubelet["bootstrap_kubeconfig_path"]):
            return [
                _broken(
                    finding.ERROR, config_path, "the kubelet has neither this kubeconfig nor a bootstrap one, and cannot join"
                )
            ]
        return []
    try:
        config = layout.reader.kubeconfig(config_path)
    except PkiError as error:
        return [_broken(finding.ERROR, config_path, error.message)]
    found = []
    if config.certificate_data:
        found.append(
            _broken(
                finding.WARNING,
                config_path,
                "embeds a client certificate: the kubelet starts with this one, however often it has renewed it since",
                "Point client-certificate and client-key to kubelet-client-current.pem (reissue_kubelets does).",
            )
        )
    elif os.path.basename(item.path) == "kubelet-client-current.pem" and os.path.lexists(item.path):
        if not os.path.islink(item.path):
            found.append(
                _broken(finding.WARNING, item.path, "is a file and not a symbolic link: the kubelet cannot renew it in place")
            )
        elif not os.path.exists(item.path):
            found.append(
                _broken(finding.ERROR, item.path, "is a symbolic link to %s, which does not exist" % os.readlink(item.path))
            )
            return found
    if item.problem is not None:
        found.append(_broken(finding.ERROR, item.path, item.problem.message))
    elif item.key_problem is not None:
        found.append(_broken(finding.ERROR, item.key_path or item.path, item.key_problem.message))
    elif item.key_missing:
        found.append(_broken(finding.ERROR, item.key_path or item.path, "holds no private key"))
    elif not (item.certificate.common_name or "").startswith("system:node:"):
        found.append(
            _broken(
                finding.ERROR,
                item.path,
                "is for %s, and the API server takes only system:node:NAME for a node" % (item.certificate.common_name,),
            )
        )
    return found


def _kubeconfig_authorities(tree):
    bundle = tree.ca_bundle("ca")
    found = []
    if not bundle:
        return found
    cluster = {ca.sha256 for ca in bundle}
    for path, config in tree.kubeconfigs.items():
        try:
            if config.ca_data:
                trusted = {ca.sha256 for ca in x509_read.parse_certificates(config.ca_data, path)}
            elif config.ca_file:
                trusted = {ca.sha256 for ca in tree.layout.reader.certificates(tree.layout.at(config.ca_file))}
            else:
                continue  # the system's own authorities, or insecure-skip-tls-verify: chosen by somebody
        except PkiError as error:
            found.append(_unreadable(error))
            continue
        fix = (
            "Put the content of %s into its certificate-authority-data; while a rotation of the CA is under way, let "
            "rotate_ca do it." % tree.items["ca"].path
        )
        if not trusted & cluster:
            found.append(
                finding.finding(finding.ERROR, "kubeconfig-ca-differs", path, "trusts another CA than the cluster's", fix)
            )
        elif cluster - trusted:
            found.append(
                finding.finding(
                    finding.WARNING,
                    "kubeconfig-ca-differs",
                    path,
                    "trusts only %d of the %d certificates of the cluster's CA" % (len(trusted & cluster), len(cluster)),
                    fix,
                )
            )
        elif trusted - cluster:
            found.append(
                finding.finding(
                    finding.INFO,
                    "kubeconfig-ca-differs",
                    path,
                    "trusts %d certificates more than the cluster's CA has" % len(trusted - cluster),
                    fix,
                )
            )
    return found


def _service_account(tree, owner):
    layout = tree.layout
    found = [_unreadable(error, "sa") for error in tree.sa_problems]
    key, public = tree.sa
    if key and public and key not in public:
        found.append(
            finding.finding(
                finding.ERROR,
                "sa-pub-mismatch",
                layout.sa_pub[0],
                "does not hold the public half of %s, so the API server refuses the tokens it is given" % layout.sa_key,
                "openssl rsa -in %s -pubout -out %s, then restart kube-apiserver." % (layout.sa_key, layout.sa_pub[0]),
                "sa",
            )
        )
    for path, status in tree.sa_modes.items():
        found += _mode(tree, path, status, True, owner, "sa")
    return found


def _manifest_directory(tree):
    layout = tree.layout
    found = []
    by_path = {manifest.path: manifest for manifest in layout.all_manifests}
    for path in layout.foreign:
        manifest = by_path.get(path)
        if manifest is None:
            if _is_manifest_name(path):
                continue  # a damaged manifest, reported as such
            found.append(
                finding.finding(
                    finding.ERROR,
                    "foreign-manifest",
                    path,
                    "lies in the kubelet's manifest directory and is no manifest",
                    "Move it out of %s." % layout.manifest_dir,
                )
            )
            continue
        rivals = [
            other.path
            for other in layout.all_manifests
            if other is not manifest and (other.name, other.namespace) == (manifest.name, manifest.namespace)
        ]
        if rivals:
            wins = max([path] + rivals, key=os.path.basename)
            found.append(
                finding.finding(
                    finding.ERROR,
                    "foreign-manifest",
                    path,
                    "is a second manifest of the pod %s beside %s; the kubelet runs the last by "
                    "name, which is %s"
                    % (manifest.name, ", ".join(os.path.basename(one) for one in rivals), os.path.basename(wins)),
                    "Move the one that is not meant out of %s; whatever it is called, the kubelet reads it."
                    % layout.manifest_dir,
                )
            )
        elif manifest.component in catalogue.STATIC_PODS:
            found.append(
                finding.finding(
                    finding.WARNING,
                    "foreign-manifest",
                    path,
                    "is the manifest of %s under a name that kubeadm does not know" % manifest.component,
                    "Rename it to %s.yaml." % manifest.component,
                )
            )
        else:
            found.append(
                finding.finding(
                    finding.INFO,
                    "other-static-pod",
                    path,
                    "is a static pod of its own (%s), which kubeadm does not manage" % manifest.name,
                    "Nothing, if it is meant to be there.",
                )
            )
    return found


def _signing_keys(tree):
    """kube-controller-manager ends at once when a key it is to sign with is not there (cmd/.../app/certificates.go)."""
    layout = tree.layout
    flags = layout.flags.get("kube-controller-manager", {})
    named = sorted(flag for flag in flags if flag.startswith("--cluster-signing-") and flag.endswith("-key-file") and flags[flag])
    missing = [flag for flag in named if not os.path.exists(layout.at(flags[flag]))]
    return [
        finding.finding(
            finding.ERROR,
            "signing-key-missing",
            layout.at(flags[flag]),
            "does not exist, and %s of kube-controller-manager names it: it would not start again" % flag,
            "Take %s and the flag of its certificate out of the manifest where the authority is managed elsewhere (kubeadm then "
            "leaves them out, too), or put the key back." % flag,
            "ca",
        )
        for flag in missing
    ]


def _is_manifest_name(path):
    name, extension = os.path.splitext(os.path.basename(path))
    return name in catalogue.STATIC_PODS and extension in (".yaml", ".yml", ".json")


def _fix(item):
    if item.kind == catalogue.KUBELET:
        return _SERVING if item.name == "kubelet-serving" else _REISSUE
    if item.kind == catalogue.CA:
        return "Run the playbook rotate_ca with kubepki_cas=%s." % item.name
    if item.externally_managed:
        return (
            "Run the playbook renew_leaves with kubepki_names=%s and kubepki_external_ca_dir: the external authority has to "
            "sign it." % item.name
        )
    return (_RENEW_FORCED if item.problem is not None or item.key_problem is not None else _RENEW) % item.name


def restart_remedy(component):
    if component == "kubelet":
        return "systemctl restart kubelet"
    return "Run the playbook restart_static_pods with kubepki_names=%s." % component
