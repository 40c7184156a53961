"""A cluster's place on this machine: a directory, addresses, and names by which all that is its own can be found."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from pathlib import Path

import msgspec
import psutil

ADDRESSES = ipaddress.ip_network("198.18.0.0/15")  # RFC 2544: for tests of networks, routed nowhere
SERVICE_ADDRESSES = "10.96.0.0/16"
MOST_NODES = 6


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one cluster from another on the same machine.

    Args:
        root: the directory that holds everything the cluster writes.
        name: begins the name of its bridge and of its cgroups; at most 11 characters.
        network: a /23 of `ADDRESSES`: the bridge and the nodes in its first eighth, pods in the rest.
        ports: of etcd (clients, peers), the API server, and the others' own health.
    """

    root: str
    name: str
    network: str
    ports: dict[str, int]

    @property
    def directory(self) -> Path:
        """The directory that holds everything the cluster writes."""
        return Path(self.root)

    @property
    def bridge_address(self) -> str:
        """The machine's own address in the cluster's network."""
        return str(ipaddress.ip_network(self.network)[1])

    def node_address(self, index: int) -> str:
        """The address of a node; nodes are counted from 0."""
        return str(ipaddress.ip_network(self.network)[10 + index])

    def pod_addresses(self, index: int) -> str:
        """The /26 that a node gives its pods addresses of."""
        return str(list(ipaddress.ip_network(self.network).subnets(new_prefix=26))[1 + index])


def choose(directory: Path) -> Place:
    """Choose a place that nobody else on this machine uses now."""
    taken = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    free = [str(net) for net in ADDRESSES.subnets(new_prefix=23) if str(net[1]) not in taken]
    names = ("etcd", "etcd-peers", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    return Place(
        root=str(directory),
        name=f"hr-test-{secrets.token_hex(2)[:3]}",
        network=secrets.choice(free),
        ports=dict(zip(names, _free_ports(len(names)), strict=True)),
    )


def _free_ports(count: int) -> list[int]:
    open_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in open_sockets]
    for one in open_sockets:
        one.close()
    return ports
