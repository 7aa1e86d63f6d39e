# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: ``python3 -m tests.lab COMMAND``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import host
from .errors import LabError
from .lab import Lab, LabStatus, all_labs
from .settings import DEFAULT_CONTROL_PLANES, DEFAULT_NAME, DEFAULT_WORKERS, Settings

_VARIABLES = """\
environment:
  LAB_KUBERNETES_BIN      directory of Kubernetes binaries (1.20 or newer)
  LAB_KUBERNETES_ARCHIVE  official kubernetes-server-linux-ARCH.tar.gz
                          (neither: built once from Debian 12's source package)
  LAB_CONTAINERD_FROM     root directory whose containerd and etcd replace those of the nodes
  LAB_SUITE               Debian release of the nodes (bookworm)
  KUBEPKI_LAB_HOME        where caches and labs are kept (/var/cache/kubepki-lab)
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    top = argparse.ArgumentParser(
        prog="python3 -m tests.lab",
        description="A real kubeadm cluster on this Debian machine.",
        epilog=_VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=DEFAULT_NAME, help=f"which lab (default: {DEFAULT_NAME})")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", parents=[named], help="bring the lab up, repair it, or do nothing when it is healthy")
    up.add_argument(
        "--control-planes",
        type=int,
        metavar="N",
        help=f"control-plane nodes (default: as the lab has, or {DEFAULT_CONTROL_PLANES})",
    )
    up.add_argument("--workers", type=int, metavar="N", help=f"workers (default: as the lab has, or {DEFAULT_WORKERS})")
    commands.add_parser("down", parents=[named], help="remove the lab and all that is its own")
    status = commands.add_parser("status", parents=[named], help="what is there and how it does; exit code 1 when not well")
    status.add_argument("--json", action="store_true", help="as JSON")
    ssh = commands.add_parser("ssh", parents=[named], help="log in to a node, or run a command there")
    ssh.add_argument("node", help="cp1, cp2, ..., w1, w2, ...")
    ssh.add_argument("cmd", nargs=argparse.REMAINDER, help="command to run")
    inventory = commands.add_parser("inventory", parents=[named], help="print the Ansible inventory")
    inventory.add_argument("--output", type=Path, metavar="FILE", help="write it to a file instead")
    watch = commands.add_parser("watch", parents=[named], help="run clients and count what they see, until stopped")
    watch.add_argument("--output", type=Path, metavar="FILE", help="write the counts as JSON")
    watch.add_argument("--seconds", type=float, metavar="N", help="stop by itself after N seconds")
    watch.add_argument("--live", action="store_true", help="show a running counter")
    commands.add_parser("prepare", help="only make the caches: node root, binaries, images")
    commands.add_parser("check", help="can the lab run on this machine? exit code 1 when not")
    expire = commands.add_parser("expire", parents=[named], help="let certificates end, as if nodes had been off for too long")
    expire.add_argument("--cas", action="store_true", help="those of the CAs too, on all nodes")
    expire.add_argument("node", nargs="*", help="which nodes (default: all)")
    for action, text in (
        ("stop", "cut a node's power"),
        ("start", "switch it on again"),
        ("unplug", "pull its network cable"),
        ("plug", "put the cable back"),
        ("pause", "freeze its processes"),
        ("resume", "let them go on"),
    ):
        sub = commands.add_parser(action, parents=[named], help=text)
        sub.add_argument("node")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors are printed without a traceback."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except LabError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # an OSError, but none to report
        # Whoever read the output has seen enough (`... | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as exc:
        print(
            f"error: {exc}\n  what to do: see that disk and memory are free (docs/lab.md), then run this again", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    if options.command == "check":
        found = host.problems(settings)
        for reason in found:
            print(reason)
        if not found:
            print("the lab can run on this machine")
        return 1 if found else 0
    if options.command == "prepare":
        Lab(settings=settings).prepare()
        return 0
    if options.command == "up":
        Lab(options.name, options.control_planes, options.workers, settings=settings).up()
        return 0
    lab = Lab(options.name, settings=settings)
    if options.command == "down":
        lab.down()
        return 0
    if options.command == "status":
        return _status(lab, options.json)
    if options.command == "ssh":
        command = options.cmd[1:] if options.cmd[:1] == ["--"] else options.cmd
        return lab.ssh(options.node, command)
    if options.command == "inventory":
        return _inventory(lab, options.output)
    if options.command == "watch":
        from .watch import run_until_stopped

        return run_until_stopped(lab, output=options.output, seconds=options.seconds, live=options.live)
    if options.command == "expire":
        return _expire(lab, options.node, options.cas)
    actions = {
        "stop": lab.stop_node,
        "start": lab.start_node,
        "unplug": lab.unplug,
        "plug": lab.plug,
        "pause": lab.pause_node,
        "resume": lab.resume_node,
    }
    actions[options.command](options.node)
    return 0


def _inventory(lab: Lab, output: Path | None) -> int:
    text = lab.inventory()
    if output:
        output.write_text(text)
    else:
        print(text, end="")
    return 0


def _expire(lab: Lab, names: Sequence[str], cas: bool) -> int:
    from .expire import cold

    cold(lab, [lab.node(name).name for name in names] or list(lab.addresses), cas)
    print("the certificates have ended; playbooks/recover.yml brings the cluster back")
    return 0


def _status(lab: Lab, as_json: bool) -> int:
    status = lab.status()
    if as_json:
        print(json.dumps(dataclasses.asdict(status), indent=1))
    else:
        print(render_status(status))
        others = [n for n in all_labs(lab.settings) if n != lab.name]
        if others:
            print(f"other labs: {', '.join(others)}")
    return 0 if status.phase == "ready" and not status.problems else 1


def render_status(status: LabStatus) -> str:
    """The status as a table for a person."""
    if status.phase == "absent":
        return f"lab {status.name}: there is none"
    lines = [
        f"lab {status.name}: {status.phase}, Kubernetes {status.version}, API {status.api},"
        f" balancer {'up' if status.balancer else 'DOWN'}",
        f"{'node':6} {'address':15} {'role':14} {'power':6} {'cable':6} {'ssh':5} {'apiserver':10} {'Ready':6}",
    ]

    def word(value: bool | None, yes: str = "yes", no: str = "NO") -> str:
        return "-" if value is None else yes if value else no

    for node in status.nodes:
        lines.append(
            f"{node.name:6} {node.address:15} {node.role:14} {word(node.running, 'on', 'OFF'):6}"
            f" {word(node.plugged, 'in', 'OUT'):6} {word(node.ssh):5} {word(node.apiserver):10} {word(node.ready):6}"
        )
    lines += [f"problem: {problem}" for problem in status.problems]
    return "\n".join(lines)
