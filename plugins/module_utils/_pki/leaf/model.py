# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the work on leaves is done with: settings of a run, a leaf, the decision about it."""

from __future__ import annotations

import collections
import datetime
import os
from typing import Any, Iterable, List, Optional, Set, Tuple

from ..errors import PkiError
from ..kubeadm import catalogue, kubeconfig
from ..x509 import private_keys, x509_read, x509_sign
from . import external_csr

KEEP, RENEW, CREATE, REFUSE = "keep", "renew", "create", "refuse"

# REQUEST: a CA elsewhere has to sign it. HOLD: it could be signed here, and waits for those that cannot.
REQUEST, HOLD = "request", "hold"

# What the rows of a result say of them.
DONE = {KEEP: "kept", RENEW: "renewed", CREATE: "created", REFUSE: "refused", REQUEST: "requested", HOLD: "held"}

PAIR, KUBECONFIG, COMBINED = "pair", "kubeconfig", "combined"

# All that the decision looks at. missing: there is no certificate. named: named one by one. remake: what cannot be read may
# be made anew. optional: not on every node. outside: its CA is by its nature not on this node (an external etcd's).
# foreign: signed by a CA this node does not know. unreadable: certificate or key cannot be read. key: "ok", "missing" or
# "mismatch". signed: by the CA that signs now. residual: days left (float). unfit: what an explicit specification demands
# otherwise (str), or None. signer: whether the CA can sign. external: it cannot, because its key is elsewhere, and requests are
# made for it. pending: such a request waits already. early: it is not valid yet. renamed: a CA of the file has the key that
# signed it and another subject than its issuer: the CA certificate was made again, and no client follows such a chain.
State = collections.namedtuple(
    "State",
    "missing named remake optional outside foreign unreadable key signed residual unfit signer external pending early renamed",
    defaults=(False, False, False, False),
)


class Settings:
    """What a run is asked for.

    below_days, leaf_days: float. force, new_key: bool. key_type: one of private_keys.KEY_TYPES, or None to keep what is there.
    embed_ca: bool, whether renewed kubeconfigs also get the CA bundle on disk. now: datetime in UTC.
    waiting: the requests that wait on this node.
    Raises PkiError for what cannot be.
    """

    def __init__(
        self,
        below_days: float = 90.0,
        leaf_days: float = 365.0,
        force: bool = False,
        new_key: bool = True,
        key_type: Optional[str] = None,
        embed_ca: bool = False,
        now: Optional[datetime.datetime] = None,
        waiting: Optional[external_csr.Waiting] = None,
    ) -> None:
        if key_type and key_type not in private_keys.KEY_TYPES:
            raise PkiError("the key type %s is not one of %s" % (key_type, ", ".join(private_keys.KEY_TYPES)))
        x509_sign.validity(leaf_days)
        self.below_days, self.leaf_days, self.force = below_days, leaf_days, force
        self.new_key, self.key_type, self.embed_ca = new_key, key_type or None, embed_ca
        self.now = now or x509_read.now()
        self.waiting = waiting or external_csr.Waiting()


class Leaf:
    """One leaf as the work sees it, wherever it was described: in the catalogue or by an explicit specification.

    name; form: "pair", "kubeconfig" or "combined". path: certificate, kubeconfig or combined file. certificate_path,
    key_path: where the two PEMs go (for a kubeconfig with embedded data, None). certificate, bundle, key_sha256,
    kubeconfig: what is there. problem: PkiError or None. signer: IssuingCa. profile: function that gives (Profile, what was
    assumed as str or None) where there is nothing to take it from. days: float or None for the run's.
    consumer, takes_up: the catalogue's. of_cluster: it is of the catalogue, so its kubeconfig has to be of this node's cluster.
    unfit, request, server, mode, owner, key_type: of explicit ones. below_days: or None.
    neighbours: [(what, {real paths of its files})] of everything else on the node.
    """

    def __init__(
        self, name: str, form: str, path: str, signer: Any, certificate_path: Optional[str] = None, key_path: Optional[str] = None
    ) -> None:
        self.name, self.form, self.path, self.signer = name, form, path, signer
        self.certificate_path: Any = certificate_path
        self.key_path: Any = key_path
        self.certificate: Any = None
        self.bundle: List[Any] = []
        self.key_sha256: Optional[str] = None
        self.kubeconfig: Any = None
        self.problem: Optional[PkiError] = None
        self.missing = self.key_missing = False
        self.named = self.remake = True
        self.optional = self.outside = False
        self.profile: Any = None
        self.days: Optional[float] = None
        self.below_days: Optional[float] = None
        self.unfit: Optional[str] = None
        self.request: Any = None
        self.server: Optional[str] = None
        self.mode: Optional[int] = None
        self.owner: Optional[Tuple[int, int]] = None
        self.key_type: Optional[str] = None
        self.consumer: Optional[str] = None
        self.takes_up = catalogue.READ_ON_USE
        self.external = self.pending = self.other_login = False
        self.of_cluster = False
        self.neighbours: List[Tuple[str, Set[str]]] = []

    def files(self) -> Set[str]:
        """Return the real paths of all that it consists of, as a set."""
        return real_paths((self.path, self.certificate_path, self.key_path))

    def is_renamed(self) -> bool:
        """Return whether a CA of the file has the key that signed the certificate, and none has its issuer as subject."""
        return (
            self.certificate is not None
            and not any(self.certificate.signed_by(ca) for ca in self.signer.bundle)
            and any(self.certificate.verified_by_key(ca) for ca in self.signer.bundle)
        )

    def state(self, now: datetime.datetime) -> State:
        """Return the State that the decision is made on."""
        certificate = self.certificate
        known = certificate is not None and any(certificate.signed_by(ca) for ca in self.signer.bundle)
        signed = known and certificate.signed_by(self.signer.certificate)
        renamed = self.is_renamed()
        same_name = (
            certificate is not None
            and self.signer.certificate is not None
            and certificate.issuer == self.signer.certificate.subject
        )
        if self.request is not None:
            key = "ok" if certificate is not None and certificate.key_sha256 == self.request.key_sha256 else "mismatch"
        elif certificate is None or self.key_sha256 == certificate.key_sha256:
            key = "ok"
        else:
            key = "missing" if self.key_missing else "mismatch"
        return State(
            # Made again, it would lose what belongs to other clusters.
            remake=self.remake and not isinstance(self.problem, kubeconfig.OtherClusterError),
            missing=self.missing,
            named=self.named,
            optional=self.optional,
            outside=self.outside,
            foreign=certificate is not None
            and self.signer.certificate is not None
            and not known
            and not same_name
            and not renamed,
            unreadable=self.problem is not None,
            key=key,
            signed=signed,
            residual=(certificate.not_after - now).total_seconds() / 86400.0 if certificate is not None else 0.0,
            unfit=self.unfit,
            signer=self.signer.problem is None,
            external=self.external,
            pending=self.pending,
            early=certificate is not None and certificate.not_before > now,
            renamed=renamed,
        )


class LeafDecision:
    """What shall happen to a Leaf: action, reason (str); error (PkiError) for a REFUSE that has to end the run."""

    def __init__(
        self, leaf: Leaf, action: str, reason: str, error: Optional[PkiError] = None, warning: Optional[str] = None
    ) -> None:
        self.leaf, self.action, self.reason, self.error, self.warning = leaf, action, reason, error, warning
        self.certificate: Any = None  # the new one
        self.key: Any = None  # the new one
        self.new_key = False
        self.staged: Optional[external_csr.Staged] = None  # of a REQUEST


def real_paths(paths: Iterable[Optional[str]]) -> Set[str]:
    """Return the real paths of some paths; None and "" are left out."""
    return {os.path.realpath(path) for path in paths if path}
