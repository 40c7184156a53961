"""Keeps pods until their metering events are committed.

observe: the pod in the cache. plan: `ledger.plan`. act: commit, then take the finalizer away, in this order.
"""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import anyio.to_thread

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Result
from headrace.cluster.protocol import Cluster, JsonPatch
from headrace.errors import NotFound
from headrace.ledger.plan import plan
from headrace.ledger.store import Ledger
from headrace.pools.price import PriceCard, card
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import POD, POOL
from headrace.spec.names import METERED_FINALIZER, POOL_LABEL


class Metering:
    """Reconciles pods that we made: commits their edges, then takes the finalizer away."""

    def __init__(self, cluster: Cluster, cache: Cache, ledger: Ledger) -> None:
        self._cluster = cluster
        self._pods = cache.reader(POD)
        self._pools = cache.reader(POOL)
        self._ledger = ledger
        self._limiter = anyio.CapacityLimiter(1)  # SQLite takes one writer at a time
        self._committed: set[tuple[str, str]] = set()

    async def reconcile(self, ref: Ref) -> Result:
        """Commit what the pod proves. Idempotent; a crash between commit and release repeats the commit, which is void."""
        pod = self._pods.get(ref)
        if pod is None:
            return Result()
        pool = self._pools.get(Ref("", pod.labels.get(POOL_LABEL, "")))
        wanted = plan(pod, card(pool.spec) if pool is not None else PriceCard())
        new = [event for event in wanted.events if (event.pod_uid, event.edge) not in self._committed]
        if new:
            await anyio.to_thread.run_sync(self._ledger.record, new, limiter=self._limiter)
            self._committed |= {(event.pod_uid, event.edge) for event in new}
        if wanted.is_released:
            await self._release(pod)
        return Result()

    async def _release(self, pod: Doc[Any]) -> None:
        index = pod.finalizers.index(METERED_FINALIZER)
        path = f"/metadata/finalizers/{index}"
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": pod.uid},  # a pod's name may be a later one's by now
            {"op": "test", "path": path, "value": METERED_FINALIZER},
            {"op": "remove", "path": path},
        ]
        with contextlib.suppress(NotFound):  # removed by hand; the events are committed all the same
            await self._cluster.patch(POD, pod.ref, JsonPatch(operations))
        self._committed -= {(pod.uid, "start"), (pod.uid, "end")}


def is_metered(old: Doc[Any] | None, new: Doc[Any] | None) -> bool:
    """Tell whether a change is one of a pod that we made; a predicate of controllers."""
    return any(doc is not None and METERED_FINALIZER in doc.finalizers for doc in (old, new))
