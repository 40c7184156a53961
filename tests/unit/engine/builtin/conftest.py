"""An engine with all of its builtin controllers at work, and its time in the test's hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace.clock import FakeClock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Group
from headrace.cluster.protocol import MergePatch, Scope
from headrace.engine.builtin.admission import admitters
from headrace.engine.builtin.assembly import builtin_controllers
from headrace.engine.client import LocalCluster
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.request import SYSTEM
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.store.store import Store
from headrace.errors import NotFound
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import EVENT, NODE, POD

DEADLINE_S = 10.0


class Engine(LocalCluster):
    """The cluster, and ways to wait for what its controllers do."""

    def __init__(self, pipeline: Pipeline, clock: FakeClock, volumes: Path) -> None:
        super().__init__(pipeline, SYSTEM)
        self.pipeline = pipeline
        self.clock = clock
        self.volumes = volumes

    async def until(self, holds: Callable[[], Awaitable[Any]]) -> Any:
        """Wait, change by change, until `holds()` is true or gives something; returns that."""
        with anyio.fail_after(DEADLINE_S):
            while True:
                version = self.pipeline.store.version
                found = await holds()
                if found:
                    return found
                while self.pipeline.store.version == version:  # noqa: ASYNC110 any write of anybody
                    await anyio.sleep(0.002)

    async def until_gone(self, kind: Kind[Any], ref: Ref) -> None:
        async def is_gone() -> bool:
            try:
                await self.get(kind, ref)
            except NotFound:
                return True
            return False

        await self.until(is_gone)

    async def until_there(
        self, kind: Kind[Any], ref: Ref, holds: Callable[[Doc[Any]], Any] = lambda _: True
    ) -> Doc[Any]:
        async def is_there() -> Doc[Any] | None:
            try:
                doc = await self.get(kind, ref)
            except NotFound:
                return None
            return doc if holds(doc) else None

        found: Doc[Any] = await self.until(is_there)
        return found

    async def until_told(self, about: Doc[Any], reason: str) -> str:
        """Wait for an event about an object and return its message."""
        where = Scope(about.namespace or "default", fields=f"involvedObject.uid={about.uid},reason={reason}")

        async def message() -> str:
            events = (await self.list(EVENT, where)).items
            return str(events[-1].raw["message"]) if events else ""

        return str(await self.until(message))

    async def add_node(self, name: str, *, cpu: str = "4", taints: tuple[Json, ...] = (), **labels: str) -> Doc[Any]:
        body = {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}}
        allocatable = {"cpu": cpu, "memory": "8Gi", "pods": "10"}
        conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]
        return await self.create(NODE, body | {"status": {"allocatable": allocatable, "conditions": conditions}})

    async def add_pod(self, name: str, *, cpu: str = "1", claim: str = "", **spec: Any) -> Doc[Any]:
        container = {"name": "main", "image": "host", "resources": {"requests": {"cpu": cpu}}}
        body: Json = {"containers": [container], **spec}
        if claim:
            body["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        return await self.create(POD, {"metadata": {"name": name, "namespace": "default"}, "spec": body})

    async def finish(self, pod: Ref, phase: str = "Succeeded") -> None:
        await self.patch(POD, pod, MergePatch({"status": {"phase": phase}}), subresource="status")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    clock = FakeClock()
    async with Store(tmp_path / "objects.db") as store:
        pipeline = Pipeline(store, builtin_registry(), clock=clock, admitters=admitters(store))
        await seed(pipeline)
        engine = Engine(pipeline, clock, tmp_path / "volumes")
        cache = Cache(engine, clock=clock)
        controllers = builtin_controllers(
            engine, cache, pipeline.registry, clock=clock, volumes=engine.volumes, root_certificate="PEM"
        )
        async with Group(cache, controllers):
            yield engine
