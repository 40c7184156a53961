"""Keeps the status of Pools and Queues true."""

from __future__ import annotations

from typing import Any

from headrace.clock import Clock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster, MergePatch
from headrace.pools.status import declare_unsupported, pool_status
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import NODE, POOL, QUEUE


class Pools:
    """Reconciles Pools when they or nodes change, and Queues when they change."""

    def __init__(self, cluster: Cluster, cache: Cache, clock: Clock) -> None:
        self._cluster = cluster
        self._cache = cache
        self._clock = clock
        self._pools = cache.reader(POOL)
        self._queues = cache.reader(QUEUE)
        self._nodes = cache.reader(NODE)

    def controllers(self) -> list[Controller]:
        """Return the controllers, which belong into a group with the same cache."""
        every_pool = lambda _node: [pool.ref for pool in self._pools.list()]  # noqa: E731
        return [
            Controller("pools", self._cache, self.reconcile_pool, workers=1).watches(POOL).watches(NODE, every_pool),
            Controller("queues", self._cache, self.reconcile_queue, workers=1).watches(QUEUE),
        ]

    async def reconcile_pool(self, ref: Ref) -> Result:
        pool = self._pools.get(ref)
        if pool is not None:
            await self._write(pool, pool_status(pool, self._nodes.list(), self._clock.now()))
        return Result()

    async def reconcile_queue(self, ref: Ref) -> Result:
        queue = self._queues.get(ref)
        if queue is not None:
            conditions = declare_unsupported(queue, queue.status.get("conditions") or [], self._clock.now())
            await self._write(queue, {"conditions": conditions, "observedGeneration": queue.generation})
        return Result()

    async def _write(self, doc: Doc[Any], status: Json) -> None:
        if {key: doc.status.get(key) for key in status} == status:
            return
        written = await self._cluster.patch(doc.kind, doc.ref, MergePatch({"status": status}), subresource="status")
        self._cache.assume(written)
