# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA outside a cluster: made, renewed with the same key, or signed by another CA."""

from __future__ import annotations

import os
from typing import Dict, Optional, Sequence, Tuple

from ..errors import PkiError
from ..fileio import atomic, backup_set, reading, transactions
from ..x509 import ca_checks, ca_sign, private_keys, x509_read, x509_sign
from ..x509.private_keys import PrivateKey
from ..x509.x509_read import Certificate

JOB = "own-ca"

_PUBLIC, _SECRET = 0o644, 0o600


class StandaloneCa:
    """A CA outside a cluster: its two files, and those of its parent CA. before: the existing certificate, described."""

    def __init__(
        self, path: str, key_path: str, parent_path: Optional[str] = None, parent_key_path: Optional[str] = None
    ) -> None:
        self.path, self.key_path = path, key_path
        self.parent: Optional[Certificate] = None
        self.parent_key: Optional[PrivateKey] = None
        if parent_path and parent_key_path:
            self.parent = x509_read.parse_certificate(reading.read(parent_path), parent_path)
            self.parent_key = private_keys.parse_private_key(reading.read(parent_key_path), parent_key_path)
            ca_checks.check_ca(self.parent, self.parent_key, path=parent_path, signs_cas=True)
        data, key_data = reading.read_if_exists(path), reading.read_if_exists(key_path)
        self.certificate: Optional[Certificate] = x509_read.parse_certificate(data, path) if data is not None else None
        self.key: Optional[PrivateKey] = private_keys.parse_private_key(key_data, key_path) if key_data is not None else None
        self.before = self.certificate.describe() if self.certificate else None

    def ensure(
        self,
        common_name: Optional[str],
        organizations: Optional[Sequence[str]],
        days: float,
        key_type: Optional[str],
        below_days: float,
        force: bool,
    ) -> Tuple[str, Certificate, Dict[str, bytes]]:
        """Return (action, certificate, {path: bytes} to write). action: "kept", "renewed" or "created". Raises PkiError.

        days: validity of a new certificate. below_days: renew with fewer days left.
        """
        if self.certificate is None:
            key = self.key or private_keys.generate_key(key_type or "rsa-2048")
            certificate = ca_sign.build_ca(
                common_name or "kubernetes", key, days, self.parent, self.parent_key, organizations or ()
            )
            return "created", certificate, {self.path: certificate.pem, self.key_path: key.pem}
        if self.key is None:
            raise PkiError(
                "the key of this CA is not here, so it is kept elsewhere",
                path=self.key_path,
                fix="Renew it where its key is, or name another path.",
            )
        x509_sign.check_signer(self.certificate, self.key)
        left = (self.certificate.not_after - x509_read.now()).total_seconds() / 86400.0
        if not force and left >= below_days and left > 0:
            return "kept", self.certificate, {}
        if self.parent:
            certificate = ca_sign.renew_ca(self.certificate, self.key, days, None, self.parent, self.parent_key)
        elif not self.certificate.self_issued:
            raise PkiError(
                "this CA is signed by %s" % self.certificate.issuer, path=self.path, fix="Give parent_path and parent_key_path."
            )
        else:
            certificate = ca_sign.renew_ca(self.certificate, self.key, days)
        return "renewed", certificate, {self.path: certificate.pem}


def write(ca: StandaloneCa, writes: Dict[str, bytes], state_dir: str, backup_dir: str, backup_keep: int) -> Optional[str]:
    """Write a StandaloneCa's files in one transaction after a backup set. Return the backup set's directory."""
    backup = backup_set.create_backup(list(writes), "cert-ca-present", backup_dir, backup_keep)
    transaction = transactions.Transaction(JOB, state_dir)
    for path, data in writes.items():
        atomic.make_directory(os.path.dirname(path), 0o755)
        transaction.write(path, data, _SECRET if path == ca.key_path else _PUBLIC)
    transaction.commit()
    return backup
