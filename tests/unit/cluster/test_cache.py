"""The cache against a faithful server that misbehaves: nothing missed, nothing twice, nothing backwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from headrace.cluster.cache import Cache
from headrace.cluster.fake import FakeCluster
from headrace.cluster.indexer import Indexer
from headrace.cluster.protocol import JsonPatch, MergePatch, Scope
from headrace.cluster.reflector import IDLE_TIMEOUT_S
from headrace.errors import EngineFailed, Expired, Unavailable
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import CONFIG_MAP, POD

pytestmark = pytest.mark.anyio


def config(name: str, value: str = "", **meta: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "vision", **meta}, "data": {"value": value}}


def ref(name: str) -> Ref:
    return Ref("vision", name)


class Watched:
    """A running cache of ConfigMaps and everything its handler was told."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.reader = cache.reader(CONFIG_MAP)
        self.told: list[tuple[str, str]] = []
        cache.subscribe(CONFIG_MAP, self._hear)

    def _hear(self, old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        doc = new or old
        assert doc is not None
        verb = "-" if new is None else "+" if old is None else "~"
        self.told.append((verb, doc.name))

    @property
    def values(self) -> dict[str, str]:
        return {doc.name: doc.raw["data"]["value"] for doc in self.reader.list()}


@asynccontextmanager
async def running(fake: FakeCluster, scope: Scope | None = None) -> AsyncIterator[Watched]:
    watched = Watched(Cache(fake, {CONFIG_MAP: scope} if scope else None, clock=fake.clock))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.cache.run)
        with anyio.fail_after(600):
            await watched.cache.synced()
        await anyio.wait_all_tasks_blocked()
        yield watched
        tasks.cancel_scope.cancel()


async def settle() -> None:
    """Let everything that can happen within a few minutes happen."""
    await anyio.sleep(200)


async def test_lists_then_follows_in_order(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a", "1"))
    async with running(fake) as watched:
        assert watched.values == {"a": "1"}
        await fake.create(CONFIG_MAP, config("b", "1"))
        await fake.patch(CONFIG_MAP, ref("a"), MergePatch({"data": {"value": "2"}}))
        await fake.delete(CONFIG_MAP, ref("b"))
        await settle()
        assert watched.values == {"a": "2"}
        assert watched.told == [("+", "a"), ("+", "b"), ("~", "a"), ("-", "b")]
        assert watched.reader.get(ref("b")) is None
        assert fake.count("list") == 1


async def test_a_kind_asked_for_while_running_is_followed(fake: FakeCluster) -> None:
    fake.seed(POD, {"metadata": {"name": "p", "namespace": "vision"}, "spec": {}})
    async with running(fake) as watched:
        pods = watched.cache.reader(POD)
        await watched.cache.synced()
        assert pods.get(ref("p")) is not None


async def test_a_cut_resumes_without_a_list_and_without_loss(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        fake.cut_watches()
        await fake.create(CONFIG_MAP, config("a", "1"))
        await settle()
        assert watched.told == [("+", "a")]
        assert fake.count("list") == 1


async def test_410_lists_again_and_tells_the_difference_deletions_included(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("gone"), config("kept", "1"), config("changed", "1"))
    async with running(fake) as watched:
        await settle()
        watched.told.clear()
        fake.silence_watches()
        await anyio.wait_all_tasks_blocked()
        await fake.delete(CONFIG_MAP, ref("gone"))
        await fake.patch(CONFIG_MAP, ref("changed"), MergePatch({"data": {"value": "2"}}))
        await fake.create(CONFIG_MAP, config("new"))
        fake.expire_watches()
        await settle()
        assert watched.values == {"kept": "1", "changed": "2", "new": ""}
        assert sorted(watched.told) == [("+", "new"), ("-", "gone"), ("~", "changed")]
        assert fake.count("list") == 2


async def test_silence_is_noticed_within_its_deadline_and_nothing_is_lost(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        fake.silence_watches()
        await anyio.wait_all_tasks_blocked()
        await fake.create(CONFIG_MAP, config("a"))
        await anyio.sleep(IDLE_TIMEOUT_S - 5)
        assert watched.values == {}
        await anyio.sleep(10)
        assert watched.values == {"a": ""}
        assert fake.count("list") == 1


async def test_quiet_is_not_silence_bookmarks_keep_a_watch_open(fake: FakeCluster) -> None:
    async with running(fake):
        await anyio.sleep(3600)
        assert fake.count("watch") == 1


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_a_server_that_refuses_is_asked_again_ever_more_seldom(fake: FakeCluster, verb: Any) -> None:
    fake.fail_next(verb, Unavailable("Overloaded."), times=10_000)
    cache = Cache(fake)
    cache.reader(CONFIG_MAP)
    with anyio.move_on_after(3600):
        await cache.run()
    assert 100 < fake.count(verb) < 300  # about every 22 s once the cap is reached


async def test_retry_after_is_honoured(fake: FakeCluster) -> None:
    fake.fail_next("list", Unavailable("Too many requests.", retry_after_s=120))
    start = anyio.current_time()
    async with running(fake):
        assert 120 <= anyio.current_time() - start < 121


async def test_a_server_whose_watches_are_always_expired_is_not_asked_in_a_loop(fake: FakeCluster) -> None:
    fake.fail_next("watch", Expired("Too old."), times=100_000)
    cache = Cache(fake)
    cache.reader(CONFIG_MAP)
    with anyio.move_on_after(600):
        await cache.run()
    assert fake.count("watch") < 60


async def test_a_bug_in_one_round_does_not_end_the_cache(fake: FakeCluster) -> None:
    fake.fail_next("list", RuntimeError("cannot happen"))
    fake.seed(CONFIG_MAP, config("a"))
    async with running(fake) as watched:
        assert watched.values == {"a": ""}


async def test_a_continue_token_that_expires_midway_still_gives_one_consistent_list(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, *(config(f"c{i:04}") for i in range(1201)))
    pages = 0
    list_page = fake.list

    async def list_and_expire(*args: Any, **kwargs: Any) -> Any:
        nonlocal pages
        page = await list_page(*args, **kwargs)
        pages += 1
        if pages == 2:
            fake.expire_watches()
            await fake.delete(CONFIG_MAP, ref("c0000"))
        return page

    fake.list = list_and_expire  # type: ignore[method-assign]
    async with running(fake) as watched:
        assert len(watched.values) == 1200
        assert "c0000" not in watched.values
        assert fake.count("list") == 4  # two pages, one expired, one whole


async def test_scopes_follow_objects_in_and_out(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("in", labels={"app": "x"}), config("out"))
    async with running(fake, Scope(namespace="vision", labels="app=x")) as watched:
        await fake.patch(CONFIG_MAP, ref("out"), MergePatch({"metadata": {"labels": {"app": "x"}}}))
        await fake.patch(CONFIG_MAP, ref("in"), MergePatch({"metadata": {"labels": {"app": None}}}))
        await fake.create(CONFIG_MAP, {**config("other"), "metadata": {"name": "other", "namespace": "elsewhere"}})
        await settle()
        assert watched.values == {"out": ""}
        assert watched.told == [("+", "in"), ("+", "out"), ("-", "in")]


async def test_indexes_follow_changes_and_survive_objects_they_cannot_read(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a", "x"), config("b", "x"), config("bad", "boom"))
    cache = Cache(fake)

    def by_value(doc: Doc[Any]) -> list[str]:
        value = doc.raw["data"]["value"]
        if value == "boom":
            raise ValueError("unreadable")
        return [value] if value else []

    cache.add_index(CONFIG_MAP, "value", by_value)
    reader = cache.reader(CONFIG_MAP)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.run)
        await cache.synced()
        assert sorted(doc.name for doc in reader.by_index("value", "x")) == ["a", "b"]
        await fake.patch(CONFIG_MAP, ref("a"), MergePatch({"data": {"value": "y"}}))
        await fake.patch(CONFIG_MAP, ref("bad"), MergePatch({"data": {"value": "x"}}))
        await fake.delete(CONFIG_MAP, ref("b"))
        await settle()
        assert [doc.name for doc in reader.by_index("value", "x")] == ["bad"]
        assert [doc.name for doc in reader.by_index("value", "y")] == ["a"]
        assert reader.by_index("value", "none") == []
        assert len(reader.list("vision")) == 2
        assert reader.list("elsewhere") == []
        with pytest.raises(EngineFailed, match="no index 'colour'"):
            reader.by_index("colour", "red")
        tasks.cancel_scope.cancel()


async def test_a_handler_that_raises_stops_nobody(fake: FakeCluster) -> None:
    def broken(old: Any, new: Any) -> None:
        raise RuntimeError("a bug")

    async with running(fake) as watched:
        watched.cache.subscribe(CONFIG_MAP, broken)
        await fake.create(CONFIG_MAP, config("a"))
        await fake.create(CONFIG_MAP, config("b"))
        await settle()
        assert watched.told == [("+", "a"), ("+", "b")]


async def test_a_late_subscriber_is_told_what_there_is(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a"))
    async with running(fake) as watched:
        told: list[Any] = []
        watched.cache.subscribe(CONFIG_MAP, lambda old, new: told.append((old, new.name if new else None)))
        assert told == [(None, "a")]


async def test_own_writes_are_read_at_once_and_told_once(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        watched.cache.assume(await fake.create(CONFIG_MAP, config("a", "1")))
        assert watched.values == {"a": "1"}
        watched.cache.assume(await fake.patch(CONFIG_MAP, ref("a"), MergePatch({"data": {"value": "2"}})))
        assert watched.values == {"a": "2"}
        await settle()
        assert watched.values == {"a": "2"}
        assert watched.told == [("+", "a"), ("~", "a")]


async def test_an_assumed_object_never_goes_backwards(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a", "0"))
    async with running(fake) as watched:
        fake.silence_watches()
        await anyio.wait_all_tasks_blocked()
        docs = [
            await fake.patch(CONFIG_MAP, ref("a"), MergePatch({"data": {"value": str(number)}}))
            for number in range(1, 5)
        ]
        watched.cache.assume(docs[2])
        seen: list[str] = []
        watched.cache.subscribe(CONFIG_MAP, lambda old, new: seen.append(new.raw["data"]["value"] if new else "-"))
        watched.cache.assume(docs[0])  # an answer that was long on its way
        await settle()
        assert seen == ["3", "4"]


async def test_an_answer_that_comes_after_the_deletion_raises_nobody_from_the_dead(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        doc = await fake.create(CONFIG_MAP, config("a"))
        await fake.delete(CONFIG_MAP, ref("a"))
        await settle()
        watched.cache.assume(doc)
        assert watched.values == {}


async def test_an_assumed_object_survives_an_older_list_and_yields_to_a_newer_one(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        indexer = watched.cache._indexer(CONFIG_MAP)
        assert isinstance(indexer, Indexer)
        fake.silence_watches()
        await anyio.wait_all_tasks_blocked()
        listed = indexer.version
        doc = await fake.create(CONFIG_MAP, config("a"))
        watched.cache.assume(doc)
        indexer.replace([], listed)  # was on its way when we created
        assert watched.values == {"a": ""}
        await fake.delete(CONFIG_MAP, ref("a"))
        indexer.replace([], str(int(doc.version) + 1))
        assert watched.values == {}


async def test_a_write_that_leaves_the_scope_is_not_assumed(fake: FakeCluster) -> None:
    async with running(fake, Scope(labels="app=x")) as watched:
        watched.cache.assume(await fake.create(CONFIG_MAP, config("a")))
        assert watched.values == {}


async def test_an_assumed_deletion_shows_until_the_server_says_gone(fake: FakeCluster) -> None:
    (doc,) = fake.seed(CONFIG_MAP, config("a", finalizers=["headrace.io/kept"]))
    async with running(fake) as watched:
        fake.silence_watches()
        await anyio.wait_all_tasks_blocked()
        await fake.patch(CONFIG_MAP, ref("a"), MergePatch({"data": {"value": "before"}}))
        await fake.delete(CONFIG_MAP, ref("a"))
        watched.cache.assume_deleted(doc)
        deleting: list[bool] = []
        watched.cache.subscribe(CONFIG_MAP, lambda old, new: deleting.append(new is None or new.is_deleting))
        await anyio.sleep(1)
        found = watched.reader.get(ref("a"))
        assert found is not None
        assert found.is_deleting
        await settle()
        await fake.patch(CONFIG_MAP, ref("a"), JsonPatch([{"op": "remove", "path": "/metadata/finalizers/0"}]))
        await settle()
        assert watched.values == {}
        assert deleting == [True] * len(deleting)
        assert len(deleting) == 4  # as it was, changed before, deleting, gone


async def test_an_assumed_deletion_does_not_touch_a_successor(fake: FakeCluster) -> None:
    (old,) = fake.seed(CONFIG_MAP, config("a", "old"))
    async with running(fake) as watched:
        await fake.delete(CONFIG_MAP, ref("a"))
        await fake.create(CONFIG_MAP, config("a", "new"))
        await settle()
        watched.cache.assume_deleted(old)
        found = watched.reader.get(ref("a"))
        assert found is not None
        assert not found.is_deleting


async def test_versions_that_are_no_numbers_still_work(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        indexer = watched.cache._indexer(CONFIG_MAP)
        assert isinstance(indexer, Indexer)
        opaque = {**config("a", "1"), "metadata": {**config("a")["metadata"], "resourceVersion": "abc"}}
        watched.cache.assume(Doc(CONFIG_MAP, opaque))
        assert watched.values == {"a": "1"}
        indexer.replace(
            [
                Doc(
                    CONFIG_MAP,
                    {**opaque, "data": {"value": "2"}, "metadata": {**opaque["metadata"], "resourceVersion": "abd"}},
                )
            ],
            "abd",
        )
        assert watched.values == {"a": "2"}


async def test_a_stopped_cache_goes_on_where_it_was_with_kinds_asked_for_in_between(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        pass
    fake.seed(POD, {"metadata": {"name": "p", "namespace": "vision"}, "spec": {}})
    await fake.create(CONFIG_MAP, config("a"))
    pods = watched.cache.reader(POD)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.cache.run)
        await settle()
        assert watched.values == {"a": ""}
        assert pods.get(ref("p")) is not None
        assert fake.count("list", CONFIG_MAP) == 1
        tasks.cancel_scope.cancel()
