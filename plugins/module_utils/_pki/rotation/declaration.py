# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What files and flags a node is to have, and writing them in one transaction."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Set, Tuple

from ..errors import PkiError
from ..fileio import atomic, backup_set, reading, transaction_recovery, transactions
from ..node import pending_restarts
from .ca_files import JOB, NEXT, PREVIOUS
from .local_ca import Trusted, parse_bundle

if TYPE_CHECKING:
    from ..kubeadm.layouts import Layout

# The mode of a new file: a certificate, a CA's key; a component's key is readable for its user, too (atomic.key_mode).
PUBLIC, SECRET, COMPONENT = 0o644, 0o600, None

_END = re.compile(b"-----END [A-Z0-9 ]+-----[^\n]*\n?")


class Declaration:
    """What a node is to look like.

    writes: {path: (bytes, mode)}, where mode is PUBLIC, SECRET or COMPONENT. removals: paths. edits: {component: {flag: value, or
    None to remove it}}. restarts: components ("kubelet" among them). reloads: components that reload their new leaf themselves.
    leaves: [{"name", "path", "before", "after"}], described. notes: sentences for the user. trust: {CA: bytes of its bundle}.
    """

    def __init__(self) -> None:
        self.writes: Dict[str, Tuple[bytes, Optional[int]]] = {}
        self.removals: List[str] = []
        self.edits: Dict[str, Dict[str, Optional[str]]] = {}
        self.restarts: Set[str] = set()
        self.reloads: Set[str] = set()
        self.leaves: List[Dict[str, Any]] = []
        self.notes: List[str] = []
        self.trust: Dict[str, bytes] = {}

    def write(self, path: str, data: bytes, mode: Optional[int]) -> bool:
        """Declare the content of a file. Return whether that is a change."""
        if reading.read_if_exists(path) != data:
            self.writes[path] = (data, mode)
            return True
        return False

    def remove(self, path: str) -> None:
        """Declare that a file does not exist."""
        if os.path.lexists(path):
            self.removals.append(path)

    @property
    def changed(self) -> bool:
        """Whether anything on disk differs from what is declared."""
        return bool(self.writes or self.removals)


def bundle_text(name: str, data: Optional[bytes], wanted: Iterable[Trusted], path: str) -> bytes:
    """Return the bytes of a bundle that trusts exactly `wanted`, in that order.

    data: the bundle as it is, or None. What it holds already keeps its bytes, with the text before it, after the last one, and a
    missing last line break: adding a CA and removing it again leaves the file as it was.
    """
    data = data or b""
    chunks: Dict[str, bytes] = {}
    start = 0
    for match in _END.finditer(data):
        chunk = data[start : match.end()]
        start = match.end()
        try:
            digest = parse_bundle(name, chunk, path)[0].key_sha256
        except PkiError:
            continue  # a private key, say: bundles are public, and cluster-info gets them
        chunks[digest] = chunks.get(digest, b"") + (chunk if chunk.endswith(b"\n") else chunk + b"\n")
    parts: Dict[str, bytes] = {}
    for item in wanted:
        parts.setdefault(item.key_sha256, chunks.get(item.key_sha256) or item.pem)
    text = b"".join(parts.values()) + data[start:]
    return text[:-1] if data and not data.endswith(b"\n") and text.endswith(b"\n") else text


def apply(
    layout: Layout,
    declaration: Declaration,
    job: str,
    state_dir: str = atomic.STATE_DIR,
    backup_dir: str = atomic.BACKUP_DIR,
    backup_keep: int = 5,
    phase: Optional[str] = None,
) -> Optional[str]:
    """Make a node what is declared: one backup set, then one transaction. Return the backup set's directory, None for no change.

    phase: the name under which the time until the last restart is recorded, for the next plan. What has to be restarted is
    recorded in the same transaction, so that an interrupted run does not lose it. Raises PkiError with nothing changed.
    """
    if not declaration.changed:
        return None
    backup = backup_set.create_backup(list(declaration.writes) + declaration.removals, job, backup_dir, backup_keep)
    transaction = transactions.Transaction(JOB, state_dir)
    for path, (data, mode) in declaration.writes.items():
        atomic.make_directory(os.path.dirname(path))
        transaction.write(path, data, _mode(path, mode))
    for path in declaration.removals:
        transaction.remove(path)
    record = pending_restarts.updated_record(state_dir, declaration.restarts, phase)
    atomic.make_directory(state_dir)
    transaction.write(
        os.path.join(state_dir, pending_restarts.RECORD), json.dumps(record, sort_keys=True).encode("utf-8"), SECRET
    )
    transaction.commit()
    _remove_empty_directories(layout)
    return backup


def recover(layout: Layout, state_dir: str = atomic.STATE_DIR) -> str:
    """Finish or undo what a killed run left on this node. Return "nothing", "undone" or "finished"."""
    found = transaction_recovery.recover(JOB, state_dir)
    _remove_empty_directories(layout)
    return found


def _mode(path: str, mode: Optional[int]) -> Optional[int]:
    """Return the mode to write a file with, or None to keep that of a certificate that exists."""
    if mode is COMPONENT:
        return atomic.key_mode(path)
    return None if mode == PUBLIC and os.path.lexists(path) else mode


def _remove_empty_directories(layout: Layout) -> None:
    """Remove pki.next and pki.previous where they are empty."""
    for where in (NEXT, PREVIOUS):
        directory = os.path.join(layout.kubernetes_dir, where)
        for folder, _folders, _found in os.walk(directory, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue  # not empty
