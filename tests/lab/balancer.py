# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stable address of the API: haproxy in a network namespace of its own, checking each apiserver's /readyz."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from .errors import LabError
from .kubeadm import API_PORT
from .procs import Process, identify
from .shell import run, tail


def config(address: str, backends: Mapping[str, str]) -> str:
    """haproxy's configuration: listen on ``address``, balance over ``backends`` (name -> address).

    A server is out after two failed checks a second apart; sessions to it are then closed, and a connection that
    finds it gone before that goes to another one.
    """
    servers = "\n".join(f"    server {name} {where}:{API_PORT}" for name, where in backends.items())
    return f"""\
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout check 2s
frontend api
    bind {address}:{API_PORT}
    default_backend control_planes
backend control_planes
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    option redispatch 1
    retries 3
    default-server check check-ssl verify none inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def start(namespace: str, text: str, directory: Path) -> Process:
    """Start haproxy in the namespace with this configuration (kept in ``directory``); returns its process."""
    path = directory / "haproxy.cfg"
    path.write_text(text)
    run(["haproxy", "-c", "-q", "-f", path], what="haproxy refuses its configuration", fix="this is a bug of the lab")
    log = directory / "haproxy.log"
    with log.open("ab") as out:
        # ip replaces itself by haproxy: the pid is haproxy's.
        child = subprocess.Popen(
            ["ip", "netns", "exec", namespace, "haproxy", "-db", "-f", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    try:
        child.wait(0.3)
    except subprocess.TimeoutExpired:
        process = identify(child.pid)
        if process:
            return process
    raise LabError(
        "the balancer (haproxy) ended at once", log=tail(log.read_text(errors="replace")), fix="take the lab down and up again"
    )
