# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read YAML, and change single values in it while every other byte stays: comments, order, quoting.

Manifests, kubeconfigs and kubelet configurations belong to the user and to kubeadm. A parse and a dump would lose what
they wrote; this edits the text at the positions the parser reports.
"""

from __future__ import annotations

import re

from ..errors import PkiError
from .yaml_load import HAS_YAML, decode, load, not_yaml, without_tabs

if HAS_YAML:
    import yaml

# What readers of YAML 1.1 and 1.2 (Go's yaml.v2 and v3 among them) take for a plain string without doubt.
_PLAIN = re.compile(r"(--)?[A-Za-z/_][A-Za-z0-9/_.=:+@-]*")

_DASH = re.compile(r"^( *)-(?=[ \t\r\n])", re.MULTILINE)

_IN_FLOW = re.compile(r"\s*[],}]")

_NOT_PLAIN = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}

_BY_HAND = "Correct it by hand."


def quote(value, plain=True):
    """Give a string as one YAML scalar: plain where that is safe (and asked for), double-quoted in ASCII otherwise."""
    if plain and _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN and not value.endswith(":"):
        return value
    return '"%s"' % "".join(_ESCAPES.get(char) or (char if " " <= char <= "~" else "\\U%08x" % ord(char)) for char in value)


def _scalar(value, plain=True):
    return str(value).lower() if isinstance(value, bool) else quote(value, plain)


_STRING, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


class YamlText:
    """A YAML document as text that can be edited in place.

    A place is a tuple of keys (str) and indexes (int), such as ("spec", "containers", 0, "command", 3).
    """

    def __init__(self, text, path):
        """Take the document (str or bytes) and the path that errors name. Raises PkiError unless it is YAML."""
        self.path = path
        self.text = decode(text, path) if isinstance(text, bytes) else text
        self.data = load(self.text, path)
        self._newline = "\r\n" if "\r\n" in self.text else "\n"

    def __bytes__(self):
        return self.text.encode("utf-8")

    def get(self, place, default=None):
        """Give the value at a place, or default where there is none."""
        value = self.data
        for step in place:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return default
        return value

    def set(self, place, value):
        """Give the value (str or bool) to a scalar at place, adding the key (and mappings above it) where missing.

        As every edit: raises PkiError, with the text as it was, where the value cannot be changed without touching another.
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
        if start == end:  # `key:` with nothing behind it
            self._change(start, end, " " + _scalar(value), place, expected)
            return
        # A block scalar's end mark lies behind its last line breaks, which have to stay.
        tail = self.text[start:end]
        tail = tail[len(tail.rstrip("\r\n")) :] if node.style in ("|", ">") else ""
        in_flow = _IN_FLOW.match(self.text, end)
        self._change(start, end, _scalar(value, plain=not in_flow) + tail, place, expected)

    def insert(self, place, value):
        """Insert a string value in a sequence, before the index that place ends with (its length appends)."""
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

    def prepend_item(self, place, item):
        """Insert a mapping of names and texts as the first item of the sequence at place, which has others."""
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

    def remove(self, place):
        """Remove an item of a block sequence, or a key of a block mapping, with its whole lines."""
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
            # Nothing in its place would be null.
            start = node.start_mark.index
            self._change(start, last, "  []" if dash else "  {}", place, expected)
        elif self.text[line:start].strip() == dash:
            end = last if self.text[last - 1 : last] == "\n" else min(self._line_end(last) + 1, len(self.text))
            self._change(line, end, "", place, expected)
        else:  # behind the dash of a list item, which stays
            self._change(start, parts[number + 1][0].start_mark.index, "", place, expected)

    def _root(self):
        # The pure Python parser: libyaml's marks count bytes in some versions.
        loader = yaml.SafeLoader(without_tabs(self.text))
        try:
            return loader.get_node() if loader.check_node() else None
        except yaml.YAMLError as error:
            raise not_yaml(error, self.path) from None
        finally:
            loader.dispose()

    def _descend(self, place):
        """Walk as far down a place as the document goes: gives the last node and how many steps were taken."""
        node = self._root()
        for count, step in enumerate(place):
            child = None
            if isinstance(node, yaml.MappingNode):
                # Of a key that is there twice, readers take the last.
                child = next((v for k, v in reversed(node.value) if k.value == step and k.tag == _STRING), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                child = node.value[step]
            if child is None or (isinstance(child, yaml.ScalarNode) and child.tag == _NULL and count < len(place) - 1):
                return node, count
            self._no_alias(child, node, place)
            node = child
        return node, len(place)

    def _no_alias(self, child, parent, place):
        if child.start_mark.index < parent.start_mark.index:
            raise PkiError(
                "%s is an alias of another value, which would change, too" % _dotted(place),
                path=self.path,
                fix="Write the value out where the alias stands.",
            )

    def _add(self, node, place, found, value):
        """Add the key place[found] to a mapping node, with mappings below it for the rest of the place."""
        rest = place[found:]
        if not isinstance(node, yaml.MappingNode) or not all(isinstance(step, str) for step in rest):
            raise PkiError("there is no place for %s" % _dotted(place), path=self.path, fix="Add it by hand.")
        inner = value
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
        elif existing:  # `annotations:`, with nothing or null behind it; a comment on the line stays
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

    def _nested(self, steps, value, indent):
        text = ""
        for depth, step in enumerate(steps):
            text += "%s%s%s:" % (indent, "  " * depth, quote(step))
            text += (" " + _scalar(value) if depth == len(steps) - 1 else "") + self._newline
        return text

    def _line_start(self, index):
        return self.text.rfind("\n", 0, index) + 1

    def _line_end(self, index):
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end

    def _end(self, node, parent):
        """Where a node's own text ends. A block collection's end mark is where the next token begins, behind comments."""
        self._no_alias(node, parent, ("the last item",))
        if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
            return node.end_mark.index
        last = node.value[-1]
        return self._end(last[1] if isinstance(last, tuple) else last, node)

    def _after(self, node):
        """Where a line can be added behind a block collection, and the line break that has to come first there."""
        end = self._end(node, node)
        if self.text[end - 1 : end] == "\n":
            return end, ""
        end = self._line_end(end)
        return (end, self._newline) if end == len(self.text) else (end + 1, "")

    def _change(self, start, end, replacement, place, expected):
        """Replace text[start:end], and make sure that the document then says what it said but for the one change."""
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


def _expectation(data, place):
    """Give a copy of data, and what in it holds the last step of place.

    Only what lies on the way is copied: where an alias shares a part of it, the copy changes in one place alone.
    """
    root = holder = data.copy()
    for step in place[:-1]:
        holder[step] = holder[step].copy()
        holder = holder[step]
    return root, holder


def _same(left, right):
    try:
        return left == right
    except RecursionError:  # an alias of something that holds it
        return False


def _dotted(place):
    return ".".join(str(step) for step in place)
