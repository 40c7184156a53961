"""Leads an API server to a controller outside of its cluster, by the first way that really works, and forgets it again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import anyio

from headrace.cluster.protocol import Cluster
from headrace.errors import NotFound, Unavailable
from headrace.install.apply import apply
from headrace.install.kinds import API_SERVICE, ENDPOINT_SLICE
from headrace.install.names import CONTROLLER, READS_API_SERVICE
from headrace.install.outside import Way, reads_objects
from headrace.spec.kind import Json, Kind, Ref
from headrace.spec.kinds import SERVICE

_ANSWERS_WITHIN_S = 12.0
"""An API server asks again whenever what leads to us changes, and waits 5 s for an answer."""
_LOOK_EVERY_S = 0.2


async def announce(cluster: Cluster, home: str, way: Way) -> None:
    """Lead the computed reads along `way`, and along no other."""
    await withdraw(cluster, home)
    async for _ in apply(cluster, reads_objects(home, way), force=True):
        pass


async def reach(cluster: Cluster, home: str, ways: Sequence[Way]) -> Way:
    """Return the first way on which the API server gets an answer; the first of all is announced already.

    Raises Unavailable with what the API server said of each where none works.
    """
    told: list[str] = []
    for number, way in enumerate(ways):
        if number:
            await announce(cluster, home, way)
        why = await _why_unreachable(cluster)
        if not why:
            return way
        told.append(f"{way.host}:{way.port} ({'by name' if way.by_name else 'routed'}): {why}")
    raise Unavailable(
        "The API server cannot reach this machine, which computes waiting times, quotes and bills, and keeps code. "
        + " ".join(told),
        hint="Open this machine's firewall for it, or name an address that leads here: --address IP. A cluster that "
        "cannot reach this machine at all, such as one beyond NAT, needs Headrace inside: headrace install",
    )


async def _why_unreachable(cluster: Cluster) -> str:
    """Return what the API server says while it gets no answer; empty as soon as it does."""
    why = "nobody has asked yet"
    with anyio.move_on_after(_ANSWERS_WITHIN_S):
        while True:
            doc = await cluster.get(API_SERVICE, Ref("", READS_API_SERVICE))
            conditions: list[Json] = doc.status.get("conditions") or []
            found: Json = next((each for each in conditions if each["type"] == "Available"), {})
            if found.get("status") == "True":
                return ""
            why = str(found.get("message") or why)
            await anyio.sleep(_LOOK_EVERY_S)
    return why


async def withdraw(cluster: Cluster, home: str) -> None:
    """Forget all ways. The APIService goes first: while one does not answer, no namespace can be deleted. Idempotent."""
    for kind, ref in (
        (API_SERVICE, Ref("", READS_API_SERVICE)),
        (SERVICE, Ref(home, CONTROLLER)),
        (ENDPOINT_SLICE, Ref(home, CONTROLLER)),
    ):
        await _delete(cluster, kind, ref)


async def _delete(cluster: Cluster, kind: Kind[Any], ref: Ref) -> None:
    with contextlib.suppress(NotFound):
        await cluster.delete(kind, ref)
