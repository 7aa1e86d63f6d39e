# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the kubelet of a node keeps what: from its command line, its systemd unit and its configuration file."""

from __future__ import annotations

import os
import re
import shlex

from ..errors import PkiError
from ..fileio import reading
from ..host import processes, systemd
from . import addresses, catalogue, manifests

_UNIT_DIRECTORIES = ("/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system")

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def find_kubelet(layout):
    command = _running_kubelet(layout)
    flags = {flag: values[-1] for flag, values in manifests.parse_flags(command or _unit_command(layout)).items()}
    config_path = layout.at(flags["--config"]) if flags.get("--config") else os.path.join(layout.kubelet_dir, "config.yaml")
    config = {}
    try:
        config = layout.reader.mapping(config_path)
    except PkiError as error:
        if os.path.lexists(config_path):
            layout.problems.append(error)
    directory = layout.at(flags["--root-dir"]) if flags.get("--root-dir") else layout.kubelet_dir
    cert_dir = layout.at(flags["--cert-dir"]) if flags.get("--cert-dir") else os.path.join(directory, "pki")
    manifest_dir = flags.get("--pod-manifest-path") or config.get("staticPodPath")
    if isinstance(manifest_dir, str) and manifest_dir:
        layout.manifest_dir = layout.at(manifest_dir.rstrip("/"))
    x509_config = _sub(_sub(config, "authentication"), "x509")
    serving, key = _serving_pair(layout, flags, config, cert_dir)

    def path(flag, default):
        return layout.at(flags[flag]) if flags.get(flag) else os.path.join(layout.kubernetes_dir, default)

    ca_file = flags.get("--client-ca-file") or x509_config.get("clientCAFile")
    layout.kubelet = {
        "running": bool(command),
        "flags": flags,
        "config_path": config_path,
        "config": config,
        "kubeconfig_path": path("--kubeconfig", "kubelet.conf"),
        "bootstrap_kubeconfig_path": path("--bootstrap-kubeconfig", "bootstrap-kubelet.conf"),
        "cert_dir": cert_dir,
        "ca_file": layout.at(ca_file) if isinstance(ca_file, str) and ca_file else None,
        "serving_cert": serving,
        "serving_key": key,
        "rotate": bool(config.get("rotateCertificates")) or flags.get("--rotate-certificates") == "true",
        "server_bootstrap": _server_bootstrap(flags, config),
        "address": flags.get("--address") or _string(config.get("address")) or "0.0.0.0",  # noqa: S104
        "port": _integer(flags.get("--port") or config.get("port"), 10250),
    }


def healthz_url(layout):
    """Return the URL of the kubelet's own health endpoint, or None when it is switched off (healthzPort: 0)."""
    config, flags = (layout.kubelet.get(name) or {} for name in ("config", "flags"))
    port = str(flags.get("--healthz-port") or config.get("healthzPort", 10248))
    host = addresses.local_address(str(flags.get("--healthz-bind-address") or config.get("healthzBindAddress") or "127.0.0.1"))
    return None if port == "0" or not port.isdigit() else "http://%s/healthz" % addresses.join_host_port(host, int(port))


def serving_address(layout):
    """Return (host, port) at which this node reaches its kubelet's API."""
    return addresses.local_address(layout.kubelet.get("address") or ""), int(layout.kubelet.get("port") or 10250)


def _string(value):
    return value if isinstance(value, str) else None


def _serving_pair(layout, flags, config, cert_dir):
    certificate = flags.get("--tls-cert-file") or config.get("tlsCertFile")
    key = flags.get("--tls-private-key-file") or config.get("tlsPrivateKeyFile")
    if isinstance(certificate, str) and certificate:
        return layout.at(certificate), layout.at(key) if isinstance(key, str) and key else None
    current = os.path.join(cert_dir, "kubelet-server-current.pem")
    if _server_bootstrap(flags, config):
        return current, None
    return os.path.join(cert_dir, "kubelet.crt"), os.path.join(cert_dir, "kubelet.key")


def _server_bootstrap(flags, config):
    return bool(config.get("serverTLSBootstrap")) or flags.get("--rotate-server-certificates") == "true"


def _running_kubelet(layout):
    """Return the command line of the kubelet that runs on this node, or None."""
    if layout.root:
        return None
    try:
        command = processes.own().kubelet().command
    except PkiError as error:
        usual = (layout.kubernetes_dir, layout.kubelet_dir) == (catalogue.KUBERNETES_DIR, catalogue.KUBELET_DIR)
        path = layout.place("kubelet.conf")
        if isinstance(error, systemd.KubeletNotIdentifiedError) and usual and os.path.lexists(path):
            # Its flags are not known, and so neither are the paths that they name.
            layout.problems.append(
                PkiError("the kubelet of this node cannot be identified: " + error.message, path=path, fix=error.fix)
            )
        return None
    return command if _is_of(layout, command) else None


def _is_of(layout, command):
    flags = manifests.parse_flags(command)
    named = (flags.get("--kubeconfig", [""])[-1], flags.get("--config", [""])[-1])
    return any(path.startswith((layout.kubernetes_dir + "/", layout.kubelet_dir + "/")) for path in named)


def _unit_command(layout):
    """Return the command line that the kubelet's systemd unit would start (for a kubelet that does not run)."""
    texts = []
    for directory in _UNIT_DIRECTORIES:
        texts.append(layout.at(directory + "/kubelet.service"))
        drop_ins = layout.at(directory + "/kubelet.service.d")
        try:
            texts.extend(os.path.join(drop_ins, name) for name in sorted(os.listdir(drop_ins)) if name.endswith(".conf"))
        except OSError:
            continue
    variables, command = {}, ""
    for path in texts:
        for line in _text_of_root(layout, path).replace("\\\n", " ").splitlines():
            key, _equals, value = line.strip().partition("=")
            if key == "ExecStart":
                command = value
            elif key == "Environment":
                variables.update(word.partition("=")[::2] for word in _words(value))
            elif key == "EnvironmentFile":
                variables.update(_environment_file(layout, layout.at(value.lstrip("-"))))
    command = _VARIABLE.sub(lambda match: variables.get(match.group(1), ""), command)
    words = _words(command)
    return words if words and _is_of_unit(layout, words) else []


def _is_of_unit(layout, words):
    return bool(layout.root) or _is_of(layout, words)


def _text_of_root(layout, path):
    """Return the text of a file that only root can write; "" where it cannot be read. Note one that others can write."""
    try:
        return reading.read(path, of_root=not layout.root).decode("utf-8", "replace")
    except PkiError as error:
        if isinstance(error, reading.LooseFile):
            layout.problems.append(error)
        return ""


def _environment_file(layout, path):
    found = {}
    for line in _text_of_root(layout, path).splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            found[key] = " ".join(_words(value))
    return found


def _words(text):
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _sub(mapping, key):
    value = mapping.get(key)
    return value if isinstance(value, dict) else {}


def _integer(value, default):
    try:
        return int(value)
    except (TypeError, ValueError):
        return default
