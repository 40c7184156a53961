"""What a pool holds and what is free in it. Pure.

Own pools are measured: allocatable of their ready nodes minus the requests of *all* pods bound there, ours or not.
Serverless pools are limits: what may be rented at once, minus what our pods there ask for (docs/design.md, section 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headrace.spec import amounts
from headrace.spec.amounts import Amounts
from headrace.spec.kind import Doc, Json
from headrace.spec.names import POOL_LABEL
from headrace.spec.resources import pod_requests
from headrace.spec.selectors import matches_labels


class NodeRoom(msgspec.Struct, frozen=True):
    """One node of a pool: what its pods may use together, and what is free of it now; nothing while it is not ready."""

    name: str
    total: Amounts
    free: Amounts


class Room(msgspec.Struct, frozen=True):
    """What a pool holds and what is free. `limit` is set for serverless pools only: what may be rented at once."""

    total: Amounts
    free: Amounts
    nodes: tuple[NodeRoom, ...]
    limit: Amounts | None = None


def node_selector(pool: Doc[Any]) -> dict[str, str]:
    """Return the labels that a pool's nodes have; by default `headrace.io/pool=<name>`."""
    selector: dict[str, str] = (pool.spec.get("nodes") or {}).get("selector") or {POOL_LABEL: pool.name}
    return selector


def tolerations(pool: Doc[Any]) -> list[Json]:
    """Return the tolerations that pods need on a pool's nodes."""
    found: list[Json] = (pool.spec.get("nodes") or {}).get("tolerations") or []
    return found


def is_member(pool: Doc[Any], node: Doc[Any]) -> bool:
    return matches_labels(node_selector(pool), node.labels)


def is_ready(node: Doc[Any]) -> bool:
    """Tell whether new pods may be bound to the node."""
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in node.status.get("conditions") or [])
    return ready and not node.spec.get("unschedulable") and not node.is_deleting


def measure(pool: Doc[Any], nodes: Sequence[Doc[Any]], pods: Sequence[Doc[Any]]) -> Room:
    """Return a pool's room.

    Args:
        nodes: all nodes; those of other pools are left out here.
        pods: all pods that are bound or ours; those that have ended are left out here.
    """
    names = {gpu["resource"]: f"gpu/{model}" for model, gpu in (pool.spec.get("gpus") or {}).items()}
    members = [node for node in nodes if is_member(pool, node)]
    used: dict[str, dict[str, int]] = {}
    for pod in pods:
        node = pod.spec.get("nodeName")
        if node and pod.status.get("phase") not in {"Succeeded", "Failed"}:
            used[node] = amounts.add(used.get(node, {}), {**_renamed(pod_requests(pod.raw), names), "pods": 1})
    rooms = []
    for node in members:
        total = _renamed(node.status.get("allocatable") or {}, names)
        free = amounts.subtract(total, used.get(node.name, {})) if is_ready(node) else {}
        rooms.append(NodeRoom(node.name, total, free))
    total = amounts.add(*(room.total for room in rooms))
    free = amounts.add(*(room.free for room in rooms))
    limit = pool.spec.get("capacity")
    if not limit:
        return Room(total, free, tuple(rooms))
    allowed = amounts.parse(limit)
    taken = amounts.add(*(used.get(room.name, {}) for room in rooms))
    return Room(allowed, {n: a - taken.get(n, 0) for n, a in allowed.items()}, tuple(rooms), allowed)


def _renamed(quantities: Mapping[str, Any], names: dict[str, str]) -> dict[str, int]:
    return amounts.parse({names.get(name, name): value for name, value in quantities.items()})
