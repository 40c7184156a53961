"""Controllers: every change is looked at, failures are met with back-off, cancellation is immediate and loses nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Group, Result, Retry, Terminal, owned_by
from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.errors import Conflict, Unavailable
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import CONFIG_MAP, POD, TRAIN_JOB

pytestmark = pytest.mark.anyio


def config(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": "vision"}, "data": {}}


def ref(name: str) -> Ref:
    return Ref("vision", name)


class Diary:
    """A reconciler that notes when it was called, and does what the test says."""

    def __init__(self, act: Callable[[Ref], Awaitable[Result | None]] | None = None) -> None:
        self.calls: list[tuple[str, float]] = []
        self._act = act

    async def reconcile(self, ref: Ref) -> Result:
        self.calls.append((ref.name, round(anyio.current_time() - self.start, 2)))
        return (await self._act(ref) if self._act else None) or Result()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def times(self) -> list[float]:
        return [time for _, time in self.calls]

    start = 0.0


@asynccontextmanager
async def running(fake: FakeCluster, diary: Diary, **options: Any) -> AsyncIterator[Controller]:
    cache = Cache(fake)
    controller = Controller("test", cache, diary.reconcile, **options).watches(CONFIG_MAP)
    diary.start = anyio.current_time()
    async with Group(cache, [controller]):
        yield controller


def raising(*errors: Exception | None) -> Callable[[Ref], Awaitable[Result | None]]:
    """Return an act that raises these in turn and then goes well."""
    waiting = list(errors)

    async def act(_: Ref) -> None:
        error = waiting.pop(0) if waiting else None
        if error is not None:
            raise error

    return act


async def test_looks_at_what_there_is_and_at_every_change(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a"), config("b"))
    diary = Diary()
    async with running(fake, diary):
        await anyio.sleep(1)
        assert sorted(diary.names) == ["a", "b"]
        await fake.patch(CONFIG_MAP, ref("a"), MergePatch({"data": {"x": "1"}}))
        await anyio.sleep(1)
        await fake.delete(CONFIG_MAP, ref("a"))
        await anyio.sleep(1)
        assert diary.names[2:] == ["a", "a"]


async def test_again_after(fake: FakeCluster) -> None:
    async def act(_: Ref) -> Result:
        return Result(again_after_s=60)

    fake.seed(CONFIG_MAP, config("a"))
    diary = Diary(act)
    async with running(fake, diary):
        await anyio.sleep(200)
    assert diary.times == [0, 60, 120, 180]


@pytest.mark.parametrize(
    "error",
    [
        Conflict("Changed."),
        Unavailable("Later."),
        RuntimeError("a bug"),
        ExceptionGroup("in a task group", [Conflict("Changed.")]),
        ExceptionGroup("in a task group", [Conflict("Changed."), ValueError("a bug")]),
    ],
)
async def test_failures_are_retried_with_growing_pauses_that_success_resets(
    fake: FakeCluster, error: Exception
) -> None:
    fake.seed(CONFIG_MAP, config("a"))
    diary = Diary(raising(error, error, error, None, error))
    async with running(fake, diary) as controller:
        await anyio.sleep(10)
        assert diary.times == [0, 0.1, 0.3, 0.7]
        controller.enqueue(ref("a"))
        await anyio.sleep(10)
        assert diary.times[4:] == [10, 10.1]


async def test_one_bad_object_does_not_stop_the_others(fake: FakeCluster) -> None:
    async def act(ref: Ref) -> None:
        if ref.name == "bad":
            raise RuntimeError("a bug")

    fake.seed(CONFIG_MAP, config("bad"), config("good"))
    diary = Diary(act)
    async with running(fake, diary, workers=1):
        await anyio.sleep(600)
        assert diary.names.count("good") == 1
        assert 15 < diary.names.count("bad") < 22  # the cap is a minute
        await fake.create(CONFIG_MAP, config("new"))
        await anyio.sleep(1)
        assert "new" in diary.names


async def test_retry_is_no_failure_and_comes_when_it_says(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a"))
    diary = Diary(raising(Retry(30), Retry(30), Unavailable("Later.")))
    async with running(fake, diary):
        await anyio.sleep(100)
    assert diary.times == [0, 30, 60, 60.1]


async def test_terminal_waits_for_a_change(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a"))
    diary = Diary(raising(Terminal("Unreadable", "The map cannot be read.")))
    async with running(fake, diary):
        await anyio.sleep(3600)
        assert len(diary.calls) == 1
        await fake.patch(CONFIG_MAP, ref("a"), MergePatch({"data": {"x": "1"}}))
        await anyio.sleep(1)
        assert len(diary.calls) == 2


async def test_the_server_says_when_to_come_back(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a"))
    diary = Diary(raising(Unavailable("Too many requests.", retry_after_s=20)))
    async with running(fake, diary):
        await anyio.sleep(100)
    assert diary.times == [0, 20]


async def test_a_reconcile_that_hangs_is_cut_off_and_tried_again(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a"))
    diary = Diary(lambda _: anyio.sleep_forever())
    async with running(fake, diary, timeout_s=50):
        await anyio.sleep(120)
    assert diary.times == [0, 50.1, 100.3]


async def test_an_object_is_with_one_worker_only_and_workers_work_side_by_side(fake: FakeCluster) -> None:
    at_work: list[str] = []
    most = 0

    async def act(ref: Ref) -> None:
        nonlocal most
        assert ref.name not in at_work
        at_work.append(ref.name)
        most = max(most, len(at_work))
        await anyio.sleep(1)
        at_work.remove(ref.name)

    fake.seed(CONFIG_MAP, *(config(name) for name in "abcdef"))
    diary = Diary(act)
    async with running(fake, diary, workers=3) as controller:
        for _ in range(50):
            for name in "abcdef":
                controller.enqueue(ref(name))
            await anyio.sleep(0.1)
        await anyio.sleep(10)
    assert most == 3
    assert not at_work


async def test_changes_map_to_owners_as_they_were_and_as_they_are(fake: FakeCluster) -> None:
    def pod(owner: str) -> Json:
        reference = {
            "apiVersion": TRAIN_JOB.api_version,
            "kind": "TrainJob",
            "name": owner,
            "uid": "1",
            "controller": True,
        }
        other = {"apiVersion": "apps/v1", "kind": "TrainJob", "name": "namesake", "uid": "2", "controller": True}
        return {"metadata": {"name": "p", "namespace": "vision", "ownerReferences": [reference, other]}, "spec": {}}

    cache = Cache(fake)
    diary = Diary()
    async with Group(cache, [Controller("jobs", cache, diary.reconcile).watches(POD, owned_by(TRAIN_JOB))]):
        await fake.create(POD, pod("first"))
        await anyio.sleep(1)
        await fake.patch(POD, ref("p"), MergePatch(pod("second")))
        await anyio.sleep(1)
    assert diary.names[0] == "first"
    assert sorted(diary.names[1:]) == ["first", "second"]


async def test_predicates_filter(fake: FakeCluster) -> None:
    cache = Cache(fake)
    diary = Diary()
    controller = Controller("jobs", cache, diary.reconcile)
    controller.watches(CONFIG_MAP, when=lambda old, new: old is None)
    async with Group(cache, [controller]):
        await fake.create(CONFIG_MAP, config("a"))
        await anyio.sleep(1)
        await fake.patch(CONFIG_MAP, ref("a"), MergePatch({"data": {"x": "1"}}))
        await fake.delete(CONFIG_MAP, ref("a"))
        await anyio.sleep(1)
    assert diary.names == ["a"]


async def test_controllers_start_when_the_cache_is_synced_and_not_before(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, config("a"))
    fake.fail_next("list", Unavailable("Starting."), times=5)
    cache = Cache(fake)
    reader = cache.reader(CONFIG_MAP)
    seen: list[bool] = []

    async def reconcile(ref: Ref) -> Result:
        seen.append(reader.get(ref) is not None)
        return Result()

    async with Group(cache, [Controller("test", cache, reconcile).watches(CONFIG_MAP)]):
        await anyio.sleep(1)
    assert seen == [True]


async def test_cancellation_reaches_a_running_reconcile_at_once_and_its_object_is_not_forgotten(
    fake: FakeCluster,
) -> None:
    fake.seed(CONFIG_MAP, config("a"))
    cancelled: list[float] = []

    async def act(_: Ref) -> None:
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            cancelled.append(anyio.current_time())
            raise

    diary = Diary(act)
    cache = Cache(fake)
    controller = Controller("test", cache, diary.reconcile).watches(CONFIG_MAP)
    for time in (1, 2):  # as a leader that loses its lease and wins it again
        async with Group(cache, [controller]):
            await anyio.sleep(1)
            before = anyio.current_time()
        assert cancelled == [pytest.approx(before)] if time == 1 else len(cancelled) == 2
    assert diary.names == ["a", "a"]


async def test_when_one_part_fails_all_end(fake: FakeCluster) -> None:
    class Broken:
        async def run(self) -> None:
            await anyio.sleep(5)
            raise RuntimeError("cannot go on")

    with pytest.raises(ExceptionGroup) as caught:
        await Group(Cache(fake), [Broken()]).run()
    assert caught.group_contains(RuntimeError, match="cannot go on")
