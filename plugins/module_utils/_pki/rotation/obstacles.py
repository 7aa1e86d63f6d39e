# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What prevents the rotation of a CA on a node: files and flags that would not follow it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Iterable

from ..errors import PkiError
from ..fileio import reading
from ..kubeadm import catalogue, kubeconfig, layouts
from ..x509 import x509_read
from . import ca_files
from .ca_files import APISERVER, trust_kubeconfigs
from .local_ca import LocalCa, Trusted, find_signer

if TYPE_CHECKING:
    from ..kubeadm.kubeconfig import Kubeconfig
    from ..kubeadm.layouts import Layout
    from ..kubeadm.pki_tree import Tree

# Flags that name a CA file. Where one of the first names the cluster's CA file itself, a rotation of that CA restarts the
# component, or the component reloads the file.
_CARRIED_FLAGS = ("--client-ca-file", "--kubelet-certificate-authority", "--root-ca-file")

_SEPARATE_FLAGS = {
    "--trusted-ca-file": "etcd-ca",
    "--peer-trusted-ca-file": "etcd-ca",
    "--etcd-cafile": "etcd-ca",
    "--requestheader-client-ca-file": "front-proxy-ca",
}


def refuse_external_etcd(layout: Layout, names: Iterable[str]) -> None:
    """Raise PkiError where etcd-ca is among the names and etcd is not a static pod of this node.

    Even where its key is here: the members do not follow what changes on the control-plane nodes.
    """
    if "etcd-ca" in names and layout.external_etcd and "etcd-ca" in layout.paths:
        raise PkiError(
            "etcd is external (%s), so etcd-ca cannot be changed from here" % layout.external_etcd,
            path=layout.paths["etcd-ca"][0],
            fix=catalogue.LEAVE_ETCD_OUT,
        )


def refuse_external_signer(layout: Layout, names: Iterable[str]) -> None:
    """Raise PkiError where sa is among the names and an external signer signs the service-account tokens (KEP-740)."""
    endpoint = ca_files.token_signer(layout)
    if "sa" in names and endpoint:
        raise PkiError(
            "service-account tokens are signed by an external signer (--service-account-signing-endpoint=%s), so there is "
            "no key here to replace" % endpoint,
            path=layout.manifests.get(APISERVER),
            fix="Rotate the signing key in that signer, and leave sa out of kubepki_cas.",
        )


def find_shared(layout: Layout, local: LocalCa) -> PkiError:
    """Return the problem of a CA that is the cluster's CA as well."""
    return PkiError(
        "the CA %s is the cluster's CA as well, and neither can be replaced alone" % local.name,
        path=local.path,
        fix=layouts.separate_ca(layout, local.name)
        if layout.shared.get(local.name) == "ca"
        else "Give each CA a key and a certificate of its own first.",
    )


def find_all(tree: Tree, local: LocalCa) -> list[PkiError]:
    """Return what depends on the cluster's CA on a control-plane node and would not follow its rotation."""
    return _kubelet_file(tree.layout, local) + _kubeconfigs(tree, local) + _other_flags(tree.layout, local)


def _kubelet_file(layout: Layout, local: LocalCa) -> list[PkiError]:
    own = layout.kubelet["ca_file"]
    if not own or os.path.realpath(own) == os.path.realpath(local.path):
        return []
    return [
        PkiError(
            "the kubelet's clientCAFile differs from the API server's --client-ca-file (%s)" % local.path,
            path=own,
            fix="Name one file for both: clientCAFile in %s, then restart the kubelet." % layout.kubelet["config_path"],
        )
    ]


def _kubeconfigs(tree: Tree, local: LocalCa) -> list[PkiError]:
    layout = tree.layout
    found: list[PkiError] = []
    for path in trust_kubeconfigs(layout, kubelet=False):
        try:
            layout.reader.kubeconfig(path)
        except kubeconfig.OtherClusterError as error:
            found.append(error)
        except PkiError:
            pass  # a finding of cert_expiry
        config = tree.kubeconfigs.get(path)  # None: a finding of cert_expiry
        named = _named_files(layout, config, local.known()) if config else []
        if config and named:
            found.append(
                PkiError(
                    "names %s, and a rotation of the cluster's CA replaces only what a kubeconfig embeds" % " and ".join(named),
                    path=path,
                    fix="Embed them: kubectl --kubeconfig=%s config set-cluster %s, or set-credentials %s, with the files "
                    "and --embed-certs=true; then restart the component that uses it." % (path, config.cluster, config.user),
                )
            )
    return found


def _other_flags(layout: Layout, local: LocalCa) -> list[PkiError]:
    """Return what trusts the cluster's CA through a flag that its rotation does not handle."""
    ours = {signer.id for signer in (local.current, local.next, local.previous) if signer}
    own_pairs = {
        os.path.realpath(layout.paths[name][0])
        for name in set(_SEPARATE_FLAGS.values())
        if name in layout.paths and name not in layout.shared and os.path.lexists(layout.paths[name][1])
    }
    found, separate = [], []
    for component, flags in sorted(layout.flags.items()):
        for flag, value in sorted(flags.items()):
            if (flag not in _CARRIED_FLAGS and flag not in _SEPARATE_FLAGS) or not value or not ours:
                continue
            path, name = layout.at(value), _SEPARATE_FLAGS.get(flag)
            same = os.path.realpath(path) == os.path.realpath(local.path)
            if (same and name is None) or os.path.realpath(path) in own_pairs or (not same and not _trusts(layout, path, ours)):
                continue
            if name is None:
                found.append(
                    PkiError(
                        "%s of %s names a copy of the cluster's CA, which a rotation does not replace" % (flag, component),
                        path=path,
                        fix="Name %s there instead, then restart %s." % (local.path, component),
                    )
                )
            elif name not in separate:
                separate.append(name)
                found.append(_trusted_for(layout, component, flag, path, name))
    return found


def _trusted_for(layout: Layout, component: str, flag: str, path: str, name: str) -> PkiError:
    return PkiError(
        "%s of %s trusts the cluster's CA through this file. A rotation of that CA would cut off what it signed "
        "for %s" % (flag, component, "etcd" if name == "etcd-ca" else "front proxies"),
        path=path,
        fix=layouts.separate_ca(layout, name) if name in layout.paths else "Give it a CA of its own first.",
    )


def _trusts(layout: Layout, path: str, ours: set[str]) -> bool:
    try:
        return bool(ours & {ca.key_sha256 for ca in layout.reader.certificates(path)})
    except PkiError:
        return False  # the component would not start; a finding of cert_expiry


def _named_files(layout: Layout, config: Kubeconfig, known: list[Trusted]) -> list[str]:
    """Return the files that a kubeconfig names instead of embedding them, and that hold or are signed by a known CA."""
    found, ours = [], {item.key_sha256 for item in known}
    with contextlib.suppress(PkiError):  # what cannot be read is a finding of cert_expiry
        if config.ca_file and not config.ca_data:
            trusted = x509_read.parse_certificates(reading.read(layout.at(config.ca_file)), config.ca_file)
            found += [config.ca_file] if ours & {item.key_sha256 for item in trusted} else []
    with contextlib.suppress(PkiError):
        if config.certificate_file and not config.certificate_data:
            leaf = layout.reader.certificates(layout.at(config.certificate_file))[0]
            found += [config.certificate_file] if find_signer(leaf, known) else []
    return found
