"""A cluster that is written to only while a lease is held: what a leader's work is given instead of the cluster itself.

Cancelling the work when the lease is lost is not enough. A process that was stopped for longer than its lease runs on
with whatever it was about to send, and only then sees that time has passed. Here each write is refused by the clock, at
the moment it is handed over. What had left before is for the server to refuse: writes of a leader are compare-and-swap,
creations of known names, or bound to a uid.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import msgspec

from headrace.cluster.lease import Lease
from headrace.cluster.protocol import ALL, Change, Cluster, ExecResult, ExecStream, Page, Patch, Propagation, Scope
from headrace.errors import Unavailable
from headrace.spec.kind import Doc, Json, Kind, Ref

T = TypeVar("T", bound=msgspec.Struct)

_READS = ("GET", "HEAD")


class Fenced:
    """Implements `Cluster` over another one; whatever changes something raises Unavailable while `lease` is not held."""

    def __init__(self, cluster: Cluster, lease: Lease) -> None:
        self._cluster = cluster
        self._lease = lease

    def _fence(self) -> Cluster:
        if not self._lease.is_held:
            raise Unavailable(
                "Nothing is written: this process was stopped for so long that another one may lead.",
                hint="Whoever leads now does it.",
            )
        return self._cluster

    # -- what changes something ----------------------------------------------------------------------------------------

    async def create(self, kind: Kind[T], body: Json, *, dry_run: bool = False) -> Doc[T]:
        return await self._fence().create(kind, body, dry_run=dry_run)

    async def patch(
        self, kind: Kind[T], ref: Ref, patch: Patch, *, subresource: str = "", dry_run: bool = False
    ) -> Doc[T]:
        return await self._fence().patch(kind, ref, patch, subresource=subresource, dry_run=dry_run)

    async def delete(
        self,
        kind: Kind[T],
        ref: Ref,
        *,
        uid: str = "",
        version: str = "",
        grace_s: int | None = None,
        propagation: Propagation = "Background",
    ) -> None:
        await self._fence().delete(kind, ref, uid=uid, version=version, grace_s=grace_s, propagation=propagation)

    async def evict(self, ref: Ref, *, grace_s: int | None = None) -> None:
        await self._fence().evict(ref, grace_s=grace_s)

    async def bind(self, ref: Ref, node: str) -> None:
        await self._fence().bind(ref, node)

    async def exec(self, ref: Ref, command: Sequence[str], *, container: str = "", stdin: bytes = b"") -> ExecResult:
        return await self._fence().exec(ref, command, container=container, stdin=stdin)

    def attach_exec(
        self, ref: Ref, command: Sequence[str], *, container: str = "", tty: bool = False
    ) -> AbstractAsyncContextManager[ExecStream]:
        return self._fence().attach_exec(ref, command, container=container, tty=tty)

    async def request(
        self, method: str, path: str, *, query: Any = None, body: Any = None, accept: str = "application/json"
    ) -> Any:
        cluster = self._cluster if method in _READS else self._fence()
        return await cluster.request(method, path, query=query, body=body, accept=accept)

    # -- what only reads -----------------------------------------------------------------------------------------------

    async def get(self, kind: Kind[T], ref: Ref) -> Doc[T]:
        return await self._cluster.get(kind, ref)

    async def list(self, kind: Kind[T], where: Scope = ALL, *, limit: int = 500, resume: str = "") -> Page[T]:
        return await self._cluster.list(kind, where, limit=limit, resume=resume)

    def watch(
        self, kind: Kind[T], where: Scope = ALL, *, since: str, idle_timeout_s: float = 60.0
    ) -> AbstractAsyncContextManager[AsyncIterator[Change[T]]]:
        return self._cluster.watch(kind, where, since=since, idle_timeout_s=idle_timeout_s)

    def logs(
        self,
        ref: Ref,
        *,
        container: str = "",
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_s: float | None = None,
        timestamps: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._cluster.logs(
            ref,
            container=container,
            follow=follow,
            previous=previous,
            tail_lines=tail_lines,
            since_s=since_s,
            timestamps=timestamps,
        )
