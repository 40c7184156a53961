"""Follows objects for clients: list, then watch, and again after every cut, so that a restarted server goes unnoticed.

Nothing is cached. A server that stays away longer than `PATIENCE_S` is reported as Unavailable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import anyio
import msgspec

from headrace.cluster.protocol import Change, Cluster, Page, Scope
from headrace.errors import Expired, Unavailable
from headrace.spec.kind import Doc, Kind, Ref

T = TypeVar("T", bound=msgspec.Struct)

PATIENCE_S = 60.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 2.0


class Patience:
    """How long a server may be away while something of it is followed: it may be restarting."""

    def __init__(self, limit_s: float = PATIENCE_S) -> None:
        self._limit_s = limit_s
        self._away_since_s: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def renew(self) -> None:
        """Note that the server answered."""
        self._away_since_s = None
        self._pause_s = _FIRST_PAUSE_S

    async def pause(self, error: Unavailable) -> None:
        """Wait a little before the next try; raises `error` once the server has been away for too long."""
        now_s = anyio.current_time()
        if self._away_since_s is None:
            self._away_since_s = now_s
        if now_s - self._away_since_s >= self._limit_s:
            raise error
        await anyio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


@asynccontextmanager
async def states(cluster: Cluster, kind: Kind[T], ref: Ref) -> AsyncIterator[AsyncIterator[Doc[T] | None]]:
    """Yield an iterator of one object's states from now on: the object, or None while it is absent.

    It goes on until the caller leaves. A state may come twice. Raises Unavailable when the server is away for too long.
    """
    where = Scope(namespace=ref.namespace, fields=f"metadata.name={ref.name}")

    async def found() -> AsyncGenerator[Doc[T] | None, None]:
        async with aclosing(_followed(cluster, kind, where)) as news:
            async for item in news:
                if isinstance(item, Page):
                    yield item.items[0] if item.items else None
                else:
                    yield None if item.type == "DELETED" else item.doc

    async with aclosing(found()) as stream:
        yield stream


@asynccontextmanager
async def documents(cluster: Cluster, kind: Kind[T], where: Scope) -> AsyncIterator[AsyncIterator[Doc[T]]]:
    """Yield an iterator of all objects in `where` and every later state of each, deletions left out; see `states`."""

    async def found() -> AsyncGenerator[Doc[T], None]:
        async with aclosing(_followed(cluster, kind, where)) as news:
            async for item in news:
                if isinstance(item, Page):
                    for doc in item.items:
                        yield doc
                elif item.type != "DELETED":
                    yield item.doc

    async with aclosing(found()) as stream:
        yield stream


async def every(cluster: Cluster, kind: Kind[Any], where: Scope) -> list[Doc[Any]]:
    """Return all objects in `where`, over as many chunks as it takes."""
    page = await cluster.list(kind, where)
    found = page.items
    while page.resume:
        page = await cluster.list(kind, where, resume=page.resume)
        found = found + page.items
    return found


async def _followed(cluster: Cluster, kind: Kind[T], where: Scope) -> AsyncGenerator[Page[T] | Change[T], None]:
    patience = Patience()
    while True:
        try:
            page = await cluster.list(kind, where, limit=0)
            patience.renew()
            yield page
            async with cluster.watch(kind, where, since=page.version) as changes:
                async for change in changes:
                    patience.renew()
                    if change.type != "BOOKMARK":
                        yield change
        except Expired:
            continue
        except Unavailable as error:
            await patience.pause(error)
