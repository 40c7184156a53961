"""List-watch: keeps one indexer true to the server, whatever the server does.

- The watch starts where the list ended and resumes where it was cut: nothing is missed and nothing is listed twice.
- 410 Gone: list again; the indexer tells the difference, deletions included.
- Silence: a live server sends a bookmark a minute, so a longer pause means a dead connection.
- 429, 5xx, a refused connection: jittered back-off, longer where the server says so.
- A server that ends watches as soon as they begin is met with back-off too: there is no way into a hot loop.

kopf's watching.py and client-go's reflector.go were the models; the errors of others that this avoids are listed in
docs/design.md, section 7.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import anyio
import msgspec

from headrace.cluster.backoff import Backoff
from headrace.cluster.indexer import Indexer
from headrace.cluster.protocol import Cluster
from headrace.errors import Denied, Expired, HeadraceError, Unavailable
from headrace.telemetry import logger

T = TypeVar("T", bound=msgspec.Struct)

IDLE_TIMEOUT_S = 90.0
"""kube-apiserver sends a bookmark every 60 s (`defaultBookmarkFrequency`), so this is one missed and half a next."""

HEALTHY_WATCH_S = 1.0
"""A watch that lived as long proves that the server is well. As in client-go, a shorter one counts as a failure."""

BACKOFF = Backoff(first_s=0.1, cap_s=30.0, jitter=0.5)

LISTED = "cache.listed"
INTERRUPTED = "cache.interrupted"
REFUSED = "cache.refused"
KEEPS_FAILING = "cache.keeps_failing"

_FAILURES_TO_WARN = 6  # about 3 s without a working watch


class Reflector(Generic[T]):
    """Runs the list-watch of one kind in one scope into an indexer."""

    def __init__(self, cluster: Cluster, indexer: Indexer[T]) -> None:
        self.synced = anyio.Event()
        self.settled = anyio.Event()  # listed, or refused
        self._cluster = cluster
        self._indexer = indexer
        self._must_list = True
        self._opened_at_s = math.inf
        self._log = logger(component="cluster.cache", kind=indexer.kind.resource)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        failures = 0
        while True:
            self._opened_at_s = math.inf
            error: Exception | None = None
            try:
                if self._must_list:
                    await self._list()
                await self._watch()
            except Expired as caught:
                error, self._must_list = caught, True
            except Exception as caught:  # noqa: BLE001 logged below; a cache must not end while its process lives
                error = caught
            if anyio.current_time() - self._opened_at_s >= HEALTHY_WATCH_S:
                failures = 0
                if error is None:
                    continue
            failures += 1
            await self._back_off(failures, error)

    async def _back_off(self, failures: int, error: Exception | None) -> None:
        if isinstance(error, Denied) and not self.settled.is_set():
            self._log.warning(REFUSED, namespace=self._indexer.where.namespace, error=str(error))
            self.settled.set()
        elif error is not None and not isinstance(error, HeadraceError):
            self._log.error(INTERRUPTED, failures=failures, exc_info=error)
        elif failures % _FAILURES_TO_WARN == 0:
            self._log.warning(KEEPS_FAILING, failures=failures, error=str(error or "watches end at once"))
        else:
            self._log.debug(INTERRUPTED, failures=failures, error=str(error or "the watch ended"))
        delay_s = BACKOFF.delay_s(failures)
        if isinstance(error, Unavailable) and error.retry_after_s is not None:
            delay_s += error.retry_after_s
        await anyio.sleep(delay_s)

    async def _list(self) -> None:
        kind, where = self._indexer.kind, self._indexer.where
        page = await self._cluster.list(kind, where)
        version, docs = page.version, page.items
        while page.resume:
            try:
                page = await self._cluster.list(kind, where, resume=page.resume)
                docs = docs + page.items
            except Expired:  # the rest of that moment is forgotten; everything of this one, in one piece, cannot expire
                page = await self._cluster.list(kind, where, limit=0)
                version, docs = page.version, page.items
        self._indexer.replace(docs, version)
        self._must_list = False
        self._log.debug(LISTED, objects=len(docs), version=version)
        self.synced.set()
        self.settled.set()

    async def _watch(self) -> None:
        kind, where, since = self._indexer.kind, self._indexer.where, self._indexer.version
        async with self._cluster.watch(kind, where, since=since, idle_timeout_s=IDLE_TIMEOUT_S) as changes:
            self._opened_at_s = anyio.current_time()
            async for change in changes:
                self._indexer.apply(change)
