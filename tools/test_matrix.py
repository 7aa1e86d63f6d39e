# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tests with the oldest and the newest Python, `cryptography` and ansible-core that nodes and controllers have.

What reads and makes certificates is run by itself; with another ansible-core, modules and playbooks are run. Each row has an
environment of its own in .cache/matrix, from the package index that pip is configured for. A row whose Python is not on PATH is
left out, and said to be.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = tuple("tests/unit/plugins/module_utils/_pki/test_%s.py" % room
              for room in ("x509", "x509_digest", "certificates", "kubeconfig"))
# Modules with a node of this Python, and playbooks up to the artifact.
RUNS = tuple("tests/integration/test_%s.py" % name for name in ("cert_expiry", "cert_leaf", "examples"))
TOOLS = ("PyYAML", "hypothesis", "pytest", "pytest-timeout")
ROWS = (("python3.8", "cryptography==3.4.8", ROOMS), ("python3.11", "cryptography==38.0.4", ROOMS),
        ("python3.11", "cryptography", ROOMS), ("python3.13", "cryptography", ROOMS),
        # From 2.20 on ansible-core wants Python 3.12: not what `make venv` takes on Debian 12.
        ("python3.13", "ansible-core>=2.20", RUNS))


def run_row(python: str, library: str, tests: tuple[str, ...]) -> str:
    """Run the tests of one row, and say in a word how that went."""
    found = shutil.which(python)
    if not found or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        return "left out, no %s on PATH" % python
    folder = ROOT / ".cache" / "matrix" / ("%s-%s" % (python, library.replace("==", "-").replace(">=", "-")))
    own = str(folder / "bin" / "python")
    name = re.match(r"[a-z-]+", library).group()
    needed = [library, *TOOLS] + (["cryptography", "-r", "requirements.txt"] if tests is RUNS else [])
    steps = [] if Path(own).exists() else [[found, "-m", "venv", str(folder)]]
    steps += [[own, "-m", "pip", "install", "-q", "--disable-pip-version-check", *needed],
              [own, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]]
    for step in steps:
        if subprocess.run(step, cwd=ROOT, check=False).returncode:
            return "FAILED"
    version = "from importlib import metadata; print(metadata.version('%s'))" % name
    return "passed with %s %s" % (name, subprocess.run([own, "-c", version], capture_output=True, text=True,
                                                       check=True).stdout.strip())


def main() -> int:
    """Run every row; 1 when one failed."""
    said = [(python, library, run_row(python, library, tests)) for python, library, tests in ROWS]
    for python, library, word in said:
        print("%-12s %-22s %s" % (python, library, word))
    return int(any(word == "FAILED" for _python, _library, word in said))


if __name__ == "__main__":
    sys.exit(main())
