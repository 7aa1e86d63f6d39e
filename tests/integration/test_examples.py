# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of docs/examples, run as they are on a throw-away folder, with openssl as the judge, and run again."""

from __future__ import annotations

import base64
import datetime
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm.kubeconfig import Kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_read

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
ENVIRONMENT = dict(
    os.environ,
    ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"),
    NO_COLOR="1",
    ANSIBLE_LOCALHOST_WARNING="false",
    ANSIBLE_INVENTORY_UNPARSED_WARNING="false",
)


def play(name, folder, inventory="localhost ansible_connection=local\n", **variables):
    """Run an example. Gives (its output, how many tasks changed something)."""
    (folder / "inventory").write_text(inventory)
    # The locks, journals and backup sets of a test are its own.
    defaults = {"state_dir": str(folder / "state"), "backup_dir": str(folder / "backups")}
    plays = yaml.safe_load((EXAMPLES / name).read_text())
    for one in plays:
        one["module_defaults"] = {"kubepki.lifecycle.cert_ca": defaults, "kubepki.lifecycle.cert_leaf": defaults}
    (folder / name).write_text(json.dumps(plays))
    variables = dict({"ansible_python_interpreter": sys.executable}, **variables)
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(folder / "inventory"),
        str(folder / name),
        "-e",
        json.dumps(variables),
    ]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, sum(int(number) for number in re.findall(r"changed=(\d+)", done.stdout))


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def openssl(*arguments, **options):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def handshake(server, client=None, trust=None, name=None):
    """A TLS connection as components make it, both sides verifying. server, client: (certificate, key). Gives the name seen."""
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(*server)
    if client:
        accepting.load_verify_locations(trust)
        accepting.verify_mode = ssl.CERT_REQUIRED
    ours, theirs = socket.socketpair()
    seen = []

    def serve():
        with accepting.wrap_socket(theirs, server_side=True) as connection:
            seen.append(connection.getpeercert())
            connection.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    asking = ssl.create_default_context(cafile=trust)
    if client:
        asking.load_cert_chain(*client)
    with asking.wrap_socket(ours, server_hostname=name) as connection:
        assert connection.recv(1) == b"x"
    thread.join()
    return seen[0]


def again(name, folder, where, **variables):
    """A second run changes nothing."""
    before = contents(where)
    assert play(name, folder, **variables)[1] == 0 and contents(where) == before


def test_every_example_is_tested_and_on_the_page():
    page = (ROOT / "docs" / "external-ca.md").read_text()
    tested = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.yml"):
        assert "(examples/%s)" % path.name in page and 'play("%s"' % path.name in tested


def test_an_authority_of_ones_own(tmp_path):
    pki = tmp_path / "pki"
    play("own-ca.yml", tmp_path, pki_dir=str(pki), pki_name="Test")
    assert "OK" in openssl("verify", "-x509_strict", "-CAfile", pki / "root.crt", pki / "ca.crt")
    assert "CA:TRUE" in openssl("x509", "-in", pki / "ca.crt", "-noout", "-ext", "basicConstraints")
    assert "CN = Test CA" in openssl("x509", "-in", pki / "ca.crt", "-noout", "-subject", "-nameopt", "oneline")
    assert {path.stat().st_mode & 0o777 for path in pki.glob("*.key")} == {0o600}
    again("own-ca.yml", tmp_path, pki, pki_dir=str(pki), pki_name="Test")


def test_a_certificate_that_may_do_everything(tmp_path):
    ca_key = private_keys.generate_key("ecdsa-p256")
    (tmp_path / "ca.crt").write_bytes(ca_sign.build_ca("kubernetes", ca_key, 100).pem)
    (tmp_path / "ca.key").write_bytes(ca_key.pem)
    out = tmp_path / "out"
    variables = {
        "pki_host": "localhost",
        "admin_ca": str(tmp_path / "ca"),
        "admin_dir": str(out),
        "admin_server": "https://k8s.test:6443",
    }
    play("admin-certificate.yml", tmp_path, **variables)
    openssl("verify", "-purpose", "sslclient", "-CAfile", tmp_path / "ca.crt", out / "break-glass.crt")
    text = openssl(
        "x509", "-in", out / "break-glass.crt", "-noout", "-subject", "-nameopt", "oneline", "-checkend", str(6 * 86400)
    )
    assert "O = system:masters" in text and "CN = break-glass" in text
    ends = x509_read.parse_certificate((out / "break-glass.crt").read_bytes()).not_after
    assert ends < x509_read.now() + datetime.timedelta(days=8)
    config = Kubeconfig((out / "break-glass.conf").read_bytes(), "conf")
    assert config.server == "https://k8s.test:6443" and config.ca_data == (tmp_path / "ca.crt").read_bytes()
    assert private_keys.parse_private_key(config.key_data).matches(x509_read.parse_certificate(config.certificate_data))
    assert {path.stat().st_mode & 0o777 for path in (out / "break-glass.conf", out / "break-glass.key")} == {0o600}
    again("admin-certificate.yml", tmp_path, out, **variables)


def test_an_etcd_outside_of_the_cluster(tmp_path):
    members = {"etcd1": "10.1.0.1", "etcd2": "10.1.0.2"}
    inventory = "localhost ansible_connection=local\n[etcd]\n" + "".join(
        "%s ansible_connection=local ansible_host=%s etcd_dir_own=%s\n" % (name, address, tmp_path / name)
        for name, address in members.items()
    )
    variables = {"inventory": inventory, "etcd_ca_dir": str(tmp_path / "ca"), "etcd_dir": "{{ etcd_dir_own }}"}
    play("external-etcd.yml", tmp_path, **variables)
    ca = tmp_path / "ca" / "ca.crt"
    for name, address in members.items():
        for what in ("server", "peer"):
            certificate, key = tmp_path / name / (what + ".crt"), tmp_path / name / (what + ".key")
            for purpose in ("sslserver", "sslclient"):
                openssl(
                    "verify", "-purpose", purpose, "-verify_ip", address, "-verify_hostname", name, "-CAfile", ca, certificate
                )
            assert private_keys.parse_private_key(key.read_bytes()).matches(x509_read.parse_certificate(certificate.read_bytes()))
            assert key.stat().st_mode & 0o777 == 0o600
        assert not list((tmp_path / "ca").glob("*%s*.key" % name)), "its keys never left it"
    pairs = {name: (str(tmp_path / name / "peer.crt"), str(tmp_path / name / "peer.key")) for name in members}
    assert handshake(pairs["etcd1"], pairs["etcd2"], str(ca), "etcd1")["subject"] == ((("commonName", "etcd2"),),)
    again("external-etcd.yml", tmp_path, tmp_path / "etcd1", **variables)


def test_a_webhook(tmp_path):
    out = tmp_path / "hook"
    variables = {"webhook_dir": str(out), "webhook_service": "guard", "webhook_namespace": "policy"}
    output, _changed = play("webhook.yml", tmp_path, **variables)
    bundle = re.search(r"caBundle: (\S+?)\"", output).group(1)
    assert base64.b64decode(bundle) == (out / "ca.crt").read_bytes()
    openssl("verify", "-purpose", "sslserver", "-verify_hostname", "guard.policy.svc", "-CAfile", out / "ca.crt", out / "tls.crt")
    handshake((str(out / "tls.crt"), str(out / "tls.key")), trust=str(out / "ca.crt"), name="guard.policy.svc")
    with pytest.raises(ssl.SSLCertVerificationError):
        asking = ssl.create_default_context(cafile=str(out / "ca.crt"))
        _refused(asking, out)
    again("webhook.yml", tmp_path, out, **variables)


def _refused(asking, out):
    """The API server asks for the service's name, and no other is in the certificate."""
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(str(out / "tls.crt"), str(out / "tls.key"))
    ours, theirs = socket.socketpair()

    def serve():
        try:
            accepting.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        asking.wrap_socket(ours, server_hostname="guard.other.svc")
    finally:
        ours.close()
        thread.join()
