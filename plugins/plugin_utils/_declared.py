# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every variable that playbooks read, and what it may be: written by `make docs` from what is declared."""

from __future__ import annotations

VARIABLES = {
    "kubepki_api_host": [
        (("issue_user", "manage_csrs"), {
            "type": "str",
            "of_play": True,
            "pattern": "[A-Za-z0-9_][A-Za-z0-9_.-]*(\\[[0-9]+\\])?",
            "said": "host of the inventory",
            "literal": True,
        }),
    ],
    "kubepki_backup_dir": [
        (("recover", "reissue_kubelets", "renew_leaves", "restore", "rotate_ca"), {
            "type": "str",
            "pattern": "[/~$].*",
            "said": "absolute path",
        }),
    ],
    "kubepki_backup_keep": [
        (("recover", "reissue_kubelets", "renew_leaves", "restore", "rotate_ca"), {
            "type": "int",
        }),
    ],
    "kubepki_backup_set": [
        (("restore",), {
            "type": "str",
            "pattern": "latest|[0-9TZ.]+-[a-z0-9-]+",
            "said": "name of a backup set, and not latest",
            "literal": True,
        }),
    ],
    "kubepki_batch": [
        (("reissue_kubelets", "rotate_ca"), {
            "type": "str",
            "of_play": True,
            "pattern": "[1-9][0-9]*%?",
            "said": "count and no percentage such as 10%",
            "literal": True,
        }),
    ],
    "kubepki_ca_days": [
        (("recover", "rotate_ca"), {
            "type": "float",
            "positive": True,
        }),
    ],
    "kubepki_cas": [
        (("rotate_ca",), {
            "type": "list",
            "choices": ("ca", "front-proxy-ca", "etcd-ca", "sa"),
            "empty": True,
            "literal": True,
        }),
    ],
    "kubepki_confirm": [
        (("recover", "restore", "rotate_ca"), {
            "type": "bool",
        }),
    ],
    "kubepki_critical_below_days": [
        (("check_expiry", "renew_leaves", "restart_static_pods", "restore"), {
            "type": "int",
        }),
    ],
    "kubepki_csr_action": [
        (("manage_csrs",), {
            "type": "str",
            "choices": ("list", "approve", "deny"),
        }),
    ],
    "kubepki_csr_enable_signers": [
        (("check_signers",), {
            "type": "bool",
        }),
    ],
    "kubepki_csr_message": [
        (("manage_csrs",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_csr_names": [
        (("manage_csrs",), {
            "type": "list",
            "empty": True,
            "pattern": "all pending|[a-z0-9]([-a-z0-9.]*[a-z0-9])?",
            "said": "list of names of requests",
            "literal": True,
        }),
    ],
    "kubepki_csr_policy": [
        (("manage_csrs",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_csr_selector": [
        (("manage_csrs",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_external_ca_approve": [
        (("renew_leaves",), {
            "type": "bool",
        }),
    ],
    "kubepki_external_ca_command": [
        (("renew_leaves",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_external_ca_dir": [
        (("renew_leaves",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_external_ca_seconds": [
        (("renew_leaves",), {
            "type": "float",
            "positive": True,
        }),
    ],
    "kubepki_external_ca_signer": [
        (("renew_leaves",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_fail_below_days": [
        (("check_expiry", "schedule_report"), {
            "type": "int",
        }),
    ],
    "kubepki_force": [
        (("reissue_kubelets", "renew_leaves"), {
            "type": "bool",
        }),
    ],
    "kubepki_install_prerequisites": [
        (("check_expiry", "recover", "reissue_kubelets", "renew_leaves", "restart_static_pods", "rotate_ca"),
         {
            "type": "bool",
        }),
    ],
    "kubepki_key_type": [
        (("issue_user", "recover", "reissue_kubelets", "renew_leaves", "rotate_ca"), {
            "type": "str",
            "choices": ("rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"),
            "empty": True,
        }),
    ],
    "kubepki_kubelet_authority": [
        (("reissue_kubelets",), {
            "type": "str",
            "choices": ("leave", "set", "remove"),
        }),
    ],
    "kubepki_kubelet_method": [
        (("reissue_kubelets",), {
            "type": "str",
            "choices": ("ca", "api"),
        }),
    ],
    "kubepki_kubelet_serving": [
        (("reissue_kubelets",), {
            "type": "str",
            "choices": ("leave", "renew", "bootstrap"),
        }),
    ],
    "kubepki_leaf_days": [
        (("recover", "reissue_kubelets", "renew_leaves", "rotate_ca"), {
            "type": "float",
            "positive": True,
        }),
    ],
    "kubepki_live": [
        (("check_expiry", "reissue_kubelets", "renew_leaves", "restart_static_pods", "restore", "rotate_ca"),
         {
            "type": "bool",
        }),
    ],
    "kubepki_names": [
        (("renew_leaves",), {
            "type": "list",
            "choices": ("all", "apiserver", "apiserver-kubelet-client", "front-proxy-client",
                        "apiserver-etcd-client", "etcd-server", "etcd-peer", "etcd-healthcheck-client",
                        "admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf",
                        "kubelet-client", "kubelet-serving"),
            "literal": True,
        }),
        (("restart_static_pods",), {
            "type": "list",
            "empty": True,
            "pattern": "[a-z0-9][a-z0-9.-]*",
            "said": "list of names",
            "literal": True,
        }),
    ],
    "kubepki_phase": [
        (("rotate_ca",), {
            "type": "str",
            "choices": ("status", "prepare", "switch", "complete", "all", "rollback"),
        }),
    ],
    "kubepki_recover_partial": [
        (("recover",), {
            "type": "bool",
        }),
    ],
    "kubepki_renew_below_days": [
        (("issue_user",), {
            "type": "float",
            "empty": True,
        }),
        (("recover", "reissue_kubelets", "renew_leaves"), {
            "type": "float",
        }),
    ],
    "kubepki_report_dir": [
        (("check_expiry", "renew_leaves", "restart_static_pods", "restore", "schedule_report"), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_restart_workloads": [
        (("recover", "rotate_ca"), {
            "type": "list",
            "empty": True,
            "pattern": "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
            "said": "list of namespaces",
            "literal": True,
        }),
    ],
    "kubepki_take_over": [
        (("check_signers", "issue_user", "manage_csrs", "recover", "reissue_kubelets", "renew_leaves",
         "restart_static_pods", "restore", "rotate_ca"), {
            "type": "bool",
        }),
    ],
    "kubepki_textfile_dir": [
        (("check_expiry", "renew_leaves", "restart_static_pods", "restore", "schedule_report"), {
            "type": "str",
            "empty": True,
            "pattern": "[/~$].*",
            "said": "absolute path",
        }),
    ],
    "kubepki_timer_collections": [
        (("schedule_report",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_timer_delay": [
        (("schedule_report",), {
            "type": "str",
        }),
    ],
    "kubepki_timer_host": [
        (("schedule_report",), {
            "type": "str",
            "of_play": True,
            "pattern": "[A-Za-z0-9_][A-Za-z0-9_.-]*(\\[[0-9]+\\])?",
            "said": "host of the inventory",
            "literal": True,
        }),
    ],
    "kubepki_timer_inventory": [
        (("schedule_report",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_timer_name": [
        (("schedule_report",), {
            "type": "str",
        }),
    ],
    "kubepki_timer_private_key": [
        (("schedule_report",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_timer_schedule": [
        (("schedule_report",), {
            "type": "str",
        }),
    ],
    "kubepki_timer_state": [
        (("schedule_report",), {
            "type": "str",
            "choices": ("present", "absent"),
        }),
    ],
    "kubepki_timer_unit_dir": [
        (("schedule_report",), {
            "type": "str",
        }),
    ],
    "kubepki_timer_user": [
        (("schedule_report",), {
            "type": "str",
        }),
    ],
    "kubepki_timer_venv": [
        (("schedule_report",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_user_cluster_roles": [
        (("issue_user",), {
            "type": "list",
            "empty": True,
        }),
    ],
    "kubepki_user_days": [
        (("issue_user",), {
            "type": "float",
            "positive": True,
        }),
    ],
    "kubepki_user_force": [
        (("issue_user",), {
            "type": "bool",
        }),
    ],
    "kubepki_user_groups": [
        (("issue_user",), {
            "type": "list",
            "empty": True,
        }),
    ],
    "kubepki_user_host": [
        (("issue_user",), {
            "type": "str",
            "pattern": "[A-Za-z0-9_][A-Za-z0-9_.-]*(\\[[0-9]+\\])?",
            "said": "host of the inventory",
            "literal": True,
        }),
    ],
    "kubepki_user_kubeconfig": [
        (("issue_user",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_user_name": [
        (("issue_user",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_user_namespace": [
        (("issue_user",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_user_prove": [
        (("issue_user",), {
            "type": "str",
            "choices": ("auto", "yes", "no"),
        }),
    ],
    "kubepki_user_roles": [
        (("issue_user",), {
            "type": "list",
            "empty": True,
        }),
    ],
    "kubepki_user_server": [
        (("issue_user",), {
            "type": "str",
            "empty": True,
        }),
    ],
    "kubepki_user_state": [
        (("issue_user",), {
            "type": "str",
            "choices": ("present", "absent"),
        }),
    ],
    "kubepki_warn_below_days": [
        (("check_expiry", "renew_leaves", "restart_static_pods", "restore"), {
            "type": "int",
        }),
    ],
}
