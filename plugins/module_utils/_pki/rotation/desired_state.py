# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each phase of a rotation declares on one node, and applying it.

The files of a phase are a function of what lies on the node and of the level asked for (rotation.LEVELS), so a second
application changes nothing and a half-applied one converges."""

from __future__ import annotations

import json
import os
import re

from ..errors import PkiError, short
from ..fileio import atomic, backup_set, reading, transaction_recovery, transactions
from ..kubeadm import catalogue, kubeconfig, layouts, manifest_edits
from ..node import pending_restarts
from ..x509 import private_keys, x509_read, x509_sign
from . import ca_store
from .ca_store import (
    LOOKUP,
    LOOKUP_OFF,
    NEXT,
    PREVIOUS,
    SigningCa,
    lookup_off,
    places,
    signing_flags,
    signing_path,
    trust_kubeconfigs,
)

_END = re.compile(b"-----END [A-Z0-9 ]+-----[^\n]*\n?")

_NO_TOKEN_SECRETS = 24  # from here on a service account gets no token secret (LegacyServiceAccountTokenNoAutoGeneration)

_MANAGER, _SCHEDULER, _APISERVER, _ETCD = "kube-controller-manager", "kube-scheduler", "kube-apiserver", "etcd"

# The mode of what is written: a new certificate, a CA's key; a component's key is for its user, too (files.key_mode).
_PUBLIC, _SECRET, _COMPONENT = 0o644, 0o600, None


def bundle_text(name, data, wanted, path):
    """Give the bytes of a bundle that trusts `wanted` in that order, and nobody else.

    data: bytes of the bundle as it is, or None. wanted: [Certificate or PublicKey]. What the file holds already keeps its
    bytes, what stands before it, behind the last one, and a missing last line break included, so that taking an authority in
    and out again leaves the file as it was.
    """
    data = data or b""
    chunks, start = {}, 0
    for match in _END.finditer(data):
        chunk = data[start : match.end()]
        start = match.end()
        try:
            digest = ca_store.parse_bundle(name, chunk, path)[0].key_sha256
        except PkiError:
            continue  # a private key, say: bundles are public, and cluster-info gets them
        chunks[digest] = chunks.get(digest, b"") + (chunk if chunk.endswith(b"\n") else chunk + b"\n")
    parts, seen = [], set()
    for item in wanted:
        if item.key_sha256 not in seen:
            seen.add(item.key_sha256)
            parts.append(chunks.get(item.key_sha256) or item.pem)
    text = b"".join(parts) + data[start:]
    return text[:-1] if data and not data.endswith(b"\n") and text.endswith(b"\n") else text


class Declaration:
    """What a node shall look like: files to write, files to remove, flags to change, and who has to be restarted.

    writes: {path: (bytes, mode)}, where mode is one of _PUBLIC, _SECRET and _COMPONENT. removals: [paths].
    edits: {component: {flag: value}}. restarts: set of components ("kubelet" among them).
    reloads: set of components that take their new leaf up by themselves. leaves: [{"name", "path", "before", "after"}] described.
    notes: [sentences] for people.
    """

    def __init__(self):
        self.writes, self.removals, self.edits = {}, [], {}
        self.restarts, self.reloads = set(), set()
        self.leaves, self.notes, self.trust = [], [], {}

    def write(self, path, data, mode):
        """Declare a file; nothing where it is so already."""
        if reading.read_if_exists(path) != data:
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
    """Fills a Declaration for one node. level: 0 to 3. days: of the leaves that are signed. key_type: of their keys, or None.

    known: as declare() takes it.
    """

    def __init__(self, tree, level, days=365.0, key_type=None, state_dir=None, known=None):
        self.tree, self.layout, self.state_dir, self.known = tree, tree.layout, state_dir, known or {}
        self.level, self.days, self.key_type = level, days, key_type
        self.result = Declaration()

    def authority(self, held):
        """Declare everything of one authority on a control-plane or etcd node. Raises PkiError where the level cannot be."""
        for problem in held.problems:
            raise problem
        old, new = self._pair(held)
        if new is None and not self._leftovers(held) and held.name not in self.known:
            if held.name == "sa":
                self._lookup(False)  # a run may have ended between its files and its manifest
            return
        signer = new if self.level >= 2 and new else old
        self._places(held, old, new, signer)
        if self.level == 3 and new and old.key and held.name != "sa" and self.state_dir:
            # The last thing it signs: a client that proves that it is refused from now on.
            self.result.write(
                ca_store.probe_path(self.state_dir, held.name),
                b"".join(ca_store.probe_client(self.layout, held.name, old, lasting=True)),
                _SECRET,
            )
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
            raise PkiError(
                "the key of %s is not on this node" % held.name,
                path=held.key_path,
                fix="Leave %s out of kubepki_cas, or rotate it where its key is kept." % held.name,
            )
        staged = held.next if held.next and held.next.id != held.current.id else None
        kept = held.previous if held.previous and held.previous.id != held.current.id else None
        if not staged and not kept:
            kept = self._former(held)
        if staged and kept:
            raise PkiError(
                "a successor is staged while the rotation before it is not complete",
                path=held.path,
                fix="Remove %s after comparing it with the other nodes." % places(self.layout, held.name, NEXT)[0],
            )
        if self.level == 3 and staged:
            raise PkiError(
                "the successor of %s is staged and does not sign yet" % held.name,
                path=held.path,
                fix="Run kubepki_phase=switch first.",
            )
        if self.level == 0 and kept:
            raise PkiError(
                "%s was switched, and its former authority is kept for the way back" % held.name,
                path=held.path,
                fix="Go back to prepared first, on all control-plane nodes.",
            )
        if self.level < 2 and kept and not kept.key:
            raise PkiError(
                "the former authority of %s is not kept on this node" % held.name,
                path=places(self.layout, held.name, PREVIOUS)[1],
                fix="Copy it from a control-plane node that has it, or go on with kubepki_phase=complete.",
            )
        if self.level in (1, 2) and not staged and not kept:
            raise PkiError(
                "no successor of %s is staged on this node" % held.name,
                path=places(self.layout, held.name, NEXT)[0],
                fix="Stage it first (state=staged).",
            )
        if staged:
            return held.current, staged
        if kept:
            return kept, held.current
        return held.current, None

    def _former(self, held):
        """The former authority as a node knows it that joined after the switch: its certificate, without the key."""
        known = self.known.get(held.name, {})
        if not known.get("new") or held.current.id != known["new"]:
            return None
        return next((SigningCa(item, None) for item in held.bundle if item.key_sha256 == known["old"]), None)

    def _leftovers(self, held):
        paths = [path for where in (NEXT, PREVIOUS) for path in places(self.layout, held.name, where)]
        if held.name == "ca":
            paths.append(signing_path(self.layout))
        return self.level in (0, 3) and any(os.path.lexists(path) for path in paths)

    def _trusted(self, name, old, new, bundle):
        """Give the [Certificate or PublicKey] of this level, followed by what `bundle` trusts besides, in its order."""
        ours = {0: [old], 1: [old, new], 2: [new, old], 3: [new or old]}[self.level]
        known = self.known.get(name, {"old": None, "new": None, "drop": ()})
        pair = {signer.id for signer in (old, new) if signer}.union(known["drop"], (known["old"], known["new"]))
        return [signer.certificate for signer in ours if signer] + [item for item in bundle if item.key_sha256 not in pair]

    def _places(self, held, old, new, signer):
        """The three places of the pairs: in use, staged, kept."""
        if signer is not held.current:
            self.result.write(held.key_path, signer.key_pem, _COMPONENT if held.name == "sa" else _SECRET)
            self.result.notes.append("%s signs: %s instead of %s" % (held.name, short(signer.id), short(held.current.id)))
        stay = {NEXT: new if self.level == 1 else None, PREVIOUS: old if self.level == 2 else None}
        for where, pair in stay.items():
            certificate, key = places(self.layout, held.name, where)
            if pair is not None and pair.key is None:
                continue
            if pair is None:
                # At level 0 a successor is dropped; a pair that is staged at other levels is in use by then.
                self.result.remove(certificate)
                self.result.remove(key)
            else:
                self.result.write(certificate, pair.certificate_pem, _SECRET)
                self.result.write(key, pair.key_pem, _SECRET)

    def _bundle(self, held, old, new):
        wanted = self._trusted(held.name, old, new, held.bundle)
        data = bundle_text(held.name, held.data, wanted, held.path)
        self.result.trust[held.name] = data
        before = {item.key_sha256 for item in held.bundle}
        after = {item.key_sha256 for item in wanted}
        if self.result.write(held.path, data, _PUBLIC if held.name != "sa" or os.path.lexists(held.path) else _SECRET):
            self.result.notes.append("%s trusts %s instead of %s" % (held.name, _short_list(wanted), _short_list(held.bundle)))
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
            if ca_store.reads_ca_once(self.layout):
                self.result.restarts.add(_APISERVER)

    def _signing(self, held, signer, two):
        if self.layout.role != layouts.CONTROL_PLANE:
            return
        path, flags = signing_path(self.layout), signing_flags(self.layout, held)
        split = two and self.level in (1, 2)

        def outside(place):
            return place[len(self.layout.root.rstrip("/")) :] if self.layout.root else place

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
        leaf_paths = {item.path: item for item in self.tree.items.values() if item.kind == catalogue.KUBECONFIG}
        for path in trust_kubeconfigs(self.layout, kubelet=False):
            config = kubeconfig.Kubeconfig(reading.read(path), path)
            item = leaf_paths.get(path)
            if item is not None and item.certificate is not None:
                config = self._kubeconfig_leaf(config, item, held, signer)
            if config.ca_data:
                inside = x509_read.parse_certificates(config.ca_data, path)
                wanted = self._trusted("ca", old, new, inside)
                config = config.with_ca(bundle_text("ca", config.ca_data, wanted, path))
            self._write_kubeconfig(path, bytes(config))

    def _write_kubeconfig(self, path, data):
        if self.result.write(path, data, _COMPONENT):
            component = {
                self.layout.paths.get("controller-manager.conf", ("",))[0]: _MANAGER,
                self.layout.paths.get("scheduler.conf", ("",))[0]: _SCHEDULER,
            }.get(path)
            if component:
                self.result.restarts.add(component)

    def _kubeconfig_leaf(self, config, item, held, signer):
        if not config.certificate_data or not self._foreign(item.certificate, held, signer):
            return config
        saved = self._saved(item.path)
        if saved is not None:
            old = kubeconfig.Kubeconfig(saved, item.path)
            if old.certificate_data and self._usable(old.certificate_data, signer, item.path):
                self._note_leaf(item, x509_read.parse_certificate(old.certificate_data, item.path))
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
        if flags is None or self.layout.role != layouts.CONTROL_PLANE:
            return
        wanted = two and self.level in (1, 2) and (self.layout.image_minor or 99) < _NO_TOKEN_SECRETS
        if wanted and LOOKUP not in flags:
            self.result.edits.setdefault(_APISERVER, {})[LOOKUP] = LOOKUP_OFF
            self.result.notes.append(
                "until the rotation is complete, kube-apiserver looks at a token's signature alone, and "
                "not at its secret (%s)" % LOOKUP
            )
        elif not wanted and lookup_off(self.layout):
            self.result.edits.setdefault(_APISERVER, {})[LOOKUP] = None
        else:
            return
        self.result.restarts.add(_APISERVER)

    def _leaves(self, held, old, new, signer):
        for item in self.tree.items.values():
            if item.kind != catalogue.LEAF or item.ca != held.name or item.certificate is None:
                continue
            if item.key_path is None:
                continue
            if not self._foreign(item.certificate, held, signer):
                self._bridge(item, reading.read(item.path), old, new)
                continue
            pair = self._saved(item.path), self._saved(item.key_path)
            if None not in pair and self._usable(pair[0], signer, item.path):
                self._note_leaf(item, x509_read.parse_certificate(pair[0], item.path))
            else:
                self._save(item.path)
                self._save(item.key_path)
                certificate, key = self._sign(item, signer)
                pair = certificate.pem, key.pem
            self.result.write(item.path, pair[0], _PUBLIC)
            self.result.write(item.key_path, pair[1], _COMPONENT)
            self._bridge(item, pair[0], old, new)

    def _bridge(self, item, data, old, new):
        """Between switch and complete, the apiserver also shows B's certificate as signed by A: for clients that know A alone."""
        if item.name != "apiserver" or new is None:
            return
        chain = x509_read.parse_certificates(data, item.path)
        bridges = [link for link in chain[1:] if link.key_sha256 == new.id]
        if self.level == 2 and not bridges and old.key:
            cross = x509_sign.cross_sign(new.certificate, old.certificate, old.key)
            self.result.write(item.path, x509_read.bundle(chain + [cross]), _PUBLIC)
        elif self.level != 2 and bridges:
            self.result.write(item.path, x509_read.bundle([link for link in chain if link not in bridges]), _PUBLIC)

    def _foreign(self, certificate, held, signer):
        """Whether the other authority of the rotation signed it. What neither signed is the user's own, and stays."""
        signed = ca_store.signed_by(certificate, held.known())
        return signed is not None and signed != signer.id

    def _sign(self, item, signer):
        key = private_keys.generate_key(self.key_type or ca_store.key_type_of(item.certificate))
        certificate = x509_sign.sign_leaf(x509_sign.Profile.of(item.certificate), key, signer.certificate, signer.key, self.days)
        self._note_leaf(item, certificate)
        return certificate, key

    def _note_leaf(self, item, certificate):
        self.result.leaves.append(
            {"name": item.name, "path": item.path, "before": item.certificate.describe(), "after": certificate.describe()}
        )
        if item.entry.takes_up == catalogue.RELOADS and item.entry.consumer:
            self.result.reloads.add(item.entry.consumer)

    def _keep_path(self, path):
        relative = os.path.relpath(path, self.layout.kubernetes_dir)
        if relative.startswith(".."):
            relative = "elsewhere/" + path.lstrip("/").replace("/", "_")
        elif relative.startswith("pki/"):
            relative = relative[len("pki/") :]
        return os.path.join(self.layout.kubernetes_dir, PREVIOUS, relative)

    def _save(self, path):
        """Keep what the former authority signed, for the way back; the first one saved is the one."""
        keep = self._keep_path(path)
        data = reading.read_if_exists(path)
        if self.level == 2 and data is not None and not os.path.lexists(keep):
            self.result.write(keep, data, _SECRET)

    def _saved(self, path):
        return reading.read_if_exists(self._keep_path(path)) if self.level == 1 else None

    @staticmethod
    def _usable(data, signer, path):
        certificate = x509_read.parse_certificate(data, path)
        return certificate.not_after > x509_read.now() and certificate.verified_by_key(signer.certificate)


def _mode(path, mode):
    """Return the mode to write a file with, or None to keep that of a certificate that is there."""
    if mode == _COMPONENT:
        return atomic.key_mode(path)
    return None if mode == _PUBLIC and os.path.lexists(path) else mode


def _short_list(items):
    return "[%s]" % ", ".join(short(digest) for digest in dict.fromkeys(item.key_sha256 for item in items)) or "nobody"


def declare(tree, names, level, days=365.0, key_type=None, state_dir=None, known=None):
    """Give the Declaration of a level for some authorities on a control-plane (or etcd) node. Changes nothing.

    tree: pki_tree.Tree. names: of authorities; those the node does not have are passed over. level: 0 (rolled back),
    1 (prepared), 2 (switched), 3 (completed). days, key_type: of the leaves to sign; None keeps each key's type. state_dir: where
    completing leaves a client of the dropped authority for acceptance.prove(); None for nowhere. known: {name: {"old", "new":
    digest or None, "drop": [digests]}} as all nodes together show it, for what this one cannot know: whose trust is left over,
    and who the former authority was where it joined after the switch.
    Raises PkiError where the level cannot be declared here, with the reason.
    """
    declarer = Declarer(tree, level, days, key_type, state_dir, known)
    for held in ca_store.local_cas(tree.layout, names).values():
        declarer.authority(held)
    for component, flags in declarer.result.edits.items():
        # Refused before a file changes: kube-controller-manager signs nothing with the two certificates that follow.
        path = tree.layout.manifests[component]
        manifest_edits.with_flags(reading.read(path), path, component, flags)
    return declarer.result


def apply(layout, declaration, job, state_dir=atomic.STATE_DIR, backup_dir=atomic.BACKUP_DIR, backup_keep=5, phase=None):
    """Make a node what is declared: one backup set, then one transaction. Gives the backup set's directory or None.

    phase: under which name the time until the last restart is remembered, for the next plan.

    Everything that has to be restarted is recorded in the same transaction, so that a run that ends here does not forget.
    Raises PkiError with nothing changed.
    """
    if not declaration.changed:
        return None
    backup = backup_set.create_backup(list(declaration.writes) + declaration.removals, job, backup_dir, backup_keep)
    transaction = transactions.Transaction(ca_store.JOB, state_dir)
    for path, (data, mode) in declaration.writes.items():
        atomic.make_directory(os.path.dirname(path))
        transaction.write(path, data, _mode(path, mode))
    for path in declaration.removals:
        transaction.remove(path)
    record = pending_restarts.updated_record(state_dir, declaration.restarts, phase)
    atomic.make_directory(state_dir)
    transaction.write(
        os.path.join(state_dir, pending_restarts.RECORD), json.dumps(record, sort_keys=True).encode("utf-8"), _SECRET
    )
    transaction.commit()
    remove_empty(layout)
    return backup


def remove_empty(layout):
    """Remove pki.next and pki.previous where nothing is left in them."""
    for where in (NEXT, PREVIOUS):
        directory = os.path.join(layout.kubernetes_dir, where)
        for folder, _folders, _found in os.walk(directory, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue  # not empty


def recover(layout, state_dir=atomic.STATE_DIR):
    """Finish or undo what a killed run left on this node. Gives "nothing", "undone" or "finished"."""
    found = transaction_recovery.recover(ca_store.JOB, state_dir)
    remove_empty(layout)
    return found
