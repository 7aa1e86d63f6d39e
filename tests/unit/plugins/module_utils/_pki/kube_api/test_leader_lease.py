# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of a leader that has ended: given up, and only that leader's."""

from __future__ import annotations

import time

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import leader_lease

from tests.unit.support.fake_api import FakeApi

NAME = "kube-controller-manager"
PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/" + NAME
OURS, LATER = ("cp1_a58dda95-f0a0-4569-a18e-bf6c4bffabf%d" % number for number in (8, 9))
THEIRS = "cp2" + OURS[3:]


@pytest.fixture
def api(tmp_path):
    fake = FakeApi(tls=tmp_path)
    fake.write_admin_conf(tmp_path / "admin.conf")
    yield fake
    fake.stop()


def led_by(api, holder, path=PATH):
    return api.put(path, {"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 4}})


def lease(tmp_path, flags=None, host="cp1"):
    return leader_lease.Lease(NAME, flags or {}, str(tmp_path), host)


def test_a_leader_that_has_ended_gives_its_lease_up(api, tmp_path):
    led_by(api, OURS)
    ours = lease(tmp_path)
    assert ours.look() and ours.give_up(0)
    assert api.objects[PATH]["spec"] == {"holderIdentity": "", "leaseDurationSeconds": 15, "leaseTransitions": 4}
    assert not ours.look() and not ours.give_up(0)


@pytest.mark.parametrize("holder", [THEIRS, "cp10" + OURS[3:], "cp1", "cp1_east" + OURS[3:], "", None])
def test_another_ones_lease_is_left_alone(api, tmp_path, holder):
    led_by(api, holder)
    ours = lease(tmp_path)
    assert not ours.look() and not ours.give_up(0)
    assert [method for method, _path in api.calls] == ["GET"]


@pytest.mark.parametrize("holder", [THEIRS, LATER], ids=["another node", "the new instance of this one"])
def test_who_took_it_meanwhile_keeps_it(api, tmp_path, holder):
    led_by(api, OURS)
    ours = lease(tmp_path)
    assert ours.look()
    led_by(api, holder)
    assert not ours.give_up(0) and api.objects[PATH]["spec"]["holderIdentity"] == holder


def test_who_takes_it_between_the_look_and_the_write_keeps_it(api, tmp_path):
    led_by(api, OURS)
    ours = lease(tmp_path)
    assert ours.look()
    api.before = lambda method, _path: led_by(api, THEIRS) if method == "PUT" else None
    assert not ours.give_up(0) and api.objects[PATH]["spec"]["holderIdentity"] == THEIRS


def test_an_api_that_is_away_for_a_moment_is_asked_again(api, tmp_path):
    led_by(api, OURS)
    ours = lease(tmp_path)
    assert ours.look()
    api.refuse["GET", PATH] = (503, "away")
    answers = iter([True, True, False])
    api.before = lambda method, _path: None if next(answers, False) else api.refuse.clear()
    assert ours.give_up(5)


def test_no_api_no_credential_and_rubbish_are_no_trouble(api, tmp_path):
    api.put(PATH, {"spec": "rubbish"})
    assert not lease(tmp_path).look()
    del api.objects[PATH]
    assert not lease(tmp_path).look()
    led_by(api, OURS)
    ours = lease(tmp_path)
    assert ours.look()
    (tmp_path / "admin.conf").write_text("{")
    began = time.monotonic()
    assert not ours.give_up(0) and not lease(tmp_path).look() and time.monotonic() - began < 2
    (tmp_path / "admin.conf").unlink()
    assert not lease(tmp_path).look()


def test_a_lease_of_another_name_is_found_by_the_flags(api, tmp_path):
    path = PATH.replace("kube-system", "east").replace(NAME, "manager")
    led_by(api, OURS, path)
    ours = lease(tmp_path, {"--leader-elect-resource-name": "manager", "--leader-elect-resource-namespace": "east"})
    assert ours.look() and ours.give_up(0) and api.objects[path]["spec"]["holderIdentity"] == ""
