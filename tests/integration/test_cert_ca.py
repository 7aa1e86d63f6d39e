# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert_ca, rotation_files and cluster_pki on throw-away nodes: through ansible-playbook, and killed before every single write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import pending_restarts
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.rotation import ca_facts, declaration, desired_state, new_ca
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.static_pod import pod_restart
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import rotation_state

from tests.unit.support import faults, throwaway

ROOT = Path(__file__).resolve().parents[2]
# Every n-th write point; 1 is every one, which takes long: `make test-chaos`.
STRIDE = int(os.environ.get("KUBEPKI_KILL_STRIDE", "97"))
PKI = "/etc/kubernetes/pki"


def control_plane(root: Path, where: str = ""):
    """A node; its configuration names its files below `where`."""
    node = throwaway.Node(root)
    node.manifest(
        "kube-controller-manager",
        [
            "--kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--cluster-signing-cert-file=%s/ca.crt" % PKI,
            "--cluster-signing-key-file=%s/ca.key" % PKI,
            "--service-account-private-key-file=%s/sa.key" % PKI,
        ],
    )
    kubelet = [node.kubernetes("kubelet.conf"), node.path("/var/lib/kubelet/config.yaml")]
    for path in [*node.kubernetes("manifests").iterdir(), *kubelet]:
        text = path.read_text().replace("/etc/kubernetes", where + "/etc/kubernetes")
        path.write_text(text.replace("/var/lib/kubelet", where + "/var/lib/kubelet"))
    return node


# ---- through ansible-playbook ----


def task(root: Path, name: str, module: str = "internal.rotation_files", **options) -> dict:
    options = {"state_dir": str(root / "state"), **options}
    if module != "cert_ca":
        options.update(kubernetes_dir=str(root / "etc/kubernetes"), kubelet_dir=str(root / "var/lib/kubelet"))
    if module != "cluster_pki":
        options["backup_dir"] = str(root / "backups")
    return {"name": name, "kubepki.lifecycle." + module: options, "ignore_errors": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Give {task: result} of one playbook that goes through a rotation, and the folder."""
    folder = tmp_path_factory.mktemp("rotation")
    root = folder / "node"
    control_plane(root, str(root))
    place = str(folder / "own") + "/"
    own = {
        "state": "present",
        "path": place + "ca.crt",
        "key_path": place + "ca.key",
        "common_name": "site",
        "ca_days": "73000",
        "key_type": "ecdsa-p384",
    }
    below = {
        "state": "present",
        "path": place + "sub.crt",
        "key_path": place + "sub.key",
        "common_name": "sub",
        "ca_days": "365",
        "key_type": "ecdsa-p256",
        "parent_path": own["path"],
        "parent_key_path": own["key_path"],
    }
    unmade = {**own, "path": place + "new.crt", "key_path": place + "new.key", "state_dir": place + "state"}
    same_file = {**own, "key_path": own["path"], "force": "true"}
    tasks = [
        task(root, "too early", state="switched"),
        task(root, "stage in check mode", state="staged", key_type="ecdsa-p256") | {"check_mode": True},
        task(root, "stage", state="staged", key_type="ecdsa-p256"),
        task(root, "stage again", state="staged", key_type="ecdsa-p256"),
        task(root, "export", state="staged", export="true"),
        task(root, "prepare in check mode", state="prepared") | {"check_mode": True, "diff": True},
        task(root, "prepare", state="prepared") | {"diff": True},
        task(root, "prepare again", state="prepared"),
        task(root, "facts", "cluster_pki"),
        task(root, "switch", state="switched"),
        task(root, "dependents", "cluster_pki", dependents="yes"),
        task(root, "own", "cert_ca", **own),
        task(root, "own again", "cert_ca", **own),
        task(root, "own renewed", "cert_ca", **dict(own, force="true")),
        task(root, "below", "cert_ca", **below),
        task(root, "own in check mode", "cert_ca", **unmade) | {"check_mode": True},
        task(root, "one file for both", "cert_ca", **same_file),
    ]
    for number, item in enumerate(tasks):
        item["register"] = "r%d" % number
    answers = "{{ {%s} | to_json }}" % ", ".join("'%s': r%d" % (item["name"], number) for number, item in enumerate(tasks))
    tasks.append({"ansible.builtin.copy": {"content": answers, "dest": str(folder / "answers.json"), "mode": "0600"}})
    play = folder / "play.yml"
    play.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "localhost,",
            "-v",
            "-e",
            "ansible_python_interpreter=" + sys.executable,
            str(play),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (folder / "answers.json").exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads((folder / "answers.json").read_text()), folder, done.stdout


def carry(folder: Path, **environment: str):
    """Carry successors from one node to another with pipelining off. Gives (what was shown of each task, the last result)."""
    cluster = throwaway.Cluster()
    for name in ("giver", "taker"):
        throwaway.Node(folder / name, cluster)
    give = task(folder / "giver", "give", state="staged", key_type="ecdsa-p256", export="true")
    take = task(folder / "taker", "take", state="staged", material="{{ given.material }}")
    tasks = [
        give | {"register": "given"},
        take | {"register": "taken"},
        {"ansible.builtin.copy": {"content": "{{ taken | to_json }}", "dest": str(folder / "taken.json"), "mode": "0600"}},
    ]
    play = folder / "play.yml"
    play.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "localhost,",
            "-vvv",
            "-e",
            "ansible_python_interpreter=" + sys.executable,
            str(play),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_PIPELINING": "0", **environment},
        check=False,
    )
    shown = {part.split("]")[0]: part for part in done.stdout.split("TASK [")}
    return shown, json.loads((folder / "taken.json").read_text())


def test_keys_go_to_a_node_through_memory_even_where_pipelining_is_off(tmp_path):
    shown, taken = carry(tmp_path)
    assert " PUT " in shown["give"] and " PUT " not in shown["take"]
    assert taken["changed"] and (tmp_path / "taker/etc/kubernetes/pki.next/ca.key").exists()


def test_where_they_would_lie_in_a_file_they_do_not_go(tmp_path):
    shown, taken = carry(tmp_path, ANSIBLE_KEEP_REMOTE_FILES="1", ANSIBLE_REMOTE_TMP=str(tmp_path / "remote"))
    assert taken["failed"] and "ANSIBLE_KEEP_REMOTE_FILES" in taken["msg"] and " PUT " not in shown["take"]
    assert not (tmp_path / "taker/etc/kubernetes/pki.next").exists()


def test_a_phase_out_of_turn_fails_with_what_to_do(run):
    results, _folder, _output = run
    assert results["too early"]["failed"] and "Stage it first" in results["too early"]["msg"]


def test_check_mode_tells_what_a_run_does_and_a_second_run_does_nothing(run):
    results, _folder, _output = run
    for name in ("stage", "prepare"):
        assert results[name + " in check mode"]["changed"] and results[name]["changed"]
        assert not results[name + " again"]["changed"]
    assert results["prepare in check mode"]["notes"] == results["prepare"]["notes"] != []
    assert results["prepare in check mode"]["restart"] == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    # Nothing runs here, so nothing runs with old files; only flags of two manifests have to change.
    assert results["prepare"]["restart"] == ["kube-apiserver", "kube-controller-manager"]
    assert results["prepare"]["edits"]["kube-apiserver"] == {"--service-account-lookup": "0"}
    assert "trusts" in results["prepare"]["diff"]["after"]


def test_a_phase_says_what_has_to_be_restarted_with_which_flags(run):
    results, folder, _output = run
    flags = results["prepare"]["edits"]["kube-controller-manager"]
    assert flags == {"--cluster-signing-cert-file": str(folder / "node/etc/kubernetes/pki/ca-signing.crt")}
    assert results["switch"]["reload"] == ["etcd"]
    assert len(results["switch"]["leaves"]) == 10
    assert results["switch"]["authorities"]["ca"]["previous"] == results["stage"]["authorities"]["ca"]["signer"]


def test_facts_and_dependents_hold_digests_and_names(run):
    results, _folder, _output = run
    assert results["facts"]["node"]["authorities"]["ca"]["next"] == results["stage"]["authorities"]["ca"]["next"]
    # The kubelet's own files are another module's, which has not run here.
    assert {Path(item["path"]).name for item in results["dependents"]["dependents"]} == {
        "kubelet.conf",
        "kubelet-client-current.pem",
    }


def test_key_material_shows_only_where_it_is_asked_for(run):
    results, _folder, output = run
    assert set(results["export"]["material"]) == set(catalogue.ROTATABLE)
    assert "PRIVATE KEY" in results["export"]["material"]["ca"]["key"]
    assert [name for name, result in results.items() if "PRIVATE KEY" in json.dumps(result)] == ["export"]
    assert output.count("PRIVATE KEY") == json.dumps(results["export"]).count("PRIVATE KEY")


def test_an_authority_of_ones_own(run):
    results, folder, _output = run
    assert [results[name]["changed"] for name in ("own", "own again", "own renewed", "below")] == [True, False, True, True]
    assert results["own"]["certificate"]["not_after"].startswith("22")
    text = subprocess.run(
        ["openssl", "verify", "-CAfile", str(folder / "own/ca.crt"), str(folder / "own/sub.crt")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert text.strip().endswith("OK")
    assert (folder / "own/ca.key").stat().st_mode & 0o777 == 0o600


def test_check_mode_makes_nothing_at_all(run):
    results, folder, _output = run
    assert results["own in check mode"]["changed"]
    assert sorted(path.name for path in (folder / "own").iterdir()) == ["ca.crt", "ca.key", "sub.crt", "sub.key"]


def test_one_file_for_a_ca_and_its_key_is_refused(run):
    """The certificate would be written over by the key, or a renewed one over the key."""
    results, folder, _output = run
    answer = results["one file for both"]
    assert answer["failed"] and answer["path"] == str(folder / "own/ca.crt") and "file of its own" in answer["fix"]


# ---- killed before every write ----


class Tree:
    """One node's tree, and what rotation_files does to it, in this process."""

    def __init__(self, root: Path):
        self.root, self.state, self.backups = root, str(root / "state"), str(root / "backups")

    def read(self):
        return pki_tree.read_tree(layouts.find_layout(root=str(self.root)))

    def stage(self):
        declaration.recover(self.read().layout, self.state)
        declared, _staged = new_ca.declare_staged(self.read(), catalogue.ROTATABLE, None, key_type="ecdsa-p256")
        declaration.apply(self.read().layout, declared, "staged", self.state, self.backups)

    def level(self, level: int):
        declaration.recover(self.read().layout, self.state)
        declared = desired_state.declare(self.read(), catalogue.ROTATABLE, level)
        declaration.apply(self.read().layout, declared, "level", self.state, self.backups)

    def flags(self, level: int):
        """What static_pod_restart does with the edits."""
        path = self.root / "etc/kubernetes/manifests/kube-controller-manager.yaml"
        text = path.read_text().replace("pki/ca-signing.crt", "pki/ca.crt")
        if level in (1, 2):
            text = text.replace("cert-file=%s/ca.crt" % PKI, "cert-file=%s/ca-signing.crt" % PKI)
        path.write_text(text)

    def complete_level(self, level: int):
        self.level(level)
        self.flags(level)
        self.level(level)

    def states(self):
        facts = ca_facts.facts(self.read(), self.state)
        facts["authorities"]["ca"]["leaves"].pop("kubelet-client")
        facts["authorities"]["ca"]["trust"].pop("kubelet.conf")
        return rotation_state.derive_all([facts])


PHASES = {
    "stage": ([], lambda tree: tree.stage(), "preparing"),
    "prepare": (["stage"], lambda tree: tree.complete_level(1), "prepared"),
    "switch": (["stage", 1], lambda tree: tree.complete_level(2), "switched"),
    "complete": (["stage", 1, 2], lambda tree: tree.complete_level(3), "stable"),
    "back from switched": (["stage", 1, 2], lambda tree: tree.complete_level(1), "prepared"),
    "back from prepared": (["stage", 1], lambda tree: tree.complete_level(0), "stable"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_killed_before_any_write_and_run_again(tmp_path, monkeypatch, phase):
    monkeypatch.setattr(pending_restarts, "started", lambda component: -1)
    before, action, wanted = PHASES[phase]
    start = tmp_path / "start"
    control_plane(start)
    ready = Tree(start)
    for step in before:
        if step == "stage":
            ready.stage()
        else:
            ready.complete_level(step)
    point, killed = 1, True
    while killed:
        root = tmp_path / ("at%d" % point)
        shutil.copytree(start, root, symlinks=True)
        tree = Tree(root)
        killed = faults.kill_at(point, lambda tree=tree: action(tree))
        if killed:
            pod_restart.restore(tree.state)  # as preflight does, before anything is looked at
            assert not any(state.phase == "impossible" for state in tree.states().values()), point
            action(tree)
        assert {state.phase for state in tree.states().values()} == {wanted}, point
        assert [path.name for path in (root / "etc").rglob(".*") if ".kubepki-" in path.name] == []
        assert [path.name for path in (root / "state/journal").glob("*.json") if not path.name.startswith(".")] == []
        shutil.rmtree(root)
        point += STRIDE
    assert point > 1 + STRIDE, "nothing was killed"
