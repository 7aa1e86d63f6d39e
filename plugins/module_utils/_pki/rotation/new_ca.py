# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The successor of an authority: made here or taken from elsewhere, and staged on a node."""

from __future__ import annotations

from ..errors import PkiError, short
from ..kubeadm import catalogue
from ..x509 import private_keys, x509_read, x509_sign
from . import ca_store, standalone_ca
from .ca_store import NEXT, SigningCa, local_cas, places
from .desired_state import Declaration

SA_KEY_TYPE = "rsa-2048"  # kubeadm: service account keys are RSA whatever encryptionAlgorithm says up to 1.30

_SECRET = 0o600


def make_new_ca(held, days, key_type=None):
    """Make a successor with the same subject as an authority has today. Gives a Signer.

    days: validity of the CA. key_type: of x509.KEY_TYPES, or None for the present one's type.
    """
    present = held.current.certificate
    key = private_keys.generate_key(key_type or ca_store.key_type_of(present) if held.name != "sa" else SA_KEY_TYPE)
    if held.name == "sa":
        return SigningCa(private_keys.parse_public_keys(key.public_pem)[0], key)
    certificate = x509_sign.build_ca(
        present.common_name or catalogue.BY_NAME[held.name].common_name, key, days, organizations=present.organizations
    )
    return SigningCa(certificate, key)


def take_new_ca(name, certificate_pem, key_pem, sans=(), where="the successor given for "):
    """Take a successor made elsewhere: checks it and gives a Signer. Raises PkiError that says why it cannot serve.

    certificate_pem, key_pem: bytes. sans: ["DNS:...", "IP:..."] of the leaves it will have to sign.
    """
    path = where + name
    key = private_keys.parse_private_key(key_pem, path)
    if name == "sa":
        return SigningCa(
            private_keys.parse_public_keys(certificate_pem or key.public_pem, path)[0], key, certificate_pem, key_pem
        )
    certificate = x509_read.parse_certificate(certificate_pem, path)
    standalone_ca.check_ca(certificate, key, sans, path)
    return SigningCa(certificate, key, certificate_pem, key_pem)


def leaf_names(tree, name):
    """Give the SANs of all leaves of an authority on this node, as a CA that takes over has to sign them."""
    return sorted(
        {san for item in tree.items.values() if item.ca == name and item.certificate is not None for san in item.certificate.sans}
    )


def declare_staged(tree, names, material=None, days=3650.0, key_type=None, known=None):
    """Give (Declaration, {name: Signer}) that stages a successor for each authority that has none on this node.

    material: {name: (certificate PEM, key PEM)} of successors made elsewhere (another node, or the user), or None. Where it is
    given, it has to hold every one of the names that the node has, and nothing is made here. A successor that is staged, or
    that signs already (the former authority is kept), is used as it is; one that differs from the material is refused: there
    is never a third. known: as declaration.declare() takes it; where it names a successor, none is made. Raises PkiError.
    """
    result, staged = Declaration(), {}
    here = local_cas(tree.layout, names)
    lacking = [name for name in here if material is not None and name not in material]
    if lacking:
        raise PkiError(
            "material holds no new CA for %s, and this node must not make another one" % ", ".join(lacking),
            fix="Stage it on one control-plane node first, and pass the material of that node's result.",
        )
    for name, held in here.items():
        for problem in held.problems:
            raise problem
        given = (material or {}).get(name)
        given = take_new_ca(name, given[0], given[1], leaf_names(tree, name)) if given else None
        if held.current is None:
            raise PkiError(
                "the key of %s is not on this node" % name,
                path=held.key_path,
                fix="Leave %s out of kubepki_cas, or rotate it where its key is kept." % name,
            )
        new = (known or {}).get(name, {}).get("new")
        # Where a restore put the old CA back, the one that is kept is the same, and no new one is here.
        switched = held.previous and held.previous.id != held.current.id
        existing = held.next or (held.current if switched or held.current.id == new else None)
        if existing and given and existing.id != given.id:
            raise PkiError(
                "another successor (%s) is staged on this node than %s" % (short(existing.id), short(given.id)),
                path=places(tree.layout, name, NEXT)[0],
                fix="Roll back, or remove the staged one after comparing it with the other nodes.",
            )
        if given and given.id == held.current.id:
            existing = held.current
        if new and not existing and not given:
            raise PkiError(
                "its successor %s is known to other nodes, and not on this one" % short(new),
                path=places(tree.layout, name, NEXT)[0],
                fix="Run again with the control-plane node that has it.",
            )
        staged[name] = existing or given or make_new_ca(held, days, key_type)
        if existing is None:
            path, key_path = places(tree.layout, name, NEXT)
            result.write(path, staged[name].certificate_pem, _SECRET)
            result.write(key_path, staged[name].key_pem, _SECRET)
            result.notes.append("%s: successor %s staged" % (name, short(staged[name].id)))
    return result, staged


def cross_signed(layout, name):
    """Give the successor's certificate (x509.Certificate) signed by the former authority, while both keys are on the node."""
    held = local_cas(layout, [name]).get(name)
    if held is None or held.current is None or not (held.next or held.previous):
        raise PkiError(
            "there are no two authorities of %s on this node" % name,
            fix="Cross-sign between prepare and complete, on a control-plane node.",
        )
    old, new = (held.current, held.next) if held.next else (held.previous, held.current)
    return x509_sign.cross_sign(new.certificate, old.certificate, old.key)


def same_cross(data, certificate):
    """Whether PEM bytes hold a certificate for the same name and key, from the same issuer, that lives as long."""
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
