# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write issued leaves: files, links, kubeconfigs, in one transaction."""

from __future__ import annotations

import datetime
import errno
import os
from typing import Any, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from ..errors import PkiError
from ..fileio import atomic, backup_set, guarded_files, guarded_paths, reading, transactions
from ..kubeadm import kubeconfig
from ..x509 import x509_read
from . import model

JOB = "leaves"

# (uid, gid); -1 leaves it as it is.
Owner = Tuple[int, int]

# A file to write: path, content, mode or None to keep it, owner or None.
Written = Tuple[str, bytes, Optional[int], Optional[Owner]]


def changes(decision: model.LeafDecision, settings: model.Settings) -> Tuple[List[Written], List[Tuple[str, str]]]:
    """Return the files a Decision writes: [(path, bytes, mode or None to keep it, owner or None)], and [(link, target)]."""
    leaf = decision.leaf
    # What follows the certificate in its file (an intermediate, a cross-signed CA) goes with the CA that signed it.
    follow = leaf.bundle[1:] if leaf.bundle and any(leaf.bundle[0].signed_by(ca) for ca in leaf.signer.bundle) else []
    chain = decision.certificate.pem + b"".join(extra.pem for extra in follow)
    key = decision.key.pem if decision.key is not None else None
    if leaf.form == model.KUBECONFIG and leaf.certificate_path is None:
        config = leaf.kubeconfig
        if config is None:
            text = kubeconfig.build(_need_server(leaf), x509_read.bundle(leaf.signer.bundle), _user(decision), chain, key)
            return [(leaf.path, text.encode("utf-8"), leaf.mode or 0o600, leaf.owner)], []
        config = config.with_client(chain, key)
        if leaf.server and config.server != leaf.server:
            config = config.with_server(leaf.server)
        # A CA with another subject: what the kubeconfig trusts accepts the API server's new certificate no more.
        if settings.embed_ca or leaf.is_renamed():
            config = config.with_ca(x509_read.bundle(leaf.signer.bundle))
        return [(leaf.path, bytes(config), leaf.mode or atomic.key_mode(leaf.path), leaf.owner)], []
    if leaf.certificate_path == leaf.key_path:
        path, links = _combined_target(leaf, settings.now)
        mode = leaf.mode or (0o600 if links else atomic.key_mode(path))
        return [(path, chain + key, mode, leaf.owner or _owner(leaf.key_path))], links
    written = [(leaf.certificate_path, chain, None if os.path.exists(leaf.certificate_path) else 0o644, leaf.owner)]
    if key is not None and (decision.new_key or leaf.mode):
        written.append((leaf.key_path, key, leaf.mode or atomic.key_mode(leaf.key_path), leaf.owner))
    return written, []


def _owner(path: str) -> Optional[Owner]:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_uid, status.st_gid


def _combined_target(leaf: model.Leaf, now: datetime.datetime) -> Tuple[str, List[Tuple[str, str]]]:
    """The kubelet keeps a dated file behind a link (client-go certificate_store.go); any other combined file is itself."""
    path = leaf.certificate_path
    directory, name = os.path.split(path)
    if not name.endswith("-current.pem") or not (os.path.islink(path) or leaf.missing):
        return path, []
    moment = now
    while True:
        dated = os.path.join(directory, name.replace("current", moment.strftime("%Y-%m-%d-%H-%M-%S")))
        if not os.path.lexists(dated):
            return dated, [(path, dated)]
        moment += datetime.timedelta(seconds=1)


def _need_server(leaf: model.Leaf) -> str:
    if leaf.server is None:
        raise PkiError(
            "there is none, and the address of the API server that it has to name is not known",
            path=leaf.path,
            fix="Restore it from a backup, or put a kubeconfig with the right server in its place.",
        )
    return leaf.server


def _user(decision: model.LeafDecision) -> str:
    # kubeadm names the user as the certificate does (cmd/kubeadm/app/phases/kubeconfig).
    return decision.certificate.common_name


def _check_alone(decision: model.LeafDecision, path: str, decisions: Iterable[model.LeafDecision]) -> None:
    """Raise PkiError where what is written there belongs to another certificate, too, which keeps its other file."""
    real, own = os.path.realpath(path), decision.leaf.files()
    others = [(other.leaf.name, other.leaf.files()) for other in decisions if other is not decision]
    for what, paths in decision.leaf.neighbours + others:
        # All its files in common, and it is one pair under two names.
        if real in paths and paths != own:
            raise PkiError(
                "is a file of %s as well as of %s: renewing the one would spoil the other. Nothing was changed"
                % (what, decision.leaf.name),
                path=path,
                fix="Give each files of its own: put a copy in place of the link (`cp --remove-destination`), then run again.",
            )


class Writes:
    """All that a run writes: files {path: (bytes, mode or None, owner or None)}, by their real paths; links {link: target}."""

    def __init__(self, decisions: Sequence[model.LeafDecision], settings: model.Settings) -> None:
        self.files: Dict[str, Tuple[bytes, Optional[int], Optional[Owner]]] = {}
        self.links: Dict[str, str] = {}
        self.named: Set[str] = set()
        for decision in decisions:
            if decision.certificate is not None:
                written, links = changes(decision, settings)
                for path, data, mode, owner in written:
                    _check_alone(decision, path, decisions)
                    self._add(path, data, mode, owner)
                self.links.update(links)

    def _add(self, path: str, data: bytes, mode: Optional[int], owner: Optional[Owner]) -> None:
        real = guarded_paths.resolve(path)
        if real in self.files and self.files[real][0] != data:
            raise PkiError("two certificates are to be written to this file", path=path, fix="Give each a file of its own.")
        if owner is not None and -1 in owner:
            present = _owner(real) or (os.geteuid(), os.getegid())
            owner = (present[0] if owner[0] == -1 else owner[0], present[1] if owner[1] == -1 else owner[1])
        self.files[real] = (data, mode, owner)
        self.named.add(path)

    def concerned(self) -> Set[str]:
        """Return every path whose present content a backup has to hold: files, links, and what links lead to."""
        return set(self.files) | self.named | set(self.links) | {os.path.realpath(path) for path in self.links}

    def check_room(self, state_dir: str, backup_dir: str) -> None:
        """Raise PkiError unless there is space, and permission, for all of it. Writes nothing."""
        needed: Dict[str, int] = {}
        for path, (data, _mode, _owner) in self.files.items():
            directory = os.path.dirname(path)
            if not os.path.isdir(directory):
                raise PkiError("the directory %s does not exist" % directory, path=path, fix="Create it, or correct the path.")
            needed[directory] = needed.get(directory, 0) + _blocks(len(data))
        # The backup holds the old versions, about as large; the journal is small.
        needed[backup_dir] = needed.get(backup_dir, 0) + sum(needed.values()) + 16384
        needed[state_dir] = needed.get(state_dir, 0) + 16384
        devices: Dict[int, List[Any]] = {}
        for directory, size in needed.items():
            existing = atomic.existing_directory(directory)
            _check_access(existing)
            devices.setdefault(os.stat(existing).st_dev, [existing, 0])[1] += size
        for directory, size in devices.values():
            free = atomic.free_bytes(directory)
            if free < size:
                raise PkiError(
                    "no space left on the file system: %d KiB are needed and %d are free" % (-(-size // 1024), free // 1024),
                    path=directory,
                    fix="Free some space and run again; nothing was changed.",
                )


def apply(writes: Writes, state_dir: str = atomic.STATE_DIR, backup_dir: str = atomic.BACKUP_DIR, keep: int = 5) -> Optional[str]:
    """Write all that was issued: a backup set first, then one transaction, then read back and compared.

    writes: a Writes. Returns the directory of the backup set, or None where there was nothing to do. Raises PkiError; the files
    are then as they were, but for a disk that fails in the middle of the renames, which the next run heals.
    """
    if not writes.files:
        return None
    transaction = transactions.Transaction(JOB, state_dir)
    for path, (data, mode, owner) in writes.files.items():
        transaction.write(path, data, mode, owner)
    for path, target in writes.links.items():
        transaction.symlink(path, target)
    backup = backup_set.create_backup(writes.concerned(), "cert-leaf", backup_dir, keep)
    transaction.commit()
    for path, (data, _mode, _owner) in writes.files.items():
        if reading.read(path) != data:
            raise PkiError(
                "does not hold what was just written to it",
                path=path,
                fix="Something else writes it, or the disk fails (see `dmesg`); the backup set %s has what was "
                "there before." % backup,
            )
    return backup


def adjust(found: Iterable[model.Leaf], check: bool) -> List[str]:
    """Return Leaves the owner and mode that was asked for. Returns the paths that had others; with check nothing changes."""
    changed = []
    for leaf in found:
        if leaf.mode is None and leaf.owner is None:
            continue
        paths = {path for path in (leaf.certificate_path, leaf.key_path, leaf.path) if path and os.path.exists(path)}
        for path in sorted(paths):
            status = os.stat(path)
            # The mode is that of what holds the key.
            holds_key = path == leaf.key_path or leaf.form != model.PAIR
            mode = leaf.mode if holds_key and leaf.mode is not None else status.st_mode & 0o7777
            owner = leaf.owner or (-1, -1)
            wrong = mode != status.st_mode & 0o7777 or owner[0] not in (-1, status.st_uid) or owner[1] not in (-1, status.st_gid)
            if wrong:
                changed.append(path)
            if wrong and not check:
                guarded_files.set_attributes(path, mode, owner)
    return changed


def _blocks(size: int) -> int:
    return -(-size // 4096) * 4096


def _check_access(directory: str) -> None:
    # Root is denied nothing by access(2) but what a read-only file system denies.
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise reading.explain(OSError(errno.EROFS, ""), directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise reading.explain(OSError(errno.EACCES, ""), directory)
