# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client certificates without any permission, by which is proven which CAs a component accepts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..x509 import private_keys, x509_read, x509_sign
from .ca_files import APISERVER

if TYPE_CHECKING:
    from ..kubeadm.layouts import Layout
    from .local_ca import SigningCa

_DAYS = 1.0

USER = "kubepki-probe"  # no role binding names this user: authenticated, and allowed nothing


def build(layout: Layout, name: str, signer: SigningCa, lasting: bool = False) -> tuple[bytes, bytes]:
    """Return (certificate PEM, key PEM) of a client that a CA signed, and that may do nothing.

    The front proxy's has a name that the API server of this node accepts as a front proxy. lasting: valid for as long as the
    CA would be, so that a rejection says something about the CA and not about the client's age.
    """
    allowed = (layout.flags.get(APISERVER, {}).get("--requestheader-allowed-names") or "front-proxy-client").split(",")[0]
    key = private_keys.generate_key("ecdsa-p256")
    profile = x509_sign.Profile(allowed if name == "front-proxy-ca" else USER, extended_usages=("client",))
    left = (signer.certificate.not_after - x509_read.now()).total_seconds() / 86400.0 if lasting else 0.0
    return x509_sign.sign_leaf(profile, key, signer.certificate, signer.require_key(), max(left, _DAYS)).pem, key.pem


def path_of(state_dir: str, name: str) -> str:
    """Return where the client of an old CA is kept, by which is proven that no component accepts that CA any more."""
    return os.path.join(state_dir, "former-%s.pem" % name)
