# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The throw-away nodes of the unit tests serve here, too, and need the collection to be importable; the archive is built once."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import userland

runpy.run_path(str(Path(__file__).resolve().parents[1] / "unit" / "conftest.py"))


def pytest_collection_modifyitems(config, items):
    """What a file's tests share is made once, wherever they run; the archive and its environment, a minute's work, too."""
    if not config.pluginmanager.hasplugin("xdist"):
        return  # one process, as in the Debian of `make test-matrix`; the mark is unknown there
    for item in items:
        item.add_marker(pytest.mark.xdist_group("archive" if "installed" in item.fixturenames else item.path.stem))


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """The archive that users download."""
    return userland.build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def installed(archive, tmp_path_factory):
    """A user's folder, with the collection in its folder collections."""
    folder = tmp_path_factory.mktemp("user")
    userland.install(archive, folder)
    return folder


@pytest.fixture(scope="session")
def tools(installed):
    """The bin folder of a new environment, as an execution environment has it."""
    return userland.execution_environment(installed)
