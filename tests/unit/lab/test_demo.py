# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make demo` shows: that certificates were replaced, which, and that nobody noticed; and nothing for machines."""

from __future__ import annotations

import pytest

from tests.lab import demo

DAY = 86400


def report(**nodes):
    """{node: {certificate: (kind, serial, days)}} as report.json has it."""
    return {
        "nodes": {
            node: {
                "certificates": [
                    {
                        "name": name,
                        "kind": kind,
                        "serial": serial,
                        "not_after": None if days is None else "2027-11-22T08:00:00Z",
                        "residual_seconds": None if days is None else days * DAY,
                        "status": "missing" if serial is None else "ok",
                    }
                    for name, (kind, serial, days) in rows.items()
                ]
            }
            for node, rows in nodes.items()
        }
    }


BEFORE = report(
    cp1={
        "apiserver": ("leaf", "0x1f00aa00bb00cc", 364.2),
        "admin.conf": ("kubeconfig", "0x2", 364.2),
        "ca": ("ca", "0x0", 3649.9),
        "super-admin.conf": ("kubeconfig", None, None),
        "kubelet-client": ("kubelet", "0x7", 364.2),
    },
    cp2={"apiserver": ("leaf", "0x3", 100.0), "ca": ("ca", "0x0", 3649.9)},
    w1={"ca": ("ca", "0x0", 3649.9), "kubelet-client": ("kubelet", "0x8", 364.2)},
)
AFTER = report(
    cp1={
        "apiserver": ("leaf", "0x9e11dd22ee33ff", 729.9),
        "admin.conf": ("kubeconfig", "0xa", 729.9),
        "ca": ("ca", "0x0", 3649.9),
        "super-admin.conf": ("kubeconfig", None, None),
        "kubelet-client": ("kubelet", "0x7", 364.2),
    },
    cp2={"apiserver": ("leaf", "0xb", 729.9), "ca": ("ca", "0x0", 3649.9)},
    w1={"ca": ("ca", "0x0", 3649.9), "kubelet-client": ("kubelet", "0x8", 364.2)},
)


def test_every_certificate_that_was_replaced_is_shown_with_both_serials_and_days():
    lines = demo.replaced(BEFORE, AFTER).splitlines()
    apiserver = next(line for line in lines if "cp1" in line and "apiserver" in line)
    assert "1f00aa00..." in apiserver and "9e11dd22..." in apiserver and "364 -> 729" in apiserver
    named = [tuple(line.split()[:2]) for line in lines if "->" in line]
    assert named == [("cp1", "apiserver"), ("cp1", "admin.conf"), ("cp2", "apiserver")]
    assert not any("super-admin" in line for line in lines)


def test_a_node_is_summed_up_with_what_stays_because_other_playbooks_replace_it():
    text = demo.replaced(BEFORE, AFTER)
    assert "cp1: 2 certificates replaced, 1 of a CA and 1 of the kubelet as they were" in text
    assert "cp2: 1 certificate replaced, 1 of a CA as it was" in text
    assert "w1: no certificate replaced, 1 of a CA and 1 of the kubelet as they were" in text


def test_nothing_replaced_is_said_too():
    text = demo.replaced(BEFORE, BEFORE)
    assert "->" not in text and "cp2: no certificate replaced, 1 of a CA and 1 other as they were" in text


@pytest.mark.parametrize("failures, said", [(0, "and 0 of them failed"), (3, "and 3 of them failed")])
def test_the_last_sentence_counts_certificates_and_requests_of_clients_that_have_to_be_served(failures, said):
    counts = {
        "balancer": {"requests": 1200, "failures": failures, "informational": False},
        "etcd": {"requests": 34, "failures": 0, "informational": False},
        "apiserver-cp1": {"requests": 500, "failures": 20, "informational": True},
    }
    sentence = demo.verdict(BEFORE, AFTER, counts)
    assert sentence.startswith("3 certificates on 2 nodes were replaced") and "1234 requests" in sentence and said in sentence


@pytest.mark.parametrize(
    "line, live, quiet",
    [
        ('\tRUN: {"kubepki": {"job": "check_expiry"}}\n', False, False),
        ("CUSTOM STATS: *****\n", False, False),
        ("PLAY RECAP ****\n", True, False),
        ("TASK [kubepki.lifecycle.leaf_renewal : Renew] ***\n", True, False),
        ("\n", True, False),
        ("cp1   : ok=3    changed=0    unreachable=0    failed=0    skipped=0\n", True, False),
        ("[ERROR]: Task failed\n", True, True),
        ("node  certificate  days\n", True, True),
    ],
)
def test_a_person_sees_no_data_for_machines_and_of_a_quiet_run_only_its_report(line, live, quiet):
    assert (demo.for_people(line, live=True), demo.for_people(line, live=False)) == (live, quiet)
