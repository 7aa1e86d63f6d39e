# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both clients of the API, against a server that can refuse, vanish and be somebody else."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api.api_client import ApiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import kubeconfig
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import ca_sign, private_keys, x509_sign

from tests.unit.support.fake_api import CA, CA_KEY, FakeApi

KEY = private_keys.generate_key("ecdsa-p256")
CLIENT = x509_sign.sign_leaf(x509_sign.Profile("alice", ["dev"]), KEY, CA, CA_KEY, 1)
BOTH = pytest.mark.parametrize("client", [api_connection.BUILT_IN, api_connection.LIBRARY])


@pytest.fixture
def api():
    fake = FakeApi()
    yield fake
    fake.stop()


@pytest.fixture
def secure(tmp_path):
    fake = FakeApi(tls=tmp_path)
    yield fake
    fake.stop()


def connect(client, **options):
    return api_connection.connect(dict({"client": client, "api_timeout": 5}, **options))


def write_kubeconfig(tmp_path, server, ca=CA.pem):
    path = tmp_path / "admin.conf"
    path.write_text(kubeconfig.build(server, ca, "alice", CLIENT.pem, KEY.pem))
    return path


@BOTH
def test_a_kubeconfig_with_certificates(client, secure, tmp_path):
    connection = connect(client, kubeconfig=str(write_kubeconfig(tmp_path, secure.url)))
    assert connection.minor == 28 and connection.csr_version == "v1"
    assert connection.ca_pem.strip() == CA.pem.strip()


@BOTH
def test_host_and_token(client, tmp_path):
    fake = FakeApi(token="secret")
    try:
        assert connect(client, host=fake.url, api_key="secret").minor == 28
        with pytest.raises(ApiError) as caught:
            connect(client, host=fake.url, api_key="wrong-one").call("GET", "/version")
        assert caught.value.status == 401 and "credentials" in str(caught.value) and "wrong-one" not in str(caught.value)
    finally:
        fake.stop()


@BOTH
def test_host_with_ca_and_certificate_files(client, secure, tmp_path):
    for name, data in (("ca.pem", CA.pem), ("c.pem", CLIENT.pem), ("k.pem", KEY.pem)):
        (tmp_path / name).write_bytes(data)
    paths = {"ca_cert": str(tmp_path / "ca.pem"), "client_cert": str(tmp_path / "c.pem"), "client_key": str(tmp_path / "k.pem")}
    assert connect(client, host=secure.url, **paths).minor == 28


@BOTH
def test_an_unknown_authority_is_refused_unless_told_otherwise(client, secure, tmp_path):
    other = ca_sign.build_ca("kubernetes", KEY, 1)
    path = str(write_kubeconfig(tmp_path, secure.url, other.pem))
    with pytest.raises(PkiError, match="certificate"):
        connect(client, kubeconfig=path).call("GET", "/version")
    assert connect(client, kubeconfig=path, validate_certs=False).minor == 28


@BOTH
@pytest.mark.parametrize("listening", [True, False])
def test_an_unreachable_server_is_named_within_the_time_limit(client, listening, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        if listening:
            silent.listen(1)
        else:
            silent.close()
        started = time.monotonic()
        with pytest.raises(PkiError) as caught:
            connect(client, host="http://127.0.0.1:%d" % port, api_timeout=1).call("GET", "/version")
    assert time.monotonic() - started < 4
    assert "cannot be reached" in str(caught.value) and str(port) in str(caught.value)
    assert ("within 1 seconds" if listening else "refused") in str(caught.value)


@BOTH
def test_pages_are_read_to_the_end(client, api):
    for number in range(7):
        api.put("/api/v1/nodes/n%d" % number, {})
    api.page = 3
    connection = connect(client, host=api.url)
    assert [item["metadata"]["name"] for item in connection.list("/api/v1/nodes")] == ["n%d" % number for number in range(7)]
    assert connection.calls == 3


@BOTH
def test_refusals_say_what_the_api_said(client, api):
    connection = connect(client, host=api.url)
    assert connection.get("/api/v1/nothing") is None
    api.refuse[("GET", "/api/v1/nodes")] = (403, "nodes is forbidden: User alice")
    with pytest.raises(ApiError) as caught:
        connection.list("/api/v1/nodes")
    assert caught.value.status == 403 and "User alice" in str(caught.value) and "RBAC" in caught.value.fix


def test_something_else_that_speaks_http_is_not_taken_for_the_api():
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        connection, _address = listener.accept()
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(PkiError, match="not the Kubernetes API"):
        api_connection.BuiltIn("http://127.0.0.1:%d" % listener.getsockname()[1]).call("GET", "/version")
    thread.join()
    listener.close()


def test_a_kept_connection_that_the_server_closed_is_opened_again(api):
    connection = api_connection.BuiltIn(api.url)
    assert connection.minor == 28
    connection._connection.sock.shutdown(socket.SHUT_RDWR)
    assert connection.call("GET", "/version")["major"] == "1"


def test_one_connection_serves_many_calls(api):
    connection = api_connection.BuiltIn(api.url)
    connection.call("GET", "/version")
    first = connection._connection
    connection.call("GET", "/version")
    assert connection._connection is first


def test_the_older_api_is_used_where_there_is_no_newer(api):
    api.versions = ("v1beta1",)
    assert api_connection.BuiltIn(api.url).csr_path.endswith("/v1beta1/certificatesigningrequests")
    api.versions = ("v2",)
    with pytest.raises(PkiError, match="no Certificates API"):
        _path = api_connection.BuiltIn(api.url).csr_path


@pytest.mark.parametrize(("entry", "words"), [({"exec": {"command": "x"}}, "uses exec"), ({"username": "x"}, "uses username")])
def test_what_only_the_library_can_do_is_said(entry, words, tmp_path):
    import yaml

    path = write_kubeconfig(tmp_path, "https://a:1")
    document = yaml.safe_load(path.read_text())
    document["users"][0]["user"] = entry
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(PkiError, match=words) as caught:
        api_connection.from_kubeconfig(str(path))
    assert "kubernetes" in caught.value.fix


def test_a_token_file_and_a_server_name_of_a_kubeconfig(secure, tmp_path):
    import yaml

    path = write_kubeconfig(tmp_path, secure.url)
    document = yaml.safe_load(path.read_text())
    (tmp_path / "token").write_text("t\n")
    document["users"][0]["user"] = {"tokenFile": "token"}
    document["clusters"][0]["cluster"]["tls-server-name"] = "api.example"
    path.write_text(yaml.safe_dump(document))
    secure.token = "t"
    assert api_connection.from_kubeconfig(str(path)).minor == 28
    document["clusters"][0]["cluster"]["tls-server-name"] = "other.example"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(PkiError, match="not accepted"):
        api_connection.from_kubeconfig(str(path)).call("GET", "/version")


@BOTH
def test_another_context(client, secure, tmp_path):
    import yaml

    path = write_kubeconfig(tmp_path, "https://127.0.0.1:1")
    document = yaml.safe_load(path.read_text())
    cluster = dict(document["clusters"][0]["cluster"], server=secure.url)
    document["clusters"].append({"name": "two", "cluster": cluster})
    document["contexts"].append({"name": "second", "context": {"cluster": "two", "user": "alice"}})
    path.write_text(yaml.safe_dump(document))
    assert connect(client, kubeconfig=str(path), context="second").minor == 28
    with pytest.raises(PkiError):
        connect(client, kubeconfig=str(path), context="third")


@BOTH
def test_a_merged_admin_conf_of_a_node_is_used_for_its_own_cluster(client, secure, tmp_path):
    """Its current context is the other cluster's: no request may go there."""
    import yaml

    path = write_kubeconfig(tmp_path, secure.url)
    path = path.rename(path.parent / "admin.conf")
    document = yaml.safe_load(path.read_text())
    (path.parent / "kubelet.conf").write_text(path.read_text())
    document["clusters"].insert(0, {"name": "two", "cluster": {"server": "https://127.0.0.1:1"}})
    document["users"].insert(0, {"name": "bob", "user": {"token": "x"}})
    document["contexts"].insert(0, {"name": "second", "context": {"cluster": "two", "user": "bob"}})
    document["current-context"] = "second"
    path.write_text(yaml.safe_dump(document))
    assert connect(client, kubeconfig=str(path)).minor == 28


@BOTH
def test_a_missing_kubeconfig_is_named(client, tmp_path):
    with pytest.raises(PkiError) as caught:
        connect(client, kubeconfig=str(tmp_path / "none.conf"))
    assert "none.conf" in str(caught.value)


@pytest.mark.parametrize("server", ["ftp://a", "a:6443", "https://"])
def test_what_is_no_url_is_refused(server):
    with pytest.raises(PkiError, match="not the URL"):
        api_connection.BuiltIn(server)
