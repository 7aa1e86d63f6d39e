# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""report.html in a real browser: wide, on a phone, in the dark, on paper, for two hundred nodes."""

from __future__ import annotations

import html
import json
import re

import picture
import pytest
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import report_html

pytestmark = pytest.mark.skipif(not picture.CHROMIUM, reason="there is no Chromium here (Debian: apt-get install chromium)")

DARK = "--blink-settings=preferredColorScheme=0"
# Asks the browser what it made of the page, and tells the page around it, which leaves the answer where --dump-dom finds it: a
# window of its own is never as narrow as a phone.
AROUND = """<!doctype html><body style="margin:0"><pre id=answer></pre><script>
addEventListener("message", event => { document.getElementById("answer").textContent = event.data; });
</script><iframe src="asking.html" style="width:%dpx;height:900px;border:0"></iframe></body>"""
ASK = """<script>
const shown = element => element.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true});
const cut = [...document.querySelectorAll("body *")].filter(
    one => shown(one) && !one.closest("svg, .scroll") && one.getBoundingClientRect().right > innerWidth + 0.5);
const heads = [...document.querySelector("thead").querySelectorAll("th")].filter(
    one => one.getBoundingClientRect().right <= innerWidth).map(one => one.textContent);
const tabs = [...document.querySelectorAll("summary, [tabindex]")].filter(shown);
tabs.forEach(one => { one.focus(); one.reached = document.activeElement === one; });
document.querySelector(".more summary").click();
const answer = {
    width: innerWidth, wider: document.documentElement.scrollWidth > innerWidth, cut: cut.map(one => one.outerHTML.slice(0, 80)),
    heads: heads, background: getComputedStyle(document.body).backgroundColor,
    loaded: performance.getEntriesByType("resource").length,
    unreached: tabs.filter(one => !one.reached).length, tabs: tabs.length,
    opened: shown(document.querySelector(".more dl")), nodes: [...document.querySelectorAll(".node")].map(one => one.open),
};
parent.postMessage(JSON.stringify(answer), "*");
</script></body>"""


@pytest.fixture(scope="module", params=[0, 200], ids=["5 nodes", "203 nodes"])
def page(request, tmp_path_factory):
    """The path of a report's page; beside it is one of the same that asks."""
    folder = tmp_path_factory.mktemp("page")
    text = report_html.page(picture.sample(folder, request.param))
    (folder / "report.html").write_text(text)
    allowed = re.sub("<meta http-equiv=[^>]*>", "", text)
    (folder / "asking.html").write_text(allowed.replace("</body>", ASK))
    return folder / "report.html"


def ask(page, width=1180, *options):
    around = page.with_name("around.html")
    around.write_text(AROUND % width)
    dom = picture.browse(around, "--dump-dom", "--virtual-time-budget=10000", "--window-size=1280,1000", *options)
    return json.loads(html.unescape(re.search('<pre id="answer">(.*?)</pre>', dom, re.DOTALL).group(1)))


@pytest.mark.parametrize("width", [1180, 400])
def test_nothing_is_cut_off_and_everything_is_within_reach_of_the_keyboard(page, width):
    told = ask(page, width)
    assert told["width"] == width and not told["wider"] and told["cut"] == []
    assert told["heads"][:3] == ["Certificate", "Status", "Left"]
    assert told["tabs"] > 50 and told["unreached"] == 0
    assert told["opened"] and told["loaded"] == 0
    assert told["nodes"][:4] == [True] * 4 and (len(told["nodes"]) == 5 or not any(told["nodes"][4:]))


def test_the_dark_page_is_dark_and_the_light_one_light(page):
    light, dark = (sum(map(int, re.findall(r"\d+", ask(page, 1180, *options)["background"])[:3])) for options in ((), (DARK,)))
    assert light > 700 and dark < 100


def test_paper_has_every_node_also_those_that_are_closed_on_the_screen(page, tmp_path):
    target = tmp_path / "report.pdf"
    picture.browse(page, f"--print-to-pdf={target}", "--no-pdf-header-footer", DARK)
    pages = max(int(count) for count in re.findall(rb"/Type /Pages\s+/Count (\d+)", target.read_bytes()))
    nodes = page.read_text().count('class="card node"')
    # Five nodes take about three pages, a worker alone about a sixth of one.
    assert (2 <= pages <= 5) if nodes == 5 else pages > nodes / 10


def test_the_browser_lets_nothing_but_styles_in(tmp_path):
    """Should a value ever be left as it is, the page's own policy stops it."""
    text = report_html.page(picture.sample(tmp_path))
    evil = "<script>document.title = 'evil'</script><img src=x onerror=\"document.title = 'evil'\">"
    (tmp_path / "evil.html").write_text(text.replace("</main>", evil + "</main>"))
    dom = picture.browse(tmp_path / "evil.html", "--dump-dom")
    assert "<title>Certificates of" in dom and "<title>evil" not in dom
