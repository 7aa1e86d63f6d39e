# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two controllers and one cluster: the second one stops before any change, and a run that lost its Lease goes no further."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.errors import PkiError
from ansible_collections.kubepki.lifecycle.plugins.module_utils._pki.kube_api import api_connection, run_lease

from tests.unit.support.fake_api import FakeApi

PATH = run_lease.PATH
ALICE, BOB = "alice@east_boot1-1-100-5", "bob@west_boot2-1-200-6"


@pytest.fixture
def api():
    fake = FakeApi()
    yield fake
    fake.stop()


def run_of(api: FakeApi, holder: str, job: str = "rotate_ca", seconds: int = 900) -> run_lease.RunLease:
    return run_lease.RunLease(api_connection.BuiltIn(api.url), holder, job, seconds)


def spec(api: FakeApi) -> dict:
    return api.objects[PATH]["spec"]


def expire(api: FakeApi) -> None:
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=901)
    spec(api).update(renewTime=past.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def test_of_two_controllers_that_plan_at_the_same_time_the_second_stops(api):
    assert run_of(api, ALICE).take() == ""
    before = dict(spec(api))
    with pytest.raises(run_lease.LeaseRefused) as refused:
        run_of(api, BOB, "renew_leaves").take()
    said = str(refused.value)
    assert "rotate_ca of alice@east" in said and "since 20" in said and "expires at 20" in said
    assert "kubepki_take_over=true" in said and "Nothing was changed" in said
    assert refused.value.holder == ALICE and spec(api) == before


def test_the_lease_is_one_that_kubernetes_takes(api):
    run_of(api, ALICE).take()
    item = api.objects[PATH]
    assert (item["apiVersion"], item["kind"], item["metadata"]["namespace"]) == ("coordination.k8s.io/v1", "Lease", "kube-system")
    assert item["spec"]["leaseDurationSeconds"] == 900 and item["spec"]["leaseTransitions"] == 0
    datetime.datetime.strptime(item["spec"]["renewTime"], "%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize("there", [True, False])
def test_of_two_that_write_at_the_same_moment_one_has_it(api, there):
    """The other one reads, then this one writes, then the other one writes."""
    if there:
        run_of(api, ALICE).take()
        run_of(api, ALICE).release()
    written = []

    def meanwhile(method, _path):
        if method in ("PATCH", "POST") and not written:
            written.append(method)
            run_of(api, ALICE).take()

    api.before = meanwhile
    with pytest.raises(run_lease.LeaseRefused):
        run_of(api, BOB).take()
    assert written == ["PATCH" if there else "POST"] and spec(api)["holderIdentity"] == ALICE


def test_a_run_renews_its_own_and_gives_it_back(api):
    ours = run_of(api, ALICE)
    ours.take()
    spec(api)["renewTime"] = "2026-01-01T00:00:00.000000Z"
    began = spec(api)["acquireTime"]
    ours.renew()
    assert spec(api)["renewTime"] > "2026-01-01T00:00:01" and spec(api)["acquireTime"] == began
    assert ours.take() == "" and spec(api)["leaseTransitions"] == 0
    assert ours.release() and not spec(api).get("holderIdentity")
    assert not ours.release()
    assert run_of(api, BOB).take() == "" and spec(api)["holderIdentity"] == BOB


def test_a_lease_that_expired_is_taken_and_the_holder_named(api):
    run_of(api, ALICE).take()
    expire(api)
    assert run_of(api, BOB).take() == ALICE
    assert spec(api)["holderIdentity"] == BOB and spec(api)["leaseTransitions"] == 1


def test_one_that_expired_and_was_not_taken_is_renewed(api):
    run_of(api, ALICE).take()
    expire(api)
    run_of(api, ALICE).renew()
    with pytest.raises(run_lease.LeaseRefused):
        run_of(api, BOB).take()


@pytest.mark.parametrize("how", [{"take_over": True}, {"instead_of": ALICE}])
def test_a_lease_is_taken_over_on_request_and_the_first_run_stops_at_its_next_gate(api, how):
    first = run_of(api, ALICE)
    first.take()
    assert run_of(api, BOB, "renew_leaves").take(**how) == ALICE
    with pytest.raises(run_lease.LeaseRefused) as lost:
        first.renew()
    assert "this run holds it no more: renew_leaves of bob@west" in str(lost.value)
    assert not first.release() and spec(api)["holderIdentity"] == BOB


def test_a_holder_that_is_not_the_one_which_ended_keeps_it(api):
    run_of(api, ALICE).take()
    with pytest.raises(run_lease.LeaseRefused):
        run_of(api, BOB).take(instead_of="alice@east_boot1-1-99-4")


@pytest.mark.parametrize(
    "end", [lambda api, other: other.release(), lambda api, other: api.objects.pop(PATH)], ids=["released", "deleted"]
)
def test_a_lease_that_was_taken_over_and_given_back_is_lost_all_the_same(api, end):
    first, other = run_of(api, ALICE), run_of(api, BOB)
    first.take()
    other.take(take_over=True)
    end(api, other)
    with pytest.raises(run_lease.LeaseRefused, match="this run holds it no more"):
        first.renew()


def test_check_mode_writes_nothing(api):
    assert run_of(api, BOB).take(check=True) == ""
    run_of(api, ALICE).take()
    before = len(api.calls)
    with pytest.raises(run_lease.LeaseRefused):
        run_of(api, BOB).take(check=True)
    assert {method for method, _path in api.calls[before:]} == {"GET"}


@pytest.mark.parametrize(
    "rubbish",
    [
        "rubbish",
        {},
        {"holderIdentity": "x", "renewTime": "soon", "leaseDurationSeconds": 5},
        {"holderIdentity": "x", "renewTime": "2099-01-01T00:00:00.000000Z", "leaseDurationSeconds": 10**12},
        {"holderIdentity": ["x"], "renewTime": "2099-01-01T00:00:00Z", "leaseDurationSeconds": 5},
    ],
)
def test_a_lease_that_no_run_wrote_stops_none(api, rubbish):
    api.put(PATH, {"spec": rubbish})
    run_of(api, ALICE).take()
    assert spec(api)["holderIdentity"] == ALICE


def test_what_a_client_wrote_into_it_only_shows_on_a_terminal(api):
    run_of(api, "alice\x1b[2J", "rotate\x1b[31m").take()
    with pytest.raises(run_lease.LeaseRefused) as refused:
        run_of(api, BOB).take()
    assert "\x1b" not in str(refused.value) and "alice\\x1b[2J" in str(refused.value)


def test_an_api_that_forbids_it_is_no_refusal_of_another_run(api):
    api.refuse["GET", PATH] = (403, "no")
    with pytest.raises(PkiError) as refused:
        run_of(api, ALICE).take()
    assert not isinstance(refused.value, run_lease.LeaseRefused)
