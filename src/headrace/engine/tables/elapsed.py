"""Ages as kubectl prints them (apimachinery `pkg/util/duration.HumanDuration`): `38s`, `5m12s`, `3h20m`, `2d4h`."""

from __future__ import annotations

import datetime as dt

from headrace.clock import parse_time

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_YEAR = 365 * _DAY


def age(moment: str | None, now: dt.datetime) -> str:
    """Return the time since an RFC 3339 moment; `<unknown>` when there is none, `<invalid>` for what is no moment."""
    if not moment:
        return "<unknown>"
    try:
        return human((now - parse_time(moment)).total_seconds())
    except ValueError:
        return "<invalid>"


def human(seconds: float) -> str:
    """Return a duration with two or three significant figures; a clock up to two seconds ahead counts as now."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{max(0, whole)}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(seconds: int, big_s: int, big: str, small_s: int, small: str) -> str:
    rest = seconds % big_s // small_s
    return f"{seconds // big_s}{big}{rest}{small}" if rest else f"{seconds // big_s}{big}"
