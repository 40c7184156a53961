"""Keeps the /etc/hosts of this node's pods fresh: Services and the pods behind them, on whatever node those run.

The file of a running container is its pod's file, bound: it is rewritten in place, never replaced. Pods of a
namespace are watched only while a pod of this node lives there and a Service has something to name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from headrace.cluster.cache import Cache
from headrace.node.network import Peer, hosts_file
from headrace.node.peers import Follow, Followed
from headrace.node.podspec import PodSpec
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import SERVICE

_SYNC_S = 2.0


@dataclass
class _Resident:
    pod: PodSpec
    address: str
    path: Path
    written: str = ""


@dataclass
class _Namespace:
    residents: dict[str, _Resident] = field(default_factory=dict)
    peers: Followed | None = None
    scope: anyio.CancelScope | None = None


class Names:
    """Writes hosts files.

    Args:
        services: a cache of Services, run by somebody else.
        follow: follows the pods of a namespace.
        tasks: where the watches of pods run.
        machine_hosts: text of this machine's own file.
    """

    def __init__(self, follow: Follow, services: Cache, tasks: TaskGroup, machine_hosts: str) -> None:
        self._follow = follow
        self._services = services.reader(SERVICE)
        self._tasks = tasks
        self._machine_hosts = machine_hosts
        self._namespaces: dict[str, _Namespace] = {}
        self._dirty: set[str] = set()
        self._wake = anyio.Event()
        services.subscribe(SERVICE, self._on_service)

    def services(self, namespace: str) -> list[Json]:
        """Return the raw Services of a namespace, and the API server's."""
        found = [doc.raw for doc in self._services.list(namespace)]
        api = self._services.get(Ref("default", "kubernetes"))
        return found if api is None or namespace == "default" else [*found, api.raw]

    async def join(self, pod: PodSpec, address: str, path: Path) -> None:
        """Write the pod's hosts file and keep it fresh until `leave`. Idempotent.

        Waits a short while for the names of the namespace to be known; what comes later is written when it comes.
        """
        home = self._namespaces.setdefault(pod.namespace, _Namespace())
        written = home.residents[pod.uid].written if pod.uid in home.residents else ""
        home.residents[pod.uid] = _Resident(pod, address, path, written)
        self._watch_peers(pod.namespace, home)
        if home.peers is not None:
            with anyio.move_on_after(_SYNC_S):
                await home.peers.synced()
        self._write(pod.namespace)

    def leave(self, namespace: str, uid: str) -> None:
        """The pod is gone. Idempotent."""
        home = self._namespaces.get(namespace)
        if home is None:
            return
        home.residents.pop(uid, None)
        if not home.residents:
            del self._namespaces[namespace]
            if home.scope is not None:
                home.scope.cancel()

    async def run(self) -> None:
        """Rewrite files as names change, until cancelled. Changes that come together are written together."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            dirty, self._dirty = self._dirty, set()
            for namespace in dirty:
                home = self._namespaces.get(namespace)
                if home is not None:
                    self._watch_peers(namespace, home)
                    self._write(namespace)

    def _on_service(self, old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        for doc in (old, new):
            if doc is not None:
                self._touch(doc.namespace)

    def _touch(self, namespace: str) -> None:
        self._dirty.add(namespace)
        self._wake.set()

    def _watch_peers(self, namespace: str, home: _Namespace) -> None:
        if home.peers is not None or not any(doc.spec.get("selector") for doc in self._services.list(namespace)):
            return
        peers = home.peers = self._follow(namespace, lambda: self._touch(namespace))
        scope = home.scope = anyio.CancelScope()
        self._tasks.start_soon(_run_in, scope, peers)

    def _write(self, namespace: str) -> None:
        home = self._namespaces[namespace]
        services = [doc.raw for doc in self._services.list(namespace)]
        peers = home.peers.peers() if home.peers is not None else []
        for resident in home.residents.values():
            text = self._text(resident, services, peers)
            if text != resident.written or not resident.path.exists():
                write_in_place(resident.path, text.encode())
                resident.written = text

    def _text(self, resident: _Resident, services: list[Json], peers: list[Peer]) -> str:
        if resident.pod.spec.get("hostNetwork"):
            return self._machine_hosts
        others = [peer for peer in peers if peer.uid != resident.pod.uid]
        own = Peer.of({**resident.pod.raw, "status": {"podIP": resident.address, "conditions": _READY}})
        return hosts_file(
            resident.pod, resident.address, services, [*others, *([own] if own else [])], self._machine_hosts
        )


_READY = [{"type": "Ready", "status": "True"}]


async def _run_in(scope: anyio.CancelScope, peers: Followed) -> None:
    with scope:
        await peers.run()


def write_in_place(path: Path, content: bytes) -> None:
    """Give a file new content and keep its inode, which containers have bound. Never empty for a reader."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)
