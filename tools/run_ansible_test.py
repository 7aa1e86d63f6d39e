# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test on a copy of the tree at the path it insists on.

`python tools/run_ansible_test.py sanity [arguments]`, `... units [arguments]` or `... integration [arguments]`.
The targets in tests/integration/targets run on this machine, in throw-away directories.

ansible-test works only in a folder .../ansible_collections/NAMESPACE/NAME, and a symbolic link to the checkout
does not do: it resolves the link. So the files of the checkout (tracked, and new ones that are not ignored) are
mirrored below .cache/ansible-test/, and what ansible-test keeps between runs (its virtual environments) lies there too.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "ansible-test"
TREE = CACHE / "ansible_collections" / "kubepki" / "lifecycle"
HOME = CACHE / "home"

# What a checkout without git (an unpacked archive) holds beside its sources.
# ("output" is where ansible-test itself writes, in tests/).
NOT_SOURCE = {
    ".git",
    ".cache",
    "output",
    ".venv",
    ".nox",
    ".ansible",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "build",
    "reports",
}

BOOTSTRAP = '''\
"""Put pip into an empty virtual environment from what Python itself carries (ansible-test downloads a script for this)."""
import os
import subprocess
import sys

subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
os.environ.pop("GET_PIP", None)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install"] + wanted, check=False).returncode)
'''


def source_files() -> list[Path]:
    """Return the project's files, relative to its root: those that git knows, or all but NOT_SOURCE."""
    # The mirror lies inside of a checkout whose git ignores it: only a .git of the tree's own counts.
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            check=True,
        ).stdout
        names = {Path(os.fsdecode(name)) for name in listed.split(b"\0") if name}
    else:
        names = set()
        for folder, folders, files in os.walk(ROOT):
            folders[:] = [name for name in folders if name not in NOT_SOURCE]
            names.update((Path(folder) / name).relative_to(ROOT) for name in files if not name.endswith(".pyc"))
    return sorted(name for name in names if os.path.lexists(ROOT / name))


def mirror(files: list[Path]) -> None:
    """Make TREE hold exactly `files` (what the last run left in tests/output goes too), copying only what changed."""
    TREE.mkdir(parents=True, exist_ok=True)
    wanted = set(files)
    for folder, folders, names in os.walk(TREE, topdown=False):
        here = Path(folder)
        for name in names:
            if (here / name).relative_to(TREE) not in wanted:
                (here / name).unlink()
        for name in folders:
            if not (here / name).is_symlink() and not any((here / name).iterdir()):
                (here / name).rmdir()
    for name in files:
        source, target = ROOT / name, TREE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.unlink(missing_ok=True)
            target.symlink_to(os.readlink(source))
        elif not target.exists() or _stamp(source) != _stamp(target):
            shutil.copy2(source, target)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_mode


def prepare_home() -> None:
    """Make a home folder for ansible-test with a pip bootstrap script, and with the caller's pip settings.

    ansible-test downloads the script from a host of its own and drops every PIP_* variable on its way to pip: neither
    works behind a mirror or a proxy, where everything else of this project does.
    """
    import ansible_test

    source = Path(ansible_test.__file__).parent / "_internal" / "python_requirements.py"
    version = re.search(r"\bpip='([0-9.]+)'", source.read_text())
    if version is None:
        sys.exit(f"tools/run_ansible_test.py: cannot tell from {source} which pip this ansible-test wants")
    script = HOME / ".ansible" / "test" / "cache" / f"get_pip_{version.group(1).replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(BOOTSTRAP)

    mine = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "pip"
    theirs = HOME / ".config" / "pip"
    if mine.is_dir() and not theirs.is_symlink():
        theirs.parent.mkdir(parents=True, exist_ok=True)
        theirs.symlink_to(mine)
    settings = {
        name[4:].lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name.startswith("PIP_") and name not in ("PIP_CONFIG_FILE", "PIP_REQUIRE_VIRTUALENV", "PIP_QUIET")
    }
    legacy = HOME / ".pip" / "pip.conf"
    legacy.parent.mkdir(parents=True, exist_ok=True)
    legacy.unlink(missing_ok=True)
    # An index may carry a password in its address.
    with open(os.open(legacy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write("[global]\nquiet = 1\n" + "".join(f"{name} = {value}\n" for name, value in sorted(settings.items())))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/run_ansible_test.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("sanity", "units", "integration"))
    options, arguments = parser.parse_known_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    lock = os.open(CACHE / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    # Two runs share the mirror: the second must not change it under the first. Kept until this process ends.
    fcntl.flock(lock, fcntl.LOCK_EX)
    mirror(source_files())
    prepare_home()
    tool = Path(sys.executable).parent / "ansible-test"
    # Without a content root, ansible-test asks the git of the enclosing checkout, which ignores .cache: no file is found.
    environment = {**os.environ, "HOME": str(HOME), "ANSIBLE_TEST_CONTENT_ROOT": str(TREE)}
    # A variable for the checkout would make ansible-test see the collection twice.
    environment.pop("ANSIBLE_COLLECTIONS_PATH", None)
    if "--python" not in arguments:
        # The same on every machine: whichever other Pythons lie on the PATH (a version manager's stand-ins fail when called).
        arguments = ["--python", f"{sys.version_info.major}.{sys.version_info.minor}", *arguments]
    if options.command == "integration":
        arguments = ["--local", *arguments]
    done = subprocess.run(
        [str(tool), options.command, "--color", "no", *arguments],
        cwd=TREE,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
    ).returncode
    if done < 0:
        print(f"ansible-test was ended by signal {-done}")
    return abs(done)


if __name__ == "__main__":
    sys.exit(main())
