# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue between AnsibleModule and the library: options, Python libraries, errors, time. No other file here imports Ansible."""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Sequence

from .errors import PkiError
from .fileio import reading

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

# The packages of a library on Debian's and on Red Hat's families.
_PACKAGES = {"cryptography": "python3-cryptography", "yaml": "python3-yaml (Debian, Ubuntu) or python3-pyyaml (Red Hat, SUSE)"}

_OLDEST = {"cryptography": (3, 4)}


def path_options(*names: str) -> dict[str, dict[str, Any]]:
    """Return the part of an argument spec that several modules share, as {name: option}.

    names: any of "kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir", "backup_keep".
    """
    options: dict[str, dict[str, Any]] = {
        "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
        "kubelet_dir": {"type": "path", "default": "/var/lib/kubelet"},
        "state_dir": {"type": "path", "default": "/var/lib/kubepki"},
        "backup_dir": {"type": "path", "default": "/var/lib/kubepki/backups"},
        "backup_keep": {"type": "int", "default": 5},
    }
    return {name: options[name] for name in names}


def run(
    module: AnsibleModule, function: Callable[[AnsibleModule], dict[str, Any]], needs: Sequence[str] = ("cryptography", "yaml")
) -> None:
    """Call function(module) and end the module with the result. Never return.

    function: returns a result; "warnings" in it ([str]) become Ansible's warnings. Adds "seconds" (float).
    needs: Python libraries that function uses. Where one is missing, the module restarts under another interpreter of the node
    that has all of them.
    A PkiError becomes `msg`, `path`, `reason` and `fix`. Any other exception becomes one line with its type and place, without
    values, which could be key material.
    """
    started = time.monotonic()
    _require(module, needs)
    result, failure = _attempt(module, function)
    # Outside of any except block: fail_json would add the traceback at -vvv, and with it lines that can hold values.
    if failure:
        module.fail_json(seconds=_since(started), **failure)
    for warning in result.pop("warnings", []):
        module.warn(warning)
    result["seconds"] = _since(started)
    module.exit_json(**result)


def split_list(value: str | Iterable[object]) -> list[str]:
    """Return the items of "a, b," or [" a", "b", ""] trimmed, without empty ones."""
    parts = value.split(",") if isinstance(value, str) else value
    return [part for part in (str(part).strip() for part in parts) if part]


def trim_lists(spec: Mapping[str, Mapping[str, Any]], values: dict[str, Any]) -> None:
    """Apply split_list() to the lists of strings and paths among a module's options, in place, at every depth.

    spec: an argument spec. values: {name: value}. Ansible splits "a, b" at the comma and keeps the blank, and makes one empty
    string of "".
    """
    for name, option in spec.items():
        value = values.get(name)
        if isinstance(value, list) and option.get("elements", "str") in ("str", "path") and "options" not in option:
            values[name] = split_list(value)
        for item in value if isinstance(value, list) and "options" in option else ():
            trim_lists(option["options"], item)


def check_options(spec: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any], prefix: str = "") -> None:
    """Raise PkiError for values that Ansible's types accept and no option means: "nan", negative days, relative directories.

    spec: an argument spec. values: {name: value}. prefix: the option above, for messages. A path without a default may be
    relative or "". As a threshold, "nan" or "-inf" would disable a check without a message.
    """
    for name, option in spec.items():
        value = values.get(name)
        if value is None:
            continue
        if option.get("type") == "path" and not os.path.isabs(value) and option.get("default"):
            raise PkiError(
                "the option %s%s is %r, which is no absolute path" % (prefix, name, value),
                fix="Write it from the root, or leave it out.",
            )
        if option.get("type") == "float" and not (math.isfinite(value) and value >= 0):
            raise PkiError(
                "the option %s%s is %s, which is no number of days or seconds" % (prefix, name, value),
                fix="Give 0 or more, or leave it out.",
            )
        if "options" in option:
            for number, item in enumerate(value if isinstance(value, list) else [value]):
                check_options(option["options"], item, "%s%s[%d]." % (prefix, name, number))


def _attempt(module: AnsibleModule, function: Callable[[AnsibleModule], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (result, {}), or ({}, arguments of fail_json)."""
    try:
        trim_lists(module.argument_spec, module.params)
        check_options(module.argument_spec, module.params)
        return function(module), {}
    except PkiError as error:
        trouble = error
    except OSError as error:
        trouble = reading.explain(error, error.filename)
    except Exception as error:
        return {}, {"msg": _unexpected(error), "path": None, "reason": "internal error", "fix": None}
    return {}, dict(trouble.as_result(), msg=str(trouble))


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _unexpected(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = "%s line %s" % (frames[-1].filename.rsplit("/", 1)[-1], frames[-1].lineno) if frames else "an unknown place"
    return "Internal error: %s in %s. This is a fault of kubepki.lifecycle: please report it with this line." % (
        type(error).__name__,
        where,
    )


def _missing(needs: Sequence[str]) -> list[str]:
    """Return the libraries that cannot be imported, or are too old."""
    missing = []
    for name in needs:
        try:
            found = importlib.import_module(name)
        except Exception:  # a half-installed library raises more than ImportError
            missing.append(name)
            continue
        version = tuple(int(part) for part in getattr(found, "__version__", "").split(".")[:2] if part.isdigit())
        if name in _OLDEST and version and version < _OLDEST[name]:
            missing.append(name)
    return missing


def _require(module: AnsibleModule, needs: Sequence[str]) -> None:
    """Return where the libraries are there. Otherwise restart under another interpreter of the node, or fail."""
    missing = _missing(needs)
    if not missing:
        return
    import glob  # here, because nearly every node has the libraries

    from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

    if not has_respawned():
        candidates = ["/usr/bin/python3", "/usr/libexec/platform-python"]
        candidates += sorted(path for path in glob.glob("/usr/bin/python3.*") if path.rsplit(".", 1)[-1].isdigit())
        other = probe_interpreters_for_module([path for path in candidates if path != sys.executable], ", ".join(needs))
        if other:
            respawn_module(other)
    module.fail_json(
        msg="%s: the Python library %s is missing%s, and no other interpreter of this node has it. Install %s, or let "
        "the playbook check_expiry do it, with kubepki_install_prerequisites=true."
        % (
            sys.executable,
            " and ".join(missing),
            "".join(" (or older than %d.%d)" % _OLDEST[name] for name in missing if name in _OLDEST),
            " and ".join(_PACKAGES.get(name, name) for name in missing),
        ),
        path=sys.executable,
        reason="missing Python libraries: %s" % ", ".join(missing),
        fix="Install %s." % ", ".join(_PACKAGES.get(name, name) for name in missing),
    )
