# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert_leaf and file_backup as real modules: through ansible-playbook, killed at their writes, on full and read-only disks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import backup_contents, backup_set
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts, pki_tree

from tests.unit.support import throwaway

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = throwaway.Cluster(leaf_days=365.5)
ENVIRONMENT = dict(
    os.environ,
    ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"),
    NO_COLOR="1",
    ANSIBLE_LOCALHOST_WARNING="false",
    ANSIBLE_INVENTORY_UNPARSED_WARNING="false",
)

# Runs in the module's own process before it: ends it, as kill -9 would, at the numbered call that changes the disk.
KILLER = """
import os
count, at = 0, int(os.environ["KILL_AT"])
def counted(name, real):
    def call(*arguments, **options):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), 9)
        return real(*arguments, **options)
    return call
for name in ("rename", "fsync", "unlink", "symlink"):
    setattr(os, name, counted(name, getattr(os, name)))
import atexit
atexit.register(lambda: open(os.environ["KILL_COUNT"], "w").write(str(count)))
"""


def tree(root: Path) -> throwaway.Node:
    """A node whose own configuration names its files where they really are: below root."""
    node = throwaway.Node(root, CLUSTER)
    kubelet = [node.kubernetes("kubelet.conf"), node.path("/var/lib/kubelet/config.yaml")]
    for path in [*node.kubernetes("manifests").iterdir(), *kubelet]:
        text = path.read_text().replace("/etc/kubernetes", str(root / "etc/kubernetes"))
        path.write_text(text.replace("/var/lib/kubelet", str(root / "var/lib/kubelet")))
    return node


def options(root: Path, **more):
    """Options as a survey gives them: everything a string where it can be one."""
    return dict(
        {
            "kubernetes_dir": str(root / "etc/kubernetes"),
            "kubelet_dir": str(root / "var/lib/kubelet"),
            "state_dir": str(root.parent / "state"),
            "backup_dir": str(root.parent / "backups"),
        },
        **more,
    )


def run(module, arguments, **environment):
    """Run a module in a process of its own, as the node's Python would. Gives (return code, result or None)."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "ansible_collections.kubepki.lifecycle.plugins.modules." + module],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=dict(ENVIRONMENT, PYTHONPATH=os.pathsep.join([environment.pop("first", ""), str(ROOT / ".cache")]), **environment),
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None


def contents(root: Path):
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def serials(root: Path):
    read = pki_tree.read_tree(layouts.find_layout(str(root / "etc/kubernetes"), str(root / "var/lib/kubelet")))
    for item in read.items.values():
        assert item.problem is None and item.key_problem is None, item.name
        assert item.kind == "ca" or item.key_sha256 == item.certificate.key_sha256, item.name
    return {name: item.certificate.serial for name, item in read.items.items() if item.kind in ("leaf", "kubeconfig")}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """One playbook with every task of this file that needs Ansible around the module: {task name: result}."""
    folder = tmp_path_factory.mktemp("leaves")
    root = folder / "root"
    node = tree(root)
    node.issue("apiserver", days=12.5)
    leaf = "kubepki.lifecycle.cert_leaf"
    backup = "kubepki.lifecycle.file_backup"
    bad = folder / "bad" / "root"
    os.unlink(tree(bad).kubernetes("pki/ca.key"))
    tasks = [
        {"name": "backup", backup: options(root, keep="3")},
        {"name": "backup again", backup: options(root)},
        {"name": "check", leaf: options(root), "check_mode": True, "diff": True},
        {"name": "renew", leaf: options(root, renew_below_days="30", force="false", leaf_days="365", names="all"), "diff": True},
        {"name": "again", leaf: options(root)},
        {"name": "force", leaf: options(root, force="true", key_type="ecdsa-p256", names="apiserver,admin.conf")},
        {"name": "listed", backup: options(root, state="listed")},
        {"name": "restore checked", backup: options(root, state="restored"), "check_mode": True, "diff": True},
        {"name": "restore", backup: options(root, state="restored")},
        {"name": "restore again", backup: options(root, state="restored")},
        {"name": "external", leaf: options(bad, force=True), "ignore_errors": True},
        {"name": "unknown", leaf: options(root, names=["apiservr"]), "ignore_errors": True},
        {"name": "no set", backup: options(root, state="restored", set="nonsense"), "ignore_errors": True},
    ]
    for number, task in enumerate(tasks):
        task["register"] = "answer%d" % number
    everything = ", ".join("'%s': answer%d" % (task["name"], number) for number, task in enumerate(tasks))
    collected = folder / "answers.json"
    tasks.append(
        {
            "name": "collect",
            "ansible.builtin.copy": {"content": "{{ {%s} | to_json }}" % everything, "mode": "0600", "dest": str(collected)},
        }
    )
    playbook = folder / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    before_bad = contents(bad)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", str(playbook)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert collected.exists(), done.stdout + done.stderr
    results = json.loads(collected.read_text())
    collected.unlink()
    results.update(output=done.stdout + done.stderr, root=root, unchanged=contents(bad) == before_bad)
    return results


class TestPlaybook:
    def test_check_mode_tells_what_the_run_does(self, played):
        told, done = played["check"], played["renew"]
        assert told["changed"] and done["changed"] and told["backup"] is None
        assert (told["restart"], told["reload"]) == (done["restart"], done["reload"]) == ([], ["etcd", "kube-apiserver"])
        assert [row["action"] for row in told["leaves"]] == [row["action"] for row in done["leaves"]]
        assert [row["name"] for row in done["leaves"] if row["action"] == "renewed"] == ["apiserver"]
        assert done["leaves"][0]["before"] == told["leaves"][0]["before"]
        assert not played["again"]["changed"] and played["again"]["backup"] is None

    def test_diff_shows_certificates(self, played):
        assert "CN=kube-apiserver" in played["output"] and "(apiserver)" in played["output"]

    def test_no_key_leaves_the_node(self, played):
        keys = [
            line
            for path in played["root"].rglob("*")
            if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
            for line in path.read_text().splitlines()
            if len(line) == 64
        ]
        assert len(keys) > 10
        assert not [line for line in keys if line in played["output"]]
        assert "client-key-data" not in played["output"]

    def test_strings_are_taken(self, played):
        rows = {row["name"]: row for row in played["force"]["leaves"]}
        assert set(rows) == {"apiserver", "admin.conf"} and rows["apiserver"]["after"]["key_type"] == "ecdsa-p256"

    def test_a_set_is_made_once_and_puts_everything_back(self, played):
        assert played["backup"]["changed"] and not played["backup again"]["changed"]
        assert played["backup again"]["set"] == played["backup"]["set"]
        names = [row["job"] for row in played["listed"]["sets"]]
        assert names == ["cert-leaf", "cert-leaf", "backup"] and all(row["usable"] for row in played["listed"]["sets"])
        assert played["restore checked"]["restored"] == played["restore"]["restored"] != []
        assert not played["restore again"]["changed"]
        # A served pair and admin.conf: nobody has read them once and for all.
        assert played["restore"]["restart"] == []

    def test_failures_are_one_line_with_a_remedy(self, played):
        for name, word in (
            ("external", "managed elsewhere"),
            ("unknown", "Choose among: all, apiserver,"),
            ("no set", "there is no backup set nonsense. There are:"),
        ):
            assert played[name]["failed"] and word in played[name]["msg"] and "\n" not in played[name]["msg"]
            assert played[name]["fix"] and "seconds" in played[name]
        assert played["unchanged"] and "Traceback" not in played["output"]

    def test_seconds_are_told(self, played):
        assert all(played[name]["seconds"] > 0 for name in ("renew", "again", "restore", "listed"))


def test_a_kill_at_any_write_is_healed_by_a_rerun(tmp_path):
    """The process is killed in the middle of its work; the unit tests try every single point of the library."""
    root = tmp_path / "node" / "root"
    tree(root)
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    killer = {"first": str(tmp_path), "KILL_COUNT": str(tmp_path / "count")}
    wish = options(root, names=["apiserver", "etcd-server", "scheduler.conf"], force=True, key_type="ecdsa-p256")
    assert run("cert_leaf", wish, KILL_AT="0", **killer)[0] == 0
    total = int((tmp_path / "count").read_text())
    assert total > 40
    seen = set()
    # Most of the points lie in the backup; the last ones, where the files change, matter most.
    for point in sorted(set(range(2, total, total // 4)) | set(range(total - 20, total + 1, 3))):
        before = serials(root)
        code, result = run("cert_leaf", wish, KILL_AT=str(point), **killer)
        assert code == -9 and result is None, "point %d" % point
        code, result = run("cert_leaf", dict(wish, force=False))
        assert code == 0, result
        warned = json.dumps(result.get("warnings"))
        seen.update(how for how in ("undone", "finished") if "An interrupted run on this node was %s first." % how in warned)
        changed = [name for name, serial in serials(root).items() if before[name] != serial]
        assert changed in ([], wish["names"]), "point %d" % point
        assert not [path for path in (tmp_path / "node").rglob(".*.kubepki-*") if "backups" not in str(path)]
        for directory in backup_set.list_backups(str(tmp_path / "node" / "backups")):
            backup_contents.read_backup(directory)
    assert seen == {"undone", "finished"}


@contextlib.contextmanager
def mounted(directory: Path, size: str):
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", str(directory)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this machine mounts nothing: " + done.stderr.decode())
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
class TestDisks:
    WISH = {"names": ["apiserver", "etcd-server", "admin.conf"], "force": True, "key_type": "ecdsa-p256"}

    @pytest.mark.parametrize("left", [0, 8192, 16384])
    def test_a_full_disk_changes_nothing(self, tmp_path, left):
        root = tmp_path / "root"
        with mounted(root, "1m"):
            tree(root)
            before = contents(root)
            filler = root / "filler"
            status = os.statvfs(root)
            filler.write_bytes(b"x" * max(status.f_bavail * status.f_frsize - left, 0))
            code, result = run("cert_leaf", options(root, **self.WISH))
            assert code == 1 and "no space left" in result["msg"] and "Free some space" in result["fix"]
            assert str(root) in result["msg"]
            filler.unlink()
            assert contents(root) == before
            assert run("cert_leaf", options(root, **self.WISH))[1]["changed"]

    def test_a_full_disk_for_the_backup_changes_nothing(self, tmp_path):
        root = tmp_path / "root"
        tree(root)
        before = contents(root)
        with mounted(tmp_path / "small", "16k"):
            code, result = run("cert_leaf", options(root, backup_dir=str(tmp_path / "small" / "sets"), **self.WISH))
            assert code == 1 and "no space left" in result["msg"] and str(tmp_path / "small") in result["msg"]
        assert contents(root) == before

    @pytest.mark.parametrize("check", [False, True])
    def test_a_read_only_etc_changes_nothing(self, tmp_path, check):
        root = tmp_path / "root"
        with mounted(root, "2m"):
            tree(root)
            before = contents(root)
            subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
            code, result = run("cert_leaf", options(root, _ansible_check_mode=check, **self.WISH))
            assert code == 1 and "the file system is read-only" in result["msg"] and "Remount it read-write" in result["fix"]
            assert contents(root) == before and not (tmp_path / "backups").exists()
            assert run("cert_leaf", options(root))[1]["changed"] is False, "with nothing due there is nothing to complain about"
