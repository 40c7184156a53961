"""Events → priced spans. Pure, so that a bill can be derived again and compared ("replay").

A run is billed from its start edge to its end edge with the card frozen on the start edge. Spans are split at midnight
UTC, so that every span belongs to one day; rounding and minimum are those of the whole run and fall into its last part.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from headrace.ledger.model import Event, Span

_AN_INSTANT_S = 0.001
"""Kubernetes' times are whole seconds: a run that began and ended within one has equal edges, and ran all the same."""


def spans(events: Iterable[Event], now: dt.datetime) -> list[Span]:
    """Return the spans of all runs that have begun, by start; those that still run are priced until `now`."""
    starts: dict[tuple[str, str, int], Event] = {}
    ends: dict[tuple[str, str, int], Event] = {}
    for event in events:
        (starts if event.edge == "start" else ends)[event.key] = event
    priced = [span for key, start in starts.items() for span in run_spans(start, ends.get(key), now)]
    return sorted(priced, key=lambda span: (span.start, span.pod_uid, span.part))


def run_spans(start: Event, end: Event | None, now: dt.datetime) -> list[Span]:
    """Return the spans of one run, one a day."""
    until = max(start.at, end.at if end else now)
    billed = start.card.billed_seconds(max(_AN_INSTANT_S, (until - start.at).total_seconds()))
    pieces = _days(start.at, until)
    found = []
    for part, (begin, finish) in enumerate(pieces):
        is_last = part == len(pieces) - 1
        seconds = billed if is_last else min(billed, int((finish - begin).total_seconds()))
        billed -= seconds
        found.append(
            Span(
                pod_uid=start.pod_uid,
                container=start.container,
                restart=start.restart,
                part=part,
                start=begin,
                end=None if is_last and end is None else finish,
                seconds=seconds,
                cost=start.card.cost(start.shape, seconds),
                currency=start.card.currency,
                subject=start.subject,
                shape=start.shape,
            )
        )
    return found


def _days(begin: dt.datetime, end: dt.datetime) -> list[tuple[dt.datetime, dt.datetime]]:
    pieces = []
    while True:
        midnight = (begin + dt.timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        if midnight >= end:
            pieces.append((begin, end))
            return pieces
        pieces.append((begin, midnight))
        begin = midnight
