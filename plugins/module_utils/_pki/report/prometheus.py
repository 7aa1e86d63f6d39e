# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as Prometheus text, under the names and labels that x509-certificate-exporter's dashboards and alerts know.

Written on the node for node_exporter's textfile collector.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Mapping

from .finding import SEVERITIES

if TYPE_CHECKING:
    from .rows import Row

_HELP = (
    ("x509_cert_not_before", "Start of the certificate's validity, as seconds since 1970."),
    ("x509_cert_not_after", "End of the certificate's validity, as seconds since 1970."),
    ("x509_cert_expired", "1 when the certificate has expired, 0 otherwise."),
    ("x509_cert_error", "1 when the file cannot be read as a certificate, 0 otherwise."),
    ("kubepki_findings", "Findings about the node's certificates, by severity."),
    ("kubepki_report_timestamp_seconds", "When these values were read, as seconds since 1970."),
)


def exposition(nodes: Mapping[str, Mapping[str, Any]], now: float) -> str:
    """Return the text (exposition format 0.0.4) for {node: {"certificates": [Row], "findings": [Finding]}}.

    now: seconds since 1970. A missing certificate has no series; a damaged one has x509_cert_error 1.
    """
    series: dict[str, list[tuple[str, int]]] = {name: [] for name, _text in _HELP}
    for node, report in sorted(nodes.items()):
        for row in report.get("certificates", []):
            if row["status"] == "missing":
                continue
            labels = _labels(node, row)
            readable = row["not_after_epoch"] is not None
            series["x509_cert_error"].append((labels, 0 if readable else 1))
            if readable:
                series["x509_cert_not_before"].append((labels, row["not_before_epoch"]))
                series["x509_cert_not_after"].append((labels, row["not_after_epoch"]))
                series["x509_cert_expired"].append((labels, int(row["not_after_epoch"] <= now)))
        for severity in SEVERITIES:
            count = sum(1 for one in report.get("findings", []) if one["severity"] == severity)
            series["kubepki_findings"].append((_join({"node": node, "severity": severity}), count))
        series["kubepki_report_timestamp_seconds"].append((_join({"node": node}), int(now)))
    lines = []
    for name, text in _HELP:
        if series[name]:
            lines += ["# HELP %s %s" % (name, text), "# TYPE %s gauge" % name]
            lines += ["%s{%s} %d" % (name, labels, value) for labels, value in series[name]]
    return "\n".join(lines) + "\n"


def _labels(node: str, row: Row) -> str:
    labels = {
        "node": node,
        "name": row["name"],
        "kind": row["kind"],
        "filename": os.path.basename(row["path"]),
        "filepath": row["path"],
        "serial_number": str(int(row["serial"], 16)) if row["serial"] else "",
        "subject_CN": row["common_name"],
        "subject_O": row["organization"],
        "issuer_CN": row["issuer_common_name"],
    }
    if row["kind"] == "kubeconfig":
        labels.update(embedded_kind="user", embedded_key="client-certificate-data")
    return _join({key: value for key, value in labels.items() if value})


def _join(labels: Mapping[str, Any]) -> str:
    return ",".join('%s="%s"' % (key, _escape(str(value))) for key, value in labels.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
