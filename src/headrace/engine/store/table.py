"""The committed objects of one resource, in memory and in order, and its pages as of now or of a moment ago."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import NamedTuple

from headrace.engine.store.history import Event, History, Place
from headrace.spec.kind import Json

Match = Callable[[Json], bool]
_LAST = "\U0010ffff"


class Stored(NamedTuple):
    """One object as it was saved. `id` is the version at which it was created. `raw` must never be changed."""

    id: int
    version: int
    raw: Json


class Slice(NamedTuple):
    """One page of a list.

    Args:
        version: the moment of which the whole list is; the next page is asked for with it.
        last: the place of the last item, after which the next page begins; None when this is the last page.
        remaining: how many objects follow this page, selectors not applied.
    """

    items: list[Json]
    version: int
    last: Place | None = None
    remaining: int = 0


class Table:
    """All objects of one resource and their recent changes."""

    def __init__(self, window: int, floor: int) -> None:
        self.history = History(window, floor)
        self._objects: dict[Place, Stored] = {}
        self._places: list[Place] = []

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, place: Place) -> Stored | None:
        """Return the committed object, or None."""
        return self._objects.get(place)

    def load(self, place: Place, stored: Stored) -> None:
        """Put an object without an event, at start. Raises KeyError when there is one already."""
        if place in self._objects:
            raise KeyError(place)
        self._objects[place] = stored
        insort(self._places, place)

    def apply(self, place: Place, stored: Stored | None, event: Event) -> None:
        """Make a committed change visible; None removes."""
        if stored is None:
            del self._objects[place]
            del self._places[bisect_left(self._places, place)]
        else:
            if place not in self._objects:
                insort(self._places, place)
            self._objects[place] = stored
        self.history.append(event)

    def page(
        self,
        now: int,
        *,
        namespace: str = "",
        match: Match | None = None,
        limit: int = 0,
        after: Place | None = None,
        at: int | None = None,
    ) -> Slice:
        """Return up to `limit` matching objects (0: all), ordered by namespace and name.

        Args:
            now: the store's version.
            after: continue behind this place.
            at: the moment of which to list; Expired when the history does not reach back to it.
        """
        if at is not None and at < now:
            places, past = self._then(namespace, after, at)
        else:
            places, past = self._range(namespace, after), {}
        items: list[Json] = []
        last: Place | None = None
        for index, place in enumerate(places):
            raw = past.get(place) or self._objects[place].raw
            if match is not None and not match(raw):
                continue
            if limit and len(items) == limit:
                return Slice(items, now if at is None else at, last, len(places) - index)
            items.append(raw)
            last = place
        return Slice(items, now if at is None else at)

    def _range(self, namespace: str, after: Place | None) -> list[Place]:
        first = bisect_left(self._places, (namespace, ""))
        if after is not None:
            first = max(first, bisect_right(self._places, after))
        end = bisect_right(self._places, (namespace, _LAST)) if namespace else len(self._places)
        return self._places[first:end]

    def _then(self, namespace: str, after: Place | None, at: int) -> tuple[list[Place], dict[Place, Json | None]]:
        """The places there were at `at`, and the objects that have changed since as they were."""
        past = self.history.undone(at)
        places = {place for place in self._range(namespace, after) if place not in past}
        for place, raw in past.items():
            if raw is not None and (not namespace or place[0] == namespace) and (after is None or place > after):
                places.add(place)
        return sorted(places), past
