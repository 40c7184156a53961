"""ConfigMaps and Secrets that pods of this node use: watched one by one, for as long as somebody uses them.

A node may read the objects its pods name and no others, so there is no watch over a whole kind. An object that does
not exist yet is watched too: the pod that waits for it goes on the moment it appears.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from headrace.cluster.cache import Cache, Reader
from headrace.cluster.protocol import Cluster, Scope
from headrace.errors import Unavailable
from headrace.node.env import ObjectKind, Reference
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import CONFIG_MAP, SECRET

_SYNC_S = 10.0
_KINDS: dict[ObjectKind, Kind[Any]] = {"ConfigMap": CONFIG_MAP, "Secret": SECRET}

_Key = tuple[Reference, str]


class WatchedObjects:
    """Satisfies `volumes.pod_volumes.Objects`.

    Args:
        tasks: where the watches run.
        changed: told the uid of a pod when an object that it uses changed, appeared or went.
    """

    def __init__(self, cluster: Cluster, tasks: TaskGroup, changed: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._tasks = tasks
        self._changed = changed
        self._watched: dict[_Key, _Watched] = {}

    async def get(self, reference: Reference, namespace: str, user: str) -> Json | None:
        """Return the object as it is now, None when there is none. With a `user` (a pod's uid) it is watched on.

        Raises:
            Unavailable: the API server did not say in time.
        """
        key = (reference, namespace)
        found = self._watched.get(key)
        if found is None:
            found = self._watched[key] = _Watched(self._cluster, reference, namespace)
            found.on_change = lambda: self._tell(key)
            self._tasks.start_soon(found.run)
        if user:
            found.users.add(user)
        try:
            return await found.get()
        finally:
            self._drop_unused(key)

    def forget(self, user: str) -> None:
        """A pod is gone; what nobody uses any more is not watched any more. Idempotent."""
        for key, watched in list(self._watched.items()):
            watched.users.discard(user)
            self._drop_unused(key)

    def _tell(self, key: _Key) -> None:
        found = self._watched.get(key)
        for user in list(found.users) if found else ():
            self._changed(user)

    def _drop_unused(self, key: _Key) -> None:
        found = self._watched.get(key)
        if found is not None and not found.users and not found.readers:
            del self._watched[key]
            found.scope.cancel()


class _Watched:
    def __init__(self, cluster: Cluster, reference: Reference, namespace: str) -> None:
        kind = _KINDS[reference.kind]
        self.users: set[str] = set()
        self.readers = 0
        self.scope = anyio.CancelScope()
        self.on_change: Callable[[], None] = lambda: None
        self._ref = Ref(namespace, reference.name)
        self._cache = Cache(cluster, {kind: Scope(namespace=namespace, fields=f"metadata.name={reference.name}")})
        self._reader: Reader[Any] = self._cache.reader(kind)
        self._is_synced = False
        self._cache.subscribe(kind, self._heard)

    async def run(self) -> None:
        with self.scope:
            await self._cache.run()

    async def get(self) -> Json | None:
        self.readers += 1
        try:
            with anyio.fail_after(_SYNC_S):
                await self._cache.synced()
        except TimeoutError as error:
            raise Unavailable(f"{self._ref} could not be read from the API server in {_SYNC_S:.0f} s.") from error
        finally:
            self.readers -= 1
        self._is_synced = True
        doc = self._reader.get(self._ref)
        return doc.raw if doc else None

    def _heard(self, _old: Doc[Any] | None, _new: Doc[Any] | None) -> None:
        if self._is_synced:
            self.on_change()
