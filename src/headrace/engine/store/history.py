"""What happened to one resource's objects lately: the source of watches and of lists as of an earlier moment.

The history is the watchers' buffer. A watcher is a position in it and nothing else: publishing wakes those who wait,
whoever is slow reads later, and whoever is slower than the window gets Expired. No watcher can hold up another, and
memory is bounded by the window, not by the number of watchers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

import anyio

from headrace.errors import Expired
from headrace.spec.kind import Json

Place = tuple[str, str]
"""Namespace and name: an object's place among those of its resource, and its order in lists."""


class Event(NamedTuple):
    """One change of one object.

    `object` is the object after the change, and for DELETED its last state with the version of the deletion;
    `previous` is the object before, None when it was made.
    """

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    place: Place
    object: Json
    previous: Json | None


class History:
    """The last `window` events of one resource.

    Args:
        floor: nothing before this version is known here.
    """

    def __init__(self, window: int, floor: int) -> None:
        self._events: deque[Event] = deque()
        self._window = window
        self._floor = floor
        self._total = 0
        self._changed: anyio.Event | None = None
        self._is_closed = False

    def append(self, event: Event) -> None:
        """Add an event without waking anybody; call `publish` when the batch is complete."""
        self._events.append(event)
        self._total += 1
        if len(self._events) > self._window:
            self._floor = self._events.popleft().version

    def forget(self, floor: int) -> None:
        """Begin at `floor`, with nothing before it known."""
        self._events.clear()
        self._floor = floor

    def publish(self) -> None:
        """Wake all who wait for news."""
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    def close(self) -> None:
        """End all waiting for good."""
        self._is_closed = True
        self.publish()

    async def changed(self) -> bool:
        """Wait until something is published; False when nothing ever will be."""
        if self._is_closed:
            return False
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()
        return not self._is_closed

    def position(self, version: int) -> int:
        """Return the position just behind `version`; raises Expired when that is forgotten."""
        self._demand(version)
        return self._total - sum(1 for _ in self._since(version))

    @property
    def end(self) -> int:
        """The position behind the last event."""
        return self._total

    def read(self, position: int) -> list[Event]:
        """Return the events from `position` on; raises Expired when some of them are forgotten."""
        count = self._total - position
        if count > len(self._events):
            raise Expired(
                "The watch fell too far behind and was ended.", hint="List again and watch from the new version."
            )
        newest_first = list(islice(reversed(self._events), count))
        return newest_first[::-1]

    def undone(self, version: int) -> dict[Place, Json | None]:
        """Return what was different at `version`: those places' objects then, None where there was none."""
        self._demand(version)
        return {event.place: event.previous for event in self._since(version)}

    def _since(self, version: int) -> Iterator[Event]:
        """Events after `version`, the newest first."""
        for event in reversed(self._events):
            if event.version <= version:
                return
            yield event

    def _demand(self, version: int) -> None:
        if version < self._floor:
            raise Expired(
                f"The resource version {version} is too old: history here begins at {self._floor}.",
                hint="List again from the beginning.",
            )
