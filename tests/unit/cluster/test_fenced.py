"""A leader that was stopped for longer than its lease writes nothing more, though nothing has told it yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from headrace.clock import FakeClock
from headrace.cluster.fake import FakeCluster
from headrace.cluster.fenced import Fenced
from headrace.cluster.lease import Lease
from headrace.cluster.protocol import MergePatch
from headrace.errors import HeadraceError, Unavailable
from headrace.spec.kind import Ref
from headrace.spec.kinds import CONFIG_MAP

pytestmark = pytest.mark.anyio

REF = Ref("vision", "a")
BODY = {"metadata": {"name": REF.name, "namespace": REF.namespace}}
WRITES: dict[str, Callable[[Fenced], Awaitable[object]]] = {
    "create": lambda cluster: cluster.create(CONFIG_MAP, BODY),
    "patch": lambda cluster: cluster.patch(CONFIG_MAP, REF, MergePatch({"data": {"a": "b"}})),
    "delete": lambda cluster: cluster.delete(CONFIG_MAP, REF),
    "evict": lambda cluster: cluster.evict(REF),
    "bind": lambda cluster: cluster.bind(REF, "node"),
    "exec": lambda cluster: cluster.exec(REF, ["true"]),
    "request": lambda cluster: cluster.request("POST", "/apis"),
}


@asynccontextmanager
async def leading(fake: FakeCluster, clock: FakeClock) -> AsyncIterator[Fenced]:
    """Give the cluster of a leader whose event loop knows nothing of the time that `clock` says has passed."""
    lease = Lease(fake, Ref("headrace", "control"), "first", clock=clock, is_final=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lease.lead, anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        assert lease.is_held
        yield Fenced(fake, lease)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_write_after_a_long_stop_is_refused(
    fake: FakeCluster, write: Callable[[Fenced], Awaitable[object]]
) -> None:
    clock = FakeClock()
    async with leading(fake, clock) as cluster:
        fake.seed(CONFIG_MAP, BODY)
        clock.advance(10.1)
        with pytest.raises(Unavailable, match="another one may lead"):
            await write(cluster)
    assert (await fake.get(CONFIG_MAP, REF)).raw.get("data") is None


async def test_while_it_leads_it_writes(fake: FakeCluster) -> None:
    clock = FakeClock()
    async with leading(fake, clock) as cluster:
        for _ in range(100):  # renewed again and again, so ten seconds are never reached
            clock.advance(2.5)
            await anyio.sleep(2.5)
        await cluster.create(CONFIG_MAP, BODY)
        await cluster.patch(CONFIG_MAP, REF, MergePatch({"data": {"a": "b"}}))
        assert (await cluster.get(CONFIG_MAP, REF)).raw["data"] == {"a": "b"}
        await cluster.delete(CONFIG_MAP, REF)


async def test_it_reads_whoever_leads(fake: FakeCluster) -> None:
    fake.seed(CONFIG_MAP, BODY)
    cluster = Fenced(fake, Lease(fake, Ref("headrace", "control"), "never"))
    assert (await cluster.get(CONFIG_MAP, REF)).name == "a"
    assert len((await cluster.list(CONFIG_MAP)).items) == 1
    with pytest.raises(HeadraceError):
        await cluster.create(CONFIG_MAP, {"metadata": {"name": "b", "namespace": "vision"}})
