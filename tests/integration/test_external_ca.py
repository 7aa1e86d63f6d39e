# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's own steps for a CA whose key is elsewhere, on two throw-away nodes: by hand, by a command, and refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue, layouts, pki_tree
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read

from tests.unit.support import throwaway

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = throwaway.Cluster(leaf_days=365.5, label="external")
ENVIRONMENT = dict(
    os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1", ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_FORKS="2"
)
OF_CA = ["apiserver", "apiserver-kubelet-client", "admin.conf", "controller-manager.conf", "scheduler.conf"]


def node(root: Path, name: str, address: str) -> Path:
    """A node that names its files where they are, below root, without the key of its CA."""
    made = throwaway.Node(root, CLUSTER, name, address)
    kubelet = [made.kubernetes("kubelet.conf"), made.path("/var/lib/kubelet/config.yaml")]
    for path in [*made.kubernetes("manifests").iterdir(), *kubelet]:
        text = path.read_text().replace("/etc/kubernetes", str(root / "etc/kubernetes"))
        path.write_text(text.replace("/var/lib/kubelet", str(root / "var/lib/kubelet")))
    os.unlink(made.kubernetes("pki/ca.key"))
    return root


class Site:
    """Two nodes, and the bundle beside them."""

    def __init__(self, folder: Path):
        self.folder, self.bundle = folder, folder / "bundle"
        addresses = {"cp1": "10.0.0.1", "cp2": "10.0.0.2"}
        self.roots = {name: node(folder / name / "root", name, address) for name, address in addresses.items()}
        (folder / "ca.key").write_bytes(CLUSTER.keys["ca"].pem)
        self.number = 0

    def tree(self, name: str):
        root = self.roots[name]
        return pki_tree.read_tree(layouts.find_layout(str(root / "etc/kubernetes"), str(root / "var/lib/kubelet")))

    def contents(self):
        """What is in use on the nodes."""
        found = [path for root in self.roots.values() for path in sorted(root.rglob("*")) if path.is_file()]
        return {str(path): path.read_bytes() for path in found}

    def play(self, check: bool = False, limit: str = "all", **variables):
        """The role's steps for one renewal, without what needs a live cluster. Gives (return code, output, {host: results})."""
        self.number += 1
        collected = self.folder / ("answers-%d-" % self.number)
        paths = {
            "kubernetes_dir": "{{ root }}/etc/kubernetes",
            "kubelet_dir": "{{ root }}/var/lib/kubelet",
            "state_dir": "{{ root }}/../state",
        }
        role = {"name": "kubepki.lifecycle.leaf_renewal"}
        variables = dict(
            {"leaf_renewal_external_dir": str(self.bundle), "leaf_renewal_key_type": "ecdsa-p256", "leaf_renewal_force": "true"},
            **variables,
        )
        install = {
            "external_ca": "install",
            "certificates": "{{ leaf_renewal_collected.certificates[inventory_hostname] }}",
            "key_type": "ecdsa-p256",
            "force": "{{ leaf_renewal_force }}",
            "backup_dir": "{{ root }}/../backups",
        }
        answers = ", ".join(
            "'%s': %s | default({})" % (name, name)
            for name in ("leaf_renewal_asked", "leaf_renewal_bundle", "leaf_renewal_collected", "leaf_renewal_result")
        )
        told = {"content": "{{ {%s} | to_json }}" % answers, "mode": "0600", "dest": str(collected) + "{{ inventory_hostname }}"}
        tasks = [
            {"ansible.builtin.include_role": dict(role, tasks_from="external.yml")},
            {
                "kubepki.lifecycle.cert_leaf": install,
                "register": "leaf_renewal_result",
                "when": "inventory_hostname in leaf_renewal_collected.certificates",
            },
            {"ansible.builtin.include_role": dict(role, tasks_from="external_close.yml")},
            {"ansible.builtin.copy": told, "check_mode": False, "changed_when": False},
        ]
        plays = [
            {
                "hosts": "nodes",
                "gather_facts": False,
                "any_errors_fatal": True,
                "vars": variables,
                "tasks": tasks,
                "module_defaults": {"kubepki.lifecycle.cert_leaf": paths},
            }
        ]
        playbook, inventory = self.folder / "play.yml", self.folder / "inventory"
        playbook.write_text(json.dumps(plays))
        inventory.write_text(
            "[nodes]\n"
            + "".join(
                "%s ansible_connection=local ansible_python_interpreter=%s root=%s\n" % (name, sys.executable, root)
                for name, root in self.roots.items()
            )
            + "[kube_control_plane:children]\nnodes\n[etcd]\netcd1\n"
        )
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "-l", limit, "-vv", str(playbook)]
            + (["--check"] if check else []),
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        output = done.stdout + done.stderr
        assert "Traceback" not in output, output
        found = {
            name: json.loads(Path(str(collected) + name).read_text())
            for name in self.roots
            if Path(str(collected) + name).exists()
        }
        return done.returncode, output, found

    def sign(self, *hosts: str, drop=(), days: str = "30") -> None:
        """Do what a person does with the bundle and openssl."""
        for entry in json.loads((self.bundle / "manifest.json").read_text())["requests"]:
            if entry["host"] in hosts and entry["name"] not in drop:
                target = self.bundle / entry["certificate"]
                target.parent.mkdir(parents=True, exist_ok=True)
                self.openssl(entry["request"], entry["certificate"], "-days", days, "-copy_extensions", "copyall")

    def openssl(self, request: str, certificate: str, *more: str) -> None:
        """Sign one request of the bundle."""
        subprocess.run(
            [
                "openssl",
                "x509",
                "-req",
                "-in",
                request,
                "-out",
                certificate,
                "-CA",
                "ca/ca.crt",
                "-CAkey",
                str(self.folder / "ca.key"),
                *more,
            ],
            check=True,
            cwd=self.bundle,
            capture_output=True,
        )

    def verify(self, name: str, days: float | None = None):
        tree = self.tree(name)
        for item in tree.items.values():
            if item.name in catalogue.RENEWABLE and not item.missing:
                assert item.key_sha256 == item.certificate.key_sha256
                done = subprocess.run(
                    ["openssl", "verify", "-CAfile", tree.items[item.ca].path],
                    input=item.certificate.pem,
                    capture_output=True,
                    check=False,
                )
                assert done.returncode == 0, (item.name, done.stderr)
            if days is not None and item.name in OF_CA:
                left = (item.certificate.not_after - x509_read.now()).total_seconds() / 86400
                assert abs(left - days) < 1, item.name
        return tree


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def no_key(site, output):
    keys = [
        line
        for path in site.folder.rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
        for line in path.read_text(errors="replace").splitlines()
        if len(line) == 64
    ]
    assert len(keys) > 10 and not [line for line in keys if line in output]


def test_by_hand_in_two_runs(site):
    before = site.contents()
    code, output, _found = site.play(check=True)
    assert code == 0 and site.contents() == before, output
    assert not site.bundle.exists() and not (site.folder / "cp1/state/requests").exists()
    code, output, found = site.play()
    assert code == 0 and site.contents() == before, output
    assert "10 requests of cp1, cp2 wait to be signed" in output
    assert found["cp1"]["leaf_renewal_collected"]["waiting"] == ["cp1", "cp2"]
    manifest = json.loads((site.bundle / "manifest.json").read_text())["requests"]
    assert [entry["name"] for entry in manifest if entry["host"] == "cp1"] == sorted(OF_CA)
    serving = {entry["host"]: entry["sans"] for entry in manifest if entry["name"] == "apiserver"}
    assert "IP:10.0.0.1" in serving["cp1"] and "IP:10.0.0.2" in serving["cp2"]
    no_key(site, output + "".join(path.read_text() for path in site.bundle.rglob("*") if path.is_file()))

    files = {path: path.read_bytes() for path in site.bundle.rglob("*") if path.is_file()}
    code, output, _found = site.play()
    assert code == 0 and "changed=0" in output and {path: path.read_bytes() for path in files} == files

    site.sign("cp1", drop=["apiserver"])
    code, output, _found = site.play()
    assert code != 0 and str(site.bundle / "signed/cp1/apiserver.crt") in output and site.contents() == before

    site.sign("cp1")
    code, output, found = site.play()
    assert code == 0 and found["cp1"]["leaf_renewal_collected"]["waiting"] == ["cp2"], output
    tree = site.verify("cp1", 30)
    changed = {path for path, data in site.contents().items() if before.get(path) != data}
    assert changed and all("/cp1/" in path for path in changed)
    for name in OF_CA:
        installed = x509_read.parse_certificate((site.bundle / "installed/cp1" / (name + ".crt")).read_bytes())
        assert tree.items[name].certificate.sha256 == installed.sha256
    assert {entry["host"] for entry in json.loads((site.bundle / "manifest.json").read_text())["requests"]} == {"cp2"}
    no_key(site, output)

    # Force was for the first runs: cp1 is done, and what cp2 waits for is still asked for.
    site.sign("cp2")
    code, output, found = site.play(leaf_renewal_force="false", leaf_renewal_below_days="10")
    assert code == 0 and found["cp2"]["leaf_renewal_collected"]["waiting"] == [], output
    site.verify("cp2", 30)
    after = site.contents()
    code, output, _found = site.play(leaf_renewal_force="false", leaf_renewal_below_days="10")
    assert code == 0 and "changed=0" in output and site.contents() == after
    assert json.loads((site.bundle / "manifest.json").read_text())["requests"] == []


def test_what_is_not_what_was_asked_for_stops_all_nodes(site):
    before = site.contents()
    site.play()
    site.sign("cp1", "cp2")
    signed = site.bundle / "signed"
    # The right key and CA, and one name more than was asked for.
    extra = site.folder / "extra.cnf"
    extra.write_text("subjectAltName=DNS:cp1,DNS:bank.example\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n")
    site.openssl("requests/cp1/apiserver.csr", "signed/cp1/apiserver.crt", "-days", "9", "-extfile", str(extra))
    code, output, _found = site.play()
    assert code != 0 and "it has the name DNS:bank.example, which was not asked for" in output
    assert "it lacks the name IP:10.0.0.1" in output and site.contents() == before
    shutil.copy(signed / "cp2/apiserver.crt", signed / "cp1/apiserver.crt")
    code, output, _found = site.play()
    assert code != 0 and "is for another key than that of the request" in output and site.contents() == before
    (signed / "cp1/apiserver.crt").unlink()
    site.sign("cp1")
    assert site.play()[0] == 0
    site.verify("cp1", 30)


def test_by_a_command_in_one_run(site):
    sign = "openssl x509 -req -in {request} -CA {dir}/ca/{ca}.crt -CAkey %s -days {days} -copy_extensions copyall"
    sign %= site.folder / "ca.key"
    code, output, _found = site.play(leaf_renewal_external_command=sign + " -bad", leaf_renewal_leaf_days="50")
    assert code != 0 and "exited with" in output and not list(site.bundle.rglob("*.crt.new"))
    code, output, found = site.play(leaf_renewal_external_command=sign, leaf_renewal_leaf_days="50")
    assert code == 0 and found["cp1"]["leaf_renewal_collected"]["waiting"] == [], output
    for name in site.roots:
        tree = site.verify(name, 50)
        assert {row["action"] for row in found[name]["leaf_renewal_result"]["leaves"]} == {"renewed"}
        assert not tree.items["ca"].key_sha256
    no_key(site, output)


def test_what_no_node_requested_in_this_run_reaches_no_command_and_no_signer(site):
    before, ran = site.contents(), site.folder / "ran"
    assert site.play()[0] == 0
    pem = (site.bundle / "requests/cp1/admin.conf.csr").read_text()
    for variables in (
        {"leaf_renewal_external_command": "touch %s" % ran},
        {"leaf_renewal_external_command": "touch %s {request}" % ran},
        {"leaf_renewal_external_signer": "example.com/{ca}"},
    ):
        code, output, _found = site.play(limit="cp1", **variables)
        assert code != 0 and "requests/cp2/" in output and "no node requested this in this run" in output, output
        assert "Sign the requests through the Certificates API" not in output
    for host, name, word in (
        ("ghost", "super-admin.conf", "ghost is in neither"),
        ("etcd1", "admin.conf", "etcd1 runs etcd alone"),
    ):
        manifest = json.loads((site.bundle / "manifest.json").read_text())
        manifest["requests"].append(dict(manifest["requests"][0], host=host, name=name))
        (site.bundle / "manifest.json").write_text(json.dumps(manifest))
        planted = site.bundle / "requests" / host / (name + ".csr")
        planted.parent.mkdir()
        planted.write_text(pem)
        code, output, _found = site.play(limit="cp1", leaf_renewal_external_command="touch %s" % ran)
        assert code != 0 and str(planted) in output and word in output, output
        planted.unlink()
    assert not ran.exists() and site.contents() == before and not list((site.bundle / "signed").rglob("*.crt"))


def test_two_ways_at_once_or_no_folder_are_a_mistake(site):
    before = site.contents()
    for variables in (
        {"leaf_renewal_external_dir": "", "leaf_renewal_external_command": "true"},
        {"leaf_renewal_external_signer": "a/b", "leaf_renewal_external_command": "true"},
    ):
        code, output, _found = site.play(**variables)
        assert code != 0 and "An external CA needs kubepki_external_ca_dir" in output and site.contents() == before
