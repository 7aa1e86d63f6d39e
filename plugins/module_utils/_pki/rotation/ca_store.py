# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CAs of one node: in use, staged, kept; and the facts that rotation derives a cluster's phase from.

Beside the tree lie pki.next (the staged successor) and pki.previous (the former authority, and what it signed, for the way
back), both 0700 with files of 0600. What the kubelet reads is not here but in kubelet_credential, for all nodes alike."""

from __future__ import annotations

import contextlib
import os
import re

from ..errors import PkiError
from ..fileio import atomic, journals, reading
from ..kubeadm import catalogue, component_configs, kubeconfig, layouts
from ..node import file_users, pending_restarts
from ..x509 import private_keys, x509_read, x509_sign

JOB = "rotation"  # the name of its transaction

CURRENT, NEXT, PREVIOUS = "pki", "pki.next", "pki.previous"

SIGNING = "ca-signing.crt"

LOOKUP = "--service-account-lookup"

LOOKUP_OFF = "0"  # false, in a spelling that nobody writes by hand: only what is our own is taken away again

_SIGNING_FLAG = re.compile(r"--cluster-signing(-[a-z-]+)?-cert-file")

_APISERVER, _MANAGER = "kube-apiserver", "kube-controller-manager"

_PROBE_DAYS = 1.0

_GO_ON = "Run again without check mode: before anything is looked at, it is all new or all old again."

PROBE = "kubepki-probe"  # a user that nobody has given anything: let in, and allowed nothing


class SigningCa:
    """An authority as one node holds it: a certificate (for sa a public key) with its private key.

    id: digest of the public key, which is how rotation knows it. certificate: x509.Certificate or, for sa, x509.PublicKey.
    key: x509.PrivateKey. certificate_pem, key_pem: bytes as they lie on disk.
    """

    def __init__(self, certificate, key, certificate_pem=None, key_pem=None):
        self.certificate, self.key = certificate, key
        self.id = certificate.key_sha256
        self.certificate_pem = certificate_pem or certificate.pem
        self.key_pem = key_pem or (key.pem if key else None)


class LocalCa:
    """One authority on one node. name: its name. path, key_path: of certificate (or sa.pub) and key.

    bundle: [x509.Certificate or PublicKey] who is trusted, the signer first. current, next, previous: Signer or None.
    problems: [PkiError]. with_keys: whether the private keys are loaded, or only compared (which is much faster).
    """

    def __init__(self, layout, name, with_keys=True):
        self.name = name
        self._with_keys = with_keys
        self.path, self.key_path = places(layout, name, CURRENT)
        self.data = None
        self.bundle, self.problems = [], []
        self.current = self.next = self.previous = None
        self.keyless = False
        try:
            self.data = reading.read_if_exists(self.path)
            if self.data is not None:
                self.bundle = parse_bundle(name, self.data, self.path)
            self.current = self._signer(layout, CURRENT)
            self.next = self._signer(layout, NEXT)
            self.previous = self._signer(layout, PREVIOUS)
        except PkiError as error:
            self.problems.append(error)

    def _signer(self, layout, where):
        path, key_path = places(layout, self.name, where)
        data, key_data = reading.read_if_exists(path), reading.read_if_exists(key_path)
        if data is None or key_data is None:
            self.keyless = self.keyless or (where == CURRENT and data is not None)
            return None
        certificate = parse_bundle(self.name, data, path)[0]
        key = private_keys.parse_private_key(key_data, key_path) if self._with_keys else None
        digest = (
            key.key_sha256
            if key
            else x509_read.private_key_digest(key_data, key_path, None if self.name == "sa" else certificate)
        )
        if digest != certificate.key_sha256:
            raise PkiError(
                "the key does not belong to %s" % path,
                path=key_path,
                fix="Put back the pair that belongs together, from a backup set.",
            )
        return SigningCa(certificate, key, data if where != CURRENT else None, key_data)

    def known(self):
        """Give the certificates of this authority that lie on the node, each once: [Certificate or PublicKey]."""
        found = list(self.bundle) + [signer.certificate for signer in (self.current, self.next, self.previous) if signer]
        return list({item.key_sha256: item for item in reversed(found)}.values())


def places(layout, name, where):
    """Give (path of the certificate or public key, path of the private key) of an authority.

    where: CURRENT, or NEXT or PREVIOUS, which have the layout of kubeadm's pki directory wherever the flags point.
    """
    if where == CURRENT and name == "sa":
        return layout.sa_pub[0] if layout.sa_pub else os.path.join(layout.pki_dir, "sa.pub"), layout.sa_key
    if where == CURRENT and name in layout.paths:
        path, key_path = layout.paths[name]
        return path, key_path or os.path.splitext(path)[0] + ".key"
    relative = ("pki/sa.pub", "pki/sa.key") if name == "sa" else (catalogue.BY_NAME[name].path, catalogue.BY_NAME[name].key)
    return tuple(os.path.join(layout.kubernetes_dir, where, path.split("/", 1)[1]) for path in relative)


def parse_bundle(name, data, path):
    """Give what a bundle trusts: [Certificate], or [PublicKey] for sa. Raises PkiError."""
    return private_keys.parse_public_keys(data, path) if name == "sa" else x509_read.parse_certificates(data, path)


def refuse_external_etcd(layout, names):
    """Raise PkiError where etcd's authority is among the names and etcd is no static pod of this node's.

    Even where its key is here: its members do not follow what changes on the control-plane nodes.
    """
    if "etcd-ca" in names and layout.external_etcd and "etcd-ca" in layout.paths:
        raise PkiError(
            "etcd is external (%s), so etcd-ca cannot be changed from here" % layout.external_etcd,
            path=layout.paths["etcd-ca"][0],
            fix=catalogue.LEAVE_ETCD_OUT,
        )


def refuse_external_signer(layout, names):
    """Raise PkiError where sa is among the names and an external signer signs the service-account tokens (KEP-740)."""
    endpoint = layout.flags.get(_APISERVER, {}).get("--service-account-signing-endpoint")
    if "sa" in names and endpoint:
        raise PkiError(
            "service-account tokens are signed by an external signer (--service-account-signing-endpoint=%s), so there is "
            "no key here to replace" % endpoint,
            path=layout.manifests.get(_APISERVER),
            fix="Rotate the signing key in that signer, and leave sa out of kubepki_cas.",
        )


def local_cas(layout, names=catalogue.ROTATABLE, with_keys=True):
    """Give {name: Held} of the authorities that this node has a file of."""
    found = {}
    for name in names:
        if name == "sa" and layout.role != layouts.CONTROL_PLANE:
            continue
        if name != "sa" and name not in layout.paths:
            continue
        held = LocalCa(layout, name, with_keys)
        if held.data is not None or held.problems:
            found[name] = held
    return found


def facts(tree, state_dir=atomic.STATE_DIR, names=catalogue.ROTATABLE):
    """Give the facts of this node that rotation derives the phase from: digests and names only, no key material.

    tree: pki_tree.Tree. Beside what rotation needs: "certificates" {digest: {"subject", "not_after", "sha256"}} and "seconds"
    {phase: from its files to its last restart, last time}.
    """
    layout = tree.layout
    record = pending_restarts.read_record(state_dir)
    pending = pending_restarts.stale(record) + (
        ["kubelet"] if journals.Journal(journals.KUBELET_RESTART, state_dir).load() else []
    )
    result = {
        "node": layout.node_name,
        "role": layout.role,
        "journal": JOB if journals.Journal(JOB, state_dir).load() else None,
        "pending": pending,
        "seconds": pending_restarts.phase_durations(record),
        "verifies_kubelets": reads_ca_once(layout),
        "external_etcd": layout.external_etcd,
        "token_signer": layout.flags.get(_APISERVER, {}).get("--service-account-signing-endpoint"),
        "pods": _pods(layout),
        "authorities": {},
        "certificates": {},
    }
    for name, held in local_cas(layout, names, with_keys=False).items():
        view = result["authorities"][name] = _view(tree, held, result["certificates"])
        if result["journal"] and held.problems:
            # What is half replaced looks damaged. A run heals it before it looks; this is a check, or somebody else's look.
            view["problems"] = [str(PkiError("a run ended while this was being replaced", path=held.path, fix=_GO_ON))]
        for item in held.known():
            result["certificates"][item.key_sha256] = _described(item)
    return result


def reads_ca_once(layout):
    """Return whether this node's API server verifies servers with ca.crt itself, which it then reads only when it starts.

    The kubelets, or what a file that its flags name (OIDC, webhooks, egress) verifies with that file.
    """
    if layout.flags.get(_APISERVER, {}).get("--kubelet-certificate-authority"):
        return True
    return _APISERVER in layout.parsed and component_configs.reads_file(layout, _APISERVER, places(layout, "ca", CURRENT)[0])


def _pods(layout):
    """Return the static pods that use files which rotations replace: {name: {"cas", "stale", "why"}}, as rotation has it."""
    found = {}
    for user in file_users.users(layout):
        if user.uses():
            stale, other = bool(file_users.stale(layout, user)), found.get(user.name, {"cas": [], "stale": False, "why": None})
            # Two of one name cannot be restarted, and both have a reason.
            found[user.name] = {
                "cas": sorted({*file_users.cas(layout, user), *other["cas"]}),
                "stale": stale or other["stale"],
                "why": user.why or other["why"],
            }
    return found


def _described(item):
    if isinstance(item, private_keys.PublicKey):
        return {"subject": "service-account key", "not_after": None, "sha256": item.key_sha256}
    return {"subject": item.subject, "not_after": x509_read.timestamp(item.not_after), "sha256": item.sha256}


def _view(tree, held, certificates):
    layout, keeper = tree.layout, tree.layout.role != layouts.WORKER

    def digest(signer):
        return signer.id if signer else None

    view = {
        "signer": digest(held.current),
        "bundle": [item.key_sha256 for item in held.bundle],
        "next": digest(held.next),
        "previous": digest(held.previous),
        "trust": {},
        "leaves": {},
        "split": None,
        "signing": None,
        "lookup_off": held.name == "sa" and lookup_off(layout),
        "problems": [str(problem) for problem in held.problems] if keeper else [],
    }
    for item in tree.items.values():
        if item.certificate is not None and (item.ca == held.name or (item.name == "kubelet-serving" and held.name == "ca")):
            signed = signed_by(item.certificate, held.known())
            if signed is not None or item.name == "kubelet-client":
                view["leaves"][item.name] = signed
    if held.name == "ca":
        for path, trusted in _kubeconfig_trust(layout).items():
            view["trust"][os.path.basename(path)] = [item.key_sha256 for item in trusted]
            certificates.update((item.key_sha256, _described(item)) for item in trusted)
        if layout.role == layouts.CONTROL_PLANE:
            view["split"], view["signing"] = _split(layout, held)
            view["problems"] += [str(problem) for problem in _out_of_reach(tree, held) + _beside(layout, held)]
    if held.name in layout.shared and keeper:
        view["problems"].append(str(_one_ca(layout, held.name, held.path)))
    return view


def _out_of_reach(tree, held):
    """What depends on the cluster's CA on a control-plane node and would not follow it: [PkiError]."""
    layout, found, own = tree.layout, [], tree.layout.kubelet["ca_file"]
    if own and os.path.realpath(own) != os.path.realpath(held.path):
        found.append(
            PkiError(
                "the kubelet knows its clients by this file, and the API server its own by %s" % held.path,
                path=own,
                fix="Name one file for both: clientCAFile in %s, then restart the kubelet." % layout.kubelet["config_path"],
            )
        )
    for path in trust_kubeconfigs(layout, kubelet=False):
        try:
            layout.reader.kubeconfig(path)
        except kubeconfig.OtherClusterError as error:
            found.append(error)
        except PkiError:
            pass  # a finding of cert_expiry
        config = tree.kubeconfigs.get(path)  # None: a finding of cert_expiry
        named = _files_of(layout, config, held.known()) if config else []
        if named:
            found.append(
                PkiError(
                    "names %s, where the cluster's CA can only be replaced in what a kubeconfig holds itself"
                    % " and ".join(named),
                    path=path,
                    fix="Embed them: kubectl --kubeconfig=%s config set-cluster %s, or set-credentials %s, with the files "
                    "and --embed-certs=true; then restart whoever uses it." % (path, config.cluster, config.user),
                )
            )
    return found


# Flags that name a CA file. Where one of the first names the cluster's CA file itself, a rotation of that CA restarts the
# component, or the component reloads the file.
_CARRIED_FLAGS = ("--client-ca-file", "--kubelet-certificate-authority", "--root-ca-file")

_SEPARATE_FLAGS = {
    "--trusted-ca-file": "etcd-ca",
    "--peer-trusted-ca-file": "etcd-ca",
    "--etcd-cafile": "etcd-ca",
    "--requestheader-client-ca-file": "front-proxy-ca",
}


def _one_ca(layout, name, path):
    return PkiError(
        "the CA %s is the cluster's CA as well, and neither can be replaced alone" % name,
        path=path,
        fix=layouts.separate_ca(layout, name)
        if layout.shared.get(name) == "ca"
        else "Give each CA a key and a certificate of its own first.",
    )


def _beside(layout, held):
    """Return what trusts the cluster's CA through a flag that its rotation does not serve: [PkiError]."""
    ours = {signer.id for signer in (held.current, held.next, held.previous) if signer}
    own_pairs = {
        os.path.realpath(layout.paths[name][0])
        for name in set(_SEPARATE_FLAGS.values())
        if name in layout.paths and name not in layout.shared and os.path.lexists(layout.paths[name][1])
    }
    found, separate = [], []
    for component, flags in sorted(layout.flags.items()):
        for flag, value in sorted(flags.items()):
            if (flag not in _CARRIED_FLAGS and flag not in _SEPARATE_FLAGS) or not value or not ours:
                continue
            path, name = layout.at(value), _SEPARATE_FLAGS.get(flag)
            same = os.path.realpath(path) == os.path.realpath(held.path)
            if (same and name is None) or os.path.realpath(path) in own_pairs or (not same and not _trusts(layout, path, ours)):
                continue
            if name is None:
                found.append(
                    PkiError(
                        "%s of %s names a copy of the cluster's CA, which a rotation does not replace" % (flag, component),
                        path=path,
                        fix="Name %s there instead, then restart %s." % (held.path, component),
                    )
                )
            elif name not in separate:
                separate.append(name)
                found.append(_trusted_beside(layout, component, flag, path, name))
    return found


def _trusted_beside(layout, component, flag, path, name):
    fix = layouts.separate_ca(layout, name) if name in layout.paths else "Give it a CA of its own first."
    return PkiError(
        "%s of %s trusts the cluster's CA through this file. A rotation of that CA would cut off what it signed "
        "for %s" % (flag, component, "etcd" if name == "etcd-ca" else "front proxies"),
        path=path,
        fix=fix,
    )


def _trusts(layout, path, ours):
    try:
        return bool(ours & {ca.key_sha256 for ca in layout.reader.certificates(path)})
    except PkiError:
        return False  # the component would not start; a finding of cert_expiry


def _files_of(layout, config, known):
    """Give the files that a kubeconfig names instead of holding them, and that hold or are signed by one of the CAs known."""
    found, ours = [], {item.key_sha256 for item in known}
    with contextlib.suppress(PkiError):  # what cannot be read is a finding of cert_expiry
        if config.ca_file and not config.ca_data:
            trusted = x509_read.parse_certificates(reading.read(layout.at(config.ca_file)), config.ca_file)
            found += [config.ca_file] if ours & {item.key_sha256 for item in trusted} else []
    with contextlib.suppress(PkiError):
        if config.certificate_file and not config.certificate_data:
            leaf = layout.reader.certificates(layout.at(config.certificate_file))[0]
            found += [config.certificate_file] if signed_by(leaf, known) else []
    return found


def signed_by(certificate, candidates):
    for candidate in candidates:
        if not isinstance(candidate, private_keys.PublicKey) and certificate.verified_by_key(candidate):
            return candidate.key_sha256
    return None


def trust_kubeconfigs(layout, kubelet=True):
    """Give the paths of the kubeconfigs on this node that carry the cluster CA. kubelet: also the kubelet's own two."""
    paths = []
    for entry in catalogue.CATALOGUE:
        if entry.kind == catalogue.KUBECONFIG:
            paths.append(layout.paths.get(entry.name, (os.path.join(layout.kubernetes_dir, entry.path), None))[0])
    if kubelet:
        paths += [layout.kubelet.get("kubeconfig_path"), layout.kubelet.get("bootstrap_kubeconfig_path")]
    return [path for path in dict.fromkeys(paths) if path and os.path.lexists(path)]


def _kubeconfig_trust(layout):
    found = {}
    for path in trust_kubeconfigs(layout):
        try:
            config = kubeconfig.Kubeconfig(reading.read(path), path)
            if config.ca_data:
                found[path] = x509_read.parse_certificates(config.ca_data, path)
        except PkiError:
            continue  # a finding of cert_expiry; declaration.apply() refuses it by name
    return found


def lookup_off(layout):
    """Whether this node's apiserver has the flag with which token secrets of two keys live side by side during a rotation."""
    return layout.flags.get(_APISERVER, {}).get(LOOKUP) == LOOKUP_OFF


def signing_path(layout):
    """Give where kube-controller-manager's signing certificate lies while two CAs are trusted."""
    return os.path.join(os.path.dirname(places(layout, "ca", CURRENT)[0]), SIGNING)


def signing_flags(layout, held):
    """Give {flag: whether it names the file of its own} of kcm's signing flags that name one of the two files."""
    flags = layout.flags.get(_MANAGER, {})
    return {
        flag: layout.at(value) == signing_path(layout)
        for flag, value in flags.items()
        if _SIGNING_FLAG.fullmatch(flag) and layout.at(value) in (held.path, signing_path(layout))
    }


def _split(layout, held):
    flags = signing_flags(layout, held)
    split = (all(flags.values()) if any(flags.values()) else False) if flags else None
    data = reading.read_if_exists(signing_path(layout))
    try:
        signing = [item.key_sha256 for item in x509_read.parse_certificates(data, SIGNING)] if data is not None else None
    except PkiError:
        signing = []
    return split, signing


def key_type_of(certificate):
    """Give the type (of x509.KEY_TYPES) for a key that takes over from a certificate's."""
    return private_keys.nearest_key_type(certificate.key_type)


def probe_client(layout, name, signer, lasting=False):
    """Give (certificate PEM, key PEM) of a client that an authority (a Signer) signed, and that may do nothing.

    The front proxy's has the name that the apiserver of this node lets speak for others. lasting: it lives as long as the
    authority would, so that being refused says something about that, and not about its own age.
    """
    allowed = (layout.flags.get(_APISERVER, {}).get("--requestheader-allowed-names") or "front-proxy-client").split(",")[0]
    key = private_keys.generate_key("ecdsa-p256")
    profile = x509_sign.Profile(allowed if name == "front-proxy-ca" else PROBE, extended_usages=("client",))
    left = (signer.certificate.not_after - x509_read.now()).total_seconds() / 86400.0 if lasting else 0.0
    return x509_sign.sign_leaf(profile, key, signer.certificate, signer.key, max(left, _PROBE_DAYS)).pem, key.pem


def probe_path(state_dir, name):
    """Give where the client of a dropped authority lies, by which it is proven that nobody accepts it any more."""
    return os.path.join(state_dir, "former-%s.pem" % name)
