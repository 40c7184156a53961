"""Bills: spans grouped for people, and the replay that proves them. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal

from headrace.clock import format_time
from headrace.errors import InvalidSpec
from headrace.ledger.model import Event, Span
from headrace.ledger.pricing import spans as derive
from headrace.spec import amounts
from headrace.spec.kind import Json

GROUPINGS = ("span", "job", "pool", "user", "day")


def window(
    found: Iterable[Span], *, pool: str = "", user: str = "", since: dt.datetime | None, until: dt.datetime | None
) -> list[Span]:
    """Return the spans that begin in `[since, until)`, of one pool or user when given."""
    return [
        span
        for span in found
        if (not pool or span.subject.pool == pool)
        and (not user or span.subject.user == user)
        and (since is None or span.start >= since)
        and (until is None or span.start < until)
    ]


def bill(found: Sequence[Span], by: str) -> Json:
    """Return `{currency, total, final, rows}`; costs are exact decimal text.

    Raises InvalidSpec for an unknown grouping, and where two currencies would have to be added.
    """
    if by not in GROUPINGS:
        raise InvalidSpec(f"by={by!r} is no grouping.", hint=f"There are: {', '.join(GROUPINGS)}.")
    currencies = sorted({span.currency for span in found}) or ["USD"]
    if len(currencies) > 1 and by != "span":
        raise InvalidSpec(
            f"The usage is in {' and '.join(currencies)}, which cannot be added.", hint="Choose one pool, or by=span."
        )
    rows = [_span_row(span) for span in found] if by == "span" else _grouped(found, by)
    total = sum((span.cost for span in found), Decimal(0))
    return {
        "currency": currencies[0],
        "total": format(total, "f"),
        "final": all(span.end is not None for span in found),
        "by": by,
        "rows": rows,
    }


def _span_row(span: Span) -> Json:
    return {
        "namespace": span.subject.namespace,
        "job": span.subject.job,
        "attempt": span.subject.attempt,
        "pod": span.subject.pod,
        "pool": span.subject.pool,
        "user": span.subject.user,
        "start": format_time(span.start),
        "end": format_time(span.end) if span.end else None,
        "seconds": span.seconds,
        "shape": amounts.describe(span.shape),
        "cost": format(span.cost, "f"),
        "currency": span.currency,
    }


def _grouped(found: Sequence[Span], by: str) -> list[Json]:
    groups: dict[tuple[str, str], list[Span]] = {}
    for span in found:
        groups.setdefault(_group(span, by), []).append(span)
    return [
        {
            **({"namespace": namespace} if by == "job" else {}),
            by: name,
            "seconds": sum(span.seconds for span in members),
            "cost": format(sum((span.cost for span in members), Decimal(0)), "f"),
            "currency": members[0].currency,
        }
        for (namespace, name), members in sorted(groups.items())
    ]


def _group(span: Span, by: str) -> tuple[str, str]:
    if by == "day":
        return "", span.start.date().isoformat()
    if by == "job":
        return span.subject.namespace, span.subject.job
    return "", str(getattr(span.subject, by))


def replay(events: Sequence[Event], billed: Sequence[Span], now: dt.datetime) -> Json:
    """Derive all spans of ended runs from events again and compare them with the stored ones, row by row."""
    again = {_key(span): span for span in derive(events, now) if _has_ended(span, events)}
    stored = {_key(span): span for span in billed}
    differences = [
        f"{key}: billed {stored[key].cost if key in stored else 'nothing'}, replayed {again[key].cost if key in again else 'nothing'}"
        for key in sorted({*again, *stored})
        if again.get(key) != stored.get(key)
    ]
    currency = next((span.currency for span in billed), "USD")
    return {
        "equal": not differences,
        "currency": currency,
        "billed": format(sum((s.cost for s in stored.values()), Decimal(0)), "f"),
        "replayed": format(sum((s.cost for s in again.values()), Decimal(0)), "f"),
        "events": len(events),
        "spans": len(stored),
        "differences": differences,
    }


def _key(span: Span) -> tuple[str, str, int, int]:
    return span.pod_uid, span.container, span.restart, span.part


def _has_ended(span: Span, events: Sequence[Event]) -> bool:
    return any(e.edge == "end" and e.key == (span.pod_uid, span.container, span.restart) for e in events)
