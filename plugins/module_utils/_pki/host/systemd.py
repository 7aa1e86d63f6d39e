# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run systemctl and journalctl, and read the state of a systemd unit."""

from __future__ import annotations

import os
import subprocess
from typing import Dict, List

from ..errors import PkiError

KUBELET_UNIT = "kubelet.service"

FIX_SYSTEMD = "Only a kubelet that systemd runs as %s is known and can be restarted." % KUBELET_UNIT

_PROPERTIES = ("LoadState", "ActiveState", "SubState", "MainPID", "ExecStart", "Result")

_BOOTED = "/run/systemd/system"  # sd_booted(3)


class KubeletNotIdentifiedError(PkiError):
    """The kubelet may run, and no trusted source says which process it is."""


def is_init() -> bool:
    """Return whether systemd is the init system of this machine."""
    return os.path.isdir(_BOOTED)


def run_command(arguments: List[str], timeout: float) -> subprocess.CompletedProcess:
    """Run systemctl or journalctl and return its CompletedProcess. Raise PkiError where it is missing or exceeds `timeout` s."""
    try:
        return subprocess.run(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout,
            check=False,
            env=dict(os.environ, LC_ALL="C", SYSTEMD_PAGER=""),
        )
    except FileNotFoundError:
        raise PkiError("there is no %s on this node" % arguments[0], fix=FIX_SYSTEMD) from None
    except subprocess.TimeoutExpired:
        raise PkiError(
            "`%s` has not ended within %d s" % (" ".join(arguments), timeout),
            fix="See `systemctl status kubelet` and `systemctl list-jobs`.",
        ) from None


def show_unit(unit: str) -> Dict[str, str]:
    """Return the properties of a unit. Raise KubeletNotIdentifiedError where systemd has none that it could start."""
    done = run_command(["systemctl", "show", unit, "--property=" + ",".join(_PROPERTIES)], 20)
    found = dict.fromkeys(_PROPERTIES, "")
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        name, _equals, value = line.partition("=")
        found[name] = value
    if done.returncode or found["LoadState"] != "loaded":
        raise KubeletNotIdentifiedError(
            "systemd has no unit %s that it could start (%s)"
            % (unit, found["LoadState"] or done.stderr.decode("utf-8", "replace").strip()[:120]),
            fix=FIX_SYSTEMD,
        )
    return found
