# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library in an archive, as Ansible sends it to a node."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[5] / "plugins" / "module_utils" / "_pki"
PACKAGE = "ansible_collections/kubepki/lifecycle/plugins/module_utils/_pki"

LOOK = """
import json, sys
compiled = []
sys.addaudithook(lambda event, given: compiled.append(given[1]) if event == "compile" else None)
sys.path.insert(0, sys.argv[1])
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import findings, node_report, profiles
try:
    from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import no_such_room
    missing = "found"
except ImportError as error:
    missing = type(error).__name__
names = [name.rpartition("/")[2] for name in map(str, compiled) if name.startswith(sys.argv[1])]
print(json.dumps({"compiled": names, "file": profiles.__file__, "missing": missing, "doc": profiles.__doc__,
                  "other": findings.profiles is profiles}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "payload.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        parts = PACKAGE.split("/")
        for depth in range(1, len(parts)):
            archive.writestr("/".join([*parts[:depth], "__init__.py"]), "")
        for room in LIBRARY.glob("*.py"):
            archive.write(room, "%s/%s" % (PACKAGE, room.name))
    done = subprocess.run([sys.executable, "-B", "-c", LOOK, str(path)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout), archive=str(path))


def test_each_room_is_compiled_once(seen):
    rooms = [name for name in seen["compiled"] if name != "__init__.py"]
    assert {"findings.py", "profiles.py", "errors.py", "pki_tree.py"} < set(rooms)
    assert sorted(rooms) == sorted(set(rooms))


def test_a_room_is_what_it_would_be_otherwise(seen):
    assert seen["file"] == "%s/%s/profiles.py" % (seen["archive"], PACKAGE)
    assert seen["doc"] and seen["other"]


def test_what_is_not_there_cannot_be_imported(seen):
    assert seen["missing"] in ("ImportError", "ZipImportError", "ModuleNotFoundError")
