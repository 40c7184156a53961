"""The queue between "something changed" and "look at it": client-go's work queue for AnyIO.

- A key that waits is queued once, however often it is added.
- A key is never handed to two workers at once: added while it is being worked on, it comes again afterwards.
- A key may come later: after a delay, or after a back-off that grows with its failures in a row.

Nothing polls: one task sleeps until the next key is due. Times are those of the event loop, so tests move a mock clock.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

import anyio

from headrace.cluster.backoff import Backoff

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Use: `run()` in a task; workers do `key = await get()`, work, then `forget(key)` or `retry(key)`, then `done(key)`."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._queue: deque[K] = deque()
        self._waiting: set[K] = set()  # to be worked on: queued, or added while being worked on
        self._working: set[K] = set()
        self._ready = anyio.Semaphore(0)  # one permit a queued key
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._sooner = anyio.Event()
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        """How many keys are ready to be worked on; those that come later are not counted."""
        return len(self._queue)

    def add(self, key: K) -> None:
        """Have a key worked on as soon as a worker is free."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._working:
            self._enqueue(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Have a key worked on in `delay_s` at the latest; an earlier time that was asked for stands."""
        if delay_s <= 0:
            self.add(key)
            return
        due = anyio.current_time() + delay_s
        if due < self._due.get(key, math.inf):
            self._due[key] = due
            self._sequence += 1
            heapq.heappush(self._heap, (due, self._sequence, key))
            self._sooner.set()

    def retry(self, key: K, *, at_least_s: float = 0.0) -> None:
        """Have a key worked on after its back-off, which has just grown."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, max(at_least_s, self._backoff.delay_s(failures)))

    def forget(self, key: K) -> None:
        """Say that a key went well: its next back-off starts anew."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How often in a row a key went badly."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """Wait for a key. Work on it makes a delay that was still running for it pointless, so that is dropped."""
        await self._ready.acquire()
        key = self._queue.popleft()
        self._waiting.remove(key)
        self._working.add(key)
        self._due.pop(key, None)
        return key

    def done(self, key: K) -> None:
        """Give a key back; each `get` needs one, whatever happened in between."""
        self._working.remove(key)
        if key in self._waiting:
            self._enqueue(key)

    async def run(self) -> None:
        """Bring delayed keys when they are due, until cancelled."""
        while True:
            self._sooner = anyio.Event()
            self._bring_due()
            with anyio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf):
                await self._sooner.wait()

    def _bring_due(self) -> None:
        now = anyio.current_time()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    def _enqueue(self, key: K) -> None:
        self._queue.append(key)
        self._ready.release()
