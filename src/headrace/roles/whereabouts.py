"""Under which addresses a cluster's API server may find this machine. Nothing is sent but questions to that server."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from headrace.cluster.protocol import Cluster
from headrace.errors import HeadraceError, Unavailable
from headrace.spec.kind import Json

_OF_API_SERVER = (
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name=kubernetes"
)


async def own_addresses(cluster: Cluster, server: str) -> list[str]:
    """Return this machine's addresses on the ways to the API server, the likeliest first, at least one.

    The way to `server`, the URL of a kubeconfig, may lead through a port that is forwarded on this machine (as of a
    cluster in containers), where loopback is another one's. So the address that the API server itself advertises in
    the Service `kubernetes` comes before a loopback address.
    """
    near = _towards([(urlsplit(server).hostname or "")])
    found = dict.fromkeys([*near, *_towards(await _advertised(cluster))])
    if not found:
        raise Unavailable(f"There is no way from here to {server}.", hint="Name this machine's address: --address IP")
    return sorted(found, key=lambda address: ipaddress.ip_address(address).is_loopback)


async def _advertised(cluster: Cluster) -> list[str]:
    try:
        answer: Json = await cluster.request("GET", _OF_API_SERVER)
    except HeadraceError:  # it is only one of two hints
        return []
    return [
        address
        for piece in answer.get("items") or ()
        for endpoint in piece.get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    ]


def _towards(hosts: Iterable[str]) -> list[str]:
    """Return this machine's address on the way to each host that there is a way to. A datagram socket sends nothing."""
    found = []
    for host in hosts:
        try:
            for family, kind, protocol, _, where in socket.getaddrinfo(host, 443, type=socket.SOCK_DGRAM):
                with socket.socket(family, kind, protocol) as probe:
                    probe.connect(where)
                    found.append(str(probe.getsockname()[0]))
                    break
        except OSError:
            continue
    return found
