# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation tells people to type and to write, found and judged.

Every fenced block and every command in running text is of a kind that is known here, and is judged by what the code declares:
playbooks by their variables, modules by their options, tools by their own argument parsers. A kind that is not known raises
Unfit, so that somebody has to decide how it is to be tested. What takes a process (a syntax check, `make -n`) is in
tests/integration/test_docs.py.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import re
import shlex
from pathlib import Path

import yaml
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import playbook_variables, variable_review

from tools import reference, run_ansible_test

ROOT = Path(__file__).resolve().parents[3]

FENCE = re.compile(r"^( *)(`{3,})([^`\n]*)\n(.*?)^\1\2`* *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
HOME = "https://github.com/kubepki/kubepki.lifecycle/blob/main/"

VARIABLES = playbook_variables.read_variables()
NAMESPACE = playbook_variables.NAMESPACE
PLAYBOOKS = sorted(playbook_variables.read_playbooks())
INTERNAL = "plugins/modules/internal"
MODULES = {**reference.modules(), **{f"internal.{name}": document for name, document in reference.modules(INTERNAL).items()}}


class Unfit(Exception):
    """Something in the documentation that is not so, or that nobody knows how to judge."""


def pages() -> list[Path]:
    """Every page of the project that people write or read, but the changelog."""
    return [ROOT / path for path in run_ansible_test.source_files() if path.suffix == ".md" and path.name != "CHANGELOG.md"]


# ---- finding ----


class Block:
    """A fenced block: its page, the line of its fence, its language ("" when it has none) and its text."""

    def __init__(self, page: Path, line: int, language: str, text: str):
        self.page, self.line, self.language, self.text = page, line, language, text

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def internal_examples() -> list[Block]:
    """Return the EXAMPLES of the internal modules, which are on no page."""
    return [
        Block(ROOT / INTERNAL / f"{name}.py", 1, "yaml", document["examples"])
        for name, document in reference.modules(INTERNAL).items()
    ]


def blocks(text: str, page: Path = ROOT / "page.md") -> list[Block]:
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found.group(3).strip(), found.group(4))
        for found in FENCE.finditer(text)
    ]


def without_fences(text: str) -> str:
    """The running text of a page; lines keep their numbers."""
    return FENCE.sub(lambda found: "\n" * found.group(0).count("\n"), text)


def commands(text: str) -> list[str]:
    """The command lines of a shell block: continued lines joined, comments and empty lines left out."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise Unfit(f"{line}: {error}") from error
        if words:
            found.append(shlex.join(words))
    return found


def said_in_passing(text: str) -> list[str]:
    """Commands in running text: `a / b NODE` are two of them, [what may be left out] is there."""
    found = []
    for span in INLINE.findall(without_fences(text)):
        words = span.split()
        if len(words) > 1 and program(words[0]) in JUDGES:
            span = re.sub(r"[\[\]]", "", span)
            either = re.fullmatch(r"(.* )(\S+) / (\S+)(.*)", span)
            found += [either.group(1) + either.group(number) + either.group(4) for number in (2, 3)] if either else [span]
    return found


def settings(text: str) -> list[tuple[str, str]]:
    """Every `kubepki_name=value` in running text."""
    spans = re.findall(r"`(?:-e )?(kubepki_[a-z_]+)=([^`\s]*)`", without_fences(text))
    return [(name, value) for name, value in spans if value]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#* *$", without_fences(text), re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while f"{name}-{number}" in found or (number == 0 and name in found):
            number += 1
        found.add(f"{name}-{number}" if number else name)
    return found


def dead_links(text: str, page: Path) -> list[str]:
    """Relative links, links into the repository and anchors that lead nowhere."""
    dead = []
    for target in LINK.findall(without_fences(text)):
        path, _hash, anchor = target.partition("#")
        if path.startswith(HOME):
            there = ROOT / path[len(HOME) :]
        elif re.match(r"[a-z]+:", path):
            continue
        else:
            there = (page.parent / path).resolve() if path else page
        if there != page and not there.exists():
            found = False
        elif anchor and there.suffix == ".md":
            found = anchor in anchors(text if there == page else there.read_text())
        else:
            found = True
        if not found:
            dead.append(target)
    return dead


# ---- judging commands ----


def program(word: str) -> str:
    """The program of a command, wherever an environment keeps it."""
    name = re.sub(r"^(\.?[a-z]+/bin/|/usr/bin/)", "", word)
    return "python" if name == "python3" else name


def judge(command: str) -> tuple[str, list[str]]:
    """Say what kind of command it is. Gives (program, its arguments); raises Unfit for what is wrong or unknown."""
    words = shlex.split(command)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if [word for word in words if word in ("|", "||", "&&", ";", ">", ">>", "<", "&")]:
        raise Unfit(f"{command}: a kind of command that no test knows (one command a line)")
    name = program(words[0]) if words else ""
    if name not in JUDGES:
        raise Unfit(f"{command}: a kind of command that no test knows")
    JUDGES[name](command, words[1:])
    return name, words[1:]


def _parsed(command: str, parser, arguments: list[str]):
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return parser.parse_args(arguments)
    except SystemExit as error:
        raise Unfit(f"{command}: {told.getvalue().strip().splitlines()[-1]}") from error


def _cli(command: str, module: str, name: str, arguments: list[str]):
    """What the parser of an Ansible command makes of arguments."""
    cli = getattr(importlib.import_module(f"ansible.cli.{module}"), name)([module, *arguments])
    cli.init_parser()
    return _parsed(command, cli.parser, arguments)


def extra_variables(given: list[str]) -> dict[str, object]:
    """What `-e` says, in each of its forms."""
    found: dict[str, object] = {}
    for text in given:
        if text.startswith("@"):
            raise Unfit(f"-e {text}: a file that the documentation does not have")
        if text.startswith(("{", "[")):
            found.update(yaml.safe_load(text))
        else:
            for word in shlex.split(text):
                name, equals, value = word.partition("=")
                if not equals:
                    raise Unfit(f"-e {text}: {word} has no value")
                found[name] = value
    return found


def variable(name: str, value: object, playbook: str | None = None) -> None:
    """Raise Unfit unless a playbook (this one) reads the variable, and it may have this value."""
    if name not in VARIABLES:
        raise Unfit(f"{name}: no playbook reads it")
    if playbook and playbook not in VARIABLES[name].playbooks:
        raise Unfit(f"{name}: {playbook} does not read it")
    specs = [VARIABLES[name].specification(each) for each in ([playbook] if playbook else VARIABLES[name].playbooks)]
    faults = [variable_review.find_fault(value, spec) for spec in specs]
    if all(faults):
        raise Unfit(f"{name}={value}: is no {faults[0]}")


def _playbook(command: str, arguments: list[str]) -> None:
    options = _cli(command, "playbook", "PlaybookCLI", arguments)
    for name in options.args:
        if name.startswith(NAMESPACE):
            if name[len(NAMESPACE) :] not in PLAYBOOKS:
                raise Unfit(f"{command}: there is no playbook {name}")
        elif not (ROOT / name).is_file():
            raise Unfit(f"{command}: there is no file {name}")
    given = extra_variables(options.extra_vars)
    for name, value in given.items():
        if name.startswith("kubepki_"):
            for playbook in options.args:
                variable(
                    name,
                    value,
                    playbook[len(NAMESPACE) :] if playbook.startswith(NAMESPACE) else None,
                )


def _adhoc(command: str, arguments: list[str]) -> None:
    # `ansible -m ping` in running text names no hosts.
    options = _cli(command, "adhoc", "AdHocCLI", arguments if arguments[0] != "-m" else ["all", *arguments])
    module_arguments(command, options.module_name, extra_variables([options.module_args] if options.module_args else []))


def module_arguments(where: str, name: str, given: dict) -> None:
    """Raise Unfit unless a module of this collection has these options, with values they may have. Others are not judged."""
    if not name.startswith(NAMESPACE):
        if "." in name and not name.startswith("ansible.builtin."):
            raise Unfit(f"{where}: {name} is in a collection that nobody has")
        return
    document = MODULES.get(name[len(NAMESPACE) :])
    if document is None:
        raise Unfit(f"{where}: there is no module {name}")
    for option, value in given.items():
        if option not in document["options"]:
            raise Unfit(f"{where}: {name} has no option {option}")
        choices = document["options"][option].get("choices")
        values = value if isinstance(value, list) else str(value).split(",")
        if choices and "{{" not in str(value) and [one for one in values if one not in choices]:
            raise Unfit(f"{where}: {option}={value} of {name} is not one of {choices}")


def _galaxy(command: str, arguments: list[str]) -> None:
    options = _cli(command, "galaxy", "GalaxyCLI", arguments)
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    if options.action == "install":
        for name in options.args:
            if name != "kubepki.lifecycle" and Path(name).name != f"kubepki-lifecycle-{version}.tar.gz":
                raise Unfit(f"{command}: {name} is neither the collection nor its archive (version {version})")


def _doc(command: str, arguments: list[str]) -> None:
    options = _cli(command, "doc", "DocCLI", arguments)
    for name in options.args:
        module_arguments(command, name, {})


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _make(command: str, arguments: list[str]) -> None:
    for word in arguments:
        name, equals, _value = word.partition("=")
        if equals and not re.search(rf"^{name} \?=", (ROOT / "Makefile").read_text(), re.MULTILINE):
            raise Unfit(f"{command}: the Makefile does not take {name}")
        if not equals and word not in make_targets():
            raise Unfit(f"{command}: the Makefile has no target {word}")


def _python(command: str, arguments: list[str]) -> None:
    if arguments[0].endswith(".py"):
        if not (ROOT / arguments[0]).is_file():
            raise Unfit(f"{command}: there is no file {arguments[0]}")
        return
    if arguments[0] != "-m" or arguments[1] not in PYTHON_MODULES:
        raise Unfit(f"{command}: a kind of command that no test knows")
    PYTHON_MODULES[arguments[1]](command, arguments[2:])


def _lab(command: str, arguments: list[str]) -> None:
    from tests.lab import cli

    _parsed(command, cli.parser(), ["3" if word == "N" else word for word in arguments])


def _pytest(command: str, arguments: list[str]) -> None:
    for word in arguments:
        if "/" in word and not (ROOT / word).exists():
            raise Unfit(f"{command}: there is no {word}")


def _pip(command: str, arguments: list[str]) -> None:
    required = {re.split(r"[<>=]", line)[0] for line in (ROOT / "requirements.txt").read_text().splitlines()}
    words = iter(arguments[1:])
    if arguments[0] not in ("install", "download"):
        raise Unfit(f"{command}: a kind of command that no test knows")
    for word in words:
        if word == "-r":
            name = next(words)
            if not (ROOT / name).is_file():
                raise Unfit(f"{command}: there is no file {name}")
        elif word in ("--dest", "--find-links"):
            next(words)
        elif word not in ("--no-index",) and word not in required | {"ansible-core"}:
            raise Unfit(f"{command}: {word} is not what this collection needs")


def _venv(command: str, arguments: list[str]) -> None:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise Unfit(f"{command}: a kind of command that no test knows")


def _systemd(command: str, arguments: list[str]) -> None:
    """Looking at, or starting, what schedule_report installs."""
    names = {
        f"{VARIABLES['kubepki_timer_name'].meanings[0].spec['default']}.{path.name.split('.')[1]}"
        for path in (ROOT / "roles/report_timer/templates").iterdir()
    }
    if len(arguments) == 1 and arguments[0] == "--failed":
        return
    known = len(arguments) == 2 and arguments[0] in ("start", "status", "list-timers", "-u")
    if not known or arguments[1] not in names | {"kubelet"}:
        raise Unfit(f"{command}: neither a way to look at nor the name of a unit ({', '.join(sorted(names))})")


PYTHON_MODULES = {"tests.lab": _lab, "pytest": _pytest, "pip": _pip, "venv": _venv}
JUDGES = {
    "ansible-playbook": _playbook,
    "ansible": _adhoc,
    "ansible-galaxy": _galaxy,
    "ansible-doc": _doc,
    "make": _make,
    "python": _python,
    "systemctl": _systemd,
    "journalctl": _systemd,
}


# ---- judging blocks ----


class OnlyOnce(yaml.SafeLoader):
    """YAML in which a key may stand once."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _value in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if len(keys) != len({str(key) for key in keys}):
            raise Unfit(f"a key stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def plays(block: Block) -> list[dict]:
    """The plays of a YAML block, for a syntax check: its own, or one around its tasks. [] for what is no playbook."""
    documents = list(yaml.load_all(block.text, OnlyOnce))
    found = []
    for document in documents:
        if isinstance(document, list) and all({"hosts", "ansible.builtin.import_playbook"} & set(item) for item in document):
            found += document
        elif isinstance(document, list):
            found.append({"name": str(block), "hosts": "all", "gather_facts": False, "tasks": document})
    return found


def tasks(document) -> list[dict]:
    """Every task of plays, tasks or blocks, at any depth."""
    found = []
    for item in document:
        inner = [item[key] for key in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always") if key in item]
        found += [task for part in inner for task in tasks(part)] if inner else [item]
    return found


def _yaml(block: Block) -> None:
    try:
        documents = list(yaml.load_all(block.text, OnlyOnce))
    except yaml.YAMLError as error:
        raise Unfit(f"not YAML: {error}") from error
    for document in documents:
        if isinstance(document, list) and all(isinstance(item, dict) for item in document):
            for task in tasks(document):
                for key, value in task.items():
                    if "." in key:
                        module_arguments(str(block), key, value if isinstance(value, dict) else {})
        elif isinstance(document, dict) and set(document) == {"version", "rules"}:
            _policy(block.text)
        elif isinstance(document, dict) and all(str(key).startswith("kubepki_") for key in document):
            for name, value in document.items():
                variable(name, value)
        else:
            raise Unfit("YAML of a kind that no test knows: neither plays, tasks, variables nor a policy")


def _policy(text: str) -> None:
    library = importlib.import_module("ansible_collections.kubepki.lifecycle.plugins.module_utils._pki")
    csr_policy = importlib.import_module(library.__name__ + ".kube_api.csr_policy")
    errors = importlib.import_module(library.__name__ + ".errors")
    try:
        csr_policy.parse_policy(text.encode(), "policy")
    except errors.PkiError as error:
        raise Unfit(str(error)) from error


def _python_code(block: Block) -> None:
    try:
        tree = ast.parse(block.text)
    except SyntaxError as error:
        raise Unfit(f"not Python: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    raise Unfit(f"{node.module} has no {alias.name}")


def _json(block: Block) -> None:
    try:
        json.loads(block.text)
    except ValueError as error:
        raise Unfit(f"not JSON: {error}") from error


def _shell(block: Block) -> None:
    for command in commands(block.text):
        judge(command)


def _inventory(block: Block) -> None:
    groups = {name.partition(":")[0] for name in re.findall(r"^\[(.+)\]$", block.text, re.MULTILINE)}
    if not groups or groups - {"kube_control_plane", "kube_node", "etcd", "all"}:
        raise Unfit(f"an inventory with the groups {sorted(groups)}")


def _picture(block: Block) -> None:
    if not re.match(r"flowchart (TD|LR)\n", block.text):
        raise Unfit("a picture of a kind that no test knows")
    named = re.findall(r"^ *(\w+)[\[(]", block.text, re.MULTILINE)
    if len(named) != len(set(named)):
        raise Unfit("a node of the picture is described twice")


def _anything(block: Block) -> None:
    """What a screen shows."""


LANGUAGES = {
    "": _shell,
    "sh": _shell,
    "yaml": _yaml,
    "python": _python_code,
    "json": _json,
    "ini": _inventory,
    "mermaid": _picture,
    "text": _anything,
}


def judge_block(block: Block) -> None:
    if block.language not in LANGUAGES:
        raise Unfit(f"{block}: a block in {block.language!r}, which no test knows")
    try:
        LANGUAGES[block.language](block)
    except Unfit as error:
        raise Unfit(f"{block}: {error}") from error
