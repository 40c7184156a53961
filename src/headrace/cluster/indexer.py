"""The objects of one kind as last heard of: what a cache's readers see. Synchronous and without I/O.

The rule that keeps it honest: `version` says up to which point every change is in. A write of our own is *assumed*
only when it is newer than that, because at or before it the server has already told what became of it; so an object
that was deleted while our answer was on its way is not raised from the dead. An assumed object is replaced by any
later word of the server and by nothing earlier.

Versions are compared as numbers, which Kubernetes guarantees since 1.35 (KEP-5504) and has always done. Where they are
no numbers, an assumed object simply yields to the server's next word about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from headrace.clock import Clock, format_time
from headrace.cluster.protocol import Change, Scope
from headrace.cluster.selection import selector
from headrace.errors import EngineFailed
from headrace.spec.kind import Doc, Kind, Ref
from headrace.telemetry import logger

T = TypeVar("T", bound=msgspec.Struct)

Handler = Callable[[Doc[T] | None, Doc[T] | None], None]
"""`(old, new)`: called once a version, in order; old is None for what appeared, new is None for what is gone."""

IndexFunction = Callable[[Doc[T]], Iterable[str]]

HANDLER_FAILED = "cache.handler_failed"
INDEX_FAILED = "cache.index_failed"

_log = logger(component="cluster.cache")


def is_later(version: str, than: str, *, unknown: bool) -> bool:
    """Tell whether a resourceVersion is later than another; `unknown` is the answer where one is no number."""
    if not than:
        return True
    return int(version) > int(than) if version.isdecimal() and than.isdecimal() else unknown


class _Index(Generic[T]):
    """Objects by value of one function, which is asked once a version."""

    def __init__(self, name: str, function: IndexFunction[T]) -> None:
        self._name = name
        self._function = function
        self._values: dict[Ref, frozenset[str]] = {}
        self._docs: dict[str, dict[Ref, Doc[T]]] = {}

    def get(self, value: str) -> list[Doc[T]]:
        return list(self._docs.get(value, {}).values())

    def put(self, ref: Ref, doc: Doc[T] | None) -> None:
        values = frozenset() if doc is None else self._values_of(doc)
        for value in self._values.pop(ref, frozenset()) - values:
            docs = self._docs[value]
            del docs[ref]
            if not docs:
                del self._docs[value]
        if doc is not None and values:
            self._values[ref] = values
            for value in values:
                self._docs.setdefault(value, {})[ref] = doc

    def _values_of(self, doc: Doc[T]) -> frozenset[str]:
        try:
            return frozenset(self._function(doc))
        except Exception:  # noqa: BLE001 one object that cannot be read must not stop all others
            _log.exception(INDEX_FAILED, index=self._name, kind=doc.kind.name, object=str(doc.ref))
            return frozenset()


class Indexer(Generic[T]):
    """Holds the objects of one kind in one scope, by name, namespace and any number of indexes."""

    def __init__(self, kind: Kind[T], where: Scope, clock: Clock) -> None:
        self.kind = kind
        self.where = where
        self.version = ""
        self._clock = clock
        self._is_in_scope = selector(where)
        self._docs: dict[Ref, Doc[T]] = {}
        self._by_namespace = _Index[T]("namespace", lambda doc: (doc.namespace,))
        self._indexes: dict[str, _Index[T]] = {}
        self._handlers: list[Handler[T]] = []
        self._assumed: set[Ref] = set()
        self._deleting: dict[Ref, str] = {}  # uid of what we asked to delete

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, ref: Ref) -> Doc[T] | None:
        """Return one object, or None."""
        return self._docs.get(ref)

    def by_index(self, name: str, value: str) -> list[Doc[T]]:
        """Return the objects for which an index function gave `value`; raises EngineFailed for an unknown index."""
        index = self._indexes.get(name)
        if index is None:
            raise EngineFailed(
                f"{self.kind.name} has no index {name!r}.", hint="Add it with Cache.add_index before the cache starts."
            )
        return index.get(value)

    def list(self, namespace: str = "") -> list[Doc[T]]:
        """Return all objects, or those of one namespace."""
        return self._by_namespace.get(namespace) if namespace else list(self._docs.values())

    # -- setting up --------------------------------------------------------------------------------------------------

    def add_index(self, name: str, function: IndexFunction[T]) -> None:
        """Index by the values of a function; what it cannot read is in none."""
        index = _Index(name, function)
        for ref, doc in self._docs.items():
            index.put(ref, doc)
        self._indexes[name] = index

    def subscribe(self, handler: Handler[T]) -> None:
        """Tell a handler of everything there is and of every change from now on."""
        self._handlers.append(handler)
        for doc in list(self._docs.values()):
            self._call(handler, None, doc)

    # -- what the server says ----------------------------------------------------------------------------------------

    def replace(self, docs: Iterable[Doc[T]], version: str) -> None:
        """Take a whole list as of `version`; what is not in it is gone, unless it was assumed later than the list."""
        listed = {doc.ref: doc for doc in docs}
        for ref, doc in listed.items():
            self._hear(ref, doc)
        for ref in list(self._docs):
            if ref not in listed and not self._is_ahead(ref, version):
                self._put(ref, None)
        self.version = version

    def apply(self, change: Change[T]) -> None:
        """Take one watch event."""
        doc = change.doc
        self.version = doc.version or self.version
        if change.type == "DELETED":
            if not self._is_ahead(doc.ref, doc.version):
                self._put(doc.ref, None)
        elif change.type != "BOOKMARK":
            self._hear(doc.ref, doc)

    def _hear(self, ref: Ref, doc: Doc[T]) -> None:
        if not self._is_ahead(ref, doc.version):
            self._assumed.discard(ref)
            self._put(ref, self._as_asked(doc))

    def _is_ahead(self, ref: Ref, version: str) -> bool:
        """Tell whether what we assumed is later than what the server says now."""
        return ref in self._assumed and is_later(self._docs[ref].version, version, unknown=False)

    # -- what we did ourselves ---------------------------------------------------------------------------------------

    def assume(self, doc: Doc[T]) -> None:
        """Take the answer to a write of ours, unless the server has told more by now."""
        known = self._docs.get(doc.ref)
        if not is_later(doc.version, self.version, unknown=True) or not self._is_in_scope(doc.raw):
            return
        if known is None or is_later(doc.version, known.version, unknown=doc.version != known.version):
            self._assumed.add(doc.ref)
            self._put(doc.ref, self._as_asked(doc))

    def assume_deleted(self, doc: Doc[T]) -> None:
        """Show an object as being deleted, whatever the server still says of its time before."""
        known = self._docs.get(doc.ref)
        if known is not None and known.uid == doc.uid and not known.is_deleting:
            self._deleting[doc.ref] = doc.uid
            self._put(doc.ref, self._as_asked(known), is_same_version=True)

    def _as_asked(self, doc: Doc[T]) -> Doc[T]:
        """Return the object, marked as being deleted where we asked for that and it does not know yet."""
        if self._deleting.get(doc.ref) != doc.uid or doc.is_deleting:
            self._deleting.pop(doc.ref, None)
            return doc
        meta = {**doc.meta, "deletionTimestamp": format_time(self._clock.now())}
        return Doc(self.kind, {**doc.raw, "metadata": meta})

    # -- storing and telling -----------------------------------------------------------------------------------------

    def _put(self, ref: Ref, new: Doc[T] | None, *, is_same_version: bool = False) -> None:
        old = self._docs.get(ref)
        if new is None:
            self._docs.pop(ref, None)
            self._assumed.discard(ref)
            self._deleting.pop(ref, None)
            if old is None:
                return
        else:
            if old is not None and not is_same_version and (old.version == new.version or _says_the_same(old, new)):
                return
            self._docs[ref] = new
        for index in (self._by_namespace, *self._indexes.values()):
            index.put(ref, new)
        for handler in self._handlers:
            self._call(handler, old, new)

    def _call(self, handler: Handler[T], old: Doc[T] | None, new: Doc[T] | None) -> None:
        try:
            handler(old, new)
        except Exception:  # noqa: BLE001 one object that cannot be read must not stop all others
            doc = new or old
            _log.exception(HANDLER_FAILED, kind=self.kind.name, object=str(doc.ref if doc else ""))


def _says_the_same(old: Doc[Any], new: Doc[Any]) -> bool:
    """Tell whether a new version has nothing new in what is kept of it; only of objects whose parts are shared."""
    spec, status = new.raw.get("spec"), new.raw.get("status")
    if spec is None or spec is not old.raw.get("spec") or status is not old.raw.get("status"):
        return False
    return bool({**old.meta, "resourceVersion": ""} == {**new.meta, "resourceVersion": ""})
