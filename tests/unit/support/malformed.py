# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers as a damaged node, or one in other hands, might give them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

# Escape sequences in both of their forms, a change of direction, a NUL, half a character, a forged line.
EVIL = "\x1b]0;pwned\x07\x9b2J\u202e\x00\ud800\ncp1: all is well"
ODD = (None, "unknown", EVIL, 5, -1, 1e300, True, [], {}, [None], {"x": None}, "y" * (1 << 21))


def places(value: object, here: tuple = ()) -> Iterator[tuple]:
    """Yield the place of everything in an answer, of each list only the first item."""
    yield here
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*here, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*here, 0))


def variants(value: object, odd: tuple = ODD) -> Iterator[tuple]:
    """Yield (place, answer): each with one thing in it missing, or replaced by something odd."""
    for place in list(places(value)):
        for one in odd:
            yield place, _with(value, place, one)
        if place and isinstance(place[-1], str):
            yield place, _without(value, place)


def _with(value, place, one):
    if not place:
        return copy.deepcopy(one)
    changed = copy.deepcopy(value)
    holder = changed
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = one
    return changed


def _without(value, place):
    changed = copy.deepcopy(value)
    holder = changed
    for step in place[:-1]:
        holder = holder[step]
    del holder[place[-1]]
    return changed
