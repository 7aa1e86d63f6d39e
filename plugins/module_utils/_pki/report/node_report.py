# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's part of the report, made on the node: rows, findings, facts, and the text file for Prometheus."""

from __future__ import annotations

import contextlib
import os
import time

from ..endpoint import discovery, tls_handshake
from ..errors import PkiError
from ..kubeadm import layouts

TEXTFILE = "kubepki.prom"

_WORST = ("expired", "critical", "warning")


def read(
    kubernetes_dir, kubelet_dir, live=True, timeout=3.0, warn_days=30, critical_days=7, controller_clock=None, root=None, owner=0
):
    """Give {"certificates", "endpoints", "findings", "facts"} of this node; paths and days as in the module cert_expiry.

    controller_clock: seconds since 1970, or None. root, owner: as layouts.find_layout and findings.check take them.
    Never raises for anything that is wrong with a file or an endpoint: that becomes a row and a finding.
    """
    clock = time.time()
    layout = layouts.find_layout(kubernetes_dir, kubelet_dir, root)
    endpoints, problems = [], []
    try:
        endpoints = discovery.endpoints(layout) if live else []
    except PkiError as error:
        problems.append(error)
    asked = tls_handshake.start_handshakes(endpoints, timeout)
    # They make their answers while the rest is compiled, and while it reads the files.
    from ..kubeadm import pki_tree
    from . import finding, findings, live_findings, rows

    tree = pki_tree.read_tree(layout)
    found = [finding.finding(finding.ERROR, "unreadable", layout.manifest_dir, error.message, error.fix) for error in problems]
    found += findings.check(tree, None, warn_days, critical_days, owner)
    served = tls_handshake.collect_certificates(asked)
    found += live_findings.check_served(tree, endpoints, served, None, critical_days)
    facts = rows.facts(tree, clock, controller_clock)
    found += live_findings.check_clock(facts["clock_offset"])
    return {
        "certificates": rows.certificates(tree, served, None, warn_days, critical_days),
        "endpoints": rows.endpoints(endpoints, served, tree),
        "findings": finding.ordered(found),
        "facts": facts,
    }


def status(certificates):
    """Give the worst status of rows: "expired", "critical", "warning" or "ok"; what is missing is the findings' business."""
    from .findings import own_serving

    seen = {row["status"] for row in certificates if not own_serving(row["name"], row["issuer"])}
    return next((word for word in _WORST if word in seen), "ok")


def below(node, days):
    """Return the PkiError that names the certificates with fewer than `days` left or unreadable; None for none, or for 0 days."""
    from . import findings

    short = [row for _left, row, _word in findings.due(node["certificates"], days)]
    if not short:
        return None
    named = ", ".join("%s (%s)" % (row["name"], row["not_after"] or row["problem"] or row["status"]) for row in short)
    counts = len(short), len(node["certificates"])
    return PkiError(
        "%d of %d certificates have less than %g days left: %s" % (*counts, days, named),
        path=short[0]["path"],
        fix=findings.remedies(short),
    )


def write_textfile(node, directory, now, dry=False):
    """Write the node's metrics for node_exporter. Gives (path, whether anything but the time of writing changed).

    directory: has to exist. The file is replaced atomically, with mode 0644; a link in its place is replaced, too, where other
    users can write to the directory. Raises PkiError.
    """
    path = os.path.join(directory, TEXTFILE)
    if not os.path.isdir(directory):
        raise PkiError(
            "there is no such directory",
            path=directory,
            fix="Make it, or name the one that node_exporter reads (--collector.textfile.directory).",
        )
    from ..fileio import (
        atomic,
        guarded_paths,  # compiling these two takes longer than writing the file
    )
    from . import prometheus

    # A file's name can be any bytes; what is not UTF-8 would make node_exporter refuse all of it.
    text = prometheus.exposition({node["facts"]["node_name"]: node}, now).encode("utf-8", "replace")
    before = None
    with contextlib.suppress(PkiError):  # what cannot be read, and what is no file, is replaced
        before, _status = guarded_paths.read_regular(path)
    if not dry:
        atomic.write(path, text, mode=0o644)
    return path, _lasting(before or b"") != _lasting(text)


def _lasting(text):
    return [line for line in text.splitlines() if not line.startswith(b"kubepki_report_timestamp_seconds{")]
