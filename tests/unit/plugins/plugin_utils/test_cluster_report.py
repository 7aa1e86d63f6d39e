# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import datetime
import html.parser
import json
import os
import re
from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import node_report, prometheus, rows
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.x509 import x509_read
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import (
    answers,
    cluster_report,
    report_html,
    rotation_state,
    run_summary,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.support import malformed, throwaway

EVIL = "<script>alert('x')</script>\"&\x1b[31m"


def exposed(document):
    """The metrics of all nodes of a report."""
    return prometheus.exposition(
        document["nodes"], datetime.datetime.fromisoformat(document["generated_at"].replace("Z", "+00:00")).timestamp()
    )


def read(node, **options):
    return node_report.read("/etc/kubernetes", "/var/lib/kubelet", live=False, root=str(node.root), owner=os.getuid(), **options)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    cluster = throwaway.Cluster()
    made = [
        throwaway.Node(tmp_path_factory.mktemp(name), cluster, name, "10.0.0.%d" % number, role)
        for number, (name, role) in enumerate((("w1", "worker"), ("cp2", "control-plane"), ("cp1", "control-plane")), 1)
    ]
    return {node.name: read(node) for node in made}


@pytest.fixture
def nodes(healthy):
    return copy.deepcopy(healthy)


def row_of(nodes, host, name):
    return next(row for row in nodes[host]["certificates"] if row["name"] == name)


@pytest.mark.parametrize("self_signed, counted", [(True, "warning"), (False, "expired")])
def test_a_certificate_that_a_kubelet_signed_itself_is_counted_as_a_warning(nodes, self_signed, counted):
    row = dict(row_of(nodes, "cp1", "apiserver"), name="kubelet-serving", kind="kubelet", status="expired")
    row["kubelet_self_signed"] = self_signed
    nodes["w1"]["certificates"].append(row)
    certificates = cluster_report.counts(cluster_report.build(nodes))["certificates"]
    assert {status: number for status, number in certificates.items() if number and status != "ok"} == {counted: 1}


def test_a_healthy_cluster(nodes):
    document = cluster_report.build(nodes)
    assert (document["schema"], document["status"]) == (1, "ok")
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", document["generated_at"])
    assert document["cluster"]["phase"] == dict.fromkeys(("ca", "front-proxy-ca", "etcd-ca", "sa"), "stable")
    assert document["cluster"]["endpoint"] == throwaway.ENDPOINT
    assert list(document["nodes"]) == ["cp1", "cp2", "w1"]
    assert document["cluster"]["counts"]["certificates"] == {"ok": 33, "warning": 0, "critical": 0, "expired": 0, "missing": 0}
    assert json.loads(cluster_report.as_json(document)) == document
    assert "Nothing is wrong." in cluster_report.text(document) and "(as of 2" in cluster_report.headline(document)
    assert "Nothing is wrong on the nodes that answered." in cluster_report.text(
        dict(document, unreachable={"w9": "did not answer"})
    )


def test_the_rows_have_the_fields_that_are_promised(nodes):
    row = row_of(nodes, "cp1", "apiserver")
    assert set(row) >= {
        "name",
        "kind",
        "path",
        "ca",
        "subject",
        "issuer",
        "serial",
        "sans",
        "not_before",
        "not_after",
        "residual_seconds",
        "status",
        "externally_managed",
        "sha256",
        "served_sha256",
    }
    assert row["kind"] == "leaf" and row["ca"] == "ca" and row["serial"].startswith("0x") and int(row["serial"], 16) > 0
    assert 364 * 86400 < row["residual_seconds"] <= 365 * 86400
    assert {"DNS:kubernetes", "IP:10.96.0.1"} <= set(row["sans"])
    assert {row["kind"] for row in nodes["cp1"]["certificates"]} == {"leaf", "kubeconfig", "kubelet", "ca"}


def test_no_key_leaves_the_node(nodes):
    text = json.dumps(nodes)
    assert "PRIVATE" not in text and "BEGIN" not in text


@pytest.mark.parametrize(
    "status,severity,expected",
    [
        ("warning", None, "warning"),
        ("critical", None, "critical"),
        ("expired", None, "expired"),
        (None, "error", "critical"),
        (None, "warning", "warning"),
        (None, "info", "ok"),
        ("expired", "warning", "expired"),
    ],
)
def test_the_status_is_the_worst(nodes, status, severity, expected):
    if status:
        row_of(nodes, "w1", "ca")["status"] = status
    if severity:
        nodes["cp2"]["findings"] = [{"severity": severity, "code": "x", "name": None, "path": "/x", "message": "m", "fix": "f"}]
    assert cluster_report.build(nodes)["status"] == expected


def test_a_silent_node_is_named_and_is_a_warning(nodes):
    document = cluster_report.build(nodes, {"w2": "did not answer"})
    assert document["status"] == "warning" and document["unreachable"] == {"w2": "did not answer"}
    assert "w2: did not answer" in cluster_report.text(document) and "did not answer" in report_html.page(document)


def test_without_any_node_there_is_a_report_all_the_same():
    document = cluster_report.build({}, {"cp1": "did not answer"})
    assert document["nodes"] == {} and "cp1" in cluster_report.text(document)
    assert "cp1" in report_html.page(document) and exposed(document) == "\n"


def test_findings_between_nodes_are_added(nodes):
    nodes["cp2"]["facts"]["sa"]["signer"] = "other"
    nodes["cp2"]["facts"]["rotation"]["authorities"]["sa"]["signer"] = "other"
    document = cluster_report.build(nodes)
    assert [one["code"] for one in document["nodes"]["cp2"]["findings"]] == ["sa-key-differs"]
    assert document["cluster"]["phase"]["sa"] == "impossible" and document["status"] == "critical"


def add_new_ca(facts, staged=True):
    """Make a node trust another CA beside its own, and stage it."""
    view = facts["rotation"]["authorities"]["ca"]
    view["bundle"].append("new")
    view["trust"] = {name: [*digests, "new"] for name, digests in view["trust"].items()}
    view["next"] = "new" if staged and facts["role"] == "control-plane" else None
    if facts["role"] == "control-plane":
        view.update(split=True if staged else view["split"], signing=[view["signer"]] if staged else None)


def test_the_phase_is_the_one_that_a_rotation_derives(nodes):
    add_new_ca(nodes["cp1"]["facts"])
    assert cluster_report.build(nodes)["cluster"]["phase"]["ca"] == "preparing"
    add_new_ca(nodes["cp2"]["facts"])
    add_new_ca(nodes["w1"]["facts"])
    document = cluster_report.build(nodes)
    assert document["cluster"]["phase"] == {"ca": "prepared", "front-proxy-ca": "stable", "etcd-ca": "stable", "sa": "stable"}
    facts = [dict(node["facts"]["rotation"], node=host) for host, node in nodes.items()]
    assert document["cluster"]["phase"]["ca"] == rotation_state.derive("ca", facts).phase
    assert cluster_report.build(nodes, phases={"ca": "prepared"})["cluster"]["phase"] == {"ca": "prepared"}


def test_a_users_own_ca_in_every_file_is_no_rotation(nodes):
    for node in nodes.values():
        add_new_ca(node["facts"], staged=False)
    assert cluster_report.build(nodes)["cluster"]["phase"]["ca"] == "stable"


@pytest.mark.parametrize("place", ["bundle", "signing", "trust", "certificates"])
def test_a_node_that_names_thousands_of_certificates_does_not_delay_the_report(nodes, place, monkeypatch):
    rotation = nodes["w1"]["facts"]["rotation"]
    digests = ["%064x" % number for number in range(1001)]
    if place == "certificates":
        rotation["certificates"] = {digest: {"subject": "CN=other"} for digest in digests}
    else:
        rotation["authorities"]["ca"][place] = {"admin.conf": digests} if place == "trust" else digests
    derived = []
    monkeypatch.setattr(rotation_state, "derive_all", lambda found: derived.extend(found) or {})
    cluster_report.build(nodes)
    assert sorted(found["node"] for found in derived) == ["cp1", "cp2"]


def test_a_worker_that_says_for_a_rotation_that_it_holds_cas_has_no_say(nodes):
    nodes["w1"]["facts"]["rotation"].update(role="etcd", authorities={})
    assert set(cluster_report.build(nodes)["cluster"]["phase"].values()) == {"stable"}


def test_the_next_to_end_is_named(nodes):
    row_of(nodes, "cp2", "scheduler.conf").update(residual_seconds=5, status="critical")
    document = cluster_report.build(nodes)
    assert document["cluster"]["next"]["name"] == "scheduler.conf" and document["cluster"]["next"]["node"] == "cp2"
    assert "next to end: scheduler.conf on cp2, 5s" in cluster_report.headline(document)


# --- the table --------------------------------------------------------------------------------------------------------------


def test_the_table_is_kubeadms(nodes):
    lines = cluster_report.text(cluster_report.build(nodes)).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("cp1 (control plane, v1.20)"))
    assert re.split("  +", lines[start + 1].strip()) == [
        "CERTIFICATE",
        "EXPIRES",
        "RESIDUAL TIME",
        "CERTIFICATE AUTHORITY",
        "STATUS",
        "SERVED",
        "EXTERNALLY MANAGED",
    ]
    names = [line.split()[0] for line in lines[start + 2 : start + 17]]
    assert names == [
        "admin.conf",
        "apiserver",
        "apiserver-etcd-client",
        "apiserver-kubelet-client",
        "controller-manager.conf",
        "etcd-healthcheck-client",
        "etcd-peer",
        "etcd-server",
        "front-proxy-client",
        "scheduler.conf",
        "kubelet-client",
        "kubelet-serving",
        "ca",
        "etcd-ca",
        "front-proxy-ca",
    ]
    column = lines[start + 1].index("STATUS")
    assert all(line[column:].startswith("ok ") for line in lines[start + 2 : start + 17])


def test_the_most_urgent_comes_first(nodes):
    row_of(nodes, "cp1", "scheduler.conf")["status"] = "warning"
    row_of(nodes, "cp1", "etcd-peer")["status"] = "expired"
    rows = cluster_report.urgent(cluster_report.build(nodes)["nodes"]["cp1"]["certificates"])
    assert [row["name"] for row in rows[:3]] == ["etcd-peer", "scheduler.conf", "admin.conf"]


def test_a_finding_of_several_nodes_is_told_once(nodes):
    one = {"severity": "warning", "code": "wrong-mode", "name": "ca", "path": "/p", "message": "m " * 100, "fix": "chmod"}
    for host in ("cp1", "cp2"):
        nodes[host]["findings"] = [dict(one)]
    text = cluster_report.text(cluster_report.build(nodes))
    assert text.count("wrong-mode") == 1 and "cp1, cp2" in text
    assert max(len(line) for line in text.splitlines()) <= 130
    assert all(len(line) <= 120 for line in text[text.index("FINDINGS") :].splitlines())


@pytest.mark.parametrize(
    "seconds,text",
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (86399, "23h"),
        (86400, "1d"),
        (364 * 86400, "364d"),
        (365 * 86400, "1y"),
        (3650 * 86400 - 1, "9y"),
        (-1, "1s ago"),
        (-90000, "1d ago"),
        (None, "-"),
        (199 * 365 * 86400, "199y"),
    ],
)
def test_residual_times_are_kubeadms(seconds, text):
    assert cluster_report.residual(seconds) == text


def test_a_moment_is_kubeadms_whatever_the_language():
    assert cluster_report.moment("2027-11-02T18:36:09Z") == "Nov 02, 2027 18:36 UTC" and cluster_report.moment(None) == "-"


def test_nothing_that_a_terminal_obeys_is_printed(nodes):
    one = {"severity": "error", "code": "x", "name": None, "path": "/" + EVIL, "message": EVIL, "fix": EVIL}
    nodes["cp1"]["findings"] = [one]
    text = cluster_report.text(cluster_report.build(nodes, {"w2": EVIL}))
    assert "\x1b" not in text and "alert" in text


# --- the page ---------------------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    VOID = {"meta", "line", "circle", "rect"}

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def page(document):
    parsed = Page(report_html.page(document))
    assert parsed.open == []
    return parsed


def test_the_page_is_whole_and_loads_nothing(nodes):
    parsed = page(cluster_report.build(nodes))
    assert {"script", "link", "img", "iframe", "a"} & set(parsed.seen) == set()
    assert not [value for name, value in parsed.attributes if name in ("src", "href") or name.startswith("on")]
    text = " ".join(parsed.text)
    assert "url(" not in text and "@import" not in text
    for word in ("prefers-color-scheme:dark", "@media print", "apiserver-etcd-client", "When they expire", "cp2"):
        assert word in text


def test_what_a_mouse_shows_a_keyboard_and_a_screen_reader_find_too(nodes):
    row_of(nodes, "cp1", "apiserver")["sans"] += ["DNS:a-name-among-many.example"]
    parsed = page(cluster_report.build(nodes))
    tables = parsed.seen.count("table")
    assert tables == 3 and parsed.attributes.count(("scope", "col")) == 7 * tables
    assert parsed.attributes.count(("scope", "row")) == parsed.seen.count("tr") - tables
    # What scrolls, the timeline and each table, takes the focus and says what it is.
    assert [parsed.attributes.count(one) for one in (("tabindex", "0"), ("role", "region"))] == [tables + 1, tables + 1]
    labels = [value for name, value in parsed.attributes if name == "aria-label"]
    assert labels.count("When certificates expire") == 2 and "Certificates of cp1" in labels
    # Nothing is said in a tooltip alone.
    text = " ".join(parsed.text)
    assert "a-name-among-many.example" in text and row_of(nodes, "cp1", "apiserver")["sha256"] in text
    assert not [value for name, value in parsed.attributes if name == "title"]


def brightness(colour):
    """Relative luminance of #rgb or #rrggbb, as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(nodes, scheme):
    style = re.search("<style>(.*)</style>", report_html.page(cluster_report.build(nodes)), re.DOTALL).group(1)
    dark = style.index("prefers-color-scheme:dark")
    colours = dict(re.findall(r"--([a-z-]+):(#[0-9a-f]+)", style[:dark]))
    if scheme == "dark":
        changed = dict(re.findall(r"--([a-z-]+):(#[0-9a-f]+)", style[dark:]))
        assert set(changed) == set(colours)
        colours = changed
    pairs = [(ink, paper) for ink in ("ink", "soft") for paper in ("bg", "card")] + [("soft", "expired-bg")]
    for word in ("ok", "warning", "critical", "expired", "missing", "info"):
        pairs += [(word, word + "-bg"), (word, "card")]
    assert len(pairs) == 17
    for ink, paper in pairs:
        lighter, darker = sorted((brightness(colours[ink]), brightness(colours[paper])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, paper)


def test_every_value_is_escaped(nodes):
    document = cluster_report.build(nodes, {EVIL: EVIL})
    document["cluster"]["endpoint"] = EVIL
    for node in document["nodes"].values():
        node["facts"]["advertise_address"] = EVIL
        node["findings"] = [{"severity": "error", "code": EVIL, "name": EVIL, "path": EVIL, "message": EVIL, "fix": EVIL}]
        for row in node["certificates"]:
            row.update(name=EVIL, subject=EVIL, path=EVIL, ca=EVIL, sans=[EVIL], serial=EVIL)
    document["nodes"][EVIL] = document["nodes"].pop("cp1")
    parsed = page(document)
    assert "script" not in parsed.seen and any(EVIL in text for text in parsed.text)


def test_a_terminal_obeys_nothing_of_the_report(nodes):
    """A file's name below pki may hold anything but a slash."""
    evil = "pki/\x1b[2Jevil\r\n.crt"
    row_of(nodes, "cp1", "apiserver").update(name=evil, ca=evil, problem=evil)
    nodes["cp1"]["findings"] = [{"severity": "error", "code": evil, "name": evil, "path": evil, "message": evil, "fix": evil}]
    row_of(nodes, "cp1", "admin.conf").update(residual_seconds=-5, name=evil)
    document = cluster_report.build(nodes, {evil: evil})
    for shown in (cluster_report.text(document), cluster_report.headline(document)):
        assert "evil" in shown and not set(shown) & {"\x1b", "\r"}
    assert "\\x1b[2Jevil\\r\\n.crt" in cluster_report.text(document)


def test_what_does_not_have_to_be_there_is_not_told_as_missing(nodes):
    row = row_of(nodes, "cp1", "admin.conf")
    row.update(status="missing", not_after=None, residual_seconds=None)
    text = report_html.page(cluster_report.build(nodes))
    assert ">missing<" in text and "not there" not in text
    row["name"] = "super-admin.conf"
    text = report_html.page(cluster_report.build(nodes))
    assert ">missing<" not in text and "not there" in text


def test_large_clusters_hide_what_is_well(nodes):
    many = dict(nodes, **{"x%d" % number: copy.deepcopy(nodes["w1"]) for number in range(40)})
    row_of(many, "x7", "kubelet-client").update(status="expired", residual_seconds=-5)
    text = report_html.page(cluster_report.build(many))
    assert "other workers" in text and text.count('<details class="card node" open>') == 3
    assert re.search(r'<text class="lane"[^>]*>x7<', text) and not re.search(r'<text class="lane"[^>]*>x8<', text)


ROW = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["apiserver", "ca", "super-admin.conf"]),
        "kind": st.sampled_from(["leaf", "ca"]),
        "path": st.text(max_size=4),
        "ca": st.none() | st.text(max_size=3),
        "subject": st.none() | st.text(max_size=9),
        "issuer": st.none() | st.text(max_size=9),
        "serial": st.none() | st.integers(1, 2**159).map(hex),
        "sans": st.lists(st.text(max_size=4), max_size=2),
        "not_before": st.none(),
        "not_after": st.none(),
        "residual_seconds": st.none() | st.integers(-(10**10), 7 * 10**9),
        "status": st.sampled_from(["ok", "warning", "critical", "expired", "missing"]),
        "externally_managed": st.booleans(),
        "sha256": st.none(),
        "served_sha256": st.none() | st.just("ab"),
        "problem": st.none() | st.text(max_size=5),
    }
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(ROW, max_size=6),
    host=st.text(min_size=1, max_size=6),
    role=st.sampled_from(["control-plane", "worker", "none", None]),
)
def test_any_rows_are_reported(rows, host, role):
    document = cluster_report.build({host: {"certificates": rows, "findings": [], "facts": {"role": role}}})
    page(document)
    assert cluster_report.text(document).endswith("\n") and json.loads(cluster_report.as_json(document))
    assert all(re.match(r"^(#|[a-z0-9_]+\{.*\} -?\d+$|$)", line) for line in exposed(document).split("\n"))


# --- metrics ----------------------------------------------------------------------------------------------------------------


def test_the_metrics_are_those_of_the_exporter(nodes):
    text = exposed(cluster_report.build(nodes))
    row = row_of(nodes, "cp1", "apiserver")
    line = next(
        line for line in text.splitlines() if line.startswith("x509_cert_not_after{") and 'node="cp1",name="apiserver"' in line
    )
    labels = dict(re.findall(r'(\w+)="((?:\\.|[^"\\])*)"', line))
    assert labels["filename"] == "apiserver.crt" and labels["filepath"].endswith("/etc/kubernetes/pki/apiserver.crt")
    assert labels["subject_CN"] == "kube-apiserver" and labels["issuer_CN"] == "kubernetes"
    assert labels["serial_number"] == str(int(row["serial"], 16))
    ends = datetime.datetime.strptime(row["not_after"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    assert line.rsplit(" ", 1)[1] == str(int(ends.timestamp()))
    for name in ("x509_cert_not_before", "x509_cert_not_after", "x509_cert_expired", "x509_cert_error"):
        assert text.count("# TYPE %s gauge" % name) == 1
        assert len(re.findall("^%s{" % name, text, re.MULTILINE)) == 33


def test_metrics_of_what_is_broken(nodes):
    row_of(nodes, "cp1", "apiserver").update(not_after_epoch=None, not_before_epoch=None, serial=None, status="critical")
    row_of(nodes, "cp1", "admin.conf").update(status="missing")
    row_of(nodes, "cp1", "scheduler.conf").update(not_after_epoch=1577836800)
    nodes["cp1"]["findings"] = [{"severity": "error"}]
    text = prometheus.exposition({"cp1": nodes["cp1"]}, 1700000000)
    assert re.search(r'x509_cert_error{node="cp1",name="apiserver".*} 1\n', text)
    assert 'name="admin.conf"' not in text
    assert re.search(r'x509_cert_expired{.*name="scheduler.conf".*} 1\n', text)
    assert 'kubepki_findings{node="cp1",severity="error"} 1\n' in text
    assert 'kubepki_report_timestamp_seconds{node="cp1"} 1700000000\n' in text


@given(st.text(max_size=30))
def test_any_label_is_quoted(value):
    line = "x{%s} 1" % prometheus._join({"a": value})
    assert "\n" not in line
    inner = re.fullmatch(r'x\{a="((?:\\.|[^"\\])*)"\} 1', line, re.DOTALL).group(1)
    assert re.sub(r"\\(.)", lambda found: "\n" if found.group(1) == "n" else found.group(1), inner) == value


@pytest.mark.parametrize(
    "subject,name,organization",
    [
        ("CN=a,O=b", "a", "b"),
        ("O=system:nodes,CN=system:node:x", "system:node:x", "system:nodes"),
        ("CN=a\\,b,O=c", "a,b", "c"),
        ("OU=CN,O=x", "", "x"),
        ("", "", ""),
    ],
)
def test_names_in_labels(tmp_path, subject, name, organization):
    key = throwaway.key("names in labels").raw
    made = x509.Name.from_rfc4514_string(subject)
    moment = x509_read.now()
    builder = x509.CertificateBuilder(made, made, key.public_key(), 5, moment, moment + datetime.timedelta(days=90))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    node = throwaway.Node(tmp_path)
    node.write("/etc/kubernetes/pki/odd.crt", pem, 0o644)
    text = prometheus.exposition({"cp1": read(node)}, 1700000000)
    (labels,) = re.findall(r'x509_cert_error{(.*name="pki/odd.crt".*)} 0', text)
    found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    assert [found.get(label, "") for label in ("subject_CN", "subject_O", "issuer_CN")] == [name, organization, name]


# --- the node's part --------------------------------------------------------------------------------------------------------


def test_the_text_file_is_written_for_everybody_to_read(nodes, tmp_path):
    path, changed = node_report.write_textfile(nodes["cp1"], str(tmp_path), 1)
    assert path == str(tmp_path / "kubepki.prom") and changed and os.stat(path).st_mode & 0o777 == 0o644
    assert node_report.write_textfile(nodes["cp1"], str(tmp_path), 2) == (path, False)
    assert "} 2\n" in (tmp_path / "kubepki.prom").read_text()
    nodes["cp1"]["certificates"].pop()
    assert node_report.write_textfile(nodes["cp1"], str(tmp_path), 3, check=True) == (path, True)
    assert "} 2\n" in (tmp_path / "kubepki.prom").read_text() and os.listdir(tmp_path) == ["kubepki.prom"]


def test_a_link_in_the_text_files_place_is_replaced_and_leads_nowhere(nodes, tmp_path):
    """The owner of the directory (node_exporter's user) must not have root overwrite a file elsewhere, nor set it 0644."""
    folder, target = tmp_path / "textfile", tmp_path / "shadow"
    folder.mkdir()
    target.write_bytes(b"secret")
    target.chmod(0o600)
    (folder / "kubepki.prom").symlink_to(target)
    if os.geteuid() == 0:
        for path in (folder, folder / "kubepki.prom"):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    else:
        folder.chmod(0o777)
    assert node_report.write_textfile(nodes["cp1"], str(folder), 1)[1]
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"secret", 0o600)
    assert not (folder / "kubepki.prom").is_symlink() and "} 1\n" in (folder / "kubepki.prom").read_text()
    os.unlink(folder / "kubepki.prom")
    (folder / "kubepki.prom").symlink_to("/dev/zero")
    assert node_report.write_textfile(nodes["cp1"], str(folder), 2)[1]
    # The directory itself, reached by a link of that user.
    (folder / "sub").symlink_to(tmp_path)
    if os.geteuid() == 0:
        os.chown(folder / "sub", 65534, 65534, follow_symlinks=False)
    with pytest.raises(PkiError, match="textfile/sub: is a symbolic link that another user could have placed"):
        node_report.write_textfile(nodes["cp1"], str(folder / "sub"), 1)
    assert not (tmp_path / "kubepki.prom").exists()


def test_a_text_file_without_its_directory(nodes, tmp_path):
    with pytest.raises(PkiError, match="no such directory"):
        node_report.write_textfile(nodes["cp1"], str(tmp_path / "none"), 1)


def test_the_threshold(nodes):
    assert node_report.expiry_error(nodes["cp1"], 0) is None and node_report.expiry_error(nodes["cp1"], 100) is None
    error = node_report.expiry_error(nodes["cp1"], 366)
    assert "11 of 15 certificates have less than 366 days left" in str(error) and "renew_leaves" in error.fix
    row_of(nodes, "cp1", "etcd-peer").update(residual_seconds=None, not_after=None, problem="is empty", status="critical")
    error = str(node_report.expiry_error(nodes["cp1"], 1))
    assert "1 of 15" in error and "etcd-peer (is empty)" in error


def test_the_status_of_a_node(nodes):
    assert node_report.worst_status(nodes["cp1"]["certificates"]) == "ok"
    row_of(nodes, "cp1", "ca")["status"] = "warning"
    row_of(nodes, "cp1", "admin.conf")["status"] = "missing"
    assert node_report.worst_status(nodes["cp1"]["certificates"]) == "warning"


def test_a_node_where_nothing_listens(tmp_path):
    node = throwaway.Node(tmp_path)
    port = _free_port()
    node.manifest("kube-scheduler", ["--kubeconfig=/etc/kubernetes/scheduler.conf", "--secure-port=%d" % port])
    seen = node_report.read("/etc/kubernetes", "/var/lib/kubelet", timeout=0.5, root=str(tmp_path), owner=os.getuid())
    scheduler = next(row for row in seen["endpoints"] if row["name"] == "scheduler")
    assert scheduler["address"] == "127.0.0.1:%d" % port and scheduler["error"] and scheduler["matches"] is None
    assert "endpoint-down" in {one["code"] for one in seen["findings"]}


def test_a_port_that_is_none_is_a_finding(tmp_path):
    node = throwaway.Node(tmp_path)
    node.manifest("kube-scheduler", ["--secure-port=https"])
    seen = node_report.read("/etc/kubernetes", "/var/lib/kubelet", timeout=0.5, root=str(tmp_path), owner=os.getuid())
    assert any(one["code"] == "unreadable" and "https" in one["message"] for one in seen["findings"])
    assert len(seen["certificates"]) == 15


def _free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_file_name_that_is_no_text_does_not_stop_the_text_file(tmp_path):
    node = throwaway.Node(tmp_path / "root")
    pem = node.kubernetes("pki/apiserver.crt").read_bytes()
    Path(os.fsdecode(os.fsencode(node.kubernetes("pki")) + b"/\xff.crt")).write_bytes(pem)
    path, _changed = node_report.write_textfile(read(node), str(tmp_path), 1)
    assert 'filename="?.crt"' in Path(path).read_text(encoding="utf-8")


def test_a_certificate_of_the_year_one_has_its_series():
    moment = datetime.datetime(1, 1, 1, tzinfo=datetime.timezone.utc)
    assert x509_read.timestamp(moment) == "0001-01-01T00:00:00Z"
    assert rows.epoch_seconds(moment) == -62135596800


# --- one node's answer is malformed --------------------------------------------------------------------------------------------


def test_an_unknown_status_of_one_node_is_that_nodes_finding(nodes):
    row_of(nodes, "w1", "kubelet-client")["status"] = "fine"
    document = cluster_report.build(nodes)
    assert [one["code"] for one in document["nodes"]["w1"]["findings"]] == [answers.CODE] and document["status"] == "critical"
    assert len(document["nodes"]["cp1"]["certificates"]) == 15 and document["nodes"]["cp1"]["status"] == "ok"
    assert "certificates[0].status is 'fine'" in re.sub(r"\s+", " ", cluster_report.text(document))
    assert "fine" in report_html.page(document)
    assert "w1" in run_summary.obstacles(document["nodes"], {}, [])


@pytest.mark.parametrize("host", ["w1", "cp1"])
def test_no_answer_of_one_node_ends_the_report(nodes, host):
    for place, node in malformed.variants(nodes[host]):
        document = cluster_report.build(dict(nodes, **{host: node}), {"w9": malformed.EVIL})
        shown = [
            cluster_report.text(document),
            report_html.page(document),
            cluster_report.headline(document),
            cluster_report.as_json(document),
        ]
        assert all("cp2" in text for text in (shown[0], shown[1], shown[3])), place
        assert not set(shown[1]) & set("\x9b\u202e\ud800"), place
        for text in (shown[0], shown[2], run_summary.obstacles(document["nodes"], {"w9": malformed.EVIL}, ["x"])):
            assert all(line.isprintable() for line in text.split("\n")), place
        assert run_summary.below(document, 1000) and run_summary.summarise("j", document, {})["job"] == "j"
