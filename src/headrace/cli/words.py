"""What people type as arguments: times, durations, KIND and NAME. Refused by click with the option's name in the sentence."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from headrace.clock import format_time, parse_time
from headrace.units import parse_duration_s


class Duration(click.ParamType):  # type: ignore[type-arg] # generic in newer clicks only
    """A length of time such as 45s, 10m, 1h30m; seconds for the command, or the text as it was typed."""

    name = "duration"

    def __init__(self, *, as_text: bool = False) -> None:
        self._as_text = as_text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        try:
            seconds = parse_duration_s(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        return str(value) if self._as_text else seconds


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time: RFC 3339, a day, or how long ago; RFC 3339 in UTC for the command."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if not text:
            return ""
        try:
            return format_time(_moment(text))
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is no time; write 2026-11-01T08:00:00Z, 2026-11-01 (UTC), or how long ago, such as 7d or 90m.",
                param,
                ctx,
            )


def _moment(text: str) -> dt.datetime:
    if text.isdecimal():
        raise ValueError(f"{text!r} could be a year or seconds")
    try:
        return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=parse_duration_s(text))
    except ValueError:
        pass
    if len(text) == len("2026-11-01"):
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), dt.UTC)
    return parse_time(text)


DURATION = Duration()
DURATION_TEXT = Duration(as_text=True)
MOMENT = Moment()
