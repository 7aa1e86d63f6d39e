# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of one node from which the controller derives the phase of a rotation: digests and names only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence

from ..errors import PkiError
from ..fileio import atomic, journals
from ..kubeadm import catalogue, layouts
from ..node import file_users, pending_restarts
from . import ca_files, ca_view, local_ca, obstacles
from .local_ca import LocalCa

if TYPE_CHECKING:
    from ..kubeadm.layouts import Layout
    from ..kubeadm.pki_tree import Tree

_INTERRUPTED = "Run again without check mode: it first finishes or undoes what was interrupted."


def facts(tree: Tree, state_dir: str = atomic.STATE_DIR, names: Sequence[str] = catalogue.ROTATABLE) -> dict[str, Any]:
    """Return the facts of this node that the phase is derived from, without key material.

    Beside what the phase needs: "certificates" {digest: {"subject", "not_after", "sha256"}} and "seconds"
    {phase: from its files to its last restart, last time}.
    """
    layout = tree.layout
    record = pending_restarts.read_record(state_dir)
    pending = pending_restarts.stale(record) + (
        ["kubelet"] if journals.Journal(journals.KUBELET_RESTART, state_dir).load() else []
    )
    interrupted = bool(journals.Journal(ca_files.JOB, state_dir).load())
    cas = local_ca.local_cas(layout, names, with_keys=False)
    found = ca_view.read(tree, cas)
    for name, local in cas.items():
        view = found["authorities"][name]
        view["problems"] = _problems(tree, local)
        if interrupted and local.problems:
            # Half-replaced files look damaged. A run repairs them before it reads; this is check mode or another reader.
            view["problems"] = [str(PkiError("a run ended while this was being replaced", path=local.path, fix=_INTERRUPTED))]
    return dict(
        found,
        journal=ca_files.JOB if interrupted else None,
        pending=pending,
        seconds=pending_restarts.phase_durations(record),
        pods=_pods(layout),
    )


def _problems(tree: Tree, local: LocalCa) -> list[str]:
    layout = tree.layout
    if layout.role == layouts.WORKER:
        return []
    found = list(local.problems)
    if local.name == "ca" and layout.role == layouts.CONTROL_PLANE:
        found += obstacles.find_all(tree, local)
    if local.name in layout.shared:
        found.append(obstacles.find_shared(layout, local))
    return [str(problem) for problem in found]


def _pods(layout: Layout) -> dict[str, dict[str, Any]]:
    """Return the static pods that use files which rotations replace: {name: {"cas", "stale", "why"}}."""
    found: dict[str, dict[str, Any]] = {}
    for user in file_users.users(layout):
        if user.uses():
            stale, other = bool(file_users.stale(layout, user)), found.get(user.name, {"cas": [], "stale": False, "why": None})
            # Two manifests of one name cannot be restarted, and both have a reason.
            found[user.name] = {
                "cas": sorted({*file_users.cas(layout, user), *other["cas"]}),
                "stale": stale or other["stale"],
                "why": user.why or other["why"],
            }
    return found
