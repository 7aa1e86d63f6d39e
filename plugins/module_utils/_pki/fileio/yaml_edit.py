# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change single values of a YAML document in place. Every other byte stays: comments, order, quoting.

Hand-written, because PyYAML drops comments when it writes, and ruamel.yaml, which keeps them, is not on nodes. PyYAML reports the
positions; after each edit the document is parsed again, and only that value may have changed.
"""

from __future__ import annotations

import re
from typing import Any, Mapping, Tuple

from ..errors import PkiError
from .yaml_load import HAS_YAML, decode, load, not_yaml, without_tabs

if HAS_YAML:
    import yaml

# The way to a value: keys (str) and indexes (int), such as ("spec", "containers", 0, "command", 3).
Place = Tuple[Any, ...]

# Plain scalars that every reader of YAML 1.1 and 1.2 takes for a string (Go's yaml.v2 and v3 among them).
_PLAIN = re.compile(r"(--)?[A-Za-z/_][A-Za-z0-9/_.=:+@-]*")

_DASH = re.compile(r"^( *)-(?=[ \t\r\n])", re.MULTILINE)

_IN_FLOW = re.compile(r"\s*[],}]")

_NOT_PLAIN = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}

_BY_HAND = "Correct it by hand."


def quote(value: str, plain: bool = True) -> str:
    """Return a string as a YAML scalar: plain where that is safe and allowed, otherwise double-quoted in ASCII."""
    if plain and _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN and not value.endswith(":"):
        return value
    return '"%s"' % "".join(_ESCAPES.get(char) or (char if " " <= char <= "~" else "\\U%08x" % ord(char)) for char in value)


def _scalar(value: str | bool, plain: bool = True) -> str:
    return str(value).lower() if isinstance(value, bool) else quote(value, plain)


_STRING, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


class YamlText:
    """A YAML document as text that can be edited in place."""

    def __init__(self, text: str | bytes, path: str | None) -> None:
        """Parse a document. path: for messages. Raise PkiError unless it is YAML."""
        self.path = path
        self.text = decode(text, path) if isinstance(text, bytes) else text
        self.data: Any = load(self.text, path)
        self._newline = "\r\n" if "\r\n" in self.text else "\n"

    def __bytes__(self) -> bytes:
        return self.text.encode("utf-8")

    def get(self, place: Place, default: Any = None) -> Any:
        """Return the value at a place, or default."""
        value = self.data
        for step in place:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return default
        return value

    def set(self, place: Place, value: str | bool) -> None:
        """Set the scalar at a place. Add the key, and the mappings above it, where missing.

        As every edit, raise PkiError, with the text unchanged, where another value would change, too.
        """
        node, found = self._descend(place)
        if found < len(place):
            self._add(node, place, found, value)
            return
        if not isinstance(node, yaml.ScalarNode):
            raise PkiError("%s is not a single value" % _dotted(place), path=self.path, fix=_BY_HAND)
        if self.get(place) is value or (node.value == value and node.tag == _STRING):
            return
        expected, holder = _expectation(self.data, place)
        holder[place[-1]] = value
        start, end = node.start_mark.index, node.end_mark.index
        if start == end:  # `key:` without a value
            self._change(start, end, " " + _scalar(value), place, expected)
            return
        # A block scalar's end mark lies behind its last line breaks, which have to stay.
        tail = self.text[start:end]
        tail = tail[len(tail.rstrip("\r\n")) :] if node.style in ("|", ">") else ""
        in_flow = _IN_FLOW.match(self.text, end)
        self._change(start, end, _scalar(value, plain=not in_flow) + tail, place, expected)

    def insert(self, place: Place, value: str) -> None:
        """Insert a string into a sequence, before the index at the end of place. The length of the sequence appends."""
        node, found = self._descend(place[:-1])
        if found != len(place) - 1 or not isinstance(node, yaml.SequenceNode):
            raise PkiError("%s is not a list" % _dotted(place[:-1]), path=self.path, fix=_BY_HAND)
        index, items = place[-1], node.value
        expected, holder = _expectation(self.data, place)
        holder.insert(index, value)
        if node.flow_style:
            text = quote(value, plain=False)
            at = items[index].start_mark.index if index < len(items) else node.start_mark.index + 1
            if items and index >= len(items):
                at, text = self._end(items[-1], node), ", " + text
            elif items:
                text += ", "
            self._change(at, at, text, place, expected)
            return
        indent = " " * node.start_mark.column
        if index < len(items):
            at = self._line_start(items[index].start_mark.index)
            self._change(at, at, "%s- %s%s" % (indent, quote(value), self._newline), place, expected)
        else:
            at, lead = self._after(node)
            self._change(at, at, "%s%s- %s%s" % (lead, indent, quote(value), self._newline), place, expected)

    def prepend_item(self, place: Place, item: Mapping[str, str]) -> None:
        """Insert a mapping as the first item of the sequence at place, which must not be empty."""
        node, found = self._descend(place)
        if found != len(place) or not isinstance(node, yaml.SequenceNode) or not node.value:
            raise PkiError("%s is not a list with items" % _dotted(place), path=self.path, fix=_BY_HAND)
        expected, holder = _expectation(self.data, place + (0,))
        holder.insert(0, dict(item))
        if node.flow_style:
            at = self.text.index("[", node.start_mark.index) + 1
            text = "{%s}, " % ", ".join("%s: %s" % (quote(key), quote(value, plain=False)) for key, value in item.items())
        else:
            # A tag or a comment may stand before the first dash.
            dash = _DASH.search(self.text, self._line_start(node.start_mark.index))
            at = dash.start() if dash else node.start_mark.index
            indent = dash.group(1) if dash else ""
            lines = ["%s: %s%s" % (quote(key), quote(value), self._newline) for key, value in item.items()]
            text = "".join("%s%s %s" % (indent, " " if number else "-", line) for number, line in enumerate(lines))
        self._change(at, at, text, place, expected)

    def remove(self, place: Place) -> None:
        """Remove an item of a block sequence, or a key of a block mapping, with its lines."""
        node, found = self._descend(place[:-1])
        if found != len(place) - 1 or not isinstance(node, yaml.CollectionNode) or node.flow_style:
            raise PkiError("%s cannot be removed in place" % _dotted(place), path=self.path, fix="Remove it by hand.")
        if isinstance(node, yaml.SequenceNode):
            parts = [(item, item) for item in node.value]
            number = place[-1] if place[-1] < len(parts) else None
        else:
            parts = node.value
            number = next((n for n, (key, _value) in enumerate(parts) if key.value == place[-1]), None)
        if number is None:
            raise PkiError("there is no %s" % _dotted(place), path=self.path, fix=_BY_HAND)
        expected, holder = _expectation(self.data, place)
        del holder[place[-1]]
        start, last = parts[number][0].start_mark.index, self._end(parts[number][1], node)
        line = self._line_start(start)
        dash = "-" if isinstance(node, yaml.SequenceNode) else ""
        if len(parts) == 1:
            # Without any item the value would be null.
            start = node.start_mark.index
            self._change(start, last, "  []" if dash else "  {}", place, expected)
        elif self.text[line:start].strip() == dash:
            end = last if self.text[last - 1 : last] == "\n" else min(self._line_end(last) + 1, len(self.text))
            self._change(line, end, "", place, expected)
        else:  # after the dash of a list item, which stays
            self._change(start, parts[number + 1][0].start_mark.index, "", place, expected)

    def _root(self) -> Any:
        # The pure Python parser: some versions of libyaml count bytes in their marks.
        loader = yaml.SafeLoader(without_tabs(self.text))
        try:
            return loader.get_node() if loader.check_node() else None
        except yaml.YAMLError as error:
            raise not_yaml(error, self.path) from None
        finally:
            loader.dispose()

    def _descend(self, place: Place) -> tuple[Any, int]:
        """Follow a place as far as it exists. Return (last node, number of steps)."""
        node = self._root()
        for count, step in enumerate(place):
            child = None
            if isinstance(node, yaml.MappingNode):
                # Of a duplicate key, readers take the last.
                child = next((v for k, v in reversed(node.value) if k.value == step and k.tag == _STRING), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                child = node.value[step]
            if child is None or (isinstance(child, yaml.ScalarNode) and child.tag == _NULL and count < len(place) - 1):
                return node, count
            self._no_alias(child, node, place)
            node = child
        return node, len(place)

    def _no_alias(self, child: Any, parent: Any, place: Place) -> None:
        """Raise PkiError where a node is an alias: it begins before its parent."""
        if child.start_mark.index < parent.start_mark.index:
            raise PkiError(
                "%s is an alias of another value, which would change, too" % _dotted(place),
                path=self.path,
                fix="Write the value out where the alias stands.",
            )

    def _add(self, node: Any, place: Place, found: int, value: str | bool) -> None:
        """Add the key place[found] to a mapping node, with mappings below it for the rest of the place."""
        rest = place[found:]
        if not isinstance(node, yaml.MappingNode) or not all(isinstance(step, str) for step in rest):
            raise PkiError("there is no place for %s" % _dotted(place), path=self.path, fix="Add it by hand.")
        inner: Any = value
        for step in reversed(rest[1:]):
            inner = {step: inner}
        expected, holder = _expectation(self.data, place[: found + 1])
        holder[rest[0]] = inner
        existing = next(((k, v) for k, v in reversed(node.value) if k.value == rest[0]), None)
        if node.flow_style:
            text = _scalar(value, plain=False)
            for step in reversed(rest[1:]):
                text = "{%s: %s}" % (quote(step, plain=False), text)
            if existing:
                self._change(existing[1].start_mark.index, existing[1].end_mark.index, " " + text, place, expected)
            else:
                at = node.start_mark.index + 1
                text = "%s: %s%s" % (quote(rest[0], plain=False), text, ", " if node.value else "")
                self._change(at, at, text, place, expected)
        elif existing:  # `annotations:` without a value, or null; a comment on the line stays
            start, end = existing[1].start_mark.index, existing[1].end_mark.index
            line_end = self._line_end(end)
            indent = " " * existing[0].start_mark.column
            text = self.text[end:line_end].rstrip("\r") + self._newline
            text += self._nested(rest[1:], value, indent + "  ").rstrip("\r\n")
            self._change(start, line_end, text, place, expected)
        else:
            first = node.value[0][0].start_mark
            indent = " " * first.column
            # Before the first key: its column is the mapping's, also when the mapping is a list item ("- name: x").
            text = self._nested(rest, value, indent)[len(indent) :] + indent
            self._change(first.index, first.index, text, place, expected)

    def _nested(self, steps: Place, value: str | bool, indent: str) -> str:
        text = ""
        for depth, step in enumerate(steps):
            text += "%s%s%s:" % (indent, "  " * depth, quote(step))
            text += (" " + _scalar(value) if depth == len(steps) - 1 else "") + self._newline
        return text

    def _line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end

    def _end(self, node: Any, parent: Any) -> int:
        """Return where a node's text ends. The end mark of a block collection is the next token, after comments."""
        self._no_alias(node, parent, ("the last item",))
        if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
            return node.end_mark.index
        last = node.value[-1]
        return self._end(last[1] if isinstance(last, tuple) else last, node)

    def _after(self, node: Any) -> tuple[int, str]:
        """Return where a line can be added after a block collection, and the line break that must come first."""
        end = self._end(node, node)
        if self.text[end - 1 : end] == "\n":
            return end, ""
        end = self._line_end(end)
        return (end, self._newline) if end == len(self.text) else (end + 1, "")

    def _change(self, start: int, end: int, replacement: str, place: Place, expected: Any) -> None:
        """Replace text[start:end]. Raise PkiError unless the document then has the expected data."""
        text = self.text[:start] + replacement + self.text[end:]
        try:
            data = load(text, self.path)
        except PkiError:
            data = None
        if not _same(data, expected):
            raise PkiError(
                "%s cannot be changed in place without touching other values" % _dotted(place), path=self.path, fix=_BY_HAND
            )
        self.text, self.data = text, data


def _expectation(data: Any, place: Place) -> tuple[Any, Any]:
    """Return a copy of data, and the collection in it that holds the last step of place.

    Copies only the collections on the way. A part that an alias shares then changes in one place only.
    """
    root = holder = data.copy()
    for step in place[:-1]:
        holder[step] = holder[step].copy()
        holder = holder[step]
    return root, holder


def _same(left: Any, right: Any) -> bool:
    try:
        return left == right
    except RecursionError:  # an alias of a collection that holds it
        return False


def _dotted(place: Place) -> str:
    return ".".join(str(step) for step in place)
