"""A new ledger gets its tables at once; they must be those that the migrations make."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from headrace.ledger import schema
from headrace.ledger.database import file_url
from headrace.ledger.store import Ledger


def _described(path: Path) -> list[tuple[str, str, str]]:
    """Every table and index as SQLite keeps it, white space aside, and the revision."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master ORDER BY name").fetchall()
        version = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return [(kind, name, "".join(sql.split())) for kind, name, sql in rows] + [("revision", "", str(version))]


def _empty_versioned(path: Path) -> None:
    """Make a ledger of before the first migration, so that opening it goes all the way through Alembic."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE alembic_version "
            "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        connection.commit()


def test_new_tables_are_those_of_the_migrations(tmp_path: Path) -> None:
    _empty_versioned(tmp_path / "migrated.db")
    for name in ("new.db", "migrated.db"):
        Ledger(file_url(tmp_path / name)).close()

    assert _described(tmp_path / "new.db") == _described(tmp_path / "migrated.db")
    assert f"'{schema.REVISION}'" in _described(tmp_path / "new.db")[-1][2]


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    Ledger(file_url(tmp_path / "ledger.db")).close()
    before = _described(tmp_path / "ledger.db")
    Ledger(file_url(tmp_path / "ledger.db")).close()

    assert _described(tmp_path / "ledger.db") == before


def test_a_new_ledger_in_a_file_imports_neither_alembic_nor_psycopg(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from headrace.ledger.database import file_url
from headrace.ledger.store import Ledger
Ledger(file_url(Path({str(tmp_path / "ledger.db")!r}))).close()
sys.exit("alembic" in sys.modules or "psycopg" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
