# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""schedule_report in a throw-away folder of units: what it writes and refuses, and that the service's command makes a report."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.executable).parents[1]
ENVIRONMENT = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".cache"), NO_COLOR="1", ANSIBLE_LOCALHOST_WARNING="false")
NAMES = ["kubepki-report.service", "kubepki-report.timer", "timers.target.wants/kubepki-report.timer"]


class Host:
    """The controller, with folders of its own."""

    def __init__(self, folder):
        self.units, self.reports = folder / "units", folder / "reports"
        self.units.mkdir()
        self.inventory = folder / "inventory"
        self.inventory.write_text(
            f"[kube_control_plane]\nlocalhost ansible_connection=local ansible_python_interpreter={sys.executable}\n"
        )
        self.usual = {
            "kubepki_timer_unit_dir": str(self.units),
            "kubepki_timer_venv": str(VENV),
            "kubepki_report_dir": str(self.reports),
            "kubepki_timer_collections": str(ROOT / ".cache"),
        }

    def attempt(self, *arguments, **variables):
        command = [
            str(VENV / "bin" / "ansible-playbook"),
            "-i",
            str(self.inventory),
            "kubepki.lifecycle.schedule_report",
            *arguments,
            "-e",
            json.dumps({**self.usual, **variables}),
        ]
        return subprocess.run(
            command, cwd=self.units.parent, env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )

    def play(self, *arguments, **variables):
        """Run it; gives how many tasks changed something."""
        done = self.attempt(*arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return int(re.search(r"^localhost .* changed=(\d+)", done.stdout, re.MULTILINE).group(1))

    def written(self):
        return sorted(str(path.relative_to(self.units)) for path in self.units.rglob("*") if path.is_symlink() or path.is_file())

    def values(self, unit, key):
        return re.findall(rf"^{key}=(.*)$", (self.units / unit).read_text(), re.MULTILINE)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_installed_run_changed_and_removed(host):
    assert host.play("--check") > 0 and host.written() == [] and not host.reports.exists()
    assert host.play() > 0
    assert host.written() == NAMES
    assert (host.units / NAMES[2]).resolve() == host.units / NAMES[1]
    assert host.play() == 0 and host.play("--check") == 0

    # The second opinion: systemd, and running what the service runs, with its environment and nothing else.
    subprocess.run(["systemd-analyze", "verify", "--man=no", str(host.units / NAMES[0]), str(host.units / NAMES[1])], check=True)
    (command,), (folder,) = host.values(NAMES[0], "ExecStart"), host.values(NAMES[0], "WorkingDirectory")
    environment = dict(setting.split("=", 1) for setting in host.values(NAMES[0], "Environment"))
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(Path.home()), **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(json.loads((host.reports / "report.json").read_text())["nodes"]) == ["localhost"]

    before = (host.units / NAMES[0]).read_bytes()
    assert host.play(kubepki_timer_schedule="Mon..Fri 06:00", kubepki_timer_delay="5min") == 1
    assert host.values(NAMES[1], "OnCalendar") == ["Mon..Fri 06:00"] and host.values(NAMES[1], "RandomizedDelaySec") == ["5min"]
    assert (host.units / NAMES[0]).read_bytes() == before

    assert host.play("--check", kubepki_timer_state="absent") > 0 and host.written() == NAMES
    assert host.play(kubepki_timer_state="absent") > 0
    assert host.written() == [] and (host.reports / "report.json").exists()
    assert host.play(kubepki_timer_state="absent") == 0


def test_what_the_service_is_told(host):
    key = host.inventory.parent / "id_ed25519"
    key.write_text("a key\n")
    host.play(
        kubepki_timer_name="kubepki-east",
        kubepki_fail_below_days="30",
        kubepki_timer_private_key=str(key),
        kubepki_textfile_dir="/var/lib/node-exporter",
        kubepki_report_dir="",
    )
    service = "kubepki-east.service"
    (command,) = host.values(service, "ExecStart")
    words = shlex.split(command)
    assert words[:4] == [str(VENV / "bin" / "ansible-playbook"), "-i", str(host.inventory), "kubepki.lifecycle.check_expiry"]
    assert words[4:] == [
        "-e",
        "kubepki_fail_below_days=30",
        "--private-key",
        str(key),
        "-e",
        "kubepki_textfile_dir=/var/lib/node-exporter",
    ]
    assert host.values(service, "User") == ["root"]
    assert host.values(service, "ReadWritePaths") == [f"-{Path.home()}/.ansible", "-/var/lib/node-exporter"]
    assert host.values(service, "NoNewPrivileges") == ["yes"] and host.values(service, "ProtectSystem") == ["strict"]


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"kubepki_timer_schedule": "every full moon"}, "kubepki_timer_schedule (every full moon)"),
        ({"kubepki_timer_schedule": "daily\nOnBootSec=1"}, "is no time of systemd"),
        ({"kubepki_timer_delay": "a while"}, "kubepki_timer_delay (a while)"),
        ({"kubepki_timer_inventory": "inventory"}, "Set kubepki_timer_inventory, and every other path, to an absolute path"),
        ({"kubepki_timer_inventory": "/nowhere/inventory"}, "/nowhere/inventory: missing on localhost"),
        ({"kubepki_timer_venv": "/nowhere/venv"}, "/nowhere/venv/bin/ansible-playbook: missing on localhost"),
        ({"kubepki_report_dir": "/var/lib/%h reports"}, "to an absolute path of letters"),
        ({"kubepki_timer_collections": "/nowhere/collections"}, "does not work on localhost as root"),
        ({"kubepki_timer_user": "nobody"}, "does not work on localhost as nobody"),
        ({"kubepki_timer_user": "nobody-of-this-name"}, "localhost has no user nobody-of-this-name"),
        ({"kubepki_timer_name": "../report"}, "Set kubepki_timer_name to letters"),
        ({"kubepki_timer_name": "report\n"}, "Set kubepki_timer_name to letters"),
        ({"kubepki_timer_unit_dir": "/etc/systemd/system\n"}, "kubepki_timer_unit_dir to an absolute path"),
        ({"kubepki_timer_inventory": "/etc/hosts\n"}, "Set kubepki_timer_inventory, and every other path, to an absolute path"),
        ({"kubepki_report_dir": "/var/lib/reports\n"}, "to an absolute path of letters"),
        ({"kubepki_timer_user": "root\n"}, "kubepki_timer_user to a user's name"),
        ({"kubepki_timer_schedule": "daily\rOnBootSec=1"}, "is no time of systemd"),
        ({"kubepki_timer_state": "gone"}, "gone"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_written(host, variables, message):
    done = host.attempt(**variables)
    assert done.returncode == 2 and message in re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert host.written() == [] and not host.reports.exists()


@pytest.mark.parametrize("what", ["inventory", "group_vars/all.yml", "ansible.cfg", "."])
def test_what_other_users_can_change_is_not_run(host, what):
    """What they write there would run as root, every day."""
    folder = host.inventory.parent / "site"
    folder.mkdir()
    path = folder / what
    path.parent.mkdir(exist_ok=True)
    if what != ".":
        path.write_text("")
    (folder / "inventory").write_text(host.inventory.read_text())
    path.chmod(0o777 if what == "." else 0o666)
    done = host.attempt(kubepki_timer_inventory=str(folder / "inventory"))
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode == 2 and f"{folder / what}: other users can write to this" in said, said
    assert host.written() == [] and not host.reports.exists()


def test_a_folder_that_is_there_keeps_its_mode_and_owner(host):
    host.reports.mkdir()
    host.reports.chmod(0o1777)
    (host.units / "timers.target.wants").mkdir()
    (host.units / "timers.target.wants").chmod(0o750)
    host.play()
    assert host.reports.stat().st_mode & 0o7777 == 0o1777
    assert (host.units / "timers.target.wants").stat().st_mode & 0o7777 == 0o750
