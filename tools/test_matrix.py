# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tests with the oldest and the newest Python, `cryptography` and ansible-core that nodes and controllers have.

What reads and makes certificates is run by itself; with another ansible-core, modules and playbooks are run. Each row has an
environment of its own in .cache/matrix, from the package index that pip is configured for. A row whose Python is not on PATH is
left out, and said to be.

The last row is a whole newer Debian, made by debootstrap, with its own ansible-core, `cryptography` and OpenSSL: it is the
controller and the node of what runs in it, and has no network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.lab import cache, debian  # noqa: E402
from tests.lab.errors import LabError  # noqa: E402
from tests.lab.progress import Progress  # noqa: E402
from tests.lab.shell import run  # noqa: E402

LIBRARY = ("tests/unit/plugins/module_utils/_pki/x509", "tests/unit/plugins/module_utils/_pki/kubeadm/test_kubeconfig.py")
# Modules with a node of this Python, and playbooks up to the artifact.
RUNS = tuple("tests/integration/test_%s.py" % name for name in ("cert_expiry", "cert_leaf", "examples"))
TOOLS = ("PyYAML", "hypothesis", "pytest", "pytest-timeout")
ROWS = (
    ("python3.8", "cryptography==3.4.8", LIBRARY),
    ("python3.11", "cryptography==38.0.4", LIBRARY),
    ("python3.11", "cryptography", LIBRARY),
    ("python3.13", "cryptography", LIBRARY),
    # From 2.20 on ansible-core wants Python 3.12: not what `make venv` takes on Debian 12.
    ("python3.13", "ansible-core>=2.20", RUNS),
)

SUITE = "trixie"
# cffi-backend is named because debootstrap otherwise leaves cryptography unconfigured.
PACKAGES = (
    "ansible-core",
    "ca-certificates",
    "openssl",
    "python3-cffi-backend",
    "python3-cryptography",
    "python3-hypothesis",
    "python3-jmespath",
    "python3-pytest",
    "python3-pytest-timeout",
    "python3-yaml",
)
# The checkout is read-only there; Ansible finds the collection by a link, as `make collection` makes it.
IN_DEBIAN = """
mkdir -p .cache/ansible_collections/kubepki && ln -s /checkout .cache/ansible_collections/kubepki/lifecycle &&
ansible --version | head -1 && python3 -m pytest -q -p no:cacheprovider "$@"
"""


def run_debian(suite: str, tests: tuple[str, ...]) -> str:
    """Run tests in a Debian release of this name, and return the outcome in a word."""
    if os.geteuid():
        return "left out, only root makes a Debian"
    progress = Progress()
    try:
        debian.install_host_packages(progress)
        mirror = debian.mirror(progress)
        include = "--include=" + ",".join(PACKAGES)
        folder = cache.cached(
            ROOT / ".cache" / "matrix" / suite,
            lambda partial: run(
                ["debootstrap", "--variant=minbase", include, suite, partial / "root", mirror],
                log=partial / "debootstrap.log",
                what="making a Debian (%s) failed" % suite,
            ),
            progress,
            "a Debian (%s)" % suite,
        )
    except LabError as error:
        print(error)
        return "FAILED"
    done = subprocess.run(
        [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--directory",
            folder / "root",
            "--bind-ro=%s:/checkout" % ROOT,
            "--tmpfs=/checkout/.cache",
            "--chdir=/checkout",
            "--setenv=LC_ALL=C.UTF-8",
            "--setenv=PYTHONDONTWRITEBYTECODE=1",
            "sh",
            "-c",
            IN_DEBIAN,
            "sh",
            *tests,
        ],
        check=False,
    )
    return "FAILED" if done.returncode else "passed"


def run_row(python: str, library: str, tests: tuple[str, ...]) -> str:
    """Run the tests of one row, and return the outcome in a word."""
    found = shutil.which(python)
    if not found or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        return "left out, no %s on PATH" % python
    folder = ROOT / ".cache" / "matrix" / ("%s-%s" % (python, library.replace("==", "-").replace(">=", "-")))
    own = str(folder / "bin" / "python")
    name = re.match(r"[a-z-]+", library).group()
    needed = [library, *TOOLS] + (["cryptography", "-r", "requirements.txt"] if tests is RUNS else [])
    steps = [] if Path(own).exists() else [[found, "-m", "venv", str(folder)]]
    steps += [
        [own, "-m", "pip", "install", "-q", "--disable-pip-version-check", *needed],
        [own, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
    ]
    for step in steps:
        if subprocess.run(step, cwd=ROOT, check=False).returncode:
            return "FAILED"
    version = "from importlib import metadata; print(metadata.version('%s'))" % name
    return "passed with %s %s" % (
        name,
        subprocess.run([own, "-c", version], capture_output=True, text=True, check=True).stdout.strip(),
    )


def main() -> int:
    """Run every row. Return 1 where one failed."""
    said = [(python, library, run_row(python, library, tests)) for python, library, tests in ROWS]
    said.append(("Debian", SUITE, run_debian(SUITE, LIBRARY + RUNS)))
    for python, library, word in said:
        print("%-12s %-22s %s" % (python, library, word))
    return int(any(word == "FAILED" for _python, _library, word in said))


if __name__ == "__main__":
    sys.exit(main())
