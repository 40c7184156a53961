"""Sets of fields that were written before a part of their kind became atomic.

Source: sigs.k8s.io/structured-merge-diff v6, `typed.ReconcileFieldSetWithSchema`.
"""

from __future__ import annotations

from headrace.managedfields.fieldset import LEAF, SELF, FieldSet
from headrace.managedfields.types import Type, is_deduced


def fitted(fields: FieldSet, type_: Type) -> FieldSet:
    """Return the set with whole parts where it has fields of parts that are owned as a whole; itself if it has none."""
    result = fields
    for element, inner in fields.items():
        below = _behind(element, type_)
        if element == SELF or not inner or below is None:
            continue
        if _is_whole(below):
            fit = LEAF
        else:
            fit = fitted(inner, below)
            if fit is inner:
                continue
        if result is fields:
            result = dict(fields)
        result[element] = fit
    return result


def _behind(element: str, type_: Type) -> Type | None:
    if element.startswith("f:") and type_.map is not None:
        return None if is_deduced(type_.map) else type_.map.of(element[2:])
    if element.startswith(("k:", "v:")) and type_.list is not None:
        return type_.list.item
    return None


def _is_whole(type_: Type) -> bool:
    if type_.map is not None:
        return type_.map.is_atomic and not is_deduced(type_.map)
    return type_.list is not None and not type_.scalar and type_.list.is_atomic
