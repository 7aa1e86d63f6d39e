# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as Prometheus text, under the names and labels that x509-certificate-exporter's dashboards and alerts know.

Written on the node for node_exporter's textfile collector.
"""

from __future__ import annotations

import calendar
import os
import re
import time

_HELP = (
    ("x509_cert_not_before", "Start of the certificate's validity, as seconds since 1970."),
    ("x509_cert_not_after", "End of the certificate's validity, as seconds since 1970."),
    ("x509_cert_expired", "1 when the certificate has expired, 0 otherwise."),
    ("x509_cert_error", "1 when the file cannot be read as a certificate, 0 otherwise."),
    ("kubepki_findings", "What is wrong with the node's certificates, counted by severity."),
    ("kubepki_report_timestamp_seconds", "When these values were read, as seconds since 1970."),
)

_COMMON_NAME = re.compile(r"(?:^|,)CN=((?:\\.|[^,\\])*)")

_ORGANIZATION = re.compile(r"(?:^|,)O=((?:\\.|[^,\\])*)")


def seconds(timestamp):
    """Give a report's timestamp (2026-11-21T19:00:00Z) as seconds since 1970."""
    return calendar.timegm(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ"))


def exposition(nodes, now):
    """Give the text (exposition format 0.0.4) for {node: {"certificates": rows, "findings": findings}}.

    now: seconds since 1970. A missing optional certificate has no series; a damaged one has x509_cert_error 1.
    """
    series = {name: [] for name, _text in _HELP}
    for node, report in sorted(nodes.items()):
        for row in report.get("certificates", []):
            if row["status"] == "missing":
                continue
            labels = _labels(node, row)
            series["x509_cert_error"].append((labels, 0 if row["not_after"] else 1))
            if row["not_after"]:
                series["x509_cert_not_before"].append((labels, seconds(row["not_before"])))
                series["x509_cert_not_after"].append((labels, seconds(row["not_after"])))
                series["x509_cert_expired"].append((labels, int(seconds(row["not_after"]) <= now)))
        for severity in ("error", "warning", "info"):
            count = sum(1 for one in report.get("findings", []) if one["severity"] == severity)
            series["kubepki_findings"].append((_join({"node": node, "severity": severity}), count))
        series["kubepki_report_timestamp_seconds"].append((_join({"node": node}), int(now)))
    lines = []
    for name, text in _HELP:
        if series[name]:
            lines += ["# HELP %s %s" % (name, text), "# TYPE %s gauge" % name]
            lines += ["%s{%s} %d" % (name, labels, value) for labels, value in series[name]]
    return "\n".join(lines) + "\n"


def _labels(node, row):
    labels = {
        "node": node,
        "name": row["name"],
        "kind": row["kind"],
        "filename": os.path.basename(row["path"]),
        "filepath": row["path"],
        "serial_number": str(int(row["serial"], 16)) if row["serial"] else "",
        "subject_CN": _first(_COMMON_NAME, row["subject"]),
        "subject_O": _first(_ORGANIZATION, row["subject"]),
        "issuer_CN": _first(_COMMON_NAME, row["issuer"]),
    }
    if row["kind"] == "kubeconfig":
        labels.update(embedded_kind="user", embedded_key="client-certificate-data")
    return _join({key: value for key, value in labels.items() if value})


def _join(labels):
    return ",".join('%s="%s"' % (key, _escape(str(value))) for key, value in labels.items())


def _escape(value):
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _first(pattern, name):
    match = pattern.search(name or "")
    return re.sub(r"\\(.)", r"\1", match.group(1)) if match else ""
