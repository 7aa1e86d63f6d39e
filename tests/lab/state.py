# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab remembers between commands: state.json in its directory, written atomically."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import LabError
from .procs import Process

SCHEMA = 1


@dataclass
class State:
    """One lab: its size, its subnet, what it is made of, its processes, and whether its cluster was finished.

    ``phase`` is ``building`` until the cluster has been Ready once and ``ready`` afterwards.
    """

    name: str
    control_planes: int
    workers: int
    subnet: str
    root: str
    layer: str
    version: str
    token: str
    certificate_key: str
    phase: str = "building"
    processes: dict[str, Process] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write state.json (0600: it holds the join token)."""
        data = {"schema": SCHEMA, **asdict(self)}
        temporary = directory / ".state.json.new"
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(data, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(directory / "state.json")


def load(directory: Path) -> State | None:
    """Read a lab's state; None when the lab does not exist. LabError when the file is damaged."""
    path = directory / "state.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        if data.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        processes = {name: Process(**value) for name, value in data.pop("processes").items()}
        return State(**data, processes=processes)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as exc:
        raise LabError(f"{path} cannot be read: {exc}", fix="python3 -m tests.lab down, then up") from exc
