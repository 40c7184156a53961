"""A kind of which only the objects in certain namespaces are shown, although all may be read: one watch for all of them.

What is elsewhere does not exist for those who read the cache, so nobody works on it, is refused, and tries again. As soon
as a namespace has the label its objects appear like new ones, and with the label they go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from headrace.clock import Clock
from headrace.cluster.indexer import Indexer
from headrace.cluster.protocol import ALL
from headrace.spec.kind import Doc, Kind, Ref

T = TypeVar("T", bound=msgspec.Struct)


class InNamespaces(msgspec.Struct, frozen=True):
    """The objects in namespaces that have the label, whatever its value; for kinds that may be read everywhere."""

    label: str


class GatedIndexer(Indexer[T]):
    """An indexer that keeps back what is in namespaces which are not shown."""

    def __init__(self, kind: Kind[T], clock: Clock) -> None:
        super().__init__(kind, ALL, clock)
        self._shown: set[str] = set()
        self._kept_back: dict[str, dict[Ref, Doc[T]]] = {}

    def show(self, namespace: str) -> None:
        """Show what is in a namespace from now on. Idempotent."""
        self._shown.add(namespace)
        for ref, doc in self._kept_back.pop(namespace, {}).items():
            super()._put(ref, doc)

    def hide(self, namespace: str) -> None:
        """Show nothing of a namespace any more; for those who listen it is gone. Idempotent."""
        self._shown.discard(namespace)
        for doc in self.list(namespace):
            self._put(doc.ref, doc)

    def replace(self, docs: Iterable[Doc[T]], version: str) -> None:
        """Take a whole list, as an indexer does."""
        self._kept_back.clear()
        super().replace(docs, version)

    def _put(self, ref: Ref, new: Doc[T] | None, *, is_same_version: bool = False) -> None:
        if ref.namespace in self._shown:
            super()._put(ref, new, is_same_version=is_same_version)
            return
        super()._put(ref, None)
        if new is not None:
            self._kept_back.setdefault(ref.namespace, {})[ref] = new
        elif ref.namespace in self._kept_back:
            self._kept_back[ref.namespace].pop(ref, None)
