# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes layer: what lies over the node root for one version - binaries, containerd, images ready to run.

It is made once for a set of binaries: ``tree/`` is an overlay layer, ``containerd/`` a containerd store with every
image imported, which nodes get as hard links, so that a node has its images before it boots.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from . import rootfs
from .binaries import Binaries
from .cache import cached
from .errors import LabError
from .images import Image, write_image
from .progress import Progress
from .settings import Settings
from .shell import run

#: The image that watch's pod runs; made from the node root's own python3.
PYTHON_IMAGE = "localhost/kubepki-lab/python3:lab"
_CONTAINERD_FILES = ("containerd", "containerd-shim-runc-v2", "ctr")

_PAUSE = """\
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
static void leave(int signal_number) { (void)signal_number; _exit(0); }
int main(void) {
    signal(SIGINT, leave);
    signal(SIGTERM, leave);
    signal(SIGCHLD, SIG_IGN);
    for (;;) pause();
}
"""

#: kubeadm of 1.34 and newer writes flags that only etcd 3.6 knows; this says them in the words of 3.5.
_ETCD_FRONT = """\
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static const char *const words[][2] = {
    {"--feature-gates=", "--experimental-initial-corrupt-check=true"},
    {"--watch-progress-notify-interval=", "--experimental-watch-progress-notify-interval=5s"},
};
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        for (unsigned w = 0; w < sizeof words / sizeof *words; w++)
            if (!strncmp(argv[i], words[w][0], strlen(words[w][0]))) argv[i] = (char *)words[w][1];
    argv[0] = "etcd";
    execv("/usr/local/bin/etcd.real", argv);
    perror("/usr/local/bin/etcd.real");
    return 1;
}
"""


@dataclass(frozen=True)
class Layer:
    """A finished layer: its directory and what the cluster has to know about it.

    ``registry`` and ``pause`` are what kubeadm expects; ``etcd_tag`` is the tag of the etcd image; ``etcd`` and
    ``containerd`` are versions (``3.4.23``, ``1.6.20``).
    """

    directory: Path
    version: str
    registry: str
    pause: str
    etcd_tag: str
    etcd: str
    containerd: str

    @property
    def tree(self) -> Path:
        """The overlay layer."""
        return self.directory / "tree"

    @property
    def store(self) -> Path:
        """The containerd store (what becomes /var/lib/containerd)."""
        return self.directory / "containerd"


def containerd_config(containerd: str, pause: str) -> str:
    """containerd's config.toml for its version, with the image of pod sandboxes."""
    if int(containerd.split(".")[0]) >= 2:
        return f"""\
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
"""
    return f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
"""


def needs_etcd_front(version: str, etcd: str) -> bool:
    """Whether kubeadm of ``version`` writes etcd flags that this etcd does not know."""
    return _minor(version) >= 34 and tuple(int(p) for p in etcd.split(".")[:2]) < (3, 6)


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def key(binaries: Binaries, root: Path, settings: Settings) -> str:
    """Name of the cached layer: version and a digest of binaries, root, replacements and of the code that makes it."""
    digest = hashlib.sha256(f"{binaries.fingerprint} {root.parent.name}\n".encode())
    here = Path(__file__).parent
    for name in ("layer.py", "images.py"):
        digest.update((here / name).read_bytes())
    if settings.containerd_from:
        for name in (*_CONTAINERD_FILES, "etcd", "etcdctl"):
            path = settings.containerd_from / "usr/bin" / name
            if path.exists():
                status = path.stat()
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{binaries.version}-{digest.hexdigest()[:12]}"


def prepare(settings: Settings, binaries: Binaries, root: Path, progress: Progress) -> Layer:
    """Return the layer for these binaries on this root, made when the cache has none."""
    directory = settings.home / "layers" / key(binaries, root, settings)
    cached(
        directory,
        lambda partial: _build(partial, settings, binaries, root, progress),
        progress,
        f"the images of Kubernetes {binaries.version}",
    )
    return load(directory)


def load(directory: Path) -> Layer:
    """Read a finished layer from the cache."""
    return Layer(directory=directory, **json.loads((directory / "layer.json").read_text()))


def _version_of(root: Path, binary: str, pattern: str) -> str:
    out = run(
        ["chroot", root, "/" + binary, "--version"],
        what=f"{binary} of {root} does not run",
        fix="LAB_CONTAINERD_FROM has to be a whole root directory, libraries included",
    ).stdout
    match = re.search(pattern, out)
    if not match:
        raise LabError(f"{binary} of {root} does not tell its version", log=out)
    return match.group(1)


def _build(partial: Path, settings: Settings, binaries: Binaries, root: Path, progress: Progress) -> None:
    progress.step(f"making the images of Kubernetes {binaries.version}")
    tree = partial / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    for name in ("kubeadm", "kubelet", "kubectl", "crictl"):
        if binaries.has(name):
            shutil.copy(binaries.directory / name, tree / "usr/bin" / name)
            (tree / "usr/bin" / name).chmod(0o755)
    origin = settings.containerd_from
    if origin:
        for name in _CONTAINERD_FILES:
            source = origin / "usr/bin" / name
            if source.exists():
                shutil.copy(source, tree / "usr/bin" / name)
    etcd_root, etcd_path = root, f"{rootfs.STORE}/etcd"
    if origin and (origin / "usr/bin/etcd").exists():
        etcd_root, etcd_path = origin, "usr/bin/etcd"
    containerd = _containerd_version(root, tree)
    etcd = _version_of(etcd_root, etcd_path, r"etcd Version: (\d+\.\d+\.\d+)")
    if binaries.minor >= 36 and int(containerd.split(".")[0]) < 2:
        raise LabError(
            f"Kubernetes {binaries.version} does not work with containerd {containerd}",
            fix="set LAB_CONTAINERD_FROM to a root directory with containerd 2 and etcd 3.5 or newer, or LAB_SUITE to a"
            " Debian release that has them",
        )
    names = run(
        [binaries.directory / "kubeadm", "config", "images", "list", "--kubernetes-version", binaries.version],
        what="kubeadm does not tell its images",
    ).stdout.split()
    registry = next(n for n in names if "/kube-apiserver:" in n).split("/")[0]
    pause = next(n for n in names if "/pause:" in n)
    layer = Layer(partial, binaries.version, registry, pause, f"{etcd}-0", etcd, containerd)

    (tree / "etc/containerd").mkdir(parents=True)
    (tree / "etc/containerd/config.toml").write_text(containerd_config(containerd, pause))
    if binaries.has("crictl"):
        (tree / "etc/crictl.yaml").write_text("runtime-endpoint: unix:///run/containerd/containerd.sock\n")

    archives = partial / "images"
    archives.mkdir()
    for number, image in enumerate(_images(layer, binaries, root, etcd_root, etcd_path, partial)):
        write_image(image, archives / f"{number}.tar")
    progress.step("importing the images into a containerd store")
    _bake(partial, tree, root, archives)
    shutil.rmtree(archives)
    values = asdict(layer)
    del values["directory"]
    (partial / "layer.json").write_text(json.dumps(values, indent=1))


def _containerd_version(root: Path, tree: Path) -> str:
    binary = tree / "usr/bin/containerd"
    if not binary.exists():
        return _version_of(root, "usr/bin/containerd", r"containerd\S* v?(\d+\.\d+\.\d+)")
    # It has to run with the node root's libraries, not with those of the root it came from.
    trial = root / rootfs.STORE / "containerd.trial"
    shutil.copy(binary, trial)
    try:
        return _version_of(root, f"{rootfs.STORE}/containerd.trial", r"containerd\S* v?(\d+\.\d+\.\d+)")
    finally:
        trial.unlink()


def _images(layer: Layer, binaries: Binaries, root: Path, etcd_root: Path, etcd_path: str, work: Path) -> list[Image]:
    images = [
        Image([f"{layer.registry}/{name}:{layer.version}"], {f"usr/local/bin/{name}": binaries.directory / name})
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    _compile(_PAUSE, work / "pause")
    images.append(Image([layer.pause], {"pause": work / "pause"}, entrypoint=["/pause"]))

    etcd = {"usr/local/bin/etcd": etcd_root / etcd_path, "usr/local/bin/etcdctl": etcd_root / f"{etcd_path}ctl"}
    if needs_etcd_front(layer.version, layer.etcd):
        _compile(_ETCD_FRONT, work / "etcd-front")
        etcd = {**etcd, "usr/local/bin/etcd.real": etcd["usr/local/bin/etcd"], "usr/local/bin/etcd": work / "etcd-front"}
    etcd.update(rootfs.libraries(etcd_root, etcd_path))
    images.append(Image([f"{layer.registry}/etcd:{layer.etcd_tag}"], {k: v for k, v in etcd.items() if v.exists()}))
    images.append(_python_image(root))
    return images


def _compile(source: str, target: Path) -> None:
    code = target.with_suffix(".c")
    code.write_text(source)
    run(
        ["gcc", "-static", "-O2", "-Wall", "-o", target, code],
        what=f"compiling {target.name} failed",
        fix="apt-get install gcc libc6-dev",
    )
    run(["strip", target], check=False)


def _python_image(root: Path) -> Image:
    """python3 and its standard library, as the node root has them, without what no client needs."""
    binary = rootfs.resolve_in(root, "/usr/bin/python3")
    inside = "/" + str(binary.relative_to(root))
    library = root / "usr/lib" / binary.name
    unwanted = {"test", "idlelib", "tkinter", "lib2to3", "ensurepip", "pydoc_data", "distutils", "venv", "curses", "sqlite3"}
    files: dict[str, Path] = {inside: binary}
    objects = [inside]
    for directory, children, names in os.walk(library):
        children[:] = [c for c in children if c not in unwanted and not c.startswith("config-")]
        for name in names:
            path = Path(directory) / name
            if path.is_file() and not path.is_symlink():
                where = "/" + str(path.relative_to(root))
                files[where] = path
                if name.endswith(".so"):
                    objects.append(where)
    for item in objects:
        files.update(rootfs.libraries(root, item))
    return Image([PYTHON_IMAGE], files, links={"usr/bin/python3": binary.name}, entrypoint=["/usr/bin/python3"])


_BAKE = r"""
set -e
mkdir -p "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$3:$4,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mkdir -p var/lib/containerd mnt
mount --bind "$2" var/lib/containerd
mount --bind "$5" mnt
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount --rbind /dev dev
exec chroot . /bin/sh -e -c '
printf "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n" > /run/bake.toml
containerd --config /run/bake.toml --log-level warn > /run/bake.log 2>&1 &
tries=0
until ctr version > /dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || { cat /run/bake.log; exit 1; }
    sleep 0.1
done
for image in /mnt/*.tar; do ctr -n k8s.io images import "$image" || { cat /run/bake.log; exit 1; }; done
kill $!
wait $! || :
'
"""


def _bake(partial: Path, tree: Path, root: Path, archives: Path) -> None:
    """Import the archives with the node's own containerd, in namespaces that take its mounts and processes along."""
    store = partial / "containerd"
    store.mkdir()
    scratch = partial / "bake"
    run(
        [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
            "sh",
            "-c",
            _BAKE,
            "bake",
            scratch,
            store,
            tree,
            root,
            archives,
        ],
        what="importing the images failed",
        timeout=1800,
    )
    shutil.rmtree(scratch)
    # Each node's containerd makes up its own identity.
    shutil.rmtree(store / "io.containerd.grpc.v1.introspection", ignore_errors=True)


def clone_store(layer: Layer, target: Path) -> None:
    """Give a node its containerd store: hard links for what is never written again, copies of the databases."""
    run(
        ["cp", "-al", layer.store, target],
        what="copying the containerd store failed",
        fix="KUBEPKI_LAB_HOME has to be one file system",
    )
    for database in target.rglob("*.db"):
        copy = database.with_suffix(".new")
        shutil.copy2(database, copy)
        copy.replace(database)
