"""NodeMounts: how a node's driver asks for the client of a Dataset, and hears how it is.

The driver makes and deletes these objects, and reads them; whether a pod comes of one, and which, is the controllers'
business. A driver that could make pods would give the cluster to whoever steals its token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio

from headrace.cluster.protocol import Cluster, Scope
from headrace.errors import AlreadyExists, HeadraceError, NotFound
from headrace.ids import dns_1035_name
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import NODE_MOUNT

_AGAIN_S = 1.0
_READY = "Ready"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One mount that this node wants."""

    dataset: Ref
    read_only: bool

    def __str__(self) -> str:
        return f"Dataset {self.dataset}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the controllers say.

    Args:
        client_uid: of the client's pod; empty while there is none.
        failed: waiting alone does not mend it.
        message: a sentence; empty while nobody has looked yet.
    """

    client_uid: str = ""
    failed: bool = False
    message: str = ""


NOBODY_LOOKED = Answer()


class NodeMounts:
    """The NodeMounts of one node."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node

    def name(self, wanted: Wanted) -> str:
        """Return the name that the object always has, so that whoever asks again finds it."""
        access = "reads" if wanted.read_only else "writes"
        return dns_1035_name(wanted.dataset.name, wanted.dataset.namespace, self._node, access)

    async def ask(self, wanted: Wanted) -> None:
        """Ask for the mount. Idempotent; raises what the cluster raises."""
        spec: Json = {
            "nodeName": self._node,
            "dataset": {"namespace": wanted.dataset.namespace, "name": wanted.dataset.name},
            "readOnly": wanted.read_only,
        }
        body = {
            "apiVersion": NODE_MOUNT.api_version,
            "kind": NODE_MOUNT.name,
            "metadata": {"name": self.name(wanted)},
            "spec": spec,
        }
        try:
            await self._cluster.create(NODE_MOUNT, body)
        except AlreadyExists:
            return

    async def answer(self, wanted: Wanted) -> Answer:
        """Return what is said of the mount now; raises NotFound when it is not asked for."""
        return _answer(await self._cluster.get(NODE_MOUNT, Ref("", self.name(wanted))))

    async def give_back(self, wanted: Wanted) -> None:
        """Ask for it no more. Idempotent; raises what the cluster raises."""
        try:
            await self._cluster.delete(NODE_MOUNT, Ref("", self.name(wanted)))
        except NotFound:
            return

    async def all(self) -> list[Wanted]:
        """Return all that this node asks for, whoever of its drivers did."""
        found: list[Wanted] = []
        resume = ""
        while True:
            page = await self._cluster.list(NODE_MOUNT, resume=resume)
            found += [_wanted(doc) for doc in page.items if doc.spec.get("nodeName") == self._node]
            if not (resume := page.resume):
                return found

    @asynccontextmanager
    async def following(self, wanted: Wanted) -> AsyncIterator[Callable[[], Answer]]:
        """Follow one mount's answers: yields what returns the latest."""
        latest = [NOBODY_LOOKED]

        async def follow() -> None:
            while True:
                with suppress(HeadraceError):
                    await self._follow(wanted, latest)
                await anyio.sleep(_AGAIN_S)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            yield lambda: latest[0]
            tasks.cancel_scope.cancel()

    async def _follow(self, wanted: Wanted, latest: list[Answer]) -> None:
        doc = await self._cluster.get(NODE_MOUNT, Ref("", self.name(wanted)))
        latest[0] = _answer(doc)
        where = Scope(fields=f"metadata.name={doc.name}")
        async with self._cluster.watch(NODE_MOUNT, where, since=doc.version) as changes:
            async for change in changes:
                if change.type in ("ADDED", "MODIFIED"):
                    latest[0] = _answer(change.doc)


def _wanted(doc: Doc[Any]) -> Wanted:
    dataset = doc.spec.get("dataset") or {}
    ref = Ref(str(dataset.get("namespace") or ""), str(dataset.get("name") or ""))
    return Wanted(dataset=ref, read_only=bool(doc.spec.get("readOnly")))


def _answer(doc: Doc[Any]) -> Answer:
    ready = find_condition(doc, _READY) or {}
    return Answer(
        client_uid=str((doc.status.get("client") or {}).get("uid") or ""),
        failed=ready.get("status") == "False",
        message=str(ready.get("message") or ""),
    )
