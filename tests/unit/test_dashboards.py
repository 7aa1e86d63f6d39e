# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example alerts and the dashboard ask for what the library writes; promtool, where it is, judges both."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import node_report, prometheus

from tests.unit.support import throwaway

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
ALERTS = EXAMPLES / "prometheus" / "kubepki-alerts.yml"
DASHBOARD = json.loads((EXAMPLES / "grafana" / "kubepki-certificates.json").read_text())
RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
VARIABLES = {"$" + variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="there is no promtool here (Debian: apt-get install prometheus)"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The text file of a node with a damaged certificate."""
    node = throwaway.Node(tmp_path_factory.mktemp("node"))
    node.write("/etc/kubernetes/pki/apiserver.crt", "not a certificate")
    read = node_report.read("/etc/kubernetes", "/var/lib/kubelet", live=False, root=str(node.root), owner=os.getuid())
    return prometheus.exposition({"cp1": read}, 1800000000)


@pytest.fixture(scope="module")
def known(written):
    """{metric: the labels that its series have}."""
    labels = {}
    for name, given in re.findall(r"^(\w+)\{(.*)\} \d+$", written, re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="(?:\\.|[^"\\])*"', given))
    return labels


def promtool(*arguments, text=None):
    done = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def asked(query):
    """Give ({metric: labels it is selected by}, [labels of `by` clauses]) of a query."""
    by = [label for clause in re.findall(r"\bby \(([^)]*)\)", query) for label in re.findall(r"\w+", clause)]
    selected = {
        name: set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selector or ""))
        for name, selector in re.findall(r"\b((?:x509|kubepki)_\w+)(?:\{([^}]*)\})?", query)
    }
    return selected, by


@pytest.mark.parametrize("query", QUERIES + [rule["expr"] for rule in RULES])
def test_a_query_uses_metrics_and_labels_that_are_written(known, query):
    selected, by = asked(query)
    assert selected
    for metric, labels in selected.items():
        assert metric in known and labels | set(by) <= known[metric], query
    assert set(re.findall(r"\$\w+", query)) <= set(VARIABLES)


def test_a_legend_and_a_message_name_labels_that_the_query_leaves(known):
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            assert set(re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))) <= set(asked(target["expr"])[1])
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
    for rule in RULES:
        (metric,) = asked(rule["expr"])[0]
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert named <= known[metric], rule["alert"]


def test_the_variables_of_the_dashboard_come_from_what_is_written(known):
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", VARIABLES["$node"]["query"]["query"]).groups()
    assert label in known[metric]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_an_alert_tells_how_bad_it_is_and_what_to_do():
    assert len({rule["alert"] for rule in RULES}) == len(RULES) == 7
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "kubepki.lifecycle." in rule["annotations"]["description"] and rule["annotations"]["summary"]


def test_every_alert_has_a_test_in_which_it_fires():
    tests = yaml.safe_load(ALERTS.with_name("kubepki-alerts.test.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in RULES}


@needs_promtool
def test_promtool_has_nothing_to_say_about_the_text_file(written):
    assert promtool("check", "metrics", text=written) == (0, "")
    assert promtool("check", "metrics", text=written + "x_total{ 1\n")[0] != 0


@needs_promtool
def test_promtool_accepts_the_rules_and_their_tests_pass():
    code, said = promtool("check", "rules", ALERTS)
    assert code == 0 and "7 rules found" in said
    code, said = promtool("test", "rules", ALERTS.with_name("kubepki-alerts.test.yml"))
    assert code == 0 and "SUCCESS" in said, said


@needs_promtool
def test_promtool_reads_every_query_of_the_dashboard(tmp_path):
    rules = [{"record": "panel:%d" % number, "expr": query.replace("$node", ".*")} for number, query in enumerate(QUERIES)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    code, said = promtool("check", "rules", tmp_path / "rules.yml")
    assert code == 0 and "%d rules found" % len(QUERIES) in said, said
