# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The new CA of a rotation: made here or taken from elsewhere, and staged on a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import PkiError, short
from ..kubeadm import catalogue
from ..x509 import ca_checks, ca_sign, private_keys, x509_read
from . import local_ca
from .ca_files import NEXT, places
from .declaration import SECRET, Declaration
from .local_ca import LocalCa, SigningCa, local_cas

if TYPE_CHECKING:
    from ..kubeadm.layouts import Layout
    from ..kubeadm.pki_tree import Tree
    from ..x509.x509_read import Certificate
    from .desired_state import KnownCa

SA_KEY_TYPE = "rsa-2048"  # kubeadm: service account keys are RSA whatever encryptionAlgorithm says up to 1.30


def make_new_ca(local: LocalCa, days: float, key_type: Optional[str] = None) -> SigningCa:
    """Make a CA with the subject of the current one. Return it.

    days: validity of the CA. key_type: None for the current one's type.
    """
    present = local.require_current().certificate
    key = private_keys.generate_key(key_type or local_ca.key_type_of(present) if local.name != "sa" else SA_KEY_TYPE)
    if local.name == "sa":
        return SigningCa(private_keys.parse_public_keys(key.public_pem)[0], key)
    certificate = ca_sign.build_ca(
        present.common_name or catalogue.BY_NAME[local.name].common_name, key, days, organizations=present.organizations
    )
    return SigningCa(certificate, key)


def take_new_ca(
    name: str, certificate_pem: bytes, key_pem: bytes, sans: Sequence[str] = (), where: str = "the new CA given for "
) -> SigningCa:
    """Check a new CA that was made elsewhere. Return it. Raises PkiError that says why it cannot be used.

    sans: ["DNS:...", "IP:..."] of the leaves it will have to sign.
    """
    path = where + name
    key = private_keys.parse_private_key(key_pem, path)
    if name == "sa":
        return SigningCa(
            private_keys.parse_public_keys(certificate_pem or key.public_pem, path)[0], key, certificate_pem, key_pem
        )
    certificate = x509_read.parse_certificate(certificate_pem, path)
    ca_checks.check_ca(certificate, key, sans, path)
    return SigningCa(certificate, key, certificate_pem, key_pem)


def leaf_names(tree: Tree, name: str) -> List[str]:
    """Return the SANs of all leaves of a CA on this node, which the new CA has to sign."""
    return sorted(
        {san for item in tree.items.values() if item.ca == name and item.certificate is not None for san in item.certificate.sans}
    )


def declare_staged(
    tree: Tree,
    names: Sequence[str],
    material: Optional[Mapping[str, Tuple[bytes, bytes]]] = None,
    days: float = 3650.0,
    key_type: Optional[str] = None,
    known: Optional[Mapping[str, KnownCa]] = None,
) -> Tuple[Declaration, Dict[str, SigningCa]]:
    """Return (Declaration, {name: new CA}) that stages a new CA beside each CA that has none on this node.

    material: {name: (certificate PEM, key PEM)} of new CAs made elsewhere (another node, or the user), or None. Where it is
    given, it has to hold every one of the names that the node has, and nothing is made here. A new CA that is staged, or that
    signs already (the old one is kept), is used as it is; one that differs from the material is refused: there is never a third.
    known: see desired_state.declare(); where it names a new CA, none is made. Raises PkiError.
    """
    result = Declaration()
    staged: Dict[str, SigningCa] = {}
    here = local_cas(tree.layout, names)
    lacking = [name for name in here if material is not None and name not in material]
    if lacking:
        raise PkiError(
            "material holds no new CA for %s, and this node must not make another one" % ", ".join(lacking),
            fix="Stage it on one control-plane node first, and pass the material of that node's result.",
        )
    for name, local in here.items():
        for problem in local.problems:
            raise problem
        pair = (material or {}).get(name)
        given = take_new_ca(name, pair[0], pair[1], leaf_names(tree, name)) if pair else None
        current = local.require_current()
        new = known[name]["new"] if known and name in known else None
        # Where a restore put the old CA back, the one that is kept is the same, and no new one is here.
        switched = local.previous and local.previous.id != current.id
        existing = local.next or (current if switched or current.id == new else None)
        if existing and given and existing.id != given.id:
            raise PkiError(
                "another new CA (%s) is staged on this node than %s" % (short(existing.id), short(given.id)),
                path=places(tree.layout, name, NEXT)[0],
                fix="Roll back, or remove the staged one after comparing it with the other nodes.",
            )
        if given and given.id == current.id:
            existing = current
        if new and not existing and not given:
            raise PkiError(
                "its new CA %s is known to other nodes, and not on this one" % short(new),
                path=places(tree.layout, name, NEXT)[0],
                fix="Run again with the control-plane node that has it.",
            )
        staged[name] = existing or given or make_new_ca(local, days, key_type)
        if existing is None:
            path, key_path = places(tree.layout, name, NEXT)
            result.write(path, staged[name].certificate_pem, SECRET)
            result.write(key_path, staged[name].key_pem, SECRET)
            result.notes.append("%s: new CA %s staged" % (name, short(staged[name].id)))
    return result, staged


def cross_signed(layout: Layout, name: str) -> Certificate:
    """Return the new CA's certificate signed by the old CA. Raises PkiError unless both keys are on the node."""
    local = local_cas(layout, [name]).get(name)
    old, new = None, None
    if local is not None:
        old, new = (local.current, local.next) if local.next else (local.previous, local.current)
    if old is None or new is None:
        raise PkiError(
            "there are no two CAs of %s on this node" % name,
            fix="Cross-sign between prepare and complete, on a control-plane node.",
        )
    return ca_sign.cross_sign(new.certificate, old.certificate, old.require_key())


def is_same_cross_sign(data: bytes, certificate: Certificate) -> bool:
    """Return whether PEM bytes hold a certificate for the same name and key, from the same issuer, valid at least as long."""
    try:
        existing = x509_read.parse_certificate(data)
    except PkiError:
        return False
    return (
        existing.key_sha256 == certificate.key_sha256
        and existing.issuer == certificate.issuer
        and existing.subject == certificate.subject
        and existing.not_after >= certificate.not_after
    )
