"""Times go to Kubernetes' text and back; a fake clock moves only when told."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.clock import FakeClock, SystemClock, boot_id, format_micro_time, format_time, parse_time

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MOMENTS = st.integers(min_value=0, max_value=2**52).map(lambda us: _EPOCH + dt.timedelta(microseconds=us))


@given(_MOMENTS)
def test_micro_times_round_trip(moment: dt.datetime) -> None:
    assert parse_time(format_micro_time(moment)) == moment


@given(_MOMENTS)
def test_times_round_trip_to_the_second(moment: dt.datetime) -> None:
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)


def test_times_are_written_in_utc() -> None:
    east = dt.datetime(2026, 11, 23, 21, 42, 52, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert format_time(east) == "2026-11-23T20:42:52Z"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-23T20:42:52"])
def test_a_time_without_a_zone_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


def test_fake_clock() -> None:
    clock = FakeClock()
    before = clock.now()
    clock.advance(1.5)
    assert (clock.now() - before).total_seconds() == 1.5
    assert clock.monotonic_s() == 1.5


def test_system_clock() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is dt.UTC
    assert clock.monotonic_s() <= clock.monotonic_s()
    assert boot_id() == boot_id()
