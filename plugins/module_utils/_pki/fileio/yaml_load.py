# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read YAML documents (PyYAML), with errors that name line and column and never quote the line."""

from __future__ import annotations

import json
from typing import Any

from ..errors import PkiError

try:
    import yaml

    HAS_YAML = True
except ImportError:  # runner.run() reports it, after it looked for another interpreter
    HAS_YAML = False

_FIX = "Correct it, or restore it from a backup."

_MOST_MERGED = 10000  # pairs that the merge keys (<<) of a document may copy

_TAG = "tag:yaml.org,2002:"

# Numbers with many digits take long to compute, and as keys they can be chosen to have one hash value.
_COMPUTED = (_TAG + "int", _TAG + "float", _TAG + "timestamp")

if HAS_YAML:

    class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's: ten times faster
        """A safe loader that limits how much merge keys copy.

        PyYAML up to 6.0.2 copies the pairs of an alias each time that it is merged: 500 bytes can take all memory.
        """

        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            """Resolve the merge keys of a mapping node. Raise ConstructorError where they copy too much."""
            for key, value in node.value:
                if key.tag == _TAG + "merge":
                    for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                        if isinstance(source, yaml.MappingNode):
                            self.flatten_mapping(source)
                            self.merged += 1 + len(source.value)
                        if self.merged > _MOST_MERGED:
                            raise yaml.constructor.ConstructorError(
                                None, None, "its merge keys copy more than %d values" % _MOST_MERGED, node.start_mark
                            )
            super().flatten_mapping(node)

    class _PlainLoader(_Loader):
        """A loader for files of other users: numbers and dates stay text, so that the time depends on the size alone."""

        yaml_implicit_resolvers = {
            first: [pair for pair in pairs if pair[0] not in _COMPUTED]
            for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    for _tag in _COMPUTED:  # written out: !!int
        _PlainLoader.add_constructor(_tag, yaml.SafeLoader.construct_yaml_str)


def load(text: str | bytes, path: str | None, several: bool = True, plain: bool = False) -> Any:
    """Return the first document as Python data, as Kubernetes' components read it (sigs.k8s.io/yaml).

    several: accept further documents. plain: keep numbers and dates as text, for files of other users. Raise PkiError with path,
    line and column.
    """
    if isinstance(text, bytes):
        text = decode(text, path)
    loader = None
    try:
        loader = (_PlainLoader if plain else _Loader)(without_tabs(text))
        data = loader.get_data() if loader.check_data() else None
        # True where another document follows. Raises where the rest is not YAML.
        if loader.check_data() and not several:
            raise PkiError("holds several documents", path=path, fix="Put all of it into one.")
        return data
    except yaml.YAMLError as error:
        raise not_yaml(error, path) from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # Impossible dates, numbers, tags or depth: the parser passes on Python's errors, which quote the text.
        raise PkiError("is not readable YAML: it holds an impossible value", path=path, fix=_FIX) from None
    finally:
        if loader is not None:
            loader.dispose()


def without_tabs(text: str) -> str:
    """Return a JSON document with a blank for each tab, and any other text unchanged.

    YAML allows no tab between two values, and JSON none inside one. Positions and values therefore stay the same.
    """
    if "\t" not in text or text.lstrip()[:1] != "{":
        return text
    try:
        json.loads(text, parse_int=str, parse_float=str)  # a number of many digits takes long to compute
    except (ValueError, RecursionError):
        return text
    return text.replace("\t", " ")


def load_mapping(text: str | bytes, path: str | None, several: bool = True, plain: bool = False) -> dict[Any, Any]:
    """Return a document as load(). Raise PkiError unless it is a mapping."""
    data = load(text, path, several, plain)
    if not isinstance(data, dict):
        raise PkiError("is not a YAML mapping", path=path, fix=_FIX)
    return data


def decode(data: bytes, path: str | None) -> str:
    """Return UTF-8 bytes as text. Raise PkiError."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise PkiError("is not text in UTF-8", path=path, fix="Restore it from a backup.") from None


def not_yaml(error: Exception, path: str | None) -> PkiError:
    """Return the PkiError for an error of the YAML parser."""
    # Without the parser's message, which quotes the line: it may be key material.
    mark = getattr(error, "problem_mark", None)
    where = "line %d, column %d" % (mark.line + 1, mark.column + 1) if mark else "position unknown"
    return PkiError("is not YAML (%s, %s)" % (getattr(error, "problem", None) or "unreadable", where), path=path, fix=_FIX)
