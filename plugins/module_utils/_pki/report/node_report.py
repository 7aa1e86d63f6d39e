# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of one node, made on the node: rows, findings, facts, and the text file for Prometheus."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Iterable, Mapping

from ..endpoint import discovery, tls_handshake
from ..errors import PkiError
from ..kubeadm import layouts

if TYPE_CHECKING:
    from .rows import Row

TEXTFILE = "kubepki.prom"

_WORST = ("expired", "critical", "warning")


def read(
    kubernetes_dir: str,
    kubelet_dir: str,
    live: bool = True,
    timeout: float = 3.0,
    warn_days: float = 30,
    critical_days: float = 7,
    controller_clock: float | None = None,
    root: str | None = None,
    owner: int = 0,
) -> dict[str, Any]:
    """Return {"certificates", "endpoints", "findings", "facts"} of this node; paths and days as in the module cert_expiry.

    controller_clock: seconds since 1970, or None. root, owner: as layouts.find_layout and disk_findings.check take them.
    What is wrong with a file or an endpoint is not raised: it becomes a row and a finding.
    """
    clock = time.time()
    layout = layouts.find_layout(kubernetes_dir, kubelet_dir, root)
    problems = []
    endpoints: list[discovery.Endpoint] = []
    try:
        endpoints = discovery.endpoints(layout) if live else []
    except PkiError as error:
        problems.append(error)
    handshakes = tls_handshake.start_handshakes(endpoints, timeout)
    # The endpoints respond while the rest is imported and the files are read.
    from ..kubeadm import pki_tree
    from . import clock_findings, disk_findings, finding, rows, served_findings

    tree = pki_tree.read_tree(layout)
    found = [finding.error("unreadable", layout.manifest_dir, error.message, error.fix) for error in problems]
    found += disk_findings.check(tree, None, warn_days, critical_days, owner)
    served = tls_handshake.collect_certificates(handshakes)
    found += served_findings.check(tree, endpoints, served, None, critical_days)
    facts = rows.facts(tree, clock, controller_clock)
    found += clock_findings.check(facts["clock_offset"])
    return {
        "certificates": rows.certificates(tree, served, None, warn_days, critical_days),
        "endpoints": rows.endpoints(endpoints, served, tree),
        "findings": finding.sort_by_severity(found),
        "facts": facts,
    }


def worst_status(certificates: Iterable[Row]) -> str:
    """Return the worst status of rows: "expired", "critical", "warning" or "ok". "missing" does not count: it has a finding."""
    seen = {row["status"] for row in certificates if not row["kubelet_self_signed"]}
    return next((word for word in _WORST if word in seen), "ok")


def expiry_error(node: Mapping[str, Any], days: float) -> PkiError | None:
    """Return the error that names the certificates with fewer than `days` left or unreadable; None for none, or for 0 days."""
    from . import due_rows, remedies

    short = [row for _left, row, _reason in due_rows.find_due(node["certificates"], days)]
    if not short:
        return None
    named = ", ".join("%s (%s)" % (row["name"], row["not_after"] or row["problem"] or row["status"]) for row in short)
    counts = len(short), len(node["certificates"])
    return PkiError(
        "%d of %d certificates have less than %g days left: %s" % (*counts, days, named),
        path=short[0]["path"],
        fix=remedies.for_rows(short),
    )


def write_textfile(node: Mapping[str, Any], directory: str, now: float, check: bool = False) -> tuple[str, bool]:
    """Write the node's metrics for node_exporter. Return (path, whether anything but the time of writing changed).

    directory: has to exist. now: seconds since 1970. The file is replaced atomically, with mode 0644; a link in its place is
    replaced, too, where other users can write to the directory. Raises PkiError.
    """
    path = os.path.join(directory, TEXTFILE)
    if not os.path.isdir(directory):
        raise PkiError(
            "there is no such directory",
            path=directory,
            fix="Create it, or name the one that node_exporter reads (--collector.textfile.directory).",
        )
    # Here, because compiling them takes longer than writing the file.
    from ..fileio import atomic, guarded_files
    from . import prometheus

    # A file's name can be any bytes; node_exporter rejects a file that is not UTF-8.
    text = prometheus.exposition({node["facts"]["node_name"]: node}, now).encode("utf-8", "replace")
    before = None
    with contextlib.suppress(PkiError):  # a file that cannot be read is replaced
        before, _status = guarded_files.read_regular(path)
    if not check:
        atomic.write(path, text, mode=0o644)
    return path, _without_timestamp(before or b"") != _without_timestamp(text)


def _without_timestamp(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if not line.startswith(b"kubepki_report_timestamp_seconds{")]
