"""Time as a value that can be replaced in tests: nothing else in Headrace asks the machine what time it is.

Wall times are aware UTC datetimes; Kubernetes writes them as RFC 3339 with seconds (metav1.Time) or microseconds
(metav1.MicroTime). Durations are float seconds and say so in their names.
"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What code that needs the time is given."""

    def now(self) -> dt.datetime:
        """Return the wall time, aware and in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never goes back; its zero means nothing."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


class FakeClock:
    """A clock that moves only when a test moves it."""

    def __init__(self, start: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)) -> None:
        self._now = start
        self._monotonic_s = 0.0

    def now(self) -> dt.datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`."""
        self._now += dt.timedelta(seconds=seconds)
        self._monotonic_s += seconds


def format_time(moment: dt.datetime) -> str:
    """Return metav1.Time: `2026-11-23T20:42:52Z`."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: dt.datetime) -> str:
    """Return metav1.MicroTime: `2026-11-23T20:42:52.123456Z`."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> dt.datetime:
    """Return the moment an RFC 3339 text names; raises ValueError for anything else."""
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(dt.UTC)


def boot_id() -> str:
    """Return the kernel's id of this boot; it changes when the machine restarts, so all processes are then gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
