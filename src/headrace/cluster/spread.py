"""A kind that is followed one namespace at a time, because there is no right to read all of it.

Secrets above all: who reads those of every namespace owns the cluster. Which namespaces are followed is told by a label
on them, so a new one is followed as soon as it has the label, and forgotten with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup

from headrace.clock import Clock
from headrace.cluster.indexer import Handler, Indexer, IndexFunction
from headrace.cluster.protocol import Cluster, Scope
from headrace.cluster.reflector import Reflector
from headrace.errors import EngineFailed
from headrace.spec.kind import Doc, Kind, Ref

T = TypeVar("T", bound=msgspec.Struct)


class EachNamespace(msgspec.Struct, frozen=True):
    """The objects in every namespace that has the label, whatever its value. Reading them is granted there, or not yet."""

    label: str


class Spread(Generic[T]):
    """Reads like an `Indexer`, from one for each namespace that is followed."""

    def __init__(self, kind: Kind[T], cluster: Cluster, clock: Clock) -> None:
        self.kind = kind
        self._cluster = cluster
        self._clock = clock
        self._followed: dict[str, _Followed[T]] = {}
        self._indexes: dict[str, IndexFunction[T]] = {}
        self._handlers: list[Handler[T]] = []
        self._tasks: TaskGroup | None = None

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, ref: Ref) -> Doc[T] | None:
        followed = self._followed.get(ref.namespace)
        return followed.indexer.get(ref) if followed is not None else None

    def by_index(self, name: str, value: str) -> list[Doc[T]]:
        if name not in self._indexes:
            raise EngineFailed(
                f"{self.kind.name} has no index {name!r}.", hint="Add it with Cache.add_index before the cache starts."
            )
        return [doc for followed in self._followed.values() for doc in followed.indexer.by_index(name, value)]

    def list(self, namespace: str = "") -> list[Doc[T]]:
        if namespace:
            followed = self._followed.get(namespace)
            return followed.indexer.list() if followed is not None else []
        return [doc for followed in self._followed.values() for doc in followed.indexer.list()]

    # -- setting up --------------------------------------------------------------------------------------------------

    def add_index(self, name: str, function: IndexFunction[T]) -> None:
        self._indexes[name] = function
        self._each(lambda indexer: indexer.add_index(name, function))

    def subscribe(self, handler: Handler[T]) -> None:
        self._handlers.append(handler)
        self._each(lambda indexer: indexer.subscribe(handler))

    # -- what we did ourselves ---------------------------------------------------------------------------------------

    def assume(self, doc: Doc[T]) -> None:
        if doc.namespace in self._followed:
            self._followed[doc.namespace].indexer.assume(doc)

    def assume_deleted(self, doc: Doc[T]) -> None:
        if doc.namespace in self._followed:
            self._followed[doc.namespace].indexer.assume_deleted(doc)

    # -- following ---------------------------------------------------------------------------------------------------

    def follow(self, namespace: str) -> None:
        """Follow a namespace from now on. Idempotent."""
        if namespace in self._followed:
            return
        indexer = Indexer(self.kind, Scope(namespace=namespace), self._clock)
        for name, function in self._indexes.items():
            indexer.add_index(name, function)
        for handler in self._handlers:
            indexer.subscribe(handler)
        self._followed[namespace] = _Followed(indexer, Reflector(self._cluster, indexer))
        if self._tasks is not None:
            self._tasks.start_soon(self._followed[namespace].run)

    def forget(self, namespace: str) -> None:
        """Follow a namespace no more; what was in it is gone for those who listen. Idempotent."""
        followed = self._followed.pop(namespace, None)
        if followed is not None:
            followed.end.cancel()
            followed.indexer.replace([], followed.indexer.version)

    async def settled(self) -> None:
        """Wait until each namespace has been listed, or reading it was refused: nobody waits for a right."""
        for followed in list(self._followed.values()):
            await followed.reflector.settled.wait()

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            async with anyio.create_task_group() as self._tasks:
                for followed in self._followed.values():
                    self._tasks.start_soon(followed.run)
                await anyio.sleep_forever()
        finally:
            self._tasks = None

    def _each(self, do: Callable[[Indexer[T]], None]) -> None:
        for followed in self._followed.values():
            do(followed.indexer)


class _Followed(Generic[T]):
    """One namespace's objects, what follows them, and the way to end that."""

    def __init__(self, indexer: Indexer[T], reflector: Reflector[T]) -> None:
        self.indexer = indexer
        self.reflector = reflector
        self.end = anyio.CancelScope()

    async def run(self) -> None:
        with self.end:
            await self.reflector.run()
