# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""cert_expiry through ansible-playbook on throw-away nodes: what it returns, how it fails, what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.support import throwaway

ROOT = Path(__file__).resolve().parents[2]


def tree(root: Path):
    """A node whose own configuration names its files where they really are: below root."""
    node = throwaway.Node(root)
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        path = node.kubernetes("manifests/%s.yaml" % name)
        path.write_text(path.read_text().replace("/etc/kubernetes", str(root / "etc/kubernetes")))
    for path in (node.kubernetes("kubelet.conf"), node.path("/var/lib/kubelet/config.yaml")):
        text = path.read_text().replace("/etc/kubernetes", str(root / "etc/kubernetes"))
        path.write_text(text.replace("/var/lib/kubelet", str(root / "var/lib/kubelet")))
    return node


def digests(root: Path):
    return {str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in root.rglob("*")}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Run every task of this file in one playbook: {task: result}."""
    folder = tmp_path_factory.mktemp("expiry")
    well, bad, textfile = folder / "well", folder / "bad", folder / "textfile"
    textfile.mkdir()
    tree(well)
    damaged = tree(bad)
    damaged.write("/etc/kubernetes/pki/apiserver.crt", b"not a certificate")
    damaged.write("/etc/kubernetes/pki/front-proxy-client.key", throwaway.key("x").pem[:100])
    damaged.write("/etc/kubernetes/scheduler.conf", b"a: [")
    damaged.write("/etc/kubernetes/manifests/etcd.yaml", b"\x00\x01binary")
    damaged.write("/var/lib/kubelet/config.yaml", b"")
    os.unlink(damaged.kubernetes("pki/ca.key"))
    before = digests(folder)

    def task(name, **options):
        where = bad if name == "bad" else well
        options = dict(
            {"kubernetes_dir": str(where / "etc/kubernetes"), "kubelet_dir": str(where / "var/lib/kubelet"), "live": "false"},
            **options,
        )
        return {"name": name, "kubepki.lifecycle.cert_expiry": options, "ignore_errors": True}

    tasks = [
        task("well"),
        task("bad"),
        task("strings", warn_below_days="400", critical_below_days="7", live="no"),
        task("short", fail_below_days="366"),
        task("textfile checked", textfile_dir=str(textfile)),
        task("textfile", textfile_dir=str(textfile)),
        task("textfile again", textfile_dir=str(textfile)),
        task("no folder", textfile_dir=str(folder / "none")),
        task("wrong type", warn_below_days="soon"),
        task("below nothing", warn_below_days="-1"),
        task("clock", controller_clock=1000000000.5),
        task("nothing there", kubernetes_dir=str(folder / "none"), kubelet_dir=str(folder / "none")),
    ]
    tasks[4]["check_mode"] = True
    for number, one in enumerate(tasks):
        one["register"] = "answer%d" % number
    everything = ", ".join("'%s': answer%d" % (one["name"], number) for number, one in enumerate(tasks))
    collected = folder / "answers.json"
    tasks.append(
        {
            "name": "collect",
            "ansible.builtin.copy": {"content": "{{ {%s} | to_json }}" % everything, "mode": "0600", "dest": str(collected)},
        }
    )
    playbook = folder / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    environment = dict(
        os.environ,
        ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"),
        NO_COLOR="1",
        ANSIBLE_LOCALHOST_WARNING="false",
        ANSIBLE_INVENTORY_UNPARSED_WARNING="false",
    )
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", str(playbook)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert collected.exists(), done.stdout + done.stderr
    results = json.loads(collected.read_text())
    collected.unlink()
    results["output"] = done.stdout + done.stderr
    after = digests(folder)
    results["changed files"] = sorted(path for path in set(before) | set(after) if before.get(path) != after.get(path))
    results["folder"] = folder
    return results


def test_a_node_that_is_well(answers):
    result = answers["well"]
    assert not result["changed"] and result["status"] == "ok" and result["node"]["findings"] == []
    assert len(result["node"]["certificates"]) == 15 and result["seconds"] < 10
    assert result["node"]["facts"]["role"] == "control-plane"


def test_every_bad_file_is_told_and_nothing_fails(answers):
    result = answers["bad"]
    assert not result["failed"] and result["status"] == "critical"
    told = {(one["code"], os.path.relpath(one["path"], answers["folder"] / "bad")) for one in result["node"]["findings"]}
    assert told >= {
        ("unreadable", "etc/kubernetes/pki/apiserver.crt"),
        ("unreadable", "etc/kubernetes/pki/front-proxy-client.key"),
        ("unreadable", "etc/kubernetes/scheduler.conf"),
        ("unreadable", "etc/kubernetes/manifests/etcd.yaml"),
        ("unreadable", "var/lib/kubelet/config.yaml"),
        ("external-ca", "etc/kubernetes/pki/ca.crt"),
    }
    assert all(one["fix"] for one in result["node"]["findings"])
    rows = {row["name"]: row for row in result["node"]["certificates"]}
    assert rows["apiserver"]["status"] == "critical" and "not PEM" in rows["apiserver"]["problem"]
    assert rows["apiserver-kubelet-client"]["externally_managed"] and not rows["front-proxy-client"]["externally_managed"]


def test_strings_are_numbers_and_truths(answers):
    assert answers["strings"]["status"] == "warning"


def test_a_threshold_fails_and_still_tells_everything(answers):
    result = answers["short"]
    assert result["failed"] and "11 of 15 certificates have less than 366 days left" in result["msg"]
    assert result["reason"] and result["fix"] and result["path"] and len(result["node"]["certificates"]) == 15


def test_the_text_file(answers):
    checked, first, again = answers["textfile checked"], answers["textfile"], answers["textfile again"]
    assert checked["changed"] and first["changed"] and not again["changed"]
    text = Path(first["textfile"]).read_text()
    assert 'x509_cert_not_after{node="cp1",name="apiserver"' in text
    changed = {os.path.relpath(path, answers["folder"]) for path in answers["changed files"]}
    assert changed == {"play.yml", "textfile", "textfile/kubepki.prom"}


def test_a_text_file_without_its_folder(answers):
    assert answers["no folder"]["failed"] and "there is no such directory" in answers["no folder"]["msg"]


def test_an_option_of_the_wrong_type(answers):
    assert answers["wrong type"]["failed"] and "warn_below_days" in answers["wrong type"]["msg"]


def test_a_threshold_below_nothing_would_switch_the_warning_off(answers):
    assert answers["below nothing"]["failed"] and "the option warn_below_days is -1.0" in answers["below nothing"]["msg"]


def test_a_clock_that_is_off(answers):
    assert [one["code"] for one in answers["clock"]["node"]["findings"]] == ["clock-off"]


def test_a_machine_that_is_no_node(answers):
    result = answers["nothing there"]
    assert result["node"]["certificates"] == [] and result["node"]["facts"]["role"] == "none" and result["status"] == "ok"


def test_no_traceback_and_no_key_reaches_the_screen(answers):
    assert "Traceback" not in answers["output"] and "PRIVATE KEY" not in answers["output"]
