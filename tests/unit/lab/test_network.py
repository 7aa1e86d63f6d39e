# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Free subnets, and names that fit an interface and never meet another lab's."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import network
from tests.lab.cgroups import NodeCgroup
from tests.lab.errors import LabError
from tests.lab.network import Network, Subnet
from tests.lab.settings import check_name

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,29}", fullmatch=True)


def test_the_first_free_subnet_is_taken() -> None:
    assert str(network.choose([]).network) == "10.89.0.0/24"
    assert str(network.choose(["10.89.0.1/24", "10.89.1.0/24"]).network) == "10.89.2.0/24"
    assert str(network.choose(["192.0.2.0/24", "0.0.0.0/0"]).network) == "10.89.0.0/24", "a default route takes nothing"


def test_a_wider_network_of_the_host_is_respected() -> None:
    assert str(network.choose(["10.89.0.0/20"]).network) == "10.89.16.0/24"


def test_no_subnet_left_is_said() -> None:
    with pytest.raises(LabError, match="no free /24"):
        network.choose(["10.0.0.0/8"])


@given(st.sets(st.integers(0, 255), max_size=255))
def test_a_chosen_subnet_overlaps_nothing_that_is_taken(used: set[int]) -> None:
    taken = [f"10.89.{n}.0/24" for n in used]
    chosen = network.choose(taken).network
    assert not any(chosen.overlaps(IPv4Network(t)) for t in taken)


def test_addresses_of_a_subnet_are_distinct() -> None:
    subnet = Subnet(IPv4Network("10.89.3.0/24"))
    nodes = [*(subnet.control_plane(i) for i in range(1, 10)), *(subnet.worker(i) for i in range(1, 51))]
    found = [subnet.host, subnet.balancer, *nodes]
    assert len(set(found)) == len(found)
    assert subnet.control_plane(1) == "10.89.3.11"
    assert subnet.worker(2) == "10.89.3.22"
    with pytest.raises(ValueError):
        subnet.control_plane(10)


@given(NAMES)
def test_interface_names_fit_the_kernel(name: str) -> None:
    net = Network(check_name(name), Subnet(IPv4Network("10.89.0.0/24")))
    for interface in (net.bridge, net._outer, net._inner, net.interface("cp9"), net.interface("w50")):
        assert len(interface) <= 15


@given(NAMES, NAMES)
def test_two_labs_never_share_a_name_on_the_machine(one: str, other: str) -> None:
    if one == other:
        return
    assert not NodeCgroup(f"kubepki-lab-{one}.cp1").label.startswith(f"kubepki-lab-{other}.")
    first, second = (Network(n, Subnet(IPv4Network("10.89.0.0/24"))) for n in (one, other))
    assert first.namespace != second.namespace
