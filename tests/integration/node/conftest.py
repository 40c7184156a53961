"""A node agent over a real world and a fake cluster."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace.clock import SystemClock
from headrace.cluster.fake import FakeCluster
from headrace.node.agent import Agent
from headrace.node.config import NodeConfig
from headrace.node.removal import remove
from headrace.node.volumes.places import PodPlace
from headrace.node.world import WorldClient
from headrace.sandbox.testing import RunningWorld, missing_features, running_world
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import NODE, POD

_WITHIN_S = 20.0
_NOBODY = 65534


class Notes:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def event(self, doc: Any, type: str, reason: str, message: str) -> None:
        self.said.append((reason, message))


class LiveNode:
    """One node: what a test asks of it."""

    def __init__(self, world: RunningWorld, home: Path) -> None:
        self.world = world
        self.home = home
        self.cluster = FakeCluster(SystemClock())
        self.notes = Notes()
        self.agent: Agent | None = None
        self.config = NodeConfig(
            name="own",
            directory=Path(world.directory),
            closed=home,
            pod_network="127.64.0.0/16",
            capacity={"cpu": "4", "memory": "8Gi", "pods": "110"},
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        """Run an agent; leaving is `kill -9` as far as the world can tell."""
        agent = self.agent = Agent(
            self.config,
            cluster=self.cluster,
            world=WorldClient(self.world.socket),
            drivers={},
            recorder=self.notes,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent.run)
            await self.until(lambda: agent.is_attached)
            yield agent
            tasks.cancel_scope.cancel()

    async def submit(self, *containers: Json, name: str = "p", meta: Json | None = None, **spec: Any) -> Doc[Any]:
        body = {
            "metadata": {"name": name, "namespace": "ns", **(meta or {})},
            "spec": {"nodeName": "own", "containers": list(containers), **spec},
        }
        return await self.cluster.create(POD, body)

    def pod(self, name: str = "p") -> Json | None:
        raw: Json | None = self.cluster._table(POD).objects.get(Ref("ns", name))
        return raw

    def node(self) -> Json:
        """The Node object."""
        return self.cluster._table(NODE).objects[Ref("", "own")]

    def entry(self, container: str, name: str = "p") -> Json:
        status = (self.pod(name) or {}).get("status", {})
        entries = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        return next((e for e in entries if e["name"] == container), {"state": {}, "lastState": {}, "restartCount": 0})

    async def until(self, condition: Callable[[], Any], within_s: float = _WITHIN_S) -> Any:
        deadline = time.monotonic() + within_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain: {self.pod()}, {self.notes.said[-8:]}"
            await anyio.sleep(0.005)
        return found

    async def until_phase(self, phase: str, name: str = "p", within_s: float = _WITHIN_S) -> Json:
        def reached() -> Json | None:
            pod = self.pod(name)
            return pod if pod and pod["status"].get("phase") == phase else None

        found: Json = await self.until(reached, within_s)
        return found

    def place(self, uid: str) -> PodPlace:
        return PodPlace(self.config.pods, uid)

    async def until_said(self, text: str, name: str = "p") -> str:
        """Wait until a pod's log holds `text` and return the log."""
        await self.until(lambda: self.entry("app", name)["state"])
        deadline = time.monotonic() + _WITHIN_S
        while text not in (said := await self._said(name)):
            assert time.monotonic() < deadline, f"never said {text!r}: {said!r}"
            await anyio.sleep(0.01)
        return said

    async def _said(self, name: str) -> str:
        started = "running" in self.entry("app", name)["state"] or "terminated" in self.entry("app", name)["state"]
        return await self.output(name=name) if started else ""

    async def output(self, container: str = "app", name: str = "p", **options: Any) -> str:
        """A container's log, as the node's endpoint would send it."""
        from headrace.node.logs import LogOptions

        assert self.agent is not None
        chunks: list[bytes] = []

        async def sink(data: bytes) -> None:
            chunks.append(data)

        previous = options.pop("previous", False)
        source = self.agent.view.log("ns", name, container, LogOptions(**options), previous=previous)
        await source(sink)
        return b"".join(chunks).decode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that who runs pods owns: nobody, where the test is root, since a node never runs as root."""
    place = Path(tempfile.mkdtemp(prefix="headrace-node-"))
    is_root = os.geteuid() == 0
    try:
        if is_root:
            place.chmod(0o755)
            os.chown(place, _NOBODY, _NOBODY)
        yield place
    finally:
        remove(place)


@pytest.fixture
def node(home: Path) -> Iterator[LiveNode]:
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACES, PODS ARE NOT RUN: {why}")
    with running_world(home) as world, as_node_user():
        yield LiveNode(world, home)


@contextmanager
def as_node_user() -> Iterator[None]:
    """Be nobody for a while, where the test is root."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
