# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own network: a bridge, a free /24 on it, a namespace for the balancer. Names derive from the lab's."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .settings import MAX_CONTROL_PLANES, short_id
from .shell import run

#: Labs take a /24 each from here.
POOL = ipaddress.IPv4Network("10.89.0.0/16")


@dataclass(frozen=True)
class Subnet:
    """The address plan of a lab's /24: .1 host, .11.. control planes, .21.. workers, .100 the balancer."""

    network: ipaddress.IPv4Network

    @property
    def host(self) -> str:
        """The host's address on the bridge, the nodes' gateway."""
        return str(self.network[1])

    @property
    def balancer(self) -> str:
        """The stable address of the API."""
        return str(self.network[100])

    @property
    def prefix(self) -> int:
        """Length of the network prefix in bits."""
        return self.network.prefixlen

    def control_plane(self, number: int) -> str:
        """Address of control plane ``number`` (from 1)."""
        if not 1 <= number <= MAX_CONTROL_PLANES:
            raise ValueError(f"no control plane {number}")
        return str(self.network[10 + number])

    def worker(self, number: int) -> str:
        """Address of worker ``number`` (from 1)."""
        return str(self.network[20 + number])


def pod_subnet(address: str) -> str:
    """The pods' /24 on the node with this address, named after the address's last part."""
    return f"10.244.{address.rsplit('.', 1)[1]}.0/24"


def choose(taken: Iterable[str], pool: ipaddress.IPv4Network = POOL) -> Subnet:
    """The first /24 of the pool that overlaps nothing in ``taken`` (networks as text, ``10.89.0.0/24``)."""
    used = [ipaddress.ip_network(t, strict=False) for t in taken]
    for candidate in pool.subnets(new_prefix=24):
        if not any(u.version == 4 and u.prefixlen > 0 and candidate.overlaps(u) for u in used):
            return Subnet(candidate)
    raise LabError(f"no free /24 is left in {pool}", fix="take labs down that are no longer needed")


def host_networks() -> Iterator[str]:
    """Networks this machine has addresses in or routes to."""
    for link in json.loads(run(["ip", "-json", "-4", "address"]).stdout or "[]"):
        for entry in link.get("addr_info", []):
            yield f"{entry['local']}/{entry['prefixlen']}"
    for route in json.loads(run(["ip", "-json", "-4", "route"]).stdout or "[]"):
        if route["dst"] != "default":
            yield route["dst"]


@dataclass(frozen=True)
class Network:
    """Names of a lab's interfaces and namespace, and what brings them up and takes them away."""

    lab: str
    subnet: Subnet

    @property
    def bridge(self) -> str:
        """Name of the bridge."""
        return f"kpb{short_id(self.lab)}"

    @property
    def namespace(self) -> str:
        """Name of the balancer's network namespace."""
        return f"kubepki-lab-{self.lab}"

    @property
    def _outer(self) -> str:
        return f"kpo{short_id(self.lab)}"

    @property
    def _inner(self) -> str:
        return f"kpi{short_id(self.lab)}"

    def machine(self, node: str) -> str:
        """The name systemd-nspawn knows a node by; its host-side interface is named after it."""
        return f"k{short_id(self.lab)}-{node}"

    def interface(self, node: str) -> str:
        """Host-side interface of a node."""
        return f"vb-{self.machine(node)}"

    def healthy(self) -> bool:
        """Whether bridge and namespace are there, with their addresses."""
        bridge = run(["ip", "-4", "-oneline", "address", "show", "dev", self.bridge, "up"], check=False)
        if f" {self.subnet.host}/" not in bridge.stdout:
            return False
        if not Path("/run/netns", self.namespace).exists():
            return False
        inner = run(["ip", "netns", "exec", self.namespace, "ip", "-4", "-oneline", "address", "show", "up"], check=False)
        return f" {self.subnet.balancer}/" in inner.stdout

    def up(self) -> None:
        """Make bridge, namespace and the balancer's link; a network that is half there is made anew."""
        if self.healthy():
            return
        length = self.subnet.prefix
        if run(["ip", "link", "show", self.bridge], check=False).returncode:
            run(["ip", "link", "add", self.bridge, "type", "bridge", "forward_delay", "0"])
        run(["ip", "address", "replace", f"{self.subnet.host}/{length}", "dev", self.bridge])
        run(["ip", "link", "set", self.bridge, "up"])
        self._remove_namespace()
        run(["ip", "netns", "add", self.namespace])
        run(["ip", "link", "add", self._outer, "type", "veth", "peer", "name", self._inner, "netns", self.namespace])
        run(["ip", "link", "set", self._outer, "master", self.bridge, "up"])
        inside = ["ip", "-n", self.namespace]
        run([*inside, "address", "add", f"{self.subnet.balancer}/{length}", "dev", self._inner])
        run([*inside, "link", "set", self._inner, "up"])
        run([*inside, "link", "set", "lo", "up"])

    def down(self) -> None:
        """Remove all of it; what is not there is no error."""
        self._remove_namespace()
        run(["ip", "link", "del", self.bridge], check=False)

    def left(self) -> list[str]:
        """What of this network is still on the machine, for messages."""
        found = []
        for name in (self.bridge, self._outer):
            if run(["ip", "link", "show", name], check=False).returncode == 0:
                found.append(name)
        if Path("/run/netns", self.namespace).exists():
            found.append(f"netns {self.namespace}")
        return found

    def _remove_namespace(self) -> None:
        run(["ip", "link", "del", self._outer], check=False)
        if Path("/run/netns", self.namespace).exists():
            run(["ip", "netns", "del", self.namespace], check=False)

    def attach(self, node: str, connected: bool) -> None:
        """Plug a node's cable in or pull it."""
        run(
            ["ip", "link", "set", self.interface(node), "up" if connected else "down"],
            node=node,
            what="its network link cannot be switched",
            fix="start the node first",
        )

    def forget(self, node: str) -> None:
        """Remove the interface of a node that no longer runs; the kernel takes its time with a dead namespace."""
        run(["ip", "link", "del", self.interface(node)], check=False)

    def attached(self, node: str) -> bool:
        """Whether the node's host-side link is administratively up."""
        out = run(["ip", "-json", "link", "show", self.interface(node)], check=False)
        return out.returncode == 0 and "UP" in json.loads(out.stdout)[0].get("flags", [])
