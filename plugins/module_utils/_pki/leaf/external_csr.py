# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that wait on a node for a CA elsewhere, and the check of what it signed, before anything changes."""

from __future__ import annotations

import datetime
import os
from typing import Any, Dict, List, Optional, Tuple, Union

from ..errors import PkiError
from ..fileio import atomic, reading
from ..x509 import ca_checks, csr_read, private_keys, x509_read
from ..x509.csr_read import Request
from ..x509.private_keys import PrivateKey
from ..x509.x509_read import Certificate
from ..x509.x509_sign import Profile

_AGAIN = "Have the request in the bundle signed again, as it is, and put that certificate in its place."

# Go has refused these since 1.18 (crypto/x509), and so does every component.
_WEAK = ("md5", "sha1")


class Staged:
    """What waits on the node for one leaf. request: Request; key: PrivateKey, or None where the leaf keeps its key."""

    def __init__(self, request: Request, key: Optional[PrivateKey]) -> None:
        self.request, self.key = request, key

    def fits(self, profile: Profile, key_type: Optional[str]) -> bool:
        """Return whether this is the request that would be made now. key_type: of a new key, or None where the key stays."""
        if profile.differences(self.request):
            return False
        return self.key is None if key_type is None else self.key is not None and self.key.key_type == key_type


class Waiting:
    """The requests of one node, below state_dir/requests (0700): NAME.key and NAME.csr, both 0600.

    asked: whether requests are made for what cannot be signed here. only: nothing else is done, so that a whole cluster can be
    asked first. certificates: {name: PEM str} that came back.
    """

    def __init__(
        self,
        state_dir: str = atomic.STATE_DIR,
        asked: bool = False,
        certificates: Optional[Dict[str, str]] = None,
        only: bool = False,
    ) -> None:
        self.directory = os.path.join(state_dir, "requests")
        self.asked, self.only = asked, only
        self.certificates = {name: pem for name, pem in (certificates or {}).items() if pem}

    def path(self, name: str, ending: str) -> str:
        """Return where the key ("key") or the request ("csr") of a leaf waits."""
        return os.path.join(self.directory, "%s.%s" % (name, ending))

    def staged(self, name: str) -> Optional[Staged]:
        """Return the Staged of a leaf, or None where nothing that can be used waits. Raises PkiError for an unreadable file."""
        data = reading.read_if_exists(self.path(name, "csr"))
        if data is None:
            return None
        key_data = reading.read_if_exists(self.path(name, "key"))
        try:
            request = csr_read.parse_request(data, self.path(name, "csr"))
            key = private_keys.parse_private_key(key_data, self.path(name, "key")) if key_data is not None else None
        except PkiError:
            return None  # no usable certificate can exist for it: it is made again
        return Staged(request, key) if key is None or key.matches(request) else None

    def stage(self, name: str, request: Request, key: Optional[PrivateKey] = None) -> Staged:
        """Keep a request, and its key (None where the leaf keeps its own), durably. The key comes first."""
        atomic.make_directory(self.directory)
        self._sweep()
        # A kill between the two must not leave the new key with the old request.
        atomic.remove(self.path(name, "csr"))
        if key is None:
            atomic.remove(self.path(name, "key"))
        else:
            atomic.write(self.path(name, "key"), key.pem, mode=0o600)
        atomic.write(self.path(name, "csr"), request.pem, mode=0o600)
        return Staged(request, key)

    def drop(self, name: str) -> bool:
        """Remove what waits for a leaf. Returns whether there was something."""
        if not os.path.isdir(self.directory):
            return False
        self._sweep()
        removed = [atomic.remove(self.path(name, ending)) for ending in ("key", "csr")]
        return any(removed)

    def _sweep(self) -> None:
        """Remove what a run that was killed while it wrote left: it may hold a key."""
        for name in os.listdir(self.directory):
            if name.startswith("."):
                atomic.remove(os.path.join(self.directory, name))


def check(pem: bytes, request: Request, ca: Certificate, now: datetime.datetime, path: Optional[str] = None) -> Certificate:
    """Return the Certificate that a CA elsewhere made for a request, when it is exactly what was asked for.

    pem: bytes; the first certificate counts, what follows it does not. ca: its Certificate on this node. now:
    datetime in UTC. path: what messages call it. Raises one PkiError that says everything that is wrong with it.
    """
    certificate = x509_read.parse_certificate(pem, path)
    wrong = deviations(certificate, request, ca, now)
    if wrong:
        raise PkiError("; ".join(wrong), path=path, fix=_AGAIN)
    return certificate


def deviations(certificate: Certificate, request: Request, ca: Certificate, now: datetime.datetime) -> List[str]:
    """Return what is wrong with a certificate that was made for a request: sentences without full stops."""
    if certificate.key_sha256 != request.key_sha256:
        return ["it is for another key than that of its request"]  # nothing else about it matters then
    wrong = []
    if _subject(certificate) != _subject(request):
        wrong.append("its subject is %s, and %s was asked for" % (certificate.subject or "empty", request.subject))
    wrong += ["it can be read in two ways (%s)" % text for text in csr_read.subject_ambiguities(certificate.raw.subject)]
    for what, have, want in (
        ("name", certificate.sans, request.sans),
        ("extended usage", certificate.extended_usages, request.extended_usages),
    ):
        wrong += ["it lacks the %s %s" % (what, text) for text in sorted(set(want) - set(have))]
        wrong += ["it has the %s %s, which was not asked for" % (what, text) for text in sorted(set(have) - set(want))]
    # The bits that ask for encipherment are the signer's business: with an ECDSA key they mean nothing.
    if certificate.usages and "digital_signature" not in certificate.usages:
        wrong.append("its key usage does not allow signatures, and so no handshake")
    if certificate.is_ca or {"key_cert_sign", "crl_sign"} & set(certificate.usages):
        wrong.append("it is an authority")
    wrong += _signature(certificate, ca)
    wrong += _dates(certificate, now)
    return wrong


def _subject(thing: Union[Certificate, Request]) -> List[Tuple[str, Any]]:
    # Some CAs put the parts into an order of their own, which no component looks at.
    return sorted((item.oid.dotted_string, item.value) for item in thing.raw.subject)


def _signature(certificate: Certificate, ca: Certificate) -> List[str]:
    if not certificate.signed_by(ca):
        if certificate.issuer == ca.subject:
            return ["it is signed by another key than that of the authority %s on this node, though under its name" % ca.subject]
        return ["it is signed by %s, and not by the authority on this node, %s" % (certificate.issuer, ca.subject)]
    algorithm = certificate.raw.signature_hash_algorithm
    wrong = []
    if algorithm is not None and algorithm.name in _WEAK:
        wrong.append("its signature is made with %s, which Kubernetes refuses" % algorithm.name.upper())
    forbidden = ca_checks.forbidden_name(ca, certificate.sans)
    if forbidden:
        wrong.append("the name constraints of its authority forbid %s" % forbidden)
    return wrong


def _dates(certificate: Certificate, now: datetime.datetime) -> List[str]:
    if certificate.not_after <= now:
        return ["it ended at %s" % x509_read.timestamp(certificate.not_after)]
    if certificate.not_before > now:
        return [
            "it is not valid before %s, and this node's clock says %s"
            % (x509_read.timestamp(certificate.not_before), x509_read.timestamp(now))
        ]
    return []
