# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the environment and the caller ask for: the LAB_* variables, the home of caches and labs, names."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

DEFAULT_HOME = Path("/var/cache/kubepki-lab")
DEFAULT_NAME = "lab"
DEFAULT_CONTROL_PLANES = 3
DEFAULT_WORKERS = 2
#: The address plan of a /24 has room for this many (see network.Subnet).
MAX_CONTROL_PLANES = 9
MAX_WORKERS = 50

_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")


@dataclass(frozen=True)
class Settings:
    """Everything that comes from outside, read once.

    ``home`` holds caches and labs; ``kubernetes_bin`` and ``kubernetes_archive`` say where binaries come from
    (both None: built from Debian's source package); ``containerd_from`` is a root directory whose containerd,
    ctr and etcd replace those of the node root; ``suite`` is the Debian release of the node root.
    """

    home: Path = DEFAULT_HOME
    kubernetes_bin: Path | None = None
    kubernetes_archive: Path | None = None
    containerd_from: Path | None = None
    suite: str = "bookworm"

    @classmethod
    def from_environment(cls, environ: dict[str, str] | None = None) -> Settings:
        """Read KUBEPKI_LAB_HOME, LAB_KUBERNETES_BIN, LAB_KUBERNETES_ARCHIVE, LAB_CONTAINERD_FROM, LAB_SUITE."""
        env = dict(os.environ) if environ is None else environ

        def path(key: str) -> Path | None:
            return Path(env[key]).resolve() if env.get(key) else None

        return cls(
            home=path("KUBEPKI_LAB_HOME") or DEFAULT_HOME,
            kubernetes_bin=path("LAB_KUBERNETES_BIN"),
            kubernetes_archive=path("LAB_KUBERNETES_ARCHIVE"),
            containerd_from=path("LAB_CONTAINERD_FROM"),
            suite=env.get("LAB_SUITE") or "bookworm",
        )


def check_name(name: str) -> str:
    """Return ``name`` when it can name a lab (a-z, 0-9, dash, 30 at most); LabError otherwise."""
    if not _NAME.fullmatch(name):
        raise LabError(
            f"{name!r} cannot name a lab",
            fix="use a lower-case letter followed by at most 29 letters, digits or dashes",
        )
    return name


def check_size(control_planes: int, workers: int) -> None:
    """Raise LabError unless the lab can have this many nodes."""
    if not 1 <= control_planes <= MAX_CONTROL_PLANES or not 0 <= workers <= MAX_WORKERS:
        raise LabError(
            f"a lab cannot have {control_planes} control planes and {workers} workers",
            fix=f"1 to {MAX_CONTROL_PLANES} control planes and 0 to {MAX_WORKERS} workers fit its subnet",
        )


def short_id(name: str) -> str:
    """Six hex digits of a lab's name, for interface names, which may have 15 characters at most."""
    return hashlib.sha256(name.encode()).hexdigest()[:6]
