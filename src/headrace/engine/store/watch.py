"""A watch: a position in a resource's history, read through a namespace and selectors.

An object that begins to match is ADDED for this watcher, and one that ceases to match is DELETED, whatever happened to
it for others (Kubernetes API concepts, "efficient detection of changes").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import anyio

from headrace.engine.store.history import Event, History
from headrace.engine.store.table import Match
from headrace.errors import Expired
from headrace.spec.kind import Json


class Seen(NamedTuple):
    """What a watcher is told: `object` is None for BOOKMARK, which says only that `version` has been reached."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    version: int
    object: Json | None


class Watcher:
    """Made by `Store.watch`. One reader at a time; it holds no resources and may simply be dropped."""

    def __init__(
        self,
        history: History,
        now: Callable[[], int],
        *,
        since: int | None,
        initial: list[Json],
        namespace: str,
        match: Match | None,
        bookmark_s: float | None,
    ) -> None:
        if since is not None and since > now():
            raise Expired(
                f"The resource version {since} is newer than anything here ({now()}).",
                hint="List again from the beginning.",
            )
        self._history = history
        self._now = now
        self._position = history.end if since is None else history.position(since)
        self._initial = [Seen("ADDED", int(raw["metadata"]["resourceVersion"]), raw) for raw in initial]
        if since is None:
            self._initial.append(Seen("BOOKMARK", now(), None))
        self._namespace = namespace
        self._match = match
        self._bookmark_s = bookmark_s
        self._said_at = anyio.current_time()

    async def batch(self) -> list[Seen]:
        """Wait for news and return all there is, in order; empty when the store is closed.

        A watch of everything begins with the objects there are and one BOOKMARK. Raises Expired when the reader has
        fallen behind the window.
        """
        if self._initial:
            initial, self._initial = self._initial, []
            return initial
        while True:
            seen = self._read()
            if not seen and self._is_bookmark_due():
                seen = [Seen("BOOKMARK", self._now(), None)]
            if seen:
                self._said_at = anyio.current_time()
                return seen
            with anyio.move_on_at(self._bookmark_at()):
                if not await self._history.changed():
                    return []

    def _read(self) -> list[Seen]:
        events = self._history.read(self._position)
        self._position += len(events)
        return [seen for seen in map(self._filter, events) if seen is not None]

    def _filter(self, event: Event) -> Seen | None:
        if self._namespace and event.place[0] != self._namespace:
            return None
        if self._match is None:
            return Seen(event.type, event.version, event.object)
        was = event.previous is not None and self._match(event.previous)
        if event.type != "DELETED" and self._match(event.object):
            return Seen("MODIFIED" if was else "ADDED", event.version, event.object)
        if not was:
            return None
        assert event.previous is not None
        last = {**event.previous, "metadata": {**event.previous["metadata"], "resourceVersion": str(event.version)}}
        return Seen("DELETED", event.version, last)

    def _bookmark_at(self) -> float:
        return float("inf") if self._bookmark_s is None else self._said_at + self._bookmark_s

    def _is_bookmark_due(self) -> bool:
        return anyio.current_time() >= self._bookmark_at()
