# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of report.html.j2, the HTML page of a report: texts of the tiles, rows of the tables, geometry of the timeline."""

from __future__ import annotations

import itertools
import math
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import jinja2
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import due_rows
from markupsafe import Markup

from . import cluster_report

_TEMPLATE = "report.html.j2"

_DAY = 86400.0  # seconds

_LONGEST = 4000  # characters of one text of a node

# The axis of the timeline: days from now.
_TICKS = (
    (0, "now"),
    (1, "1 day"),
    (7, "1 week"),
    (30, "30 days"),
    (90, "90 days"),
    (365, "1 year"),
    (3 * 365, "3 years"),
    (10 * 365, "10 years"),
    (30 * 365, "30 years"),
    (100 * 365, "100 years"),
)

# Of the timeline, in units of its viewBox: width, where the axis begins, height of a lane, height of the axis' labels.
_WIDTH, _LEFT, _LANE, _TOP = 1040, 150, 34, 34

_PAST = 96  # the room for what has expired

# The most important columns come first: a phone shows that much without scrolling.
_COLUMNS = ("Certificate", "Status", "Left", "Expires", "CA", "Served", "Subject, and more")

_SUMMARIES = {
    "ok": "All is well",
    "warning": "Something is due soon",
    "critical": "Something needs attention now",
    "expired": "Something has expired",
}

Row = Mapping[str, Any]  # one certificate of a report


class Tile(NamedTuple):
    """One number or word at the top of the page, with what it is of and a detail below it."""

    label: str
    value: Union[int, str]
    detail: str


class PageFinding(NamedTuple):
    """One finding. hosts: their names, separated by commas; path and fix may be empty."""

    severity: str
    code: str
    hosts: str
    path: Optional[str]
    message: str
    fix: Optional[str]


class TableRow(NamedTuple):
    """One certificate in the table of its node. details: [(label, value)], of which those without a value are not shown."""

    name: str
    is_absent: bool
    status: str
    label: str
    residual: str
    expires: str
    ca: str
    served: str
    subject: str
    details: List[Tuple[str, Any]]


class NodeTable(NamedTuple):
    """One node with its certificates. is_open: whether its table is shown without a click."""

    host: str
    status: str
    about: str
    is_open: bool
    rows: List[TableRow]


class Tick(NamedTuple):
    """A label of the axis."""

    x: str
    label: str


class Dot(NamedTuple):
    """One certificate, or several that expire at about the same time. Lengths are texts with one digit after the point."""

    status: str
    names: List[str]
    number: int
    x: str
    left: str
    top: str
    width: str
    height: str
    radius: str


class Lane(NamedTuple):
    """The dots of one node, at the height y."""

    label: str
    y: int
    dots: List[Dot]


class Timeline(NamedTuple):
    """The drawing. past: width of the room for what has expired, 0 where nothing has."""

    width: int
    height: int
    left: int
    past: int
    ticks: List[Tick]
    lanes: List[Lane]


def page(document: Mapping[str, Any]) -> str:
    """Return the text of report.html for a report (cluster_report.build). Every value from the cluster is escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_displayable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
    )
    return environment.get_template(_TEMPLATE).render(
        title="Certificates of %s" % (document["cluster"]["endpoint"] or "the cluster"),
        summary=_SUMMARIES[document["status"]],
        generated=cluster_report.moment(document["generated_at"]),
        status=document["status"],
        tiles=_tiles(document),
        findings=_findings(document),
        timeline=_timeline(document),
        columns=_COLUMNS,
        nodes=[_node(host, node, len(document["nodes"])) for host, node in document["nodes"].items()],
    )


def _displayable(value: Any) -> Any:
    """Return a value of an expression as text that shows what it holds, before it is escaped.

    A browser obeys no control character of ASCII, but formatting characters (U+202E and its like) show a name as another one.
    """
    if isinstance(value, Markup):  # of a macro
        return value
    return "".join(char if char < " " or char.isprintable() else printable(char) for char in str(value)[:_LONGEST])


def _tiles(document: Mapping[str, Any]) -> List[Tile]:
    cluster = document["cluster"]
    counts, first, phases = cluster["counts"], cluster["next"], cluster["phase"]
    certificates = counts["certificates"]
    due = ["%d %s" % (certificates[word], word) for word in ("expired", "critical", "warning", "missing") if certificates[word]]
    wrong = [
        "%d %s%s" % (count, word, "s" if count > 1 and word != "info" else "")
        for word, count in counts["findings"].items()
        if count
    ]
    rotating = ["%s: %s" % (name, phases[name]) for name in sorted(phases) if phases[name] not in ("stable", "external")]
    tiles = [
        Tile("Nodes", len(document["nodes"]), _roles([node["role"] for node in document["nodes"].values()])),
        Tile("Certificates", sum(certificates.values()), ", ".join(due) or "all ok"),
        Tile("Findings", sum(counts["findings"].values()), ", ".join(wrong) or "nothing is wrong"),
        Tile("Expires first", cluster_report.residual(first["residual_seconds"]), "%s on %s" % (first["name"], first["node"]))
        if first
        else Tile("Expires first", "-", ""),
        Tile("CAs", "rotating", ", ".join(rotating)) if rotating else Tile("CAs", "stable", "%d, same everywhere" % len(phases)),
    ]
    if document["unreachable"]:
        tiles.insert(1, Tile("Unreachable", len(document["unreachable"]), ", ".join(sorted(document["unreachable"]))))
    return tiles


def _roles(roles: Sequence[Optional[str]]) -> str:
    return ", ".join(
        "%d %s%s" % (roles.count(role), cluster_report.ROLES[role], "s" if roles.count(role) > 1 and role != "etcd" else "")
        for role in ("control-plane", "etcd", "worker")
        if role in roles
    )


def _findings(document: Mapping[str, Any]) -> List[PageFinding]:
    unreachable = [
        PageFinding(
            "warning", "unreachable", host, None, str(reason).rstrip("."), "Make it reachable, then create the report again."
        )
        for host, reason in sorted(document["unreachable"].items())
    ]
    return unreachable + [
        PageFinding(one["severity"], one["code"], ", ".join(hosts), one["path"], one["message"], one["fix"])
        for hosts, one in cluster_report.all_findings(document)
    ]


def _node(host: str, node: Mapping[str, Any], nodes: int) -> NodeTable:
    """Return the table of a node. nodes: how many the report has."""
    facts = node["facts"]
    about = [cluster_report.ROLES.get(node["role"], "no Kubernetes node")]
    about += ["v1.%d" % facts["minor"]] if facts.get("minor") else []
    about += [facts["advertise_address"]] if facts.get("advertise_address") else []
    # Hundreds of workers without a finding would hide the nodes that have one.
    is_open = node["role"] != "worker" or node["status"] != "ok" or nodes <= 6
    rows = [_row(row) for row in cluster_report.urgent(node["certificates"])]
    return NodeTable(host, node["status"], ", ".join(map(str, about)), is_open, rows)


def _row(row: Row) -> TableRow:
    ca = "itself" if row["kind"] == "ca" else row["ca"] or "-"
    served = cluster_report.served(row)
    return TableRow(
        name=row["name"],
        is_absent=due_rows.is_optional_and_missing(row),
        status=row["status"],
        label="unreadable" if row["problem"] else row["status"],
        residual=cluster_report.residual(row["residual_seconds"]),
        expires=cluster_report.moment(row["not_after"]),
        ca="%s (external)" % ca if row["externally_managed"] else ca,
        served=served,
        subject=row["subject"] or row["problem"] or "-",
        details=[
            ("file", row["path"]),
            ("from", row["not_before"] and cluster_report.moment(row["not_before"])),
            ("names", " ".join(row["sans"])),
            ("serial", row["serial"]),
            ("SHA-256", row["sha256"]),
            ("served", row["served_sha256"] if served == "differs" else None),
        ],
    )


def _timeline(document: Mapping[str, Any]) -> Optional[Timeline]:
    """Return the drawing, or None where nothing expires: a lane a node, on an axis whose scale is logarithmic."""
    left = [
        row["residual_seconds"] / _DAY
        for node in document["nodes"].values()
        for row in node["certificates"]
        if row["residual_seconds"] is not None
    ]
    longest = max(left, default=0)
    if longest <= 0 and not document["cluster"]["next"]:
        return None
    end = next((days for days, _name in _TICKS if days >= 0.99 * max(longest, 30)), max(longest, 1.0))
    past = _PAST if min(left, default=0) < 0 else 0
    scale = (_WIDTH - _LEFT - past - 30) / math.log10(1 + end)

    def place(days: float) -> float:
        return _LEFT + past + math.log10(1 + days) * scale if days >= 0 else _LEFT + past / 2

    lanes = [
        Lane(label, y, [_dot(x, y, group) for x, group in _groups(rows, place)])
        for y, (label, rows) in zip(itertools.count(_TOP + _LANE // 2, _LANE), _lanes(document).items())
    ]
    ticks = [Tick("%.1f" % place(days), name) for days, name in _TICKS if days <= end]
    return Timeline(_WIDTH, _TOP + _LANE * len(lanes) + 8, _LEFT, past, ticks, lanes)


def _lanes(document: Mapping[str, Any]) -> Dict[str, List[Row]]:
    """Return {label: rows}. In a large cluster, the workers without a finding share the last lane."""
    lanes: Dict[str, List[Row]] = {}
    others: List[Row] = []
    for host, node in document["nodes"].items():
        rows = [row for row in node["certificates"] if row["residual_seconds"] is not None]
        if node["role"] == "worker" and node["status"] == "ok" and len(document["nodes"]) > 12:
            others += rows
        elif rows:
            lanes[host] = rows
    return {**lanes, "other workers": others} if others else lanes


def _groups(rows: Sequence[Row], place: Callable[[float], float]) -> List[Tuple[float, List[Row]]]:
    """Return [(x, rows)]: rows whose dots would overlap are one dot with a number."""
    groups: List[Tuple[float, List[Row]]] = []
    for x, row in sorted(((place(row["residual_seconds"] / _DAY), row) for row in rows), key=lambda pair: pair[0]):
        if groups and x - groups[-1][0] < 20:
            groups[-1][1].append(row)
        else:
            groups.append((x, [row]))
    return groups


def _dot(x: float, y: int, rows: Sequence[Row]) -> Dot:
    number = len(rows)
    half = max(10.0, 3.5 * len(str(number)) + 5) if number > 1 else 6.0
    radius = min(half, 10.0)
    return Dot(
        status=cluster_report.urgent(rows)[0]["status"],
        names=sorted({"%s: %s" % (row["name"], cluster_report.moment(row["not_after"])) for row in rows}),
        number=number,
        x="%.1f" % x,
        left="%.1f" % (x - half),
        top="%.1f" % (y - radius),
        width="%.1f" % (2 * half),
        height="%.1f" % (2 * radius),
        radius="%.1f" % radius,
    )
