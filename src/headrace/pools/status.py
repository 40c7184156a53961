"""What a Pool says of itself: how many ready nodes, what they hold, whether it can take pods. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from headrace.pools.capacity import is_member, is_ready, measure
from headrace.spec import amounts
from headrace.spec.amounts import Amounts
from headrace.spec.conditions import set_condition, without_condition
from headrace.spec.kind import Doc, Json
from headrace.spec.validation import unsupported

UNSUPPORTED = "Unsupported"


def pool_status(pool: Doc[Any], nodes: Sequence[Doc[Any]], now: dt.datetime) -> Json:
    """Return the next status. It changes with nodes, not with pods: what is free is computed on read."""
    members = [node for node in nodes if is_member(pool, node)]
    ready = [node for node in members if is_ready(node)]
    room = measure(pool, members, ())
    if ready:
        verdict = ("True", "NodesReady", f"{len(ready)} of {len(members)} nodes are ready.")
    elif members:
        verdict = ("False", "NoReadyNode", f"None of its {len(members)} nodes is ready; see: kubectl get nodes")
    else:
        verdict = ("False", "NoNode", "No node has its labels; start one, or mend spec.nodes.selector.")
    conditions = set_condition(pool.status.get("conditions"), "Ready", *verdict, now=now, generation=pool.generation)  # type: ignore[arg-type]
    return {
        "capacity": _texts(room.total),
        "allocatable": _texts(room.total),
        "nodes": len(ready),
        "conditions": declare_unsupported(pool, conditions, now),
        "observedGeneration": pool.generation,
    }


def declare_unsupported(doc: Doc[Any], conditions: Sequence[Json], now: dt.datetime) -> list[Json]:
    """Return `conditions` with one that lists, by path, the fields of `doc` that are accepted and not carried out."""
    problems = unsupported(doc.kind, doc.raw)
    if not problems:
        return without_condition(conditions, UNSUPPORTED)
    message = "; ".join(f"{problem.path} {problem.message}" for problem in problems)
    return set_condition(conditions, UNSUPPORTED, "True", "FieldsNotCarriedOut", message, now, doc.generation)


def _texts(total: Amounts) -> dict[str, str]:
    return {name: amounts.text(name, amount) for name, amount in sorted(total.items()) if amount}
