"""get, list and watch: what is committed, filtered, in pages of one moment or as a stream of changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

from headrace.engine.pipeline import refusals
from headrace.engine.pipeline.registry import Resource
from headrace.engine.pipeline.request import Answer, Request, WatchEvent
from headrace.engine.pipeline.selecting import Continue, matcher, parsed_version
from headrace.engine.store.store import Key, Store
from headrace.engine.store.watch import Seen, Watcher
from headrace.errors import Expired
from headrace.spec.kind import Json

_INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Reader:
    """Answers reads from memory; nothing here waits but a watch."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, request: Request, resource: Resource) -> Json:
        """Return the committed object; raises NotFound."""
        stored = self._store.get(key_of(request, resource))
        if stored is None:
            raise refusals.not_found(request.kind, request.name)
        return as_served(stored.raw, resource)

    def list(self, request: Request, resource: Resource) -> Answer:
        """Return one page; raises Expired when its moment is forgotten."""
        match = matcher(request, resource)
        start = Continue.read(request.resume) if request.resume else None
        moment = start.version if start else self._moment(request)
        page = self._store.page(
            resource.key,
            namespace=request.namespace if resource.kind.namespaced else "",
            match=match,
            limit=request.limit,
            after=(start.namespace, start.name) if start else None,
            at=moment,
        )
        metadata: Json = {"resourceVersion": str(page.version)}
        if page.last is not None:
            metadata["continue"] = Continue(page.version, *page.last).token()
            if match is None:
                metadata["remainingItemCount"] = page.remaining
        return Answer(
            body={
                "kind": resource.list_kind,
                "apiVersion": resource.kind.api_version,
                "metadata": metadata,
                "items": [as_served(raw, resource) for raw in page.items],
            }
        )

    def watch(self, request: Request, resource: Resource) -> Answer:
        """Return a stream of changes; raises Expired at once when it cannot begin."""
        version = parsed_version(request.version or "0")
        watcher = self._store.watch(
            resource.key,
            since=None if version == 0 or request.send_initial_events else version,
            namespace=request.namespace if resource.kind.namespaced else "",
            match=matcher(request, resource),
            bookmarks=request.bookmarks or request.send_initial_events,
        )
        return Answer(stream=Stream(watcher, request, resource))

    def _moment(self, request: Request) -> int | None:
        version = parsed_version(request.version or "0")
        if version > self._store.version:
            raise Expired(
                f"The resource version {version} is newer than anything here ({self._store.version}).",
                hint="List again without it.",
            )
        return version if request.version_match == "Exact" and version else None


class Stream:
    """Satisfies `WatchStream`."""

    def __init__(self, watcher: Watcher, request: Request, resource: Resource) -> None:
        self._watcher = watcher
        self._resource = resource
        self._sends_bookmarks = request.bookmarks
        self._initial_bookmark = request.send_initial_events

    async def batch(self) -> list[WatchEvent]:
        """Wait for at least one event and return all that are there; empty when the server is going down."""
        while seen := await self._watcher.batch():
            events = [event for event in map(self._event, seen) if event is not None]
            if events:
                return events
        return []

    async def __aiter__(self) -> AsyncIterator[WatchEvent]:
        while batch := await self.batch():
            for event in batch:
                yield event

    def _event(self, seen: Seen) -> WatchEvent | None:
        if seen.object is not None:
            return WatchEvent(seen.type, as_served(seen.object, self._resource))
        ends_initial, self._initial_bookmark = self._initial_bookmark, False
        if not self._sends_bookmarks and not ends_initial:
            return None
        metadata: Json = {"resourceVersion": str(seen.version)}
        if ends_initial:
            metadata["annotations"] = {_INITIAL_EVENTS_END: "true"}
        kind = self._resource.kind
        return WatchEvent("BOOKMARK", {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata})


def key_of(request: Request, resource: Resource) -> Key:
    """Return the store's key of the object a request names."""
    return Key(resource.key, request.namespace if resource.kind.namespaced else "", request.name)


def as_served(raw: Json, resource: Resource) -> Json:
    """Return the object in the version asked for; versions of a kind differ in `apiVersion` only."""
    api_version = resource.kind.api_version
    return raw if raw["apiVersion"] == api_version else raw | {"apiVersion": api_version}


def no_such_verb(verb: str, what: Any) -> NoReturn:
    """Refuse a verb that the resource does not have."""
    raise refusals.MethodNotAllowed(f"the server does not allow {verb} on {what}")
