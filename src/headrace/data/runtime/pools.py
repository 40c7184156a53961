"""Where a Dataset may go: what its owner says, and which pools can take a pod at all."""

from __future__ import annotations

from typing import Any

from headrace.spec.conditions import is_true
from headrace.spec.kind import Doc
from headrace.spec.names import POOLS_ANNOTATION


def allowed_pools(*docs: Doc[Any] | None) -> frozenset[str] | None:
    """Return the pools that annotations `headrace.io/pools` of these objects leave; None when none says anything."""
    left: frozenset[str] | None = None
    for doc in docs:
        text = doc.annotations.get(POOLS_ANNOTATION) if doc is not None else None
        if text is not None:
            named = frozenset(name.strip() for name in text.split(",") if name.strip())
            left = named if left is None else left & named
    return left


def is_ready(pool: Doc[Any]) -> bool:
    """Tell whether probes may be sent to a pool."""
    return not pool.is_deleting and is_true(pool, "Ready")
