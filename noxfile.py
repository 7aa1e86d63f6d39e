# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions for `nox`: each makes an environment of its own in .nox and calls the make target that has the commands.

`nox` runs lint, unit and integration. `nox -s unit -- -k NAME` passes arguments on to pytest.
"""

from __future__ import annotations

import os
import shlex

import nox

nox.needs_version = ">=2024.3.2"
nox.options.sessions = ["lint", "unit", "integration"]
nox.options.reuse_existing_virtualenvs = True


def make(session: nox.Session, target: str) -> None:
    """Run a target of the Makefile with the environment of the session in place of .venv."""
    # Relative, because the Makefile puts the checkout before it.
    environment = os.path.relpath(session.virtualenv.location)
    arguments = [f"ARGS={shlex.join(session.posargs)}"] if session.posargs else []
    session.run("make", target, f"VENV={environment}", *arguments, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Run every checker that CI runs."""
    make(session, "lint")


@nox.session
def unit(session: nox.Session) -> None:
    """Run the unit tests."""
    make(session, "test-unit")


@nox.session
def integration(session: nox.Session) -> None:
    """Run the modules through ansible-playbook on throw-away trees."""
    make(session, "test-integration")


@nox.session(venv_backend="none")
def matrix(session: nox.Session) -> None:
    """Run the tests with the oldest and newest Python, cryptography and ansible-core; the target makes its environments."""
    session.run("make", "test-matrix", external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Write the roles' READMEs and docs/reference."""
    make(session, "docs")
