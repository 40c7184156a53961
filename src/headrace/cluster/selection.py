"""Which objects a scope means, decided on this side: for writes a cache assumes, and for the fake."""

from __future__ import annotations

from collections.abc import Callable

from headrace.cluster.protocol import Scope
from headrace.spec.kind import Json
from headrace.spec.selectors import parse_fields, parse_selector, selects, selects_fields


def selector(where: Scope) -> Callable[[Json], bool]:
    """Return the predicate that tells whether a raw object is in `where`; raises InvalidSpec for a bad selector."""
    labels = parse_selector(where.labels)
    fields = parse_fields(where.fields)

    def is_in(raw: Json) -> bool:
        meta = raw.get("metadata") or {}
        if where.namespace and meta.get("namespace", "") != where.namespace:
            return False
        return selects(labels, meta.get("labels") or {}) and selects_fields(fields, raw)

    return is_in
