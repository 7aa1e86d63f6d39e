# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signers of approved requests on this node: kube-controller-manager's signing flags, read, verified and explained."""

from __future__ import annotations

import datetime
import os
from typing import Any, Iterable, Mapping, Sequence

from ..errors import PkiError
from ..fileio import reading
from ..kubeadm import layouts
from ..x509.x509_read import Certificate, parse_certificates, private_key_digest, timestamp
from . import csr_object

MANAGER, SERVER = "kube-controller-manager", "kube-apiserver"

# cmd/kube-controller-manager/app/certificates.go, .../options/csrsigningcontroller.go
FLAGS = {
    csr_object.CLIENT: "kube-apiserver-client",
    csr_object.KUBELET_CLIENT: "kubelet-client",
    csr_object.KUBELET_SERVING: "kubelet-serving",
    csr_object.LEGACY: "legacy-unknown",
}

GENERAL = ("--cluster-signing-cert-file", "--cluster-signing-key-file")

_DURATIONS = ("--cluster-signing-duration", "--experimental-cluster-signing-duration")

# Signing takes exactly one certificate (pkg/controller/certificates/signer/ca_provider.go).
_MANY = "holds %d certificates, and the signer takes exactly one: while it does, nothing is signed"


class CsrSigner:
    """One of Kubernetes' own signers on this node. name: its signer name. certificate_path, key_path: or None.

    problems: each with its remedy; empty for a signer that works.
    """

    def __init__(self, name: str, pair: Sequence[str | None]) -> None:
        self.name = name
        self.certificate_path, self.key_path = pair
        self.certificate: Certificate | None = None
        self.problems: list[PkiError] = []

    def row(self) -> dict[str, Any]:
        """Return the signer as plain data."""
        return {
            "signer": self.name,
            "certificate_path": self.certificate_path,
            "key_path": self.key_path,
            "certificate": self.certificate.describe() if self.certificate else None,
            "works": not self.problems,
            "problems": [dict(problem.as_result(), message=str(problem)) for problem in self.problems],
        }


def pair_flags(signer: str) -> tuple[str, ...]:
    """Return the (certificate, key) flags of one signer alone."""
    return tuple("--cluster-signing-%s-%s-file" % (FLAGS[signer], part) for part in ("cert", "key"))


def inspect(layout: layouts.Layout, now: datetime.datetime) -> tuple[list[CsrSigner], list[PkiError]]:
    """Return (Kubernetes' own signers, problems of all of them together).

    layout: of a control-plane node. Reads the files that the flags name.
    """
    flags = layout.flags.get(MANAGER)
    if flags is None:
        raise PkiError(
            "there is no manifest of %s on this node" % MANAGER, path=layout.manifest_dir, fix="Run this on a control-plane node."
        )
    manifest = layout.manifests.get(MANAGER)
    common = []
    if not _runs(flags.get("--controllers", "*"), "csrsigning"):
        common.append(
            PkiError(
                "the controller csrsigning is switched off (--controllers), so nothing is signed",
                path=manifest,
                fix="Take -csrsigning out of --controllers.",
            )
        )
    special = {name: tuple(flags.get(flag) for flag in pair_flags(name)) for name in FLAGS}
    general = tuple(flags.get(flag) for flag in GENERAL)
    if any(general) and any(any(pair) for pair in special.values()):
        common.append(
            PkiError(
                "%s and flags for single signers are both set, which %s refuses" % (GENERAL[0], MANAGER),
                path=manifest,
                fix="Keep one kind: the flags for single signers, or the general pair.",
            )
        )
    trusted = {
        csr_object.CLIENT: _bundle(layout, "--client-ca-file"),
        csr_object.KUBELET_CLIENT: _bundle(layout, "--client-ca-file"),
        csr_object.KUBELET_SERVING: _bundle(layout, "--kubelet-certificate-authority"),
        csr_object.LEGACY: None,
    }
    found = []
    for name in FLAGS:
        signer = CsrSigner(name, special[name] if any(special[name]) else general)
        _verify(signer, layout, manifest, trusted[name], now)
        found.append(signer)
    return found, common


def _runs(value: str, controller: str) -> bool:
    names = value.split(",")
    return controller in names or ("*" in names and "-" + controller not in names)


def _bundle(layout: layouts.Layout, flag: str) -> list[Certificate] | None:
    path = layout.flags.get(SERVER, {}).get(flag)
    if not path:
        return None
    try:
        return parse_certificates(reading.read(layout.at(path)), path)
    except PkiError:
        return None  # the report names it; here it only means that nothing can be compared


def _verify(
    signer: CsrSigner,
    layout: layouts.Layout,
    manifest: str | None,
    trusted: list[Certificate] | None,
    now: datetime.datetime,
) -> None:
    if not signer.certificate_path or not signer.key_path:
        lacking = (
            "certificate and key"
            if not (signer.certificate_path or signer.key_path)
            else ("key" if signer.certificate_path else "certificate")
        )
        signer.problems.append(
            PkiError(
                "nobody signs for %s: %s has no %s for it" % (signer.name, MANAGER, lacking),
                path=manifest,
                fix="Set %s and %s; kubepki_csr_enable_signers=true does it with the cluster's CA." % GENERAL,
            )
        )
        return
    try:
        bundle = parse_certificates(reading.read(layout.at(signer.certificate_path)), signer.certificate_path)
        signer.certificate = bundle[0]
        if len(bundle) > 1:
            signer.problems.append(
                PkiError(
                    _MANY % len(bundle),
                    path=signer.certificate_path,
                    fix="Point the flag at a file with the signing certificate alone.",
                )
            )
        key = private_key_digest(reading.read(layout.at(signer.key_path)), signer.key_path, signer.certificate)
        if key != signer.certificate.key_sha256:
            signer.problems.append(
                PkiError(
                    "is not the key of %s" % signer.certificate_path,
                    path=signer.key_path,
                    fix="Put back the pair that belongs together (a backup set holds it).",
                )
            )
    except PkiError as error:
        signer.problems.append(error)
        return
    _judge(signer, bundle[0], trusted, now)


def _judge(signer: CsrSigner, certificate: Certificate, trusted: list[Certificate] | None, now: datetime.datetime) -> None:
    path = signer.certificate_path
    if not certificate.is_ca or (certificate.usages and "key_cert_sign" not in certificate.usages):
        signer.problems.append(
            PkiError("%s is not a certificate authority" % certificate.subject, path=path, fix="Name a CA certificate.")
        )
    if certificate.not_after <= now:
        signer.problems.append(PkiError("has expired, and so has what it signs", path=path, fix="Rotate the CA (rotate_ca)."))
    if trusted is not None and not any(certificate.sha256 == ca.sha256 or certificate.signed_by(ca) for ca in trusted):
        signer.problems.append(
            PkiError(
                "is not trusted by the API server, which will refuse what it signs",
                path=path,
                fix="Sign with the cluster's CA, or add this one to the API server's bundle.",
            )
        )


def enabling_edits(layout: layouts.Layout, found: Iterable[CsrSigner]) -> dict[str, dict[str, str]]:
    """Return the flags with which the cluster's CA signs: {component: {"--flag": value}}; {} where every signer has its pair.

    Raise PkiError where that cannot be: flags for single signers are in use, the CA's key is elsewhere, its file is a bundle.
    """
    if all(signer.certificate_path and signer.key_path for signer in found):
        return {}
    flags = layout.flags[MANAGER]
    manifest = layout.manifests.get(MANAGER)
    if any(flag in flags for name in FLAGS for flag in pair_flags(name)):
        raise PkiError(
            "some signers have flags of their own, and the general pair cannot be set beside them",
            path=manifest,
            fix="Set the flags of the signer that lacks them.",
        )
    certificate = os.path.join(layout.pki_dir, "ca.crt")
    key = os.path.join(layout.pki_dir, "ca.key")
    if not os.path.exists(key):
        raise PkiError(
            "the CA's key is not on this node",
            path=key,
            fix="An external CA has to sign: approved requests are "
            "signed by the controller of its signer name, not by %s." % MANAGER,
        )
    ca = parse_certificates(reading.read(certificate), certificate)
    if len(ca) > 1:
        raise PkiError(_MANY % len(ca), path=certificate, fix="Finish the rotation of the CA first (rotate_ca).")
    if private_key_digest(reading.read(key), key) != ca[0].key_sha256:
        raise PkiError("is not the key of %s" % certificate, path=key, fix="Put back the pair that belongs together.")
    return {MANAGER: dict(zip(GENERAL, (certificate, key)))}


def table(found: Iterable[CsrSigner], common: Iterable[PkiError], flags: Mapping[str, str]) -> list[str]:
    """Return the signers as lines of text."""
    validity = next((flags[flag] for flag in _DURATIONS if flag in flags), "8760h0m0s, the default")
    lines = ["Kubernetes' own signers issue for %s unless a request asks for less." % validity]
    for signer in found:
        ca = signer.certificate
        what = (
            "signs nothing"
            if ca is None
            else "signs with %s (%s, until %s)" % (signer.certificate_path, ca.subject, timestamp(ca.not_after))
        )
        lines.append("%s: %s" % (signer.name, what))
        lines += ["    %s" % problem for problem in signer.problems]
    lines += ["%s" % problem for problem in common]
    lines.append(
        "Any other signer name is signed for by its own controller, which watches approved requests; "
        "%s does not touch them." % MANAGER
    )
    return lines
