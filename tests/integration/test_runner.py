# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX gets to see: ansible-runner, from a clean environment, runs the built archive's report by its full name.

The nodes are throw-away trees, each laid over /etc and /var/lib in a mount namespace of its own in which its modules run.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess

import pytest
from userland import attempt

from tests.unit.support import throwaway

pytestmark = pytest.mark.timeout(900)

NODES = {"ok": 365, "warning": 20, "critical": 3, "expired": -2}  # days that the leaves have left
# As AWX names things for a job in a workflow.
AWX = {
    "awx_job_id": 7,
    "awx_job_template_name": "certificates: check",
    "awx_workflow_job_name": "certificates: from check to renewal",
}

INTERPRETER = """#!/bin/sh
exec unshare {flags} sh -c 'mount -t overlay -o lowerdir="$0"/etc:/etc overlay /etc &&
    mount -t overlay -o lowerdir="$0"/var/lib:/var/lib overlay /var/lib && exec "$@"' {tree} {python} "$@"
"""
FLAGS = "--mount" if os.geteuid() == 0 else "--map-root-user --mount"


@pytest.fixture(scope="module")
def runner(installed, tools, tmp_path_factory):
    """A function that runs check_expiry on the node of the given name: gives (exit code, artifact data, events, their folder)."""
    folder = tmp_path_factory.mktemp("awx")
    hosts = []
    for count, (name, days) in enumerate(NODES.items(), 1):
        throwaway.Node(folder / name, throwaway.Cluster(leaf_days=days), name=name, address=f"10.0.0.{count}")
        interpreter = folder / f"python-{name}"
        interpreter.write_text(INTERPRETER.format(flags=FLAGS, tree=folder / name, python=tools / "python"))
        interpreter.chmod(0o755)
        hosts.append(f"{name} ansible_connection=local ansible_python_interpreter={interpreter}")
    hosts.append("silent ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=9")
    tried = subprocess.run(
        [str(folder / "python-ok"), "-c", "import os; os.stat('/etc/kubernetes/pki/ca.crt')"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"this machine does not let a process have mounts of its own: {tried.stderr.strip()}")
    private = folder / "private"
    for part in ("inventory", "env"):
        (private / part).mkdir(parents=True)
    (private / "env" / "envvars").write_text(json.dumps({"ANSIBLE_COLLECTIONS_PATH": str(installed / "collections")}))

    def start(name, ident, fact_cache=None, **variables):
        (private / "inventory" / "hosts").write_text(
            "\n".join(["[kube_control_plane]", *(host for host in hosts if host.split()[0] == name), "[kube_node]", ""])
        )
        (private / "env" / "extravars").write_text(json.dumps(dict(AWX, kubepki_live="false", **variables)))
        artifacts = private / "artifacts" / ident
        if fact_cache:
            (artifacts / "fact_cache").mkdir(parents=True)
            (artifacts / "fact_cache" / name).write_text(json.dumps(fact_cache))
            # Since ansible-core 2.19.
            (artifacts / "fact_cache" / f"s1_{name}").write_text(json.dumps({"__payload__": json.dumps(fact_cache)}))
        done = attempt(
            [
                "ansible-runner",
                "run",
                str(private),
                "--playbook",
                "kubepki.lifecycle.check_expiry",
                "--ident",
                ident,
                "--cmdline=-vvv",
            ],
            folder,
            installed / "collections",
            tools,
        )
        assert (artifacts / "rc").exists(), done.stdout + done.stderr
        events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
        ends = [event for event in events if event["event"] == "playbook_on_stats"]
        assert len(ends) == 1, done.stdout
        return int((artifacts / "rc").read_text()), ends[0]["event_data"].get("artifact_data"), events, artifacts

    start.folder = folder
    return start


@pytest.mark.parametrize(
    ("name", "code", "state"),
    [("ok", 0, "ok"), ("warning", 0, "warning"), ("critical", 2, "critical"), ("expired", 2, "critical")],
)
def test_the_exit_code_fails_below_the_threshold_and_the_artifact_says_how_it_is(runner, name, code, state):
    exit_code, artifacts, _events, _folder = runner(name, f"threshold-{name}", kubepki_fail_below_days="14")
    assert exit_code == code
    assert list(artifacts) == ["kubepki"]
    told = artifacts["kubepki"]
    assert (told["job"], told["state"], told["status"]) == ("check_expiry", state, name)
    assert (told["nodes"], told["certificates"], told["unreachable"]) == (1, 15, [])
    assert told["phase"] == dict.fromkeys(["ca", "front-proxy-ca", "etcd-ca", "sa"], "stable")
    assert (told["findings"] == 0) == (name == "ok")
    assert 0 < told["seconds"] < 120


def test_a_report_that_could_not_be_made_is_told_from_certificates_that_end_soon(runner):
    taken = runner.folder / "a-file"
    taken.write_text("")
    exit_code, artifacts, _events, _folder = runner("ok", "failed", kubepki_report_dir=str(taken))
    assert exit_code == 2
    assert artifacts == {"kubepki": {"job": "check_expiry", "state": "failed"}}


def test_a_report_of_no_node_is_no_report(runner):
    exit_code, artifacts, events, _folder = runner("silent", "silent", kubepki_fail_below_days="14")
    assert exit_code == 2 and artifacts == {"kubepki": {"job": "check_expiry", "state": "failed"}}
    assert any("No node could be read: " in event["stdout"] for event in events)


def test_a_threshold_that_could_never_fail_is_refused(runner):
    exit_code, artifacts, events, _folder = runner("ok", "never", kubepki_fail_below_days="-1")
    assert exit_code == 2 and artifacts == {"kubepki": {"job": "check_expiry", "state": "failed"}}
    assert any("kubepki_fail_below_days is" in event["stdout"] for event in events)


def test_no_event_holds_anything_of_a_key(runner):
    _code, _artifacts, events, folder = runner("critical", "secrets")
    # A base64 text has one of three forms wherever a word begins in what it encodes.
    words = {base64.b64encode(b"x" * shift + b"PRIVATE KEY--").decode()[4:-4] for shift in range(3)}
    bodies = set()
    for path in (runner.folder / "critical").rglob("*"):
        if path.is_file():
            for body in re.findall(r"PRIVATE KEY-----\n(.+?)\n-----END", path.read_text(), re.DOTALL):
                bodies |= set(body.split())
            for data in re.findall(r"client-key-data: (\S+)", path.read_text()):
                assert any(word in data for word in words)
                bodies.add(data[60:120])
    assert len(bodies) > 20 and len(events) > 10
    secrets = bodies | words | {"PRIVATE KEY"}
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert [secret for secret in secrets if secret in text] == [], path


def test_stale_facts_decide_nothing(runner):
    # One fact is asked for, by this test, which shows that the cache is read.
    stale = {
        "pkg_mgr": "dnf",
        "hostname": "another",
        "date_time": {"epoch": "1000000000"},
        "discovered_interpreter_python": "/nonexistent",
        "here": str(runner.folder / "stale"),
    }
    documents = []
    for name, facts in (("fresh", {"here": str(runner.folder / "fresh")}), ("stale", stale)):
        runner("warning", name, fact_cache=facts, kubepki_report_dir="{{ ansible_facts['here'] }}")
        document = json.loads((runner.folder / name / "report.json").read_text())
        for node in document["nodes"].values():
            del node["facts"]["clock"], node["facts"]["clock_offset"]
            for row in node["certificates"]:
                del row["residual_seconds"]
        del document["generated_at"], document["cluster"]["next"]["residual_seconds"]
        documents.append(document)
    assert documents[0] == documents[1]


def test_a_fact_cache_with_variables_of_this_collection_is_refused(runner):
    # expiry_report_node is what the report reads of each node. A node that sets it would write its own report (issue 14).
    folder = runner.folder / "refused"
    facts = {"expiry_report_node": {"node": {}}, "here": str(folder)}
    code, _artifacts, events, _folder = runner("warning", "refused", fact_cache=facts, kubepki_report_dir=str(folder))
    assert code == 2
    failed = [event["event_data"]["res"]["msg"] for event in events if event["event"] == "runner_on_failed"]
    assert len(failed) == 1, failed
    assert "warning: facts of this host set variables of this collection: expiry_report_node." in failed[0]
    assert "--flush-cache" in failed[0]
    assert not folder.exists()
