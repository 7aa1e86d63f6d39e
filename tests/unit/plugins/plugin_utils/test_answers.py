# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of what nodes answer: what is wrong is named in one line, and nothing is raised."""

from __future__ import annotations

import pytest
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import answers
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.answers import Clock, Each, Empty, Moment, Optional

from tests.unit.support import malformed

SHAPE = {
    "word": {"a", "b"},
    "text": (str, None),
    "list": [{"n": int}],
    "any": Each(float),
    "when": Moment,
    "clock": Clock,
    "more": Optional(({"x": bool}, Empty)),
}
GOOD = {"word": "a", "text": None, "list": [{"n": 1}], "any": {"k": 1.5}, "when": "2026-11-21T19:00:00Z", "clock": 1e9}


@pytest.mark.parametrize("change", [{}, {"more": {}}, {"more": {"x": True}}, {"list": []}, {"unknown": object}])
def test_what_has_its_form_is_taken(change):
    assert answers.fault(dict(GOOD, **change), SHAPE) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"word": "c"}, "word is 'c'"),
        ({"word": ["a"]}, "word is ['a']"),
        ({"text": 5}, "text is no text"),
        ({"list": [{"n": 1}, {"n": "x"}]}, "list[1].n is no whole number"),
        ({"list": [{"n": True}]}, "list[0].n is no whole number"),
        ({"list": {}}, "list is no list"),
        ({"any": {"k": "x"}}, "any.k is no number"),
        ({"any": {3: 1.0}}, "any has the name 3"),
        ({"any": {"k": float("nan")}}, "any.k is no number"),
        ({"when": "2026-13-41T19:00:00Z"}, "when is no time"),
        ({"when": "2026-11-21T19:00:00Z\n"}, "when is no time"),
        ({"clock": 1e14}, "clock is no time"),
        ({"more": {"x": 1}}, "more.x is no truth"),
        ({"more": 5}, "more is no mapping"),
        ({"text": "x" * (answers.LONGEST_TEXT + 1)}, "it has a text of"),
        ({"more": [[]] * (answers.MOST_VALUES + 1)}, "it has more than"),
    ],
)
def test_what_has_not_is_named_in_one_printable_line(change, said):
    fault = answers.fault(dict(GOOD, **change), SHAPE)
    assert fault.startswith(said) and fault.isprintable() and len(fault) < 300


def test_a_deep_answer_and_a_missing_field_are_named():
    deep: list = []
    for _number in range(100000):
        deep = [deep]
    assert "nested" in answers.fault(deep, SHAPE)
    assert answers.fault({key: value for key, value in GOOD.items() if key != "when"}, SHAPE) == "when is missing"
    assert answers.fault(None, SHAPE) == "it is no mapping"


def test_no_variant_raises_and_every_fault_is_printable():
    for _place, value in malformed.variants(GOOD):
        fault = answers.fault(value, SHAPE)
        assert fault is None or (fault.isprintable() and answers.sentence(fault).isprintable())
