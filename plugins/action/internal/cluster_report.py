# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the report of the cluster from what all nodes returned: the files, the summary on the screen, the artifact."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import (
    answers,
    cluster_report,
    node_results,
    report_html,
    run_summary,
)
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils.action_base import LifecycleAction

SPEC = {
    "job": {"type": "str", "required": True},
    "step": {"type": "str", "choices": ["begin", "gate", "report"], "default": "report"},
    "began": {"type": "float"},
    "result": {"type": "str"},
    "results": {"type": "list", "elements": "str", "default": []},
    "require_all": {"type": "bool", "default": True},
    "blocking_codes": {"type": "list", "elements": "str", "default": []},
    "warn_below_days": {"type": "float", "default": 30},
    "critical_below_days": {"type": "float", "default": 7},
    "fail_below_days": {"type": "float", "default": 0},
    "report_dir": {"type": "path"},
}


class ActionModule(LifecycleAction):
    """The action behind kubepki.lifecycle.internal.cluster_report."""

    _requires_connection = False

    def execute(self, result: Dict[str, Any], task_vars: Mapping[str, Any]) -> None:
        """Begin a run, check whether it may go on, or report what it did. Raise PkiError where no node could be read."""
        result.update(epoch=time.time(), changed=False)
        options = self.check_arguments(SPEC)
        if options["step"] == "begin":
            artifact = {"job": options["job"], "state": "failed"}
        else:
            nodes, silent = self._nodes(options["result"], task_vars)
            if options["step"] == "gate":
                # The report's nodes, because some findings show only when nodes are compared.
                blocked = run_summary.obstacles(
                    cluster_report.build(nodes)["nodes"], silent if options["require_all"] else {}, options["blocking_codes"]
                )
                if blocked:
                    result.update(failed=True, msg=blocked)
                return
            artifact = self._report(options, nodes, silent, task_vars, result)
        result["artifact"] = artifact
        result["ansible_stats"] = node_results.run_statistics(artifact)

    def _report(
        self,
        options: Mapping[str, Any],
        nodes: Dict[str, Any],
        silent: Mapping[str, str],
        task_vars: Mapping[str, Any],
        result: Dict[str, Any],
    ) -> Dict[str, Any]:
        if not nodes and silent:
            raise PkiError(
                "No node could be read: %s" % "; ".join("%s: %s" % (host, silent[host].rstrip(".")) for host in sorted(silent)),
                fix="Check whether the controller can log in to them: ansible -m ping.",
            )
        done = {host: [node_results.read_registered(task_vars, host, name) for name in options["results"]] for host in nodes}
        for host, results in done.items():
            faults = [fault for fault in (answers.fault(one, answers.DONE) for one in results) if fault]
            if faults and not answers.fault(nodes[host], answers.REPORT):
                nodes[host] = dict(nodes[host], findings=nodes[host]["findings"] + [answers.finding(faults[0])])
            done[host] = [] if faults else results
        document = cluster_report.build(
            nodes, silent, warn_below_days=options["warn_below_days"], critical_below_days=options["critical_below_days"]
        )
        artifact = run_summary.summarise(options["job"], document, done, began=options["began"], check=self._task.check_mode)
        result["report"] = document
        result["files"] = self._write(options["report_dir"], document)
        self._display.display(cluster_report.text(document))
        self._display.display(run_summary.sentence(artifact, result["files"]))
        # The caller fails in a task of its own: of a failed task Ansible keeps no statistics, and the artifact would be lost.
        result["too_old"] = run_summary.below(document, options["fail_below_days"])
        return artifact

    def _write(self, directory: Optional[str], document: Mapping[str, Any]) -> List[str]:
        if not directory:
            return []
        directory = os.path.abspath(os.path.expanduser(directory))
        atomic.make_directory(directory, 0o755)
        written = []
        for name, render in (
            ("report.json", cluster_report.as_json),
            ("report.html", report_html.page),
            ("report.txt", cluster_report.text),
        ):
            path = os.path.join(directory, name)
            atomic.write(path, render(document).encode("utf-8", "replace"), mode=0o644)
            written.append(path)
        return written

    def _nodes(self, name: Optional[str], task_vars: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, str]]:
        """Return ({host: the "node" of cert_expiry}, {host: why there is none}) of every host of the play."""
        if not name:
            raise PkiError("the option result is missing", fix="Name the variable that the hosts registered.")
        return node_results.sort_registered(task_vars, task_vars["ansible_play_hosts_all"], name, "node")
