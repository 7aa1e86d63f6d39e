# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read YAML, and change single values in it while every other byte stays: comments, order, quoting.

Manifests, kubeconfigs and kubelet configurations belong to the user and to kubeadm. A parse and a dump would lose what
they wrote; this edits the text at the positions the parser reports.
"""

from __future__ import annotations

__metaclass__ = type

import json
import re

from .errors import PkiError

try:
    import yaml
    HAS_YAML = True
except ImportError:  # reported by the module, which can look for another interpreter first
    HAS_YAML = False

# What YAML 1.1 readers take for a plain string without doubt.
_PLAIN = re.compile(r"^[A-Za-z/_.][A-Za-z0-9/_.=:+-]*$")
_NOT_PLAIN = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def quote(value):
    """Give a string as one YAML scalar: plain where that is safe, double-quoted (as in JSON) otherwise."""
    if _PLAIN.match(value) and value.lower() not in _NOT_PLAIN and not value.endswith(":") and ": " not in value:
        return value
    return json.dumps(value)


def load(text, path):
    """Give a YAML document as Python data. text: str or bytes. Raises PkiError naming path, line and column."""
    if isinstance(text, bytes):
        text = _decode(text, path)
    loader = None
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # libyaml's where it is built in: ten times faster
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise _not_yaml(error, path) from None
    except (ValueError, RecursionError) as error:  # impossible dates, numbers, depth
        raise PkiError("is not readable YAML (%s)" % error, path=path, fix="Correct it, or restore it from a backup.") from None
    finally:
        if loader is not None:
            loader.dispose()


def load_mapping(text, path):
    """Give a YAML document that has to be a mapping. Raises PkiError if it is anything else."""
    data = load(text, path)
    if not isinstance(data, dict):
        raise PkiError("is not a YAML mapping", path=path, fix="Correct it, or restore it from a backup.")
    return data


def _decode(data, path):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise PkiError("is not text in UTF-8", path=path, fix="Restore it from a backup.") from None


def _not_yaml(error, path):
    # The parser's own message would quote the line, which may be key data: say where, not what.
    mark = getattr(error, "problem_mark", None)
    where = "line %d, column %d" % (mark.line + 1, mark.column + 1) if mark else "position unknown"
    return PkiError("is not YAML (%s, %s)" % (getattr(error, "problem", None) or "unreadable", where), path=path,
                    fix="Correct it, or restore it from a backup.")


class YamlText:
    """A YAML document as text that can be edited in place.

    A place is a tuple of keys (str) and indexes (int), such as ("spec", "containers", 0, "command", 3).
    """

    def __init__(self, text, path):
        """Take the document (str or bytes) and the path that errors name. Raises PkiError unless it is YAML."""
        self.path = path
        self.text = _decode(text, path) if isinstance(text, bytes) else text
        self.data = load(self.text, path)

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
        """Give the string value to a scalar at place, adding the key (and mappings above it) where missing."""
        parent, found = self._descend(place)
        if found == len(place):
            node = parent
            if not isinstance(node, yaml.ScalarNode):
                raise PkiError("%s is not a single value" % _dotted(place), path=self.path, fix="Correct it by hand.")
            if node.value == value and node.tag == "tag:yaml.org,2002:str":
                return
            start, end = node.start_mark.index, node.end_mark.index
            # A block scalar's end mark lies behind its last newline, which has to stay.
            tail = "\n" if self.text[start:end].endswith("\n") else ""
            self._splice(start, end, quote(value) + tail)
        else:
            self._add(parent, place[found:], value, place)

    def insert(self, place, value):
        """Insert a string value in a sequence, before the index that place ends with (its length appends)."""
        node, found = self._descend(place[:-1])
        if found != len(place) - 1 or not isinstance(node, yaml.SequenceNode):
            raise PkiError("%s is not a list" % _dotted(place[:-1]), path=self.path, fix="Correct it by hand.")
        index = place[-1]
        if node.flow_style:
            if index < len(node.value):
                at = node.value[index].start_mark.index
                self._splice(at, at, quote(value) + ", ")
            else:
                at = node.value[-1].end_mark.index if node.value else node.start_mark.index + 1
                self._splice(at, at, (", " if node.value else "") + quote(value))
            return
        indent = " " * node.start_mark.column
        at = self._line_start(node.value[index].start_mark.index) if index < len(node.value) else self._block_end(node)
        self._splice(at, at, "%s- %s\n" % (indent, quote(value)))

    def remove(self, place):
        """Remove an item of a block sequence, or a key of a block mapping, with its whole lines."""
        node, found = self._descend(place[:-1])
        if found != len(place) - 1 or node.flow_style:
            raise PkiError("%s cannot be removed in place" % _dotted(place), path=self.path, fix="Remove it by hand.")
        if isinstance(node, yaml.SequenceNode):
            start, child = node.value[place[-1]].start_mark.index, node.value[place[-1]]
        else:
            start, child = next((k.start_mark.index, v) for k, v in node.value if k.value == place[-1])
        end = child.end_mark.index
        if self.text[end - 1:end] != "\n":
            newline = self.text.find("\n", end)
            end = len(self.text) if newline < 0 else newline + 1
        self._splice(self._line_start(start), end, "")

    def _root(self):
        # The pure Python parser: libyaml's marks count bytes in some versions.
        return yaml.compose(self.text, Loader=yaml.SafeLoader)

    def _descend(self, place):
        """Walk as far down a place as the document goes: gives the last node and how many steps were taken."""
        node = self._root()
        for count, step in enumerate(place):
            child = None
            if isinstance(node, yaml.MappingNode):
                child = next((v for k, v in node.value if k.value == step), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                child = node.value[step]
            if child is None or (isinstance(child, yaml.ScalarNode) and child.tag == "tag:yaml.org,2002:null"
                                 and count < len(place) - 1):
                return node, count
            node = child
        return node, len(place)

    def _add(self, node, rest, value, place):
        if not isinstance(node, yaml.MappingNode) or not all(isinstance(step, str) for step in rest):
            raise PkiError("there is no place for %s" % _dotted(place), path=self.path, fix="Add it by hand.")
        existing = next(((k, v) for k, v in node.value if k.value == rest[0]), None)
        if existing:  # `annotations:` with nothing behind it
            indent = " " * existing[0].start_mark.column
            at = self._line_end(existing[0].end_mark.index)
            start = existing[0].end_mark.index + 1
            self._splice(start, at, "\n" + _nested(rest[1:], value, indent + "  ").rstrip("\n"))
        elif node.flow_style:
            at = node.start_mark.index + 1
            text = quote(value)
            for step in reversed(rest[1:]):
                text = "{%s: %s}" % (quote(step), text)
            self._splice(at, at, "%s: %s%s" % (quote(rest[0]), text, ", " if node.value else ""))
        else:
            first = node.value[0][0]
            indent = " " * first.start_mark.column
            at = first.start_mark.index
            text = _nested(rest, value, indent)
            # Before the first key: its column is the mapping's, also when the mapping is a list item ("- name: x").
            self._splice(at, at, text[len(indent):] + indent)

    def _line_start(self, index):
        return self.text.rfind("\n", 0, index) + 1

    def _line_end(self, index):
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end

    def _block_end(self, node):
        end = node.value[-1].end_mark.index
        if self.text[end - 1:end] == "\n":
            return end
        end = self._line_end(end)
        if end == len(self.text):
            self.text += "\n"
        return end + 1

    def _splice(self, start, end, replacement):
        self.text = self.text[:start] + replacement + self.text[end:]
        self.data = load(self.text, self.path)


def _nested(steps, value, indent):
    text = ""
    for depth, step in enumerate(steps):
        text += "%s%s%s:" % (indent, "  " * depth, quote(step))
        text += " %s\n" % quote(value) if depth == len(steps) - 1 else "\n"
    return text


def _dotted(place):
    return ".".join(str(step) for step in place)
