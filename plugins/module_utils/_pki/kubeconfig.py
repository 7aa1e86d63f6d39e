# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and edit a kubeconfig without losing anything it holds (client-go tools/clientcmd/api/v1)."""

from __future__ import annotations

__metaclass__ = type

import base64
import os

from .errors import PkiError
from .reading import load_mapping

_FIX = "Correct it, or restore it from a backup."
# How else a user may log in (client-go tools/clientcmd/api/v1: AuthInfo).
_LOGINS = ("token", "tokenFile", "exec", "auth-provider", "username")


class Kubeconfig:
    """A kubeconfig, seen through its current context.

    server: str. user, cluster: names. ca_data, certificate_data, key_data: PEM bytes or None.
    ca_file, certificate_file, key_file: absolute paths or None; relative ones are taken from the kubeconfig's folder.
    other_login: the user logs in without a certificate (a token, a program, a password).
    """

    def __init__(self, text, path):
        """Take the file's content (str or bytes) and its path. Raises PkiError: not YAML, no context, no user, bad base64."""
        self.path = path
        self._text = text
        self.data = load_mapping(text, path)
        self._context()
        self.server = _text(self._cluster.get("server"))
        self.ca_data = self._embedded(self._cluster, "certificate-authority-data")
        self.certificate_data = self._embedded(self._user, "client-certificate-data")
        self.key_data = self._embedded(self._user, "client-key-data")
        self.ca_file = self._file(self._cluster, "certificate-authority")
        self.certificate_file = self._file(self._user, "client-certificate")
        self.key_file = self._file(self._user, "client-key")
        self.other_login = not (self.certificate_data or self.certificate_file) and any(self._user.get(key) for key in _LOGINS)

    def _context(self):
        name = _text(self.data.get("current-context"))
        contexts = self._named("contexts", "context")
        if not name and len(contexts) == 1:
            name = next(iter(contexts))
        if name not in contexts:
            raise PkiError("the current context %r is not among its contexts" % (name,), path=self.path, fix=_FIX)
        context = contexts[name][1]
        self.cluster, self.user = _text(context.get("cluster")), _text(context.get("user"))
        clusters, users = self._named("clusters", "cluster"), self._named("users", "user")
        if self.cluster not in clusters:
            raise PkiError("there is no cluster named %r in it" % (self.cluster,), path=self.path, fix=_FIX)
        if self.user not in users:
            raise PkiError("there is no user named %r in it" % (self.user,), path=self.path, fix=_FIX)
        self._cluster_index, self._cluster = clusters[self.cluster]
        self._user_index, self._user = users[self.user]

    def _named(self, key, inner):
        entries = self.data.get(key)
        if not isinstance(entries, list):
            raise PkiError("has no list of %s" % key, path=self.path, fix=_FIX)
        found = {}
        for index, entry in enumerate(entries):
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                body = entry.get(inner)
                found.setdefault(entry["name"], (index, body if isinstance(body, dict) else {}))
        return found

    def _embedded(self, mapping, key):
        value = mapping.get(key)
        if not value:
            return None
        if not isinstance(value, str):
            raise PkiError("%s is not a string" % key, path=self.path, fix=_FIX)
        return _from_base64(value, key, self.path)

    def _file(self, mapping, key):
        value = mapping.get(key)
        return os.path.join(os.path.dirname(self.path), value) if isinstance(value, str) and value else None

    def _edited(self, changes):
        document = _editable(self._text, self.path)
        for place, value in changes:
            document.set(place, value)
        return Kubeconfig(document.text, self.path)

    def with_client(self, certificate_pem, key_pem):
        """Give a Kubeconfig with another embedded client certificate and key (PEM bytes); all else stays as it is."""
        user = ("users", self._user_index, "user")
        return self._edited([(user + ("client-certificate-data",), base64.b64encode(certificate_pem).decode()),
                             (user + ("client-key-data",), base64.b64encode(key_pem).decode())])

    def with_client_file(self, path):
        """Give a Kubeconfig whose client certificate and key lie in one file (str), as the kubelet's do; nothing embedded."""
        user = ("users", self._user_index, "user")
        document = _editable(self._text, self.path)
        for key in ("client-certificate", "client-key"):
            document.set(user + (key,), path)
        for key in ("client-certificate-data", "client-key-data"):
            # client-go prefers what is embedded over what is named (tools/clientcmd/client_config.go).
            if document.get(user + (key,), default=document) is not document:
                document.remove(user + (key,))
        return Kubeconfig(document.text, self.path)

    def with_ca(self, ca_pem):
        """Give a Kubeconfig that trusts another CA bundle (PEM bytes), embedded."""
        place = ("clusters", self._cluster_index, "cluster", "certificate-authority-data")
        return self._edited([(place, base64.b64encode(ca_pem).decode())])

    def with_server(self, server):
        """Give a Kubeconfig that speaks to another server (URL)."""
        return self._edited([(("clusters", self._cluster_index, "cluster", "server"), server)])

    def __bytes__(self):
        return self._text if isinstance(self._text, bytes) else self._text.encode("utf-8")


def _editable(text, path):
    from .yamltext import YamlText  # only here: who reads alone does without the editor
    return YamlText(text, path)


def build(server, ca_pem, user, certificate_pem, key_pem, cluster="kubernetes"):
    """Give the text of a kubeconfig as kubeadm writes it (cmd/kubeadm/app/util/kubeconfig): everything embedded."""
    from .yamltext import quote

    context = quote("%s@%s" % (user, cluster))
    user, cluster = quote(user), quote(cluster)
    return """apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: %s
    server: %s
  name: %s
contexts:
- context:
    cluster: %s
    user: %s
  name: %s
current-context: %s
kind: Config
preferences: {}
users:
- name: %s
  user:
    client-certificate-data: %s
    client-key-data: %s
""" % (base64.b64encode(ca_pem).decode(), quote(server), cluster, cluster, user, context, context, user,
       base64.b64encode(certificate_pem).decode(), base64.b64encode(key_pem).decode())


def _text(value):
    return value if isinstance(value, str) else None


def _from_base64(text, what, path):
    try:
        # Go's decoder passes over line breaks (encoding/base64).
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (AttributeError, ValueError, TypeError):
        raise PkiError("%s is not base64" % what, path=path, fix="Restore the file from a backup, or issue it again.") from None
