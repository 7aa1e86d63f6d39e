# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each phase of a rotation declares on one node, and applying it; and making, taking over and renewing a CA.

The files of a phase are a function of what lies on the node and of the level asked for (rotation.LEVELS), so a second
application changes nothing and a half-applied one converges. Beside the tree lie pki.next (the staged successor) and
pki.previous (the former authority, and what it signed, for the way back), both 0700 with files of 0600. What the kubelet
reads is not here but in kubelets, for all nodes alike.
"""

from __future__ import annotations

__metaclass__ = type

import base64
import glob
import json
import os
import re

from . import files, kubeconfig, kubelets, pki_tree, probe, profiles, rotation, x509
from .errors import PkiError

OWN_JOB = "own-ca"
JOB = "rotation"  # the name of its transaction and of its record in the state directory
CURRENT, NEXT, PREVIOUS = "pki", "pki.next", "pki.previous"
SIGNING = "ca-signing.crt"
SA_KEY_TYPE = "rsa-2048"  # kubeadm: service account keys are RSA whatever encryptionAlgorithm says up to 1.30

_END = re.compile(b"-----END [A-Z0-9 ]+-----[^\n]*\n?")
_LOOKUP = "--service-account-lookup"
_LOOKUP_OFF = "0"  # false, in a spelling that nobody writes by hand: only what is our own is taken away again
_NO_TOKEN_SECRETS = 24  # from here on a service account gets no token secret (LegacyServiceAccountTokenNoAutoGeneration)
_SIGNING_FLAG = re.compile(r"--cluster-signing(-[a-z-]+)?-cert-file")
_MANAGER, _SCHEDULER, _APISERVER, _ETCD = "kube-controller-manager", "kube-scheduler", "kube-apiserver", "etcd"
_PUBLIC, _SECRET = 0o644, 0o600


class Signer:
    """An authority as one node holds it: a certificate (for sa a public key) with its private key.

    id: digest of the public key, which is how rotation knows it. certificate: x509.Certificate or, for sa, x509.PublicKey.
    key: x509.PrivateKey. certificate_pem, key_pem: bytes as they lie on disk.
    """

    def __init__(self, certificate, key, certificate_pem=None, key_pem=None):
        self.certificate, self.key = certificate, key
        self.id = certificate.key_sha256
        self.certificate_pem = certificate_pem or certificate.pem
        self.key_pem = key_pem or (key.pem if key else None)


class Held:
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
            self.data = files.read_if_exists(self.path)
            if self.data is not None:
                self.bundle = parse_bundle(name, self.data, self.path)
            self.current = self._signer(layout, CURRENT)
            self.next = self._signer(layout, NEXT)
            self.previous = self._signer(layout, PREVIOUS)
        except PkiError as error:
            self.problems.append(error)

    def _signer(self, layout, where):
        path, key_path = places(layout, self.name, where)
        data, key_data = files.read_if_exists(path), files.read_if_exists(key_path)
        if data is None or key_data is None:
            self.keyless = self.keyless or (where == CURRENT and data is not None)
            return None
        certificate = parse_bundle(self.name, data, path)[0]
        key = x509.parse_private_key(key_data, key_path) if self._with_keys else None
        digest = key.key_sha256 if key else x509.private_key_digest(key_data, key_path)
        if digest != certificate.key_sha256:
            raise PkiError("the key does not belong to %s" % path, path=key_path,
                           fix="Put back the pair that belongs together, from a backup set.")
        return Signer(certificate, key, data if where != CURRENT else None, key_data)

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
    relative = ("pki/sa.pub", "pki/sa.key") if name == "sa" else (profiles.BY_NAME[name].path, profiles.BY_NAME[name].key)
    return tuple(os.path.join(layout.kubernetes_dir, where, path.split("/", 1)[1]) for path in relative)


def parse_bundle(name, data, path):
    """Give what a bundle trusts: [Certificate], or [PublicKey] for sa. Raises PkiError."""
    return x509.parse_public_keys(data, path) if name == "sa" else x509.parse_certificates(data, path)


def held_here(layout, names=rotation.AUTHORITIES, with_keys=True):
    """Give {name: Held} of the authorities that this node has a file of."""
    found = {}
    for name in names:
        if name == "sa" and layout.role != pki_tree.CONTROL_PLANE:
            continue
        if name != "sa" and name not in layout.paths:
            continue
        held = Held(layout, name, with_keys)
        if held.data is not None or held.problems:
            found[name] = held
    return found


def bundle_text(name, data, wanted, path):
    """Give the bytes of a bundle that trusts `wanted` in that order, and nobody else.

    data: bytes of the bundle as it is, or None. wanted: [Certificate or PublicKey]. What the file holds already keeps its
    bytes, comments included, so that taking an authority in and out again leaves the file as it was.
    """
    chunks, start = {}, 0
    for match in _END.finditer(data or b""):
        chunk = data[start:match.end()]
        start = match.end()
        try:
            digest = parse_bundle(name, chunk, path)[0].key_sha256
        except PkiError:
            continue
        chunks[digest] = chunks.get(digest, b"") + (chunk if chunk.endswith(b"\n") else chunk + b"\n")
    parts, seen = [], set()
    for item in wanted:
        if item.key_sha256 not in seen:
            seen.add(item.key_sha256)
            parts.append(chunks.get(item.key_sha256) or item.pem)
    return b"".join(parts)


# ---------------------------------------------------------------------------------------------------------------- facts

def facts(tree, state_dir=files.STATE_DIR, names=rotation.AUTHORITIES):
    """Give the facts of this node that rotation derives the phase from: digests and names only, no key material.

    tree: pki_tree.Tree. Beside what rotation needs: "certificates" {digest: {"subject", "not_after", "sha256"}},
    "staged" (whether a successor is staged here) and "seconds" {phase: from its files to its last restart, last time}.
    """
    layout = tree.layout
    record = read_record(state_dir)
    pending = stale(record) + (["kubelet"] if files.Journal(kubelets.PENDING, state_dir).load() else [])
    result = {"node": layout.node_name, "role": layout.role,
              "journal": JOB if files.Journal(JOB, state_dir).load() else None,
              "pending": pending, "seconds": took(record), "staged": False,
              "authorities": {}, "certificates": {}}
    for name, held in held_here(layout, names, with_keys=False).items():
        result["authorities"][name] = _view(tree, held)
        result["staged"] = result["staged"] or held.next is not None
        for item in held.known():
            result["certificates"][item.key_sha256] = _described(item)
    return result


def _described(item):
    if isinstance(item, x509.PublicKey):
        return {"subject": "service-account key", "not_after": None, "sha256": item.key_sha256}
    return {"subject": item.subject, "not_after": x509.timestamp(item.not_after), "sha256": item.sha256}


def _view(tree, held):
    layout, keeper = tree.layout, tree.layout.role != pki_tree.WORKER

    def digest(signer):
        return signer.id if signer else None

    view = {"signer": digest(held.current), "bundle": [item.key_sha256 for item in held.bundle], "next": digest(held.next),
            "previous": digest(held.previous), "trust": {}, "leaves": {}, "split": None, "signing": None,
            "problems": [str(problem) for problem in held.problems] if keeper else []}
    for item in tree.items.values():
        if item.certificate is not None and (item.ca == held.name or (item.name == "kubelet-serving" and held.name == "ca")):
            signed = _signed_by(item.certificate, held.known())
            if signed is not None or item.name == "kubelet-client":
                view["leaves"][item.name] = signed
    if held.name == "ca":
        view["trust"] = {os.path.basename(path): digests for path, digests in _kubeconfig_trust(layout).items()}
        if layout.role == pki_tree.CONTROL_PLANE:
            view["split"], view["signing"] = _split(layout, held)
    return view


def _signed_by(certificate, candidates):
    for candidate in candidates:
        if not isinstance(candidate, x509.PublicKey) and certificate.verified_by_key(candidate):
            return candidate.key_sha256
    return None


def trust_kubeconfigs(layout, kubelet=True):
    """Give the paths of the kubeconfigs on this node that carry the cluster CA. kubelet: also the kubelet's own two."""
    paths = []
    for entry in profiles.CATALOGUE:
        if entry.kind == profiles.KUBECONFIG:
            paths.append(layout.paths.get(entry.name, (os.path.join(layout.kubernetes_dir, entry.path), None))[0])
    if kubelet:
        paths += [layout.kubelet.get("kubeconfig_path"), layout.kubelet.get("bootstrap_kubeconfig_path")]
    return [path for path in dict.fromkeys(paths) if path and os.path.lexists(path)]


def _kubeconfig_trust(layout):
    found = {}
    for path in trust_kubeconfigs(layout):
        try:
            config = kubeconfig.Kubeconfig(files.read(path), path)
            if config.ca_data:
                found[path] = [item.key_sha256 for item in x509.parse_certificates(config.ca_data, path)]
        except PkiError:
            continue  # a finding of cert_expiry; apply() refuses it by name
    return found


def signing_path(layout):
    """Give where kube-controller-manager's signing certificate lies while two CAs are trusted."""
    return os.path.join(os.path.dirname(places(layout, "ca", CURRENT)[0]), SIGNING)


def _signing_flags(layout, held):
    """Give {flag: whether it names the file of its own} of kcm's signing flags that name one of the two files."""
    flags = layout.flags.get(_MANAGER, {})
    return {flag: layout.at(value) == signing_path(layout) for flag, value in flags.items()
            if _SIGNING_FLAG.fullmatch(flag) and layout.at(value) in (held.path, signing_path(layout))}


def _split(layout, held):
    flags = _signing_flags(layout, held)
    split = (all(flags.values()) if any(flags.values()) else False) if flags else None
    data = files.read_if_exists(signing_path(layout))
    try:
        signing = [item.key_sha256 for item in x509.parse_certificates(data, SIGNING)] if data is not None else None
    except PkiError:
        signing = []
    return split, signing


# ------------------------------------------------------------------------------------------- what still runs with old files

def read_record(state_dir):
    """Give what the last applications left in the state directory: {"boot", "pending", "seconds"}; {} when none did."""
    data = files.read_if_exists(os.path.join(state_dir, JOB + ".json"))
    try:
        record = json.loads(data.decode("utf-8")) if data else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def uptime():
    """Give (boot id, seconds since boot): a clock that nobody sets."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as handle:
            boot = handle.read().strip()
        with open("/proc/uptime") as handle:
            return boot, float(handle.read().split()[0])
    except (OSError, ValueError):
        return "", 0.0


def stale(record):
    """Give the components that have run since before the last change of a file they read only once, sorted."""
    boot, _now = uptime()
    if record.get("boot") != boot:
        return []
    return sorted(component for component, since in record.get("pending", {}).items()
                  if 0 <= started(component) < since)


def started(component):
    """Give when a component's newest process began, in seconds since boot; -1 where none runs."""
    newest = -1.0
    ticks = os.sysconf("SC_CLK_TCK")
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as handle:
                program = handle.read().split(b"\0", 1)[0]
            if os.path.basename(program).decode("utf-8", "replace") != component:
                continue
            if _depth(pid) > (1 if component == "kubelet" else 2):
                continue
            with open("/proc/%s/stat" % pid, "rb") as handle:
                # proc(5): starttime is field 22; the second one, in brackets, may hold spaces.
                newest = max(newest, int(handle.read().rsplit(b")", 1)[1].split()[19]) / ticks)
        except (OSError, ValueError, IndexError):
            continue
    return newest


def mounted(layout, bundle):
    """Give (how many, [those that lag]) of the ca.crt files that pods on this node have mounted.

    They lag while they lack a certificate of `bundle` (PEM bytes, the cluster's trust): the kubelet updates mounted volumes
    within about a minute and a half. A list of paths below the kubelet's directory.
    """
    wanted = {item.key_sha256 for item in x509.parse_certificates(bundle, "the trust bundle")}
    pattern = os.path.join(layout.kubelet_dir, "pods", "*", "volumes", "kubernetes.io~*", "*", "ca.crt")
    found, lagging = glob.glob(pattern), []
    for path in found:
        try:
            there = {item.key_sha256 for item in x509.parse_certificates(files.read(path), path)}
        except PkiError:
            continue  # the pod ended meanwhile, or its ca.crt is somebody else's file
        # A volume with none of ours belongs to another authority (a webhook's own, say).
        if there & wanted and not wanted <= there:
            lagging.append(os.path.relpath(path, layout.kubelet_dir))
    return len(found), sorted(lagging)


def token_key(token):
    """Give the digest of the key that signed a service-account token (bytes), as its header says, or None.

    Kubernetes names a key by the SHA-256 of its PKIX form (pkg/serviceaccount/jwt.go: keyIDFromPublicKey).
    """
    try:
        head = token.split(b".")[0]
        kid = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)).decode("utf-8"))["kid"]
        return base64.urlsafe_b64decode(kid.encode("ascii") + b"=" * (-len(kid) % 4)).hex()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def mounted_tokens(layout, former):
    """Give the paths, below the kubelet's directory, of the tokens that pods have mounted and that a former key signed.

    former: digest of that key. Whoever reads them is refused once the key is dropped.
    """
    pattern = os.path.join(layout.kubelet_dir, "pods", "*", "volumes", "kubernetes.io~*", "*", "token")
    return sorted(os.path.relpath(path, layout.kubelet_dir) for path in glob.glob(pattern)
                  if token_key(files.read_if_exists(path) or b"") == former)


def _depth(pid):
    # A node that runs in a container shows its processes in its host's /proc, too: deeper than the host's own pods.
    with open("/proc/%s/status" % pid, "rb") as handle:
        for line in handle:
            if line.startswith(b"NSpid:"):
                return len(line.split()) - 1
    return 1


# ------------------------------------------------------------------------------------------------------------ declaration

class Declaration:
    """What a node shall look like: files to write, files to remove, flags to change, and who has to be restarted.

    writes: {path: (bytes, mode for a new file)}. removals: [paths]. edits: {component: {flag: value}}.
    restarts: set of components ("kubelet" among them). reloads: set of components that take their new leaf up by
    themselves. leaves: [{"name", "path", "before", "after"}] described. notes: [sentences] for people.
    """

    def __init__(self):
        self.writes, self.removals, self.edits = {}, [], {}
        self.restarts, self.reloads = set(), set()
        self.leaves, self.notes, self.trust = [], [], {}

    def write(self, path, data, mode):
        """Declare a file; nothing where it is so already."""
        if files.read_if_exists(path) != data:
            self.writes[path] = (data, mode)
            return True
        return False

    def remove(self, path):
        """Declare that a file is not there."""
        if os.path.lexists(path):
            self.removals.append(path)

    @property
    def changed(self):
        """Whether anything on disk differs from what is declared."""
        return bool(self.writes or self.removals)


class Declarer:
    """Fills a Declaration for one node. level: 0 to 3. days: of the leaves that are signed. key_type: of their keys, or None."""

    def __init__(self, tree, level, days=365.0, key_type=None, state_dir=None):
        self.tree, self.layout, self.state_dir = tree, tree.layout, state_dir
        self.level, self.days, self.key_type = level, days, key_type
        self.result = Declaration()

    def authority(self, held):
        """Declare everything of one authority on a control-plane or etcd node. Raises PkiError where the level cannot be."""
        for problem in held.problems:
            raise problem
        old, new = self._pair(held)
        if new is None and not self._leftovers(held):
            return
        signer = new if self.level >= 2 and new else old
        self._places(held, old, new, signer)
        if self.level == 3 and new and held.name != "sa" and self.state_dir:
            # The last thing it signs: a client that proves that it is refused from now on.
            self.result.write(probe_path(self.state_dir, held.name),
                              b"".join(_probe_pair(held.name, old, _allowed_name(self.layout))), _SECRET)
        self._bundle(held, old, new)
        if held.name == "ca":
            self._signing(held, signer, new is not None)
            self._kubeconfigs(held, old, new, signer)
        if held.name == "sa":
            self._lookup(new is not None)
        else:
            self._leaves(held, old, new, signer)
        if self.level != 2:
            self._drop_saved(held)

    def _pair(self, held):
        """Give (A, B) as Signers; B None where only dropping leftovers makes sense. Raises PkiError."""
        if held.current is None:
            raise PkiError("the key of %s is not on this node" % held.name, path=held.key_path,
                           fix="Leave %s out of kubepki_cas, or rotate it where its key is kept." % held.name)
        staged = held.next if held.next and held.next.id != held.current.id else None
        kept = held.previous if held.previous and held.previous.id != held.current.id else None
        if staged and kept:
            raise PkiError("a successor is staged while the rotation before it is not complete", path=held.path,
                           fix="Remove %s after comparing it with the other nodes." % places(self.layout, held.name, NEXT)[0])
        if self.level == 3 and staged:
            raise PkiError("the successor of %s is staged and does not sign yet" % held.name, path=held.path,
                           fix="Run kubepki_phase=switch first.")
        if self.level == 0 and kept:
            raise PkiError("%s was switched, and its former authority is kept for the way back" % held.name, path=held.path,
                           fix="Go back to prepared first, on all control-plane nodes.")
        if self.level in (1, 2) and not staged and not kept:
            raise PkiError("no successor of %s is staged on this node" % held.name,
                           path=places(self.layout, held.name, NEXT)[0], fix="Stage it first (state=staged).")
        if staged:
            return held.current, staged
        if kept:
            return kept, held.current
        return held.current, None

    def _leftovers(self, held):
        paths = [path for where in (NEXT, PREVIOUS) for path in places(self.layout, held.name, where)]
        if held.name == "ca":
            paths.append(signing_path(self.layout))
        return self.level in (0, 3) and any(os.path.lexists(path) for path in paths)

    def _trusted(self, old, new, bundle):
        """Give the [Certificate or PublicKey] of this level, followed by what `bundle` trusts besides, in its order."""
        ours = {0: [old], 1: [old, new], 2: [new, old], 3: [new or old]}[self.level]
        pair = {signer.id for signer in (old, new) if signer}
        return ([signer.certificate for signer in ours if signer]
                + [item for item in bundle if item.key_sha256 not in pair])

    def _places(self, held, old, new, signer):
        """The three places of the pairs: in use, staged, kept."""
        if signer is not held.current:
            mode = pki_tree_mode(held.key_path, _SECRET)
            self.result.write(held.key_path, signer.key_pem, mode)
            self.result.notes.append("%s signs: %s instead of %s" % (
                held.name, rotation.short(signer.id), rotation.short(held.current.id)))
        stay = {NEXT: new if self.level == 1 else None, PREVIOUS: old if self.level == 2 else None}
        for where, pair in stay.items():
            certificate, key = places(self.layout, held.name, where)
            if pair is None:
                # At level 0 a successor is dropped; a pair that is staged at other levels is in use by then.
                self.result.remove(certificate)
                self.result.remove(key)
            else:
                self.result.write(certificate, pair.certificate_pem, _SECRET)
                self.result.write(key, pair.key_pem, _SECRET)

    def _bundle(self, held, old, new):
        wanted = self._trusted(old, new, held.bundle)
        data = bundle_text(held.name, held.data, wanted, held.path)
        self.result.trust[held.name] = data
        before = {item.key_sha256 for item in held.bundle}
        after = {item.key_sha256 for item in wanted}
        if self.result.write(held.path, data, _SECRET if held.name == "sa" else _PUBLIC):
            self.result.notes.append("%s trusts %s instead of %s" % (
                held.name, _short_list(wanted), _short_list(held.bundle)))
        self._restart_for(held.name, before != after, held.key_path in self.result.writes)

    def _restart_for(self, name, trust_changed, key_changed):
        flags = self.layout.flags
        if trust_changed and name == "etcd-ca":
            self.result.restarts.update(component for component in (_APISERVER, _ETCD) if component in flags)
        if name == "sa" and (trust_changed or key_changed):
            self.result.restarts.add(_APISERVER)
        if name == "sa" and key_changed:
            self.result.restarts.add(_MANAGER)
        if trust_changed and name == "ca":
            self.result.restarts.add(_MANAGER)  # --root-ca-file
            if flags.get(_APISERVER, {}).get("--kubelet-certificate-authority"):
                self.result.restarts.add(_APISERVER)

    def _signing(self, held, signer, two):
        if self.layout.role != pki_tree.CONTROL_PLANE:
            return
        path, flags = signing_path(self.layout), _signing_flags(self.layout, held)
        split = two and self.level in (1, 2)

        def outside(place):
            return place[len(self.layout.root.rstrip("/")):] if self.layout.root else place

        edits = {flag: outside(path if split else held.path) for flag, own in flags.items() if own != split}
        if edits:
            self.result.edits[_MANAGER] = edits
            self.result.restarts.add(_MANAGER)
        if split or any(flags.values()):
            # While the manifest names it, it has to be there, with exactly one certificate.
            self.result.write(path, signer.certificate.pem, _PUBLIC)
        else:
            self.result.remove(path)

    def _kubeconfigs(self, held, old, new, signer):
        leaf_paths = {item.path: item for item in self.tree.items.values() if item.kind == profiles.KUBECONFIG}
        for path in trust_kubeconfigs(self.layout, kubelet=False):
            config = kubeconfig.Kubeconfig(files.read(path), path)
            item = leaf_paths.get(path)
            if item is not None and item.certificate is not None:
                config = self._kubeconfig_leaf(config, item, held, signer)
            if config.ca_data:
                inside = x509.parse_certificates(config.ca_data, path)
                wanted = self._trusted(old, new, inside)
                config = config.with_ca(bundle_text("ca", config.ca_data, wanted, path))
            self._write_kubeconfig(path, bytes(config))

    def _write_kubeconfig(self, path, data):
        if self.result.write(path, data, _SECRET):
            component = {self.layout.paths.get("controller-manager.conf", ("",))[0]: _MANAGER,
                         self.layout.paths.get("scheduler.conf", ("",))[0]: _SCHEDULER}.get(path)
            if component:
                self.result.restarts.add(component)

    def _kubeconfig_leaf(self, config, item, held, signer):
        if not config.certificate_data or not self._foreign(item.certificate, held, signer):
            return config
        saved = self._saved(item.path)
        if saved is not None:
            old = kubeconfig.Kubeconfig(saved, item.path)
            if old.certificate_data and self._usable(old.certificate_data, signer, item.path):
                self._note_leaf(item, x509.parse_certificate(old.certificate_data, item.path))
                return old
        self._save(item.path)
        certificate, key = self._sign(item, signer)
        return config.with_client(certificate.pem, key.pem)

    def _drop_saved(self, held):
        for item in self.tree.items.values():
            if item.ca == held.name:
                for path in (item.path, item.key_path):
                    if path:
                        self.result.remove(self._keep_path(path))

    def _lookup(self, two):
        """Let the tokens of token secrets live side by side, as those of sa.pub's two keys do.

        An apiserver compares such a token with what its secret holds now (pkg/serviceaccount/legacy.go), so that signing the
        secret again would refuse the old one to every pod until its kubelet has noticed, a minute later. From 1.24 on there are
        no such secrets but those that somebody made; and whoever has set the flag shall find it as it was.
        """
        flags = self.layout.flags.get(_APISERVER)
        if flags is None or self.layout.role != pki_tree.CONTROL_PLANE:
            return
        wanted = two and self.level in (1, 2) and (self.layout.image_minor or 99) < _NO_TOKEN_SECRETS
        if wanted and _LOOKUP not in flags:
            self.result.edits.setdefault(_APISERVER, {})[_LOOKUP] = _LOOKUP_OFF
            self.result.notes.append("until the rotation is complete, kube-apiserver looks at a token's signature alone, and "
                                     "not at its secret (%s)" % _LOOKUP)
        elif not wanted and flags.get(_LOOKUP) == _LOOKUP_OFF:
            self.result.edits.setdefault(_APISERVER, {})[_LOOKUP] = None
        else:
            return
        self.result.restarts.add(_APISERVER)

    def _leaves(self, held, old, new, signer):
        for item in self.tree.items.values():
            if item.kind != profiles.LEAF or item.ca != held.name or item.certificate is None:
                continue
            if item.key_path is None:
                continue
            if not self._foreign(item.certificate, held, signer):
                self._bridge(item, files.read(item.path), old, new)
                continue
            pair = self._saved(item.path), self._saved(item.key_path)
            if None not in pair and self._usable(pair[0], signer, item.path):
                self._note_leaf(item, x509.parse_certificate(pair[0], item.path))
            else:
                self._save(item.path)
                self._save(item.key_path)
                certificate, key = self._sign(item, signer)
                pair = certificate.pem, key.pem
            self.result.write(item.path, pair[0], _PUBLIC)
            self.result.write(item.key_path, pair[1], _SECRET)
            self._bridge(item, pair[0], old, new)

    def _bridge(self, item, data, old, new):
        """Between switch and complete, the apiserver also shows B's certificate as signed by A: for clients that know A alone."""
        if item.name != "apiserver" or new is None:
            return
        chain = x509.parse_certificates(data, item.path)
        bridges = [link for link in chain[1:] if link.key_sha256 == new.id]
        if self.level == 2 and not bridges:
            cross = x509.cross_sign(new.certificate, old.certificate, old.key)
            self.result.write(item.path, x509.bundle(chain + [cross]), _PUBLIC)
        elif self.level != 2 and bridges:
            self.result.write(item.path, x509.bundle([link for link in chain if link not in bridges]), _PUBLIC)

    def _foreign(self, certificate, held, signer):
        """Whether the other authority of the rotation signed it. What neither signed is the user's own, and stays."""
        signed = _signed_by(certificate, held.known())
        return signed is not None and signed != signer.id

    def _sign(self, item, signer):
        key = x509.generate_key(self.key_type or _known_type(item.certificate.key_type))
        certificate = x509.sign_leaf(x509.Profile.of(item.certificate), key, signer.certificate, signer.key, self.days)
        self._note_leaf(item, certificate)
        return certificate, key

    def _note_leaf(self, item, certificate):
        self.result.leaves.append({"name": item.name, "path": item.path, "before": item.certificate.describe(),
                                   "after": certificate.describe()})
        if item.entry.takes_up == profiles.RELOADS and item.entry.consumer:
            self.result.reloads.add(item.entry.consumer)

    def _keep_path(self, path):
        relative = os.path.relpath(path, self.layout.kubernetes_dir)
        if relative.startswith(".."):
            relative = "elsewhere/" + path.lstrip("/").replace("/", "_")
        elif relative.startswith("pki/"):
            relative = relative[len("pki/"):]
        return os.path.join(self.layout.kubernetes_dir, PREVIOUS, relative)

    def _save(self, path):
        """Keep what the former authority signed, for the way back; the first one saved is the one."""
        keep = self._keep_path(path)
        data = files.read_if_exists(path)
        if self.level == 2 and data is not None and not os.path.lexists(keep):
            self.result.write(keep, data, _SECRET)

    def _saved(self, path):
        return files.read_if_exists(self._keep_path(path)) if self.level == 1 else None

    @staticmethod
    def _usable(data, signer, path):
        certificate = x509.parse_certificate(data, path)
        return certificate.not_after > x509.now() and certificate.verified_by_key(signer.certificate)


def _known_type(key_type):
    return key_type if key_type in x509.KEY_TYPES else "rsa-2048"


def pki_tree_mode(path, default):
    """Give the permission bits of a file, or a default where it is not there."""
    try:
        return os.stat(path).st_mode & 0o7777
    except OSError:
        return default


def _short_list(items):
    return "[%s]" % ", ".join(rotation.short(digest) for digest in dict.fromkeys(item.key_sha256 for item in items)) or "nobody"


def declare(tree, names, level, days=365.0, key_type=None, state_dir=None):
    """Give the Declaration of a level for some authorities on a control-plane (or etcd) node. Changes nothing.

    tree: pki_tree.Tree. names: of authorities; those the node does not have are passed over. level: 0 (rolled back),
    1 (prepared), 2 (switched), 3 (completed). days, key_type: of the leaves to sign; None keeps each key's type. state_dir: where
    completing leaves a client of the dropped authority for prove(); None for nowhere.
    Raises PkiError where the level cannot be declared here, with the reason.
    """
    declarer = Declarer(tree, level, days, key_type, state_dir)
    for held in held_here(tree.layout, names).values():
        declarer.authority(held)
    return declarer.result


def apply(layout, declaration, job, state_dir=files.STATE_DIR, backup_dir=files.BACKUP_DIR, backup_keep=5, phase=None):
    """Make a node what is declared: one backup set, then one transaction. Gives the backup set's directory or None.

    phase: under which name the time until the last restart is remembered, for the next plan.

    Everything that has to be restarted is recorded in the same transaction, so that a run that ends here does not forget.
    Raises PkiError with nothing changed.
    """
    if not declaration.changed:
        return None
    backup = files.create_backup(list(declaration.writes) + declaration.removals, job, backup_dir, backup_keep)
    transaction = files.Transaction(JOB, state_dir)
    for path, (data, mode) in declaration.writes.items():
        files.make_directory(os.path.dirname(path))
        transaction.write(path, data, None if os.path.lexists(path) else mode)
    for path in declaration.removals:
        transaction.remove(path)
    record = _recorded(state_dir, declaration.restarts, phase)
    files.make_directory(state_dir)
    transaction.write(os.path.join(state_dir, JOB + ".json"), json.dumps(record, sort_keys=True).encode("utf-8"), _SECRET)
    transaction.commit()
    remove_empty(layout)
    return backup


def _recorded(state_dir, restarts, phase):
    record = read_record(state_dir)
    record["seconds"] = took(record)
    boot, now = uptime()
    pending = record.get("pending", {}) if record.get("boot") == boot else {}
    # A process that begins while the transaction is under way may have read either.
    pending.update({component: round(now + 0.3, 2) for component in restarts})
    if restarts and phase:
        record["last"] = {"phase": phase, "at": round(now, 2), "components": sorted(restarts)}
    return dict(record, boot=boot, pending=pending)


def took(record):
    """Give {phase: seconds from its files to the start of the last component it restarted} as far as this node knows."""
    known, last = dict(record.get("seconds") or {}), record.get("last")
    if last and record.get("boot") == uptime()[0]:
        begun = [started(component) for component in last["components"]]
        if begun and min(begun) >= last["at"]:
            known[last["phase"]] = round(max(begun) - last["at"], 1)
    return known


def remove_empty(layout):
    """Remove pki.next and pki.previous where nothing is left in them."""
    for where in (NEXT, PREVIOUS):
        directory = os.path.join(layout.kubernetes_dir, where)
        for folder, _folders, _found in os.walk(directory, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue  # not empty


def recover(layout, state_dir=files.STATE_DIR):
    """Finish or undo what a killed run left on this node. Gives "nothing", "undone" or "finished"."""
    found = files.Transaction.recover(JOB, state_dir)
    remove_empty(layout)
    return found


# ---------------------------------------------------------------------------------------------------------------- staging

def make_successor(held, days, key_type=None):
    """Make a successor with the same subject as an authority has today. Gives a Signer.

    days: validity of the CA. key_type: of x509.KEY_TYPES, or None for the present one's type.
    """
    present = held.current.certificate
    key = x509.generate_key(key_type or _known_type(present.key_type) if held.name != "sa" else SA_KEY_TYPE)
    if held.name == "sa":
        return Signer(x509.parse_public_keys(key.public_pem)[0], key)
    certificate = x509.build_ca(present.common_name or profiles.BY_NAME[held.name].common_name, key, days,
                                organizations=present.organizations)
    return Signer(certificate, key)


def take_successor(name, certificate_pem, key_pem, sans=(), where="the successor given for "):
    """Take a successor made elsewhere: checks it and gives a Signer. Raises PkiError that says why it cannot serve.

    certificate_pem, key_pem: bytes. sans: ["DNS:...", "IP:..."] of the leaves it will have to sign.
    """
    path = where + name
    key = x509.parse_private_key(key_pem, path)
    if name == "sa":
        return Signer(x509.parse_public_keys(certificate_pem or key.public_pem, path)[0], key, certificate_pem, key_pem)
    certificate = x509.parse_certificate(certificate_pem, path)
    check_ca(certificate, key, sans, path)
    return Signer(certificate, key, certificate_pem, key_pem)


def check_ca(certificate, key, sans=(), path=None, signs_authorities=False):
    """Raise PkiError unless a CA certificate (x509.Certificate) with its key can sign what it must.

    sans: names of the leaves. signs_authorities: whether it must sign other CAs, which a path length of 0 forbids
    (RFC 5280 4.2.1.9).
    """
    x509.check_signer(certificate, key)
    moment = x509.now()
    if certificate.not_after <= moment:
        raise PkiError("the CA expired on %s" % x509.timestamp(certificate.not_after), path=path, fix="Bring one that is valid.")
    if certificate.not_before > moment:
        raise PkiError("the CA is not valid before %s" % x509.timestamp(certificate.not_before), path=path,
                       fix="Wait, correct the node's clock, or bring another.")
    if signs_authorities and certificate.path_length == 0:
        raise PkiError("the CA's path length of 0 forbids it to sign another CA", path=path,
                       fix="Bring one without a path length, or of at least 1.")
    conflict = x509.forbidden_name(certificate, sans)
    if conflict:
        raise PkiError("the CA's name constraints forbid %s, which it has to sign" % conflict, path=path,
                       fix="Bring a CA without that constraint.")


def leaf_names(tree, name):
    """Give the SANs of all leaves of an authority on this node, as a CA that takes over has to sign them."""
    return sorted({san for item in tree.items.values() if item.ca == name and item.certificate is not None
                   for san in item.certificate.sans})


def declare_staged(tree, names, material=None, days=3650.0, key_type=None):
    """Give (Declaration, {name: Signer}) that stages a successor for each authority that has none on this node.

    material: {name: (certificate PEM, key PEM)} of successors made elsewhere (another node, or the user), which win over
    making one. A successor that is staged, or that signs already (the former authority is kept), is used as it is; one
    that differs from the material is refused: there is never a third. Raises PkiError.
    """
    result, staged = Declaration(), {}
    for name, held in held_here(tree.layout, names).items():
        for problem in held.problems:
            raise problem
        given = (material or {}).get(name)
        given = take_successor(name, given[0], given[1], leaf_names(tree, name)) if given else None
        if held.current is None:
            raise PkiError("the key of %s is not on this node" % name, path=held.key_path,
                           fix="Leave %s out of kubepki_cas, or rotate it where its key is kept." % name)
        existing = held.next or (held.current if held.previous else None)
        if existing and given and existing.id != given.id:
            raise PkiError("another successor (%s) is staged on this node than %s" % (
                rotation.short(existing.id), rotation.short(given.id)), path=places(tree.layout, name, NEXT)[0],
                fix="Roll back, or remove the staged one after comparing it with the other nodes.")
        if given and given.id == held.current.id:
            existing = held.current
        staged[name] = existing or given or make_successor(held, days, key_type)
        if existing is None:
            path, key_path = places(tree.layout, name, NEXT)
            result.write(path, staged[name].certificate_pem, _SECRET)
            result.write(key_path, staged[name].key_pem, _SECRET)
            result.notes.append("%s: successor %s staged" % (name, rotation.short(staged[name].id)))
    return result, staged


def cross_signed(layout, name):
    """Give the successor's certificate (x509.Certificate) signed by the former authority, while both keys are on the node."""
    held = held_here(layout, [name]).get(name)
    if held is None or held.current is None or not (held.next or held.previous):
        raise PkiError("there are no two authorities of %s on this node" % name,
                       fix="Cross-sign between prepare and complete, on a control-plane node.")
    old, new = (held.current, held.next) if held.next else (held.previous, held.current)
    return x509.cross_sign(new.certificate, old.certificate, old.key)


def same_cross(data, certificate):
    """Whether PEM bytes hold a certificate for the same name and key, from the same issuer, that lives as long."""
    try:
        existing = x509.parse_certificate(data)
    except PkiError:
        return False
    return (existing.key_sha256 == certificate.key_sha256 and existing.issuer == certificate.issuer
            and existing.subject == certificate.subject and existing.not_after >= certificate.not_after)


# ------------------------------------------------------------------------------------------------------- who accepts whom

_PROBE = "kubepki-probe"  # a user that nobody has given anything: let in, and allowed nothing
_PROBE_DAYS = 1.0


def _probe_pair(name, signer, allowed):
    """Give (certificate PEM, key PEM) of a client that an authority signed, and that may do nothing."""
    key = x509.generate_key("ecdsa-p256")
    profile = x509.Profile(allowed if name == "front-proxy-ca" else _PROBE, extended_usages=("client",))
    return x509.sign_leaf(profile, key, signer.certificate, signer.key, _PROBE_DAYS).pem, key.pem


def probe_path(state_dir, name):
    """Give where the client of a dropped authority lies, by which it is proven that nobody accepts it any more."""
    return os.path.join(state_dir, "former-%s.pem" % name)


def _allowed_name(layout):
    return (layout.flags.get(_APISERVER, {}).get("--requestheader-allowed-names") or "front-proxy-client").split(",")[0]


def prove(layout, names, accepted, state_dir=files.STATE_DIR, timeout=5.0):
    """Ask the components of this node with a client of each authority. Gives [{"authority", "endpoint", "seen", "right"}].

    accepted: True to show a client of the staged successor (or of the authority that signs), which has to be let in; False to
    show that of the dropped authority, which has to be refused. right: whether that is what was seen.
    """
    calls, found = {}, []
    endpoints = {endpoint.name: endpoint for endpoint in probe.endpoints(layout)}
    for name, held in held_here(layout, [name for name in names if name != "sa"]).items():
        if accepted:
            signer = held.next or held.current
            pair = _probe_pair(name, signer, _allowed_name(layout)) if signer else None
        else:
            data = files.read_if_exists(probe_path(state_dir, name))
            pair = (data, data) if data else None
        for target in {"ca": ("apiserver", "kubelet"), "front-proxy-ca": ("apiserver",), "etcd-ca": ("etcd-server",)}[name]:
            if pair and target in endpoints:
                calls[(name, target)] = _question(endpoints[target], pair, name, timeout)
    for (name, target), seen in sorted(probe.together(calls).items()):
        let_in = not isinstance(seen, PkiError) and seen != 401
        found.append({"authority": name, "endpoint": target, "seen": str(seen.message if isinstance(seen, PkiError) else seen),
                      "right": let_in == accepted and not _silent(seen)})
    return found


def _silent(seen):
    # Who does not answer has refused nobody.
    return isinstance(seen, PkiError) and any(word in seen.message for word in ("connection refused", "no answer", "no route"))


def _question(endpoint, pair, name, timeout):
    headers = {"X-Remote-User": _PROBE} if name == "front-proxy-ca" else None
    # The kubelet answers what it does not know with 404 before it looks who asks.
    path = {"etcd-server": "/version", "kubelet": "/pods"}.get(endpoint.name, "/api")
    url = "https://%s%s" % (endpoint.address, path)
    return lambda: probe.http_request(url, client=pair, timeout=timeout, headers=headers).status


# ------------------------------------------------------------------------------------------------- an authority of one's own

class OwnAuthority:
    """A CA that is no cluster's: its two files, and those of the CA above it. before: the certificate there is, described."""

    def __init__(self, path, key_path, parent_path=None, parent_key_path=None):
        self.path, self.key_path = path, key_path
        self.parent = self.parent_key = None
        if parent_path:
            self.parent = x509.parse_certificate(files.read(parent_path), parent_path)
            self.parent_key = x509.parse_private_key(files.read(parent_key_path), parent_key_path)
            check_ca(self.parent, self.parent_key, path=parent_path, signs_authorities=True)
        data, key_data = files.read_if_exists(path), files.read_if_exists(key_path)
        self.certificate = x509.parse_certificate(data, path) if data is not None else None
        self.key = x509.parse_private_key(key_data, key_path) if key_data is not None else None
        self.before = self.certificate.describe() if self.certificate else None

    def ensure(self, common_name, organizations, days, key_type, below_days, force):
        """Give (action, Certificate, {path: bytes} to write). action: "kept", "renewed" or "created". Raises PkiError."""
        if self.certificate is None:
            key = self.key or x509.generate_key(key_type or "rsa-2048")
            certificate = x509.build_ca(common_name or "kubernetes", key, days, self.parent, self.parent_key, organizations)
            return "created", certificate, {self.path: certificate.pem, self.key_path: key.pem}
        if self.key is None:
            raise PkiError("the key of this CA is not there, so it is kept elsewhere", path=self.key_path,
                           fix="Renew it where its key is, or name another path.")
        x509.check_signer(self.certificate, self.key)
        left = (self.certificate.not_after - x509.now()).total_seconds() / 86400.0
        if not force and left >= below_days and left > 0:
            return "kept", self.certificate, {}
        if self.parent:
            certificate = x509.build_ca(self.certificate.common_name, self.key, days, self.parent, self.parent_key,
                                        self.certificate.organizations)
        elif not self.certificate.self_issued:
            raise PkiError("this CA is signed by %s" % self.certificate.issuer, path=self.path,
                           fix="Give parent_path and parent_key_path.")
        else:
            certificate = x509.renew_ca(self.certificate, self.key, days)
        return "renewed", certificate, {self.path: certificate.pem}


def write_own(own, writes, state_dir, backup_dir, backup_keep):
    """Write an OwnAuthority's files in one transaction after a backup set, whose directory it gives."""
    backup = files.create_backup(list(writes), "cert-ca-present", backup_dir, backup_keep)
    transaction = files.Transaction(OWN_JOB, state_dir)
    for path, data in writes.items():
        files.make_directory(os.path.dirname(path), 0o755)
        transaction.write(path, data, _SECRET if path == own.key_path else _PUBLIC)
    transaction.commit()
    return backup


# ------------------------------------------------------------------------------------------------ who depends on the former

_ELSEWHERE = ("/etc/cni/net.d/*kubeconfig*", "/etc/cni/net.d/*/*kubeconfig*", "/root/.kube/config", "/home/*/.kube/config")


def dependents(tree):
    """Give what on this node still depends on another authority than the one that signs: [{"what", "path", "why"}].

    Kubeconfigs of kubeadm, of CNI plugins and in home directories, and leaves. Changes nothing.
    """
    layout, found = tree.layout, []
    held = held_here(layout, with_keys=False)
    cluster = held.get("ca")
    if cluster and cluster.bundle:
        signer = cluster.current.id if cluster.current else cluster.bundle[0].key_sha256
        paths = trust_kubeconfigs(layout) + [path for pattern in _ELSEWHERE for path in sorted(glob.glob(layout.at(pattern)))]
        for path in paths:
            why = _depends(path, signer, cluster.known())
            if why:
                found.append({"what": "kubeconfig", "path": path, "why": why})
    for name, view in facts(tree)["authorities"].items():
        signer = view["signer"] or (view["bundle"] or [None])[0]
        for leaf, signed in sorted(view["leaves"].items()):
            if signed and signed != signer:
                found.append({"what": "leaf", "path": tree.items[leaf].path, "why": "signed by %s of %s" % (
                    rotation.short(signed), name)})
    return found


def _depends(path, signer, known):
    try:
        config = kubeconfig.Kubeconfig(files.read(path), path)
        trusts = x509.parse_certificates(config.ca_data, path) if config.ca_data else []
        shown = x509.parse_certificate(config.certificate_data, path) if config.certificate_data else None
    except PkiError:
        return "cannot be read"
    if trusts and signer not in [item.key_sha256 for item in trusts]:
        return "does not trust the authority that signs"
    signed = _signed_by(shown, known) if shown else None
    if signed and signed != signer:
        return "its client certificate is signed by %s" % rotation.short(signed)
    return None
