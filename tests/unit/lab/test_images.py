# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images are docker-archives: one layer, its digest in the config, the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from tests.lab.images import Image, write_image


def make(tmp_path: Path, target: str) -> Path:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF rest")
    program.chmod(0o700)
    data = tmp_path / "data"
    data.write_bytes(b"text")
    data.chmod(0o600)
    image = Image(
        ["registry.k8s.io/thing:v1"],
        {"/usr/local/bin/thing": program, "usr/lib/thing/data": data},
        links={"usr/bin/thing": "../local/bin/thing"},
        entrypoint=["/usr/local/bin/thing"],
    )
    path = tmp_path / target
    write_image(image, path)
    return path


def test_the_archive_is_what_containerd_imports(tmp_path: Path) -> None:
    with tarfile.open(make(tmp_path, "a.tar")) as archive:
        read = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    (entry,) = json.loads(read["manifest.json"])
    assert entry["RepoTags"] == ["registry.k8s.io/thing:v1"]
    config = json.loads(read[entry["Config"]])
    (layer_name,) = entry["Layers"]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(read[layer_name]).hexdigest()]
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/thing"]
    assert config["os"] == "linux"
    with tarfile.open(fileobj=io.BytesIO(read[layer_name])) as layer:
        members = {m.name: m for m in layer}
    assert members["usr/local/bin/thing"].mode == 0o755
    assert members["usr/lib/thing/data"].mode == 0o644
    assert members["usr/bin/thing"].linkname == "../local/bin/thing"
    assert members["tmp"].mode == 0o1777
    assert all(m.uid == m.gid == 0 for m in members.values())
    names = list(members)
    assert names.index("usr/local") < names.index("usr/local/bin") < names.index("usr/local/bin/thing")


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = make(tmp_path, "a.tar").read_bytes()
    second = make(tmp_path, "b.tar").read_bytes()
    assert first == second
    assert not list(tmp_path.glob("*.layer"))
