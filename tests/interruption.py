"""A run that is asked to end (SIGTERM, SIGHUP) ends as Ctrl-C ends it: what it has made is taken down."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_RUN_S = 7200
"""What a run starts ends after that by itself, when the run was killed. No whole suite takes longer."""

_ASKS_TO_END = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have these signals raise KeyboardInterrupt in the main thread. What the run was started to ignore it ignores."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in _ASKS_TO_END if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let these signals and Ctrl-C wait for the end of the context, which takes something down."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_ASKS_TO_END, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
