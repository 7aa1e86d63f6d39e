# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue between AnsibleModule and the library: libraries, errors, time. The only file of the library that knows Ansible."""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
import traceback

from .errors import PkiError
from .fileio import reading

# What to install for a library, on Debian's and on Red Hat's families.
_PACKAGES = {"cryptography": "python3-cryptography", "yaml": "python3-yaml (Debian, Ubuntu) or python3-pyyaml (Red Hat, SUSE)"}

_OLDEST = {"cryptography": (3, 4)}


def path_options(*names):
    """Give the argument spec of the paths that several modules share.

    names: any of "kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir", "backup_keep". Gives {name: option}.
    """
    options = {
        "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
        "kubelet_dir": {"type": "path", "default": "/var/lib/kubelet"},
        "state_dir": {"type": "path", "default": "/var/lib/kubepki"},
        "backup_dir": {"type": "path", "default": "/var/lib/kubepki/backups"},
        "backup_keep": {"type": "int", "default": 5},
    }
    return {name: options[name] for name in names}


def run(module, function, needs=("cryptography", "yaml")):
    """Call function(module) and end the module with what it gives; never returns.

    function: gives a result mapping; "warnings" in it (a list of str) become Ansible's warnings. needs: Python libraries
    that have to be there; where they are not, the module starts again under one of the node's own interpreters that
    has them. Adds "seconds" (float). A PkiError becomes `msg` with `path`, `reason` and `fix` beside it; anything else
    that is raised becomes one line that says where, without values, which could be key material.
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


def words(value):
    """Give a list as its user meant it: of "a, b," or [" a", "b", ""] what is between the commas, trimmed, without empties."""
    parts = value.split(",") if isinstance(value, str) else value
    return [part for part in (str(part).strip() for part in parts) if part]


def trim_lists(spec, values):
    """Let the lists of strings and paths among a module's options be what words() gives of them, also in options of options.

    spec: an argument spec. values: what was given, {name: value}, changed in place. Ansible splits "a, b" at the comma and
    keeps the blank, and makes one empty string of "".
    """
    for name, option in spec.items():
        value = values.get(name)
        if isinstance(value, list) and option.get("elements", "str") in ("str", "path") and "options" not in option:
            values[name] = words(value)
        for item in value if isinstance(value, list) and "options" in option else ():
            trim_lists(option["options"], item)


def check_options(spec, values, prefix=""):
    """Raise PkiError for what Ansible's types let through: negative days and seconds, a node's directories as "" or relative.

    spec: an argument spec. values: what was given, {name: value}. A path that has no default may be relative, or "" for none.
    Nothing is less than "nan" or "-inf", so that as a threshold they would switch off what it is there for.
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


def _attempt(module, function):
    try:
        trim_lists(module.argument_spec, module.params)
        check_options(module.argument_spec, module.params)
        return function(module), None
    except PkiError as error:
        trouble = error
    except OSError as error:
        trouble = reading.explain(error, error.filename)
    except Exception as error:
        return None, {"msg": _unexpected(error), "path": None, "reason": "internal error", "fix": None}
    return None, dict(trouble.as_result(), msg=str(trouble))


def _since(started):
    return round(time.monotonic() - started, 3)


def _unexpected(error):
    frames = traceback.extract_tb(error.__traceback__)
    where = "%s line %d" % (frames[-1].filename.rsplit("/", 1)[-1], frames[-1].lineno) if frames else "an unknown place"
    return "Internal error: %s in %s. This is a fault of kubepki.lifecycle: please report it with this line." % (
        type(error).__name__,
        where,
    )


def _lacking(needs):
    lacking = []
    for name in needs:
        try:
            found = importlib.import_module(name)
        except Exception:  # a half-installed library raises more than ImportError
            lacking.append(name)
            continue
        version = tuple(int(part) for part in getattr(found, "__version__", "").split(".")[:2] if part.isdigit())
        if name in _OLDEST and version and version < _OLDEST[name]:
            lacking.append(name)
    return lacking


def _require(module, needs):
    """Make sure the libraries are there, if need be under another interpreter of this node."""
    lacking = _lacking(needs)
    if not lacking:
        return
    import glob  # not at the top: nearly every node has what is needed

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
            " and ".join(lacking),
            "".join(" (or older than %d.%d)" % _OLDEST[name] for name in lacking if name in _OLDEST),
            " and ".join(_PACKAGES.get(name, name) for name in lacking),
        ),
        path=sys.executable,
        reason="missing Python libraries: %s" % ", ".join(lacking),
        fix="Install %s." % ", ".join(_PACKAGES.get(name, name) for name in lacking),
    )
