# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person set for a playbook: names that nothing reads, values that nothing can use."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kubeadm import catalogue
from ansible_collections.kubepki.lifecycle.plugins.plugin_utils import playbook_variables, variable_review


def judge(playbook, extra=(), inventory=(), values=()):
    return variable_review.review(playbook, {*extra, *inventory}, list(values), set(extra))


@pytest.mark.parametrize(
    "playbook, name, meant",
    [
        ("renew_leaves", "kubepki_fore", "kubepki_force"),
        ("rotate_ca", "kubepki_phsae", "kubepki_phase"),
        ("rotate_ca", "KUBEPKI_PHASE", "kubepki_phase"),
        ("rotate_ca", "kubepki-phase", "kubepki_phase"),
        ("rotate_ca", "kubpki_phase", "kubepki_phase"),
        ("renew_leaves", "kubepki_names_", "kubepki_names"),
        # What the playbook reads goes before what only others do.
        ("renew_leaves", "kubepki_days", "kubepki_leaf_days"),
        ("issue_user", "kubepki_days", "kubepki_user_days"),
        ("rotate_ca", "kubepki_fore", "kubepki_force"),
    ],
)
def test_an_extra_variable_that_is_almost_a_known_one_is_refused_with_what_was_meant(playbook, name, meant):
    assert variable_review.is_ours(name, extra=True)
    (obstacle,), warnings = judge(playbook, extra=[name])
    assert f"no variable {name}." in obstacle and f"Did you mean {meant}?" in obstacle and warnings == []


def test_the_same_in_an_inventory_is_told_because_it_may_be_somebodys_own():
    obstacles, (warning,) = judge("renew_leaves", inventory=["kubepki_fore", "kubepki_awx_organization"], extra=["kubepki_ours"])
    assert obstacles == []
    assert "kubepki_fore (did you mean kubepki_force?)" in warning and warning.endswith(", kubepki_ours.")


def test_what_a_playbook_reads_is_known_and_so_is_what_others_read():
    assert judge("renew_leaves", extra=["kubepki_force"], inventory=["kubepki_phase", "kubepki_user_name"]) == ([], [])


@pytest.mark.parametrize("name", ["kubepki", "awx_job_template_name", "kube_version", "ansible_user", "names", "force", "phase"])
def test_other_peoples_variables_are_none_of_its_business(name):
    assert not variable_review.is_ours(name, extra=True)


def test_what_says_how_a_play_is_has_no_effect_in_the_inventory():
    obstacles, (warning,) = judge("reissue_kubelets", inventory=["kubepki_batch"])
    assert obstacles == [] and "kubepki_batch has no effect in the inventory" in warning and "-e" in warning
    assert judge("reissue_kubelets", extra=["kubepki_batch"]) == ([], [])
    assert judge("renew_leaves", inventory=["kubepki_batch"]) == ([], [])


@pytest.mark.parametrize(
    "playbook, name, value",
    [
        ("renew_leaves", "kubepki_leaf_days", "ninety"),
        ("renew_leaves", "kubepki_leaf_days", "0"),
        ("renew_leaves", "kubepki_leaf_days", "-1"),
        ("renew_leaves", "kubepki_leaf_days", "nan"),
        ("renew_leaves", "kubepki_leaf_days", ""),
        ("renew_leaves", "kubepki_leaf_days", None),
        ("renew_leaves", "kubepki_leaf_days", True),
        ("renew_leaves", "kubepki_leaf_days", [365]),
        ("renew_leaves", "kubepki_leaf_days", {}),
        ("renew_leaves", "kubepki_renew_below_days", "-0.5"),
        ("renew_leaves", "kubepki_force", "maybe"),
        ("renew_leaves", "kubepki_force", ""),
        ("renew_leaves", "kubepki_backup_keep", "2.5"),
        ("renew_leaves", "kubepki_backup_keep", "-1"),
        ("renew_leaves", "kubepki_backup_dir", "backups"),
        ("check_expiry", "kubepki_textfile_dir", "metrics"),
        ("renew_leaves", "kubepki_backup_dir", ""),
        ("renew_leaves", "kubepki_names", "apiserver,etcd"),
        ("renew_leaves", "kubepki_names", ["apiserver", "ca"]),
        ("renew_leaves", "kubepki_names", "apiserver,"),
        ("renew_leaves", "kubepki_key_type", "ed25519"),
        ("renew_leaves", "kubepki_report_dir", ["a", "b"]),
        ("rotate_ca", "kubepki_batch", "0"),
        ("rotate_ca", "kubepki_batch", "10 %"),
        ("rotate_ca", "kubepki_cas", "etcd"),
        ("rotate_ca", "kubepki_phase", "prepair"),
        ("issue_user", "kubepki_renew_below_days", "soon"),
        ("issue_user", "kubepki_user_prove", "never"),
        ("manage_csrs", "kubepki_csr_action", ""),
        ("schedule_report", "kubepki_timer_state", "gone"),
    ],
)
def test_a_value_that_the_playbook_cannot_use_is_refused_by_the_variables_name(playbook, name, value):
    (obstacle,), _warnings = judge(playbook, extra=[name], values=[(name, value, None)])
    assert obstacle.startswith(f"{name} is ") and ", which is no " in obstacle


@pytest.mark.parametrize(
    "playbook, name, value",
    [
        ("restore", "kubepki_backup_dir", "~/sets"),
        ("check_expiry", "kubepki_textfile_dir", ""),
        ("renew_leaves", "kubepki_leaf_days", "365"),
        ("renew_leaves", "kubepki_leaf_days", 0.5),
        ("renew_leaves", "kubepki_renew_below_days", 0),
        ("renew_leaves", "kubepki_force", "yes"),
        ("renew_leaves", "kubepki_force", True),
        ("renew_leaves", "kubepki_names", "all"),
        ("renew_leaves", "kubepki_names", "apiserver, admin.conf"),
        ("renew_leaves", "kubepki_names", ["etcd-peer"]),
        ("renew_leaves", "kubepki_key_type", ""),
        ("renew_leaves", "kubepki_report_dir", ""),
        ("renew_leaves", "kubepki_external_ca_dir", "x"),
        ("rotate_ca", "kubepki_batch", "25%"),
        ("rotate_ca", "kubepki_batch", 3),
        ("rotate_ca", "kubepki_batch", [1, "10%"]),
        ("rotate_ca", "kubepki_cas", "ca,sa"),
        ("rotate_ca", "kubepki_restart_workloads", ""),
        ("recover", "kubepki_restart_workloads", "a,b"),
        ("issue_user", "kubepki_renew_below_days", ""),
        ("issue_user", "kubepki_renew_below_days", "30"),
        ("issue_user", "kubepki_user_prove", True),
        ("issue_user", "kubepki_key_type", ""),
        ("manage_csrs", "kubepki_csr_names", "all pending"),
        ("restart_static_pods", "kubepki_names", "kube-vip"),
    ],
)
def test_a_value_that_it_can_use_passes(playbook, name, value):
    assert judge(playbook, extra=[name], values=[(name, value, None)]) == ([], [])


def test_a_value_of_the_inventory_is_said_once_with_the_hosts_that_have_it():
    values = [("kubepki_leaf_days", "x", f"cp{number}") for number in range(5)] + [("kubepki_leaf_days", "y", "w1")]
    assert judge("renew_leaves", inventory=["kubepki_leaf_days"], values=values)[0] == [
        "kubepki_leaf_days is 'x', which is no number above 0. (cp0, cp1, cp2, ...)",
        "kubepki_leaf_days is 'y', which is no number above 0. (w1)",
    ]


def test_names_of_leaves_are_those_of_the_catalogue():
    spec = playbook_variables.find_specification("kubepki_names", "renew_leaves")
    assert sorted(spec["choices"]) == sorted(
        ["all", *(entry.name for entry in catalogue.CATALOGUE if entry.kind != catalogue.CA)]
    )


def test_a_playbook_finds_its_own_specification():
    leaves = playbook_variables.find_specification("kubepki_names", "renew_leaves")
    pods = playbook_variables.find_specification("kubepki_names", "restart_static_pods")
    assert "choices" in leaves and "choices" not in pods
    assert playbook_variables.find_specification("kubepki_phase", "renew_leaves") is None


def test_facts_with_the_names_of_our_variables():
    root = Path(__file__).resolve().parents[4]
    prefixes = variable_review.own_prefixes()
    roles = {path.name + "_" for path in (root / "roles").iterdir()}
    assert {"kubepki_", "rotate_", "inventory_", "check_", "issue_", "schedule_"} | roles <= set(prefixes) and "_" not in prefixes
    facts = {"hostname": "w1", "kubepki_leaf_days": 1, "ca_rotation_own": [], "backup_net": {}, "kubepkix": 1, "own_check_x": 1}
    known = dict.fromkeys(["ansible_hostname", "ansible_backup_net", "kubepki_leaf_days", "ca_rotation_own", "own_check_x"])
    assert variable_review.from_facts(dict(known, ansible_facts=facts), prefixes) == ["ca_rotation_own", "kubepki_leaf_days"]
    assert [variable_review.from_facts(dict(known, ansible_facts=odd), prefixes) for odd in (None, [], {})] == [[]] * 3
    said = variable_review.describe_facts("w1", ["kubepki_\x1b[2J", *"abcdefg"])
    assert said.startswith("w1: ") and "--flush-cache" in said and said.isprintable() and ", d, ..." in said
