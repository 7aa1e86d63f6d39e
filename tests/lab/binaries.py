# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the Kubernetes binaries come from: a directory, a release archive, or Debian's source package."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .cache import cached
from .errors import LabError
from .progress import Progress
from .settings import Settings
from .shell import run

REQUIRED = ("kubeadm", "kubelet", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
OPTIONAL = ("crictl",)
OLDEST = (1, 20)

#: What Debian 12's source package holds; its own version number says 1.20.5+really1.20.2.
DEBIAN_RELEASE = "bookworm"
DEBIAN_VERSION = "v1.20.2"
_GO = "golang-1.19-go"
_GO_BIN = Path("/usr/lib/go-1.19/bin")


@dataclass(frozen=True)
class Binaries:
    """A directory of Kubernetes binaries, the version they say they are (``v1.20.2``), and what they look like."""

    directory: Path
    version: str
    fingerprint: str

    @property
    def minor(self) -> int:
        """The minor version: 20 for v1.20.2."""
        return minor(self.version)

    def has(self, name: str) -> bool:
        """Whether the directory holds this (optional) binary."""
        return (self.directory / name).is_file()


def minor(version: str) -> int:
    """Minor version of ``v1.MINOR.PATCH``; LabError when it is no such version."""
    match = re.fullmatch(r"v1\.(\d+)\.\d+\S*", version)
    if not match:
        raise LabError(f"{version!r} is no Kubernetes version such as v1.20.2")
    return int(match.group(1))


def read(directory: Path) -> Binaries:
    """Look at a directory of binaries; LabError when one is missing, does not run or is older than 1.20."""
    missing = [name for name in REQUIRED if not (directory / name).is_file()]
    if missing:
        raise LabError(
            f"{directory} lacks {', '.join(missing)}",
            fix="give a directory with " + ", ".join(REQUIRED) + " in LAB_KUBERNETES_BIN",
        )
    shown = run(
        [directory / "kubeadm", "version", "-o", "short"], what=f"{directory}/kubeadm does not run on this machine"
    ).stdout.strip()
    if (1, minor(shown)) < OLDEST:
        raise LabError(f"{directory} holds Kubernetes {shown}", fix="the lab needs 1.20 or newer")
    digest = hashlib.sha256()
    for name in (*REQUIRED, *OPTIONAL):
        path = directory / name
        if path.is_file():
            status = path.stat()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return Binaries(directory, shown, digest.hexdigest()[:12])


def prepare(settings: Settings, progress: Progress) -> Binaries:
    """The binaries that the settings ask for; unpacked or built into the cache first where needed."""
    if settings.kubernetes_bin:
        return read(settings.kubernetes_bin)
    if settings.kubernetes_archive:
        return read(_from_archive(settings.kubernetes_archive, settings.home, progress))
    directory = settings.home / "binaries" / f"{DEBIAN_VERSION}-{DEBIAN_RELEASE}"
    cached(directory, lambda partial: _build(partial, progress), progress, f"the build of Kubernetes {DEBIAN_VERSION}")
    return read(directory)


def _from_archive(archive: Path, home: Path, progress: Progress) -> Path:
    if not archive.is_file():
        raise LabError(f"LAB_KUBERNETES_ARCHIVE={archive} is no file", fix="name an official kubernetes-server-linux-ARCH.tar.gz")
    status = archive.stat()
    mark = hashlib.sha256(f"{archive} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:12]

    def unpack(partial: Path) -> None:
        progress.step(f"unpacking {archive.name}")
        extract(archive, partial)

    return cached(home / "binaries" / f"archive-{mark}", unpack, progress, f"unpacking {archive.name}")


def extract(archive: Path, target: Path) -> None:
    """Copy the wanted binaries out of a release archive (``kubernetes/server/bin/NAME`` inside)."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.rsplit("/", 1)[-1]
                if member.isfile() and name in (*REQUIRED, *OPTIONAL):
                    source = tar.extractfile(member)
                    assert source is not None
                    with (target / name).open("wb") as out:
                        shutil.copyfileobj(source, out, 1 << 20)
                    (target / name).chmod(0o755)
    except (tarfile.TarError, EOFError, OSError) as exc:
        raise LabError(
            f"{archive} cannot be unpacked: {exc}", fix="download the release archive again, or set LAB_KUBERNETES_BIN"
        ) from exc


def source_version(dsc_name: str) -> str:
    """The Kubernetes version of a Debian source package's .dsc file name.

    ``kubernetes_1.20.5+really1.20.2-1.1.dsc`` -> ``v1.20.2``.
    """
    version = dsc_name.partition("_")[2]
    match = re.search(r"really(\d+\.\d+\.\d+)", version) or re.match(r"(\d+\.\d+\.\d+)", version)
    if not match:
        raise LabError(f"{dsc_name} carries no version")
    return "v" + match.group(1)


def _build(partial: Path, progress: Progress) -> None:
    """Build the binaries from Debian's source package into ``partial`` (6 to 15 minutes on two cores)."""
    progress.step(f"building Kubernetes {DEBIAN_VERSION} from Debian's source package; once, 6 to 15 minutes")
    debian.install([_GO, "make", "rsync", "jq", "dpkg-dev"], progress)
    if not (_GO_BIN / "go").exists():
        raise LabError(
            f"{_GO} is not in this Debian release",
            fix="set LAB_KUBERNETES_BIN to a directory of binaries, or LAB_KUBERNETES_ARCHIVE to a release archive",
        )
    work = partial / "work"
    work.mkdir()
    progress.step("downloading the source package")
    dsc = debian.fetch_source("kubernetes", DEBIAN_RELEASE, work, progress)
    version = source_version(dsc.name)
    if version != DEBIAN_VERSION:
        raise LabError(
            f"Debian's source package is {version} now, not {DEBIAN_VERSION}",
            fix="set LAB_KUBERNETES_BIN or LAB_KUBERNETES_ARCHIVE, and report this",
        )
    reflect2 = debian.fetch_binary("golang-github-modern-go-reflect2-dev", work, progress)
    progress.step("unpacking the source")
    source = work / "gopath/src/k8s.io/kubernetes"
    source.mkdir(parents=True)
    run(
        ["tar", "xzf", next(work.glob("kubernetes_*.orig.tar.gz")), "--strip-components=1", "-C", source],
        what="unpacking the source failed",
    )
    # The vendored reflect2 reads runtime internals that Go 1.19 has moved: kubeadm would crash at start.
    vendored = source / "vendor/github.com/modern-go/reflect2"
    shutil.rmtree(vendored)
    shutil.copytree(reflect2 / "usr/share/gocode/src/github.com/modern-go/reflect2", vendored)
    env = {
        **os.environ,
        "PATH": f"{_GO_BIN}:{os.environ['PATH']}",
        "GOPATH": str(work / "gopath"),
        "GOCACHE": str(work / "gocache"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
        "GO111MODULE": "off",
        "GOTOOLCHAIN": "local",
    }
    log = partial / "build.log"
    # Other work goes first; a caller that is nice already is nice enough.
    nice = ["nice", "-n", "10"] if os.nice(0) < 10 else []
    with progress.during("generating the OpenAPI code"):
        run([*nice, "make", "gen_openapi"], cwd=source, env=env, log=log, what="generating the OpenAPI code failed")
    for number, name in enumerate(REQUIRED, 1):
        with progress.during(f"compiling {name} ({number} of {len(REQUIRED)})"):
            run(
                [
                    *nice,
                    "go",
                    "build",
                    "-trimpath",
                    "-ldflags",
                    f"-s -w {stamps(version)}",
                    "-o",
                    partial / name,
                    f"k8s.io/kubernetes/cmd/{name}",
                ],
                cwd=source,
                env=env,
                log=log,
                what=f"compiling {name} failed",
            )
    shutil.rmtree(work)
    built = read(partial)
    if built.version != version:
        raise LabError(f"the build says it is {built.version}, not {version}")


def stamps(version: str) -> str:
    """Linker flags that put the version into the binaries, as a release build does."""
    values = {
        "gitVersion": version,
        "gitMajor": "1",
        "gitMinor": str(minor(version)),
        "gitTreeState": "clean",
        "buildDate": "2021-01-13T13:20:00Z",
    }
    packages = ("component-base/version", "client-go/pkg/version")
    return " ".join(
        f"-X k8s.io/kubernetes/vendor/k8s.io/{package}.{name}={value}" for package in packages for name, value in values.items()
    )
