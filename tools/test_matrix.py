# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests of what reads and makes certificates with the oldest and the newest Python and `cryptography` that nodes have.

Each row has an environment of its own in .cache/matrix, from the package index that pip is configured for. A row whose Python is
not on PATH is left out, and said to be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = (("python3.8", "cryptography==3.4.8"), ("python3.11", "cryptography==38.0.4"), ("python3.11", "cryptography"),
        ("python3.13", "cryptography"))
TOOLS = ("PyYAML", "hypothesis", "pytest", "pytest-timeout")
ROOMS = ("x509", "x509_digest", "certificates", "kubeconfig")


def run_row(python: str, library: str) -> str:
    """Run the tests of one row, and say in a word how that went."""
    found = shutil.which(python)
    if not found or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        return "left out, no %s on PATH" % python
    folder = ROOT / ".cache" / "matrix" / ("%s-%s" % (python, library.replace("==", "-")))
    own = str(folder / "bin" / "python")
    tests = ["tests/unit/plugins/module_utils/_pki/test_%s.py" % room for room in ROOMS]
    steps = [] if Path(own).exists() else [[found, "-m", "venv", str(folder)]]
    steps += [[own, "-m", "pip", "install", "-q", "--disable-pip-version-check", library, *TOOLS],
              [own, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]]
    for step in steps:
        if subprocess.run(step, cwd=ROOT, check=False).returncode:
            return "FAILED"
    return "passed with " + subprocess.run(
        [own, "-c", "import cryptography; print('cryptography', cryptography.__version__)"], capture_output=True, text=True,
        check=True).stdout.strip()


def main() -> int:
    """Run every row; 1 when one failed."""
    said = [(python, library, run_row(python, library)) for python, library in ROWS]
    for python, library, word in said:
        print("%-12s %-22s %s" % (python, library, word))
    return int(any(word == "FAILED" for _python, _library, word in said))


if __name__ == "__main__":
    sys.exit(main())
