# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ConfigMap kubeadm-config: arguments of components that an upgrade has to keep, edited in place."""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

from ..errors import PkiError
from ..fileio import yaml_edit, yaml_load
from . import trust_objects
from .api_client import Api

_KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"


def publish_kubeadm_config(
    api: Api, section: str, name: str, value: str | None, check: bool = False, ours: Sequence[str] | None = None
) -> bool:
    """Set a flag of a component in kubeadm-config, so that `kubeadm upgrade` keeps it. Return whether it had to change.

    section, name, value: as in with_extra_arg(). A flag that kubeadm sets by itself is removed with None.
    ours: the values that may be replaced or removed; any other is the user's and stays. None for all.
    """

    def change(found: dict[str, Any]) -> dict[str, Any] | None:
        text = (found.get("data") or {}).get("ClusterConfiguration")
        if not text or (ours is not None and _extra_arg(text, section, name) not in (None,) + tuple(ours)):
            return None
        changed = with_extra_arg(text, section, name, value)
        return {"data": {"ClusterConfiguration": changed}} if changed != text else None

    return api.update(_KUBEADM, change, check=check)


def publish_signing(api: Api, own: str, authority: str, named: bool, check: bool = False) -> bool:
    """Set the path of kube-controller-manager's signing certificate in kubeadm-config. Return whether it had to change.

    own: path of the file that it signs with during a rotation. authority: path of the CA certificate. named: whether the
    manifest names own. A third file is the user's (such as an intermediate CA), and neither replaced nor removed.
    """
    return publish_kubeadm_config(
        api,
        "controllerManager",
        trust_objects.SIGNING_FLAG,
        own if named else None,
        check,
        ours=(own, authority) if named else (own,),
    )


def _extra_arg(text: str, section: str, name: str) -> Any:
    extra = _extra_args(yaml_load.load_mapping(text, "kubeadm-config"), section) or {}
    if isinstance(extra, list):
        extra = {item.get("name"): item.get("value") for item in reversed(extra) if isinstance(item, dict)}
    return extra.get(name)


def _extra_args(data: Mapping[Any, Any], section: str) -> Any:
    """Return the extraArgs of a section of a ClusterConfiguration, a mapping or a list, or None. Raise PkiError."""
    manager = data.get(section) or {}
    extra = manager.get("extraArgs") if isinstance(manager, dict) else manager
    if extra is None or isinstance(extra, (dict, list)) and isinstance(manager, dict):
        return extra
    raise PkiError(
        "its section %s is not what kubeadm reads" % section,
        path="ConfigMap kube-system/kubeadm-config",
        fix="Correct it: kubectl -n kube-system edit configmap kubeadm-config.",
    )


def with_extra_arg(text: str, section: str, name: str, value: str | None) -> str:
    """Return a ClusterConfiguration with one of a component's extraArgs set, or (None) removed.

    section: "controllerManager" or "apiServer". name: the flag without dashes. v1beta2 and v1beta3 hold a mapping, v1beta4 a
    list of name and value. Everything else stays as it was written.
    """
    data = yaml_load.load_mapping(text, "kubeadm-config")
    extra = _extra_args(data, section)
    listed = isinstance(extra, list) or (extra is None and str(data.get("apiVersion", "")).endswith("v1beta4"))
    document = yaml_edit.YamlText(text, "kubeadm-config")
    if listed:
        return _listed_arg(document, section, extra or [], name, value)
    return _mapped_arg(document, section, extra or {}, name, value)


def _mapped_arg(document: yaml_edit.YamlText, section: str, extra: Mapping[str, Any], name: str, value: str | None) -> str:
    place = (section, "extraArgs", name)
    if value is None:
        return _without(document, section, extra, name, place) if name in extra else document.text
    if not extra:
        # The editor would put it in the braces of `apiServer: {}`, where it could not be removed again.
        return _section(document, section, "    %s: %s\n" % (yaml_edit.quote(name), yaml_edit.quote(value)), {name: value})
    document.set(place, value)
    return document.text


def _without(document: yaml_edit.YamlText, section: str, extra: Mapping[str, Any], name: str, place: tuple[str, ...]) -> str:
    manager = dict(document.get((section,)))
    manager["extraArgs"] = {key: extra[key] for key in extra if key != name}
    if not manager["extraArgs"]:
        del manager["extraArgs"]
    if manager:
        try:
            document.remove(place if len(extra) > 1 else place[:2])
            return document.text
        except PkiError:
            pass  # in braces, of which the editor removes nothing; JSON is YAML in braces
    return _replaced(document, section, "%s: %s\n" % (section, json.dumps(manager)), manager)


def _replaced(document: yaml_edit.YamlText, section: str, body: str, manager: dict[str, Any]) -> str:
    """Return the text with a whole section, all its lines, replaced by body; read back."""
    kept: list[str] = []
    inside = False
    for line in document.text.splitlines(keepends=True):
        if inside and (line[:1] in (" ", "\t", "-") or not line.strip()):
            continue
        inside = line.startswith(section + ":")
        kept.append(body if inside else line)
    return _read_back(document, section, "".join(kept), manager)


def _listed_arg(document: yaml_edit.YamlText, section: str, extra: list[Any], name: str, value: str | None) -> str:
    index = next((number for number, item in enumerate(extra) if isinstance(item, dict) and item.get("name") == name), None)
    place = (section, "extraArgs")
    if index is not None and value is not None:
        document.set(place + (index, "value"), value)
        return document.text
    if index is not None and len(extra) > 1:
        document.remove(place + (index,))
        return document.text
    if index is not None:
        manager = {key: item for key, item in document.get((section,)).items() if key != "extraArgs"}
        if not manager:
            return _replaced(document, section, section + ": {}\n", manager)
        document.remove(place)
        return document.text
    if value is None:
        return document.text
    return _appended(document, section, extra, name, value)


def _appended(document: yaml_edit.YamlText, section: str, extra: list[Any], name: str, value: str) -> str:
    """Return the text with one more argument, before the others."""
    item = {"name": name, "value": value}
    text = "%%s- name: %s\n%%s  value: %s\n" % (yaml_edit.quote(name), yaml_edit.quote(value))
    if not extra:
        return _section(document, section, text % ("  ", "  "), [item])
    document.prepend_item((section, "extraArgs"), item)
    return document.text


def _section(document: yaml_edit.YamlText, section: str, body: str, extra: list[Any] | dict[str, Any]) -> str:
    """Return the text with a first extraArgs in a section, which is absent, empty or a block mapping without any."""
    lines = document.text.splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if line.startswith(section + ":")), None)
    body = "  extraArgs:\n" + body
    manager = dict(document.get((section,)) or {}, extraArgs=extra)
    if len(manager) == 1 and start is not None:
        return _replaced(document, section, section + ":\n" + body, manager)
    if start is None:
        lines.append(section + ":\n" + body)
    else:
        lines.insert(start + 1, body)
    return _read_back(document, section, "".join(lines), manager)


def _read_back(document: yaml_edit.YamlText, section: str, text: str, manager: dict[str, Any]) -> str:
    expected = yaml_load.load_mapping(document.text, "kubeadm-config")
    expected[section] = manager
    if yaml_load.load_mapping(text, "kubeadm-config") != expected:
        raise PkiError(
            "its section %s cannot be edited safely" % section,
            path="ConfigMap kube-system/kubeadm-config",
            fix="Give the component the flag of its manifest in extraArgs by hand, then run again.",
        )
    return text
