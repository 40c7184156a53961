"""Secrets are followed in the namespaces that have a label, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from headrace.cluster.cache import Cache
from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.cluster.spread import EachNamespace
from headrace.errors import Denied
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import NAMESPACE, SECRET

pytestmark = pytest.mark.anyio

LABEL = "headrace.io/project"


def namespace(fake: FakeCluster, name: str, **labels: str) -> None:
    fake.seed(NAMESPACE, {"metadata": {"name": name, "labels": labels}})


def secret(fake: FakeCluster, where: str, name: str) -> None:
    fake.seed(SECRET, {"metadata": {"name": name, "namespace": where}, "data": {}})


class Watched:
    def __init__(self, fake: FakeCluster) -> None:
        self.cache = Cache(fake, {SECRET: EachNamespace(LABEL)}, clock=fake.clock)
        self.reader = self.cache.reader(SECRET)
        self.told: list[str] = []
        self.cache.subscribe(SECRET, self._hear)
        self.cache.add_index(SECRET, "initial", lambda doc: [doc.name[0]])

    def _hear(self, old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        doc = new or old
        assert doc is not None
        self.told.append(f"{'+' if new else '-'}{doc.ref}")

    @property
    def names(self) -> list[str]:
        return sorted(str(doc.ref) for doc in self.reader.list())


@asynccontextmanager
async def running(fake: FakeCluster) -> AsyncIterator[Watched]:
    watched = Watched(fake)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.cache.run)
        with anyio.fail_after(600):
            await watched.cache.synced()
        yield watched
        tasks.cancel_scope.cancel()


@pytest.fixture
def spread(fake: FakeCluster) -> FakeCluster:
    namespace(fake, "vision", **{LABEL: ""})
    namespace(fake, "kube-system")
    secret(fake, "vision", "s3")
    secret(fake, "kube-system", "admin")
    return fake


async def test_only_namespaces_with_the_label_are_asked_for(spread: FakeCluster) -> None:
    async with running(spread) as watched:
        assert watched.names == ["vision/s3"]
        assert watched.reader.get(Ref("kube-system", "admin")) is None
        assert watched.reader.list("kube-system") == []
    assert {call.ref.namespace for call in spread.calls if call.kind == "Secret"} == {"vision"}


async def test_a_namespace_that_gets_the_label_is_followed_and_forgotten_with_it(spread: FakeCluster) -> None:
    async with running(spread) as watched:
        namespace(spread, "speech", **{LABEL: "yes"})
        secret(spread, "speech", "hf")
        await anyio.sleep(60)
        assert watched.names == ["speech/hf", "vision/s3"]
        assert [str(doc.ref) for doc in watched.reader.by_index("initial", "h")] == ["speech/hf"]
        await spread.patch(NAMESPACE, Ref("", "vision"), MergePatch({"metadata": {"labels": {LABEL: None}}}))
        await anyio.sleep(60)
        assert watched.names == ["speech/hf"]
        assert watched.told == ["+vision/s3", "+speech/hf", "-vision/s3"]


async def test_changes_and_own_writes_are_seen(spread: FakeCluster) -> None:
    async with running(spread) as watched:
        written = await spread.create(SECRET, {"metadata": {"name": "new", "namespace": "vision"}, "data": {}})
        watched.cache.assume(written)
        assert watched.names == ["vision/new", "vision/s3"]
        await spread.delete(SECRET, Ref("vision", "s3"))
        await anyio.sleep(60)
        assert watched.names == ["vision/new"]


async def test_a_namespace_that_may_not_be_read_holds_nobody_up_and_is_read_once_it_may(spread: FakeCluster) -> None:
    spread.fail_next("list", Denied("secrets is forbidden."), kind=SECRET, times=3)
    async with running(spread) as watched:
        assert watched.names == []
        await anyio.sleep(120)
        assert watched.names == ["vision/s3"]
