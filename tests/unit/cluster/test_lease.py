"""Leader election: one at a time, whoever dies; work stops before another may begin."""

from __future__ import annotations

import datetime as dt
from typing import Any

import anyio
import pytest

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Group
from headrace.cluster.fake import FakeCluster
from headrace.cluster.lease import Lease
from headrace.cluster.protocol import MergePatch
from headrace.errors import Unavailable
from headrace.spec.kind import Ref
from headrace.spec.kinds import LEASE

pytestmark = pytest.mark.anyio

REF = Ref("headrace", "control")


class LoopClock:
    """Wall time that passes as the event loop's does."""

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=anyio.current_time())

    def monotonic_s(self) -> float:
        return anyio.current_time()


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster(LoopClock())


class Candidate:
    """Campaigns, and notes when it worked."""

    def __init__(self, fake: FakeCluster, name: str) -> None:
        self.name = name
        self.lease = Lease(fake, REF, name, clock=fake.clock)
        self.spans: list[tuple[float, float]] = []
        self.since: float | None = None

    async def run(self) -> None:
        await self.lease.lead(self._work)

    async def _work(self) -> None:
        self.since = anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            self.spans.append((self.since, anyio.current_time()))
            self.since = None


async def test_one_leads_and_the_other_waits(fake: FakeCluster) -> None:
    first, second = Candidate(fake, "first"), Candidate(fake, "second")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await anyio.sleep(1)
        tasks.start_soon(second.run)
        await anyio.sleep(300)
        assert first.since is not None
        assert second.since is None
        assert (first.lease.is_leader, second.lease.is_leader) == (True, False)
        lease = await fake.get(LEASE, REF)
        assert lease.view.spec.holder_identity == "first"
        assert lease.view.spec.lease_transitions == 0
        tasks.cancel_scope.cancel()


async def test_whoever_ends_gives_the_lease_back_so_that_the_next_need_not_wait(fake: FakeCluster) -> None:
    second = Candidate(fake, "second")
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as first:
            first.start_soon(Candidate(fake, "first").run)
            await anyio.sleep(10)
            tasks.start_soon(second.run)
            await anyio.sleep(10)
            first.cancel_scope.cancel()
        await anyio.sleep(3)
        assert second.since is not None
        assert (await fake.get(LEASE, REF)).view.spec.lease_transitions == 1
        tasks.cancel_scope.cancel()


async def test_a_dead_leader_is_replaced_after_its_lease(fake: FakeCluster) -> None:
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 15, "leaseTransitions": 7}
    fake.seed(LEASE, {"metadata": {"name": REF.name, "namespace": REF.namespace}, "spec": spec})
    candidate = Candidate(fake, "alive")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(candidate.run)
        await anyio.sleep(14.5)
        assert candidate.since is None
        await anyio.sleep(3)
        assert candidate.since is not None
        assert (await fake.get(LEASE, REF)).view.spec.lease_transitions == 8
        tasks.cancel_scope.cancel()


async def test_a_leader_that_cannot_renew_stops_before_anybody_may_take_over(fake: FakeCluster) -> None:
    first, second = Candidate(fake, "first"), Candidate(fake, "second")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await anyio.sleep(20)
        tasks.start_soon(second.run)
        await anyio.sleep(20)
        healthy = fake.patch

        async def patch(kind: Any, ref: Ref, body: Any, **options: Any) -> Any:
            if body.body["spec"]["holderIdentity"] in {"first", ""}:
                await anyio.sleep(3)
                raise Unavailable("Cut off.")
            return await healthy(kind, ref, body, **options)

        fake.patch = patch  # type: ignore[method-assign, assignment]
        await anyio.sleep(60)
        assert len(first.spans) == 1
        assert second.since is not None
        assert second.since - first.spans[0][1] >= 3
        tasks.cancel_scope.cancel()


async def test_a_renewal_that_hangs_does_not_keep_the_work_alive(fake: FakeCluster) -> None:
    candidate = Candidate(fake, "first")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(candidate.run)
        await anyio.sleep(1)

        async def hang(*_: Any, **__: Any) -> Any:
            await anyio.sleep_forever()

        fake.patch = hang  # type: ignore[method-assign]
        await anyio.sleep(11)
        assert len(candidate.spans) == 1
        assert candidate.since is None
        tasks.cancel_scope.cancel()


async def test_a_lease_taken_by_force_ends_the_work_at_the_next_renewal(fake: FakeCluster) -> None:
    candidate = Candidate(fake, "first")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(candidate.run)
        await anyio.sleep(10)
        await fake.patch(LEASE, REF, MergePatch({"spec": {"holderIdentity": "usurper"}}))
        await anyio.sleep(2.5)
        assert candidate.since is None
        assert (await fake.get(LEASE, REF)).view.spec.holder_identity == "usurper"
        tasks.cancel_scope.cancel()


async def test_a_label_on_the_lease_or_a_lost_answer_does_not_end_the_work(fake: FakeCluster) -> None:
    candidate = Candidate(fake, "first")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(candidate.run)
        await anyio.sleep(10)
        await fake.patch(LEASE, REF, MergePatch({"metadata": {"labels": {"seen": "yes"}}}))
        await anyio.sleep(10)
        fake.fail_next("patch", Unavailable("The answer was lost."), after=True)
        await anyio.sleep(60)
        assert candidate.spans == []
        assert candidate.since is not None
        tasks.cancel_scope.cancel()


async def test_of_many_candidates_never_two_lead_while_the_server_fails_now_and_then(fake: FakeCluster) -> None:
    candidates = [Candidate(fake, f"c{number}") for number in range(5)]
    async with anyio.create_task_group() as tasks:
        for candidate in candidates:
            tasks.start_soon(candidate.run)
        for _ in range(200):
            fake.fail_next("patch", Unavailable("Now and then."), times=6)
            fake.fail_next("get", Unavailable("Now and then."), times=4)
            for _ in range(30):
                assert sum(candidate.since is not None for candidate in candidates) <= 1
                await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()
    assert any(candidate.spans for candidate in candidates)


async def test_work_that_returns_ends_the_campaign(fake: FakeCluster) -> None:
    async def work() -> None:
        await anyio.sleep(30)

    lease = Lease(fake, REF, "first", clock=fake.clock)
    await lease.lead(work)
    assert not lease.is_leader
    assert (await fake.get(LEASE, REF)).view.spec.holder_identity == ""


async def test_a_group_works_only_while_it_leads_and_keeps_its_cache_warm(fake: FakeCluster) -> None:
    working = 0

    class Loop:
        async def run(self) -> None:
            nonlocal working
            working += 1
            try:
                await anyio.sleep_forever()
            finally:
                working -= 1

    groups = [
        Group(Cache(fake), [Loop()], lease=Lease(fake, REF, name, clock=fake.clock)) for name in ("first", "second")
    ]
    async with groups[1]:
        async with groups[0]:
            await anyio.sleep(60)
            assert working == 1
        await anyio.sleep(20)
        assert working == 1
    assert working == 0


async def test_a_final_lease_that_is_lost_is_the_end(fake: FakeCluster) -> None:
    lease = Lease(fake, REF, "first", is_final=True, clock=fake.clock)
    ended: list[float] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(anyio.current_time())

    async def steal() -> None:
        await anyio.sleep(20)
        await fake.patch(LEASE, REF, MergePatch({"spec": {"holderIdentity": "thief"}}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(steal)
        with pytest.raises(Unavailable, match="headrace/control was lost"):
            await lease.lead(work)
    assert len(ended) == 1
