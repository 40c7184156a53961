"""Every change of one kind in order, and watches over it that can be cut, expired or go silent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import anyio

from headrace.cluster.protocol import Change, ChangeType
from headrace.errors import Expired, Unavailable
from headrace.spec.kind import Doc, Json, Kind

BOOKMARK_S = 30.0

Match = Callable[[Json], bool]


class Event(NamedTuple):
    """One change: how the object was before it (None when it was not there) and is after it (None when it is gone)."""

    version: int
    before: Json | None
    after: Json | None


class History:
    """The changes of one kind."""

    def __init__(self, kind: Kind[Any], now: Callable[[], int]) -> None:
        self._kind = kind
        self._now = now
        self._events: list[Event] = []
        self._news = anyio.Event()
        self._cuts = 0
        self._floor = 0
        self._silences = 0

    def add(self, event: Event) -> None:
        self._events.append(event)
        self._tell()

    def expire(self) -> None:
        """Forget everything before now: running watches and older versions get 410."""
        self._floor = self._now()
        self._tell()

    def cut(self) -> None:
        """End all running watches as a lost connection does."""
        self._cuts += 1
        self._tell()

    def silence(self) -> None:
        """Have running watches say nothing more, as over a connection that died unnoticed."""
        self._silences += 1
        self._tell()

    async def changes(self, since: int, matches: Match, idle_timeout_s: float) -> AsyncIterator[Change[Any]]:
        """Yield the changes after version `since` of what matches; see `Cluster.watch`."""
        if since < self._floor:
            raise Expired(f"Version {since} is too old.", hint="List again.")
        seen, place = since, 0
        cuts, floor, silences = self._cuts, self._floor, self._silences
        while self._silences == silences:
            news = self._news
            while place < len(self._events):
                event = self._events[place]
                place += 1
                if event.version > seen:
                    seen = event.version
                    change = self._change(event, matches)
                    if change is not None:
                        yield change
            if self._floor != floor:
                raise Expired(f"Version {seen} is too old.", hint="List again.")
            if self._cuts != cuts:
                raise Unavailable("The connection was cut.", hint="Watch again.")
            with anyio.move_on_after(BOOKMARK_S):
                await news.wait()
            if news is self._news:
                seen = self._now()
                yield Change("BOOKMARK", self._doc({"metadata": {"resourceVersion": str(seen)}}))
        await anyio.sleep(idle_timeout_s)
        raise Unavailable(f"Nothing came for {idle_timeout_s:g} s.", hint="Watch again.")

    def _change(self, event: Event, matches: Match) -> Change[Any] | None:
        """Return what a watch with a selector sees: an object that comes into it is ADDED, one that leaves DELETED."""
        was_in = event.before is not None and matches(event.before)
        is_in = event.after is not None and matches(event.after)
        if not was_in and not is_in:
            return None
        verdict: ChangeType = "DELETED" if not is_in else "MODIFIED" if was_in else "ADDED"
        shown = event.after or event.before
        assert shown is not None
        meta = {**shown["metadata"], "resourceVersion": str(event.version)}
        return Change(verdict, self._doc({**shown, "metadata": meta}))

    def _doc(self, raw: Json) -> Doc[Any]:
        return Doc(self._kind, {"apiVersion": self._kind.api_version, "kind": self._kind.name, **raw})

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()
