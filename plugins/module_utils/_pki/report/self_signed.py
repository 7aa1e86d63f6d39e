# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The serving certificate that a kubelet signs itself when it has no other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..x509.x509_read import Certificate

# client-go: util/cert.GenerateSelfSignedCertKeyWithFixtures
_ISSUER = re.compile(r".+-ca@[0-9]+")


def is_kubelet_self_signed(name: str | None, certificate: Certificate | None) -> bool:
    """Return whether a certificate is the one that a kubelet made when it started without a serving certificate.

    It is valid for a year and never renewed. The API server does not verify it: one that verifies kubelets needs another.
    name: of the catalogue.
    """
    return (
        name == "kubelet-serving"
        and certificate is not None
        and _ISSUER.fullmatch(certificate.issuer_common_name or "") is not None
    )
