# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML file: no script, nothing loaded from anywhere, light and dark, and fit for paper."""

from __future__ import annotations

__metaclass__ = type

import html
import math

from . import report

_DAY = 86400.0
_TICKS = ((0, "now"), (1, "1 day"), (7, "1 week"), (30, "30 days"), (90, "90 days"), (365, "1 year"), (3 * 365, "3 years"),
          (10 * 365, "10 years"), (30 * 365, "30 years"), (100 * 365, "100 years"))
_WIDTH, _LEFT, _LANE, _TOP = 1040, 150, 34, 34
_COLUMNS = ("Certificate", "Status", "Expires", "Left", "Authority", "Served", "Subject")
_WORDS = {"ok": "All is well", "warning": "Something is due soon", "critical": "Something needs attention now",
          "expired": "Something has expired"}

_STYLE = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#16202e;--soft:#5b6878;--line:#dfe4ea;--ok:#1f8a4c;--warning:#b26a00;--critical:#c4320a;
--expired:#9d1535;--missing:#6b5ca5;--info:#2f6fb0;--ok-bg:#e4f5ea;--warning-bg:#fdf0d7;--critical-bg:#fde5dc;
--expired-bg:#fbdfe6;--missing-bg:#ece8f8;--info-bg:#e1eefa}
@media (prefers-color-scheme:dark){:root{--bg:#10151c;--card:#182029;--ink:#e6ebf1;--soft:#95a3b3;--line:#2a3542;--ok:#5fd08d;
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
th{text-align:left;font-weight:600;color:var(--soft);font-size:12.5px;padding:6px 12px 6px 0;border-bottom:1px solid var(--line)}
td{padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
tr:last-child td{border-bottom:0}td.wrap{white-space:normal;overflow-wrap:anywhere;min-width:220px}
code{font:12.5px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
details{margin-top:12px}summary{cursor:pointer;display:flex;gap:10px;align-items:center;list-style-position:inside}
summary::before{content:"\\25B8";color:var(--soft)}details[open]>summary::before{content:"\\25BE"}
summary::-webkit-details-marker{display:none}details[open]>summary{margin-bottom:10px}
.finding{display:grid;grid-template-columns:92px 1fr;gap:4px 14px;padding:12px 0;border-bottom:1px solid var(--line)}
.finding:last-child{border-bottom:0}.finding p{margin:2px 0;overflow-wrap:anywhere}.fix{color:var(--soft)}
svg{display:block;min-width:760px;width:100%;height:auto}svg text{fill:var(--soft);font-size:12.5px}svg .lane{fill:var(--ink)}
svg line{stroke:var(--line)}svg circle{fill:var(--card);stroke-width:2}svg .in{font-weight:600;font-size:11px}
svg .c-ok{stroke:var(--ok)}svg .t-ok{fill:var(--ok)}svg .c-warning{stroke:var(--warning)}svg .t-warning{fill:var(--warning)}
svg .c-critical{stroke:var(--critical)}svg .t-critical{fill:var(--critical)}svg .c-expired{stroke:var(--expired)}
svg .t-expired{fill:var(--expired)}.past{fill:var(--expired-bg)}
@media print{body{background:#fff;font-size:11px}main{padding:0;max-width:none}.card{border-color:#bbb;break-inside:avoid}
details>*{display:block}summary::before{display:none}table{font-size:10.5px}tr,.finding{break-inside:avoid}}
"""


def page(document):
    """Give the text of report.html for a report (report.build). Every value from the cluster is escaped."""
    cluster = document["cluster"]
    title = "Certificates of %s" % (cluster["endpoint"] or "the cluster")
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        # Should a value ever slip through unescaped, the browser still runs and loads nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">',
        "<title>%s</title><style>%s</style></head><body><main>" % (_e(title), _STYLE.strip()),
        "<header><div><h1>%s</h1><div class=\"sub\">%s, read on %s</div></div>%s</header>" % (
            _e(title), _e(_WORDS[document["status"]]), _e(report.moment(document["generated_at"])),
            _badge(document["status"], big=True)),
        _tiles(document), _findings(document), _timeline(document), _nodes(document), "</main></body></html>\n"]
    return "\n".join(part for part in parts if part)


def _e(value):
    return html.escape(str(value), quote=True)


def _badge(word, label=None, big=False):
    return '<span class="badge%s %s">%s</span>' % (" big" if big else "", _e(word), _e(label or word))


def _tiles(document):
    cluster = document["cluster"]
    tally, first = cluster["counts"], cluster["next"]
    total = sum(tally["certificates"].values())
    roles = [node["role"] for node in document["nodes"].values()]
    kinds = ", ".join("%d %s%s" % (roles.count(role), report.ROLES[role], "s" if roles.count(role) > 1 and role != "etcd" else "")
                      for role in ("control-plane", "etcd", "worker") if role in roles)
    due = ", ".join("%d %s" % (tally["certificates"][word], word) for word in ("expired", "critical", "warning", "missing")
                    if tally["certificates"][word]) or "all ok"
    wrong = ", ".join("%d %s%s" % (count, word, "s" if count > 1 and word != "info" else "")
                      for word, count in tally["findings"].items() if count) or "nothing is wrong"
    phases = cluster["phase"]
    odd = sorted(name for name, phase in phases.items() if phase != "stable")
    tiles = [("Nodes", len(document["nodes"]), kinds), ("Certificates", total, due),
             ("Findings", sum(tally["findings"].values()), wrong),
             ("Ends first", report.residual(first["residual_seconds"]) if first else "-",
              "%s on %s" % (first["name"], first["node"]) if first else ""),
             ("Authorities", "rotating" if odd else "stable",
              ", ".join("%s: %s" % (name, phases[name]) for name in odd) if odd else "%d, same everywhere" % len(phases))]
    if document["unreachable"]:
        tiles.insert(1, ("No answer", len(document["unreachable"]), ", ".join(sorted(document["unreachable"]))))
    return '<section class="tiles">%s</section>' % "".join(
        '<div class="card tile"><span class="soft">%s</span><b%s>%s</b><span class="soft">%s</span></div>' % (
            _e(name), "" if isinstance(value, int) else ' class="text"', _e(value), _e(more)) for name, value, more in tiles)


def _findings(document):
    found = report.all_findings(document)
    silent = sorted(document["unreachable"].items())
    if not found and not silent:
        return ""
    rows = ['<div class="finding"><div>%s</div><div><h3>%s</h3><p>%s</p></div></div>' % (
        _badge("warning"), _e(host), _e(reason)) for host, reason in silent]
    for hosts, one in found:
        rows.append('<div class="finding"><div>%s</div><div><h3>%s <span class="soft">on %s</span></h3><p>%s%s.</p>'
                    '<p class="fix">%s</p></div></div>' % (
                        _badge(one["severity"]), _e(one["code"]), _e(", ".join(hosts)),
                        "<code>%s</code> " % _e(one["path"]) if one["path"] else "", _e(one["message"]), _e(one["fix"] or "")))
    return '<h2>What to do</h2><section class="card">%s</section>' % "".join(rows)


def _nodes(document):
    sections = []
    for host, node in document["nodes"].items():
        facts = node["facts"]
        about = [report.ROLES.get(node["role"], "no Kubernetes node")]
        about += ["v1.%d" % facts["minor"]] if facts.get("minor") else []
        about += [facts["advertise_address"]] if facts.get("advertise_address") else []
        # A worker that is well says nothing new: hundreds of them would hide the ones that matter.
        opened = " open" if node["role"] != "worker" or node["status"] != "ok" or len(document["nodes"]) <= 6 else ""
        rows = "".join(_row(row) for row in report.urgent(node["certificates"]))
        sections.append(
            '<details class="card"%s><summary><h3>%s</h3>%s<span class="soft">%s</span></summary><div class="scroll"><table>'
            "<thead><tr>%s</tr></thead><tbody>%s</tbody></table></div></details>" % (
                opened, _e(host), _badge(node["status"]), _e(", ".join(about)),
                "".join("<th>%s</th>" % name for name in _COLUMNS), rows))
    return "<h2>Nodes</h2>%s" % "".join(sections) if sections else ""


def _row(row):
    hint = "%s\nserial %s\nSHA-256 %s\n%s" % (row["path"], row["serial"] or "-", row["sha256"] or "-", " ".join(row["sans"]))
    authority = "itself" if row["kind"] == "ca" else row["ca"] or "-"
    if row["externally_managed"]:
        authority += " (external)"
    served = report.served(row)
    return ('<tr title="%s"><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td class="wrap"><code>%s</code>'
            "</td></tr>") % (
                _e(hint), _e(row["name"]), _badge(row["status"], "unreadable" if row["problem"] else None),
                _e(report.moment(row["not_after"])), _e(report.residual(row["residual_seconds"])), _e(authority),
                _badge("warning", "differs") if served == "differs" else _e(served), _e(row["subject"] or row["problem"] or "-"))


def _timeline(document):
    """Lanes of dots on an axis that gives the next days as much room as the years after them."""
    longest = max([row["residual_seconds"] / _DAY for node in document["nodes"].values() for row in node["certificates"]
                   if row["residual_seconds"] is not None] or [0])
    if longest <= 0 and not document["cluster"]["next"]:
        return ""
    end = next((days for days, _name in _TICKS if days >= max(longest, 30)), max(longest, 1.0))
    past = any((row["residual_seconds"] or 0) < 0 for node in document["nodes"].values() for row in node["certificates"])
    start = 70 if past else 0
    scale = (_WIDTH - _LEFT - start - 30) / math.log10(1 + end)

    def place(days):
        return _LEFT + start + math.log10(1 + days) * scale if days >= 0 else _LEFT + start / 2

    lanes = _lanes(document)
    height = _TOP + _LANE * len(lanes) + 8
    marks = ['<svg viewBox="0 0 %d %d" role="img" aria-label="When certificates end">' % (_WIDTH, height)]
    if past:
        marks.append('<rect class="past" x="%d" y="%d" width="%d" height="%d"/>' % (_LEFT, _TOP - 6, start, height - _TOP))
        marks.append('<text x="%d" y="18" text-anchor="middle">past</text>' % (_LEFT + start // 2))
    for days, name in _TICKS:
        if days <= end:
            marks.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="18" text-anchor="middle">%s</text>' % (
                place(days), _TOP - 6, place(days), height - 6, place(days), name))
    for number, (label, rows) in enumerate(lanes):
        middle = _TOP + _LANE * number + _LANE // 2
        marks.append('<text class="lane" x="0" y="%d">%s</text><line x1="%d" y1="%d" x2="%d" y2="%d"/>' % (
            middle + 4, _e(label if len(label) <= 20 else label[:19] + "\u2026"), _LEFT, middle, _WIDTH - 10, middle))
        marks += [_dot(x, middle, group) for x, group in _groups(rows, place)]
    marks.append("</svg>")
    return '<h2>When they end</h2><section class="card scroll">%s</section>' % "".join(marks)


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
    status = report.urgent(rows)[0]["status"]
    names = sorted({"%s: %s" % (row["name"], report.moment(row["not_after"])) for row in rows})
    number = '<text class="in t-%s" x="%.1f" y="%d" text-anchor="middle">%d</text>' % (status, x, y + 4, len(rows)) \
        if len(rows) > 1 else ""
    return '<g><title>%s</title><circle class="c-%s" cx="%.1f" cy="%d" r="%d"/>%s</g>' % (
        _e("\n".join(names)), _e(status), x, y, 10 if len(rows) > 1 else 6, number)
