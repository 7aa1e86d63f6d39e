# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA whose key is elsewhere: requests that wait, and nothing taken back that is not exactly what was asked for."""

from __future__ import annotations

import datetime
import os
import shutil
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import backup_contents
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.leaf import catalogue_leaf, external_csr, model, renewal
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import (
    ca_sign,
    csr_read,
    private_keys,
    x509_read,
    x509_sign,
)
from cryptography import x509 as library
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.support import faults, throwaway

CLUSTER = throwaway.Cluster(leaf_days=365.5)
STRANGER = throwaway.Cluster(label="stranger")
OF_CA = ["apiserver", "apiserver-kubelet-client", "admin.conf", "controller-manager.conf", "scheduler.conf"]


@pytest.fixture
def node(tmp_path):
    """A control-plane node without the key of its CA."""
    found = throwaway.Node(tmp_path / "root", CLUSTER)
    os.unlink(found.kubernetes("pki/ca.key"))
    return found


def work(node, names=("all",), check=False, asked=True, certificates=None, only=False, **more):
    """Run the job on a node, as the module does."""
    home = node.root.parent
    waiting = external_csr.Waiting(str(home / "state"), asked, certificates, only)
    chosen = model.Settings(waiting=waiting, **dict({"key_type": "ecdsa-p256"}, **more))

    def find():
        layout = layouts.find_layout(root=str(node.root))
        return catalogue_leaf.catalogue_leaves(pki_tree.read_tree(layout), list(names), chosen)

    return renewal.run(chosen, find, check, str(home / "state"), str(home / "backups"))


def sign(entry, cluster=CLUSTER, profile=None, key=None, days=365.0, start=None):
    """Do what the authority elsewhere does with one entry of the bundle: gives PEM (str)."""
    request = csr_read.parse_request(entry["request"].encode())
    profile = profile or x509_sign.Profile.of(request)
    return x509_sign.sign_leaf(
        profile, key or request, cluster.cas[entry["ca"]], cluster.keys[entry["ca"]], days, start
    ).pem.decode()


def signed(result, **more):
    return {entry["name"]: sign(entry, **more) for entry in result["requests"]}


def snapshot(directory):
    return {
        str(path): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file()
    }


def rows(result):
    return {row["name"]: row for row in result["leaves"]}


def verify(node):
    tree = pki_tree.read_tree(layouts.find_layout(root=str(node.root)))
    for name in catalogue.RENEWABLE:
        item = tree.items.get(name)
        if item is None or item.missing:
            continue
        assert item.problem is None and item.key_sha256 == item.certificate.key_sha256, name
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-CAfile", tree.items[item.ca].path],
            input=item.certificate.pem,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (name, done.stderr)
    return tree


class TestRequests:
    def test_without_a_way_it_says_so_and_changes_nothing(self, node):
        before = snapshot(node.root)
        with pytest.raises(PkiError) as error:
            work(node, asked=False, force=True)
        assert "managed elsewhere" in error.value.message and "apiserver" in error.value.message
        for name in ("kubepki_external_ca_dir", "kubepki_external_ca_command", "kubepki_external_ca_signer"):
            assert name in error.value.fix
        assert snapshot(node.root) == before and not (node.root.parent / "state" / "requests").exists()

    def test_nothing_due_asks_for_nothing(self, node):
        result = work(node)
        assert not result["changed"] and result["requests"] == []

    def test_a_request_says_what_the_certificate_says(self, node):
        before = snapshot(node.root)
        result = work(node, force=True)
        assert result["changed"] and result["backup"] is None and snapshot(node.root) == before
        assert [entry["name"] for entry in result["requests"]] == OF_CA
        tree = pki_tree.read_tree(layouts.find_layout(root=str(node.root)))
        for entry in result["requests"]:
            request, old = csr_read.parse_request(entry["request"].encode()), tree.items[entry["name"]].certificate
            assert (request.subject, request.sans, request.extended_usages) == (old.subject, old.sans, old.extended_usages)
            assert (entry["subject"], entry["sans"], entry["usages"]) == (old.subject, old.sans, old.extended_usages)
            assert entry["ca"] == "ca" and entry["ca_certificate"].encode() == CLUSTER.cas["ca"].pem
            assert request.key_sha256 != old.key_sha256 and entry["days"] == 365
            assert b"PRIVATE" not in repr(entry).encode()
        assert {name: row["action"] for name, row in rows(result).items()} == {
            name: "requested" if name in OF_CA else "held" for name in rows(result)
        }

    def test_keys_wait_where_only_root_reads_them(self, node):
        work(node, force=True)
        waiting = node.root.parent / "state" / "requests"
        assert stat.S_IMODE(waiting.stat().st_mode) == 0o700
        assert sorted(path.name for path in waiting.iterdir()) == sorted(
            "%s.%s" % (name, ending) for name in OF_CA for ending in ("csr", "key")
        )
        assert {stat.S_IMODE(path.stat().st_mode) for path in waiting.iterdir()} == {0o600}

    def test_a_second_run_makes_no_second_key(self, node):
        first = work(node, force=True)
        waiting = snapshot(node.root.parent / "state" / "requests")
        second = work(node, force=True)
        assert not second["changed"] and second["requests"] == first["requests"]
        # What waits is asked for again, though nothing is due without force.
        third = work(node)
        assert not third["changed"] and third["requests"] == first["requests"]
        assert snapshot(node.root.parent / "state" / "requests") == waiting

    def test_a_whole_cluster_can_be_asked_before_anything_is_renewed(self, node):
        node.issue("front-proxy-client", days=5)
        before = snapshot(node.root)
        result = work(node, only=True)
        assert result["requests"] == [] and not result["changed"] and snapshot(node.root) == before
        assert rows(result)["front-proxy-client"]["action"] == "held"
        assert rows(work(node))["front-proxy-client"]["action"] == "renewed"

    def test_another_wish_makes_another_request(self, node):
        first = work(node, names=["apiserver"], force=True)
        second = work(node, names=["apiserver"], force=True, key_type="ecdsa-p384")
        assert second["changed"] and second["requests"][0]["key_type"] == "ecdsa-p384"
        assert second["requests"][0]["request"] != first["requests"][0]["request"]

    def test_check_mode_makes_nothing(self, node):
        result = work(node, force=True, check=True)
        assert result["changed"] and result["requests"] == [] and rows(result)["apiserver"]["action"] == "requested"
        assert not (node.root.parent / "state").exists()

    def test_an_authority_that_cannot_sign_is_not_asked(self, tmp_path):
        old = throwaway.Cluster(ca_days=0.001, label="ended")
        node = throwaway.Node(tmp_path / "root", old)
        os.unlink(node.kubernetes("pki/ca.key"))
        with pytest.raises(PkiError) as error:
            work(node, force=True, now=x509_read.now() + datetime.timedelta(days=1))
        assert "expired" in error.value.message

    def test_a_missing_certificate_is_asked_for_as_kubeadm_would_make_it(self, node):
        os.unlink(node.kubernetes("pki/apiserver.crt"))
        result = work(node)
        entry = result["requests"][0]
        assert entry["subject"] == "CN=kube-apiserver" and "IP:10.0.0.1" in entry["sans"]
        assert "assumed" in rows(result)["apiserver"]["reason"]
        done = work(node, certificates=signed(result))
        assert rows(done)["apiserver"]["action"] == "created"
        verify(node)

    def test_what_was_brought_is_asked_for_by_name_only(self, node):
        certificate, key = STRANGER.leaf("apiserver", "cp1", "10.0.0.1", days=5)
        other = ca_sign.build_ca("Corporate CA", throwaway.key("corporate"), 3650)
        certificate = x509_sign.sign_leaf(x509_sign.Profile.of(certificate), key, other, throwaway.key("corporate"), 5)
        node.write("/etc/kubernetes/pki/apiserver.crt", certificate.pem, 0o644)
        node.write("/etc/kubernetes/pki/apiserver.key", key.pem)
        result = work(node)
        assert result["requests"] == [] and any("brought by the user" in text for text in result["warnings"])
        assert [entry["name"] for entry in work(node, names=["apiserver"])["requests"]] == ["apiserver"]


class TestInstallation:
    def test_what_was_signed_is_installed_and_everything_else_with_it(self, node):
        result = work(node, force=True)
        assert work(node, force=True, check=True, certificates=signed(result))["changed"]
        given = signed(result)
        done = work(node, force=True, certificates=given)
        assert done["changed"] and done["backup"] and done["requests"] == []
        assert {row["action"] for row in done["leaves"]} == {"renewed"}
        assert done["restart"] == ["kube-controller-manager", "kube-scheduler"] and done["reload"] == ["etcd", "kube-apiserver"]
        tree = verify(node)
        for name, pem in given.items():
            assert tree.items[name].certificate.sha256 == x509_read.parse_certificate(pem.encode()).sha256
        assert list((node.root.parent / "state" / "requests").iterdir()) == []
        assert not work(node)["changed"]
        backup_contents.read_backup(done["backup"])

    def test_a_run_without_force_takes_back_what_one_with_it_asked_for(self, node):
        result = work(node, names=["apiserver"], force=True)
        assert rows(work(node, certificates=signed(result)))["apiserver"]["action"] == "renewed"

    def test_some_of_a_node_are_refused_with_the_names_of_the_others(self, node):
        result = work(node, force=True)
        given = signed(result)
        del given["apiserver"], given["scheduler.conf"]
        before = snapshot(node.root)
        with pytest.raises(PkiError) as error:
            work(node, force=True, certificates=given)
        assert "none for apiserver and scheduler.conf" in error.value.message and snapshot(node.root) == before

    def test_everything_wrong_is_said_at_once(self, node):
        result = work(node, force=True)
        given = signed(result)
        given["apiserver"], given["admin.conf"] = given["admin.conf"], "nonsense"
        before = snapshot(node.root)
        with pytest.raises(PkiError) as error:
            work(node, force=True, certificates=given)
        assert "apiserver: it is for another key" in error.value.message and "admin.conf: is not PEM" in error.value.message
        assert snapshot(node.root) == before
        assert rows(work(node, force=True, certificates=signed(result)))["apiserver"]["action"] == "renewed"

    def test_certificates_nobody_asked_for_are_not_installed(self, node):
        result = work(node, names=["apiserver"], force=True)
        given = signed(result)
        (node.root.parent / "state" / "requests" / "apiserver.key").unlink()
        (node.root.parent / "state" / "requests" / "apiserver.csr").unlink()
        assert not work(node, certificates=given)["changed"], "nothing is due, and nothing waits"
        with pytest.raises(PkiError, match="no request for this waits"):
            work(node, names=["apiserver"], force=True, certificates=given)

    def test_when_the_key_is_back_nothing_waits_any_more(self, node):
        work(node, force=True)
        node.write("/etc/kubernetes/pki/ca.key", CLUSTER.keys["ca"].pem)
        result = work(node)
        assert not result["changed"] and result["requests"] == []
        assert list((node.root.parent / "state" / "requests").iterdir()) == []

    def test_short_lives_are_said(self, node):
        result = work(node, names=["apiserver"], force=True)
        done = work(node, names=["apiserver"], certificates=signed(result, days=30.0))
        assert any("less than 90 days" in text and "apiserver" in text for text in done["warnings"])

    def test_the_old_key_is_kept_when_asked(self, node):
        before = pki_tree.read_tree(layouts.find_layout(root=str(node.root))).items["apiserver"].key_sha256
        more = {"names": ["apiserver"], "force": True, "new_key": False, "key_type": None}
        result = work(node, **more)
        assert not work(node, **more)["changed"]
        work(node, certificates=signed(result), **more)
        assert verify(node).items["apiserver"].key_sha256 == before


def _profile(request, **more):
    values = {
        "common_name": request.common_name,
        "organizations": request.organizations,
        "sans": request.sans,
        "extended_usages": request.extended_usages,
    }
    return x509_sign.Profile(**dict(values, **more))


WRONG = {
    "key": ({"key": throwaway.key("somebody else's")}, "for another key"),
    "subject": ({"common_name": "kube-apiservr"}, "its subject is CN=kube-apiservr, and CN=kube-apiserver was asked for"),
    "group": ({"organizations": ["system:masters"]}, "its subject is"),
    "fewer names": ({"sans": ["DNS:kubernetes"]}, "it lacks the name IP:10.0.0.1"),
    "more names": ({"more": ["DNS:bank.example"]}, "it has the name DNS:bank.example, which was not asked for"),
    "no usage": ({"extended_usages": []}, "it lacks the extended usage server"),
    "another usage": ({"extended_usages": ["server", "client"]}, "it has the extended usage client"),
    "key usage": ({"usages": ["key_encipherment"]}, "does not allow signatures"),
    "signs": ({"usages": ["digital_signature", "key_cert_sign"]}, "it is an authority"),
    "another CA of the name": ({"cluster": STRANGER}, "signed by another key than that of the authority"),
    "another CA": ({"ca": "front-proxy-ca"}, "it is signed by CN=front-proxy-ca"),
    "ended": ({"days": 1, "start": -30}, "it ended at"),
    "not yet": ({"days": 100, "start": 3}, "it is not valid before"),
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A node that waits for one certificate, and what it asks for."""
    node = throwaway.Node(tmp_path_factory.mktemp("asked") / "root", CLUSTER)
    os.unlink(node.kubernetes("pki/ca.key"))
    return node, work(node, names=["apiserver"], force=True)["requests"][0]


class TestCheck:
    @pytest.mark.parametrize("what", WRONG)
    def test_what_was_not_asked_for_is_refused_and_named(self, asked, what):
        change, word = WRONG[what]
        node, entry = asked
        change = dict(change)
        request = csr_read.parse_request(entry["request"].encode())
        if "more" in change:
            change["sans"] = request.sans + change.pop("more")
        cluster, days, key = change.pop("cluster", CLUSTER), change.pop("days", 365.0), change.pop("key", None)
        start, ca = change.pop("start", 0), change.pop("ca", "ca")
        moment = x509_read.now() + datetime.timedelta(days=start)
        # A CA that is older than what it signs.
        own = ca_sign.build_ca(
            cluster.cas[ca].common_name, cluster.keys[ca], 3650, start=x509_read.now() - datetime.timedelta(days=100)
        )
        pem = x509_sign.sign_leaf(_profile(request, **change), key or request, own, cluster.keys[ca], days, moment).pem
        before = snapshot(node.root)
        with pytest.raises(PkiError) as error:
            work(node, names=["apiserver"], force=True, certificates={"apiserver": pem.decode()})
        assert word in error.value.message and snapshot(node.root) == before

    def test_a_subject_that_can_be_read_in_two_ways_is_refused(self, asked):
        node, entry = asked
        request = csr_read.parse_request(entry["request"].encode())
        profile = _profile(request)
        profile.subject = library.Name([library.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver", _type=_ASN1Type.BMPString)])
        issued = x509_sign.sign_leaf(
            profile, private_keys.PublicKey(request.raw.public_key()), CLUSTER.cas["ca"], CLUSTER.keys["ca"], 10
        )
        wrong = external_csr.deviations(issued, request, CLUSTER.cas["ca"], x509_read.now())
        assert len(wrong) == 1 and "BMPString" in wrong[0]

    def test_an_authority_is_refused(self, asked):
        node, entry = asked
        request = csr_read.parse_request(entry["request"].encode())
        other = ca_sign.build_ca("kube-apiserver", request, 10, CLUSTER.cas["ca"], CLUSTER.keys["ca"])
        wrong = external_csr.deviations(other, request, CLUSTER.cas["ca"], x509_read.now())
        assert "it is an authority" in wrong

    def test_the_order_of_the_parts_and_what_follows_do_not_matter(self, asked, tmp_path):
        """openssl, as a person would use it, on the request alone."""
        node, entry = asked
        files_there = {"csr": entry["request"].encode(), "ca.crt": CLUSTER.cas["ca"].pem, "ca.key": CLUSTER.keys["ca"].pem}
        for name, data in files_there.items():
            (tmp_path / name).write_bytes(data)
        subprocess.run(
            [
                "openssl",
                "x509",
                "-req",
                "-in",
                "csr",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-days",
                "200",
                "-copy_extensions",
                "copyall",
                "-out",
                "crt",
            ],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        pem = (tmp_path / "crt").read_bytes() + CLUSTER.cas["ca"].pem
        found = external_csr.check(pem, csr_read.parse_request(entry["request"].encode()), CLUSTER.cas["ca"], x509_read.now())
        assert found.common_name == "kube-apiserver"

    @given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 255))
    @settings(deadline=None, max_examples=60)
    def test_damage_is_never_taken_and_never_a_traceback(self, asked, junk, place, value):
        node, entry = asked
        good = bytearray(sign(entry).encode())
        request = csr_read.parse_request(entry["request"].encode())
        place %= len(good)
        changed = good[place] != value
        good[place] = value
        for pem in (junk, bytes(good), bytes(good[:place])):
            try:
                found = external_csr.check(pem, request, CLUSTER.cas["ca"], x509_read.now())
            except PkiError:
                continue
            # What still passes is a certificate that says and proves the same: only its PEM looks otherwise.
            assert found.signed_by(CLUSTER.cas["ca"]) and (not changed or found.key_sha256 == request.key_sha256)


class TestInterruption:
    NAMES = ("apiserver", "admin.conf")

    def ask(self, node):
        return work(node, names=self.NAMES, force=True)

    def test_a_kill_at_any_point_leaves_a_request_that_can_be_signed(self, tmp_path):
        point = 1
        while True:
            node = throwaway.Node(tmp_path / str(point) / "root", CLUSTER)
            os.unlink(node.kubernetes("pki/ca.key"))
            if not faults.kill_at(point, lambda node=node: self.ask(node)):
                break
            result = self.ask(node)
            waiting = node.root.parent / "state" / "requests"
            assert sorted(os.listdir(waiting)) == sorted(
                "%s.%s" % (name, ending) for name in self.NAMES for ending in ("csr", "key")
            ), point
            done = work(node, names=self.NAMES, certificates=signed(result))
            assert {row["action"] for row in done["leaves"]} == {"renewed"}, point
            verify(node)
            point += 1
        assert point > 20

    def test_a_kill_during_the_installation_is_healed_without_another_request(self, tmp_path):
        first = throwaway.Node(tmp_path / "node" / "root", CLUSTER)
        os.unlink(first.kubernetes("pki/ca.key"))
        given = signed(self.ask(first))
        point, seen = 1, set()
        while True:
            home = tmp_path / str(point)
            shutil.copytree(first.root.parent, home, symlinks=True)
            node = SimpleNamespace(root=home / "root")
            if not faults.kill_at(point, lambda node=node: work(node, names=self.NAMES, certificates=given)):
                break
            # The points are those of the library's own tests; here every other one will do.
            # Beyond the commit the next run has nothing left to ask for; before it the same certificates still serve.
            result = work(node, names=self.NAMES)
            if result["requests"]:
                seen.add("asked")
                assert not result["changed"]
                result = work(node, names=self.NAMES, certificates=given)
            else:
                seen.add("done")
            tree = verify(node)
            for name in self.NAMES:
                assert tree.items[name].certificate.sha256 == x509_read.parse_certificate(given[name].encode()).sha256, point
            assert os.listdir(home / "state" / "requests") == [], point
            shutil.rmtree(home)
            point += 2
        assert seen == {"asked", "done"}
