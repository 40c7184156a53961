"""The work queue's promises: once in the queue, one worker at a time, later when asked, back-off per key."""

from __future__ import annotations

import anyio
import pytest

from headrace.cluster.backoff import Backoff
from headrace.cluster.workqueue import WorkQueue

pytestmark = pytest.mark.anyio


@pytest.fixture
def queue() -> WorkQueue[str]:
    return WorkQueue(Backoff(first_s=1.0, cap_s=10.0))


async def test_a_waiting_key_is_queued_once(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_added_while_worked_on_comes_again_afterwards_and_not_before(queue: WorkQueue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert len(queue) == 1
    queue.done(await queue.get())
    assert len(queue) == 0


async def test_no_key_is_ever_with_two_workers(queue: WorkQueue[str]) -> None:
    at_work: set[str] = set()
    worked = 0

    async def work() -> None:
        nonlocal worked
        while True:
            key = await queue.get()
            assert key not in at_work
            at_work.add(key)
            await anyio.sleep(0.3)
            at_work.remove(key)
            worked += 1
            queue.done(key)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(work)
        for _ in range(20):
            for key in "abc":
                queue.add(key)
            await anyio.sleep(0.1)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    assert worked >= 3 * 20 * 0.1 / 0.3 - 3
    assert not at_work


async def test_delays_and_the_earlier_of_two(queue: WorkQueue[str]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        start = anyio.current_time()
        queue.add_after("late", 100)
        queue.add_after("early", 50)
        queue.add_after("late", 70)
        queue.add_after("late", 80)
        assert await queue.get() == "early"
        assert anyio.current_time() - start == pytest.approx(50)
        assert await queue.get() == "late"
        assert anyio.current_time() - start == pytest.approx(70)
        with anyio.move_on_after(1000):
            pytest.fail(f"{await queue.get()} came twice")
        tasks.cancel_scope.cancel()


async def test_working_on_a_key_drops_its_delay(queue: WorkQueue[str]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        queue.add_after("a", 10)
        queue.add("a")
        queue.done(await queue.get())
        with anyio.move_on_after(1000):
            pytest.fail(f"{await queue.get()} came twice")
        tasks.cancel_scope.cancel()


async def test_back_off_doubles_per_key_up_to_a_cap_and_starts_anew_after_success(queue: WorkQueue[str]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)

        async def delay_of(key: str, at_least_s: float = 0.0) -> float:
            start = anyio.current_time()
            queue.retry(key, at_least_s=at_least_s)
            assert await queue.get() == key
            queue.done(key)
            return anyio.current_time() - start

        assert [round(await delay_of("a"), 3) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
        assert round(await delay_of("b"), 3) == 1
        queue.forget("a")
        assert round(await delay_of("a"), 3) == 1
        assert round(await delay_of("a", at_least_s=7), 3) == 7
        tasks.cancel_scope.cancel()


async def test_a_cancelled_worker_takes_no_key_with_it(queue: WorkQueue[str]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.get)
        await anyio.wait_all_tasks_blocked()
        queue.add("a")
        tasks.cancel_scope.cancel()
    with anyio.fail_after(1):
        if len(queue):
            assert await queue.get() == "a"


def test_jitter_stays_within_its_share() -> None:
    backoff = Backoff(first_s=8.0, cap_s=100.0, jitter=0.5)
    assert all(4.0 <= backoff.delay_s(1) <= 8.0 for _ in range(200))
    assert len({backoff.delay_s(1) for _ in range(5)}) > 1
    assert backoff.delay_s(10_000) <= 100.0
