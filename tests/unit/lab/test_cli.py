# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line on a machine without a lab, and what it prints about one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import cli, expire, host, state
from tests.lab.lab import Lab, LabStatus, NodeStatus
from tests.lab.settings import Settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBEPKI_LAB_HOME", str(tmp_path))
    return tmp_path


def kept_lab(home: Path, name: str = "lab") -> Path:
    directory = home / "labs" / name
    directory.mkdir(parents=True)
    state.State(name, 3, 2, "10.89.4.0/24", "/r", "/l", "v1.20.2", "a.b", "c" * 64).save(directory)
    return directory


def test_what_needs_a_lab_says_that_there_is_none(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ssh", "cp1", "true"]) == 1
    assert cli.main(["inventory", "--name", "other"]) == 1
    err = capsys.readouterr().err
    assert "error: there is no lab 'lab'" in err
    assert "python3 -m tests.lab up --name other" in err
    assert "Traceback" not in err


def test_status_of_no_lab(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().out == "lab lab: there is none\n"


def test_inventory_goes_to_a_file(home: Path, tmp_path: Path) -> None:
    directory = kept_lab(home)
    target = tmp_path / "inventory.ini"
    assert cli.main(["inventory", "--output", str(target)]) == 0
    text = target.read_text()
    assert "cp3 ansible_host=10.89.4.13" in text
    assert "w2 ansible_host=10.89.4.22" in text
    assert f"ansible_ssh_private_key_file={directory / 'ssh_key'}" in text


def test_an_unknown_node_is_named_with_those_there_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept_lab(home)
    assert cli.main(["ssh", "cp9", "true"]) == 1
    assert "its nodes are cp1, cp2, cp3, w1, w2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "nodes", "cas"), [([], ["cp1", "cp2", "cp3", "w1", "w2"], False), (["--cas", "w2"], ["w2"], True)]
)
def test_certificates_end_on_all_nodes_or_on_some(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], nodes: list[str], cas: bool
) -> None:
    seen: list[tuple[str, list[str], bool]] = []
    monkeypatch.setattr(expire, "cold", lambda lab, names, cas: seen.append((lab.name, names, cas)))
    kept_lab(home)
    assert cli.main(["expire", *words]) == 0
    assert seen == [("lab", nodes, cas)]
    assert cli.main(["expire", "w1", "w9"]) == 1 and len(seen) == 1


def test_a_lab_does_not_change_its_size(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = kept_lab(home)
    kept = state.load(directory)
    assert kept is not None
    kept.phase = "ready"
    kept.save(directory)
    assert cli.main(["up", "--workers", "5"]) == 1
    assert "has 3 control planes and 2 workers" in capsys.readouterr().err
    assert state.load(directory) == kept


def test_check_gives_every_reason(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(host, "problems", lambda _: ["no root", "no Debian"])
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().out == "no root\nno Debian\n"
    monkeypatch.setattr(host, "problems", lambda _: [])
    assert cli.main(["check"]) == 0


def test_without_root_the_lab_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert any("needs root" in reason for reason in host.problems(Settings()))


def test_too_little_disk_or_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "_capabilities", lambda: (1 << 41) - 1)
    monkeypatch.setattr(host, "_NEEDED_MEMORY", 1 << 60)
    monkeypatch.setattr(host, "_NEEDED_DISK", 1 << 60)
    text = " ".join(host.problems(Settings(home=tmp_path / "not" / "there")))
    assert "free memory" in text
    assert "free disk" in text


def test_paths_of_a_node_lie_where_its_mounts_are(home: Path) -> None:
    directory = kept_lab(home) / "nodes"
    lab = Lab(settings=Settings(home=home))
    assert lab.path("cp1", "/etc/kubernetes/admin.conf") == directory / "cp1/root/etc/kubernetes/admin.conf"
    assert lab.path("cp1", "/var/lib/kubelet/pki") == directory / "cp1/kubelet/pki"
    assert lab.path("cp1", "/var/lib/etcd/member") == directory / "cp1/etcd/member"
    assert lab.path("w1", "/var/lib/etcd") == directory / "w1/root/var/lib/etcd"
    assert lab.path("w1", "/var/lib/kubelet-else") == directory / "w1/root/var/lib/kubelet-else"


def test_a_status_for_a_person_shows_what_is_wrong() -> None:
    node = NodeStatus("cp1", "10.89.0.11", "control-plane", True, False, False, False, None)
    api = "https://10.89.0.100:6443"
    text = cli.render_status(LabStatus("lab", "ready", "v1.20.2", api, False, [node], ["cp1 is unplugged"]))
    assert "balancer DOWN" in text
    assert "OUT" in text
    assert text.splitlines()[-1] == "problem: cp1 is unplugged"


def test_the_module_runs_and_a_closed_pipe_is_no_traceback(home: Path) -> None:
    code = f"{sys.executable} -m tests.lab --help | head -n 1"
    done = subprocess.run(["sh", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python3 -m tests.lab")
    assert "Traceback" not in done.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "tests.lab", "status", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert json.loads(listed.stdout)["phase"] == "absent"
