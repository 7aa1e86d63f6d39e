# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters whose certificates have really expired, brought back over SSH alone: the API is down in every one of these tests."""

from __future__ import annotations

import os
import re
import time

import pytest

from tests.lab import expire
from tests.lab.lab import Lab
from tests.lab.playbook import Outcome, finish, play, start

from .conftest import snapshots

# A playbook takes a minute or two, and much longer on a machine that runs other labs.
pytestmark = pytest.mark.timeout(1800)
YES = {"kubepki_confirm": "true"}
# Issue 4: from the confirmation to every node Ready, on three control-plane nodes.
TARGET_SECONDS = 180


def _lab(planes: int, workers: int):
    lab = Lab("%s-recovery%d" % (os.environ.get("LAB", "test"), planes), planes, workers).up()
    yield lab
    if not os.environ.get("KUBEPKI_KEEP_LAB"):
        lab.down()


@pytest.fixture(scope="class")
def one():
    """One control-plane node and one worker."""
    yield from _lab(1, 1)


@pytest.fixture(scope="class")
def three():
    """Three control-plane nodes and one worker."""
    yield from _lab(3, 1)


def recovered(lab: Lab, outcome: Outcome, left_out: tuple[str, ...] = ()) -> Outcome:
    """The outcome, once it is clear that the cluster is whole: every Node Ready, every row of the report ok, nothing noted."""
    if not left_out:
        outcome.require_success()
    hosts = [host for host in lab.addresses if host not in left_out]
    assert outcome.artifact["ready"] == sorted(hosts), outcome.output[-6000:]
    nodes = [line.split() for line in lab.kubectl("get", "nodes", "--no-headers").splitlines()]
    assert {name: state for name, state, *_rest in nodes if name in hosts} == dict.fromkeys(hosts, "Ready")
    for host in hosts:
        # The lock stays; of the journal, nothing.
        assert lab.run(host, "ls /var/lib/kubepki/journal 2>/dev/null; ls /var/lib/kubepki/parked 2>/dev/null; true").stdout == ""
    if not left_out:
        report = play(lab, "check_expiry", {"kubepki_fail_below_days": "90"}).require_success()
        assert report.artifact["status"] == "ok", report.output[-4000:]
    return outcome


def dead(lab: Lab) -> None:
    assert not expire.answers(lab), "the API still answers, so this would prove nothing"


def not_after(lab: Lab, node: str, path: str) -> str:
    return lab.run(node, "openssl x509 -noout -enddate -in " + path).stdout.strip()


def key_digest(lab: Lab, node: str, path: str) -> str:
    return lab.run(node, "sha256sum < " + path).stdout


def kill_at(lab: Lab, task: str) -> None:
    """Start a recovery and kill it, with SIGKILL, in the midst of a task."""
    process = start(lab, "recover", YES)
    seen = []

    def look(line: str) -> None:
        if line.startswith("TASK [") and task in line:
            seen.append(line)
            time.sleep(0.7)  # into the module on the node, wherever it then is
            process.kill()

    outcome = finish(process, look)
    assert seen and outcome.code == -9, outcome.output[-3000:]


class TestOneControlPlane:
    """The smallest cluster there is: nobody else could help."""

    def test_first_it_says_what_is_wrong_and_changes_nothing_without_a_yes(self, one):
        expire.cold(one, list(one.addresses))
        dead(one)
        before = snapshots(one)
        checked = play(one, "recover", None, "--check").require_success()
        # All but the kubelet's own serving certificate. A kubelet that ends at once is now and then seen while it runs.
        found = re.search(
            r"cp1: (\d+) of (\d+) certificates expired, on \S+Z, clock \S+Z .*etcd down.*kubelet (does|runs)", checked.output
        )
        assert found and int(found.group(1)) == int(found.group(2)) - 1 >= 11, checked.output
        assert "etcd: data on 1 of 1 members" in checked.output and "8. Wait until every node" in checked.output
        assert checked.artifact["state"] == "ok" and not checked.artifact["changed"]
        assert checked.artifact["expired"] == int(found.group(1)) + 1
        refused = play(one, "recover")
        assert refused.code != 0 and "Not confirmed, so nothing was changed" in refused.output
        assert refused.artifact == {"job": "recover", "state": "failed"}
        assert snapshots(one) == before and set(checked.changed.values()) == {0}

    def test_then_it_brings_everything_back(self, one):
        dead(one)
        done = recovered(one, play(one, "recover", YES))
        assert done.artifact["state"] == "changed" and done.artifact["authorities"] == []
        again = play(one, "recover", YES).require_success()
        assert "No certificate has expired." in again.output and set(again.changed.values()) == {0}
        assert again.artifact["state"] == "ok"

    def test_a_clock_that_was_set_back_is_named_and_nothing_is_issued(self, one):
        # What such a node sees: certificates that begin in two hours.
        expire.rewrite(one, ["cp1"], time.time() + 7200 + 86400)
        before = snapshots(one)
        refused = play(one, "recover", YES)
        assert refused.code != 0 and "The clock of cp1 says" in refused.output and "begins only on" in refused.output
        assert snapshots(one) == before

    @pytest.mark.parametrize(
        "task",
        [
            "Record what has to restart",
            "Renew leaves and kubeconfigs of the node",
            "Install the kubelet's client certificate",
            "Start the kubelet and the static pods",
            "Wait until the API server and its clients are healthy",
        ],
    )
    def test_a_run_that_is_killed_is_continued_by_the_next_one(self, one, task):
        expire.cold(one, list(one.addresses), cas=True)
        dead(one)
        keys = {name: key_digest(one, "cp1", "/etc/kubernetes/pki/%s.key" % name) for name in ("ca", "sa", "etcd/ca")}
        kill_at(one, task)
        renewed = not_after(one, "cp1", "/etc/kubernetes/pki/ca.crt")
        recovered(one, play(one, "recover", YES))
        assert keys == {name: key_digest(one, "cp1", "/etc/kubernetes/pki/%s.key" % name) for name in keys}
        # The API's own copies end when the file does.
        copy = one.kubectl("-n", "default", "get", "configmap", "kube-root-ca.crt", "-o", r"jsonpath={.data.ca\.crt}")
        assert copy.strip() == one.run("cp1", "cat /etc/kubernetes/pki/ca.crt").stdout.strip()
        assert not_after(one, "w1", "/etc/kubernetes/pki/ca.crt") == not_after(one, "cp1", "/etc/kubernetes/pki/ca.crt")
        if task != "Record what has to restart":
            assert not_after(one, "cp1", "/etc/kubernetes/pki/ca.crt") == renewed, "the CA was renewed twice"

    def test_kubelets_alone_cut_off_from_an_api_that_is_well(self, one):
        for node in ("w1",):
            one.run(node, "systemctl stop kubelet")
            end = time.time() + 3
            certificate = expire.on_node(one, node, what="kubelet-request", end=end)
            signed = expire.on_node(one, "cp1", what="sign", end=end, certificate=certificate)
            expire.on_node(one, node, what="kubelet", end=end, kubelet=signed)
            expire.wait_until(end)
            one.run(node, "systemctl start --no-block kubelet")
        before = one.run("cp1", "pidof kube-apiserver etcd").stdout
        done = recovered(one, play(one, "recover", YES))
        assert done.artifact["expired"] == 1 and one.run("cp1", "pidof kube-apiserver etcd").stdout == before

    def test_a_serving_certificate_that_the_kubelet_made_for_itself(self, one):
        one.run(
            "w1",
            "cd /var/lib/kubelet/pki; systemctl stop kubelet; openssl req -x509 -newkey rsa:2048 -nodes -days 1 "
            "-keyout kubelet.key -out new.crt -subj /CN=w1@1 2>/dev/null; "
            "openssl x509 -in new.crt -signkey kubelet.key -days -1 -out kubelet.crt 2>/dev/null; "
            "rm new.crt; systemctl start kubelet",
        )
        done = recovered(one, play(one, "recover", YES))
        assert done.artifact["expired"] == 1
        assert one.run("w1", "ls /var/lib/kubepki/backups | grep -c recover").stdout.strip() != "0"


class TestThreeControlPlanes:
    """etcd needs a quorum before any member can be proven."""

    def test_everything_has_expired_the_authorities_too(self, three):
        expire.cold(three, list(three.addresses), cas=True)
        dead(three)
        done = recovered(three, play(three, "recover", YES))
        assert done.artifact["authorities"] == ["ca", "etcd-ca", "front-proxy-ca"]
        print("recovered in %.0f s from the confirmation" % done.artifact["seconds"])
        assert done.artifact["seconds"] < TARGET_SECONDS

    def test_certificates_that_end_while_everything_runs(self, three):
        expire.lapse(three, list(three.addresses))
        dead(three)
        done = recovered(three, play(three, "recover", YES))
        print("recovered in %.0f s from the confirmation" % done.artifact["seconds"])
        assert done.artifact["seconds"] < TARGET_SECONDS

    def test_only_some_nodes_are_dead(self, three):
        expire.cold(three, ["cp2", "w1"])
        before = {node: three.run(node, "pidof etcd kube-apiserver kube-scheduler").stdout for node in ("cp1", "cp3")}
        files = {node: snapshots(three)[node] for node in before}
        done = recovered(three, play(three, "recover", YES))
        assert "Start etcd again on cp2, and wait" in done.output
        assert before == {node: three.run(node, "pidof etcd kube-apiserver kube-scheduler").stdout for node in before}
        assert files == {node: snapshots(three)[node] for node in before}

    def test_a_control_plane_node_that_is_away(self, three):
        expire.cold(three, list(three.addresses))
        three.stop_node("cp3")
        dead(three)
        before = {node: three.run(node, "md5sum /etc/kubernetes/pki/*.crt").stdout for node in ("cp1", "cp2")}
        refused = play(three, "recover", YES)
        assert refused.code != 0 and "kubepki_recover_partial=true" in refused.output and "cp3: did not answer" in refused.output
        assert before == {node: three.run(node, "md5sum /etc/kubernetes/pki/*.crt").stdout for node in before}
        done = recovered(three, play(three, "recover", {**YES, "kubepki_recover_partial": "true"}), left_out=("cp3",))
        assert done.code != 0 and "Not done - cp3: did not answer" in done.output and done.artifact["absent"] == ["cp3"]
        three.start_node("cp3", wait=False)
        three.wait_ssh("cp3")
        recovered(three, play(three, "recover", YES))

    def test_a_worker_that_is_away_keeps_nobody_waiting(self, three):
        expire.cold(three, list(three.addresses))
        three.stop_node("w1")
        done = recovered(three, play(three, "recover", YES), left_out=("w1",))
        assert done.code != 0 and "Not done - w1: did not answer" in done.output and done.artifact["state"] == "warning"
        three.start_node("w1", wait=False)
        three.wait_ssh("w1")
        recovered(three, play(three, "recover", YES))

    def test_without_a_quorum_of_data_nothing_is_touched(self, three):
        expire.cold(three, ["cp1", "cp2", "cp3"])
        hidden = ("cp2", "cp3")
        for node in hidden:
            three.run(node, "mv /var/lib/etcd/member /var/lib/etcd/away")
        try:
            before = {node: three.run(node, "md5sum /etc/kubernetes/pki/*.crt").stdout for node in three.control_planes}
            refused = play(three, "recover", {**YES, "kubepki_recover_partial": "true"})
            assert refused.code != 0 and "etcd has its data on 1 of 3 members, and 2 are needed" in refused.output
            assert before == {node: three.run(node, "md5sum /etc/kubernetes/pki/*.crt").stdout for node in before}
        finally:
            for node in hidden:
                three.run(node, "rm -rf /var/lib/etcd/member; mv /var/lib/etcd/away /var/lib/etcd/member")
        recovered(three, play(three, "recover", YES))
