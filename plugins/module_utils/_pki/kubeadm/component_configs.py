# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the control plane's components trust beyond kubeadm's files: webhooks, OIDC, egress, as files that flags name say it.

The formats: client-go's kubeconfig; k8s.io/apiserver/pkg/apis/apiserver (AdmissionConfiguration, AuthenticationConfiguration,
AuthorizationConfiguration, EgressSelectorConfiguration, EncryptionConfiguration).
"""

from __future__ import annotations

import base64
import os

from ..errors import PkiError
from ..fileio import guarded_read, yaml_load
from ..x509.x509_read import parse_certificates

_BUNDLES = ("--oidc-ca-file", "--peer-ca-file")

_KUBECONFIGS = (
    "--audit-webhook-config-file",
    "--authentication-token-webhook-config-file",
    "--authorization-webhook-config-file",
    "--authentication-kubeconfig",
    "--authorization-kubeconfig",
)


class Trust:
    """Whom one file that a flag names makes a component trust, and which certificate it shows.

    component, flag: where the file is named. path: of the file on the node. trusted: [Certificate]. ca_files: [path on the node]
    of the CA files that it names. client: Certificate that is shown, or None. kms: (name, endpoint) of a KMS plugin, or None.
    problem: PkiError where it cannot be read, or None.
    """

    def __init__(self, component: str, flag: str, path: str) -> None:
        self.component, self.flag, self.path = component, flag, path
        self.trusted: list = []
        self.ca_files: list = []
        self.client = self.kms = self.problem = None


def find(layout) -> list:
    """Return the [Trust] of every file that the flags of this node's components name. Never raises for what they hold."""
    found: list = []
    for component, manifest in sorted(layout.parsed.items()):
        reader = _Reader(layout, component, manifest)
        for flag in sorted(set(manifest.flags) & set(_READERS)):
            found += reader.read(flag, manifest.flags[flag])
    return found


def reads_file(layout, component: str, path: str) -> bool:
    """Return whether a component verifies servers with a CA file of the node, because such a file names it."""
    return any(
        os.path.realpath(named) == os.path.realpath(path)
        for trust in find(layout)
        if trust.component == component
        for named in trust.ca_files
    )


class _Reader:
    """Reads what the flags of one component name. Paths are the container's, and looked up through its mounts."""

    def __init__(self, layout, component, manifest):
        self.layout, self.component, self.manifest = layout, component, manifest
        self._parsed: dict = {}

    def read(self, flag, inside):
        trust, found = self._trust(flag, inside), []
        try:
            found = _READERS[flag](self, flag, inside) or [trust]
        except PkiError as error:
            trust.problem = error
            found = [trust]
        return found

    def _trust(self, flag, inside):
        return Trust(self.component, flag, self._host(inside))

    def _host(self, inside):
        """Return where a path of the container lies on the node."""
        inside = os.path.normpath(inside.replace("\0", "?"))
        for mount in sorted(self.manifest.mounts, key=lambda mount: -len(mount.inside)):
            own = mount.container in (self.component, self.manifest.name)
            if own and (inside + "/").startswith(mount.inside.rstrip("/") + "/"):
                return self.layout.at(os.path.normpath(os.path.join(mount.host, os.path.relpath(inside, mount.inside))))
        return self.layout.at(inside)

    def _document(self, inside):
        path = self._host(inside)
        return yaml_load.load_mapping(guarded_read.read(path), path, plain=True)

    def _certificates(self, inside):
        path = self._host(inside)
        return parse_certificates(guarded_read.read(path), path)

    def _embedded(self, text, path, encoded=True):
        """Return the [Certificate] of a text, parsed once: aliases of the document can repeat it."""
        if not isinstance(text, str):
            raise PkiError("holds data that is not base64", path=path, fix="Correct it, or restore it from a backup.")
        if (text, path) not in self._parsed:
            self._parsed[text, path] = parse_certificates(_decoded(text, path) if encoded else text.encode("utf-8"), path)
        return self._parsed[text, path]

    def bundle(self, flag, inside):
        trust = self._trust(flag, inside)
        self._add_file(trust, inside)
        return [trust]

    def _add_file(self, trust, inside):
        trust.ca_files.append(self._host(inside))
        trust.trusted += self._certificates(inside)

    def kubeconfig(self, flag, inside):
        # Not by its context: that of admission webhooks holds users alone.
        trust, document, folder = self._trust(flag, inside), self._document(inside), os.path.dirname(inside)
        for item in _list(document.get("clusters")):
            cluster = _mapping(_mapping(item).get("cluster"))
            if cluster.get("certificate-authority-data"):
                _add(trust, self._embedded(cluster["certificate-authority-data"], trust.path))
            elif isinstance(cluster.get("certificate-authority"), str):
                self._add_file(trust, os.path.join(folder, cluster["certificate-authority"]))
        for item in _list(document.get("users")):
            user = _mapping(_mapping(item).get("user"))
            if user.get("client-certificate-data"):
                trust.client = self._embedded(user["client-certificate-data"], trust.path)[0]
            elif isinstance(user.get("client-certificate"), str):
                trust.client = self._certificates(os.path.join(folder, user["client-certificate"]))[0]
        return [trust]

    def _kubeconfigs(self, flag, paths):
        found = []
        for path in dict.fromkeys(path for path in paths if isinstance(path, str)):
            if path:
                try:
                    found += self.kubeconfig(flag, path)
                except PkiError as error:
                    found.append(self._trust(flag, path))
                    found[-1].problem = error
        return found

    def authorization(self, flag, inside):
        items = [_mapping(item) for item in _list(self._document(inside).get("authorizers"))]
        return self._kubeconfigs(
            flag, [_mapping(_mapping(item.get("webhook")).get("connectionInfo")).get("kubeConfigFile") for item in items]
        )

    def authentication(self, flag, inside):
        trust = self._trust(flag, inside)
        for item in _list(self._document(inside).get("jwt")):
            pem = _mapping(_mapping(item).get("issuer")).get("certificateAuthority")
            if isinstance(pem, str) and pem:
                _add(trust, self._embedded(pem, trust.path, encoded=False))
        return [trust]

    def admission(self, flag, inside):
        paths = []
        for item in _list(self._document(inside).get("plugins")):
            plugin = _mapping(item)
            own, folder = _mapping(plugin.get("configuration")), os.path.dirname(inside)
            if isinstance(plugin.get("path"), str) and plugin["path"]:
                place = os.path.join(folder, plugin["path"])
                own, folder = self._document(place), os.path.dirname(place)
            for named in (own.get("kubeConfigFile"), _mapping(own.get("imagePolicy")).get("kubeConfigFile")):
                if isinstance(named, str) and named:
                    paths.append(os.path.join(folder, named))
        return self._kubeconfigs(flag, paths)

    def egress(self, flag, inside):
        trust = self._trust(flag, inside)
        for item in _list(self._document(inside).get("egressSelections")):
            transport = _mapping(_mapping(_mapping(item).get("connection")).get("transport"))
            settings = _mapping(_mapping(transport.get("tcp")).get("tlsConfig"))
            if isinstance(settings.get("caBundle"), str):
                self._add_file(trust, settings["caBundle"])
            if isinstance(settings.get("clientCert"), str):
                trust.client = self._certificates(settings["clientCert"])[0]
        return [trust]

    def encryption(self, flag, inside):
        found = []
        for item in _list(self._document(inside).get("resources")):
            for provider in _list(_mapping(item).get("providers")):
                kms = _mapping(_mapping(provider).get("kms"))
                if kms:
                    trust = self._trust(flag, inside)
                    trust.kms = (str(kms.get("name")), str(kms.get("endpoint")))
                    found.append(trust)
        return found


_READERS = dict({flag: _Reader.bundle for flag in _BUNDLES}, **{flag: _Reader.kubeconfig for flag in _KUBECONFIGS})

_READERS.update(
    {
        "--authorization-config": _Reader.authorization,
        "--authentication-config": _Reader.authentication,
        "--admission-control-config-file": _Reader.admission,
        "--egress-selector-config-file": _Reader.egress,
        "--encryption-provider-config": _Reader.encryption,
    }
)


def _add(trust, certificates):
    """Add certificates that were parsed once to those that are trusted, once."""
    if not any(certificates[0] is known for known in trust.trusted):
        trust.trusted += certificates


def _decoded(text, path):
    try:
        return base64.b64decode(text.replace("\n", ""), validate=True)
    except (AttributeError, ValueError, TypeError):
        raise PkiError("holds data that is not base64", path=path, fix="Correct it, or restore it from a backup.") from None


def _mapping(value):
    return value if isinstance(value, dict) else {}


def _list(value):
    return value if isinstance(value, list) else []
