# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files belong in a set, which set is meant, and what a restore puts back."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    backup_contents,
    backup_paths,
    backup_restore,
    backup_set,
    backups,
    transaction_recovery,
    transactions,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts

from tests.unit.support import faults, throwaway

CLUSTER = throwaway.Cluster()


@pytest.fixture
def node(tmp_path):
    return throwaway.Node(tmp_path / "root", CLUSTER)


def paths(node):
    return backup_paths.default_paths(str(node.path("/etc/kubernetes")), str(node.path("/var/lib/kubelet")))


def make(node, check=False, keep=5):
    return backups.create_if_changed(paths(node), "backup", str(node.root.parent / "sets"), keep, check)


def restore(node, name="latest", chosen=None, check=False):
    sets = str(node.root.parent / "sets")
    return backup_restore.back_up_and_restore(
        backups.find_backup(name, sets), chosen, sets, str(node.root.parent / "state"), check
    )


def test_the_default_set_is_everything_kubeadm_and_the_kubelet_keep(node):
    node.write("/etc/kubernetes/manifests/.etcd.yaml.kubepki-1234", b"a temporary file")
    node.write("/etc/kubernetes/notes.txt", b"")
    found = {os.path.relpath(path, str(node.root)) for path in paths(node)}
    everything = {str(path.relative_to(node.root)) for path in node.root.rglob("*") if path.is_symlink() or path.is_file()}
    assert everything - found == {"etc/kubernetes/manifests/.etcd.yaml.kubepki-1234", "etc/kubernetes/notes.txt"}
    assert found <= everything


def test_directories_elsewhere_belong_to_the_set(node):
    node.move_pki("/etc/ssl/k8s")
    usual = str(node.path("/etc/kubernetes")), str(node.path("/var/lib/kubelet"))
    found = backup_paths.default_paths(*usual, [str(node.path("/etc/ssl/k8s")), str(node.kubernetes("manifests"))])
    assert str(node.path("/etc/ssl/k8s/etcd/ca.key")) in found and len(found) == len(set(found))
    assert set(backup_paths.default_paths(*usual)) < set(found)


def test_a_pipe_below_pki_is_passed_over(node):
    expected = paths(node)
    os.mkfifo(node.kubernetes("pki/agent.fifo"))
    assert paths(node) == expected and make(node)[1]
    with pytest.raises(PkiError, match="agent.fifo: .*is neither a file nor a symbolic link"):
        backup_set.create_backup([str(node.kubernetes("pki/agent.fifo"))], "backup", str(node.root.parent / "sets"))


def test_a_set_is_made_once(node):
    assert make(node, check=True)[:2] == (None, True) and not (node.root.parent / "sets").exists()
    directory, changed, entries = make(node)
    assert changed and entries == len(paths(node))
    assert make(node) == (directory, False, entries) == make(node, check=True)
    node.issue("apiserver")
    assert make(node)[:2] != (directory, False)


def test_what_was_there_comes_back_and_what_was_not_goes(node):
    before = {path: Path(path).read_bytes() for path in paths(node)}
    absent = str(node.kubernetes("pki/new.crt"))
    directory = backup_set.create_backup(paths(node) + [absent], "backup", str(node.root.parent / "sets"))
    Path(absent).write_bytes(b"x")
    node.issue("apiserver")
    os.unlink(node.kubernetes("admin.conf"))
    expected = sorted(str(node.kubernetes(name)) for name in ("admin.conf", "pki/apiserver.crt", "pki/new.crt"))
    assert sorted(restore(node, check=True)[0]) == expected and Path(absent).exists()
    changed, kept, entries = restore(node)
    assert sorted(changed) == expected and sorted(entries) == sorted([*before, absent]) and not Path(absent).exists()
    assert {path: Path(path).read_bytes() for path in paths(node)} == before
    assert restore(node)[:2] == ([], None), "latest is not the set that the restore made"
    assert restore(node, os.path.basename(kept))[0] and restore(node, directory)[0]


def test_a_part_of_a_set(node):
    make(node)
    node.issue("apiserver")
    node.issue("etcd-peer")
    assert [os.path.basename(path) for path in restore(node, chosen=[str(node.kubernetes("pki/etcd"))])[0]] == ["peer.crt"]
    with pytest.raises(PkiError, match="holds none of: /etc/other"):
        restore(node, chosen=["/etc/other"])


def test_the_oldest_set_can_be_restored_although_sets_are_pruned(node):
    first = make(node, keep=2)[0]
    node.issue("apiserver")
    make(node, keep=2)
    assert restore(node, os.path.basename(first))[0] == [str(node.kubernetes("pki/apiserver.crt"))]


@pytest.mark.parametrize("name, word", [("latest", "there is no backup set"), ("x", "no backup set x. There are: none")])
def test_a_set_that_is_not_there(tmp_path, name, word):
    with pytest.raises(PkiError, match=word):
        backups.find_backup(name, str(tmp_path / "sets"))


@pytest.mark.parametrize("given, word", [(["relative"], "not an absolute path"), (["/no/such"], "/no/such: does not exist")])
def test_wrong_paths(given, word):
    with pytest.raises(PkiError, match=word):
        backup_paths.expand_paths(given)


def test_a_damaged_set_is_listed_as_such_and_never_restored(node):
    directory = make(node)[0]
    Path(directory, "files", str(node.kubernetes("admin.conf")).lstrip("/")).write_bytes(b"x")
    before = {path: Path(path).read_bytes() for path in paths(node)}
    (row,) = backups.describe_backups(str(node.root.parent / "sets"))
    assert not row["usable"] and "does not match its checksum" in row["problem"]
    with pytest.raises(PkiError, match="does not match its checksum"):
        restore(node)
    assert {path: Path(path).read_bytes() for path in paths(node)} == before
    assert make(node)[1], "a damaged set is no reason not to make a good one"


def test_nothing_to_back_up(tmp_path):
    with pytest.raises(PkiError, match="nothing to back up"):
        backups.create_if_changed(backup_paths.default_paths(str(tmp_path), str(tmp_path)), backup_dir=str(tmp_path))


A = "20261115T080000.000000Z-cert-leaf"
B = ["20261122T0%d00.000000Z-kubelet" % (900 + number) for number in range(4)]


@pytest.mark.parametrize(
    "sets",
    [
        {},
        {"cp1": A},
        {"cp1": B[0], "cp2": B[1], "cp3": "/var/lib/kubepki/backups/" + B[2]},
        {"cp1": "20261122T090000.000000Z-cert-leaf", "cp2": "20261122T095900.000000Z-cert-leaf"},
    ],
)
def test_sets_of_one_job_belong_together(sets):
    assert backups.explain_mixed_sets(sets) is None


@pytest.mark.parametrize(
    "sets, newest",
    [
        ({"cp1": B[0], "cp2": A, "cp3": B[1]}, "cp1,cp3"),
        ({"cp1": A, "cp2": B[0]}, "cp2"),
        # The same kind of job, another day: only some nodes had something that was due.
        ({"cp1": A, "cp2": "20261122T090000.000000Z-cert-leaf"}, "cp2"),
        ({"cp1": "20261122T090000.000000Z-cert-ca-prepared", "cp2": "20261122T090100.000000Z-cert-leaf"}, "cp2"),
    ],
)
def test_sets_of_several_jobs_are_listed_with_the_nodes_of_the_newest(sets, newest):
    said = backups.explain_mixed_sets(sets)
    assert all(f"{host}: {name}" in said for host, name in sets.items()) and f"--limit {newest} " in said


# --- whose set it is, and where it goes -------------------------------------------------------------------------------------


def through_links(node, tmp_path):
    """pki is a link, and /var/lib/kubelet lies on a data disk."""
    for place, disk in ((node.kubernetes("pki"), tmp_path / "ssl"), (node.path("/var/lib/kubelet"), tmp_path / "disk")):
        place.rename(disk)
        place.symlink_to(disk)


def test_a_set_is_restored_through_links_to_its_directories(node, tmp_path):
    through_links(node, tmp_path)
    make(node)
    before = {path: Path(path).read_bytes() for path in paths(node)}
    spoiled = [str(node.kubernetes("pki/etcd/ca.key")), str(node.path("/var/lib/kubelet/config.yaml"))]
    for path in spoiled:
        Path(path).write_bytes(b"spoiled")
    assert restore(node, check=True)[0] == sorted(spoiled)
    assert sorted(restore(node)[0]) == sorted(spoiled)
    assert {path: Path(path).read_bytes() for path in paths(node)} == before
    assert node.kubernetes("pki").is_symlink() and node.path("/var/lib/kubelet").is_symlink()


def test_what_cannot_be_restored_is_known_in_a_check(node, tmp_path):
    make(node)
    through_links(node, tmp_path)
    node.kubernetes("pki/ca.key").write_bytes(b"spoiled")
    node.kubernetes(".").chmod(0o777)
    for check in (True, False):
        with pytest.raises(PkiError, match="kubernetes/pki: is a symbolic link that another user could have placed"):
            restore(node, check=check)
    assert node.kubernetes("pki/ca.key").read_bytes() == b"spoiled"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_link_of_root_in_a_directory_of_another_user(node, tmp_path):
    """kubespray: /etc/kubernetes belongs to the user kube, pki is root's link to ssl, and the flags name ssl."""
    node.kubernetes("pki").rename(node.kubernetes("ssl"))
    node.kubernetes("pki").symlink_to(node.kubernetes("ssl"))
    for manifest in node.kubernetes("manifests").iterdir():
        manifest.write_text(manifest.read_text().replace("/etc/kubernetes/pki", "/etc/kubernetes/ssl"))
    os.chown(node.kubernetes("."), 999, 0)
    node.kubernetes(".").chmod(0o755)
    layout = layouts.find_layout(root=str(node.root))
    assert layout.pki_dir == str(node.kubernetes("ssl"))
    assert layout.paths["front-proxy-ca"] == tuple(str(node.kubernetes("ssl/front-proxy-ca" + end)) for end in (".crt", ".key"))
    sets, state = str(tmp_path / "sets"), str(tmp_path / "state")
    named = backup_paths.default_paths(layout.kubernetes_dir, layout.kubelet_dir, (layout.pki_dir, layout.manifest_dir))
    key, before = node.kubernetes("pki/front-proxy-ca.key"), node.kubernetes("ssl/front-proxy-ca.key").read_bytes()

    def spoil():
        transaction = transactions.Transaction("t", state)
        transaction.write(str(key), b"spoiled")
        transaction.commit()

    directory, changed, _entries = backups.create_if_changed(named, backup_dir=sets)
    assert changed and not backups.create_if_changed(named, backup_dir=sets)[1]
    spoil()
    assert node.kubernetes("ssl/front-proxy-ca.key").read_bytes() == b"spoiled"
    assert str(node.kubernetes("ssl/front-proxy-ca.key")) in backup_restore.back_up_and_restore(directory, None, sets, state)[0]
    assert key.read_bytes() == before and node.kubernetes("pki").is_symlink()
    os.chown(node.kubernetes("pki"), 999, 999, follow_symlinks=False)
    for action in (
        lambda: backups.create_if_changed(named, backup_dir=sets),
        lambda: backup_restore.back_up_and_restore(directory, None, sets, state),
        spoil,
    ):
        with pytest.raises(PkiError, match=r"kubernetes/pki: .*is a symbolic link that another user could have placed"):
            action()
    assert node.kubernetes("ssl/front-proxy-ca.key").read_bytes() == before


def changed_manifest(directory, change):
    path = Path(directory, "manifest.json")
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_set_of_another_host_is_refused_and_one_of_none_is_taken(node):
    directory = make(node)[0]
    assert json.loads(Path(directory, "manifest.json").read_text())["host"] == os.uname().nodename
    node.issue("apiserver")
    changed_manifest(directory, lambda document: document.update(host="another-node"))
    for check in (True, False):
        with pytest.raises(PkiError, match="made on the host another-node, and this is .*Choose a set of this host"):
            restore(node, check=check)
    (row,) = backups.describe_backups(str(node.root.parent / "sets"))
    assert not row["usable"] and "another-node" in row["problem"]
    changed_manifest(directory, lambda document: document.pop("host"))
    assert not backup_contents.records_host(directory) and restore(node)[0] == [str(node.kubernetes("pki/apiserver.crt"))]


@pytest.mark.parametrize("what", ["", "manifest.json", "files"])
def test_a_set_that_others_can_write_is_refused(node, what):
    directory = make(node)[0]
    node.issue("apiserver")
    before = node.kubernetes("pki/apiserver.crt").read_bytes()
    Path(directory, what).chmod(0o777 if what != "manifest.json" else 0o666)
    with pytest.raises(PkiError, match="other users can write to this .*Choose another set"):
        restore(node)
    assert not backups.describe_backups(str(node.root.parent / "sets"))[0]["usable"]
    assert node.kubernetes("pki/apiserver.crt").read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["", "manifest.json"])
def test_a_set_of_another_user_is_refused(node, what):
    directory = make(node)[0]
    os.chown(Path(directory, what), 65534, 65534)
    with pytest.raises(PkiError, match="belongs to user 65534.*Choose another set"):
        restore(node)


def test_a_link_in_a_set_is_refused(node, tmp_path):
    directory = make(node)[0]
    copy = Path(directory, "files", str(node.kubernetes("admin.conf")).lstrip("/"))
    copy.rename(tmp_path / "copy")
    copy.symlink_to(tmp_path / "copy")
    with pytest.raises(PkiError, match="is a symbolic link, and a backup set holds none"):
        restore(node)


@pytest.mark.parametrize(
    "field, value, word",
    [
        ("mode", 0o4755, "records the mode 4755"),
        ("mode", 0o1777, "records the mode 1777"),
        ("uid", -1, "the owner -1:"),
        ("gid", -1, "records the mode"),
        ("mode", -1, "records the mode"),
        ("mode", True, "is damaged"),
    ],
)
def test_a_recorded_mode_or_owner_that_no_file_has_is_refused(node, field, value, word):
    directory = make(node)[0]
    changed_manifest(directory, lambda document: document["entries"][0].update({field: value}))
    assert json.loads(Path(directory, "manifest.json").read_text())["entries"][0]["type"] == "file"
    with pytest.raises(PkiError, match=word):
        restore(node)


def test_a_kill_at_any_point_of_a_restore_is_healed_by_the_next_one(node):
    """A few files are enough: one changed, one that goes, one that comes back, all in a directory behind a link."""
    folder, disk, sets = node.root / "srv", node.root.parent / "disk", str(node.root.parent / "sets")
    disk.mkdir()
    folder.symlink_to(disk)
    names = [str(folder / name) for name in ("a.key", "b.crt", "new")]

    def spoil():
        for name, content in zip(names, (b"spoiled", None, b"new")):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            if content is not None:
                Path(name).write_bytes(content)

    for name in names[:2]:
        Path(name).write_bytes(b"as it was")
    directory = backup_set.create_backup(names, "backup", sets)
    state, seen = str(node.root.parent / "state"), set()
    for point in range(1, 600):
        spoil()
        if not faults.kill_at(point, lambda: backup_restore.back_up_and_restore(directory, None, sets, state)):
            break
        seen.add(transaction_recovery.recover("restore", state))
        backup_restore.back_up_and_restore(directory, None, sets, state)
        assert [Path(name).read_bytes() for name in names[:2]] == [b"as it was"] * 2 and not os.path.exists(names[2])
        assert sorted(os.listdir(disk)) == ["a.key", "b.crt"]
    assert seen == {"nothing", "undone", "finished"} and point > 40
