"""When a node is looked at, and how often: nodes tell canned counters, and the clock is a fake."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx2
import pytest
import trio.testing
from starlette.applications import Starlette

from headrace.engine.facade.metrics import Metrics
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.request import Answer, Request, User
from headrace.errors import Unavailable

BASE = "http://x/apis/metrics.k8s.io/v1beta1"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class OneNode(Pipeline):
    """A pipeline that knows the node `own` only."""

    def __init__(self) -> None: ...

    async def handle(self, user: User, request: Request) -> Answer:
        node = {"metadata": {"name": "own"}}
        return Answer(body={"items": [node]} if request.verb == "list" else node)


class Node:
    """Uses two cores; its counter began at `since_s`."""

    def __init__(self) -> None:
        self.since_s = -100.0
        self.looks: list[float] = []
        self.is_lost = False

    async def ask(self, _name: str) -> str:
        if self.is_lost:
            raise Unavailable("The node's agent cannot be reached.")
        now = anyio.current_time()
        self.looks.append(round(now, 3))
        at = round((now + 1e6) * 1000)
        return f"node_cpu_usage_seconds_total {2 * (now - self.since_s)} {at}\nnode_memory_working_set_bytes 1 {at}\n"


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def client(node: Node) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(Starlette(routes=Metrics(OneNode(), node.ask).routes()))
    async with httpx2.AsyncClient(transport=transport) as made:
        yield made


async def window(client: httpx2.AsyncClient) -> str:
    found = (await client.get(f"{BASE}/nodes/own")).json()
    assert found["usage"] == {"cpu": "2000000000n", "memory": "0Ki"}
    return str(found["window"])


@pytest.mark.anyio
async def test_the_first_answer_takes_two_looks_and_later_ones_one(node: Node, client: httpx2.AsyncClient) -> None:
    began = anyio.current_time()
    assert await window(client) == "1.000s"
    await anyio.sleep(0.5)
    assert await window(client) == "1.000s", "told again"
    await anyio.sleep(14.5)
    assert await window(client) == "15.000s"
    await anyio.sleep(3600)
    assert await window(client) == "1.000s", "the mean of an hour is not what is used now"
    assert [round(at - began) for at in node.looks] == [0, 1, 16, 3616, 3617]


@pytest.mark.anyio
async def test_who_asks_at_once_waits_for_the_same_look(node: Node, client: httpx2.AsyncClient) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(window, client)
    assert len(node.looks) == 2


@pytest.mark.anyio
async def test_a_node_that_begins_anew_is_looked_at_twice(node: Node, client: httpx2.AsyncClient) -> None:
    await window(client)
    await anyio.sleep(10)
    node.since_s = anyio.current_time()
    assert await window(client) == "1.000s"
    assert len(node.looks) == 4


@pytest.mark.anyio
async def test_a_node_that_is_lost_is_left_out_of_lists(node: Node, client: httpx2.AsyncClient) -> None:
    node.is_lost = True
    assert (await client.get(f"{BASE}/nodes")).json()["items"] == []
    node.is_lost = False
    assert [one["metadata"]["name"] for one in (await client.get(f"{BASE}/nodes")).json()["items"]] == ["own"]
