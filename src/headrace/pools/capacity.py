"""What a pool holds and what is free in it. Pure.

Own pools are measured: allocatable of their ready nodes minus the requests of *all* pods bound there, ours or not.
Serverless pools are limits: what may be rented at once, minus what our pods there ask for (docs/design.md, section 6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.spec import amounts
from headrace.spec.amounts import Amounts
from headrace.spec.kind import Doc, Json
from headrace.spec.names import NODE_POOL_LABEL
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
    """Return the labels that a pool's nodes have; by default `node-restriction.kubernetes.io/headrace-pool=<name>`."""
    selector: dict[str, str] = (pool.spec.get("nodes") or {}).get("selector") or {NODE_POOL_LABEL: pool.name}
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
    return room(pool, nodes, usage(pods))


def usage(pods: Iterable[Doc[Any]]) -> dict[str, dict[str, int]]:
    """Return what pods ask of the nodes they are bound to, by node; those that have ended ask nothing any more."""
    used: dict[str, dict[str, int]] = {}
    for pod in pods:
        node = pod.spec.get("nodeName")
        if node and pod.status.get("phase") not in {"Succeeded", "Failed"}:
            used[node] = amounts.add(used.get(node, {}), need(pod.raw))
    return used


def need(pod: Json) -> dict[str, int]:
    """Return what a pod asks of a node, by Kubernetes' names, its one of the `pods` that a node takes included."""
    return {**amounts.parse(pod_requests(pod)), "pods": 1}


def room(pool: Doc[Any], nodes: Sequence[Doc[Any]], used: Mapping[str, Amounts]) -> Room:
    """Return a pool's room where its nodes' use is known (`usage`)."""
    members = [in_pools_words(pool, node_room(node, used)) for node in nodes if is_member(pool, node)]
    limit = pool.spec.get("capacity")
    if not limit:
        total = amounts.add(*(each.total for each in members))
        return Room(total, amounts.add(*(each.free for each in members)), tuple(members))
    allowed = amounts.parse(limit)
    taken = renamed(pool, amounts.add(*(used.get(each.name, {}) for each in members)))
    return Room(allowed, {n: a - taken.get(n, 0) for n, a in allowed.items()}, tuple(members), allowed)


def node_room(node: Doc[Any], used: Mapping[str, Amounts]) -> NodeRoom:
    """Return a node's room by Kubernetes' names."""
    total = amounts.parse(node.status.get("allocatable") or {})
    free = amounts.subtract(total, used.get(node.name, {})) if is_ready(node) else {}
    return NodeRoom(node.name, total, free)


def in_pools_words(pool: Doc[Any], found: NodeRoom) -> NodeRoom:
    return NodeRoom(found.name, renamed(pool, found.total), renamed(pool, found.free))


def renamed(pool: Doc[Any], found: Amounts) -> dict[str, int]:
    """Return amounts by a pool's names: `gpu/<model>` in place of the resource that its nodes call a GPU."""
    names = {gpu["resource"]: f"gpu/{model}" for model, gpu in (pool.spec.get("gpus") or {}).items()}
    return {names.get(name, name): amount for name, amount in found.items()}
