"""Where code archives are kept: files of one machine, or the installation's database, which several replicas share.

Synchronous; callers run it in a worker thread.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from sqlalchemy import select

from headrace.errors import EngineFailed
from headrace.ledger.database import Database
from headrace.ledger.schema import code_archives

PART_BYTES = 2**20


class Archives(Protocol):
    """Contents by digest. What they are called was checked before."""

    def has(self, digest: str) -> bool: ...

    def put(self, digest: str, content: bytes) -> None:
        """Keep a content. Idempotent; durable when it returns. Raises EngineFailed or Unavailable."""
        ...

    def read(self, digest: str) -> Iterator[bytes]:
        """Yield a content in parts, one at least; none when there is no such content."""
        ...


class DirectoryArchives:
    """One file a digest in a directory, which is made when missing."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def has(self, digest: str) -> bool:
        return (self._directory / digest).is_file()

    def put(self, digest: str, content: bytes) -> None:
        if self.has(digest):
            return
        try:
            with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self._directory / digest)
        except OSError as error:
            Path(file.name).unlink(missing_ok=True)
            raise EngineFailed(
                f"The code archive could not be stored: {error.strerror}.", hint=f"Free space below {self._directory}."
            ) from error

    def read(self, digest: str) -> Iterator[bytes]:
        try:
            file = (self._directory / digest).open("rb")
        except FileNotFoundError:
            return
        with file:
            yield file.read(PART_BYTES)
            while part := file.read(PART_BYTES):
                yield part


class DatabaseArchives:
    """Rows of 1 MiB in the database of the ledger: no other storage is needed for several replicas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def has(self, digest: str) -> bool:
        query = select(code_archives.c.part).where(code_archives.c.digest == digest).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def put(self, digest: str, content: bytes) -> None:
        if self.has(digest):
            return
        # Not one writer at a time: contents of one digest are equal, and a large one must not hold up the bill.
        with self._database.write(is_alone=False) as connection:
            for part, start in enumerate(range(0, max(1, len(content)), PART_BYTES)):
                row = {"digest": digest, "part": part, "content": content[start : start + PART_BYTES]}
                self._database.add(connection, code_archives, row)

    def read(self, digest: str) -> Iterator[bytes]:
        part = 0
        while True:
            query = select(code_archives.c.content).where(
                code_archives.c.digest == digest, code_archives.c.part == part
            )
            with self._database.read() as connection:  # no connection is held while a worker takes its time
                row = connection.execute(query).first()
            if row is None:
                return
            yield bytes(row.content)
            part += 1
