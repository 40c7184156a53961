"""`Cache`: a local copy of the kinds a process works with, kept true by list-watch and read without waiting.

Reconcilers observe through it, synchronously, and never ask the server. What they write they `assume`, so that the
next observation already sees it. Everything else, how it survives a bad server and how it stays honest about its own
writes, is in `reflector` and `indexer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import anyio
import msgspec
from anyio.abc import TaskGroup

from headrace.clock import Clock, SystemClock
from headrace.cluster.indexer import Handler, Indexer, IndexFunction
from headrace.cluster.protocol import ALL, Cluster, Scope
from headrace.cluster.reflector import Reflector
from headrace.spec.kind import Doc, Kind, Ref

T = TypeVar("T", bound=msgspec.Struct)


class Reader(Generic[T]):
    """Reads one kind from a cache. Every answer is of one moment, because nothing here waits."""

    __slots__ = ("_indexer",)

    def __init__(self, indexer: Indexer[T]) -> None:
        self._indexer = indexer

    def get(self, ref: Ref) -> Doc[T] | None:
        """Return one object, or None."""
        return self._indexer.get(ref)

    def by_index(self, name: str, value: str) -> list[Doc[T]]:
        """Return the objects for which the index function gave `value`; raises EngineFailed for an unknown index."""
        return self._indexer.by_index(name, value)

    def list(self, namespace: str = "") -> list[Doc[T]]:
        """Return all objects, or those of one namespace, in no particular order."""
        return self._indexer.list(namespace)


class Cache:
    """Caches every kind that somebody asked for with `reader`, `add_index` or `subscribe`.

    Args:
        cluster: what is cached.
        scopes: which objects of a kind; all of them where a kind is not named. Fixed for the cache's life.
        clock: dates what is assumed to be deleted.
    """

    def __init__(
        self, cluster: Cluster, scopes: Mapping[Kind[Any], Scope] | None = None, *, clock: Clock | None = None
    ) -> None:
        self._cluster = cluster
        self._scopes = scopes or {}
        self._clock = clock or SystemClock()
        self._reflectors: dict[Kind[Any], Reflector[Any]] = {}
        self._indexers: dict[Kind[Any], Indexer[Any]] = {}
        self._tasks: TaskGroup | None = None

    def reader(self, kind: Kind[T]) -> Reader[T]:
        """Return the reader of a kind, which is cached from now on."""
        return Reader(self._indexer(kind))

    def add_index(self, kind: Kind[T], name: str, function: IndexFunction[T]) -> None:
        """Index a kind by the values of a function; replaces an index of the same name."""
        self._indexer(kind).add_index(name, function)

    def subscribe(self, kind: Kind[T], handler: Handler[T]) -> None:
        """Call `handler(old, new)` for everything there is (old is None) and then for every change, in order.

        Called on the event loop, so it must be quick; what it raises is logged and goes no further.
        """
        self._indexer(kind).subscribe(handler)

    def assume(self, doc: Doc[T]) -> None:
        """Show the answer to a write of ours at once. Nothing goes backwards: an older or overtaken answer is ignored."""
        self._indexer(doc.kind).assume(doc)

    def assume_deleted(self, doc: Doc[T]) -> None:
        """Show an object whose deletion we asked for as being deleted; it goes when the server says that it is gone."""
        self._indexer(doc.kind).assume_deleted(doc)

    async def synced(self) -> None:
        """Wait until every kind asked for so far has been listed once."""
        for reflector in list(self._reflectors.values()):
            await reflector.synced.wait()

    async def run(self) -> None:
        """Follow the server until cancelled. A kind first asked for while this runs is followed from then on."""
        try:
            async with anyio.create_task_group() as self._tasks:
                for reflector in self._reflectors.values():
                    self._tasks.start_soon(reflector.run)
                await anyio.sleep_forever()
        finally:
            self._tasks = None

    def _indexer(self, kind: Kind[T]) -> Indexer[T]:
        if kind not in self._indexers:
            indexer = Indexer(kind, self._scopes.get(kind, ALL), self._clock)
            reflector = Reflector(self._cluster, indexer)
            self._indexers[kind] = indexer
            self._reflectors[kind] = reflector
            if self._tasks is not None:
                self._tasks.start_soon(reflector.run)
        return cast("Indexer[T]", self._indexers[kind])
