# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static pod manifests as data: which component, with which flags, from which image; and what lies beside them.

What counts as a manifest is the kubelet's own rule (pkg/kubelet/config/file.go: extractFromDir): every regular file whose
name does not begin with a dot, whatever its extension; of two files for one pod the last by name wins.
"""

from __future__ import annotations

import os
import re
import shlex

from ..errors import PkiError
from ..fileio import reading, yaml_load
from .catalogue import STATIC_PODS

_MINOR = re.compile(r":v?1\.(\d+)\.")

_SHELLS = ("sh", "bash", "dash", "ash")


class Mount:
    """One mount of a hostPath volume in a container of a pod.

    container: its name. host, inside: the absolute path on the node, and that in the container. words: [str], the container's
    command, arguments and values of environment variables, as the manifest has them. runs: False for an init container, which
    ends before the others start.
    """

    def __init__(self, container: str, host: str, inside: str, words: list, runs: bool = True) -> None:
        self.container, self.host, self.inside, self.words, self.runs = container, host, inside, words, runs


class Manifest:
    """One static pod manifest.

    path: its file. name, namespace: the pod's. component: "kube-apiserver", ... of a pod of that name in kube-system; of
    others the label of that name, else the container's name, unless these claim to be such a component. command: the
    container's command and arguments, as one list. flags: {"--flag": last value as str}, and flag_values: {"--flag": [every
    value]}. image: str or None. minor: Kubernetes 1.<minor> from the image's tag, or None.
    probes: {"livenessProbe": {"host", "port", "path", "scheme"}, ...} (only HTTP ones). annotations: {str: str}.
    host_paths: {volume name: path on the node}. mounts: [Mount] of its hostPath volumes.
    user: the uid the component runs as (int; 0 is root). data: the document.
    """

    def __init__(self, data, path):
        self.path = path
        self.data = data
        metadata = _mapping(data.get("metadata"))
        self.name = _text(metadata.get("name"))
        self.namespace = _text(metadata.get("namespace")) or "default"
        self.annotations = {str(key): str(value) for key, value in _mapping(metadata.get("annotations")).items()}
        label = _text(_mapping(metadata.get("labels")).get("component"))
        spec = _mapping(data.get("spec"))
        # A name without a namespace was meant for it.
        own = self.name if self.name in STATIC_PODS and self.namespace in ("kube-system", "default") else None
        container = _main_container(spec, own or label)
        self.component = own or label or _text(container.get("name")) or self.name
        if not own and self.component in STATIC_PODS:
            self.component = self.name if self.name not in STATIC_PODS else "%s/%s" % (self.namespace, self.name)
        self.command = _arguments(container)
        self.flag_values = parse_flags(self.command)
        self.flags = {flag: values[-1] for flag, values in self.flag_values.items()}
        self.image = _text(container.get("image"))
        match = _MINOR.search(self.image or "") if self.component != "etcd" else None
        self.minor = int(match.group(1)) if match else None
        self.probes = {}
        for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
            get = _mapping(container.get(kind)).get("httpGet")
            if isinstance(get, dict):
                self.probes[kind] = {key: get.get(key) for key in ("host", "port", "path", "scheme")}
        contexts = (_mapping(container.get("securityContext")), _mapping(spec.get("securityContext")))
        self.user = next((item["runAsUser"] for item in contexts if isinstance(item.get("runAsUser"), int)), 0)
        self.mounts = _mounts(spec)
        self.host_paths = {}
        for volume in _list(spec.get("volumes")):
            path_on_node = _mapping(_mapping(volume).get("hostPath")).get("path")
            if isinstance(path_on_node, str):
                self.host_paths[str(volume.get("name"))] = path_on_node


def parse_manifest(data, path):
    """Return a Manifest from a file's bytes. Raises PkiError when it is not YAML or no Pod."""
    document = yaml_load.load_mapping(data, path)
    containers = _list(_mapping(document.get("spec")).get("containers"))
    name = _mapping(document.get("metadata")).get("name")
    if document.get("kind") != "Pod" or not isinstance(name, str) or not any(isinstance(item, dict) for item in containers):
        raise PkiError(
            "is not the manifest of a pod", path=path, fix="Move it out of the manifest directory, or restore it from a backup."
        )
    return Manifest(document, path)


def read_manifest_dir(directory):
    """Read what the kubelet reads. Gives (manifests, foreign, problems).

    manifests: [Manifest] of every pod, in the order of their files' names. foreign: [path] of the files that are not the
    manifest of a control-plane pod under its usual name (COMPONENT.yaml): other pods, second files for one pod, no pods at
    all. problems: [PkiError] for files or the directory that cannot be read. Never raises.
    """
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        return [], [], [] if isinstance(error, FileNotFoundError) else [reading.explain(error, directory)]
    manifests, foreign, problems = [], [], []
    for name in names:
        path = os.path.join(directory, name)
        if name.startswith(".") or not os.path.isfile(path):
            continue
        try:
            manifest = parse_manifest(reading.read(path), path)
        except PkiError as error:
            problems.append(error)
            foreign.append(path)
            continue
        manifests.append(manifest)
        if (
            manifest.component not in STATIC_PODS
            or os.path.splitext(name)[0] != manifest.component
            or not name.endswith((".yaml", ".yml", ".json"))
        ):
            foreign.append(path)
    return manifests, foreign, problems


def called(manifest, names):
    """Return whether one of the names means a Manifest: its component, its pod's name, or its file's without extension."""
    return not {manifest.component, manifest.name, os.path.splitext(os.path.basename(manifest.path))[0]}.isdisjoint(names)


def effective(manifests):
    """Return {component: Manifest} of those the kubelet acts on: of several for one pod the last by file name."""
    # Of two pods of one name the one in kube-system is the component.
    order = sorted(manifests, key=lambda item: (item.namespace == "kube-system", os.path.basename(item.path)))
    return {manifest.component: manifest for manifest in order}


def readers(found, paths, proven=()):
    """Return the components (a sorted list of str) that have read one of some paths when they were started.

    found: [Manifest]. paths: files that were replaced. proven: flags whose files do not count, because what is served from them
    can be looked at.
    """
    changed = set(paths) | {os.path.realpath(path) for path in paths}
    due = set()
    for manifest in found:
        named = {
            part
            for flag, values in manifest.flag_values.items()
            if flag not in proven
            for value in values
            for part in value.split(",")
        }
        if not changed.isdisjoint(named | {os.path.realpath(part) for part in named if part.startswith("/")}):
            due.add(manifest.component)
    return sorted(due)


def parse_flags(command):
    """Return {"--flag": [values]} of a command line (a list whose first item is the program, unless the image has its own).

    Knows --flag=value, --flag value and --flag alone ("true"), one dash or two, and underscores for dashes, as
    Kubernetes (spf13/pflag with its word-separator rule) and etcd (Go's flag) do.
    """
    found = {}
    words = list(command[0 if command and command[0].startswith("-") else 1 :])
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word in ("-", "--"):
            continue
        flag, equals, value = word.partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("-") else "true"
        found.setdefault("--" + flag.lstrip("-").replace("_", "-"), []).append(value)
    return found


def _main_container(spec, component):
    containers = [item for item in _list(spec.get("containers")) if isinstance(item, dict)]
    for container in containers:
        if component and container.get("name") == component:
            return container
    for container in containers:
        command = _arguments(container)
        if command and os.path.basename(command[0]) in STATIC_PODS:
            return container
    return containers[0] if containers else {}


def _mounts(spec):
    paths = {}
    for volume in _list(spec.get("volumes")):
        path = _text(_mapping(_mapping(volume).get("hostPath")).get("path"))
        name = _text(_mapping(volume).get("name"))
        if path and name and path.startswith("/"):
            paths[name] = os.path.normpath(path)
    found = []
    for key in ("initContainers", "containers"):
        for container in _list(spec.get(key)):
            if isinstance(container, dict):
                found += _mounts_of(container, paths, key == "containers")
    return found


def _mounts_of(container, paths, runs):
    words = [str(word) for key in ("command", "args") for word in _list(container.get(key)) if word is not None]
    words += [str(_mapping(item).get("value") or "") for item in _list(container.get("env"))]
    found = []
    for item in _list(container.get("volumeMounts")):
        mount = _mapping(item)
        host, inside = paths.get(_text(mount.get("name")) or ""), _text(mount.get("mountPath"))
        below = _text(mount.get("subPath")) or ""
        if not host or not inside or mount.get("subPathExpr") or "\0" in host + inside + below:
            continue
        host = os.path.normpath(os.path.join(host, below.lstrip("/")))
        found.append(Mount(str(container.get("name")), host, os.path.normpath(os.path.join("/", inside)), words, runs))
    return found


def _arguments(container):
    words = [str(word) for key in ("command", "args") for word in _list(container.get(key)) if word is not None]
    if len(words) >= 3 and os.path.basename(words[0]) in _SHELLS and words[1].startswith("-") and words[1].endswith("c"):
        try:
            words = shlex.split(words[2])
        except ValueError:
            return words
        return words[1:] if words[:1] == ["exec"] else words
    return words


def _mapping(value):
    return value if isinstance(value, dict) else {}


def _list(value):
    return value if isinstance(value, list) else []


def _text(value):
    return value if isinstance(value, str) and value else None
