"""Whether a gang fits, now or later: first-fit by decreasing size over nodes, and releases in order of expected end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from headrace.scheduling.model import Gang, NodeState, PoolState, Running
from headrace.spec import amounts
from headrace.spec.amounts import Amounts

OVERDUE_MINIMUM_S = 60.0


def pods(gang: Gang, pool: str) -> list[Amounts]:
    """Return what each pod of the gang asks for in `pool`, its sidecars included."""
    sidecars = gang.access[pool].sidecars
    return [amounts.add(worker.shape, sidecars, {"pods": 1}) for worker in gang.workers for _ in range(worker.count)]


def total(gang: Gang, pool: str) -> dict[str, int]:
    needed = amounts.add(*pods(gang, pool))
    needed.pop("pods", None)
    return needed


def pack(shapes: Sequence[Amounts], nodes: Sequence[NodeState]) -> tuple[str, ...] | None:
    """Return a node for each shape, in the order of `shapes`, or None when they do not all fit together.

    The largest go first, each to the fullest node that still holds it, which leaves large holes for large pods.
    """
    free = {node.name: dict(node.free) for node in nodes}
    placed: dict[int, str] = {}
    for index in sorted(range(len(shapes)), key=lambda i: _size(shapes[i]), reverse=True):
        candidates = [name for name, room in free.items() if _fits_node(shapes[index], room)]
        if not candidates:
            return None
        best = min(candidates, key=lambda name: (_size(free[name]), name))
        free[best] = amounts.subtract(free[best], shapes[index])
        placed[index] = best
    return tuple(placed[index] for index in range(len(shapes)))


def _fits_node(shape: Amounts, room: Amounts) -> bool:
    """`pods` counts only on nodes that say how many they take."""
    return all(
        amount <= room.get(name, 0) for name, amount in shape.items() if amount > 0 and (name != "pods" or name in room)
    )


def _size(shape: Amounts) -> tuple[int, int, int]:
    gpus = sum(amount for name, amount in shape.items() if name.startswith("gpu/"))
    return gpus, shape.get("cpu", 0), shape.get("memory", 0)


def fits_empty(gang: Gang, pool: PoolState) -> bool:
    """Tell whether the gang would fit if nothing else were in the pool."""
    if pool.limit is not None:
        return amounts.fits(total(gang, pool.name), pool.limit)
    return pack(pods(gang, pool.name), [NodeState(n.name, n.total, n.total) for n in pool.nodes]) is not None


def fits_now(gang: Gang, pool: PoolState) -> tuple[str, ...] | None:
    """Return nodes for the gang's pods (empty names where the provider finds them), or None when it does not fit."""
    if pool.limit is not None:
        return () if amounts.fits(total(gang, pool.name), pool.limit_free) else None
    return pack(pods(gang, pool.name), pool.nodes)


def remaining_s(gang: Running, now_s: float) -> float:
    """Return how long a running gang is expected to go on.

    One that overran its estimate is expected to overrun by as much again, at least a minute: the longer it has been
    wrong, the less it is believed.
    """
    left = gang.started_s + gang.expected_duration_s - now_s
    return left if left > 0 else max(OVERDUE_MINIMUM_S, -left)


def earliest_start(
    gang: Gang, pool: PoolState, running: Iterable[Running], now_s: float
) -> tuple[float, tuple[str, ...]] | None:
    """Return `(seconds from now, keys of the gangs it waits for)` until the gang fits, or None when it never does."""
    if fits_now(gang, pool) is not None:
        return 0.0, ()
    state = pool
    waited_for: list[str] = []
    for holder in sorted((r for r in running if r.pool == pool.name), key=lambda r: remaining_s(r, now_s)):
        state = released(state, holder)
        waited_for.append(holder.key)
        if fits_now(gang, state) is not None:
            return remaining_s(holder, now_s), tuple(waited_for)
    return None


def released(pool: PoolState, holder: Running) -> PoolState:
    """Return the pool as it is once `holder` has ended."""
    return _changed(pool, holder.by_node, 1)


def taken(pool: PoolState, gang: Gang, nodes: Sequence[str]) -> PoolState:
    """Return the pool as it is once the gang has started on `nodes`."""
    return _changed(pool, by_node(gang, pool, nodes), -1)


def by_node(gang: Gang, pool: PoolState, nodes: Sequence[str]) -> dict[str, Amounts]:
    """Return what the gang takes of each node; under the empty name for pools without nodes of their own."""
    shapes = pods(gang, pool.name)
    names = nodes or [""] * len(shapes)
    used: dict[str, Amounts] = {}
    for name, shape in zip(names, shapes, strict=True):
        used[name] = amounts.add(used.get(name, {}), shape)
    return used


def _changed(pool: PoolState, used: Mapping[str, Amounts], sign: int) -> PoolState:
    nodes = tuple(
        NodeState(n.name, n.total, amounts.add(n.free, amounts.times(used[n.name], sign))) if n.name in used else n
        for n in pool.nodes
    )
    all_used = amounts.add(*used.values())
    limit_free = {name: amount + sign * all_used.get(name, 0) for name, amount in pool.limit_free.items()}
    return msgspec.structs.replace(pool, nodes=nodes, limit_free=limit_free)
