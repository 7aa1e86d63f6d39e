# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module ends: with a result, with one line, or under another interpreter."""

from __future__ import annotations

import types

import pytest
from ansible.module_utils.common import respawn
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError

SECRET = "MIIEpAIBAAKCAQEA"


class Ended(Exception):
    pass


class FakeModule:
    def __init__(self, spec=None, params=None):
        self.result, self.failed, self.warnings = None, None, []
        self.argument_spec, self.params = spec or {}, params or {}

    def warn(self, text):
        self.warnings.append(text)

    def exit_json(self, **result):
        self.result = result
        raise Ended

    def fail_json(self, **result):
        self.failed = result
        raise Ended


def run(function, needs=()):
    fake = FakeModule()
    with pytest.raises(Ended):
        runner.run(fake, function, needs)
    return fake


def raiser(error):
    def function(_module):
        raise error

    return function


def test_a_result_gets_its_seconds_and_its_warnings():
    fake = run(lambda module: {"changed": True, "warnings": ["careful"]})
    assert fake.result["changed"] and fake.result["seconds"] >= 0 and fake.warnings == ["careful"]
    assert "warnings" not in fake.result


def test_an_expected_error_names_file_and_remedy():
    fake = run(raiser(PkiError("is empty", path="/a", fix="Fill it.")))
    assert fake.failed["msg"] == "/a: is empty. Fill it."
    assert (fake.failed["path"], fake.failed["reason"], fake.failed["fix"]) == ("/a", "is empty", "Fill it.")


def test_an_error_of_the_system_is_explained():
    fake = run(raiser(FileNotFoundError(2, "no such file", "/no/such/file")))
    assert fake.failed["msg"] == "/no/such/file: does not exist. Correct the path, or restore the file from a backup set."


def test_an_unexpected_error_is_one_line_without_values():
    fake = run(raiser(ValueError("invalid: %s" % SECRET)))
    assert SECRET not in str(fake.failed) and "ValueError in test_runner.py line" in fake.failed["msg"]
    assert "\n" not in fake.failed["msg"] and "report" in fake.failed["msg"]


@pytest.mark.parametrize(
    "given,meant",
    [
        ("dev, ops", ["dev", "ops"]),
        ("", []),
        (" , ,", []),
        (["dev", " ops", ""], ["dev", "ops"]),
        ([], []),
        ([""], []),
        ("a", ["a"]),
    ],
)
def test_a_list_is_what_its_user_meant(given, meant):
    assert runner.split_list(given) == meant


def test_every_list_of_strings_is_trimmed_before_a_module_sees_it():
    strings = {"type": "list", "elements": "str"}
    spec = {
        "names": strings,
        "days": {"type": "float"},
        "none": strings,
        "paths": {"type": "list", "elements": "path"},
        "leaves": {"type": "list", "elements": "dict", "options": {"sans": strings, "name": {"type": "str"}}},
    }
    params = {
        "names": ["a", " b", ""],
        "days": 3.0,
        "none": None,
        "paths": [" /a"],
        "leaves": [{"sans": [""], "name": " x "}, {"sans": None, "name": "y"}],
    }
    fake = FakeModule(spec, params)
    with pytest.raises(Ended):
        runner.run(fake, lambda module: {"params": dict(module.params)}, ())
    assert fake.result["params"] == {
        "names": ["a", "b"],
        "days": 3.0,
        "none": None,
        "paths": ["/a"],
        "leaves": [{"sans": [], "name": " x "}, {"sans": None, "name": "y"}],
    }


class TestLibraries:
    @pytest.fixture
    def world(self, monkeypatch):
        world = types.SimpleNamespace(respawned=False, other=None, started=None, probed=None, found={})

        def find(name):
            if name not in world.found:
                raise ImportError(name)
            return types.SimpleNamespace(__version__=world.found[name])

        def probe(paths, names):
            world.probed = (list(paths), names)
            return world.other

        def start(path):
            world.started = path
            raise Ended

        monkeypatch.setattr(runner.importlib, "import_module", find)
        monkeypatch.setattr(respawn, "has_respawned", lambda: world.respawned)
        monkeypatch.setattr(respawn, "probe_interpreters_for_module", probe)
        monkeypatch.setattr(respawn, "respawn_module", start)
        return world

    def test_they_are_there(self, world):
        world.found = {"cryptography": "3.4.8", "yaml": "5.3"}
        assert run(lambda module: {}, ("cryptography", "yaml")).result is not None and world.probed is None

    def test_another_interpreter_has_them(self, world):
        world.other = "/usr/bin/python3.9"
        fake = run(lambda module: {}, ("cryptography", "yaml"))
        assert world.started == "/usr/bin/python3.9" and fake.failed is None
        assert world.probed[1] == "cryptography, yaml" and runner.sys.executable not in world.probed[0]

    @pytest.mark.parametrize("respawned", [False, True])
    def test_none_has_them(self, world, respawned):
        world.respawned, world.found = respawned, {"yaml": "6.0"}
        fake = run(lambda module: {}, ("cryptography", "yaml"))
        assert "Install python3-cryptography, or let the playbook check_expiry" in fake.failed["msg"]
        assert "yaml" not in fake.failed["reason"] and (world.probed is None) == respawned

    def test_one_is_too_old(self, world):
        world.found = {"cryptography": "2.8", "yaml": "5.3"}
        assert "older than 3.4" in run(lambda module: {}, ("cryptography", "yaml")).failed["msg"]


DIRECTORY = {"type": "path", "default": "/var/lib/kubepki"}


@pytest.mark.parametrize(
    "option, value",
    [
        (DIRECTORY, ""),
        (DIRECTORY, "backups"),
        ({"type": "float"}, float("nan")),
        ({"type": "float"}, float("inf")),
        ({"type": "float"}, float("-inf")),
        ({"type": "float"}, -1.0),
    ],
)
def test_paths_from_nowhere_and_numbers_that_are_none_are_refused(option, value):
    nested = {"leaves": {"type": "list", "elements": "dict", "options": {"given": option}}}
    for spec, params, name in (
        ({"given": option}, {"given": value}, "given"),
        (nested, {"leaves": [{"given": value}]}, "leaves[0].given"),
    ):
        fake = FakeModule(spec, params)
        with pytest.raises(Ended):
            runner.run(fake, lambda module: {}, ())
        assert fake.result is None and "the option %s is " % name in fake.failed["msg"] and fake.failed["fix"]


def test_an_option_that_is_left_out_is_not_judged():
    spec = {"dir": {"type": "path"}, "days": {"type": "float", "default": 90}, "leaves": {"type": "list", "options": {}}}
    for params in ({"dir": None, "days": 90.0, "leaves": None}, {"dir": "", "days": 0.0, "leaves": []}, {"dir": "a/b"}):
        fake = FakeModule(spec, params)
        with pytest.raises(Ended):
            runner.run(fake, lambda module: {}, ())
        assert fake.failed is None
