# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Caches that are complete or absent, processes recognised beyond doubt, Debian's answers parsed, state kept."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from tests.lab import binaries, debian, host, kubeconfig, procs, rootfs, state
from tests.lab.cache import cached, lock, remove_tree
from tests.lab.errors import LabError
from tests.lab.progress import Progress
from tests.lab.shell import parallel, run, wait_for

QUIET = Progress(quiet=True)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(partial: Path) -> None:
        (partial / "half").write_text("x")
        raise LabError("no")

    with pytest.raises(LabError):
        cached(tmp_path / "thing", build, QUIET, "a test")
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_a_killed_build_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".partial-thing-dead"
    left.mkdir()
    (left / "half").write_text("x")
    found = cached(tmp_path / "thing", lambda p: (p / "whole").write_text("x") and None, QUIET, "a test")
    assert (found / "whole").exists()
    assert not left.exists()


def test_two_builders_build_once(tmp_path: Path) -> None:
    built: list[int] = []

    def build(partial: Path) -> None:
        built.append(1)
        time.sleep(0.2)

    def job():
        cached(tmp_path / "thing", build, QUIET, "a test")

    parallel({str(i): job for i in range(4)})
    assert built == [1]


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from tests.lab.cache import lock; from tests.lab.progress import Progress\n"
        "with lock(Path(sys.argv[2]), Progress(quiet=True), 'x'):\n print('held', flush=True); time.sleep(60)"
    )
    path = tmp_path / "lock"
    argv = [sys.executable, "-c", code, str(Path(__file__).parents[3]), str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LabError, match=str(holder.pid)), lock(path, QUIET, "x", seconds=0.1):
            pass
        holder.send_signal(signal.SIGKILL)
    with lock(path, QUIET, "x", seconds=5):
        pass


def test_a_tree_with_a_mount_is_not_deleted() -> None:
    with pytest.raises(LabError, match="still mounted"):
        remove_tree(Path("/proc"))


def test_a_process_is_not_mistaken_for_its_successor() -> None:
    mine = procs.identify(os.getpid())
    assert mine is not None
    assert mine.alive()
    assert not procs.Process(mine.pid, mine.start + 1, mine.boot).alive()
    assert not procs.Process(mine.pid, mine.start, "another boot").alive()


def test_killing_a_stranger_with_a_recycled_pid_does_nothing() -> None:
    with subprocess.Popen(["sleep", "30"]) as stranger:
        real = procs.identify(stranger.pid)
        assert real is not None
        assert procs.Process(real.pid, real.start - 1, real.boot).kill(wait=0)
        assert stranger.poll() is None
        assert real.kill()
        assert stranger.wait() == -signal.SIGKILL


def test_a_failed_command_says_what_and_shows_the_end_of_its_output() -> None:
    with pytest.raises(LabError) as caught:
        run(["sh", "-c", "seq 100; echo broken >&2; exit 3"], node="cp1", what="it failed", fix="mend it")
    text = str(caught.value)
    assert text.startswith("cp1: it failed (exit code 3)")
    assert "broken" in text
    assert "what to do: mend it" in text
    assert len(text.splitlines()) < 22


def test_a_long_command_is_shown_in_one_line_that_ends() -> None:
    text = str(LabError("no", command="sh -c 'a\nb' " + "x" * 1000))
    (shown,) = [line for line in text.splitlines() if "command:" in line]
    assert shown.endswith(" ...")
    assert len(shown) < 430


def test_a_command_that_hangs_is_given_up() -> None:
    with pytest.raises(LabError, match="no end after"):
        run(["sleep", "30"], timeout=0.2)


def test_wait_for_tells_what_it_saw_last() -> None:
    with pytest.raises(LabError, match="still red"):
        wait_for(lambda: "still red", seconds=0.1, interval=0.02, failure=LabError)
    seen = iter(["no", "no", None])
    wait_for(lambda: next(seen), seconds=5, interval=0.01, failure=LabError)


def test_parallel_raises_what_a_job_raised_and_waits_for_all() -> None:
    done = threading.Event()

    def slow() -> None:
        time.sleep(0.1)
        done.set()

    def bad() -> None:
        raise LabError("bad")

    with pytest.raises(LabError, match="bad"):
        parallel({"slow": slow, "bad": bad})
    assert done.is_set()


def test_only_debians_repositories_count() -> None:
    text = (
        "Debian|http://mirror.test/debian/|bookworm|bookworm\nDebian|http://mirror.test/debian/|bookworm|bookworm\n"
        "Debian|http://mirror.test/debian/|bookworm-updates|bookworm-updates\n"
        "Debian|http://mirror.test/debian-security/|bookworm-security|bookworm-security\nOther|https://x.test/|any|any\n"
    )
    found = debian.parse_indextargets(text)
    assert [r.release for r in found] == ["bookworm", "bookworm-updates", "bookworm-security"]
    lists = debian.source_lists(found, "bookworm", Path("/nonexistent"))
    assert lists.splitlines() == [
        "deb-src http://mirror.test/debian bookworm main",
        "deb-src http://mirror.test/debian bookworm-updates main",
        "deb-src http://mirror.test/debian-security bookworm-security main",
    ]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("kubernetes_1.20.5+really1.20.2-1.1+deb12u1.dsc", "v1.20.2"),
        ("kubernetes_1.29.4-1.dsc", "v1.29.4"),
    ],
)
def test_version_of_a_source_package(name: str, version: str) -> None:
    assert binaries.source_version(name) == version


@pytest.mark.parametrize("text", ["1.20.2", "v2.0.0", "v1.20", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(LabError):
        binaries.minor(text)


def test_a_directory_without_binaries_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="lacks kubeadm, kubelet"):
        binaries.read(tmp_path)


def test_binaries_are_read_from_what_they_say(tmp_path: Path) -> None:
    for name in binaries.REQUIRED:
        (tmp_path / name).write_text("#!/bin/sh\necho v1.29.4\n")
        (tmp_path / name).chmod(0o755)
    found = binaries.read(tmp_path)
    assert (found.version, found.minor, found.has("crictl")) == ("v1.29.4", 29, False)
    (tmp_path / "kubelet").write_text("#!/bin/sh\necho other\n")
    assert binaries.read(tmp_path).fingerprint != found.fingerprint
    (tmp_path / "kubeadm").write_text("#!/bin/sh\necho v1.19.1\n")
    with pytest.raises(LabError, match="1.20 or newer") as caught:
        binaries.read(tmp_path)
    assert "v1.19.1" in str(caught.value)


def test_a_release_archive_gives_its_binaries_only(tmp_path: Path) -> None:
    archive = tmp_path / "kubernetes-server-linux-amd64.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("kubeadm", "kubelet", "kube-apiserver", "kube-apiserver.tar", "mounter"):
            entry = tarfile.TarInfo(f"kubernetes/server/bin/{name}")
            entry.size = 3
            tar.addfile(entry, io.BytesIO(b"abc"))
    out = tmp_path / "out"
    out.mkdir()
    binaries.extract(archive, out)
    assert sorted(p.name for p in out.iterdir()) == ["kube-apiserver", "kubeadm", "kubelet"]
    assert (out / "kubeadm").stat().st_mode & 0o777 == 0o755
    (tmp_path / "broken.tar.gz").write_bytes(archive.read_bytes()[:80])
    with pytest.raises(LabError, match="cannot be unpacked"):
        binaries.extract(tmp_path / "broken.tar.gz", out)


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr/lib/a.so.1.2").write_text("x")
    (tmp_path / "usr/lib/a.so.1").symlink_to("/lib/a.so.1.2")
    (tmp_path / "usr/up").symlink_to("../../../usr/lib")
    assert rootfs.resolve_in(tmp_path, "/lib/a.so.1") == tmp_path / "usr/lib/a.so.1.2"
    assert rootfs.resolve_in(tmp_path, "/usr/up/a.so.1.2") == tmp_path / "usr/lib/a.so.1.2"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(LabError, match="too many links"):
        rootfs.resolve_in(tmp_path, "/loop")


def test_state_survives_and_is_private(tmp_path: Path) -> None:
    kept = state.State(
        "lab", 3, 2, "10.89.0.0/24", "/r", "/l", "v1.20.2", "a.b", "c" * 64, processes={"cp1": procs.Process(1, 2, "boot")}
    )
    kept.save(tmp_path)
    assert state.load(tmp_path) == kept
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600
    assert state.load(tmp_path / "other") is None


@pytest.mark.parametrize("text", ["", "{", '{"schema": 99}', '{"schema": 1}', "[]"])
def test_a_damaged_state_is_an_error_with_a_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(LabError) as caught:
        state.load(tmp_path)
    assert caught.value.fix


def kubeconfig_text(quote: str) -> str:
    def b64(data: bytes) -> str:
        return quote + base64.b64encode(data).decode() + quote

    return (
        "apiVersion: v1\nclusters:\n- cluster:\n"
        f"    certificate-authority-data: {b64(b'ca')}\n    server: {quote}https://k8s-api:6443{quote}\n  name: kubernetes\n"
        "users:\n- name: kubernetes-admin\n  user:\n"
        f"    client-certificate-data: {b64(b'crt')}\n    client-key-data: {b64(b'key')}\n"
    )


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_kubeconfig_is_read(quote: str) -> None:
    found = kubeconfig.parse(kubeconfig_text(quote))
    assert (found.host, found.port, found.ca, found.certificate, found.key) == ("k8s-api", 6443, b"ca", b"crt", b"key")


def test_a_kubeconfig_as_json_is_read() -> None:
    text = json.dumps(
        {
            "clusters": [{"cluster": {"certificate-authority-data": "Y2E=", "server": "https://10.0.0.1:6443"}}],
            "users": [{"user": {"client-certificate-data": "Y3J0", "client-key-data": "a2V5"}}],
        }
    )
    found = kubeconfig.parse(text)
    assert (found.host, found.ca, found.certificate, found.key) == ("10.0.0.1", b"ca", b"crt", b"key")


def test_a_kubeconfig_that_points_to_files_is_refused() -> None:
    with pytest.raises(ValueError, match="client-certificate-data"):
        kubeconfig.parse(kubeconfig_text("").replace("client-certificate-data", "client-certificate"))


def test_inotify_is_raised_where_the_default_is_too_low_and_left_alone_elsewhere(tmp_path: Path) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text("128\n")
    assert "from 128 to 1024" in str(host.allow_inotify(limit))
    assert limit.read_text() == "1024\n"
    limit.write_text("4096\n")
    assert host.allow_inotify(limit) is None
    assert limit.read_text() == "4096\n"
    assert host.allow_inotify(tmp_path / "none") is None
