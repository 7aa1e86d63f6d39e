# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML file: no script, nothing loaded from anywhere; light and dark, for phones, keyboards and paper."""

from __future__ import annotations

import html
import math

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import printable
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.report import findings

from . import cluster_report

_DAY = 86400.0

_LONGEST = 4000  # of one text of a node

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

_WIDTH, _LEFT, _LANE, _TOP = 1040, 150, 34, 34

# What matters most comes first: a phone shows that much without scrolling.
_COLUMNS = ("Certificate", "Status", "Left", "Expires", "Authority", "Served", "Subject, and more")

_WORDS = {
    "ok": "All is well",
    "warning": "Something is due soon",
    "critical": "Something needs attention now",
    "expired": "Something has expired",
}

_STYLE = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#16202e;--soft:#5b6878;--line:#dfe4ea;--ok:#17703d;--warning:#8a5200;--critical:#b02c08;
--expired:#9d1535;--missing:#6b5ca5;--info:#265d95;--ok-bg:#e4f5ea;--warning-bg:#fdf0d7;--critical-bg:#fde5dc;
--expired-bg:#fbdfe6;--missing-bg:#ece8f8;--info-bg:#e1eefa}
@media screen and (prefers-color-scheme:dark){
:root{--bg:#10151c;--card:#182029;--ink:#e6ebf1;--soft:#95a3b3;--line:#2a3542;--ok:#5fd08d;
--warning:#f0b64c;--critical:#ff8a62;--expired:#ff7d9c;--missing:#b3a5ee;--info:#7db8f0;--ok-bg:#16301f;--warning-bg:#33270d;
--critical-bg:#3a1d12;--expired-bg:#3a1420;--missing-bg:#251f3b;--info-bg:#142a3f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0;overflow-wrap:anywhere}h2{font-size:17px;margin:34px 0 10px}h3{font-size:15px;margin:0}
.sub,.soft{color:var(--soft)}header{display:flex;gap:16px;justify-content:space-between;align-items:flex-start;flex-wrap:wrap}
.badge{display:inline-block;border-radius:999px;padding:2px 10px;font-size:12.5px;font-weight:600;white-space:nowrap}
.big{font-size:15px;padding:6px 16px}
.ok{color:var(--ok);background:var(--ok-bg)}.warning{color:var(--warning);background:var(--warning-bg)}
.critical,.error{color:var(--critical);background:var(--critical-bg)}.expired{color:var(--expired);background:var(--expired-bg)}
.missing{color:var(--missing);background:var(--missing-bg)}.info{color:var(--info);background:var(--info-bg)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:20px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:23px;line-height:1.25;overflow-wrap:anywhere}.tile b.text{font-size:17px;line-height:1.9}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
th{font-weight:400}thead th{font-weight:600;color:var(--soft);font-size:12.5px}
tbody tr:last-child>*{border-bottom:0}td.wrap{white-space:normal;overflow-wrap:anywhere;min-width:230px}
code{font:12.5px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
summary{cursor:pointer;display:flex;gap:10px;align-items:baseline;list-style:none}
summary::before{content:"\\25B8";color:var(--soft)}details[open]>summary::before{content:"\\25BE"}
summary::-webkit-details-marker{display:none}.node{margin-top:12px}.node>summary{flex-wrap:wrap}
.node[open]>summary{margin-bottom:10px}.more summary{gap:6px}
dl{display:grid;grid-template-columns:auto 1fr;gap:2px 10px;margin:6px 0;font-size:12.5px}dt{color:var(--soft)}dd{margin:0}
:focus-visible{outline:2px solid var(--info);outline-offset:2px}
.finding{display:grid;grid-template-columns:92px 1fr;gap:4px 14px;padding:12px 0;border-bottom:1px solid var(--line)}
.finding:last-child{border-bottom:0}.finding p{margin:2px 0;overflow-wrap:anywhere}.fix b{color:var(--soft);font-weight:600}
@media (max-width:560px){.finding{grid-template-columns:1fr}main{padding:18px 12px 40px}}
svg{display:block;min-width:760px;width:100%;height:auto}svg text{fill:var(--soft);font-size:12.5px}svg .lane{fill:var(--ink)}
svg line{stroke:var(--line)}svg .dot{fill:var(--card);stroke-width:2}svg .in{font-weight:600;font-size:11px}
svg .c-ok{stroke:var(--ok)}svg .t-ok{fill:var(--ok)}svg .c-warning{stroke:var(--warning)}svg .t-warning{fill:var(--warning)}
svg .c-critical{stroke:var(--critical);fill:var(--critical)}svg .c-expired{stroke:var(--expired);fill:var(--expired)}
svg .t-critical,svg .t-expired{fill:var(--card)}.past{fill:var(--expired-bg)}
@media print{:root{print-color-adjust:exact}
body{background:#fff;font-size:11px}main{padding:0;max-width:none}.card{border-color:#bbb}
.node::details-content{content-visibility:visible;display:block}summary::before{display:none}.scroll{overflow:visible}
h1{font-size:19px}h2{font-size:14px;margin:18px 0 6px}h3{font-size:12px}code,dl,thead th{font-size:9.5px}
.badge{font-size:9.5px;padding:1px 7px}.big{font-size:13px}.tiles{grid-template-columns:repeat(auto-fit,minmax(105px,1fr))}
table{font-size:10px}th,td{padding:3px 8px 3px 0}td.wrap{min-width:0}svg{min-width:0}.tile b,.tile b.text{font-size:15px}
.finding{padding:7px 0}
tr,.finding,.tile,svg{break-inside:avoid}h2,summary{break-after:avoid}thead{display:table-header-group}}
"""


def page(document):
    """Give the text of report.html for a report (report.build). Every value from the cluster is escaped."""
    cluster = document["cluster"]
    title = "Certificates of %s" % (cluster["endpoint"] or "the cluster")
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        # Should a value ever slip through unescaped, the browser still runs and loads nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">',
        "<title>%s</title><style>%s</style></head><body><main>" % (_e(title), _STYLE.strip()),
        '<header><div><h1>%s</h1><div class="sub">%s, read on %s</div></div>%s</header>'
        % (
            _e(title),
            _e(_WORDS[document["status"]]),
            _e(cluster_report.moment(document["generated_at"])),
            _badge(document["status"], big=True),
        ),
        _tiles(document),
        _findings(document),
        _timeline(document),
        _nodes(document),
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _e(value):
    # A browser obeys no control character of ASCII; formatting characters (U+202E and its like) show a name as another one.
    text = "".join(char if char < " " or char.isprintable() else printable(char) for char in str(value)[:_LONGEST])
    return html.escape(text, quote=True)


def _badge(word, label=None, big=False):
    return '<span class="badge%s %s">%s</span>' % (" big" if big else "", _e(word), _e(label or word))


def _tiles(document):
    cluster = document["cluster"]
    tally, first = cluster["counts"], cluster["next"]
    total = sum(tally["certificates"].values())
    roles = [node["role"] for node in document["nodes"].values()]
    kinds = ", ".join(
        "%d %s%s" % (roles.count(role), cluster_report.ROLES[role], "s" if roles.count(role) > 1 and role != "etcd" else "")
        for role in ("control-plane", "etcd", "worker")
        if role in roles
    )
    due = (
        ", ".join(
            "%d %s" % (tally["certificates"][word], word)
            for word in ("expired", "critical", "warning", "missing")
            if tally["certificates"][word]
        )
        or "all ok"
    )
    wrong = (
        ", ".join(
            "%d %s%s" % (count, word, "s" if count > 1 and word != "info" else "")
            for word, count in tally["findings"].items()
            if count
        )
        or "nothing is wrong"
    )
    phases = cluster["phase"]
    odd = sorted(name for name, phase in phases.items() if phase != "stable")
    tiles = [
        ("Nodes", len(document["nodes"]), kinds),
        ("Certificates", total, due),
        ("Findings", sum(tally["findings"].values()), wrong),
        (
            "Ends first",
            cluster_report.residual(first["residual_seconds"]) if first else "-",
            "%s on %s" % (first["name"], first["node"]) if first else "",
        ),
        (
            "Authorities",
            "rotating" if odd else "stable",
            ", ".join("%s: %s" % (name, phases[name]) for name in odd) if odd else "%d, same everywhere" % len(phases),
        ),
    ]
    if document["unreachable"]:
        tiles.insert(1, ("No answer", len(document["unreachable"]), ", ".join(sorted(document["unreachable"]))))
    return '<section class="tiles">%s</section>' % "".join(
        '<div class="card tile"><span class="soft">%s</span><b%s>%s</b><span class="soft">%s</span></div>'
        % (_e(name), "" if isinstance(value, int) else ' class="text"', _e(value), _e(more))
        for name, value, more in tiles
    )


def _findings(document):
    found = cluster_report.all_findings(document)
    silent = sorted(document["unreachable"].items())
    if not found and not silent:
        return ""
    rows = [
        _finding("warning", "no answer", [host], _e(str(reason).rstrip(".")), "Bring it back, then look again.")
        for host, reason in silent
    ]
    for hosts, one in found:
        where = "<code>%s</code> " % _e(one["path"]) if one["path"] else ""
        rows.append(_finding(one["severity"], one["code"], hosts, where + _e(one["message"]), one["fix"]))
    return '<h2>What to do</h2><section class="card">%s</section>' % "".join(rows)


def _finding(severity, code, hosts, text, fix):
    return '<div class="finding"><div>%s</div><div><h3>%s <span class="soft">on %s</span></h3><p>%s.</p>%s</div></div>' % (
        _badge(severity),
        _e(code),
        _e(", ".join(hosts)),
        text,
        '<p class="fix"><b>Remedy:</b> %s</p>' % _e(fix) if fix else "",
    )


def _nodes(document):
    sections = []
    for host, node in document["nodes"].items():
        facts = node["facts"]
        about = [cluster_report.ROLES.get(node["role"], "no Kubernetes node")]
        about += ["v1.%d" % facts["minor"]] if facts.get("minor") else []
        about += [facts["advertise_address"]] if facts.get("advertise_address") else []
        # A worker that is well says nothing new: hundreds of them would hide the ones that matter.
        opened = " open" if node["role"] != "worker" or node["status"] != "ok" or len(document["nodes"]) <= 6 else ""
        rows = "".join(_row(row) for row in cluster_report.urgent(node["certificates"]))
        sections.append(
            '<details class="card node"%s><summary><h3>%s</h3>%s<span class="soft">%s</span></summary>%s</details>'
            % (
                opened,
                _e(host),
                _badge(node["status"]),
                _e(", ".join(about)),
                _scroll(
                    "Certificates of %s" % host,
                    "<table><thead><tr>%s</tr></thead><tbody>%s</tbody></table>"
                    % ("".join('<th scope="col">%s</th>' % name for name in _COLUMNS), rows),
                ),
            )
        )
    return "<h2>Nodes</h2>%s" % "".join(sections) if sections else ""


def _scroll(label, content, classes="scroll"):
    """What may be wider than a phone; whoever has no mouse gets to it and moves it with the keyboard."""
    return '<div class="%s" role="region" aria-label="%s" tabindex="0">%s</div>' % (classes, _e(label), content)


def _row(row):
    authority = "itself" if row["kind"] == "ca" else row["ca"] or "-"
    if row["externally_managed"]:
        authority += " (external)"
    served = cluster_report.served(row)
    status = (
        '<span class="soft">not there</span>'
        if findings.is_optional_and_missing(row)
        else _badge(row["status"], "unreadable" if row["problem"] else None)
    )
    return ('<tr><th scope="row">%s</th><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td class="wrap">%s</td></tr>') % (
        _e(row["name"]),
        status,
        _e(cluster_report.residual(row["residual_seconds"])),
        _e(cluster_report.moment(row["not_after"])),
        _e(authority),
        _badge("warning", "differs") if served == "differs" else _e(served),
        _more(row),
    )


def _more(row):
    known = [
        ("file", row["path"]),
        ("from", row["not_before"] and cluster_report.moment(row["not_before"])),
        ("names", " ".join(row["sans"])),
        ("serial", row["serial"]),
        ("SHA-256", row["sha256"]),
        ("served", row["served_sha256"] if cluster_report.served(row) == "differs" else None),
    ]
    return '<details class="more"><summary><code>%s</code></summary><dl>%s</dl></details>' % (
        _e(row["subject"] or row["problem"] or "-"),
        "".join("<dt>%s</dt><dd><code>%s</code></dd>" % (name, _e(value)) for name, value in known if value),
    )


def _timeline(document):
    """Lanes of dots on an axis that gives the next days as much room as the years after them."""
    longest = max(
        [
            row["residual_seconds"] / _DAY
            for node in document["nodes"].values()
            for row in node["certificates"]
            if row["residual_seconds"] is not None
        ]
        or [0]
    )
    if longest <= 0 and not document["cluster"]["next"]:
        return ""
    end = next((days for days, _name in _TICKS if days >= 0.99 * max(longest, 30)), max(longest, 1.0))
    past = any((row["residual_seconds"] or 0) < 0 for node in document["nodes"].values() for row in node["certificates"])
    start = 96 if past else 0
    scale = (_WIDTH - _LEFT - start - 30) / math.log10(1 + end)

    def place(days):
        return _LEFT + start + math.log10(1 + days) * scale if days >= 0 else _LEFT + start / 2

    lanes = _lanes(document)
    height = _TOP + _LANE * len(lanes) + 8
    marks = ['<svg viewBox="0 0 %d %d" role="img" aria-label="When certificates end">' % (_WIDTH, height)]
    if past:
        marks.append('<rect class="past" x="%d" y="%d" width="%d" height="%d"/>' % (_LEFT, _TOP - 6, start, height - _TOP))
        marks.append('<text x="%d" y="18" text-anchor="middle">past</text>' % (_LEFT + start // 2 - 8))
    for days, name in _TICKS:
        if days <= end:
            marks.append(
                '<line x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="18" text-anchor="middle">%s</text>'
                % (place(days), _TOP - 6, place(days), height - 6, place(days), name)
            )
    for number, (label, rows) in enumerate(lanes):
        middle = _TOP + _LANE * number + _LANE // 2
        marks.append(
            '<text class="lane" x="0" y="%d">%s<title>%s</title></text><line x1="%d" y1="%d" x2="%d" y2="%d"/>'
            % (
                middle + 4,
                _e(label if len(label) <= 20 else label[:19] + "\u2026"),
                _e(label),
                _LEFT,
                middle,
                _WIDTH - 10,
                middle,
            )
        )
        marks += [_dot(x, middle, group) for x, group in _groups(rows, place)]
    marks.append("</svg>")
    return "<h2>When they end</h2>%s" % _scroll("When certificates end", "".join(marks), "card scroll")


def _lanes(document):
    lanes, well = [], []
    for host, node in document["nodes"].items():
        rows = [row for row in node["certificates"] if row["residual_seconds"] is not None]
        if node["role"] == "worker" and node["status"] == "ok" and len(document["nodes"]) > 12:
            well += rows
        elif rows:
            lanes.append((host, rows))
    return lanes + ([("other workers", well)] if well else [])


def _groups(rows, place):
    """Rows whose dots would lie on each other are one dot with a number."""
    groups = []
    for x, row in sorted(((place(row["residual_seconds"] / _DAY), row) for row in rows), key=lambda pair: pair[0]):
        if groups and x - groups[-1][0] < 20:
            groups[-1][1].append(row)
        else:
            groups.append((x, [row]))
    return groups


def _dot(x, y, rows):
    status = cluster_report.urgent(rows)[0]["status"]
    names = sorted({"%s: %s" % (row["name"], cluster_report.moment(row["not_after"])) for row in rows})
    number, half = "", 6.0
    if len(rows) > 1:
        number = '<text class="in t-%s" x="%.1f" y="%d" text-anchor="middle">%d</text>' % (status, x, y + 4, len(rows))
        half = max(10.0, 3.5 * len(str(len(rows))) + 5)
    tall = min(half, 10.0)
    return '<g><title>%s</title><rect class="dot c-%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.1f"/>%s</g>' % (
        "\n".join(_e(name) for name in names),
        _e(status),
        x - half,
        y - tall,
        2 * half,
        2 * tall,
        tall,
        number,
    )
