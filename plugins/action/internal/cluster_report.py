# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts what all nodes reported together, on the controller: one report, one summary, one artifact."""

from __future__ import annotations

import os
import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import atomic
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.runner import check_options
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import (
    _registered,
    answers,
    cluster_report,
    report_html,
    run_summary,
)

display = Display()
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


class ActionModule(ActionBase):
    """The action behind kubepki.lifecycle.cluster_report."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Give the task's result; a PkiError becomes its message."""
        result = super().run(tmp, task_vars)
        _checked, options = self.validate_argument_spec(argument_spec=SPEC)
        result.update(epoch=time.time(), changed=False)
        try:
            check_options(SPEC, options)
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
                    return result
                artifact = self._report(options, nodes, silent, task_vars, result)
        except PkiError as error:
            result.update(error.as_result(), failed=True, msg=str(error))
            return result
        result["artifact"] = artifact
        result["ansible_stats"] = _registered.statistics(artifact)
        return result

    def _report(self, options, nodes, silent, task_vars, result):
        if not nodes and silent:
            raise PkiError(
                "No node could be looked at: %s"
                % "; ".join("%s: %s" % (host, silent[host].rstrip(".")) for host in sorted(silent)),
                fix="See whether the controller can log in to them: ansible -m ping.",
            )
        done = {host: [_registered.registered(task_vars, host, name) for name in options["results"]] for host in nodes}
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
        display.display(cluster_report.text(document))
        display.display(run_summary.sentence(artifact, result["files"]))
        # The caller fails in a task of its own: of a failed task Ansible keeps no statistics, and the artifact would be lost.
        result["too_old"] = run_summary.below(document, options["fail_below_days"])
        return artifact

    def _write(self, directory, document):
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

    def _nodes(self, name, task_vars):
        """Give ({host: what cert_expiry said}, {host: why it said nothing}) for every host of the play."""
        if not name:
            raise PkiError("the option result is missing", fix="Name the variable that the hosts registered.")
        return _registered.answers(task_vars, task_vars["ansible_play_hosts_all"], name, "node")
