"""The ledger's rows in SQL. Synchronous; callers run it in a worker thread through one bounded limiter.

An event and what follows from it (the priced spans of a run that has ended) are committed in one transaction, durable
before the call returns: only then may the pod's finalizer go.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from headrace.ledger import schema
from headrace.ledger.database import Database
from headrace.ledger.model import Event, Span, Subject
from headrace.ledger.pricing import run_spans
from headrace.pools import price


class Ledger:
    """One ledger. Thread-safe.

    Args:
        url: of its database, see `database.Database`; its tables are made or migrated. Raises what that raises.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)

    def close(self) -> None:
        self.database.close()

    def record(self, new: Sequence[Event]) -> None:
        """Commit events; a run whose two edges are there gets its priced spans. Idempotent by key.

        Raises EngineFailed or Unavailable when nothing could be committed, such as on a full disk; then nothing was.
        """
        with self.database.write() as connection:
            for item in new:
                self.database.add(connection, schema.events, _event_row(item))
            for key in {item.key for item in new}:
                self._price(connection, key)

    def _price(self, connection: Connection, key: tuple[str, str, int]) -> None:
        pod_uid, container, restart = key
        rows = connection.execute(
            select(schema.events).where(
                schema.events.c.pod_uid == pod_uid,
                schema.events.c.container == container,
                schema.events.c.restart == restart,
            )
        ).all()
        edges = {found.edge: found for found in map(_event, rows)}
        if set(edges) != {"start", "end"}:
            return
        for span in run_spans(edges["start"], edges["end"], edges["end"].at):
            self.database.add(connection, schema.spans, _span_row(span))

    def events(self, *, namespace: str = "", job: str = "") -> list[Event]:
        """Return events, oldest first."""
        return [_event(row) for row in self._rows(schema.events, schema.events.c.at, namespace, job)]

    def spans(self, *, namespace: str = "", job: str = "") -> list[Span]:
        """Return the stored spans of runs that have ended, oldest first."""
        return [_span(row) for row in self._rows(schema.spans, schema.spans.c.start, namespace, job)]

    def has(self, pod_uid: str, edges: Iterable[str]) -> bool:
        """Tell whether all `edges` of a pod are committed."""
        query = select(schema.events.c.edge).where(schema.events.c.pod_uid == pod_uid)
        with self.database.read() as connection:
            return set(edges) <= {row.edge for row in connection.execute(query)}

    def _rows(self, table: Any, order: Any, namespace: str, job: str) -> Sequence[Row[Any]]:
        query = select(table).order_by(order, table.c.pod_uid)
        if namespace:
            query = query.where(table.c.namespace == namespace)
        if job:
            query = query.where(table.c.job == job)
        with self.database.read() as connection:
            return connection.execute(query).all()


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _subject(row: Row[Any]) -> Subject:
    return Subject(
        namespace=row.namespace,
        job=row.job,
        attempt=row.attempt,
        pod=row.pod,
        pool=row.pool,
        node=row.node,
        user=row.user,
    )


def _event_row(item: Event) -> dict[str, Any]:
    return {
        "pod_uid": item.pod_uid,
        "container": item.container,
        "restart": item.restart,
        "edge": item.edge,
        "at": _time(item.at),
        "shape": json.dumps(dict(item.shape), sort_keys=True),
        "card": json.dumps(price.to_json(item.card), sort_keys=True),
        **msgspec.structs.asdict(item.subject),
    }


def _event(row: Row[Any]) -> Event:
    return Event(
        pod_uid=row.pod_uid,
        container=row.container,
        restart=row.restart,
        edge=row.edge,
        at=dt.datetime.fromisoformat(row.at),
        subject=_subject(row),
        shape=json.loads(row.shape),
        card=price.from_json(json.loads(row.card)),
    )


def _span_row(span: Span) -> dict[str, Any]:
    assert span.end is not None
    return {
        "pod_uid": span.pod_uid,
        "container": span.container,
        "restart": span.restart,
        "part": span.part,
        "start": _time(span.start),
        "end": _time(span.end),
        "seconds": span.seconds,
        "cost": format(span.cost, "f"),
        "currency": span.currency,
        "shape": json.dumps(dict(span.shape), sort_keys=True),
        **msgspec.structs.asdict(span.subject),
    }


def _span(row: Row[Any]) -> Span:
    return Span(
        pod_uid=row.pod_uid,
        container=row.container,
        restart=row.restart,
        part=row.part,
        start=dt.datetime.fromisoformat(row.start),
        end=dt.datetime.fromisoformat(row.end),
        seconds=row.seconds,
        cost=Decimal(row.cost),
        currency=row.currency,
        subject=_subject(row),
        shape=json.loads(row.shape),
    )
