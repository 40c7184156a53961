"""The pods that a namespace's names lead to, from where this node may read them.

An engine's own nodes see all pods. A node of a real cluster sees its own (Node authorizer), and of others what every
EndpointSlice tells: addresses, host names, and which Service they are behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from headrace.cluster.cache import Cache, Reader
from headrace.cluster.protocol import Cluster, Scope
from headrace.node.network import Peer
from headrace.spec.core.pod import Pod
from headrace.spec.kind import Doc, Json, Kind
from headrace.spec.kinds import POD

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class EndpointSlice(msgspec.Struct, frozen=True):
    """An EndpointSlice, read as raw JSON."""


ENDPOINT_SLICE: Kind[EndpointSlice] = Kind(
    group="discovery.k8s.io", version="v1", name="EndpointSlice", plural="endpointslices", view=EndpointSlice
)


class Followed(Protocol):
    """The peers of one namespace while they are followed."""

    async def run(self) -> None:
        """Follow until cancelled."""
        ...

    async def synced(self) -> None:
        """Return when all are known."""
        ...

    def peers(self) -> list[Peer]:
        """Return those that are known now."""
        ...


Follow = Callable[[str, Callable[[], None]], Followed]
"""Given a namespace, and what to call when its peers have changed."""


def all_pods(cluster: Cluster) -> Follow:
    """Return what follows every pod of a namespace."""
    return lambda namespace, changed: _AllPods(cluster, namespace, changed)


class _AllPods:
    def __init__(self, cluster: Cluster, namespace: str, changed: Callable[[], None]) -> None:
        self._cache = Cache(cluster, {POD: Scope(namespace=namespace)})
        self._pods: Reader[Pod] = self._cache.reader(POD)
        self._changed = changed
        self._cache.subscribe(POD, self._heard)

    async def run(self) -> None:
        await self._cache.run()

    async def synced(self) -> None:
        await self._cache.synced()

    def peers(self) -> list[Peer]:
        return [peer for doc in self._pods.list() if (peer := Peer.of(doc.raw)) is not None]

    def _heard(self, old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        if (Peer.of(old.raw) if old else None) != (Peer.of(new.raw) if new else None):
            self._changed()


class OwnPodsAndSlices:
    """A `Follow`: this node's pods, in the cache `own`, and others by their EndpointSlices.

    Args:
        address: where pods of this node are, which share it.
    """

    def __init__(self, cluster: Cluster, own: Cache, node: str, address: str) -> None:
        self._cluster = cluster
        self._own: Reader[Pod] = own.reader(POD)
        self._node, self._address = node, address
        self._followers: dict[str, Callable[[], None]] = {}
        own.subscribe(POD, self._heard)

    def __call__(self, namespace: str, changed: Callable[[], None]) -> Followed:
        self._followers[namespace] = changed
        return _Slices(self._cluster, self._node, namespace, changed, lambda: self._own_peers(namespace))

    def _own_peers(self, namespace: str) -> list[Peer]:
        return [peer for doc in self._own.list(namespace) if (peer := self._peer(doc)) is not None]

    def _peer(self, doc: Doc[Any] | None) -> Peer | None:
        """Return a pod of this node; one that is on loopback does not tell its address (`status`)."""
        if doc is None or not doc.status.get("startTime"):
            return None
        return Peer.of({**doc.raw, "status": {**doc.status, "podIP": self._address}})

    def _heard(self, old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        namespace = next(doc.namespace for doc in (old, new) if doc is not None)
        changed = self._followers.get(namespace)
        if changed is not None and self._peer(old) != self._peer(new):
            changed()


class _Slices:
    def __init__(
        self, cluster: Cluster, node: str, namespace: str, changed: Callable[[], None], own: Callable[[], list[Peer]]
    ) -> None:
        self._node, self._own = node, own
        self._cache = Cache(cluster, {ENDPOINT_SLICE: Scope(namespace=namespace)})
        self._slices: Reader[Any] = self._cache.reader(ENDPOINT_SLICE)
        self._cache.subscribe(ENDPOINT_SLICE, lambda _old, _new: changed())

    async def run(self) -> None:
        await self._cache.run()

    async def synced(self) -> None:
        await self._cache.synced()

    def peers(self) -> list[Peer]:
        others = [peer for doc in self._slices.list() for peer in peers_of_slice(doc.raw, self._node)]
        return [*self._own(), *others]


def peers_of_slice(raw: Json, node: str) -> list[Peer]:
    """Return the pods behind one EndpointSlice (IPv4) that are on other nodes than `node`. Pure."""
    service = ((raw.get("metadata") or {}).get("labels") or {}).get(SERVICE_NAME_LABEL, "")
    if not service or raw.get("addressType") != "IPv4":
        return []
    return [
        Peer(
            address=str(endpoint["addresses"][0]),
            hostname=str(endpoint.get("hostname") or ""),
            subdomain=service,
            labels={},
            is_ready=(endpoint.get("conditions") or {}).get("ready") is not False,
            service=service,
        )
        for endpoint in raw.get("endpoints") or []
        if endpoint.get("addresses") and endpoint.get("nodeName") != node
    ]
