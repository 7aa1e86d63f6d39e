# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CAs of one node: in use, staged for a rotation, kept for a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Sequence, Union

from ..errors import PkiError, short
from ..fileio import reading
from ..kubeadm import catalogue, layouts
from ..x509 import private_keys, x509_read
from ..x509.private_keys import PrivateKey, PublicKey
from ..x509.x509_read import Certificate
from .ca_files import CURRENT, NEXT, PREVIOUS, places

if TYPE_CHECKING:
    from ..kubeadm.layouts import Layout

Trusted = Union[Certificate, PublicKey]  # sa has public keys in place of certificates


class SigningCa:
    """A CA as one node holds it: a certificate (for sa a public key) with its private key.

    id: digest of the public key, which identifies it in a rotation. key: None where only the certificate is known.
    certificate_pem, key_pem: bytes as they are on disk.
    """

    def __init__(
        self,
        certificate: Trusted,
        key: Optional[PrivateKey],
        certificate_pem: Optional[bytes] = None,
        key_pem: Optional[bytes] = None,
    ) -> None:
        self.certificate: Any = certificate  # a PublicKey for sa
        self.key = key
        self.id = certificate.key_sha256
        self.certificate_pem: bytes = certificate_pem or certificate.pem
        self.key_pem: bytes = key_pem or (key.pem if key else b"")

    def require_key(self) -> PrivateKey:
        """Return the private key. Raises PkiError where only the certificate is known."""
        if self.key is None:
            raise PkiError("the private key of the CA %s is not on this node" % short(self.id))
        return self.key


class LocalCa:
    """One CA on one node. path, key_path: of its certificate (or sa.pub) and key.

    data: bytes of path, or None. bundle: what path trusts, the signer first. current, next, previous: SigningCa or None.
    problems: what cannot be read. with_keys: False only compares the private keys, which is much faster than loading them.
    """

    def __init__(self, layout: Layout, name: str, with_keys: bool = True) -> None:
        self.name = name
        self._with_keys = with_keys
        self.path, self.key_path = places(layout, name, CURRENT)
        self.data: Optional[bytes] = None
        self.bundle: List[Trusted] = []
        self.problems: List[PkiError] = []
        self.current: Optional[SigningCa] = None
        self.next: Optional[SigningCa] = None
        self.previous: Optional[SigningCa] = None
        try:
            self.data = reading.read_if_exists(self.path)
            if self.data is not None:
                self.bundle = parse_bundle(name, self.data, self.path)
            self.current = self._read(layout, CURRENT)
            self.next = self._read(layout, NEXT)
            self.previous = self._read(layout, PREVIOUS)
        except PkiError as error:
            self.problems.append(error)

    def _read(self, layout: Layout, where: str) -> Optional[SigningCa]:
        path, key_path = places(layout, self.name, where)
        data, key_data = reading.read_if_exists(path), reading.read_if_exists(key_path)
        if data is None or key_data is None:
            return None
        certificate = parse_bundle(self.name, data, path)[0]
        key = private_keys.parse_private_key(key_data, key_path) if self._with_keys else None
        if key is not None:
            digest = key.key_sha256
        else:
            likely = certificate if isinstance(certificate, Certificate) else None
            digest = x509_read.private_key_digest(key_data, key_path, likely)
        if digest != certificate.key_sha256:
            raise PkiError(
                "the private key does not match %s" % path,
                path=key_path,
                fix="Restore both from the same backup set.",
            )
        return SigningCa(certificate, key, data if where != CURRENT else None, key_data)

    def require_current(self) -> SigningCa:
        """Return the CA in use. Raises PkiError where its key is not on this node."""
        if self.current is None:
            raise PkiError(
                "the key of %s is not on this node" % self.name,
                path=self.key_path,
                fix="Leave %s out of kubepki_cas, or rotate it where its key is kept." % self.name,
            )
        return self.current

    def known(self) -> List[Trusted]:
        """Return the certificates of this CA that are on the node, each key once."""
        found = list(self.bundle) + [signer.certificate for signer in (self.current, self.next, self.previous) if signer]
        return list({item.key_sha256: item for item in reversed(found)}.values())


def parse_bundle(name: str, data: bytes, path: str) -> List[Trusted]:
    """Return what a bundle trusts: certificates, or public keys for sa. Raises PkiError."""
    if name == "sa":
        return list(private_keys.parse_public_keys(data, path))
    return list(x509_read.parse_certificates(data, path))


def local_cas(layout: Layout, names: Sequence[str] = catalogue.ROTATABLE, with_keys: bool = True) -> Dict[str, LocalCa]:
    """Return {name: LocalCa} of the CAs that this node has a file of. with_keys: as for LocalCa."""
    found = {}
    for name in names:
        if name == "sa" and layout.role != layouts.CONTROL_PLANE:
            continue
        if name != "sa" and name not in layout.paths:
            continue
        local = LocalCa(layout, name, with_keys)
        if local.data is not None or local.problems:
            found[name] = local
    return found


def find_signer(certificate: Certificate, candidates: Iterable[Trusted]) -> Optional[str]:
    """Return the digest of the public key among candidates that signed a certificate, or None."""
    for candidate in candidates:
        if isinstance(candidate, Certificate) and certificate.verified_by_key(candidate):
            return candidate.key_sha256
    return None


def key_type_of(certificate: Trusted) -> str:
    """Return the type for the new key of a certificate that is issued again."""
    return private_keys.nearest_key_type(certificate.key_type)
