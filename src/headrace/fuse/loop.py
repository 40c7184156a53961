"""One thread that waits for readable descriptors and for moments in time. Standard library only."""

from __future__ import annotations

import heapq
import itertools
import selectors
import sys
import time
import traceback
from collections.abc import Callable

Callback = Callable[[], None]


class Loop:
    """A callback that raises is reported on stderr, and the loop goes on: one bad peer must not end the broker."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callback]] = []
        self._order = itertools.count()
        self._running = False

    def on_readable(self, fd: int, call: Callback) -> None:
        """Call `call` whenever `fd` is readable or at its end."""
        self._selector.register(fd, selectors.EVENT_READ, call)

    def forget(self, fd: int) -> None:
        """Watch `fd` no longer; ask for it before closing. Idempotent."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def later(self, delay_s: float, call: Callback) -> None:
        """Call `call` once, `delay_s` seconds from now. It has to see for itself whether it still matters."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), call))

    def stop(self) -> None:
        """Make `run` return after the present callback."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        self._running = True
        while self._running:
            timeout_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(timeout_s):
                if key.fd in self._selector.get_map():  # else an earlier callback of this round forgot it
                    _guarded(key.data)
            while self._running and self._timers and self._timers[0][0] <= time.monotonic():
                _guarded(heapq.heappop(self._timers)[2])


def _guarded(call: Callback) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001 - reported; the others' callbacks must go on
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
