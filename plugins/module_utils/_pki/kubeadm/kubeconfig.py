# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and edit a kubeconfig without losing anything it holds (client-go tools/clientcmd/api/v1)."""

from __future__ import annotations

import base64
import contextlib
import os
from urllib.parse import urlsplit

from ..errors import PkiError
from ..fileio.reading import read
from ..fileio.yaml_load import load_mapping

_FIX = "Correct it, or restore it from a backup."

# How else a user may log in (client-go tools/clientcmd/api/v1: AuthInfo).
_LOGINS = ("token", "tokenFile", "exec", "auth-provider", "username")

# The kubeconfigs of administrators: users merge other clusters into them and change their current context.
ADMIN_NAMES = ("admin.conf", "super-admin.conf")

# What tells the cluster of a node: its CA file, and the kubeconfigs that its components use through their current context.
_CA_FILES = ("pki/ca.crt", "ssl/ca.crt")

_COMPONENT_NAMES = ("kubelet.conf", "controller-manager.conf", "scheduler.conf")

# Names that the API servers of all clusters have.
_EVERYWHERE = (
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)

_MAKE_AGAIN = "Move it to another path, then run the playbook renew_leaves with its name in kubepki_names: it is made again."


class OtherClusterError(PkiError):
    """A kubeconfig of kubeadm's holds entries of several clusters, and those of this node's cluster cannot be told, or used."""


class Kubeconfig:
    """A kubeconfig, seen through its current context.

    One exception: an admin.conf or super-admin.conf beside the files of a node that holds several clusters, users or contexts
    is seen through the context of this node's cluster, whatever its current context is. That context is found by the CA that
    its cluster entry trusts, else by its server.

    server: str. user, cluster, context: names (context may be None). current: the name of the current context or None.
    ca_data, certificate_data, key_data: PEM bytes or None.
    ca_file, certificate_file, key_file: absolute paths or None; relative ones are taken from the kubeconfig's folder.
    other_login: the user logs in without a certificate (a token, a program, a password).
    """

    def __init__(self, text, path, context=None, plain=False):
        """Take the file's content (str or bytes), its path, and the name of a context to use instead of the current one.

        plain: whether it is a file of another user (yaml_load). Raises PkiError: not YAML, no context, no user, bad base64.
        Raises OtherClusterError.
        """
        self.path = path
        self._text = text
        self.data = load_mapping(text, path, plain=plain)
        self._context(context)
        self.server = _text(self._cluster.get("server"))
        self.ca_data = self._embedded(self._cluster, "certificate-authority-data")
        self.certificate_data = self._embedded(self._user, "client-certificate-data")
        self.key_data = self._embedded(self._user, "client-key-data")
        self.ca_file = self._file(self._cluster, "certificate-authority")
        self.certificate_file = self._file(self._user, "client-certificate")
        self.key_file = self._file(self._user, "client-key")
        self.other_login = not (self.certificate_data or self.certificate_file) and any(self._user.get(key) for key in _LOGINS)

    def _context(self, name):
        self.current = _text(self.data.get("current-context"))
        contexts = self._named("contexts", "context")
        clusters, users = self._named("clusters", "cluster"), self._named("users", "user")
        if name is None and os.path.basename(self.path) in ADMIN_NAMES and max(map(len, (contexts, clusters, users))) > 1:
            name = self._own_context(contexts, clusters, users)
        name = name or self.current
        if not name and len(contexts) == 1:
            name = next(iter(contexts))
        if name not in contexts:
            raise PkiError("the current context %r is not among its contexts" % (name,), path=self.path, fix=_FIX)
        context = contexts[name][1]
        self.context, self.cluster, self.user = name, _text(context.get("cluster")), _text(context.get("user"))
        if self.cluster not in clusters:
            raise PkiError("there is no cluster named %r in it" % (self.cluster,), path=self.path, fix=_FIX)
        if self.user not in users:
            raise PkiError("there is no user named %r in it" % (self.user,), path=self.path, fix=_FIX)
        self._cluster_index, self._cluster = clusters[self.cluster]
        self._user_index, self._user = users[self.user]

    def _own_context(self, contexts, clusters, users):
        """Return the name of the context that belongs to the cluster of this node, None where nothing tells that cluster."""
        own = _identity(self.path)
        if not own.known:
            return None
        trusting = {name for name, (_index, body) in clusters.items() if own.signers & self._trusted_keys(body)}
        serving = {name for name, (_index, body) in clusters.items() if own.serves(body.get("server"))}
        ours = trusting or serving
        pairs = {name: (_text(body.get("cluster")), _text(body.get("user"))) for name, (_index, body) in contexts.items()}
        found = [name for name, (cluster, user) in pairs.items() if cluster in ours and user in users]
        if len({pairs[name][0] for name in found}) > 1:
            # Several entries trust this CA, which may be one that clusters share: the endpoint decides. Without the CA, an
            # endpoint that several entries name decides nothing: private addresses are not unique.
            found = [name for name in found if trusting and pairs[name][0] in serving]
        if self.current in found:
            found = [self.current]
        if not found:
            raise OtherClusterError(
                "it holds several contexts, and none clearly belongs to the cluster of this node, by the CA "
                "that its cluster entry trusts or by its server",
                path=self.path,
                fix=_MAKE_AGAIN,
            )
        if len({pairs[name][1] for name in found}) > 1:
            raise OtherClusterError(
                "its current context is of another cluster, and contexts of several users belong to the cluster of this node "
                "(%s)" % (", ".join(sorted(found))),
                path=self.path,
                fix="Choose one: kubectl --kubeconfig=%s config use-context NAME, then run again." % self.path,
            )
        user = pairs[found[0]][1]
        others = sorted(name for name, pair in pairs.items() if pair[1] == user and pair[0] not in ours)
        if others and not own.signed(self._embedded(users[user][1], "client-certificate-data")):
            raise OtherClusterError(
                "its user %s is used for another cluster as well (context %s), and no CA of this cluster signed its certificate"
                % (user, ", ".join(others)),
                path=self.path,
                fix=_MAKE_AGAIN,
            )
        return found[0]

    def _trusted_keys(self, cluster):
        """Return the key digests of the CAs that a cluster entry trusts, as a set; empty where they cannot be read."""
        try:
            data = self._embedded(cluster, "certificate-authority-data")
            path = self._file(cluster, "certificate-authority")
            return _keys(data or (read(path) if path else b""))
        except PkiError:
            return set()

    def check_cluster(self):
        """Raise OtherClusterError where neither its CA nor its server is of the cluster of the node on which it lies."""
        own, trusted = _identity(self.path), self._trusted_keys(self._cluster)
        if (
            own.keys
            and own.servers
            and trusted
            and not trusted & own.keys
            and _plain(self.server) not in own.servers
            and not own.serves(self.server)
        ):
            raise OtherClusterError(
                "its CA and its server %s are not those of the cluster of this node" % self.server,
                path=self.path,
                fix=_MAKE_AGAIN,
            )

    def embedded(self):
        """Return what all entries hold, of whatever context: ([CA bundles], [client certificates]) as PEM bytes, each once."""
        found = []
        for kind, inner, key in (
            ("clusters", "cluster", "certificate-authority-data"),
            ("users", "user", "client-certificate-data"),
        ):
            values, texts = [], [body.get(key) for _index, body in self._named(kind, inner).values()]
            for text in dict.fromkeys(text for text in texts if isinstance(text, str)):  # aliases can repeat a long one
                with contextlib.suppress(PkiError):
                    values.append(_from_base64(text, key, self.path))
            found.append(list(dict.fromkeys(filter(None, values))))
        return tuple(found)

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
        return Kubeconfig(document.text, self.path, self.context)

    def with_client(self, certificate_pem, key_pem):
        """Return a Kubeconfig with another embedded client certificate and key (PEM bytes); all else stays as it is."""
        user = ("users", self._user_index, "user")
        return self._edited(
            [
                (user + ("client-certificate-data",), base64.b64encode(certificate_pem).decode()),
                (user + ("client-key-data",), base64.b64encode(key_pem).decode()),
            ]
        )

    def with_client_file(self, path):
        """Return a Kubeconfig whose client certificate and key lie in one file (str), as the kubelet's do; nothing embedded."""
        user = ("users", self._user_index, "user")
        document = _editable(self._text, self.path)
        for key in ("client-certificate", "client-key"):
            document.set(user + (key,), path)
        for key in ("client-certificate-data", "client-key-data"):
            # client-go prefers what is embedded over what is named (tools/clientcmd/client_config.go).
            if document.get(user + (key,), default=document) is not document:
                document.remove(user + (key,))
        return Kubeconfig(document.text, self.path, self.context)

    def with_ca(self, ca_pem):
        """Return a Kubeconfig that trusts another CA bundle (PEM bytes), embedded.

        Other cluster entries that hold exactly the same CA belong to the same cluster (another address), and get it as well.
        """
        before, encoded = self._cluster.get("certificate-authority-data"), base64.b64encode(ca_pem).decode()
        same = [
            index
            for index, body in self._named("clusters", "cluster").values()
            if index == self._cluster_index or (before and body.get("certificate-authority-data") == before)
        ]
        return self._edited([(("clusters", index, "cluster", "certificate-authority-data"), encoded) for index in same])

    def with_server(self, server):
        """Return a Kubeconfig that speaks to another server (URL)."""
        return self._edited([(("clusters", self._cluster_index, "cluster", "server"), server)])

    def __bytes__(self):
        return self._text if isinstance(self._text, bytes) else self._text.encode("utf-8")


class _Identity:
    """What the files of a node say about its cluster.

    signers: key digests of the CAs that sign. keys: of all CAs that are trusted. servers: URLs. hosts: names and addresses of
    its API server. cas: [Certificate].
    """

    def __init__(self):
        self.signers, self.servers, self.hosts, self.cas = set(), set(), set(), []

    @property
    def keys(self):
        return {ca.key_sha256 for ca in self.cas}

    @property
    def known(self):
        return bool(self.cas or self.servers)

    def serves(self, server):
        """Return whether a URL is an endpoint of this cluster. A loopback address is one of every node, and proves nothing."""
        host = _host(server)
        return host is not None and host not in _EVERYWHERE and (_plain(server) in self.servers or host in self.hosts)

    def signed(self, pem):
        """Return whether one of the CAs signed the certificate in PEM bytes (or None)."""
        from ..x509.x509_read import parse_certificate

        try:
            certificate = parse_certificate(pem or b"")
        except PkiError:
            return False
        return any(certificate.verified_by_key(ca) for ca in self.cas)


def _identity(path):
    """Return the _Identity of the cluster to which the other files in a kubeconfig's directory belong."""
    from ..x509.x509_read import parse_certificates

    found, bundles = _Identity(), []
    directory = os.path.dirname(path)
    for name in _CA_FILES:
        with contextlib.suppress(PkiError):
            bundles.append(read(os.path.join(directory, name)))
        with contextlib.suppress(PkiError):
            served = os.path.join(directory, os.path.dirname(name), "apiserver.crt")
            found.hosts.update(san.partition(":")[2].lower() for san in parse_certificates(read(served))[0].sans)
    for name in _COMPONENT_NAMES:
        other = os.path.join(directory, name)
        if name != os.path.basename(path):
            with contextlib.suppress(PkiError):
                config = Kubeconfig(read(other), other)
                bundles.append(config.ca_data or (read(config.ca_file) if config.ca_file else b""))
                found.servers.update(filter(None, [_plain(config.server)]))
    for data in bundles:
        with contextlib.suppress(PkiError):
            bundle = parse_certificates(data, path)
            found.cas += bundle
            found.signers.add(bundle[0].key_sha256)  # the first signs; others may be trusted by many clusters
    return found


def _host(server):
    """Return the host of a URL in lower case, None where there is none."""
    try:
        return urlsplit(server).hostname if isinstance(server, str) else None
    except ValueError:
        return None


def _plain(server):
    return server.rstrip("/") if isinstance(server, str) else None


def _keys(data):
    from ..x509.x509_read import parse_certificates  # only here: most readers do without

    return {ca.key_sha256 for ca in parse_certificates(data)}


def _editable(text, path):
    from ..fileio.yaml_edit import YamlText  # only here: who reads alone does without the editor

    return YamlText(text, path)


def build(server, ca_pem, user, certificate_pem, key_pem, cluster="kubernetes"):
    """Return the text of a kubeconfig as kubeadm writes it (cmd/kubeadm/app/util/kubeconfig): everything embedded."""
    from ..fileio.yaml_edit import quote

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
""" % (
        base64.b64encode(ca_pem).decode(),
        quote(server),
        cluster,
        cluster,
        user,
        context,
        context,
        user,
        base64.b64encode(certificate_pem).decode(),
        base64.b64encode(key_pem).decode(),
    )


def _text(value):
    return value if isinstance(value, str) else None


def _from_base64(text, what, path):
    try:
        # Go's decoder passes over line breaks (encoding/base64).
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (AttributeError, ValueError, TypeError):
        raise PkiError("%s is not base64" % what, path=path, fix="Restore the file from a backup, or issue it again.") from None
