# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leaves outside the catalogue: what a user wants in which file, signed by which CA, from which request."""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import pwd
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from ..errors import PkiError
from ..fileio import guarded_files, reading
from ..kubeadm.kubeconfig import Kubeconfig
from ..x509 import csr_read, private_keys, x509_read, x509_sign
from .issuing_ca import IssuingCa
from .model import COMBINED, KUBECONFIG, PAIR, Leaf, Settings

# What a user asks for; see leaves().
Spec = Mapping[str, Any]

_SAN_KINDS = ("DNS:", "IP:", "URI:", "email:")


def leaves(specs: Iterable[Spec], settings: Settings) -> List[Leaf]:
    """Return the Leaf of each specification, with what is on disk in it.

    specs: mappings with name, path and key_path (or kubeconfig, or combined), ca_path, ca_key_path, common_name,
    organizations, sans, usages, days, key_type, request, request_takes, server, cluster, owner, group, mode; absent ones are
    None. settings: of the run. Raises PkiError that names the specification.
    """
    signers: Dict[Tuple[str, str], IssuingCa] = {}
    found: List[Leaf] = []
    for spec in specs:
        pair = (spec["ca_path"], spec["ca_key_path"])
        if pair not in signers:
            signers[pair] = IssuingCa.of_files(pair[0], pair[1], settings.now)
        try:
            found.append(_leaf(spec, signers[pair], settings))
        except PkiError as error:
            raise PkiError("leaf %s: %s" % (spec["name"], error.message), path=error.path, fix=error.fix) from error
    names = [leaf.name for leaf in found]
    for name in names:
        if names.count(name) > 1:
            raise PkiError("two leaves are named %s" % name, fix="Give each a name of its own.")
    return found


def san(text: str) -> str:
    """Return a SAN as "KIND:value"; a bare name or address gets its kind."""
    try:
        return "IP:%s" % ipaddress.ip_address(text)
    except ValueError:
        found = next((kind for kind in _SAN_KINDS if text.lower().startswith(kind.lower())), None)
        return found + text[len(found) :] if found else "DNS:" + text


def _leaf(spec: Spec, signer: IssuingCa, settings: Settings) -> Leaf:
    leaf = _shape(spec, signer)
    request = _request(spec)
    if request is not None and leaf.form != PAIR:
        raise PkiError("a certificate from a request has no key to go into the file with it", fix="Give path alone.")
    if request is None and leaf.form == PAIR and not spec.get("key_path"):
        raise PkiError("path is given and key_path is not", fix="Give both, or a request that was made with the key.")
    if request is None and not spec.get("common_name"):
        raise PkiError("has no common_name", fix="Give one, or a request that has one.")
    leaf.request = request
    leaf.key_type, leaf.server = spec.get("key_type"), spec.get("server")
    if leaf.key_type and leaf.key_type not in private_keys.KEY_TYPES:
        raise PkiError("the key type %s is not one of %s" % (leaf.key_type, ", ".join(private_keys.KEY_TYPES)))
    leaf.mode, leaf.owner = _mode(spec.get("mode")), _owner(spec)
    leaf.days = settings.leaf_days if spec.get("days") is None else spec["days"]
    x509_sign.validity(leaf.days)
    # Otherwise a certificate for a week would be due again at once.
    leaf.below_days = min(settings.below_days, leaf.days / 3.0)
    profile = _profile(spec, request)
    leaf.profile = lambda: (profile, None)
    _read(leaf)
    # An unreadable file may be one that the user still needs: without force it is not replaced.
    leaf.remake = settings.force
    if leaf.certificate is not None:
        leaf.unfit = _unfit(leaf, profile)
    elif not leaf.missing and leaf.problem is None:
        leaf.unfit = "it holds no client certificate"
    return leaf


def _shape(spec: Spec, signer: IssuingCa) -> Leaf:
    given = [
        (form, spec[option])
        for form, option in ((PAIR, "path"), (KUBECONFIG, "kubeconfig"), (COMBINED, "combined"))
        if spec.get(option)
    ]
    if len(given) != 1:
        raise PkiError("exactly one of path, kubeconfig and combined says where it goes, and %d are given" % len(given))
    form, path = given[0]
    if form == PAIR:
        return Leaf(spec["name"], form, path, signer, path, spec.get("key_path"))
    if form == COMBINED:
        return Leaf(spec["name"], form, path, signer, path, path)
    return Leaf(spec["name"], form, path, signer)


def _request(spec: Spec) -> Optional[csr_read.Request]:
    source = spec.get("request")
    if not source:
        return None
    path = None if "-----BEGIN" in source else source
    request = csr_read.parse_request(reading.read(path) if path else source.encode("utf-8", "replace"), path)
    x509_sign.refuse_unfit(request)
    return request


def _profile(spec: Spec, request: Optional[csr_read.Request]) -> x509_sign.Profile:
    takes = spec.get("request_takes") or ("subject", "sans")
    names = [san(text) for text in spec.get("sans") or []]
    if request is None:
        return x509_sign.Profile(spec["common_name"], spec.get("organizations") or [], names, spec.get("usages") or ["client"])
    common_name, organizations = spec.get("common_name"), spec.get("organizations")
    if not common_name:
        if "subject" not in takes or not request.common_name:
            raise PkiError("has no common_name, and none is taken from the request", fix="Give one.")
        common_name = request.common_name
    if organizations is None:
        organizations = request.organizations if "subject" in takes else []
    if spec.get("sans") is None and "sans" in takes:
        names = request.sans
    usages = spec.get("usages")
    if usages is None:
        usages = request.extended_usages if "usages" in takes else ["client"]
    return x509_sign.Profile(common_name, organizations, names, usages)


def _read(leaf: Leaf) -> None:
    """Fill in what is on disk."""
    try:
        if leaf.form == KUBECONFIG:
            data = reading.read_if_exists(leaf.path)
            leaf.missing = data is None
            if data is not None:
                _read_kubeconfig(leaf, data)
            return
        data = reading.read_if_exists(leaf.certificate_path)
        leaf.missing = data is None
        if data is not None:
            leaf.bundle = x509_read.parse_certificates(data, leaf.certificate_path)
            leaf.certificate = leaf.bundle[0]
        if leaf.request is None:
            key = guarded_files.read_own(leaf.key_path)
            leaf.key_missing = key is None
            if key is not None:
                leaf.key_sha256 = x509_read.private_key_digest(key, leaf.key_path)
    except PkiError as error:
        leaf.problem = error


def _read_kubeconfig(leaf: Leaf, data: bytes) -> None:
    leaf.kubeconfig = config = Kubeconfig(data, leaf.path)
    if config.certificate_file and not config.certificate_data:
        raise PkiError("names files for its client certificate", path=leaf.path, fix="List the files as path and key_path.")
    if config.certificate_data:
        leaf.bundle = x509_read.parse_certificates(config.certificate_data, leaf.path)
        leaf.certificate = leaf.bundle[0]
    if config.key_data:
        leaf.key_sha256 = x509_read.private_key_digest(config.key_data, leaf.path)
    leaf.key_missing = not config.key_data


def _unfit(leaf: Leaf, profile: x509_sign.Profile) -> Optional[str]:
    different = profile.differences(leaf.certificate)
    if leaf.key_type and leaf.certificate.key_type != leaf.key_type:
        different.append("key type")
    if different:
        return "it has another %s than asked for" % " and ".join(different)
    if leaf.signer.certificate is not None and not leaf.certificate.signed_by(leaf.signer.certificate):
        return "another CA than the one asked for signed it"
    if leaf.kubeconfig is not None and leaf.server and leaf.kubeconfig.server != leaf.server:
        return "it names another server than asked for"
    return None


def _mode(value: Union[str, int, None]) -> Optional[int]:
    if value is None:
        return None
    try:
        mode = int(str(value), 8) if isinstance(value, str) else int(value)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise PkiError("the mode %r is not octal" % value, fix='Write it as a string, such as "0600".')
    return mode


def _owner(spec: Spec) -> Optional[Tuple[int, int]]:
    if spec.get("owner") is None and spec.get("group") is None:
        return None
    return _id(spec.get("owner"), lambda name: pwd.getpwnam(name).pw_uid, "user"), _id(
        spec.get("group"), lambda name: grp.getgrnam(name).gr_gid, "group"
    )


def _id(value: Optional[str], find: Callable[[str], int], kind: str) -> int:
    if value is None:
        return -1  # chown(2): leave it
    with contextlib.suppress(KeyError):
        return find(value)
    if value.isdigit() and int(value) < 2**32 - 1:  # uid_t, whose highest value means none
        return int(value)
    raise PkiError("there is no %s %s on this node" % (kind, value), fix="Create it, or name another.")
