#!/usr/bin/python
# Copyright: (c) 2026, The kubepki.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_backup
short_description: Backup sets of a node's certificates, kubeconfigs and manifests
version_added: 0.1.0
description:
  - Makes, lists and restores backup sets. A set holds files with mode, owner and checksum, and where symbolic links point to; its
    directories have the mode 0700 and its files 0600.
  - A set records its host, and another host's is refused. So is a set that a user other than root can change, and one that
    records a mode beyond 0777. A set of an earlier version records no host; it is restored with a warning.
  - A set appears under its name only when it is complete. A restore checks every checksum before the first file changes, makes a
    set of what it replaces, and changes all files together; one that was killed is finished or undone by the next.
  - Restarts nothing. V(restored) needs the Python library PyYAML on the node.
options:
  state:
    description:
      - V(created) makes a set, unless the newest one holds the same files with the same content.
      - V(listed) lists the sets and checks them against their checksums.
      - V(restored) puts a set back.
    type: str
    choices: [created, listed, restored]
    default: created
  paths:
    description:
      - For V(created), the files and directories, absolute; without them everything that O(kubernetes_dir) and
        O(kubelet_dir) hold of certificates, keys, kubeconfigs, manifests and the kubelet's configuration.
      - For V(restored), the files and directories that are restored; without them the whole set.
    type: list
    elements: path
  set:
    description: The set to restore, by its name, or V(latest) for the newest that no restore made.
    type: str
    default: latest
  keep:
    description: How many sets of V(backup) stay, the newest. V(0) keeps all. Sets that other jobs made stay.
    type: int
    default: 5
  backup_dir:
    description: Where the sets lie.
    type: path
    default: /var/lib/kubepki/backups
attributes:
  check_mode:
    description: Reports what would be done, and checks the set that would be restored.
    support: full
  diff_mode:
    description: Lists the files that a restore changes, not what is in them.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
author:
  - The kubepki.lifecycle authors (@kubepki)
seealso:
  - module: kubepki.lifecycle.cert_leaf
extends_documentation_fragment:
  - kubepki.lifecycle.node
  - kubepki.lifecycle.node.state
"""

EXAMPLES = r"""
- name: A backup of everything that makes the node a member of its cluster
  kubepki.lifecycle.file_backup:

- name: Which sets there are
  kubepki.lifecycle.file_backup:
    state: listed
  register: backups

- name: Put the certificates back as they were before the last change
  kubepki.lifecycle.file_backup:
    state: restored
    set: latest
    paths: [/etc/kubernetes/pki]
"""

RETURN = r"""
set:
  description: The directory of the set that was made, found to hold the same, or restored; null in a check that would make one.
  returned: when O(state) is V(created) or V(restored)
  type: str
  sample: /var/lib/kubepki/backups/20261121T190000.000000Z-backup
entries:
  description: How many files and links the set holds, or how many of it were looked at for the restore.
  returned: when O(state) is V(created) or V(restored)
  type: int
  sample: 34
restored:
  description: The paths that were restored, or removed because they did not exist when the set was made.
  returned: when O(state) is V(restored)
  type: list
  elements: str
restart:
  description:
    - Which components of this node have read, when they were started, a file that was restored - static pods, and V(kubelet).
      Also those that run since before a file of the set was written, as after a restore that was not run to its end.
    - A pair that a component serves does not count; O(ignore:unless_reloaded) of M(kubepki.lifecycle.static_pod_restart) looks at
      what is served.
  returned: when O(state) is V(restored)
  type: list
  elements: str
  sample: [kube-controller-manager, kubelet]
before:
  description: The set that was made of what the restore replaced; null where nothing was.
  returned: when O(state) is V(restored)
  type: str
sets:
  description: The sets, the newest first, with C(name), C(path), C(job), C(created_at), C(entries), C(usable) and C(problem).
  returned: when O(state) is V(listed)
  type: list
  elements: dict
seconds:
  description: How long the module took.
  returned: always
  type: float
  sample: 0.1
"""

import os
from typing import Any, Dict, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki import runner
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.fileio import (
    backup_contents,
    backup_paths,
    backup_restore,
    backups,
    node_lock,
    transaction_recovery,
    yaml_load,
)
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import layouts, manifests
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.node import file_users, pending_restarts

# Components may reload the pair that they serve, which can be observed: not a reason to restart by itself.
SERVED = ("--tls-cert-file", "--tls-private-key-file", "--cert-file", "--key-file", "--peer-cert-file", "--peer-key-file")


def work(module: AnsibleModule) -> Dict[str, Any]:
    """Create, list or restore backup sets and return the module's result. Raise PkiError."""
    options = module.params
    if options["state"] == "listed":
        return {"changed": False, "sets": backups.describe_backups(options["backup_dir"])}
    act = _create if options["state"] == "created" else _restore
    if module.check_mode:
        return act(options, True)
    with node_lock.lock(options["state_dir"]):
        # An interrupted renewal or restore is finished or undone first: finished later it would undo this one.
        healed = {transaction_recovery.recover(job, options["state_dir"]) for job in ("leaves", "restore")}
        result = act(options, False)
    for how in sorted(healed - {"nothing"}):
        result["changed"] = result["changed"] or how == "finished"
        result.setdefault("warnings", []).append("An interrupted run on this node was %s first." % how)
    return result


def _create(options: Dict[str, Any], check: bool) -> Dict[str, Any]:
    if options["paths"]:
        paths = backup_paths.expand_paths(options["paths"])
    else:
        elsewhere: Sequence[str] = ()
        if yaml_load.HAS_YAML:  # without it no manifest can be read, and the usual directories are what there is to know
            layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
            elsewhere = (layout.pki_dir, layout.manifest_dir)
        paths = backup_paths.default_paths(options["kubernetes_dir"], options["kubelet_dir"], elsewhere)
    directory, changed, entries = backups.create_if_changed(paths, "backup", options["backup_dir"], options["keep"], check)
    return {"changed": changed, "set": directory, "entries": entries}


def _restore(options: Dict[str, Any], check: bool) -> Dict[str, Any]:
    directory = backups.find_backup(options["set"], options["backup_dir"])
    # Fail before a file changes where the layout cannot be read. It is read again afterwards: the kubelet's configuration, which
    # names the manifest directory, and the manifests may be among the restored files, and be missing or damaged until then.
    layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    changed, before, considered = backup_restore.back_up_and_restore(
        directory, options["paths"], options["backup_dir"], options["state_dir"], check
    )
    layout = layouts.find_layout(options["kubernetes_dir"], options["kubelet_dir"])
    # The kubelet restarts the pod of a restored manifest; the caller waits for that. In check mode the file may be missing yet.
    pods = {os.path.splitext(os.path.basename(path))[0] for path in changed if os.path.dirname(path) == layout.manifest_dir}
    pods.update(manifests.readers(layout.all_manifests, changed, SERVED))
    pods.update(file_users.due(layout, changed))
    # After a restore that was interrupted before the restarts, only the start times of the components show what is due.
    pods.update(
        item.component
        for item in layout.all_manifests
        if manifests.readers([item], pending_restarts.written_since(item.component, considered), SERVED)
    )
    restart = sorted(pods)
    own = [layout.kubelet["kubeconfig_path"], layout.kubelet["config_path"], layout.kubelet["ca_file"]]
    if any(
        path in own or path.startswith(layout.kubelet_dir.rstrip("/") + "/") for path in changed
    ) or pending_restarts.written_since("kubelet", [path for path in own if path in considered]):
        restart.append("kubelet")
    shown = "".join(path + "\n" for path in sorted(changed))
    warned = (
        {}
        if backup_contents.records_host(directory)
        else {
            "warnings": [
                "%s does not record its host, as sets of an earlier version. Check that it was made on this host." % directory
            ]
        }
    )
    return {
        **warned,
        "changed": bool(changed),
        "set": directory,
        "entries": len(considered),
        "restored": sorted(changed),
        "before": before,
        "restart": restart,
        "diff": {"before": "", "after": shown, "before_header": "unchanged", "after_header": "restored from " + directory},
    }


def main() -> None:
    """Run the module."""
    spec = dict(
        runner.path_options("kubernetes_dir", "kubelet_dir", "state_dir", "backup_dir"),
        state={"type": "str", "choices": ["created", "listed", "restored"], "default": "created"},
        paths={"type": "list", "elements": "path"},
        set={"type": "str", "default": "latest"},
        keep={"type": "int", "default": 5},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    # Only a restore reads manifests; sets are created and listed without a library.
    runner.run(module, work, needs=("yaml",) if module.params["state"] == "restored" else ())


if __name__ == "__main__":
    main()
