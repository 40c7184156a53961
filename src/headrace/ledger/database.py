"""The ledger's database: SQLite in a file, or PostgreSQL. All that differs between the two is in here.

Writers come one at a time, whatever the database: a run is priced by whoever commits its second edge, and two writers
of one run at once, which a change of leaders can bring about, must each see what the other has committed.
Nothing else may hold a connection, and nothing here knows what the rows mean.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from headrace.errors import EngineFailed, HeadraceError, InvalidSpec, Unavailable
from headrace.ledger import schema

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION_TABLE = """
    CREATE TABLE alembic_version (
        version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
    )
"""
_WRITES, _ALONE = "headrace_writes", "headrace_alone"
_WRITERS_LOCK = 0x6865_6164_7261_6365  # "headrace": advisory locks are numbers, and others may use the database too
_LOCKED_WITHIN_S = 10
_CONNECT_WITHIN_S = 10
_STATEMENT_WITHIN_MS = 30_000
# A process that was stopped in the middle of a write lets the next leader write before that one's statement times out.
_IDLE_WITHIN_MS = 10_000
# A server that vanishes without a word is noticed within a minute.
_SOCKET = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 45_000}


def file_url(path: Path) -> str:
    """Return the URL of a ledger in a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string()


class Database:
    """An open ledger database. Thread-safe: every block takes a connection of its own.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE`. What a PostgreSQL URL leaves out, libpq
            takes from its own variables and files, such as PGPASSWORD.

    Raises:
        InvalidSpec: the URL is none, or of another database, or the driver is not installed.
        Unavailable: the PostgreSQL server does not answer.
        EngineFailed: the tables cannot be made or migrated.
    """

    def __init__(self, url: str) -> None:
        parsed = _parsed(url)
        self._name = parsed.render_as_string(hide_password=True)
        self._is_local = parsed.get_backend_name() == "sqlite"
        self._insert: Any = sqlite.insert if self._is_local else _postgresql_insert()
        self._engine = _open_file(parsed) if self._is_local else _open_server(parsed)
        self._writing = self._engine.execution_options(**{_WRITES: True})
        try:
            with self._translated("opened"):
                _migrate(self._writing)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def write(self, *, is_alone: bool = True) -> Iterator[Connection]:
        """Give a connection in a transaction that no other lone writer's overlaps; durable when the block has ended.

        Raises EngineFailed or Unavailable when nothing could be committed; then nothing was.
        """
        engine = self._writing.execution_options(**{_ALONE: is_alone})
        with self._translated("written"), engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection to read with; raises EngineFailed or Unavailable."""
        with self._translated("read"), self._engine.connect() as connection:
            yield connection

    def add(self, connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
        """Insert a row, unless one of its key is there."""
        connection.execute(self._insert(table).values(row).on_conflict_do_nothing())

    @contextmanager
    def _translated(self, done: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._failure(done, error) from error

    def _failure(self, done: str, error: DBAPIError) -> HeadraceError:
        why = str(error.orig).strip().partition("\n")[0].rstrip(".")
        what = f"The ledger {self._name} could not be {done}: {why}."
        if self._is_local:
            hint = "Check the disk, its free space and the file's owner; pods stay until their usage is written."
            return EngineFailed(what, hint=hint)
        if isinstance(error, OperationalError | InterfaceError):
            hint = "Check that the server runs, its free space, and user and password; pods stay until it works."
            return Unavailable(what, hint=hint)
        return EngineFailed(what, hint="Check what its user may do in this database.")


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:  # its own text has the URL in it, and so perhaps a password
        raise InvalidSpec("The ledger's address is no database URL.", hint=_EXAMPLES) from error
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed
    raise InvalidSpec(f"The ledger cannot be kept in {parsed.render_as_string()}.", hint=_EXAMPLES)


def _postgresql_insert() -> Any:
    from sqlalchemy.dialects import postgresql  # 2 MiB that a SQLite file need not cost

    return postgresql.insert


_EXAMPLES = "Write sqlite:////var/lib/headrace/ledger.db or postgresql://headrace:PASSWORD@host/headrace."


def _open_file(url: URL) -> Engine:
    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineFailed(
            f"The directory of the ledger {path} cannot be made: {error.strerror}.", hint="Choose another place."
        ) from error
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's own BEGIN is replaced by ours
        connection.execute(f"PRAGMA busy_timeout={_LOCKED_WITHIN_S * 1000}")
        _keep_a_log(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer that begins as a reader cannot wait for another one: it would be told "database is locked" at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")

    return engine


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """Have the file use a write-ahead log; it stays so for all who open it later.

    Whoever finds two others at a new file is told that it is locked at once: SQLite waits for nobody where it would
    have to give up a lock of its own for it (sqlite3_busy_handler: "might not be invoked"). So this waits.
    """
    deadline = time.monotonic() + _LOCKED_WITHIN_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _open_server(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            pool_size=2,
            max_overflow=4,
            pool_pre_ping=True,
            # Statements are not prepared, so that a pooler may stand in between.
            connect_args={"connect_timeout": _CONNECT_WITHIN_S, "prepare_threshold": None, **_SOCKET},
        )
    except ModuleNotFoundError as error:
        raise InvalidSpec(
            "A ledger in PostgreSQL needs the driver psycopg, which is not installed.",
            hint="Install it with: pip install 'headrace[postgresql]'",
        ) from error

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {_STATEMENT_WITHIN_MS}")
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_WITHIN_MS}")
        if _writes(connection):
            # Durable even where the server's default is not: the pod goes when the commit has returned.
            connection.exec_driver_sql(
                "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
            )
        if _writes(connection) and connection.get_execution_options().get(_ALONE, True):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})")

    return engine


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(_WRITES))


def _migrate(engine: Engine) -> None:
    """Bring the tables to this code's revision. Idempotent, and safe with two processes at once.

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
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise EngineFailed(
                f"The ledger was written by another version of Headrace: {error}.",
                hint="Use that version, or a newer one.",
            ) from error
