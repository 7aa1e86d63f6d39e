# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder on the controller: what it says comes from the requests, what is in it is matched by key, nothing is half taken."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shlex
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, csr_read, x509_read, x509_sign
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import csr_bundle, csr_requests, signing_command

from tests.unit.support import throwaway

CLUSTER = throwaway.Cluster(label="bundle")
NAMES = ("apiserver", "admin.conf", "front-proxy-client")
# The inventory, whatever hosts a run is limited to.
ODD = ["../../etc", "..", "a/b", "a b", "-x", "x" * 200, "\u00e4", "cp1; touch x"]
GROUPS = csr_requests.Groups({"cp1", "cp2", *ODD}, {"e1"})
# A signer as a person would write it: the authority's key lies beside the bundle.
SIGNER = """#!/bin/sh
echo a line before it >&2
exec openssl x509 -req -in "$1" -CA "$KUBEPKI_CA_CERTIFICATE" -CAkey "%s/$KUBEPKI_CA.key" -days "$KUBEPKI_DAYS" \\
    -copy_extensions copyall ${2:+-out "$2"}
"""


def one(name, host, label="", **more):
    """What cert_leaf of a host returns of one request."""
    certificate, _key = CLUSTER.leaf(name, host, "10.0.0.1")
    ca = "front-proxy-ca" if name.startswith("front") else "ca"
    request = x509_sign.build_request(x509_sign.Profile.of(certificate), throwaway.key(name + host + label))
    return dict(
        {
            "name": name,
            "path": "/etc/kubernetes/" + name,
            "ca": ca,
            "ca_certificate": CLUSTER.cas[ca].pem.decode(),
            "request": request.pem.decode(),
            "days": 365.0,
            "subject": "CN=a lie",
        },
        **more,
    )


def asked(hosts=("cp1", "cp2"), names=NAMES, **more):
    return {host: [one(name, host, **more) for name in names] for host in hosts}


def sign(entry, days=365.0):
    request = csr_read.parse_request(entry["pem"].encode())
    ca = entry["ca"]
    return x509_sign.sign_leaf(x509_sign.Profile.of(request), request, CLUSTER.cas[ca], CLUSTER.keys[ca], days).pem.decode()


def write(directory, requests=None, looked=None, dry=False):
    requests = asked() if requests is None else requests
    bundle = csr_bundle.Bundle(str(directory), GROUPS, dry)
    found = csr_requests.read_requests(requests, GROUPS)
    changed = bundle.write(found, looked or {host: list(NAMES) for host in requests})
    return bundle, changed


@pytest.fixture(scope="module")
def requests():
    return asked()


class TestWriting:
    def test_it_says_what_the_requests_say(self, tmp_path, requests):
        bundle, changed = write(tmp_path / "b", requests)
        manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
        assert changed and len(manifest["requests"]) == 6
        first = next(entry for entry in manifest["requests"] if (entry["host"], entry["name"]) == ("cp1", "apiserver"))
        assert first["subject"] == "CN=kube-apiserver" and "IP:10.0.0.1" in first["sans"] and first["usages"] == ["server"]
        assert first["request"] == "requests/cp1/apiserver.csr" and first["certificate"] == "signed/cp1/apiserver.crt"
        assert first["ca_sha256"] == CLUSTER.cas["ca"].sha256 and "pem" not in first
        text = (tmp_path / "b" / "README.txt").read_text()
        assert "a lie" not in text and "CN=kube-apiserver" in text and CLUSTER.cas["ca"].sha256 in text
        assert (tmp_path / "b" / first["request"]).read_text() == bundle.asked[0]["pem"]
        assert sorted(path.name for path in (tmp_path / "b" / "ca").iterdir()) == ["ca.crt", "front-proxy-ca.crt"]

    def test_a_second_time_changes_nothing(self, tmp_path, requests):
        write(tmp_path / "b", requests)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "b").rglob("*")}
        assert not write(tmp_path / "b", requests)[1]
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "b").rglob("*")} == before

    def test_nothing_asked_for_makes_no_folder(self, tmp_path):
        assert not write(tmp_path / "b", {"cp1": []})[1] and not (tmp_path / "b").exists()

    def test_check_mode_writes_nothing(self, tmp_path, requests):
        bundle, changed = write(tmp_path / "b", requests, dry=True)
        signing_command.sign(bundle, "touch %s" % (tmp_path / "ran"), 5)
        assert changed and list(tmp_path.iterdir()) == [] and bundle.by_host() == ({}, ["cp1", "cp2"])

    def test_other_hosts_and_names_stay(self, tmp_path, requests):
        write(tmp_path / "b", requests)
        bundle, _changed = write(tmp_path / "b", {"cp1": [one("apiserver", "cp1")]}, {"cp1": ["apiserver"]})
        assert len(bundle.entries) == 6 and len(bundle.asked) == 1
        bundle, _changed = write(tmp_path / "b", {"cp1": []}, {"cp1": list(NAMES)})
        assert {entry["host"] for entry in bundle.entries} == {"cp2"}
        assert not list((tmp_path / "b" / "requests" / "cp1").iterdir())

    @pytest.mark.parametrize("host", ODD)
    def test_no_name_of_a_host_leaves_the_folder(self, tmp_path, host):
        write(tmp_path / "b", {host: [one("apiserver", "cp1")]})
        assert [path.name for path in tmp_path.iterdir()] == ["b"]
        folders = list((tmp_path / "b" / "requests").iterdir())
        assert len(folders) == 1 and [path.name for path in folders[0].iterdir()] == ["apiserver.csr"]

    @pytest.mark.parametrize(
        "change, word",
        [
            ({"name": "../x"}, "does not know"),
            ({"name": "ca"}, "does not know"),
            ({"ca": "etcd-ca"}, "does not know"),
            ({"request": "junk"}, "not exactly one PEM block"),
            ({"ca_certificate": CLUSTER.cas["etcd-ca"].pem.decode()}, "different certificates"),
        ],
    )
    def test_what_a_node_must_not_say_is_refused(self, tmp_path, requests, change, word):
        with pytest.raises(PkiError) as error:
            write(tmp_path / "b", {"cp1": requests["cp1"], "cp2": [dict(requests["cp2"][0], **change)]})
        assert word in str(error.value) and not (tmp_path / "b").exists()

    def test_a_damaged_manifest_is_named(self, tmp_path, requests):
        write(tmp_path / "b", requests)
        for text in ("{", "[]", '{"schema": 9, "requests": []}', '{"schema": 1, "requests": [{}]}'):
            (tmp_path / "b" / "manifest.json").write_text(text)
            with pytest.raises(PkiError, match="no manifest of this version"):
                write(tmp_path / "b", requests)


def foreign(name, common_name, organizations=(), sans=(), usages=("client",), ca="ca", subject=None):
    """A request with another content than the leaf of its name has."""
    request = x509_sign.build_request(x509_sign.Profile(common_name, organizations, sans, usages), throwaway.key("foreign"))
    return {
        "name": name,
        "path": "/p",
        "ca": ca,
        "ca_certificate": CLUSTER.cas[ca].pem.decode(),
        "days": 365.0,
        "request": request.pem.decode(),
    }


class TestWhoMayAskForWhat:
    """A compromised host of the cluster writes its own answer: each request has to be what its name and its host may have."""

    @pytest.mark.parametrize(
        "one",
        [
            foreign("admin.conf", "kubernetes-admin", ["system:masters"]),
            foreign("admin.conf", "kubernetes-admin", ["kubeadm:cluster-admins"]),
            foreign("apiserver-kubelet-client", "kube-apiserver-kubelet-client"),
            foreign("controller-manager.conf", "system:kube-controller-manager"),
            foreign("apiserver", "kube-apiserver", (), ["DNS:cp1", "IP:10.0.0.1"], ["server"]),
            foreign("apiserver-etcd-client", "kube-apiserver-etcd-client", ["system:masters"], ca="etcd-ca"),
            foreign("etcd-peer", "a-name-of-another-tool", (), ["DNS:cp1"], ["server", "client"], ca="etcd-ca"),
        ],
    )
    def test_what_kubeadm_of_any_version_makes_is_taken(self, one):
        assert len(csr_requests.read_requests({"cp1": [one]}, GROUPS)) == 1

    @pytest.mark.parametrize(
        "one, word",
        [
            (foreign("scheduler.conf", "kubernetes-admin", ["system:masters"]), "system:masters"),
            (foreign("scheduler.conf", "system:kube-controller-manager"), "system:kube-controller-manager"),
            (foreign("admin.conf", "kubernetes-admin", ["system:nodes"]), "node"),
            (foreign("admin.conf", "eve", ["system:masters"]), "the common name is eve"),
            (foreign("admin.conf", "kubernetes-admin", ["kubeadm:cluster-admins", "system:masters"]), "the organizations are"),
            (foreign("admin.conf", "kubernetes-admin", ["system:masters"], ["DNS:kubernetes"]), "it has the name DNS:kubernetes"),
            (foreign("admin.conf", "kubernetes-admin", ["system:masters"], (), ["client", "server"]), "the extended usages"),
            (foreign("admin.conf", "kubernetes-admin", ["system:masters"], (), ()), "the extended usages are none"),
            (foreign("apiserver", "kube-apiserver", (), ["URI:spiffe://x"], ["server"]), "URI:spiffe://x"),
            (foreign("etcd-server", "root", ["dev"], ["DNS:x"], ["server"], ca="etcd-ca"), "the organizations are dev"),
            (foreign("front-proxy-client", "system:node:w1", (), ca="front-proxy-ca"), "node"),
        ],
    )
    def test_another_subject_than_that_of_its_name_is_refused(self, tmp_path, one, word):
        with pytest.raises(PkiError) as error:
            write(tmp_path / "b", {"cp1": [one]})
        assert word in str(error.value) and "cp1" in str(error.value) and not (tmp_path / "b").exists()

    def test_a_host_of_etcd_alone_asks_for_what_etcds_ca_signs(self):
        own = foreign("etcd-server", "e1", (), ["DNS:e1"], ["server", "client"], ca="etcd-ca")
        assert len(csr_requests.read_requests({"e1": [own]}, GROUPS)) == 1
        with pytest.raises(PkiError, match="e1 runs etcd alone"):
            csr_requests.read_requests({"e1": [own, foreign("admin.conf", "kubernetes-admin", ["system:masters"])]}, GROUPS)

    @pytest.mark.parametrize("groups", [None, {}, {"kube_control_plane": ["cp1"], "kube_node": ["w1"], "all": ["cp1", "w1"]}])
    def test_a_host_of_neither_group_asks_for_nothing(self, groups):
        for own in (
            foreign("etcd-server", "e1", (), ["DNS:e1"], ["server", "client"], ca="etcd-ca"),
            foreign("admin.conf", "kubernetes-admin", ["system:masters"]),
        ):
            with pytest.raises(PkiError, match="w1 is in neither of the inventory's groups"):
                csr_requests.read_requests({"w1": [own]}, csr_requests.Groups.of(groups))

    def test_no_node_asks_for_more_days_than_the_run_gives(self):
        asked_for = {"cp1": [dict(foreign("scheduler.conf", "system:kube-scheduler"), days=36500.0)]}
        assert csr_requests.read_requests(asked_for, GROUPS, longest=365.0)[0]["days"] == 365.0
        assert csr_requests.read_requests(asked_for, GROUPS, longest=1e6)[0]["days"] == 36500.0

    def test_a_subject_with_a_nul_is_one_sentence(self, tmp_path):
        evil = foreign("etcd-server", "e1\0x", (), ["DNS:e1"], ["server"], ca="etcd-ca")
        with pytest.raises(PkiError, match="cp1"):
            write(tmp_path / "b", {"cp1": [evil]})


class TestOthersInTheFolder:
    def test_no_path_of_a_manifest_leads_out_of_the_folder(self, tmp_path, requests):
        write(tmp_path / "b", requests)
        victim, taken = tmp_path / "victim", tmp_path / "taken.crt"
        victim.write_text("keep me")
        taken.write_text("keep me, too")
        manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
        for entry in manifest["requests"]:
            entry.update(request=str(victim), certificate=str(taken))
        (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
        write(tmp_path / "b", {"cp1": [], "cp2": requests["cp2"]})
        bundle = csr_bundle.Bundle(str(tmp_path / "b"), GROUPS)
        bundle.close({"cp2": list(NAMES)})
        assert victim.read_text() == "keep me" and taken.read_text() == "keep me, too"
        assert not list((tmp_path / "b" / "requests" / "cp1").iterdir())

    @pytest.mark.parametrize(
        "change",
        [
            {"host": None},
            {"host": ["x"]},
            {"name": "../../x"},
            {"name": {}},
            {"name": "ca"},
            {"ca": "../x"},
            {"sans": "x"},
            {"days": "many"},
        ],
    )
    def test_a_manifest_with_odd_values_is_named(self, tmp_path, requests, change):
        write(tmp_path / "b", requests)
        manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
        manifest["requests"][0].update(change)
        (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(PkiError, match="no manifest of this version"):
            write(tmp_path / "b", requests)

    FORMS = ("", " {request}")

    def planted(self, folder, host, name, pem):
        """Put a request into the folder and its manifest, as a user who may write to it does."""
        path = folder / "requests" / host / (name + ".csr")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pem)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["requests"].append(dict(manifest["requests"][0], host=host, name=name, ca=catalogue.BY_NAME[name].ca))
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return path

    @pytest.mark.parametrize(
        "host, name, word",
        [
            ("ghost", "super-admin.conf", "ghost is in neither of the inventory's groups"),
            ("e1", "admin.conf", "e1 runs etcd alone"),
        ],
    )
    def test_an_entry_of_a_host_that_may_not_have_it_stops_each_run_also_a_limited_one(
        self, tmp_path, requests, host, name, word
    ):
        write(tmp_path / "b", requests)
        evil = foreign(name, "kubernetes-admin", ["system:masters"])["request"]
        path = self.planted(tmp_path / "b", host, name, evil)
        with pytest.raises(PkiError, match=word) as error:
            write(tmp_path / "b", {"cp1": requests["cp1"]}, {"cp1": list(NAMES)})
        assert str(path) in str(error.value)
        path.unlink()
        bundle, _changed = write(tmp_path / "b", {"cp1": requests["cp1"]}, {"cp1": list(NAMES)})
        assert {entry["host"] for entry in bundle.entries} == {"cp1", "cp2"}

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("place", ["cp1/super-admin.conf.csr", "ghost/x.csr", "x.csr", "cp1/deep/er/x.csr", "cp1/.hidden"])
    def test_a_request_that_no_node_made_stops_the_command(self, tmp_path, requests, place, form):
        bundle, _changed = write(tmp_path / "b", requests)
        path = tmp_path / "b" / "requests" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(requests["cp1"][0]["request"])
        with pytest.raises(PkiError, match="no node requested this") as error:
            signing_command.sign(bundle, "touch %s%s" % (tmp_path / "ran", form), 5)
        assert str(path) in str(error.value) and not (tmp_path / "ran").exists()

    def test_a_link_to_a_directory_of_requests_stops_the_command(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        (tmp_path / "b" / "requests" / "more").symlink_to(tmp_path)
        with pytest.raises(PkiError, match="requests/more: no node requested this"):
            signing_command.sign(bundle, "touch %s" % (tmp_path / "ran"), 5)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("form", FORMS)
    def test_a_request_of_an_earlier_run_stops_the_command_of_a_limited_run(self, tmp_path, requests, form):
        write(tmp_path / "b", requests)
        bundle, _changed = write(tmp_path / "b", {"cp1": requests["cp1"]}, {"cp1": list(NAMES)})
        with pytest.raises(PkiError, match="requests/cp2/.*no node requested this.*without --limit"):
            signing_command.sign(bundle, "touch %s%s" % (tmp_path / "ran", form), 5)
        assert not (tmp_path / "ran").exists()
        dry, _changed = write(tmp_path / "b", {"cp1": requests["cp1"]}, {"cp1": list(NAMES)}, dry=True)
        with pytest.raises(PkiError, match="requests/cp2/"):
            signing_command.sign(dry, "true" + form, 5)

    @pytest.mark.parametrize("form", FORMS)
    def test_a_request_that_was_replaced_or_removed_stops_the_command(self, tmp_path, requests, form):
        bundle, _changed = write(tmp_path / "b", requests)
        path = tmp_path / "b" / "requests" / "cp2" / "apiserver.csr"
        path.write_text(foreign("apiserver", "kube-apiserver", (), ["DNS:cp2"], ["server"])["request"])
        for _time in range(2):
            with pytest.raises(PkiError, match="was changed after this run wrote the request of cp2") as error:
                signing_command.sign(bundle, "touch %s%s" % (tmp_path / "ran", form), 5)
            assert str(path) in str(error.value) and not (tmp_path / "ran").exists()
            path.unlink(missing_ok=True)

    @pytest.mark.parametrize("form", FORMS)
    def test_what_is_replaced_after_the_check_does_not_reach_the_command(self, tmp_path, requests, form, monkeypatch):
        """The last moment before the command starts is still too late for who may write to the folder."""
        bundle, _changed = write(tmp_path / "b", requests)
        evil, run = foreign("apiserver", "eve")["request"], signing_command.run

        def swap(*arguments):
            for path in (tmp_path / "b").rglob("*"):
                if path.is_file():
                    path.write_text(evil)
            return run(*arguments)

        monkeypatch.setattr(signing_command, "run", swap)
        seen = tmp_path / "seen"
        with contextlib.suppress(PkiError):
            signing_command.sign(
                bundle, "sh -c 'cp -r \"$KUBEPKI_DIR\" %s; cat $KUBEPKI_REQUEST > %s.csr' x%s" % (seen, seen, form), 10
            )
        handed = {path.relative_to(seen).as_posix(): path.read_text() for path in seen.rglob("*") if path.is_file()}
        assert {path: pem for path, pem in handed.items() if path.startswith("requests/")} == {
            entry["request"]: entry["pem"] for entry in bundle.asked
        }
        assert evil not in handed.values() and "ca/ca.crt" in handed
        manifest = json.loads(handed["manifest.json"])["requests"]
        assert [entry["request"] for entry in manifest] == sorted(entry["request"] for entry in bundle.asked)
        if form:
            assert Path(str(seen) + ".csr").read_text() == bundle.asked[0]["pem"]

    def test_a_certificate_that_was_not_asked_for_is_named(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        with pytest.raises(PkiError, match="has not requested one"):
            bundle.store("cp9", "apiserver", "x")


class TestTakingBack:
    def put(self, bundle, entries, days=365.0):
        for entry in entries:
            path = Path(bundle.at(entry["certificate"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(sign(entry, days))

    def test_by_hand_node_by_node(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        assert bundle.by_host() == ({}, ["cp1", "cp2"])
        self.put(bundle, [entry for entry in bundle.asked if entry["host"] == "cp2"])
        complete, waiting = bundle.by_host()
        assert waiting == ["cp1"] and set(complete) == {"cp2"} and set(complete["cp2"]) == set(NAMES)

    def test_some_of_a_node_are_refused_with_the_list(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        self.put(bundle, bundle.asked[:1])
        with pytest.raises(PkiError) as error:
            bundle.by_host()
        for name in NAMES[1:]:
            assert str(tmp_path / "b" / "signed" / "cp1" / (name + ".crt")) in error.value.message
        assert "cp2" not in error.value.message and "signed/cp1/apiserver.crt" not in error.value.message

    def test_one_file_with_all_of_them_in_any_order(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        pems = [CLUSTER.cas["ca"].pem.decode()] + [sign(entry) for entry in reversed(bundle.asked)]
        (tmp_path / "b" / "signed").mkdir()
        (tmp_path / "b" / "signed" / "all.pem").write_text("\n".join(pems))
        complete, waiting = bundle.by_host()
        assert waiting == [] and set(complete) == {"cp1", "cp2"}
        for entry in bundle.asked:
            assert x509_read.parse_certificate(complete[entry["host"]][entry["name"]].encode()).key_sha256 == entry["key_sha256"]

    def test_of_two_the_later_counts(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", {"cp1": requests["cp1"][:1]})
        entry = bundle.asked[0]
        request = csr_read.parse_request(entry["pem"].encode())
        old = ca_sign.build_ca("kubernetes", CLUSTER.keys["ca"], 30, start=x509_read.now() - datetime.timedelta(days=9))
        early, later = (
            x509_sign.sign_leaf(
                x509_sign.Profile.of(request),
                request,
                old,
                CLUSTER.keys["ca"],
                20,
                x509_read.now() - datetime.timedelta(days=days),
            )
            for days in (2, 1)
        )
        (tmp_path / "b" / "signed").mkdir()
        for order in ((early, later), (later, early)):
            (tmp_path / "b" / "signed" / "x.pem").write_bytes(b"".join(each.pem for each in order))
            assert bundle.collect()["cp1", "apiserver"].encode() == later.pem

    @pytest.mark.parametrize("content, word", [("", "is empty"), ("junk", "is not PEM"), (None, "is for another key")])
    def test_what_is_wrong_is_named_with_its_file(self, tmp_path, requests, content, word):
        bundle, _changed = write(tmp_path / "b", requests)
        self.put(bundle, bundle.asked)
        path = tmp_path / "b" / "signed" / "cp2" / "admin.conf.crt"
        path.write_text((tmp_path / "b/signed/cp1/admin.conf.crt").read_text() if content is None else content)
        with pytest.raises(PkiError) as error:
            bundle.by_host()
        assert str(path) in error.value.message and word in error.value.message

    def test_what_answered_an_older_request_steps_aside(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        self.put(bundle, bundle.asked)
        renewed = asked(label="next")
        bundle, changed = write(tmp_path / "b", renewed)
        assert changed and bundle.by_host() == ({}, ["cp1", "cp2"])
        assert len(list((tmp_path / "b" / "replaced").rglob("*.crt"))) == 6
        self.put(bundle, bundle.asked)
        assert not write(tmp_path / "b", renewed)[1] and len(bundle.by_host()[0]) == 2

    def test_a_lost_folder_is_written_again_and_its_certificates_still_count(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        self.put(bundle, bundle.asked)
        (tmp_path / "b" / "manifest.json").unlink()
        (tmp_path / "b" / "requests" / "cp1" / "apiserver.csr").unlink()
        bundle, changed = write(tmp_path / "b", requests)
        assert changed and bundle.by_host()[1] == []

    def test_what_is_installed_leaves_the_bundle(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        self.put(bundle, bundle.asked)
        assert csr_bundle.Bundle(str(tmp_path / "b"), GROUPS).close({"cp1": list(NAMES), "w1": ["apiserver"]})
        manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
        assert {entry["host"] for entry in manifest["requests"]} == {"cp2"}
        assert sorted(path.name for path in (tmp_path / "b" / "installed" / "cp1").iterdir()) == sorted(
            name + ".crt" for name in NAMES
        )
        assert not csr_bundle.Bundle(str(tmp_path / "b"), GROUPS).close({"cp1": list(NAMES)})


class TestCommand:
    @pytest.fixture
    def signer(self, tmp_path):
        for ca in ("ca", "front-proxy-ca"):
            (tmp_path / (ca + ".key")).write_bytes(CLUSTER.keys[ca].pem)
        script = tmp_path / "sign it"
        script.write_text(SIGNER % tmp_path)
        script.chmod(0o755)
        return shlex.quote(str(script))

    @pytest.mark.parametrize("form", ["{request}", "{request} {certificate}"])
    def test_each_request_is_signed_once(self, tmp_path, requests, signer, form):
        bundle, _changed = write(tmp_path / "b", requests)
        signing_command.sign(bundle, signer + " " + form, 60)
        assert bundle.by_host()[1] == [] and not list((tmp_path / "b").rglob("*.new"))
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "signed").rglob("*")}
        signing_command.sign(bundle, signer + " " + form, 60)
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "signed").rglob("*")} == before

    def test_a_command_writes_into_a_directory_of_its_own(self, tmp_path, requests):
        """Others may write to the folder: a link where the certificate is to go would lead the command elsewhere."""
        bundle, _changed = write(tmp_path / "b", requests)
        record = tmp_path / "record"
        with pytest.raises(PkiError, match="exited with"):
            signing_command.sign(
                bundle,
                "sh -c '(echo $KUBEPKI_CERTIFICATE; stat -c %%a $(dirname $KUBEPKI_CERTIFICATE)) > %s; exit 1' {request}"
                % record,
                10,
            )
        path, mode = record.read_text().split()
        assert not path.startswith(bundle.directory) and mode == "700" and not os.path.exists(os.path.dirname(path))

    def test_a_command_for_the_whole_bundle(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        ready, record = tmp_path / "ready.pem", tmp_path / "record"
        ready.write_text("".join(sign(entry) for entry in bundle.asked))
        line = "mkdir -p $KUBEPKI_DIR/signed && cp %s {dir}/signed/; (echo {dir} {manifest}; stat -c %%a {dir}) > %s"
        signing_command.sign(bundle, "sh -c '%s'" % (line % (ready, record)), 10)
        assert bundle.by_host()[1] == [] and not (tmp_path / "b" / "signed" / "ready.pem").exists()
        directory, manifest, mode = record.read_text().split()
        assert mode == "700" and manifest == directory + "/manifest.json" and not os.path.exists(directory)
        assert not directory.startswith(bundle.directory)

    def test_a_command_for_the_whole_bundle_gets_what_is_not_signed_yet_and_keeps_what_it_signed_before_it_failed(
        self, tmp_path, requests
    ):
        bundle, _changed = write(tmp_path / "b", requests)
        ready, record = tmp_path / "ready.crt", tmp_path / "record"
        first, *rest = bundle.asked
        ready.write_text(sign(first))
        with pytest.raises(PkiError, match="exited with 3"):
            signing_command.sign(bundle, "sh -c 'cp %s {dir}/%s; exit 3'" % (ready, first["certificate"]), 10)
        assert bundle.unsigned() == rest
        signing_command.sign(bundle, "sh -c 'cd {dir} && find requests -type f > %s'" % record, 10)
        assert sorted(record.read_text().split()) == sorted(entry["request"] for entry in rest)

    def test_a_command_for_the_whole_bundle_that_signs_another_key_is_named(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        ready = tmp_path / "ready.crt"
        ready.write_text(sign(bundle.asked[0]))
        with pytest.raises(PkiError, match="what the command signed cannot be used.*is for another key"):
            signing_command.sign(bundle, "sh -c 'cp %s {dir}/%s'" % (ready, bundle.asked[1]["certificate"]), 10)
        assert bundle.collect() == {}

    @pytest.mark.parametrize(
        "command, word",
        [
            ("sh -c 'echo no luck >&2; exit 3' {request}", "exited with 3: no luck"),
            ("/no/such/thing {request}", "cannot be run"),
            ("true {request}", "is empty"),
            ("true {request} {certificate}", "made no certificate"),
            ("cat {dir}/ca/ca.crt {request}", "for another key"),
            ("sign {what}", "unknown placeholder {what}"),
            ("sign 'x", "cannot be split"),
            ("  ", "is empty"),
        ],
    )
    def test_what_goes_wrong_is_one_sentence(self, tmp_path, requests, command, word):
        bundle, _changed = write(tmp_path / "b", requests)
        with pytest.raises(PkiError) as error:
            signing_command.sign(bundle, command, 10)
        assert word in str(error.value) and "\n" not in str(error.value)
        assert not list((tmp_path / "b").rglob("*.new")) and bundle.by_host()[0] == {}

    def test_one_that_hangs_is_ended_with_its_children(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", requests)
        began = time.monotonic()
        with pytest.raises(PkiError, match="did not finish within 0.5 seconds"):
            signing_command.sign(bundle, "sh -c 'sleep 600 & echo $! > %s; wait' {request}" % (tmp_path / "pid"), 0.5)
        assert time.monotonic() - began < 10
        pid = int((tmp_path / "pid").read_text())
        deadline = time.monotonic() + 5
        while os.path.exists("/proc/%d" % pid) and "Z" not in Path("/proc/%d/stat" % pid).read_text().split()[2]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def test_nothing_of_a_node_reaches_a_shell(self, tmp_path):
        """Placeholders hold only what this collection made or the user wrote; names are in the environment."""
        assert set(signing_command.PLACEHOLDERS) & {"sans", "subject", "usages", "path"} == set()
        bundle, _changed = write(tmp_path / "b", {"cp1; touch x": [one("apiserver", "cp1")]})
        with pytest.raises(PkiError):
            signing_command.sign(bundle, "sh -c 'cat {request} >/dev/null'", 5)
        assert not (tmp_path / "x").exists() and not Path("x").exists()

    @pytest.mark.parametrize(
        "command",
        [
            "sh -c 'cat {request} > /dev/null; echo {host}'",
            "ssh signer sign {host}",
            "sh -c 'echo \"{host}\" {request}'",
            "true --host={host} {request}",
        ],
    )
    def test_a_hosts_name_that_a_shell_would_read_is_refused_and_the_way_out_is_named(self, tmp_path, command):
        bundle, _changed = write(tmp_path / "b", {"cp1; touch x": [one("apiserver", "cp1")]})
        if "{request}" not in command:
            command += " {request}"
        with pytest.raises(PkiError, match="KUBEPKI_HOST"):
            signing_command.sign(bundle, command, 5)

    def test_a_folder_with_a_blank_is_no_matter_in_a_word_of_its_own(self, tmp_path, monkeypatch):
        (tmp_path / "t m p").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t m p"))
        bundle, _changed = write(tmp_path / "b c", {"cp1": [one("apiserver", "cp1")]})
        with pytest.raises(PkiError, match="for another key"):
            signing_command.sign(bundle, "cat '{dir}/ca/ca.crt'", 5) or signing_command.sign(
                bundle, "cat {dir}/ca/ca.crt {request}", 5
            )
        with pytest.raises(PkiError, match="KUBEPKI_REQUEST"):
            signing_command.sign(bundle, "sh -c 'cat {request} >&2'", 5)

    def test_a_nul_in_what_the_command_gets_is_one_sentence(self, tmp_path, requests):
        bundle, _changed = write(tmp_path / "b", {"cp1": requests["cp1"][:1]}, {"cp1": list(NAMES)})
        bundle.asked[0]["subject"] = "CN=a\0b"
        with pytest.raises(PkiError, match="cannot be run"):
            signing_command.sign(bundle, "true {request}", 5)
