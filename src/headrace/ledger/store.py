"""The ledger's rows in SQL. Synchronous; callers run it in a worker thread through one bounded limiter.

An event and what follows from it (the priced spans of a run that has ended) are committed in one transaction, durable
before the call returns (`synchronous=FULL`): only then may the pod's finalizer go.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, create_engine, event, inspect, select, text
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError, OperationalError

from headrace.errors import EngineFailed
from headrace.ledger import schema
from headrace.ledger.model import Event, Span, Subject
from headrace.ledger.pricing import run_spans
from headrace.pools import price

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION_TABLE = """
    CREATE TABLE alembic_version (
        version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
    )
"""


class Ledger:
    """One ledger file. Thread-safe: every call takes a connection of its own."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`, making or migrating its tables. Raises EngineFailed when that cannot be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        try:
            _migrate(self._engine)
        except DatabaseError as error:
            raise EngineFailed(
                f"The ledger {path} cannot be opened: {error.orig}.",
                hint="Check the disk and the file's owner; a copy of the file is a complete backup.",
            ) from error

    def close(self) -> None:
        self._engine.dispose()

    def record(self, new: Sequence[Event]) -> None:
        """Commit events; a run whose two edges are there gets its priced spans. Idempotent by key.

        Raises EngineFailed when nothing could be committed, such as on a full disk; then nothing was.
        """
        try:
            with self._engine.begin() as connection:
                for item in new:
                    connection.execute(insert(schema.events).values(_event_row(item)).on_conflict_do_nothing())
                for key in {item.key for item in new if item.edge == "end"}:
                    self._price(connection, key)
        except OperationalError as error:
            raise EngineFailed(
                f"The ledger could not be written: {error.orig}.",
                hint="Free space on its disk; the pods stay until it works.",
            ) from error

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
        if "start" not in edges:
            return
        for span in run_spans(edges["start"], edges["end"], edges["end"].at):
            connection.execute(insert(schema.spans).values(_span_row(span)).on_conflict_do_nothing())

    def events(self, *, namespace: str = "", job: str = "") -> list[Event]:
        """Return events, oldest first."""
        return [_event(row) for row in self._rows(schema.events, schema.events.c.at, namespace, job)]

    def spans(self, *, namespace: str = "", job: str = "") -> list[Span]:
        """Return the stored spans of runs that have ended, oldest first."""
        return [_span(row) for row in self._rows(schema.spans, schema.spans.c.start, namespace, job)]

    def has(self, pod_uid: str, edges: Iterable[str]) -> bool:
        """Tell whether all `edges` of a pod are committed."""
        query = select(schema.events.c.edge).where(schema.events.c.pod_uid == pod_uid)
        with self._engine.connect() as connection:
            return set(edges) <= {row.edge for row in connection.execute(query)}

    def _rows(self, table: Any, order: Any, namespace: str, job: str) -> Sequence[Row[Any]]:
        query = select(table).order_by(order, table.c.pod_uid)
        if namespace:
            query = query.where(table.c.namespace == namespace)
        if job:
            query = query.where(table.c.job == job)
        with self._engine.connect() as connection:
            return connection.execute(query).all()


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN is replaced by ours
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(engine: Engine) -> None:
    """Bring the tables to this code's revision.

    A new ledger gets them at once, as the migrations would make them (a test compares the two): Alembic costs 0.2 s
    and 11 MiB, so only a ledger of an earlier revision imports it.
    """
    with engine.begin() as connection:
        if not inspect(connection).has_table("alembic_version"):
            schema.metadata.create_all(connection)
            connection.execute(text(_VERSION_TABLE))
            connection.execute(text("INSERT INTO alembic_version VALUES (:it)"), {"it": schema.REVISION})
        if connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == schema.REVISION:
            return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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
