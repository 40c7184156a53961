"""The SQLite file under the store: whole batches in one transaction each, read back once, at start.

WAL with `synchronous=NORMAL`: a commit is in the kernel's hands before it returns, so `kill -9` loses nothing that was
acknowledged; only a power cut may lose the last moments. That is why an unclean end is noticed at the next start
(`Loaded.was_clean`) and answered by a jump of the versions.

Rows are keyed by the version at which their object was created: it never repeats, it makes inserts append-only, and
one B-tree suffices. The file is locked for as long as it is open, so a second engine cannot open it.

Refuses to know what an object is: values are bytes. Not thread-safe: one call at a time, whichever thread makes it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from headrace.errors import EngineFailed, Unavailable

_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    id INTEGER PRIMARY KEY, resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    version INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, clean INTEGER NOT NULL);
INSERT OR IGNORE INTO state VALUES (1, 0, 1);
"""


class NotSaved(Unavailable):
    """The disk did not take a change; nothing of it has happened. Free space, then send it again."""

    code = "InsufficientStorage"
    http_status = 507


class Row(NamedTuple):
    """One object as the file holds it. `value` None deletes the row."""

    id: int
    resource: str
    namespace: str
    name: str
    version: int
    value: bytes | None


class Loaded(NamedTuple):
    """The last version given out and whether the file was closed in order."""

    version: int
    was_clean: bool


class Database:
    """The open file. `open` first; `close` last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Loaded:
        """Open or make the file, note that it is in use, and return what its last user left.

        Raises Unavailable when another process has it open, EngineFailed when it cannot be read.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # Secrets are in it; SQLite copies the mode
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            connection = self._connect()
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in {0, _FORMAT}:
                connection.close()
                raise EngineFailed(
                    f"The object store {self._path} has format {found}; this Headrace reads format {_FORMAT}.",
                    hint="Start the version of Headrace that wrote it, or move the file away to begin with an empty one.",
                )
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_FORMAT}; COMMIT;")
            version, clean = connection.execute("SELECT version, clean FROM state").fetchone()
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("UPDATE state SET clean = 0")
            connection.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        self._connection = connection
        return Loaded(version, bool(clean))

    def rows(self) -> Iterator[Row]:
        """Read all objects, in the order of their creation."""
        assert self._connection is not None
        try:
            query = "SELECT id, resource, namespace, name, version, value FROM objects ORDER BY id"
            for row in self._connection.execute(query):
                yield Row(*row)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def commit(self, rows: Sequence[Row], version: int) -> None:
        """Write a batch, all or nothing; `version` is the highest given out. Raises NotSaved.

        After a failure the next call starts afresh, so the file is used again as soon as the disk takes it.
        """
        puts = [row for row in rows if row.value is not None]
        removals = [(row.id,) for row in rows if row.value is None]
        try:
            if self._connection is None:
                self._connection = self._connect()
            execute = self._connection.execute
            execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)", puts)
            self._connection.executemany("DELETE FROM objects WHERE id = ?", removals)
            execute("UPDATE state SET version = ?", (version,))
            execute("COMMIT")
        except sqlite3.Error as error:
            self._disconnect()
            raise NotSaved(
                f"The change was not saved: the disk of {self._path} answered “{error}”.",
                hint="Free space there (`df -h`) and send it again.",
                retry_after_s=5,
            ) from error

    def close(self, version: int) -> None:
        """Move everything into the main file, note the orderly end, and let go of the file."""
        if self._connection is None:
            return
        with contextlib.suppress(sqlite3.Error):  # a full disk: the next start then counts as unclean, which is safe
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("UPDATE state SET version = ?, clean = 1", (version,))
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._disconnect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=0.5, isolation_level=None, check_same_thread=False)
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL", "cache_size=-2000"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _unreadable(self, error: Exception) -> Unavailable | EngineFailed:
        if "locked" in str(error):
            return Unavailable(
                f"The object store {self._path} is in use by another process.",
                hint="Stop the other one first (`headrace down`), or choose another HEADRACE_HOME.",
            )
        return EngineFailed(
            f"The object store {self._path} cannot be opened: {error}.",
            hint="Check the file's permissions and the disk; restore it from a copy if it is damaged.",
        )
