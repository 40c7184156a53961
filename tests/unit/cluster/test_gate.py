"""Claims are followed everywhere by one watch, and shown in the namespaces that have a label."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from headrace.cluster.cache import Cache
from headrace.cluster.fake import FakeCluster
from headrace.cluster.gate import InNamespaces
from headrace.cluster.protocol import MergePatch
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import NAMESPACE, PERSISTENT_VOLUME_CLAIM

pytestmark = pytest.mark.anyio

LABEL = "headrace.io/project"


class Watched:
    """A cache of claims, and what it told."""

    def __init__(self, fake: FakeCluster) -> None:
        self.cache = Cache(fake, {PERSISTENT_VOLUME_CLAIM: InNamespaces(LABEL)}, clock=fake.clock)
        self.reader = self.cache.reader(PERSISTENT_VOLUME_CLAIM)
        self.told: list[str] = []
        self.cache.subscribe(PERSISTENT_VOLUME_CLAIM, self._hear)
        self.cache.add_index(PERSISTENT_VOLUME_CLAIM, "initial", lambda doc: [doc.name[0]])

    def _hear(self, old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        doc = new or old
        assert doc is not None
        self.told.append(f"{'-' if new is None else '+' if old is None else '~'}{doc.ref}")

    @property
    def names(self) -> list[str]:
        return sorted(str(doc.ref) for doc in self.reader.list())

    def heard(self) -> list[str]:
        told, self.told[:] = sorted(self.told), []
        return told


def claim(fake: FakeCluster, where: str, name: str) -> None:
    fake.seed(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": name, "namespace": where}, "spec": {}})


async def label(fake: FakeCluster, name: str, value: str | None) -> None:
    await fake.patch(NAMESPACE, Ref("", name), MergePatch({"metadata": {"labels": {LABEL: value}}}))
    await anyio.sleep(1)


@asynccontextmanager
async def running(fake: FakeCluster) -> AsyncIterator[Watched]:
    fake.seed(NAMESPACE, {"metadata": {"name": "vision", "labels": {LABEL: ""}}}, {"metadata": {"name": "else"}})
    for where in ("vision", "else"):
        claim(fake, where, "first")
    watched = Watched(fake)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.cache.run)
        await watched.cache.synced()
        await anyio.sleep(1)
        yield watched
        tasks.cancel_scope.cancel()


async def test_only_what_is_in_labelled_namespaces_is_shown(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        claim(fake, "else", "second")
        await anyio.sleep(1)
        assert watched.names == ["vision/first"]
        assert watched.heard() == ["+vision/first"]
        assert watched.reader.get(Ref("else", "first")) is None
        assert [doc.namespace for doc in watched.reader.by_index("initial", "f")] == ["vision"]


async def test_the_label_brings_and_takes_what_is_there_by_then(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        claim(fake, "else", "second")
        await fake.delete(PERSISTENT_VOLUME_CLAIM, Ref("else", "first"))
        await anyio.sleep(1)
        watched.heard()
        await label(fake, "else", "")
        assert watched.heard() == ["+else/second"]
        claim(fake, "else", "third")
        await anyio.sleep(1)
        assert watched.heard() == ["+else/third"]
        await label(fake, "else", None)
        assert watched.heard() == ["-else/second", "-else/third"]
        assert watched.names == ["vision/first"]
        claim(fake, "else", "third")
        await label(fake, "else", "again")
        assert watched.names == ["else/second", "else/third", "vision/first"]


async def test_what_is_assumed_elsewhere_is_kept_back_too(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        made = await fake.create(PERSISTENT_VOLUME_CLAIM, {"metadata": {"name": "mine", "namespace": "else"}})
        watched.cache.assume(made)
        assert watched.names == ["vision/first"]
        await label(fake, "else", "")
        assert watched.names == ["else/first", "else/mine", "vision/first"]


async def test_a_new_list_forgets_what_is_gone_elsewhere(fake: FakeCluster) -> None:
    async with running(fake) as watched:
        indexer: Any = watched.cache._indexers[PERSISTENT_VOLUME_CLAIM]
        [shown] = watched.reader.list()
        indexer.replace([shown], "99")
        await label(fake, "else", "")
        assert watched.names == ["vision/first"]
