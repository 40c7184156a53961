"""With several processes (pytest-xdist), all of them take down what they have made when the run is interrupted.

Without this an interrupted run gives its workers some seconds and then kills them, and never tells them why.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil
import pytest

TOLD_S, ENDED_S = 1.0, 120.0


class Controller:
    """In the process that gives out tests: ends its workers, and waits for them."""

    def pytest_keyboard_interrupt(self) -> None:
        workers = [child for child in psutil.Process().children() if _is_worker(child)]
        _, unaware = psutil.wait_procs(workers, timeout=TOLD_S)  # Ctrl-C reaches them too
        for worker in unaware:
            with suppress(psutil.NoSuchProcess):
                worker.terminate()
        psutil.wait_procs(unaware, timeout=ENDED_S)


def _is_worker(process: psutil.Process) -> bool:
    """Tell whether execnet has started a process, which is given its program through standard input."""
    try:
        return any("exec(eval(sys.stdin.readline()))" in word for word in process.cmdline())
    except psutil.Error:
        return False


class Worker:
    """In a process that runs tests: once interrupted it cannot be so again, and ends by itself."""

    def __init__(self) -> None:
        self._interrupted = False

    def pytest_keyboard_interrupt(self) -> None:
        self._interrupted = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        if self._interrupted:
            os._exit(2)  # else it would wait for orders that nobody gives any more
