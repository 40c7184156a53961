"""`Cache`: a local copy of the kinds a process works with, kept true by list-watch and read without waiting.

Reconcilers observe through it, synchronously, and never ask the server. What they write they `assume`, so that the
next observation already sees it. Everything else, how it survives a bad server and how it stays honest about its own
writes, is in `reflector` and `indexer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import anyio
import msgspec
from anyio.abc import TaskGroup

from headrace.clock import Clock, SystemClock
from headrace.cluster.gate import GatedIndexer, InNamespaces
from headrace.cluster.indexer import Handler, Indexer, IndexFunction
from headrace.cluster.protocol import ALL, Cluster, Scope
from headrace.cluster.reflector import Reflector
from headrace.cluster.spread import EachNamespace, Spread
from headrace.spec.kind import Doc, Kind, Ref
from headrace.spec.kinds import NAMESPACE

T = TypeVar("T", bound=msgspec.Struct)


class Reader(Generic[T]):
    """Reads one kind from a cache. Every answer is of one moment, because nothing here waits."""

    __slots__ = ("_indexer",)

    def __init__(self, indexer: Indexer[T] | Spread[T]) -> None:
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
        scopes: which objects of a kind; all of them where a kind is not named. Fixed for the cache's life. With
            `EachNamespace` a kind is followed in the namespaces that have a label, as they come and go; with
            `InNamespaces` it is followed everywhere and shown in those.
        clock: dates what is assumed to be deleted.
    """

    def __init__(
        self,
        cluster: Cluster,
        scopes: Mapping[Kind[Any], Scope | EachNamespace | InNamespaces] | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._cluster = cluster
        self._scopes = scopes or {}
        self._clock = clock or SystemClock()
        self._followers: dict[Kind[Any], Reflector[Any] | Spread[Any]] = {}
        self._indexers: dict[Kind[Any], Indexer[Any] | Spread[Any]] = {}
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
        """Wait until every kind asked for so far has been listed once, where it may be read."""
        followers = list(self._followers.values())
        for reflector in followers:
            if isinstance(reflector, Reflector):
                await reflector.synced.wait()
        for spread in followers:
            if isinstance(spread, Spread):  # by now the namespaces are known
                await spread.settled()

    def sizes(self) -> dict[str, int]:
        """Return how many objects of each kind are held, by resource."""
        return {kind.resource: len(indexer.list()) for kind, indexer in self._indexers.items()}

    async def run(self) -> None:
        """Follow the server until cancelled. A kind first asked for while this runs is followed from then on."""
        try:
            async with anyio.create_task_group() as self._tasks:
                for follower in list(self._followers.values()):
                    self._tasks.start_soon(follower.run)
                await anyio.sleep_forever()
        finally:
            self._tasks = None

    def _indexer(self, kind: Kind[T]) -> Indexer[T] | Spread[T]:
        if kind not in self._indexers:
            follower = self._follower(kind, self._scopes.get(kind, ALL))
            self._followers[kind] = follower
            if self._tasks is not None:
                self._tasks.start_soon(follower.run)
        return cast("Indexer[T] | Spread[T]", self._indexers[kind])

    def _follower(self, kind: Kind[T], scope: Scope | EachNamespace | InNamespaces) -> Reflector[T] | Spread[T]:
        match scope:
            case EachNamespace(label):
                spread = Spread(kind, self._cluster, self._clock)
                self._indexers[kind] = spread
                self._with_namespaces(label, spread.follow, spread.forget)
                return spread
            case InNamespaces(label):
                gated = GatedIndexer(kind, self._clock)
                self._indexers[kind] = gated
                self._with_namespaces(label, gated.show, gated.hide)
                return Reflector(self._cluster, gated)
            case Scope():
                indexer = Indexer(kind, scope, self._clock)
                self._indexers[kind] = indexer
                return Reflector(self._cluster, indexer)

    def _with_namespaces(self, label: str, has: Callable[[str], None], lacks: Callable[[str], None]) -> None:
        """Call `has` with each namespace that has a label, and `lacks` when it has it no more."""

        def changed(old: Doc[Any] | None, new: Doc[Any] | None) -> None:
            if new is not None and label in new.labels:
                has(new.name)
            elif old is not None:
                lacks(old.name)

        self.subscribe(NAMESPACE, changed)
