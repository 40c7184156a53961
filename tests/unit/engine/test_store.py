"""The store: versions, visibility, history, pages, failed commits and restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace.engine.store.database import Database, NotSaved, Row
from headrace.engine.store.store import VERSION_GAP, HeadMoved, Key, Store
from headrace.engine.store.watch import Seen, Watcher
from headrace.errors import EngineFailed, Expired, Unavailable

pytestmark = pytest.mark.anyio


def key(name: str, namespace: str = "a", resource: str = "things") -> Key:
    return Key(resource, namespace, name)


def thing(name: str, namespace: str = "a", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control" / "objects.db"


async def create(store: Store, *names: str, namespace: str = "a") -> list[int]:
    return [(await store.write(key(name, namespace), thing(name, namespace), expected=0)).version for name in names]


async def update(store: Store, name: str, **spec: Any) -> int:
    head = store.head(key(name))
    assert head is not None
    return (await store.write(key(name), thing(name, **spec), expected=head.version)).version


async def remove(store: Store, name: str) -> int:
    head = store.head(key(name))
    assert head is not None
    return (await store.write(key(name), None, expected=head.version)).version


def told(seen: Sequence[Seen]) -> list[tuple[str, str]]:
    return [(each.type, each.object["metadata"]["name"] if each.object else "") for each in seen]


def names(items: Sequence[dict[str, Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


async def test_versions_rise_and_are_written_into_the_object(path: Path) -> None:
    async with Store(path) as store:
        first = await store.write(key("x"), thing("x"), expected=0)
        second = await store.write(key("x"), thing("x", a=1), expected=first.version)
        assert second.version > first.version
        assert second.raw["metadata"]["resourceVersion"] == str(second.version)
        assert store.get(key("x")) == second
        assert store.version == second.version


@pytest.mark.parametrize("expected", [0, 99])
async def test_a_write_on_another_head_is_refused(path: Path, expected: int) -> None:
    async with Store(path) as store:
        await create(store, "x")
        with pytest.raises(HeadMoved):
            await store.write(key("x"), thing("x"), expected=expected)


async def test_a_write_is_invisible_until_it_is_committed(path: Path, held: Held) -> None:
    async with Store(path) as store:
        held.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create, store, "x")
            await held.until_reached()
            assert store.get(key("x")) is None
            assert store.page("things").items == []
            assert store.head(key("x")) is not None
            held.release()
        assert store.get(key("x")) is not None


async def test_writes_that_wait_share_one_commit(path: Path, held: Held) -> None:
    async with Store(path) as store:
        held.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create, store, "first")
            await held.until_reached()
            for number in range(20):
                tasks.start_soon(create, store, f"n{number}")
            await anyio.wait_all_tasks_blocked()
            held.release()
        assert held.sizes == [1, 20]


async def test_a_later_write_may_rest_on_one_that_is_on_its_way(path: Path, held: Held) -> None:
    async with Store(path) as store:
        held.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create, store, "x")
            await held.until_reached()
            tasks.start_soon(partial(update, store, "x", a=1))
            await anyio.wait_all_tasks_blocked()
            held.release()
        stored = store.get(key("x"))
        assert stored is not None
        assert stored.raw["spec"] == {"a": 1}


async def test_a_failed_commit_undoes_everything_on_its_way_and_heals_itself(path: Path, held: Held) -> None:
    async with Store(path) as store:
        await create(store, "old")
        watcher = store.watch("things", since=store.version)
        refused: list[str] = []

        async def attempt(name: str) -> None:
            with pytest.raises(NotSaved, match=r"database or disk is full.*Free space"):
                await create(store, name)
            refused.append(name)

        held.hold()
        held.failure = sqlite3.OperationalError("database or disk is full")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt, "x")
            await held.until_reached()
            tasks.start_soon(attempt, "y")
            await anyio.wait_all_tasks_blocked()
            held.release()
        assert sorted(refused) == ["x", "y"]
        assert store.head(key("x")) is None
        held.failure = None
        await create(store, "x")
        assert names(store.page("things").items) == ["old", "x"]
        assert told(await watcher.batch()) == [("ADDED", "x")]


async def test_settle_waits_for_what_is_on_its_way(path: Path, held: Held) -> None:
    async with Store(path) as store:
        assert not await store.settle(key("x"))
        held.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create, store, "x")
            await held.until_reached()
            held.release()
            assert await store.settle(key("x"))
            assert store.get(key("x")) is not None


async def test_objects_survive_a_restart_with_their_versions(path: Path) -> None:
    async with Store(path) as store:
        await create(store, "x", "y", "z")
        version = await update(store, "y", a=1)
        await remove(store, "z")
        last = store.version
    async with Store(path) as store:
        assert store.version == last
        assert names(store.page("things").items) == ["x", "y"]
        stored = store.get(key("y"))
        assert stored is not None
        assert (stored.version, stored.raw["spec"]) == (version, {"a": 1})
        assert (await create(store, "new"))[0] == last + 1


async def test_a_clean_restart_lets_a_watch_go_on_from_the_last_version_only(path: Path) -> None:
    async with Store(path) as store:
        await create(store, "x", "y")
        last = store.version
    async with Store(path) as store:
        watcher = store.watch("things", since=last)
        await create(store, "z")
        assert told(await watcher.batch()) == [("ADDED", "z")]
        with pytest.raises(Expired):
            store.watch("things", since=last - 1)


async def test_an_unclean_end_makes_versions_jump_and_old_watches_expire(path: Path, tmp_path: Path) -> None:
    async with Store(path) as store:
        await create(store, "x")
        last = store.version
        copy = tmp_path / "copy.db"
        for suffix in ("", "-wal"):
            copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    async with Store(copy) as store:
        assert store.version == last + VERSION_GAP
        assert names(store.page("things").items) == ["x"]
        with pytest.raises(Expired):
            store.watch("things", since=last)


async def test_a_second_engine_cannot_open_the_file(path: Path) -> None:
    async with Store(path):
        with pytest.raises(Unavailable, match="in use by another process"):
            async with Store(path):
                pass


async def test_a_file_that_is_no_database_is_refused_with_a_sentence(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(EngineFailed, match="cannot be opened: file is not a database"):
        async with Store(path):
            pass


async def test_a_file_of_a_later_format_is_refused(path: Path) -> None:
    async with Store(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(EngineFailed, match="format 99"):
        async with Store(path):
            pass


async def test_the_file_is_readable_by_its_owner_only(path: Path) -> None:
    async with Store(path) as store:
        await create(store, "x")
        assert path.stat().st_mode & 0o077 == 0
        assert path.with_name(path.name + "-wal").stat().st_mode & 0o077 == 0


async def test_pages_are_of_one_moment(path: Path) -> None:
    async with Store(path) as store:
        await create(store, "a", "b", "c", "d", "e")
        first = store.page("things", limit=2)
        assert (names(first.items), first.last, first.remaining) == (["a", "b"], ("a", "b"), 3)
        await remove(store, "c")
        await create(store, "bb", "f")
        await update(store, "d", a=1)
        second = store.page("things", limit=2, after=first.last, at=first.version)
        assert names(second.items) == ["c", "d"]
        assert second.items[1]["spec"] == {}
        third = store.page("things", limit=2, after=second.last, at=first.version)
        assert (names(third.items), third.last, third.version) == (["e"], None, first.version)
        assert names(store.page("things").items) == ["a", "b", "bb", "d", "e", "f"]


async def test_a_page_of_a_forgotten_moment_is_expired(path: Path) -> None:
    async with Store(path, window=2) as store:
        await create(store, "a", "b", "c")
        first = store.page("things", limit=1)
        await create(store, "d", "e", "f")
        with pytest.raises(Expired):
            store.page("things", limit=1, after=first.last, at=first.version)


async def test_a_page_holds_one_namespace_and_what_matches(path: Path) -> None:
    async with Store(path) as store:
        await create(store, "x", "y", namespace="a")
        await create(store, "x", "z", namespace="ab")
        page = store.page("things", namespace="a", match=lambda raw: raw["metadata"]["name"] != "y")
        assert [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in page.items] == [("a", "x")]
        assert store.count("things") == 4


async def read(watcher: Watcher) -> list[tuple[str, str]]:
    with anyio.fail_after(5):
        return told(await watcher.batch())


async def test_a_watch_resumes_exactly_after_its_version(path: Path) -> None:
    async with Store(path) as store:
        (since,) = await create(store, "x")
        await create(store, "y")
        await update(store, "x", a=1)
        await remove(store, "y")
        watcher = store.watch("things", since=since)
        seen = await watcher.batch()
        assert told(seen) == [("ADDED", "y"), ("MODIFIED", "x"), ("DELETED", "y")]
        assert [each.version for each in seen] == [since + 1, since + 2, since + 3]
        last = seen[-1].object
        assert last is not None
        assert last["metadata"]["resourceVersion"] == str(since + 3)


async def test_a_watch_of_everything_begins_with_what_there_is(path: Path) -> None:
    async with Store(path) as store:
        await create(store, "x", "y")
        watcher = store.watch("things", since=None)
        await create(store, "z")
        assert await read(watcher) == [("ADDED", "x"), ("ADDED", "y"), ("BOOKMARK", "")]
        assert await read(watcher) == [("ADDED", "z")]


async def test_selectors_turn_changes_into_additions_and_deletions(path: Path) -> None:
    async with Store(path) as store:
        await create(store, "x", "y")
        watcher = store.watch("things", since=store.version, match=lambda raw: raw["spec"].get("on") is True)
        await update(store, "x", on=True)
        await update(store, "x", on=True, more=1)
        await update(store, "y", other=1)
        await update(store, "x", on=False)
        await remove(store, "x")
        assert await read(watcher) == [("ADDED", "x"), ("MODIFIED", "x"), ("DELETED", "x")]


async def test_a_slow_watcher_expires_and_holds_up_nobody(path: Path) -> None:
    async with Store(path, window=5) as store:
        slow, quick = store.watch("things", since=0), store.watch("things", since=0)
        for number in range(10):
            await create(store, f"n{number}")
            assert await read(quick) == [("ADDED", f"n{number}")]
        with pytest.raises(Expired, match="too far behind"):
            await slow.batch()


async def test_a_silent_watch_gets_bookmarks_with_the_newest_version(path: Path) -> None:
    async with Store(path, bookmark_s=0.01) as store:
        watcher = store.watch("things", since=0)
        await store.write(key("x", resource="others"), thing("x"), expected=0)
        with anyio.fail_after(5):
            seen = await watcher.batch()
        assert seen == [Seen("BOOKMARK", store.version, None)]
        assert store.watch("things", since=seen[0].version) is not None


async def test_a_version_from_the_future_is_expired(path: Path) -> None:
    async with Store(path) as store:
        with pytest.raises(Expired, match="newer"):
            store.watch("things", since=7)


async def test_closing_ends_watches_and_refuses_writes(path: Path) -> None:
    async with Store(path) as store:
        watcher = store.watch("things", since=0)
    assert await watcher.batch() == []
    with pytest.raises(Unavailable):
        await create(store, "x")


class Held:
    """Stops the next commit at a gate, notes the sizes of all, and makes them fail on demand."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.failure: sqlite3.Error | None = None
        self._is_armed = False
        self._reached = anyio.Event()
        self._gate = anyio.Event()

    def hold(self) -> None:
        self._is_armed = True

    async def until_reached(self) -> None:
        with anyio.fail_after(5):
            await self._reached.wait()

    def release(self) -> None:
        self._gate.set()

    def commit(self, rows: Sequence[Row]) -> None:
        self.sizes.append(len(rows))
        if self._is_armed:
            self._is_armed = False
            anyio.from_thread.run_sync(self._reached.set)
            anyio.from_thread.run(self._gate.wait)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    honest = Database.commit

    def commit(self: Database, rows: Sequence[Row], version: int) -> None:
        try:
            held.commit(rows)
        except sqlite3.Error as error:
            raise NotSaved(f"The change was not saved: {error}.", hint="Free space.") from error
        honest(self, rows, version)

    monkeypatch.setattr(Database, "commit", commit)
    return held
