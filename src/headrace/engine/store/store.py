"""The store: every object in memory, every acknowledged change on disk, one order of versions.

A write is checked against the head (what is committed plus what is on its way), gets the next version, and joins the
open batch. One writer commits batch after batch; while one is being written the next fills up. Only when its batch is
committed does a write become visible to reads and watches, and only then is it acknowledged. When a commit fails,
everything on its way is undone, because later writes may rest on earlier ones, and each waiting caller gets one
NotSaved; the next write tries the disk again.

Refuses to know what an object means: admission, validation and even metadata are the pipeline's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from headrace.engine.store.database import Database, NotSaved, Row
from headrace.engine.store.history import Event
from headrace.engine.store.table import Match, Slice, Stored, Table
from headrace.engine.store.watch import Watcher
from headrace.errors import EngineFailed, Unavailable
from headrace.spec.kind import Json
from headrace.telemetry import logger

VERSION_GAP = 1_000_000
"""After an unclean end. A power cut can lose what came after the last checkpoint, a few thousand versions at most."""

_log = logger(component="engine.store")


class Key(NamedTuple):
    """Names one object: the resource as `plural.group`, the namespace (empty for cluster-scoped), the name."""

    resource: str
    namespace: str
    name: str

    @property
    def place(self) -> tuple[str, str]:
        return (self.namespace, self.name)


class HeadMoved(Exception):
    """The object is not at the version the writer expected. The pipeline turns it into what the verb calls for."""


class _Batch:
    def __init__(self) -> None:
        self.writes: list[_Write] = []
        self.decided = anyio.Event()
        self.error: NotSaved | None = None


class _Write(NamedTuple):
    key: Key
    before: Stored | None
    after: Stored | None
    version: int
    encoded: bytes | None
    batch: _Batch

    @property
    def row(self) -> Row:
        kept = self.after or self.before
        assert kept is not None
        return Row(kept.id, *self.key, self.version, self.encoded)


class Store:
    """Use as `async with Store(path) as store`.

    Args:
        path: the SQLite file; its directory is made.
        window: events remembered per resource, for watches that resume and for paged lists.
        bookmark_s: seconds of silence after which a watch gets a bookmark.
    """

    def __init__(self, path: Path, *, window: int = 1024, bookmark_s: float = 15.0) -> None:
        self._database = Database(path)
        self._window = window
        self._bookmark_s = bookmark_s
        self._tables: dict[str, Table] = {}
        self._floor = 0
        self._version = 0
        self._last_given = 0
        self._ahead: dict[Key, _Write] = {}
        self._open = _Batch()
        self._wake = anyio.Event()
        self._written = anyio.Event()
        self._is_closing = False
        self._thread = anyio.CapacityLimiter(1)
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Store:
        await anyio.to_thread.run_sync(self._load, limiter=self._thread)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._write_batches, name="store-writer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            self._is_closing = True
            self._wake.set()
            await self._written.wait()
            for table in self._tables.values():
                table.history.close()
            await anyio.to_thread.run_sync(self._database.close, self._last_given, limiter=self._thread)
        assert self._tasks is not None
        await self._tasks.__aexit__(None, None, None)

    # -- reads: what is committed ----------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The version up to which everything is visible."""
        return self._version

    def get(self, key: Key) -> Stored | None:
        """Return the committed object, or None."""
        return self._table(key.resource).get(key.place)

    def page(
        self,
        resource: str,
        *,
        namespace: str = "",
        match: Match | None = None,
        limit: int = 0,
        after: tuple[str, str] | None = None,
        at: int | None = None,
    ) -> Slice:
        """Return a page of a list; see `Table.page`."""
        table = self._table(resource)
        return table.page(self._version, namespace=namespace, match=match, limit=limit, after=after, at=at)

    def objects(self) -> Iterator[Json]:
        """Yield every committed object of every resource, in no order."""
        for table in self._tables.values():
            yield from table.page(self._version).items

    def count(self, resource: str) -> int:
        """Return how many objects of a resource there are."""
        return len(self._table(resource))

    def watch(
        self,
        resource: str,
        *,
        since: int | None,
        namespace: str = "",
        match: Match | None = None,
        bookmarks: bool = True,
    ) -> Watcher:
        """Return the changes after `since`, or everything there is as ADDED and then the changes (`since` None).

        Raises Expired when `since` is too old, or newer than anything here (a store that was put back).
        """
        return Watcher(
            self._table(resource).history,
            lambda: self._version,
            since=since,
            initial=self.page(resource, namespace=namespace, match=match).items if since is None else [],
            namespace=namespace,
            match=match,
            bookmark_s=self._bookmark_s if bookmarks else None,
        )

    # -- writes ----------------------------------------------------------------------------------------------------

    def head(self, key: Key) -> Stored | None:
        """Return the object as the next write will find it: the latest change on its way, else what is committed."""
        write = self._ahead.get(key)
        return write.after if write is not None else self.get(key)

    async def settle(self, key: Key) -> bool:
        """Wait until nothing is on its way for `key`; False when nothing was.

        Whoever wants to refuse something because of the head waits first: it could still be undone.
        """
        write = self._ahead.get(key)
        if write is None:
            return False
        await write.batch.decided.wait()
        return True

    async def write(self, key: Key, raw: Json | None, *, expected: int) -> Stored:
        """Save `raw` as the object, or delete it (None), and return once that is durable and visible.

        Args:
            raw: becomes the store's; `metadata.resourceVersion` is set in it.
            expected: the head's version, 0 where there must be none.

        Returns the new state; for a deletion the last one, with the version of the deletion.

        Raises HeadMoved, NotSaved, and Unavailable when the store is closing. A caller that is cancelled while it
        waits does not know whether its write happened, as with a cut connection.
        """
        head = self.head(key)
        if (head.version if head is not None else 0) != expected:
            raise HeadMoved
        if self._is_closing:
            raise Unavailable("The engine is going down.", hint="Try again when it is up.", retry_after_s=1)
        self._last_given += 1
        version = self._last_given
        before, after, encoded = head, None, None
        if raw is not None:
            raw["metadata"]["resourceVersion"] = str(version)
            encoded = msgspec.json.encode(raw)
            after = Stored(head.id if head is not None else version, version, raw)
        batch = self._open
        write = _Write(key, before, after, version, encoded, batch)
        batch.writes.append(write)
        self._ahead[key] = write
        self._wake.set()
        await batch.decided.wait()
        if batch.error is not None:
            failure = batch.error
            raise NotSaved(failure.what, hint=failure.hint, retry_after_s=failure.retry_after_s) from failure
        if after is not None:
            return after
        assert before is not None
        return Stored(before.id, version, _at_version(before.raw, version))

    async def _write_batches(self) -> None:
        """The one writer: runs until the store is closing and nothing is left to write."""
        try:
            while self._open.writes or not self._is_closing:
                if not self._open.writes:
                    self._wake = anyio.Event()
                    await self._wake.wait()
                    continue
                batch, self._open = self._open, _Batch()
                try:
                    await anyio.to_thread.run_sync(self._commit, batch, limiter=self._thread)
                except NotSaved as error:
                    self._undo(batch, error)
                except BaseException:
                    self._undo(batch, NotSaved("The engine went down before the change was saved."))
                    raise
                else:
                    self._publish(batch)
        finally:
            self._is_closing = True
            if self._open.writes:
                self._undo(_Batch(), NotSaved("The engine went down before the change was saved."))
            self._written.set()

    def _commit(self, batch: _Batch) -> None:
        latest = {write.row.id: write.row for write in batch.writes}
        self._database.commit(list(latest.values()), batch.writes[-1].version)

    def _publish(self, batch: _Batch) -> None:
        touched: dict[str, Table] = {}
        for write in batch.writes:
            key, before, after, version = write.key, write.before, write.after, write.version
            table = touched[key.resource] = self._table(key.resource)
            previous = before.raw if before is not None else None
            if after is None:
                assert previous is not None
                event = Event(version, "DELETED", key.place, _at_version(previous, version), previous)
            else:
                event = Event(version, "ADDED" if previous is None else "MODIFIED", key.place, after.raw, previous)
            table.apply(key.place, after, event)
            self._version = version
            if self._ahead.get(key) is write:
                del self._ahead[key]
        for table in touched.values():
            table.history.publish()
        batch.decided.set()

    def _undo(self, batch: _Batch, error: NotSaved) -> None:
        _log.error("store.write_failed", reason=error.what, writes=len(batch.writes) + len(self._open.writes))
        following, self._open = self._open, _Batch()
        self._ahead.clear()
        for undone in (batch, following):
            undone.error = error
            undone.decided.set()

    def _load(self) -> None:
        loaded = self._database.open()
        for row in self._database.rows():
            assert row.value is not None
            stored = Stored(row.id, row.version, msgspec.json.decode(row.value))
            try:
                self._table(row.resource).load((row.namespace, row.name), stored)
            except KeyError as error:
                raise EngineFailed(
                    f"The object store holds {row.resource} {row.namespace}/{row.name} twice.",
                    hint="Restore the file from a copy.",
                ) from error
        self._version = loaded.version if loaded.was_clean else loaded.version + VERSION_GAP
        self._last_given = self._floor = self._version
        for table in self._tables.values():
            table.history.forget(self._floor)

    def _table(self, resource: str) -> Table:
        table = self._tables.get(resource)
        if table is None:
            table = self._tables[resource] = Table(self._window, self._floor)
        return table


def _at_version(raw: Json, version: int) -> Json:
    return {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(version)}}
