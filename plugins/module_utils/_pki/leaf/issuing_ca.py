# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA that signs leaves, or why it cannot."""

from __future__ import annotations

import datetime
from typing import Any, Iterable, Optional

from ..errors import PkiError
from ..fileio import reading
from ..kubeadm.pki_tree import Item
from ..x509 import private_keys, x509_read
from ..x509.private_keys import PrivateKey
from ..x509.x509_read import Certificate


class IssuingCa:
    """A CA that signs, or why it cannot. certificate: Certificate or None; bundle: [Certificate]; problem: PkiError or None.

    elsewhere: it is in order, and its key is not on this node.
    """

    elsewhere = False

    def __init__(
        self,
        name: str,
        certificate: Optional[Certificate],
        key_path: Optional[str],
        bundle: Iterable[Certificate] = (),
        problem: Optional[PkiError] = None,
    ) -> None:
        self.name, self.certificate = name, certificate
        self.key_path: Any = key_path
        self.bundle, self.problem = list(bundle), problem
        self._key: Optional[PrivateKey] = None

    @classmethod
    def of_item(cls, item: Item, now: datetime.datetime) -> IssuingCa:
        """Return the IssuingCa of a CA's Item of a Tree."""
        problem = item.problem
        if problem is not None and item.missing:
            problem = PkiError(
                "there is no certificate of the authority %s" % item.name,
                path=item.path,
                fix="Put it back; a backup set or another control-plane node has it.",
            )
        elif problem is None and item.key_missing:
            return cls._of_elsewhere(item, now)
        elif problem is None and item.key_problem is not None:
            problem = item.key_problem
        signer = cls(item.name, item.certificate, item.key_path, item.bundle, problem)
        if problem is None:
            signer.problem = signer._trouble(item.key_sha256, now)
        return signer

    @classmethod
    def _of_elsewhere(cls, item: Item, now: datetime.datetime) -> IssuingCa:
        signer = cls(item.name, item.certificate, item.key_path, item.bundle)
        signer.problem = signer._unusable(now)
        if signer.problem is None:
            signer.elsewhere = True
            signer.problem = PkiError(
                "the authority %s is managed elsewhere: its certificate is on this node, and its key is not" % item.name,
                path=item.key_path,
                fix="Set kubepki_external_ca_dir to a folder on the controller, and requests are written "
                "there to be signed by hand, by kubepki_external_ca_command or by kubepki_external_ca_signer; or put the key "
                "back. To renew the others, name them one by one.",
            )
        return signer

    @classmethod
    def of_files(cls, path: str, key_path: str, now: datetime.datetime) -> IssuingCa:
        """Return the IssuingCa of two files: a certificate (or bundle, whose first signs) and its key."""
        bundle, problem = [], None
        try:
            bundle = x509_read.parse_certificates(reading.read(path), path)
            digest = x509_read.private_key_digest(reading.read(key_path), key_path)
        except PkiError as error:
            problem = error
        signer = cls(path, bundle[0] if bundle else None, key_path, bundle, problem)
        if problem is None:
            signer.problem = signer._trouble(digest, now)
        return signer

    def _trouble(self, key_sha256: Optional[str], now: datetime.datetime) -> Optional[PkiError]:
        ca: Any = self.certificate
        if key_sha256 != ca.key_sha256:
            return PkiError(
                "the key %s is not the key of this CA certificate" % self.key_path,
                path=ca.path,
                fix="Put back the key that belongs to it (a backup set holds it); of a bundle, the first certificate signs.",
            )
        return self._unusable(now)

    def _unusable(self, now: datetime.datetime) -> Optional[PkiError]:
        ca: Any = self.certificate
        if not ca.is_ca:
            return PkiError("%s is not a certificate authority" % ca.subject, path=ca.path, fix="Name a CA certificate.")
        if ca.not_after <= now:
            return PkiError(
                "the authority %s expired at %s, so nothing it signs would be accepted"
                % (ca.subject, x509_read.timestamp(ca.not_after)),
                path=ca.path,
                fix="Replace the authority first: the playbook recover does it for a cluster that no longer answers.",
            )
        if ca.not_before > now:
            return PkiError(
                "the authority %s is not valid before %s" % (ca.subject, x509_read.timestamp(ca.not_before)),
                path=ca.path,
                fix="Set this node's clock right (`timedatectl`), then run again.",
            )
        return None

    def key(self) -> PrivateKey:
        """Return the CA's PrivateKey, read once."""
        if self._key is None:
            self._key = private_keys.parse_private_key(reading.read(self.key_path), self.key_path)
        return self._key
