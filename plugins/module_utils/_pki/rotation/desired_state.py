# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each phase of a rotation declares on one node.

The files of a phase depend only on what is on the node and on the level, so a second application changes nothing and a
half-applied one converges.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple, TypedDict

from ..errors import PkiError, short
from ..fileio import reading
from ..kubeadm import catalogue, kubeconfig, layouts, manifest_edits
from ..x509 import x509_read
from . import ca_files, local_ca, probe_client
from .ca_files import APISERVER, ETCD, LOOKUP, LOOKUP_OFF, MANAGER, NEXT, PREVIOUS, SCHEDULER, places
from .declaration import COMPONENT, PUBLIC, SECRET, Declaration, bundle_text
from .leaf_state import LeafDeclarer
from .local_ca import LocalCa, SigningCa, Trusted

if TYPE_CHECKING:
    from ..kubeadm.pki_tree import Tree

_NO_TOKEN_SECRETS = 24  # from here on a service account gets no token secret (LegacyServiceAccountTokenNoAutoGeneration)


class KnownCa(TypedDict):
    """What all nodes together know of one CA: digests of public keys. drop: CAs of other rotations, trusted by nothing."""

    old: Optional[str]
    new: Optional[str]
    drop: List[str]


def declare(
    tree: Tree,
    names: Sequence[str],
    level: int,
    days: float = 365.0,
    key_type: Optional[str] = None,
    state_dir: Optional[str] = None,
    known: Optional[Mapping[str, KnownCa]] = None,
) -> Declaration:
    """Return the Declaration of a level for CAs of a control-plane (or etcd) node. Changes nothing.

    names: of CAs; those that the node does not have are skipped. level: 0 (rolled back), 1 (prepared), 2 (switched), 3
    (completed). days, key_type: of the leaves to issue; None keeps each key's type. state_dir: where level 3 leaves a client of
    the old CA for client_acceptance.prove(); None for nowhere. known: {name: KnownCa}, for what this node cannot know: whose
    trust is left over, and which CA was the old one where the node joined after the switch.
    Raises PkiError where the level cannot be declared here, with the reason.
    """
    declarer = _Declarer(tree, level, days, key_type, state_dir, known or {})
    for local in local_ca.local_cas(tree.layout, names).values():
        declarer.declare_ca(local)
    for component, flags in declarer.result.edits.items():
        # Refused before a file changes: kube-controller-manager signs nothing with the two certificates that follow.
        path = tree.layout.manifests[component]
        manifest_edits.with_flags(reading.read(path), path, component, flags)
    return declarer.result


class _Declarer:
    """Fills a Declaration for one node. Arguments: see declare()."""

    def __init__(
        self,
        tree: Tree,
        level: int,
        days: float,
        key_type: Optional[str],
        state_dir: Optional[str],
        known: Mapping[str, KnownCa],
    ) -> None:
        self.tree, self.layout, self.level, self.state_dir, self.known = tree, tree.layout, level, state_dir, known
        self.result = Declaration()
        self.leaves = LeafDeclarer(tree, level, days, key_type, self.result)

    def declare_ca(self, local: LocalCa) -> None:
        """Declare everything about one CA. Raises PkiError where the level cannot be declared."""
        for problem in local.problems:
            raise problem
        old, new = self._pair(local)
        if new is None and not self._has_leftovers(local) and local.name not in self.known:
            if local.name == "sa":
                self._lookup(False)  # a run may have ended between its files and its manifest
            return
        signer = new if self.level >= 2 and new else old
        self._declare_pairs(local, old, new, signer)
        if self.level == 3 and new and old.key and local.name != "sa" and self.state_dir:
            # The last certificate it signs: a client that shows whether components reject it from now on.
            client = b"".join(probe_client.build(self.layout, local.name, old, lasting=True))
            self.result.write(probe_client.path_of(self.state_dir, local.name), client, SECRET)
        self._declare_bundle(local, old, new)
        if local.name == "ca":
            self._signing(local, signer, new is not None)
            self._kubeconfigs(local, old, new, signer)
        if local.name == "sa":
            self._lookup(new is not None)
        else:
            self.leaves.declare_leaves(local, old, new, signer)
        if self.level != 2:
            self.leaves.remove_saved(local)

    def _pair(self, local: LocalCa) -> Tuple[SigningCa, Optional[SigningCa]]:
        """Return (old, new); new is None where only leftovers can be removed. Raises PkiError."""
        current = local.require_current()
        staged = local.next if local.next and local.next.id != current.id else None
        kept = local.previous if local.previous and local.previous.id != current.id else None
        if not staged and not kept:
            kept = self._old_by_certificate(local, current)
        if staged and kept:
            raise PkiError(
                "a new CA is staged while the rotation before it is not complete",
                path=local.path,
                fix="Remove %s after comparing it with the other nodes." % places(self.layout, local.name, NEXT)[0],
            )
        if self.level == 3 and staged:
            raise PkiError(
                "the new CA of %s is staged and does not sign yet" % local.name,
                path=local.path,
                fix="Run kubepki_phase=switch first.",
            )
        if self.level == 0 and kept:
            raise PkiError(
                "%s was switched, and its old CA is kept for a rollback" % local.name,
                path=local.path,
                fix="Go back to prepared first, on all control-plane nodes.",
            )
        if self.level < 2 and kept and not kept.key:
            raise PkiError(
                "the old CA of %s is not kept on this node" % local.name,
                path=places(self.layout, local.name, PREVIOUS)[1],
                fix="Copy it from a control-plane node that has it, or go on with kubepki_phase=complete.",
            )
        if self.level in (1, 2) and not staged and not kept:
            raise PkiError(
                "no new CA of %s is staged on this node" % local.name,
                path=places(self.layout, local.name, NEXT)[0],
                fix="Stage it first (state=staged).",
            )
        if staged:
            return current, staged
        return (kept, current) if kept else (current, None)

    def _old_by_certificate(self, local: LocalCa, current: SigningCa) -> Optional[SigningCa]:
        """Return the old CA as a node knows it that joined after the switch: its certificate, without the key."""
        known = self.known.get(local.name)
        if known is None or not known["new"] or current.id != known["new"]:
            return None
        return next((SigningCa(item, None) for item in local.bundle if item.key_sha256 == known["old"]), None)

    def _has_leftovers(self, local: LocalCa) -> bool:
        paths = [path for where in (NEXT, PREVIOUS) for path in places(self.layout, local.name, where)]
        if local.name == "ca":
            paths.append(ca_files.signing_path(self.layout))
        return self.level in (0, 3) and any(os.path.lexists(path) for path in paths)

    def _trusted(self, name: str, old: SigningCa, new: Optional[SigningCa], bundle: Sequence[Trusted]) -> List[Trusted]:
        """Return what this level trusts, followed by what `bundle` trusts besides, in its order."""
        ours: Sequence[Optional[SigningCa]] = ([old], [old, new], [new, old], [new or old])[self.level]
        pair: set[Optional[str]] = {signer.id for signer in (old, new) if signer}
        if name in self.known:
            pair.update(self.known[name]["drop"], (self.known[name]["old"], self.known[name]["new"]))
        return [signer.certificate for signer in ours if signer] + [item for item in bundle if item.key_sha256 not in pair]

    def _declare_pairs(self, local: LocalCa, old: SigningCa, new: Optional[SigningCa], signer: SigningCa) -> None:
        """Declare the three pairs of certificate and key: in use, staged, kept."""
        current = local.require_current()
        if signer is not current:
            self.result.write(local.key_path, signer.key_pem, COMPONENT if local.name == "sa" else SECRET)
            self.result.notes.append("%s signs: %s instead of %s" % (local.name, short(signer.id), short(current.id)))
        stay = {NEXT: new if self.level == 1 else None, PREVIOUS: old if self.level == 2 else None}
        for where, pair in stay.items():
            certificate, key = places(self.layout, local.name, where)
            if pair is None:
                # At level 0 a new CA is dropped; one that is staged at other levels is in use by then.
                self.result.remove(certificate)
                self.result.remove(key)
            elif pair.key is not None:
                self.result.write(certificate, pair.certificate_pem, SECRET)
                self.result.write(key, pair.key_pem, SECRET)

    def _declare_bundle(self, local: LocalCa, old: SigningCa, new: Optional[SigningCa]) -> None:
        wanted = self._trusted(local.name, old, new, local.bundle)
        data = bundle_text(local.name, local.data, wanted, local.path)
        self.result.trust[local.name] = data
        before = {item.key_sha256 for item in local.bundle}
        after = {item.key_sha256 for item in wanted}
        if self.result.write(local.path, data, PUBLIC if local.name != "sa" or os.path.lexists(local.path) else SECRET):
            self.result.notes.append("%s trusts %s instead of %s" % (local.name, _digests(wanted), _digests(local.bundle)))
        self._restart_for(local.name, before != after, local.key_path in self.result.writes)

    def _restart_for(self, name: str, trust_changed: bool, key_changed: bool) -> None:
        restarts = self.result.restarts
        if trust_changed and name == "etcd-ca":
            restarts.update(component for component in (APISERVER, ETCD) if component in self.layout.flags)
        if name == "sa" and (trust_changed or key_changed):
            restarts.add(APISERVER)
        if name == "sa" and key_changed:
            restarts.add(MANAGER)
        if trust_changed and name == "ca":
            restarts.add(MANAGER)  # --root-ca-file
            if ca_files.reads_ca_once(self.layout):
                restarts.add(APISERVER)

    def _signing(self, local: LocalCa, signer: SigningCa, rotating: bool) -> None:
        """Declare kube-controller-manager's signing certificate: a file of its own while the CA's file holds two."""
        if self.layout.role != layouts.CONTROL_PLANE:
            return
        path, flags = ca_files.signing_path(self.layout), ca_files.signing_flags(self.layout, local.path)
        split = rotating and self.level in (1, 2)
        wanted = path if split else local.path
        value = wanted[len(self.layout.root.rstrip("/")) :] if self.layout.root else wanted
        edits: Dict[str, Optional[str]] = {flag: value for flag, own in flags.items() if own != split}
        if edits:
            self.result.edits[MANAGER] = edits
            self.result.restarts.add(MANAGER)
        if split or any(flags.values()):
            # While the manifest names it, it has to exist, with exactly one certificate.
            self.result.write(path, signer.certificate.pem, PUBLIC)
        else:
            self.result.remove(path)

    def _kubeconfigs(self, local: LocalCa, old: SigningCa, new: Optional[SigningCa], signer: SigningCa) -> None:
        leaf_paths = {item.path: item for item in self.tree.items.values() if item.kind == catalogue.KUBECONFIG}
        for path in ca_files.trust_kubeconfigs(self.layout, kubelet=False):
            config = kubeconfig.Kubeconfig(reading.read(path), path)
            item = leaf_paths.get(path)
            if item is not None and item.certificate is not None:
                config = self.leaves.with_leaf(config, item, local, signer)
            if config.ca_data:
                wanted = self._trusted("ca", old, new, x509_read.parse_certificates(config.ca_data, path))
                config = config.with_ca(bundle_text("ca", config.ca_data, wanted, path))
            self._write_kubeconfig(path, bytes(config))

    def _write_kubeconfig(self, path: str, data: bytes) -> None:
        if self.result.write(path, data, COMPONENT):
            component = {
                self.layout.paths.get("controller-manager.conf", ("",))[0]: MANAGER,
                self.layout.paths.get("scheduler.conf", ("",))[0]: SCHEDULER,
            }.get(path)
            if component:
                self.result.restarts.add(component)

    def _lookup(self, rotating: bool) -> None:
        """Declare the flag that keeps the token secrets of both keys valid, as sa.pub's two keys keep other tokens.

        An API server compares such a token with what its secret holds now (pkg/serviceaccount/legacy.go). Signing the secret
        again would invalidate the old token for every pod until its kubelet has noticed, a minute later. From 1.24 on only users
        create such secrets. A flag that a user has set is not changed.
        """
        flags = self.layout.flags.get(APISERVER)
        if flags is None or self.layout.role != layouts.CONTROL_PLANE:
            return
        wanted = rotating and self.level in (1, 2) and (self.layout.image_minor or 99) < _NO_TOKEN_SECRETS
        if wanted and LOOKUP not in flags:
            self.result.edits.setdefault(APISERVER, {})[LOOKUP] = LOOKUP_OFF
            self.result.notes.append(
                "until the rotation is complete, kube-apiserver verifies only a token's signature, and "
                "not that its secret exists (%s)" % LOOKUP
            )
        elif not wanted and ca_files.lookup_off(self.layout):
            self.result.edits.setdefault(APISERVER, {})[LOOKUP] = None
        else:
            return
        self.result.restarts.add(APISERVER)


def _digests(items: Sequence[Trusted]) -> str:
    return "[%s]" % ", ".join(short(digest) for digest in dict.fromkeys(item.key_sha256 for item in items))
