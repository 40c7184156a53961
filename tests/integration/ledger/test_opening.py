"""How a ledger's tables come to be, and what is said when they cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool
from tests.postgres import Postgres
from tests.storage import free_ports

from headrace.errors import EngineFailed, Unavailable
from headrace.ledger import schema
from headrace.ledger.database import file_url
from headrace.ledger.store import Ledger

VERSION_TABLE = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"


@pytest.fixture
def engine(url: str) -> Engine:
    if url.startswith("sqlite:"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    return create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "migrated"])
def test_the_tables_are_those_of_the_schema(url: str, engine: Engine, is_new: bool) -> None:
    if not is_new:  # a ledger of before the first migration goes all the way through Alembic
        with connected(engine) as connection:
            connection.execute(text(VERSION_TABLE))
    Ledger(url).close()
    with connected(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [schema.REVISION]


def test_many_may_open_a_new_ledger_at_once(url: str) -> None:
    together, failures = threading.Barrier(8), []

    def open_it() -> None:
        try:
            together.wait(20)
            Ledger(url).close()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_ledger_of_a_newer_version_is_left_alone(url: str, engine: Engine) -> None:
    Ledger(url).close()
    with connected(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(EngineFailed, match="another version of Headrace"):
        Ledger(url)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match="refused") as caught:
        Ledger(f"postgresql://ann:hush@127.0.0.1:{port}/headrace")
    assert "hush" not in str(caught.value)


def test_a_wrong_password_is_said_and_not_shown(server: Postgres) -> None:
    address = server.url.rpartition("@")[2]
    with pytest.raises(Unavailable, match="password authentication failed") as caught:
        Ledger(f"postgresql://headrace:hush@{address}/postgres")
    assert "hush" not in str(caught.value)


def test_a_connection_that_the_server_has_ended_is_made_anew(server: Postgres) -> None:
    with server.database() as url:
        ledger = Ledger(url)
        assert ledger.events() == []
        with create_engine(url.replace(":", "+psycopg:", 1), poolclass=NullPool).begin() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        assert ledger.events() == []
        ledger.close()


def test_a_file_that_is_no_database_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database at all, but long enough to look at" * 100)
    with pytest.raises(EngineFailed, match="could not be opened"):
        Ledger(file_url(tmp_path / "ledger.db"))
