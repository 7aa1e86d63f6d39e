# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is due is renewed as a whole, what must not be touched is not, and nothing is ever left half done."""

from __future__ import annotations

import datetime
import errno
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    atomic,
    backup_contents,
    backup_restore,
    backup_set,
    file_changes,
    transaction_recovery,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.host import processes
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, kubeconfig, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.kubeconfig import Kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.leaf import (
    catalogue_leaf,
    leaf_spec,
    model,
    policy,
    renewal,
    write,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import disk_findings
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_read, x509_sign
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.support import faults, throwaway

CLUSTER = throwaway.Cluster(leaf_days=365.5)
OTHER = throwaway.Cluster(label="other")
FAST = "ecdsa-p256"


@pytest.fixture
def node(tmp_path):
    """A control-plane node whose certificates have a year left."""
    return throwaway.Node(tmp_path / "root", CLUSTER)


def work(node, names=("all",), check=False, specs=(), keep=5, **settings):
    """Run the job on a node, as the module does."""
    chosen = model.Settings(**settings)

    def find():
        found = leaf_spec.leaves(specs, chosen)
        if names:
            layout = layouts.find_layout(root=str(node.root))
            found = catalogue_leaf.catalogue_leaves(pki_tree.read_tree(layout), list(names), chosen) + found
        return found

    home = node.root.parent
    return renewal.run(chosen, find, check, str(home / "state"), str(home / "backups"), keep)


def snapshot(node):
    found = {}
    for path in sorted(node.root.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


def tree(node):
    return pki_tree.read_tree(layouts.find_layout(root=str(node.root)))


def serials(node):
    return {name: item.certificate.serial for name, item in tree(node).items.items() if item.certificate}


def check_pairs(node):
    """Every pair matches, is signed by its CA in the eyes of openssl, and every file has the mode it should have."""
    items = tree(node).items
    for name in catalogue.RENEWABLE:
        item = items.get(name)
        if item is None or item.missing:
            continue
        assert item.problem is None and item.key_problem is None, name
        assert item.key_sha256 == item.certificate.key_sha256, name
        ca = items[item.ca]
        done = subprocess.run(
            ["openssl", "verify", "-CAfile", ca.path], input=item.certificate.pem, capture_output=True, check=False
        )
        assert done.returncode == 0, (name, done.stderr)
        assert item.mode == (0o644 if item.kind == catalogue.LEAF else 0o600)
        assert item.key_mode in (None, 0o600)


def rows(result):
    return {row["name"]: row for row in result["leaves"]}


STATES = st.builds(
    model.State,
    missing=st.booleans(),
    named=st.booleans(),
    remake=st.booleans(),
    optional=st.booleans(),
    outside=st.booleans(),
    foreign=st.booleans(),
    unreadable=st.booleans(),
    key=st.sampled_from(["ok", "missing", "mismatch"]),
    signed=st.booleans(),
    residual=st.floats(-4000, 80000),
    unfit=st.sampled_from([None, "it has other SANs"]),
    signer=st.booleans(),
)


@pytest.mark.parametrize(
    "text,expected",
    [
        ("a.b", "DNS:a.b"),
        ("10.0.0.1", "IP:10.0.0.1"),
        ("::1", "IP:::1"),
        ("dns:x", "DNS:x"),
        ("Ip:1.2.3.4", "IP:1.2.3.4"),
        ("uri:spiffe://x", "URI:spiffe://x"),
        ("Email:a@b", "email:a@b"),
        ("http://x", "DNS:http://x"),
    ],
)
def test_a_name_gets_its_kind(text, expected):
    assert leaf_spec.san(text) == expected


class TestDecision:
    @given(STATES, st.floats(0, 1000), st.booleans())
    def test_it_is_safe(self, state, below, force):
        action, reason = policy.decide(state, below, force)
        assert reason
        if action in (model.RENEW, model.CREATE):
            assert state.signer, "only a CA that can sign signs"
            assert state.named or not (state.foreign or state.outside), "what the user brought is only replaced by name"
            assert state.remake or not state.unreadable
            assert (action == model.CREATE) == state.missing
        if action == model.KEEP and not state.missing:
            assert not force and state.residual >= below and state.residual > 0, "nothing that is due is passed over"
            assert state.key == "ok" and state.unfit is None

    @given(STATES, st.floats(0, 1000))
    def test_force_only_adds(self, state, below):
        calm, forced = policy.decide(state, below)[0], policy.decide(state, below, True)[0]
        assert calm == model.KEEP or calm == forced

    @given(STATES, st.floats(0, 500), st.floats(0, 500))
    def test_a_higher_threshold_only_adds(self, state, one, other):
        low, high = policy.decide(state, min(one, other))[0], policy.decide(state, max(one, other))[0]
        assert low == model.KEEP or low == high

    @given(STATES, st.floats(0, 300), st.booleans())
    def test_what_was_just_issued_is_kept(self, state, below, force):
        if policy.decide(state, below, force)[0] in (model.RENEW, model.CREATE):
            after = state._replace(
                missing=False, unreadable=False, key="ok", signed=True, foreign=False, unfit=None, residual=365.0
            )
            assert policy.decide(after, below)[0] == model.KEEP


class TestRenewal:
    def test_nothing_is_due(self, node):
        before = snapshot(node)
        result = work(node)
        assert not result["changed"] and result["backup"] is None and snapshot(node) == before
        assert {row["action"] for row in result["leaves"]} == {"kept"} and len(result["leaves"]) == 10
        assert not (node.root.parent / "backups").exists()

    def test_force_renews_all_and_keeps_what_they_say(self, node):
        old, before = serials(node), dict(tree(node).items)
        result = work(node, force=True)
        check_pairs(node)
        new = tree(node).items
        now = serials(node)
        assert (
            {name for name in old if old[name] != now[name]}
            == set(rows(result))
            == set(catalogue.RENEWABLE) - {"super-admin.conf"}
        )
        for name in rows(result):
            for said in ("subject", "issuer", "sans", "usages", "extended_usages", "key_type"):
                assert getattr(new[name].certificate, said) == getattr(before[name].certificate, said), (name, said)
            assert new[name].key_sha256 != before[name].key_sha256
            assert abs((new[name].certificate.not_after - x509_read.now()).days - 364) <= 1
        assert result["restart"] == ["kube-controller-manager", "kube-scheduler"]
        assert result["reload"] == ["etcd", "kube-apiserver"]
        again = work(node)
        assert not again["changed"]

    def test_only_what_is_due_changes(self, node):
        node.issue("apiserver", days=80.5)
        node.issue("scheduler.conf", days=10)
        before = snapshot(node)
        result = work(node)
        changed = sorted(os.path.basename(path) for path in before if snapshot(node)[path] != before[path])
        assert changed == ["apiserver.crt", "apiserver.key", "scheduler.conf"]
        assert rows(result)["apiserver"]["reason"] == "it has 80 days left"
        assert (result["restart"], result["reload"]) == (["kube-scheduler"], ["etcd", "kube-apiserver"])
        assert set(snapshot(node)) == set(before)

    def test_the_backup_set_puts_all_of_it_back(self, node):
        before = snapshot(node)
        result = work(node, force=True)
        assert result["backup"].endswith("-cert-leaf")
        backup_restore.restore_backup(result["backup"], state_dir=str(node.root.parent / "state"))
        assert snapshot(node) == before

    def test_everything_else_in_a_kubeconfig_stays(self, node):
        path = node.kubernetes("admin.conf")
        text = path.read_text().replace("preferences: {}", "preferences: {colors: true}   # mine\nextensions: []")
        path.write_text("# by hand\n" + text)
        ca_data = Kubeconfig(path.read_bytes(), "f").ca_data
        work(node, ["admin.conf"], force=True)
        new = path.read_text()
        keep = [line for line in text.splitlines() if "client-" not in line]
        assert [line for line in new.splitlines() if "client-" not in line] == ["# by hand"] + keep
        assert Kubeconfig(new, "f").ca_data == ca_data

    def test_the_bundle_on_disk_is_embedded_when_asked(self, node):
        bundle = CLUSTER.cas["ca"].pem + OTHER.cas["ca"].pem
        node.kubernetes("pki/ca.crt").write_bytes(bundle)
        work(node, ["admin.conf"], force=True)
        assert Kubeconfig(node.kubernetes("admin.conf").read_bytes(), "f").ca_data == CLUSTER.cas["ca"].pem
        work(node, ["admin.conf"], force=True, embed_ca=True)
        assert Kubeconfig(node.kubernetes("admin.conf").read_bytes(), "f").ca_data == bundle

    def test_a_kubeconfig_that_names_files_stays_one(self, node):
        config = Kubeconfig(node.kubernetes("scheduler.conf").read_bytes(), "f")
        node.write("/etc/kubernetes/s.crt", config.certificate_data, 0o644)
        node.write("/etc/kubernetes/s.key", config.key_data)
        text = node.kubernetes("scheduler.conf").read_text()
        text = re.sub(r"client-certificate-data: .*", "client-certificate: s.crt", text)
        text = re.sub(r"client-key-data: .*", "client-key: s.key", text)
        node.write("/etc/kubernetes/scheduler.conf", text)
        before = snapshot(node)
        result = work(node, ["scheduler.conf"], force=True)
        assert rows(result)["scheduler.conf"]["action"] == "renewed" and result["restart"] == ["kube-scheduler"]
        changed = sorted(os.path.basename(path) for path in before if snapshot(node)[path] != before[path])
        assert changed == ["s.crt", "s.key"]
        check_pairs(node)

    @pytest.mark.parametrize("key_type", ["rsa-2048", "ecdsa-p384"])
    def test_the_key_type_changes_when_asked(self, node, key_type):
        work(node, ["apiserver"], force=True, key_type=key_type)
        assert tree(node).items["apiserver"].certificate.key_type == key_type
        check_pairs(node)
        work(node, ["apiserver"], force=True)
        assert tree(node).items["apiserver"].certificate.key_type == key_type

    def test_the_key_stays_when_asked(self, node):
        before = {name: item.key_sha256 for name, item in tree(node).items.items()}
        old = serials(node)
        result = work(node, force=True, new_key=False)
        assert {name: item.key_sha256 for name, item in tree(node).items.items()} == before
        now = serials(node)
        assert all(now[row["name"]] != old[row["name"]] and not row["new_key"] for row in result["leaves"])
        with pytest.raises(PkiError, match="is to be kept"):
            work(node, force=True, new_key=False, key_type="rsa-2048")

    @pytest.mark.parametrize("days", [0.5, 72635])
    def test_any_validity(self, node, days):
        result = work(node, ["etcd-peer"], force=True, leaf_days=days)
        end = tree(node).items["etcd-peer"].certificate.not_after
        assert abs((end - x509_read.now()).total_seconds() - days * 86400) < 60
        assert any(("before etcd-peer" if days > 400 else "every run will renew") in text for text in result["warnings"])
        for wrong in (0, -1, float("nan")):
            with pytest.raises(PkiError, match="days is not possible"):
                work(node, force=True, leaf_days=wrong)

    def test_a_ca_without_an_end_signs(self, node):
        """RFC 5280 4.1.2.5: 99991231235959Z. Nothing lies behind it to compare with."""
        endless = ca_sign.build_ca("kubernetes", CLUSTER.keys["ca"], 9e6)
        assert endless.not_after == x509_sign.LATEST
        node.write("/etc/kubernetes/pki/ca.crt", endless.pem, 0o644)
        result = work(node, ["apiserver"], force=True, leaf_days=99999999)
        assert rows(result)["apiserver"]["action"] == "renewed"
        assert tree(node).items["apiserver"].certificate.not_after == x509_sign.LATEST

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_owner_and_mode_are_kept(self, node):
        path = node.kubernetes("pki/etcd/server.key")
        os.chown(path, 1234, 4321)
        path.chmod(0o440)
        work(node, ["etcd-server"], force=True)
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 4321, 0o440)

    @pytest.mark.parametrize("name, path", [("etcd-server", "pki/etcd/server.key"), ("admin.conf", "admin.conf")])
    def test_a_new_key_is_0600_whatever_mode_the_old_one_had(self, node, name, path):
        node.kubernetes(path).chmod(0o644)
        work(node, [name], force=True)
        assert stat.S_IMODE(node.kubernetes(path).stat().st_mode) == 0o600

    def test_files_behind_links_are_replaced_and_the_links_stay(self, node):
        pki = node.kubernetes("pki")
        (pki / "apiserver.crt").rename(pki / "real.crt")
        (pki / "apiserver.crt").symlink_to("real.crt")
        before = snapshot(node)
        result = work(node, ["apiserver"], force=True)
        assert os.readlink(pki / "apiserver.crt") == "real.crt"
        check_pairs(node)
        backup_restore.restore_backup(result["backup"], state_dir=str(node.root.parent / "state"))
        assert snapshot(node) == before

    @pytest.mark.parametrize("names", [["apiserver"], ["all"], ["apiserver-kubelet-client"]])
    @pytest.mark.parametrize("check", [True, False])
    def test_a_file_that_another_certificate_uses_is_refused(self, node, names, check):
        """Through the link the new key of one would take the place of the other's."""
        key = node.kubernetes("pki/apiserver.key")
        node.issue("apiserver", leaf_key=throwaway.key("apiserver-kubelet-client" + node.name))
        key.unlink()
        key.symlink_to("apiserver-kubelet-client.key")
        before = snapshot(node)
        with pytest.raises(PkiError, match="key: is a file of .* as well as of") as caught:
            work(node, names, check, force=True)
        assert "Nothing was changed" in str(caught.value) and "link" in caught.value.fix and snapshot(node) == before
        # A key that stays is no danger to anybody.
        work(node, ["all"], force=True, new_key=False)
        check_pairs(node)

    def test_a_key_that_signs_tokens_is_not_replaced_as_a_leaf_s(self, node):
        os.unlink(node.kubernetes("pki/sa.key"))
        node.kubernetes("pki/sa.key").symlink_to("apiserver.key")
        with pytest.raises(PkiError, match="is a file of the service accounts' key as well as of apiserver"):
            work(node, ["apiserver"], force=True)

    def test_two_names_for_one_pair_are_renewed_as_one(self, node):
        for end in ("crt", "key"):
            path = node.kubernetes("pki/apiserver-etcd-client." + end)
            path.unlink()
            path.symlink_to("etcd/healthcheck-client." + end)
        work(node, ["apiserver-etcd-client"], force=True)
        check_pairs(node)

    def test_what_follows_the_leaf_in_its_file_stays(self, node):
        path = node.kubernetes("pki/apiserver.crt")
        path.write_bytes(path.read_bytes() + OTHER.cas["ca"].pem)
        work(node, ["apiserver"], force=True)
        found = x509_read.parse_certificates(path.read_bytes())
        assert [found[0].common_name, found[1].sha256] == ["kube-apiserver", OTHER.cas["ca"].sha256]

    def test_the_first_of_a_bundle_signs(self, node):
        node.kubernetes("pki/ca.crt").write_bytes(CLUSTER.cas["ca"].pem + OTHER.cas["ca"].pem)
        work(node, ["apiserver"], force=True)
        check_pairs(node)
        node.kubernetes("pki/ca.crt").write_bytes(OTHER.cas["ca"].pem + CLUSTER.cas["ca"].pem)
        with pytest.raises(PkiError, match="ca.key is not the key of this CA certificate.*the first certificate signs"):
            work(node, ["apiserver"], force=True)

    def test_a_leaf_of_an_old_ca_of_the_same_name_is_due(self, node):
        node.kubernetes("pki/ca.crt").write_bytes(OTHER.cas["ca"].pem)
        node.kubernetes("pki/ca.key").write_bytes(OTHER.keys["ca"].pem)
        result = work(node)
        assert sorted(row["name"] for row in result["leaves"] if row["action"] == "renewed") == sorted(
            entry.name
            for entry in catalogue.CATALOGUE
            if entry.ca == "ca" and entry.kind in ("leaf", "kubeconfig") and not entry.optional
        )
        check_pairs(node)

    def test_a_client_certificate_that_has_ended_needs_a_restart(self, node):
        node.issue("apiserver-kubelet-client", days=-1)
        assert work(node)["restart"] == ["kube-apiserver"]
        node.issue("apiserver-kubelet-client", days=20)
        result = work(node)
        assert (result["restart"], result["reload"]) == ([], ["etcd", "kube-apiserver"])
        node.issue("front-proxy-client", days=5 / 1440.0)
        assert work(node)["restart"] == ["kube-apiserver"]

    def test_a_name_with_a_blank_around_it_is_named(self, node):
        chosen = model.Settings(force=True)
        found = catalogue_leaf.catalogue_leaves(tree(node), ["apiserver", " admin.conf"], chosen)
        assert {leaf.name: leaf.named for leaf in found} == {"apiserver": True, "admin.conf": True}

    def test_kubelet_certificates_only_by_name(self, node):
        pki = node.path("/var/lib/kubelet/pki")
        old = os.readlink(pki / "kubelet-client-current.pem")
        assert "kubelet-client" not in rows(work(node, force=True))
        result = work(node, ["kubelet-client"], force=True)
        new = os.readlink(pki / "kubelet-client-current.pem")
        assert new != old and os.path.dirname(new) == str(pki) and stat.S_IMODE(os.stat(new).st_mode) == 0o600
        data = Path(new).read_bytes()
        assert private_keys.parse_private_key(data).matches(x509_read.parse_certificate(data)) and result["restart"] == [
            "kubelet"
        ]
        assert (pki / old).exists()


class TestMissing:
    @pytest.mark.parametrize("name", [name for name in catalogue.RENEWABLE if name != "super-admin.conf"])
    def test_what_is_missing_is_made_as_kubeadm_would(self, node, name):
        expected = tree(node).items[name]
        text = Path(expected.path).read_text()
        for path in filter(None, (expected.path, expected.key_path)):
            os.unlink(path)
        result = work(node)
        assert [row["name"] for row in result["leaves"] if row["action"] == "created"] == [name]
        made = tree(node).items[name]
        assert made.certificate.subject == expected.certificate.subject
        assert made.certificate.sans == expected.certificate.sans
        assert made.certificate.extended_usages == expected.certificate.extended_usages
        assert made.certificate.key_type == "rsa-2048"
        check_pairs(node)
        if name == "apiserver":
            assumed = "assumed: the service address 10.96.0.1, the domain cluster.local, no further names"
            assert assumed in rows(result)[name]["reason"]
        if made.kind == catalogue.KUBECONFIG:
            keep = [line for line in text.splitlines() if "client-" not in line]
            assert [line for line in Path(made.path).read_text().splitlines() if "client-" not in line] == keep

    def test_a_missing_key_is_made_with_its_certificate(self, node):
        os.unlink(node.kubernetes("pki/etcd/peer.key"))
        result = work(node)
        assert rows(result)["etcd-peer"]["reason"] == "its key is missing"
        check_pairs(node)

    def test_the_wrong_key_is_replaced(self, node):
        node.write("/etc/kubernetes/pki/apiserver.key", throwaway.key("elsewhere").pem)
        assert rows(work(node))["apiserver"]["reason"] == "its key does not belong to it"
        check_pairs(node)

    def test_super_admin_is_not_spread_over_the_nodes(self, tmp_path):
        node = throwaway.Node(tmp_path / "root", CLUSTER, minor=30)
        result = work(node, force=True)
        assert rows(result)["super-admin.conf"]["action"] == "kept"
        assert not node.kubernetes("super-admin.conf").exists()
        assert rows(work(node, ["super-admin.conf"], force=True))["super-admin.conf"]["action"] == "created"
        assert tree(node).items["super-admin.conf"].certificate.organizations == ["system:masters"]

    def test_the_service_range_gives_the_first_address(self):
        assert catalogue_leaf._first_address("10.32.0.0/16,fd00::/108") == "10.32.0.1"
        assert catalogue_leaf._first_address("fd00::/108") == "fd00::1"
        assert catalogue_leaf._first_address("nonsense") is None and catalogue_leaf._first_address(None) is None


def damage_expired_ca(node):
    key = CLUSTER.keys["ca"]
    start = x509_read.now() - datetime.timedelta(days=20)
    node.write("/etc/kubernetes/pki/ca.crt", ca_sign.build_ca("kubernetes", key, 10, start=start).pem, 0o644)


def damage(path, data):
    return lambda node: node.write("/etc/kubernetes/" + path, data)


def damage_unlink(path):
    return lambda node: os.unlink(node.kubernetes(path))


def encrypted():
    done = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-passout", "pass:x"], input=throwaway.key("e").pem, capture_output=True, check=True
    )
    return done.stdout


NAMES_FILES = b"""
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: s}}]
users: [{name: u, user: {client-certificate: gone.pem, client-key: gone.pem}}]
"""
BAD = {
    "expired ca": (damage_expired_ca, r"pki/ca.crt: the authority CN=kubernetes expired at .*Replace the authority first"),
    "external ca": (damage_unlink("pki/ca.key"), r"pki/ca.key: the authority ca is managed elsewhere.*name them one by one"),
    "no ca": (damage_unlink("pki/etcd/ca.crt"), r"etcd/ca.crt: there is no certificate of the authority etcd-ca.*backup"),
    "another ca key": (damage("pki/ca.key", OTHER.keys["ca"].pem), r"pki/ca.crt: the key .*ca.key is not the key.*Put back"),
    "truncated ca key": (damage("pki/ca.key", CLUSTER.keys["ca"].pem[:100]), r"pki/ca.key: is truncated.*Restore"),
    "encrypted ca key": (
        damage("pki/front-proxy-ca.key", encrypted()),
        r"front-proxy-ca.key: the private key is encrypted.*Decrypt",
    ),
    "no pem": (damage("pki/apiserver.crt", b"hello"), r"pki/apiserver.crt: is not PEM.*Or name apiserver one by one"),
    "truncated key": (
        damage("pki/apiserver.key", throwaway.key("apiservercp1").pem[:90]),
        r"apiserver.key: is truncated.*Restore",
    ),
    "encrypted key": (damage("pki/etcd/server.key", encrypted()), r"server.key: the private key is encrypted.*openssl pkey"),
    "no yaml": (damage("admin.conf", b"a: [\n"), r"admin.conf: is not YAML \(.*line.*Or name admin.conf one by one"),
    "names files that are not there": (damage("admin.conf", NAMES_FILES), r"gone.pem: does not exist"),
    "manifest": (damage("manifests/etcd.yaml", b"\x00\x01"), r"manifests/etcd.yaml: .*is not certain"),
}


class TestRefusal:
    @pytest.mark.parametrize("what", BAD)
    @pytest.mark.parametrize("check", [False, True])
    def test_bad_input_ends_in_one_message_and_changes_nothing(self, node, what, check):
        BAD[what][0](node)
        before = snapshot(node)
        with pytest.raises(PkiError) as caught:
            work(node, force=True, check=check)
        text = str(caught.value)
        assert re.search(BAD[what][1], text), text
        assert "\n" not in text and caught.value.path and caught.value.fix and "Nothing was changed" in text
        assert snapshot(node) == before and not (node.root.parent / "backups").exists()

    def test_every_leaf_is_due_when_the_ca_was_made_again_under_another_subject(self, node):
        """The remedy that the report names, carried out: openssl accepts what is there afterwards, and nothing is due again."""
        again = ca_sign.build_ca("Kubernetes", node.cluster.keys["ca"], 3650)
        node.write("/etc/kubernetes/pki/ca.crt", again.pem, 0o644)
        broken = [one for one in disk_findings.check(tree(node), owner=os.getuid()) if one["code"] == "not-signed-by-ca"]
        named = [one["name"] for one in broken if "renew_leaves" in one["fix"]]
        assert sorted(named) == sorted(
            name for name in catalogue.RENEWABLE if catalogue.BY_NAME[name].ca == "ca" and name != "super-admin.conf"
        )
        result = work(node, named)
        assert {row["action"] for row in result["leaves"]} == {"renewed"}
        assert "same key" in result["leaves"][0]["reason"]
        check_pairs(node)
        left = [one for one in disk_findings.check(tree(node), owner=os.getuid()) if one["name"] in named]
        assert left == []
        for name in ("admin.conf", "scheduler.conf", "controller-manager.conf"):
            assert tree(node).items[name].kubeconfig.ca_data == again.pem, "it has to accept the API server's new certificate"
        assert not work(node)["changed"]

    def test_the_leaves_are_due_without_being_named_too(self, node):
        node.write("/etc/kubernetes/pki/etcd/ca.crt", ca_sign.build_ca("Etcd-CA", node.cluster.keys["etcd-ca"], 3650).pem, 0o644)
        due = {row["name"] for row in work(node)["leaves"] if row["action"] == "renewed"}
        assert due == {name for name in catalogue.RENEWABLE if catalogue.BY_NAME[name].ca == "etcd-ca"}
        check_pairs(node)

    def test_putting_the_subject_back_is_a_remedy_too(self, node):
        path = node.kubernetes("pki/ca.crt")
        good = path.read_bytes()
        path.write_bytes(ca_sign.build_ca("Kubernetes", node.cluster.keys["ca"], 3650).pem)
        path.write_bytes(good)
        assert disk_findings.check(tree(node), owner=os.getuid()) == [] and not work(node)["changed"]

    def test_a_leaf_from_the_future_is_due(self, node):
        start = x509_read.now() + datetime.timedelta(days=3)
        item = tree(node).items["apiserver"]
        future = x509_sign.sign_leaf(
            x509_sign.Profile.of(item.certificate),
            throwaway.key("apiservercp1"),
            node.cluster.cas["ca"],
            node.cluster.keys["ca"],
            365,
            start,
        )
        node.write("/etc/kubernetes/pki/apiserver.crt", future.pem, 0o644)
        (one,) = disk_findings.check(tree(node), owner=os.getuid())
        assert one["code"] == "not-yet-valid" and "renew_leaves with kubepki_names=apiserver" in one["fix"]
        row = rows(work(node, ["apiserver"]))["apiserver"]
        assert row["action"] == "renewed" and "not valid yet" in row["reason"]
        assert disk_findings.check(tree(node), owner=os.getuid()) == []

    def test_a_ca_from_the_future_signs_nothing(self, node):
        start = x509_read.now() + datetime.timedelta(days=3)
        node.write(
            "/etc/kubernetes/pki/ca.crt", ca_sign.build_ca("kubernetes", node.cluster.keys["ca"], 3650, start=start).pem, 0o644
        )
        with pytest.raises(PkiError, match="not valid before.*timedatectl"):
            work(node, ["apiserver"], force=True)

    @pytest.mark.parametrize("copy", [False, True])
    @pytest.mark.parametrize("name", ["etcd-ca", "front-proxy-ca"])
    def test_what_the_clusters_ca_signs_under_another_name_is_renewed_with_its_key(self, tmp_path, name, copy):
        node = throwaway.Node(tmp_path / "root", throwaway.Cluster(label="shares " + name).share(name))
        node.share(name, copy)
        result = work(node, force=True)
        renewed = {row["name"] for row in result["leaves"] if row["action"] == "renewed"}
        assert renewed >= {one for one in catalogue.RENEWABLE if catalogue.BY_NAME[one].ca == name}
        assert not result["requests"]
        check_pairs(node)
        assert [one["code"] for one in disk_findings.check(tree(node), owner=os.getuid())] == ["shared-ca"]

    def test_another_clusters_user_in_a_merged_kubeconfig_stays(self, node):
        node.merge(OTHER)
        path = node.kubernetes("admin.conf")
        before = {entry["name"]: entry for entry in yaml.safe_load(path.read_text())["users"]}
        result = work(node, ["admin.conf"], force=True)
        assert rows(result)["admin.conf"]["action"] == "renewed"
        after = {entry["name"]: entry for entry in yaml.safe_load(path.read_text())["users"]}
        assert after["kubernetes-admin-b"] == before["kubernetes-admin-b"]
        assert after["kubernetes-admin"] != before["kubernetes-admin"]
        check_pairs(node)

    @pytest.mark.parametrize("names", [["all"], ["admin.conf"]])
    def test_a_kubeconfig_of_other_clusters_alone_is_refused_even_by_name(self, node, names):
        path = node.kubernetes("admin.conf")
        node.merge(OTHER)
        data = yaml.safe_load(path.read_text())
        data["contexts"] = [entry for entry in data["contexts"] if entry["context"]["cluster"] == "other"] * 2
        path.write_text(yaml.safe_dump(data))
        before = snapshot(node)
        with pytest.raises(PkiError, match=r"admin\.conf: .*none clearly belongs to .*Move it to another path"):
            work(node, names, force=True)
        assert snapshot(node) == before
        path.unlink()  # the remedy
        assert rows(work(node, ["admin.conf"]))["admin.conf"]["action"] == "created"
        check_pairs(node)

    def test_a_kubeconfig_that_another_clusters_took_the_place_of_is_refused(self, node):
        certificate, leaf_key = OTHER.leaf("admin.conf", "cp1", "10.0.0.1")
        node.write(
            "/etc/kubernetes/admin.conf",
            kubeconfig.build(
                "https://other.example:6443", OTHER.cas["ca"].pem, "kubernetes-admin", certificate.pem, leaf_key.pem
            ),
        )
        before = snapshot(node)
        with pytest.raises(PkiError, match=r"admin\.conf: its CA and its server https://other.example:6443 are not those of"):
            work(node, force=True)
        assert snapshot(node) == before

    def test_what_is_not_concerned_can_be_named(self, node):
        os.unlink(node.kubernetes("pki/ca.key"))
        result = work(node, ["etcd-server", "front-proxy-client"], force=True)
        assert len(result["leaves"]) == 2 and result["changed"]
        assert not work(node)["changed"], "nothing is due, so the missing key is no obstacle"

    def test_what_cannot_be_read_is_made_anew_by_name(self, node):
        node.write("/etc/kubernetes/pki/apiserver.crt", b"hello", 0o644)
        node.write("/etc/kubernetes/admin.conf", b"a: [\n")
        node.write("/etc/kubernetes/pki/etcd/peer.key", b"hello")
        result = work(node, ["apiserver", "admin.conf", "etcd-peer"])
        assert {row["action"] for row in result["leaves"]} == {"renewed"}
        check_pairs(node)

    @pytest.mark.parametrize(
        "names, word",
        [
            (["apiservr"], "'apiservr' is not the name.*all, apiserver, apiserver-kubelet-client"),
            (["ca"], "ca is an authority"),
            ([""], "'' is not the name"),
            (["all", "x"], "'x' is not"),
        ],
    )
    def test_an_unknown_name_is_refused_with_the_names_there_are(self, node, names, word):
        before = snapshot(node)
        with pytest.raises(PkiError, match=word):
            work(node, names, force=True)
        assert snapshot(node) == before

    def test_a_worker_has_nothing_to_renew(self, tmp_path):
        node = throwaway.Node(tmp_path / "root", CLUSTER, role="worker", name="w1")
        assert work(node, force=True)["leaves"] == []
        with pytest.raises(PkiError, match="apiserver does not belong to this node .w1, role worker"):
            work(node, ["apiserver"])

    def bring(self, node, days=20):
        key = throwaway.key("brought")
        ca_key = throwaway.key("corporate")
        ca = ca_sign.build_ca("Corporate CA", ca_key, 3650)
        leaf = x509_sign.sign_leaf(x509_sign.Profile("api.corp", (), ["DNS:api.corp"], ("server",)), key, ca, ca_key, days)
        node.write("/etc/kubernetes/pki/apiserver.crt", leaf.pem + ca.pem, 0o644)
        node.write("/etc/kubernetes/pki/apiserver.key", key.pem)
        return leaf

    def test_what_the_user_brought_is_reported_and_left(self, node):
        leaf = self.bring(node)
        result = work(node, force=True)
        row = rows(result)["apiserver"]
        assert row["action"] == "refused" and "brought by the user: its issuer is CN=Corporate CA" in row["reason"]
        assert any("apiserver: it is due, and was brought by the user" in text for text in result["warnings"])
        assert tree(node).items["apiserver"].certificate.sha256 == leaf.sha256
        assert rows(result)["etcd-server"]["action"] == "renewed" and "kube-apiserver" not in result["reload"]

    def test_what_the_user_brought_is_replaced_by_name(self, node):
        self.bring(node)
        row = rows(work(node, ["apiserver"]))["apiserver"]
        assert row["action"] == "renewed" and row["after"]["sans"] == ["DNS:api.corp"]
        assert len(x509_read.parse_certificates(node.kubernetes("pki/apiserver.crt").read_bytes())) == 1
        check_pairs(node)

    def test_everything_the_user_brought_stays_byte_for_byte(self, node):
        """With force, on one node: a corporate serving certificate, others beside it, one for SNI, kubeconfigs of two kinds."""
        self.bring(node)
        mine = {
            "/etc/kubernetes/pki/vpn.crt": 0o644,
            "/etc/kubernetes/pki/vpn.key": 0o600,
            "/etc/kubernetes/pki/etcd/backup.pem": 0o640,
            "/etc/kubernetes/other.conf": 0o600,
            "/etc/corp/sni.crt": 0o644,
        }
        for path, mode in mine.items():
            node.write(path, node.kubernetes("pki/apiserver.crt").read_bytes(), mode)
        manifest = node.kubernetes("manifests/kube-apiserver.yaml")
        flag = "    - --tls-sni-cert-key=/etc/corp/sni.crt,/etc/corp/sni.key\n"
        manifest.write_text(manifest.read_text().replace("    - --advertise-address", flag + "    - --advertise-address"))
        text = re.sub(
            r"client-certificate-data: .*",
            "exec: {apiVersion: client.authentication.k8s.io/v1, command: corp-login}",
            node.kubernetes("admin.conf").read_text(),
        )
        node.write("/etc/kubernetes/admin.conf", re.sub(r" *client-key-data: .*\n", "", text))
        before = snapshot(node)
        result = work(node, force=True)
        after = snapshot(node)
        changed = {path for path in before if after[path] != before[path]} | set(after) - set(before)
        kept = [*mine, "/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/apiserver.key"]
        assert not changed & {str(node.path(path)) for path in kept} and len(changed) > 10
        assert rows(result)["admin.conf"]["reason"] == "it logs in without a certificate"
        # Named, they are replaced.
        done = work(node, ["admin.conf", "apiserver"])
        assert {row["action"] for row in done["leaves"]} == {"renewed"}
        assert Kubeconfig(node.kubernetes("admin.conf").read_bytes(), "a").certificate_data

    def test_an_external_etcd_is_no_obstacle(self, tmp_path):
        node = throwaway.Node(tmp_path / "root", CLUSTER, etcd=False)
        node.issue("apiserver-etcd-client", days=20)
        node.write("/etc/kubernetes/pki/etcd/ca.crt", CLUSTER.cas["etcd-ca"].pem, 0o644)
        path = node.kubernetes("manifests/kube-apiserver.yaml")
        path.write_text(
            path.read_text().replace(
                "    - kube-apiserver\n",
                (
                    "    - kube-apiserver\n"
                    "    - --etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt\n"
                    "    - --etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key\n"
                    "    - --etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt\n"
                ),
            )
        )
        result = work(node, force=True)
        assert rows(result)["apiserver-etcd-client"]["action"] == "refused" and rows(result)["apiserver"]["action"] == "renewed"
        assert any("external etcd" in text for text in result["warnings"])
        with pytest.raises(PkiError, match="etcd-ca is managed elsewhere"):
            work(node, ["apiserver-etcd-client"], force=True)


class TestCheckMode:
    def test_it_says_what_a_run_does_and_writes_nothing(self, node):
        node.issue("apiserver", days=5.5)
        os.unlink(node.kubernetes("pki/etcd/peer.crt"))
        before = snapshot(node)
        told = work(node, check=True)
        assert snapshot(node) == before and not (node.root.parent / "state").exists()
        done = work(node)
        for name, row in rows(done).items():
            plan = rows(told)[name]
            assert (plan["action"], plan["reason"], plan["before"]) == (row["action"], row["reason"], row["before"])
            if row["after"] and row["action"] != "kept":
                for field in ("subject", "issuer", "sans", "usages", "key_type"):
                    assert plan["after"][field] == row["after"][field]
                assert "serial" not in plan["after"]
        for field in ("changed", "restart", "reload", "warnings"):
            assert told[field] == done[field]
        assert not work(node, check=True)["changed"]

    def test_the_diff_shows_certificates_and_no_key(self, node):
        result = work(node, force=True)
        assert len(result["diff"]) == 10 and all(part["before"]["serial"] != part["after"]["serial"] for part in result["diff"])
        text = str(result)
        for path in node.root.rglob("*"):
            if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
                assert private_keys.parse_private_key(path.read_bytes()).pem.splitlines()[2].decode() not in text
        assert "PRIVATE" not in text and "client-key-data" not in text


class TestInterruption:
    @pytest.fixture
    def own(self, tmp_path):
        """Few leaves and no tree, so that every point can be tried: a pair, a combined file and a kubeconfig."""

        class Own:
            root = tmp_path / "own"

        Own.root.mkdir()
        (Own.root / "ca.crt").write_bytes(CLUSTER.cas["ca"].pem)
        (Own.root / "ca.key").write_bytes(CLUSTER.keys["ca"].pem)
        Own.specs = [
            spec(Own.root),
            spec(Own.root, name="all", path=None, key_path=None, combined=str(Own.root / "all.pem")),
            spec(Own.root, name="conf", path=None, key_path=None, kubeconfig=str(Own.root / "k.conf"), server="https://a:1"),
        ]
        Own.files = ["all.pem", "k.conf", "web.crt", "web.key"]
        work(Own, (), False, Own.specs)
        return Own

    def state(self, own):
        """The four files; every pair has to match."""
        found = {name: (own.root / name).read_bytes() for name in own.files}
        config = Kubeconfig(found["k.conf"], "k")
        for certificate, key in (
            (found["web.crt"], found["web.key"]),
            (found["all.pem"], found["all.pem"]),
            (config.certificate_data, config.key_data),
        ):
            assert private_keys.parse_private_key(key).matches(x509_read.parse_certificate(certificate))
        return found

    def test_a_kill_at_any_point_is_healed_by_the_next_run(self, own, tmp_path):
        point, healed = 1, set()
        while True:
            # The same calls in every round, whatever the one before left behind.
            shutil.rmtree(tmp_path / "backups", ignore_errors=True)
            before = self.state(own)
            if not faults.kill_at(point, lambda: work(own, (), False, own.specs, force=True)):
                break
            healed.update(work(own, (), False, own.specs)["warnings"])
            after = self.state(own)
            changed = [name for name in own.files if before[name] != after[name]]
            assert changed in ([], own.files), "all of them or none, at point %d" % point
            assert sorted(os.listdir(own.root)) == sorted(own.files + ["ca.crt", "ca.key"])
            for directory in backup_set.list_backups(str(tmp_path / "backups")):
                backup_contents.read_backup(directory)
            point += 1
        assert point > 60
        assert healed == {"An interrupted run on this node was %s first." % how for how in ("undone", "finished")}

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
    def test_a_disk_that_fails_at_any_point_changes_all_or_nothing(self, own, tmp_path, number):
        for point in range(1, 400):
            shutil.rmtree(tmp_path / "backups", ignore_errors=True)
            before = self.state(own)
            reached, error = faults.fail_at(point, lambda: work(own, (), False, own.specs, force=True), number)
            if not reached:
                break
            assert error is None or isinstance(error, PkiError), error
            transaction_recovery.recover(write.JOB, str(tmp_path / "state"))
            after = self.state(own)
            assert [name for name in own.files if before[name] != after[name]] in ([], own.files)
            assert sorted(os.listdir(own.root)) == sorted(own.files + ["ca.crt", "ca.key"])
        assert 60 < point < 399

    @pytest.mark.parametrize("renames", range(5))
    def test_what_kubeadm_renewed_after_a_kill_stays(self, own, monkeypatch, renames):
        """Killed between two renames, then `kubeadm certs renew`, then the next run."""
        renewed, finish = self.state(own), file_changes.apply_entries
        work(own, (), False, own.specs, force=True)

        def killed(entries, done):
            finish(entries[:renames], done)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(file_changes, "apply_entries", killed)
            with pytest.raises(KeyboardInterrupt):
                work(own, (), False, own.specs, force=True)
        for name, data in renewed.items():
            (own.root / name).write_bytes(data)
        if renames == 4:
            assert work(own, (), False, own.specs)["warnings"] == ["An interrupted run on this node was finished first."]
        else:
            with pytest.raises(PkiError, match="another program changed .*web.key.* since, .* was discarded"):
                work(own, (), False, own.specs)
        assert self.state(own) == renewed and work(own, (), False, own.specs)["warnings"] == []
        assert sorted(os.listdir(own.root)) == sorted(own.files + ["ca.crt", "ca.key"])

    def test_too_little_space_is_found_before_the_backup(self, node, monkeypatch):
        monkeypatch.setattr(atomic, "free_bytes", lambda path: 20000)
        before = snapshot(node)
        with pytest.raises(PkiError, match="no space left on the file system: .* KiB are needed and 19 are free.*Free some"):
            work(node, force=True)
        assert snapshot(node) == before and not (node.root.parent / "backups").exists()

    def test_a_component_that_missed_its_restart_is_named_again(self, node, monkeypatch):
        seen = []

        def older_than(program, path):
            seen.append((program, path))
            return program == "kube-scheduler"

        monkeypatch.setattr(processes, "older_than", older_than)
        result = work(node)
        assert result["restart"] == ["kube-scheduler"] and not result["changed"]
        assert "kube-scheduler runs since before it was written" in rows(result)["scheduler.conf"]["reason"]
        assert ("kube-controller-manager", str(node.kubernetes("controller-manager.conf"))) in seen


def spec(home, **options):
    base = {
        "name": "web",
        "path": str(home / "web.crt"),
        "key_path": str(home / "web.key"),
        "ca_path": str(home / "ca.crt"),
        "ca_key_path": str(home / "ca.key"),
        "common_name": "web",
        "sans": ["web", "DNS:web.svc", "10.0.0.9"],
        "usages": ["server"],
        "key_type": FAST,
    }
    base.update(options)
    return {key: value for key, value in base.items() if value is not None}


class TestSpecifications:
    @pytest.fixture
    def own(self, tmp_path):
        class Own:
            root = tmp_path / "own"

        Own.root.mkdir()
        (Own.root / "ca.crt").write_bytes(CLUSTER.cas["ca"].pem)
        (Own.root / "ca.key").write_bytes(CLUSTER.keys["ca"].pem)
        (Own.root / "ca.key").chmod(0o600)
        return Own

    def issue(self, own, check=False, options=None, **spec_options):
        return work(own, (), check, [spec(own.root, **spec_options)], **(options or {}))

    def test_a_pair_is_issued_once(self, own):
        told = self.issue(own, check=True)
        assert told["changed"] and not (own.root / "web.crt").exists()
        result = self.issue(own)
        assert rows(result)["web"]["action"] == "created"
        leaf = x509_read.parse_certificate((own.root / "web.crt").read_bytes())
        assert leaf.sans == ["DNS:web", "DNS:web.svc", "IP:10.0.0.9"] and leaf.extended_usages == ["server"]
        assert private_keys.parse_private_key((own.root / "web.key").read_bytes()).matches(leaf) and leaf.key_type == FAST
        assert [stat.S_IMODE((own.root / name).stat().st_mode) for name in ("web.crt", "web.key")] == [0o644, 0o600]
        before = snapshot(own)
        assert not self.issue(own)["changed"] and snapshot(own) == before
        assert not self.issue(own, sans=["10.0.0.9", "web.svc", "web"])["changed"], "order does not matter"

    @pytest.mark.parametrize(
        "change, word",
        [
            ({"sans": ["web"]}, "another SANs"),
            ({"common_name": "web2"}, "another subject"),
            ({"organizations": ["o"]}, "another subject"),
            ({"usages": ["server", "client"]}, "another usages"),
            ({"key_type": "ecdsa-p384"}, "another key type"),
        ],
    )
    def test_a_changed_wish_is_fulfilled_once(self, own, change, word):
        self.issue(own)
        result = self.issue(own, **change)
        assert word in rows(result)["web"]["reason"]
        assert not self.issue(own, **change)["changed"]

    def test_another_ca_means_another_certificate(self, own):
        self.issue(own)
        (own.root / "ca2.crt").write_bytes(OTHER.cas["etcd-ca"].pem)
        (own.root / "ca2.key").write_bytes(OTHER.keys["etcd-ca"].pem)
        change = {"ca_path": str(own.root / "ca2.crt"), "ca_key_path": str(own.root / "ca2.key")}
        assert "another CA" in rows(self.issue(own, **change))["web"]["reason"]
        assert x509_read.parse_certificate((own.root / "web.crt").read_bytes()).signed_by(OTHER.cas["etcd-ca"])
        assert not self.issue(own, **change)["changed"]

    def test_a_week_is_not_due_at_once(self, own):
        self.issue(own, days=7)
        assert not self.issue(own, days=7)["changed"]

    def test_a_kubeconfig(self, own):
        options = {
            "path": None,
            "key_path": None,
            "kubeconfig": str(own.root / "k.conf"),
            "server": "https://a:6443",
            "sans": None,
            "usages": None,
            "organizations": ["system:masters"],
        }
        self.issue(own, **options)
        config = Kubeconfig((own.root / "k.conf").read_bytes(), "k")
        assert (config.server, config.user) == ("https://a:6443", "web") and config.ca_data == CLUSTER.cas["ca"].pem
        assert x509_read.parse_certificate(config.certificate_data).organizations == ["system:masters"]
        assert stat.S_IMODE((own.root / "k.conf").stat().st_mode) == 0o600
        assert not self.issue(own, **options)["changed"]
        result = self.issue(own, **{**options, "server": "https://b:6443"})
        assert "another server" in rows(result)["web"]["reason"]
        assert Kubeconfig((own.root / "k.conf").read_bytes(), "k").server == "https://b:6443"

    def test_a_combined_file(self, own):
        options = {"path": None, "key_path": None, "combined": str(own.root / "all.pem")}
        self.issue(own, **options)
        data = (own.root / "all.pem").read_bytes()
        assert private_keys.parse_private_key(data).matches(x509_read.parse_certificate(data))
        assert stat.S_IMODE((own.root / "all.pem").stat().st_mode) == 0o600
        assert not self.issue(own, **options)["changed"]

    def test_a_request_made_elsewhere(self, own):
        key = throwaway.key("elsewhere")
        request = x509_sign.build_request(
            x509_sign.Profile("asked", ["system:masters"], ["DNS:asked"], ("server", "client")), key
        )
        options = {
            "request": request.pem.decode(),
            "key_path": None,
            "common_name": None,
            "sans": None,
            "usages": None,
            "key_type": None,
        }
        result = self.issue(own, **options)
        leaf = x509_read.parse_certificate((own.root / "web.crt").read_bytes())
        assert key.matches(leaf) and leaf.sans == ["DNS:asked"] and leaf.organizations == ["system:masters"]
        assert leaf.extended_usages == ["client"] and not leaf.is_ca, "usages are taken only when allowed"
        assert not rows(result)["web"]["new_key"] and not (own.root / "web.key").exists()
        assert not self.issue(own, **options)["changed"]
        self.issue(own, **dict(options, request_takes=["subject", "sans", "usages"]))
        assert x509_read.parse_certificate((own.root / "web.crt").read_bytes()).extended_usages == ["server", "client"]
        self.issue(own, **{**options, "common_name": "other", "organizations": [], "sans": ["other"]})
        leaf = x509_read.parse_certificate((own.root / "web.crt").read_bytes())
        assert (leaf.common_name, leaf.organizations, leaf.sans) == ("other", [], ["DNS:other"])

    def test_a_request_never_makes_a_ca(self, own):
        subprocess.run(
            [
                "openssl",
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                str(own.root / "k"),
                "-out",
                str(own.root / "r"),
                "-subj",
                "/CN=evil",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=keyCertSign",
            ],
            check=True,
            capture_output=True,
        )
        with pytest.raises(PkiError, match="asks to be a CA"):
            self.issue(own, request=str(own.root / "r"), key_path=None, common_name=None, sans=None, key_type=None)
        assert not (own.root / "web.crt").exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_owner_and_mode_are_set_and_kept_set(self, own):
        options = {"owner": "nobody", "group": "4321", "mode": "0640"}
        self.issue(own, **options)
        status = (own.root / "web.key").stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (4321, 0o640) and status.st_uid != 0
        assert stat.S_IMODE((own.root / "web.crt").stat().st_mode) == 0o644
        assert not self.issue(own, **options)["changed"]
        (own.root / "web.key").chmod(0o666)
        assert self.issue(own, check=True, **options)["adjusted"] == [str(own.root / "web.key")]
        assert stat.S_IMODE((own.root / "web.key").stat().st_mode) == 0o666
        assert self.issue(own, **options)["changed"]
        assert stat.S_IMODE((own.root / "web.key").stat().st_mode) == 0o640

    @pytest.mark.parametrize(
        "change, word",
        [
            ({"path": None}, "exactly one of path, kubeconfig and combined"),
            ({"combined": "/x"}, "exactly one of"),
            ({"key_path": None}, "path is given and key_path is not"),
            ({"common_name": None}, "has no common_name"),
            ({"sans": ["IP:1.2.3"]}, "leaf web: the SAN IP:1.2.3"),
            ({"usages": ["tls"]}, "the usage tls"),
            ({"days": 0}, "days is not possible"),
            ({"mode": "rw"}, "mode 'rw' is not octal"),
            ({"owner": "no-such-user"}, "no user no-such-user"),
            ({"owner": "999999999999"}, "no user 999999999999"),
            ({"request": "-----BEGIN CERTIFICATE REQUEST-----\nx"}, "leaf web: is truncated"),
            ({"request": "/no/such"}, "/no/such: leaf web"),
            ({"ca_path": "/no/ca.crt"}, "/no/ca.crt: does not exist"),
            ({"ca_key_path": "/no/ca.key"}, "/no/ca.key: does not exist"),
            ({"path": "/no/dir/a.crt", "key_path": "/no/dir/a.key"}, "/no/dir/a.crt: the directory /no/dir does not exist"),
            ({"common_name": "x" * 65}, "the subject CN=x+, O= is not possible"),
        ],
    )
    def test_a_wrong_wish_is_named(self, own, change, word):
        before = snapshot(own)
        with pytest.raises(PkiError, match=word):
            self.issue(own, **change)
        assert snapshot(own) == before

    def test_a_damaged_file_is_not_replaced_without_force(self, own):
        (own.root / "web.key").write_bytes(encrypted())
        self_before = snapshot(own)
        with pytest.raises(PkiError, match="web.key: the private key is encrypted.*Or set force: true"):
            self.issue(own)
        assert snapshot(own) == self_before
        self.issue(own, options={"force": True})
        assert private_keys.parse_private_key((own.root / "web.key").read_bytes())

    def test_two_leaves_in_one_file_are_refused(self, own):
        with pytest.raises(PkiError, match="two certificates are to be written to this file"):
            work(own, (), False, [spec(own.root), spec(own.root, name="second", common_name="second")])
        with pytest.raises(PkiError, match="two leaves are named web"):
            work(own, (), False, [spec(own.root), spec(own.root)])
