# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where one node keeps what: the paths of its certificates, as the cluster's own configuration says them.

Paths come from the flags in the static pods' manifests, from the kubelet's command line (its process, else its systemd
unit) and its configuration file; the catalogue's defaults fill what these leave out (as the components' own defaults do).
"""

from __future__ import annotations

import os
import socket

from ..errors import PkiError
from ..fileio import reading, yaml_load
from ..host import processes
from . import addresses, catalogue, kubelet_settings, manifests
from .kubeconfig import Kubeconfig

CONTROL_PLANE, WORKER, ETCD, NONE = "control-plane", "worker", "etcd", "none"

ETCD_NAMES = ("etcd-ca", "etcd-server", "etcd-peer", "etcd-healthcheck-client", "apiserver-etcd-client")

_ADVERTISED = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"


class Layout:
    """Where this node keeps what, as its own configuration says.

    node_name: str. role: "control-plane", "worker", "etcd" (an external etcd node) or "none". kubernetes_dir, pki_dir,
    manifest_dir, kubelet_dir: str. advertise_address: str or None. control_plane_endpoint: "host:port" or None.
    paths: {catalogue name: (path of certificate or kubeconfig, path of key or None)}. flags: {component: {"--flag": str}}.
    manifests: {component: path}; parsed: {component: manifests.Manifest}. foreign: [path] in the manifest directory.
    shared: {name of a CA: name of the CA that it is as well, and with whose key it signs}.
    all_manifests: [manifests.Manifest] of
    every pod. problems: [PkiError] of what could not be read. sa_key: path or None; sa_pub: [paths].
    kubelet: {"running", "flags", "config_path", "config", "kubeconfig_path", "bootstrap_kubeconfig_path", "cert_dir",
    "ca_file", "serving_cert", "serving_key", "rotate", "server_bootstrap", "address", "port"}.
    """

    def __init__(self, kubernetes_dir, kubelet_dir, root):
        self.root = root
        self.kubernetes_dir = self.at(kubernetes_dir)
        self.kubelet_dir = self.at(kubelet_dir)
        self.pki_dir = os.path.join(self.kubernetes_dir, "pki")
        self.manifest_dir = os.path.join(self.kubernetes_dir, "manifests")
        self.role = NONE
        self.advertise_address = None
        self.control_plane_endpoint = None
        self.paths, self.flags, self.manifests, self.parsed = {}, {}, {}, {}
        self.foreign, self.problems = [], []
        self.sa_key, self.sa_pub = None, []
        self.kubelet, self.shared = {}, {}
        self.all_manifests = []
        self.image_minor = None
        self.reader = Reader(root)
        self.runtime = None  # what looks at the node's processes (file_users), once that was needed
        self._node_name = None

    def at(self, path):
        """Return a path of the node as a path of this process: the same, unless the node's root lies elsewhere."""
        return os.path.join(self.root, path.lstrip("/")) if self.root and not path.startswith(self.root) else path

    def place(self, path):
        """Return where a file of the catalogue (catalogue.Entry.path, .key) lies: below pki_dir what begins with pki/."""
        return os.path.join(self.kubernetes_dir, path) if path[:4] != "pki/" else os.path.join(self.pki_dir, path[4:])

    @property
    def node_name(self):
        """This node's name in the cluster: from the kubelet's flags, else its client certificate, else the host's."""
        if self._node_name is None:
            self._node_name = _node_name(self)
        return self._node_name

    @property
    def external_etcd(self):
        """Where this node's apiserver finds etcd (the value of --etcd-servers) when that is no static pod here, else None."""
        servers = self.flags.get("kube-apiserver", {}).get("--etcd-servers")
        return servers if servers and "etcd" not in self.parsed else None

    @property
    def minor(self):
        """Kubernetes 1.<minor> as int: from the manifests' images, else from the kubelet, else None."""
        if self.image_minor is None and not self.root:
            self.image_minor = processes.own().kubelet_minor()
        return self.image_minor


class Reader:
    """Reads and parses each file once. What parses certificates is compiled when the first is: a layout can do without."""

    def __init__(self, root=None):
        self.root = root
        self._seen = {}

    def _once(self, kind, path, parse, *arguments, of_root=False):
        key = (kind, path)
        if key not in self._seen:
            try:
                self._seen[key] = (parse(reading.read(path, of_root=of_root), path, *arguments), None)
            except PkiError as error:
                self._seen[key] = (None, error)
        value, problem = self._seen[key]
        if problem is not None:
            raise problem
        return value

    def kubeconfig(self, path):
        """Return a Kubeconfig. Raises PkiError."""
        return self._once("kubeconfig", path, Kubeconfig)

    def certificates(self, path):
        """Return [Certificate]. Raises PkiError."""
        from ..x509.x509_read import parse_certificates

        return self._once("certificates", path, parse_certificates)

    def private_key(self, path, likely=None):
        """Return a private key's key_sha256. likely: the Certificate that it should belong to. Raises PkiError."""
        from ..x509.x509_read import private_key_digest

        return self._once("key", path, private_key_digest, likely)

    def public_keys(self, path):
        """Return [key_sha256]. Raises PkiError."""
        from ..x509.x509_read import public_key_digests

        return self._once("public", path, public_key_digests)

    def mapping(self, path):
        """Return a YAML mapping that only root can have written. Raises PkiError."""
        return self._once("yaml", path, yaml_load.load_mapping, of_root=not self.root)


def find_layout(kubernetes_dir=catalogue.KUBERNETES_DIR, kubelet_dir=catalogue.KUBELET_DIR, root=None):
    """Find where this node keeps its certificates. Gives a Layout; what cannot be read is in its problems.

    root: a directory that holds the node's file system, when it is not this process's own (then no process is looked at).
    """
    layout = Layout(kubernetes_dir, kubelet_dir, root)
    kubelet_settings.find_kubelet(layout)
    found, layout.foreign, problems = manifests.read_manifest_dir(layout.manifest_dir)
    layout.problems.extend(problems)
    layout.parsed = {name: manifest for name, manifest in manifests.effective(found).items() if name in catalogue.STATIC_PODS}
    layout.all_manifests = found
    layout.manifests = {name: manifest.path for name, manifest in layout.parsed.items()}
    layout.flags = {name: manifest.flags for name, manifest in layout.parsed.items()}
    minors = [manifest.minor for manifest in layout.parsed.values() if manifest.minor is not None]
    layout.image_minor = max(minors) if minors else None
    _find_pki(layout)
    layout.role = _role(layout)
    layout.paths = _paths(layout)
    _find_shared(layout)
    _service_account(layout)
    _addresses(layout)
    return layout


def _find_pki(layout):
    # kubeadm's certificatesDir is on a node in these flags only, and in all of them.
    flags, known = layout.flags.get("kube-apiserver", {}), catalogue.CERTIFICATE_FLAGS["kube-apiserver"]
    directory = os.path.dirname(flags.get("--client-ca-file", ""))
    if (
        directory
        and "--tls-cert-file" in flags
        and all(
            flags[flag] in (directory + catalogue.BY_NAME[name].path[3:], flags["--client-ca-file"])
            for flag, name in known.items()
            if flag in flags and name not in ETCD_NAMES
        )
    ):
        directory = layout.at(directory)
        # kubespray's pki is a link to ssl, and all flags name ssl: one spelling for all paths of a node.
        if os.path.islink(layout.pki_dir) or os.path.realpath(directory) != os.path.realpath(layout.pki_dir):
            layout.pki_dir = directory


def _role(layout):
    exists = os.path.lexists
    if (
        "kube-apiserver" in layout.parsed
        or exists(os.path.join(layout.pki_dir, "apiserver.crt"))
        or exists(os.path.join(layout.kubernetes_dir, "controller-manager.conf"))
    ):
        return CONTROL_PLANE
    if "etcd" in layout.parsed:
        return ETCD
    # Certificates of an etcd beside a kubelet that is a node's own do not make that node less of a worker.
    if exists(os.path.join(layout.pki_dir, "etcd", "server.crt")) and not exists(layout.kubelet["kubeconfig_path"]):
        return ETCD
    if (
        exists(layout.kubelet["kubeconfig_path"])
        or exists(layout.kubelet["config_path"])
        or exists(layout.kubelet["bootstrap_kubeconfig_path"])
    ):
        return WORKER
    return NONE


def _paths(layout):
    named = {}
    for flags_by_component, index in (
        (catalogue.CERTIFICATE_FLAGS, 0),
        (catalogue.KUBECONFIG_FLAGS, 0),
        (catalogue.KEY_FLAGS, 1),
    ):
        for component, flags in flags_by_component.items():
            for flag, name in flags.items():
                value = layout.flags.get(component, {}).get(flag)
                if value:
                    # The first to name a file wins: kube-apiserver's view of etcd's CA over etcd's own.
                    named.setdefault(name, {}).setdefault(index, layout.at(value))
    paths = {}
    for entry in catalogue.CATALOGUE:
        if not _belongs(layout, entry, named):
            continue
        if entry.kind == catalogue.KUBELET:
            paths[entry.name] = _kubelet_path(layout, entry)
            continue
        path = named.get(entry.name, {}).get(0) or layout.place(entry.path)
        if layout.role == WORKER:
            path = layout.kubelet["ca_file"] or path
        key = named.get(entry.name, {}).get(1) or (layout.place(entry.key) if entry.key else None)
        paths[entry.name] = (path, key)
    return {name: pair for name, pair in paths.items() if pair}


def _find_shared(layout):
    """Find the CAs that are another CA of this node under a second name, and let them sign with its key.

    The flags of both name one file, or the one is a copy of the other's certificate without a key of its own.
    """
    for name in catalogue.CA_NAMES[1:]:
        path, key = layout.paths.get(name) or (None, None)
        for other in catalogue.CA_NAMES:
            other_path, other_key = layout.paths.get(other) or (None, None)
            if other == name or other in layout.shared or not (path and other_path):
                continue
            one_file = os.path.realpath(path) == os.path.realpath(other_path)
            if one_file or (not os.path.lexists(key) and os.path.lexists(other_key) and _same_ca(layout, path, other_path)):
                layout.paths[name], layout.shared[name] = (path, other_key), other
                break


def _same_ca(layout, *paths):
    try:
        one, other = (layout.reader.certificates(path)[0] for path in paths)
    except PkiError:
        return False  # a finding of its own
    return (one.key_sha256, one.subject) == (other.key_sha256, other.subject)


def separate_ca(layout, name):
    """Return how a CA that is the cluster's CA as well gets a key and certificate of its own: sentences for the user."""
    entry, (source, source_key) = catalogue.BY_NAME[name], layout.paths["ca"]
    target, target_key = layout.place(entry.path), layout.place(entry.key)
    if os.path.lexists(target_key) and name not in layout.shared:
        return (
            "Run the playbook rotate_ca with kubepki_cas=%s: it gets a CA of its own." % name
            if not layout.external_etcd
            else "The tool that set etcd up replaces that CA."
        )
    copies = [
        pair
        for pair in ((source, target), (source_key, target_key))
        if os.path.realpath(pair[1]) not in (os.path.realpath(pair[0]), os.path.realpath(layout.paths[name][0]))
    ]
    flags = {
        "etcd-ca": "--trusted-ca-file and --peer-trusted-ca-file of etcd and in --etcd-cafile of kube-apiserver",
        "front-proxy-ca": "--requestheader-client-ca-file of kube-apiserver and kube-controller-manager",
    }
    then = "Then run rotate_ca with kubepki_cas=%s, which replaces the copy by a CA of its own." % name
    if name == "etcd-ca" and layout.external_etcd:
        then = "The tool that set etcd up replaces that CA."
    return (
        "On one control-plane node after the other copy %s (keys with mode 0600; move away what is there), and name %s "
        "in %s: the kubelet restarts these pods. %s"
        % (" and ".join("%s to %s" % pair for pair in copies), target, flags[name], then)
    )


def _belongs(layout, entry, named):
    """Return whether a node of this role has this certificate (kubeadm certs check-expiration lists the same)."""
    if entry.kind == catalogue.KUBELET:
        return layout.role != NONE and os.path.lexists(layout.kubelet["kubeconfig_path"])
    if layout.role == CONTROL_PLANE:
        if entry.name == "super-admin.conf":
            return (layout.image_minor or 0) >= 29 or os.path.lexists(layout.place(entry.path))
        if entry.name not in ETCD_NAMES or "etcd" in layout.parsed:
            return True
        # With an external etcd kubeadm keeps no etcd certificates but those the apiserver connects with.
        local = os.path.lexists(layout.place("pki/etcd/server.crt"))
        return local or entry.name in named
    if layout.role == ETCD:
        return entry.name in ETCD_NAMES and (entry.name != "apiserver-etcd-client" or os.path.lexists(layout.place(entry.path)))
    return layout.role == WORKER and entry.name == "ca"


def _kubelet_path(layout, entry):
    if entry.name == "kubelet-serving":
        return (layout.kubelet["serving_cert"], layout.kubelet["serving_key"]) if layout.kubelet["serving_cert"] else None
    try:
        config = layout.reader.kubeconfig(layout.kubelet["kubeconfig_path"])
    except PkiError:
        return (os.path.join(layout.kubelet["cert_dir"], "kubelet-client-current.pem"), None)
    if config.certificate_file:
        path = layout.at(config.certificate_file)
        key = layout.at(config.key_file) if config.key_file else None
        return (path, key if key != path else None)
    if config.certificate_data:
        return (layout.kubelet["kubeconfig_path"], None)
    return (os.path.join(layout.kubelet["cert_dir"], "kubelet-client-current.pem"), None)


def _service_account(layout):
    if layout.role != CONTROL_PLANE:
        return
    apiserver = layout.parsed.get("kube-apiserver")
    signing = layout.flags.get("kube-apiserver", {}).get("--service-account-signing-key-file") or layout.flags.get(
        "kube-controller-manager", {}
    ).get("--service-account-private-key-file")
    layout.sa_key = layout.at(signing) if signing else os.path.join(layout.pki_dir, "sa.key")
    named = apiserver.flag_values.get("--service-account-key-file", []) if apiserver else []
    layout.sa_pub = [layout.at(path) for path in named] or [os.path.join(layout.pki_dir, "sa.pub")]


def _addresses(layout):
    apiserver = layout.flags.get("kube-apiserver", {})
    etcd = layout.flags.get("etcd", {})
    address = apiserver.get("--advertise-address")
    if not address and "kube-apiserver" in layout.parsed:
        endpoint = layout.parsed["kube-apiserver"].annotations.get(_ADVERTISED)
        address = addresses.split_host_port(endpoint)[0] if endpoint else None
    if not address and etcd.get("--initial-advertise-peer-urls"):
        address = addresses.split_host_port(etcd["--initial-advertise-peer-urls"].split(",")[0])[0]
    if not address:
        address = (layout.kubelet["flags"].get("--node-ip") or "").split(",")[0]
    layout.advertise_address = address or None
    for path in (os.path.join(layout.kubernetes_dir, "admin.conf"), layout.kubelet["kubeconfig_path"]):
        try:
            server = layout.reader.kubeconfig(path).server
        except PkiError:
            continue
        host, port = addresses.split_host_port(server or "")
        if host:
            layout.control_plane_endpoint = addresses.join_host_port(host, port or 443)
            break


def _node_name(layout):
    name = layout.kubelet["flags"].get("--hostname-override")
    if name:
        return name.strip().lower()
    path = (layout.paths.get("kubelet-client") or (None, None))[0]
    try:
        config = layout.reader.kubeconfig(layout.kubelet["kubeconfig_path"])
        if config.user and config.user.startswith("system:node:"):
            return config.user[len("system:node:") :]
        if config.certificate_file:
            common_name = layout.reader.certificates(path)[0].common_name or ""
            if common_name.startswith("system:node:"):
                return common_name[len("system:node:") :]
    except PkiError:
        pass  # a finding of its own; the host's name is what the kubelet would take
    return socket.gethostname().strip().lower()
