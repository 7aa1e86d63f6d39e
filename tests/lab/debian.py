# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab takes from Debian: packages on the host, the machine's own mirror, source packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .progress import Progress
from .shell import retry, run

#: Command that proves the package is there -> package.
HOST_PACKAGES = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "gcc": "gcc",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_APT = ("apt-get", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3")


@dataclass(frozen=True)
class Repository:
    """One Debian repository of the machine's apt configuration: its address, its release and its codename."""

    uri: str
    release: str
    codename: str


def parse_indextargets(text: str) -> list[Repository]:
    """Repositories from ``apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(CODENAME)'`` lines.

    Only those whose Origin is Debian, each once, in the order apt lists them.
    """
    found: list[Repository] = []
    for line in text.splitlines():
        parts = line.strip().split("|")
        if len(parts) != 4 or parts[0] != "Debian":
            continue
        repository = Repository(parts[1].rstrip("/"), parts[2], parts[3])
        if repository not in found:
            found.append(repository)
    return found


def repositories(progress: Progress) -> list[Repository]:
    """The Debian repositories this machine already uses; reads the package lists first when there are none."""

    def listed() -> list[Repository]:
        form = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(CODENAME)"
        out = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], check=False)
        return parse_indextargets(out.stdout)

    found = listed()
    if not found:
        update(progress)
        found = listed()
    if not found:
        raise LabError(
            "apt on this machine knows no Debian repository",
            command="apt-get indextargets",
            fix="configure Debian's repositories in /etc/apt (the lab takes its mirror from there) and run apt-get update",
        )
    return found


def mirror(progress: Progress) -> str:
    """The address of the main Debian archive that this machine uses (not the security archive)."""
    found = repositories(progress)
    for repository in found:
        if repository.release == repository.codename and "-" not in repository.release:
            return repository.uri
    return found[0].uri


def update(progress: Progress) -> None:
    """``apt-get update``, with retries."""
    progress.step("reading Debian's package lists (apt-get update)")
    retry(
        lambda: _quiet([*_APT, "update"], "apt-get update failed"),
        tries=4,
        pause=3,
        on_failure=lambda n, exc: progress.step(f"apt-get update failed (try {n} of 4), trying again"),
    )


def _quiet(argv: Sequence[str], what: str) -> None:
    run(
        argv,
        what=what,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        fix="check the machine's network and apt configuration",
    )


def install(packages: Sequence[str], progress: Progress) -> None:
    """Install Debian packages that are missing; updates the package lists when apt does not know one yet."""
    wanted = sorted(set(packages))
    progress.step(f"installing Debian packages: {' '.join(wanted)}")
    argv = [*_APT, "install", "--no-install-recommends", *wanted]
    try:
        _quiet(argv, "apt-get install failed")
        return
    except LabError:
        update(progress)
    retry(
        lambda: _quiet(argv, "apt-get install failed"),
        tries=3,
        pause=3,
        on_failure=lambda n, exc: progress.step(f"apt-get install failed (try {n} of 3), trying again"),
    )


def install_host_packages(progress: Progress) -> None:
    """Install what the lab runs on the host (debootstrap, systemd-nspawn, haproxy, ...) where it is missing."""
    missing = {package for command, package in HOST_PACKAGES.items() if not shutil.which(command)}
    # A compiler without the C library's headers cannot build the pause image.
    if not Path("/usr/include/stdio.h").exists():
        missing.add("libc6-dev")
    if missing:
        install(sorted(missing), progress)


def source_lists(found: Sequence[Repository], codename: str, keyring: Path = _KEYRING) -> str:
    """``deb-src`` lines for ``codename`` at the mirrors of ``found``: its own release, updates and security."""
    option = f"[signed-by={keyring}] " if keyring.exists() else ""
    lines = []
    for repository in found:
        base, dash, suffix = repository.release.partition("-")
        if base != repository.codename.partition("-")[0]:
            continue
        line = f"deb-src {option}{repository.uri} {codename}{dash}{suffix} main"
        if line not in lines:
            lines.append(line)
    return "\n".join(lines) + "\n"


def fetch_source(package: str, codename: str, target: Path, progress: Progress) -> Path:
    """Download a source package into ``target`` with a private apt state; returns its ``.dsc``."""
    state = target / "apt"
    for sub in ("lists/partial", "cache/archives/partial", "parts"):
        (state / sub).mkdir(parents=True)
    (state / "sources.list").write_text(source_lists(repositories(progress), codename))
    apt = [
        *_APT,
        "-o",
        f"Dir::Etc::sourcelist={state}/sources.list",
        "-o",
        f"Dir::Etc::sourceparts={state}/parts",
        "-o",
        f"Dir::State::lists={state}/lists",
        "-o",
        f"Dir::Cache={state}/cache",
        # The sandbox user of apt may not be able to write here.
        "-o",
        "APT::Sandbox::User=root",
    ]

    def download() -> None:
        run(
            [*apt, "update"], what="reading Debian's source lists failed", fix="check the machine's network and apt configuration"
        )
        run(
            [*apt, "source", "--download-only", package],
            cwd=target,
            what=f"downloading the source of {package} failed",
            fix="check the machine's network and apt configuration",
        )

    retry(download, tries=4, pause=3, on_failure=lambda n, exc: progress.step(f"download failed (try {n} of 4), trying again"))
    found = sorted(target.glob(f"{package}_*.dsc"))
    if not found:
        raise LabError(f"apt-get source {package} left no .dsc in {target}")
    return found[-1]


def fetch_binary(package: str, target: Path, progress: Progress) -> Path:
    """Download one binary package of this machine's release into ``target`` and unpack it there; returns the tree."""

    def download() -> None:
        run(
            [*_APT, "download", package],
            cwd=target,
            what=f"downloading {package} failed",
            fix="run apt-get update and check the machine's network",
        )

    retry(
        download,
        tries=4,
        pause=3,
        on_failure=lambda n, exc: progress.step(f"download of {package} failed (try {n} of 4), trying again"),
    )
    tree = target / f"{package}.tree"
    run(["dpkg", "-x", sorted(target.glob(f"{package}_*.deb"))[-1], tree])
    return tree
