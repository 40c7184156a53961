"""One thread, one loop: readable descriptors, timers, children. World, pods' and containers' pid 1s, and supervisor use it.

A callback that raises is reported on stderr and the loop goes on: a pid 1 must not die of one bad client.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable

from headrace.sandbox import syscalls

Callback = Callable[[], object]
_FAILED_CHILD = 70


class Timer:
    """A callback that will be made once, unless cancelled."""

    __slots__ = ("call",)

    def __init__(self, call: Callback) -> None:
        self.call: Callback | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Make one in the process that runs it; a loop does not survive a fork."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._children: dict[int, Callable[[int], None]] = {}
        self._signals: dict[int, Callback] = {}
        self._running = False
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        self.on_signal(signal.SIGCHLD, self._reap)
        self.on_readable(self._wake_in, self._woken)

    def on_signal(self, number: int, call: Callback) -> None:
        """Call `call` from the loop after signal `number` came."""
        self._signals[number] = call
        signal.signal(number, lambda _number, _frame: None)

    def on_readable(self, fd: int, call: Callback) -> None:
        """Call `call` whenever `fd` is readable or at its end."""
        self._selector.register(fd, selectors.EVENT_READ, {selectors.EVENT_READ: call})

    def on_writable(self, fd: int, call: Callback | None) -> None:
        """Also call `call` whenever `fd`, already watched for reading, is writable; None ends that."""
        calls = dict(self._selector.get_key(fd).data)
        calls.pop(selectors.EVENT_WRITE, None)
        if call is not None:
            calls[selectors.EVENT_WRITE] = call
        self._selector.modify(fd, sum(calls), calls)

    def forget(self, fd: int) -> None:
        """Watch `fd` no longer; call it before the descriptor is closed."""
        self._selector.unregister(fd)

    def later(self, delay_s: float, call: Callback) -> Timer:
        """Call `call` once, `delay_s` seconds from now."""
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), timer))
        return timer

    def on_exit(self, pid: int, call: Callable[[int], None]) -> None:
        """Call `call` with the wait status once child `pid` has ended."""
        self._children[pid] = call

    def close(self) -> None:
        """Give up the loop's own descriptors."""
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    @property
    def children(self) -> set[int]:
        """The children that somebody waits for."""
        return set(self._children)

    def stop(self) -> None:
        """Make `run` return after the present callback."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        self._running = True
        self._guarded(self._reap)
        while self._running:
            for key, mask in self._selector.select(self._due_in_s()):
                for event, call in key.data.items():
                    # An earlier callback of this round may have forgotten the descriptor.
                    if mask & event and self._selector.get_map().get(key.fd) is not None:
                        self._guarded(call)
            self._run_timers()

    def _due_in_s(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._running and self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                self._guarded(timer.call)

    def _woken(self) -> None:
        for number in set(os.read(self._wake_in, 512)):
            call = self._signals.get(number)
            if call is not None:
                self._guarded(call)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            call = self._children.pop(pid, None)
            if call is not None:  # else an orphan that became ours
                call(status)

    def _guarded(self, call: Callback) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - reported; whoever's callback it was, the others must go on
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()


def exit_code(status: int) -> tuple[int, int]:
    """Return `(exit code, signal)` of a wait status; a signal gives 128 + its number, as shells say it."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def close_all_except(keep: Iterable[int]) -> None:
    """Close every descriptor but `keep`. A forgotten copy of a socket or namespace keeps it alive in the wrong process."""
    first = 0
    for fd in sorted(set(keep)):
        syscalls.close_range(first, fd - 1)
        first = fd + 1
    syscalls.close_range(first, 0xFFFFFFFF)


def fork(child: Callable[[], int | None], keep: Iterable[int] = ()) -> int:
    """Run `child` in a new process that holds only stdin, stdout, stderr and `keep`; return its pid.

    The child never returns here: it ends with `child`'s number, or 70 and a traceback on stderr.
    """
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = _FAILED_CHILD
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        close_all_except((0, 1, 2, *keep))
        code = child() or 0
    except BaseException:  # noqa: BLE001 - nothing may run on into the parent's code
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)
