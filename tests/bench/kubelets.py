# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reissue_kubelets costs the controller per worker, against one ansible.builtin.ping of it, and its memory from 10 to 200.

The workers are directories on one node of the lab, each reached through a connection of its own, so that what the modules
compute there is not counted. The role's own task files are run; a kubelet to restart there is none.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.playbook import CHECKOUT, environment, tool

sys.path.insert(0, str(CHECKOUT / ".cache"))

from tests.unit.support import throwaway  # noqa: E402

FEW, MANY, PLACE = 10, 200, "/srv/bench"
CPU_TARGET, MEMORY_TARGET = 4.0, 1.25
_ROLE = "kubepki.lifecycle.kubelet_credentials"


def workers(lab: Lab, node: str, count: int) -> str:
    """Make a control-plane node and that many workers as directories on a node of the lab; gives their inventory."""
    cluster, lines = throwaway.Cluster(), []
    with tempfile.TemporaryDirectory() as name:
        for number in range(count + 1):
            host, role = ("w%03d" % number, "worker") if number else ("cp1", "control-plane")
            made = throwaway.Node(Path(name, host), cluster, host, "10.0.%d.%d" % (number // 250, number % 250 + 1), role=role)
            named = [made.kubernetes("kubelet.conf"), made.path("/var/lib/kubelet/config.yaml")]
            for path in named + list(made.kubernetes("manifests").glob("*.yaml")):
                text = path.read_text().replace("/var/lib", f"{PLACE}/{host}/var/lib")
                path.write_text(text.replace("/etc/kubernetes", f"{PLACE}/{host}/etc/kubernetes"))
            # Of one address, each has a connection of its own, as nodes have.
            lines.append(
                f"{host} ansible_host={lab.addresses[node]} root={PLACE}/{host} ansible_control_path=/tmp/kubepki-bench-{host}"
            )
        lab.run(node, "rm -rf %s && mkdir %s" % (PLACE, PLACE))
        archive = subprocess.run(["tar", "-C", name, "-c", "."], check=True, capture_output=True).stdout
        lab.run(node, "base64 -d | tar -C %s -x" % PLACE, stdin=base64.b64encode(archive).decode())
    rest = lab.inventory()
    return "[kube_control_plane]\n%s\n[kube_node]\n%s\n%s" % (lines[0], "\n".join(lines[1:]), rest[rest.index("[all:vars]") :])


def plays() -> dict[str, list]:
    """The two playbooks: one ping of each worker, and the reissue of its credential."""
    defaults = {
        "kubernetes_dir": "{{ root }}/etc/kubernetes",
        "kubelet_dir": "{{ root }}/var/lib/kubelet",
        "state_dir": "{{ root }}/state",
        "restart": False,
    }
    variables = {
        "kubelet_credentials_ready": False,
        "kubelet_credentials_check_nodes": False,
        "kubelet_credentials_force": True,
        "kubelet_credentials_backup_dir": "{{ root }}/backups",
        "kubelet_credentials_hosts": "{{ groups['kube_node'] }}",
        "kubelet_credentials_certificate": ("{{ hostvars.cp1.kubelet_credentials_signed.certificates[inventory_hostname] }}"),
    }

    def step(tasks_from: str, **more) -> dict:
        task = {"ansible.builtin.import_role": {"name": _ROLE, "tasks_from": tasks_from}, "vars": variables}
        module_defaults = {"kubepki.lifecycle.internal.kubelet_credential": defaults}
        return dict({"hosts": "kube_node", "gather_facts": False, "module_defaults": module_defaults, "tasks": [task]}, **more)

    reissue = [
        step("request.yml"),
        step("sign.yml", hosts="cp1"),
        step("install.yml", serial="10%"),
        step("report.yml", hosts="cp1"),
    ]
    return {"ping": [{"hosts": "kube_node", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}], "reissue": reissue}


def run(inventory: Path, playbook: Path) -> tuple[float, float]:
    """Give (seconds of CPU of ansible-playbook and all it started here, MB of the largest process) of one run."""
    output = playbook.with_suffix(".log")
    with output.open("w") as handle:
        process = subprocess.Popen(
            [tool("ansible-playbook"), "-i", str(inventory), str(playbook)],
            cwd=CHECKOUT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
        )
        _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(output.read_text()[-3000:])
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(lab: Lab, node: str, few: int = FEW, many: int = MANY) -> list[dict]:
    """Give the two rows of the table. What Ansible costs to begin is in both runs of a playbook, and not in their difference."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, tasks in plays().items():
            (folder / (kind + ".yml")).write_text(json.dumps(tasks))
        try:
            for count in (few, many):
                (folder / "inventory.ini").write_text(workers(lab, node, count))
                for kind in ("ping", "reissue"):
                    found[kind, count] = run(folder / "inventory.ini", folder / (kind + ".yml"))
                made = lab.run(node, "ls %s/w*/var/lib/kubelet/pki/kubelet-client-2*.pem | wc -l" % PLACE).stdout
                assert int(made) == 2 * count, made
        finally:
            lab.run(node, ["rm", "-rf", PLACE])
    ours, theirs = ((found[kind, many][0] - found[kind, few][0]) / (many - few) for kind in ("reissue", "ping"))
    small, large = (found["reissue", count][1] for count in (few, many))
    return [
        {
            "work": "reissue_kubelets, %d workers: controller's CPU for each" % many,
            "against": "that of one `ansible.builtin.ping` of each",
            "ours": ours,
            "theirs": theirs,
            "ratio": ours / theirs,
            "target": CPU_TARGET,
        },
        {
            "work": "reissue_kubelets, %d workers: controller's memory" % many,
            "against": "that for %d workers" % few,
            "ours": large,
            "theirs": small,
            "ratio": large / small,
            "target": MEMORY_TARGET,
            "unit": "MB",
        },
    ]


if __name__ == "__main__":
    for one in measure(Lab(sys.argv[1], 1, 1), "w1", *[int(text) for text in sys.argv[2:4]]):
        print(json.dumps(one))
