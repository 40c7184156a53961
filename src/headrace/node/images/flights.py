"""One piece of work for everybody who wants its result at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.waiting = 0
        self.scope = anyio.CancelScope()
        self.landed = anyio.Event()
        self.result: list[T] = []
        self.error: Exception | None = None


class Flights(Generic[T]):
    """Work by key. It goes on while anybody waits for it, also when whoever began it has gone; else it is cancelled.

    Args:
        tasks: where the work is done.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._flights: dict[str, _Flight[T]] = {}

    async def join(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, done by us or by whoever was earlier.

        What the earlier one's work raises is not ours (he may have had no permission): then ours is done after all.
        """
        while True:
            flight = self._flights.get(key)
            is_ours = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
                self._tasks.start_soon(self._fly, key, flight, work)
            flight.waiting += 1
            try:
                await flight.landed.wait()
            finally:
                flight.waiting -= 1
                if not flight.waiting and not flight.landed.is_set():
                    flight.scope.cancel()
                    if self._flights.get(key) is flight:
                        del self._flights[key]
            if flight.result:
                return flight.result[0]
            if is_ours and flight.error is not None:
                raise flight.error

    async def _fly(self, key: str, flight: _Flight[T], work: Callable[[], Awaitable[T]]) -> None:
        try:
            with flight.scope:
                flight.result.append(await work())
        except Exception as error:  # noqa: BLE001 - raised again in whoever waits, whose matter it is
            flight.error = error
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.landed.set()
