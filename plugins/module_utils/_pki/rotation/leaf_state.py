# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leaves of a CA in a phase of its rotation: issued by the CA that signs, kept for a rollback."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional, Tuple

from ..fileio import reading
from ..kubeadm import catalogue, kubeconfig
from ..x509 import ca_sign, private_keys, x509_read, x509_sign
from . import local_ca
from .ca_files import PREVIOUS
from .declaration import COMPONENT, PUBLIC, SECRET, Declaration

if TYPE_CHECKING:
    from ..kubeadm.kubeconfig import Kubeconfig
    from ..kubeadm.pki_tree import Item, Tree
    from ..x509.private_keys import PrivateKey
    from ..x509.x509_read import Certificate
    from .local_ca import LocalCa, SigningCa


class LeafDeclarer:
    """Declares the leaves of one node for a level (see desired_state.declare). days, key_type: of the leaves that are issued."""

    def __init__(self, tree: Tree, level: int, days: float, key_type: Optional[str], result: Declaration) -> None:
        self.tree, self.layout, self.result = tree, tree.layout, result
        self.level, self.days, self.key_type = level, days, key_type

    def declare_leaves(self, local: LocalCa, old: SigningCa, new: Optional[SigningCa], signer: SigningCa) -> None:
        """Declare the leaves that are files of their own."""
        for item in self.tree.items.values():
            if item.kind != catalogue.LEAF or item.ca != local.name or item.certificate is None or item.key_path is None:
                continue
            if not self._is_signed_by_other(item.certificate, local, signer):
                self._cross_signed_link(item, reading.read(item.path), old, new)
                continue
            saved, saved_key = self._read_saved(item.path), self._read_saved(item.key_path)
            if saved is not None and saved_key is not None and self._is_usable(saved, signer, item.path):
                self._note_leaf(item, x509_read.parse_certificate(saved, item.path))
                pem, key_pem = saved, saved_key
            else:
                self._save(item.path)
                self._save(item.key_path)
                certificate, key = self._issue(item, signer)
                pem, key_pem = certificate.pem, key.pem
            self.result.write(item.path, pem, PUBLIC)
            self.result.write(item.key_path, key_pem, COMPONENT)
            self._cross_signed_link(item, pem, old, new)

    def with_leaf(self, config: Kubeconfig, item: Item, local: LocalCa, signer: SigningCa) -> Kubeconfig:
        """Return a kubeconfig with a client certificate of the CA that signs."""
        if not config.certificate_data or not self._is_signed_by_other(item.certificate, local, signer):
            return config
        saved = self._read_saved(item.path)
        if saved is not None:
            old = kubeconfig.Kubeconfig(saved, item.path)
            if old.certificate_data and self._is_usable(old.certificate_data, signer, item.path):
                self._note_leaf(item, x509_read.parse_certificate(old.certificate_data, item.path))
                return old
        self._save(item.path)
        certificate, key = self._issue(item, signer)
        return config.with_client(certificate.pem, key.pem)

    def remove_saved(self, local: LocalCa) -> None:
        """Declare that nothing is kept any more of what the old CA signed."""
        for item in self.tree.items.values():
            if item.ca == local.name:
                for path in (item.path, item.key_path):
                    if path:
                        self.result.remove(self._saved_path(path))

    def _cross_signed_link(self, item: Item, data: bytes, old: SigningCa, new: Optional[SigningCa]) -> None:
        """Declare that a switched API server also sends the new CA's certificate signed by the old CA.

        Clients that know the old CA alone verify it through that.
        """
        if item.name != "apiserver" or new is None:
            return
        chain = x509_read.parse_certificates(data, item.path)
        links = [link for link in chain[1:] if link.key_sha256 == new.id]
        if self.level == 2 and not links and old.key:
            cross = ca_sign.cross_sign(new.certificate, old.certificate, old.key)
            self.result.write(item.path, x509_read.bundle(chain + [cross]), PUBLIC)
        elif self.level != 2 and links:
            self.result.write(item.path, x509_read.bundle([link for link in chain if link not in links]), PUBLIC)

    @staticmethod
    def _is_signed_by_other(certificate: Certificate, local: LocalCa, signer: SigningCa) -> bool:
        """Return whether the other CA of the rotation signed it. What neither signed is the user's own, and stays."""
        found = local_ca.find_signer(certificate, local.known())
        return found is not None and found != signer.id

    def _issue(self, item: Item, signer: SigningCa) -> Tuple[Certificate, PrivateKey]:
        key = private_keys.generate_key(self.key_type or local_ca.key_type_of(item.certificate))
        profile = x509_sign.Profile.of(item.certificate)
        certificate = x509_sign.sign_leaf(profile, key, signer.certificate, signer.require_key(), self.days)
        self._note_leaf(item, certificate)
        return certificate, key

    def _note_leaf(self, item: Item, certificate: Certificate) -> None:
        self.result.leaves.append(
            {"name": item.name, "path": item.path, "before": item.certificate.describe(), "after": certificate.describe()}
        )
        if item.entry.takes_up == catalogue.RELOADS and item.entry.consumer:
            self.result.reloads.add(item.entry.consumer)

    def _saved_path(self, path: str) -> str:
        relative = os.path.relpath(path, self.layout.kubernetes_dir)
        if relative.startswith(".."):
            relative = "elsewhere/" + path.lstrip("/").replace("/", "_")
        elif relative.startswith("pki/"):
            relative = relative[len("pki/") :]
        return os.path.join(self.layout.kubernetes_dir, PREVIOUS, relative)

    def _save(self, path: str) -> None:
        """Declare that what the old CA signed is kept for a rollback. What is kept already stays."""
        saved = self._saved_path(path)
        data = reading.read_if_exists(path)
        if self.level == 2 and data is not None and not os.path.lexists(saved):
            self.result.write(saved, data, SECRET)

    def _read_saved(self, path: str) -> Optional[bytes]:
        return reading.read_if_exists(self._saved_path(path)) if self.level == 1 else None

    @staticmethod
    def _is_usable(data: bytes, signer: SigningCa, path: str) -> bool:
        certificate = x509_read.parse_certificate(data, path)
        return certificate.not_after > x509_read.now() and certificate.verified_by_key(signer.certificate)
