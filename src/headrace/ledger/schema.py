"""The ledger's tables, and code archives where replicas share only this database. Times are UTC text with microseconds, money is decimal text: SQLite has no type for either."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table, Text

REVISION = "0002"
"""The migration this code expects; `migrations/versions/` holds the way there."""

metadata = MetaData()

_SUBJECT = ("namespace", "job", "pod", "pool", "node", "user")


def _subject() -> list[Column[str] | Column[int]]:
    return [*(Column(name, Text, nullable=False) for name in _SUBJECT), Column("attempt", Integer, nullable=False)]


events = Table(
    "events",
    metadata,
    Column("pod_uid", Text, nullable=False),
    Column("container", Text, nullable=False),
    Column("restart", Integer, nullable=False),
    Column("edge", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("card", Text, nullable=False),
    *_subject(),
    PrimaryKeyConstraint("pod_uid", "container", "restart", "edge"),
)

spans = Table(
    "spans",
    metadata,
    Column("pod_uid", Text, nullable=False),
    Column("container", Text, nullable=False),
    Column("restart", Integer, nullable=False),
    Column("part", Integer, nullable=False),
    Column("start", Text, nullable=False),
    Column("end", Text, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("cost", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("shape", Text, nullable=False),
    *_subject(),
    PrimaryKeyConstraint("pod_uid", "container", "restart", "part"),
    Index("spans_by_namespace", "namespace", "job"),
    Index("spans_by_start", "start"),
)

code_archives = Table(
    "code_archives",
    metadata,
    Column("digest", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("digest", "part"),
)
