# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Container images without a registry: docker-archive tars written from files."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """An image to be written: its references, its files (path inside -> file on this host), its links and start.

    Files keep their executable bit; ``links`` maps a path inside to a link target.
    """

    references: Sequence[str]
    files: Mapping[str, Path]
    links: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()


def _directories(layer: tarfile.TarFile, paths: Sequence[str]) -> None:
    wanted = {"tmp", "etc", "var", "run"}
    for path in paths:
        parts = path.split("/")[:-1]
        wanted.update("/".join(parts[:i]) for i in range(1, len(parts) + 1))
    for name in sorted(wanted - {""}):
        entry = tarfile.TarInfo(name)
        entry.type = tarfile.DIRTYPE
        entry.mode = 0o1777 if name == "tmp" else 0o755
        layer.addfile(entry)


def _write_layer(image: Image, path: Path) -> str:
    """Write the one layer of ``image`` and return its SHA-256 (hex)."""
    files = {inside.strip("/"): source for inside, source in image.files.items()}
    links = {inside.strip("/"): target for inside, target in image.links.items()}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as layer:
        _directories(layer, [*files, *links])
        for inside, source in sorted(files.items()):
            entry = tarfile.TarInfo(inside)
            status = source.stat()
            entry.size = status.st_size
            entry.mode = 0o755 if status.st_mode & 0o111 else 0o644
            with source.open("rb") as handle:
                layer.addfile(entry, handle)
        for inside, target in sorted(links.items()):
            entry = tarfile.TarInfo(inside)
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            layer.addfile(entry)
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_image(image: Image, target: Path) -> None:
    """Write ``image`` as a docker-archive (what ``ctr images import`` reads) to ``target``.

    The same input gives the same bytes: no times, no owners.
    """
    layer = target.with_suffix(".layer")
    digest = _write_layer(image, layer)
    config: dict[str, object] = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": list(image.entrypoint) or None,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    raw = json.dumps(config, sort_keys=True).encode()
    config_name = hashlib.sha256(raw).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": list(image.references), "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in ((config_name, raw), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo(f"{digest}/layer.tar")
        entry.size = layer.stat().st_size
        with layer.open("rb") as handle:
            archive.addfile(entry, handle)
    layer.unlink()
