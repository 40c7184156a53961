"""Which fields a configuration names: what its applier wants to own.

Source: sigs.k8s.io/structured-merge-diff v6, `typed.ToFieldSet` and `fieldpath.EnsureNamedFieldsAreMembers`.
"""

from __future__ import annotations

from typing import Any

from headrace.managedfields.fieldset import SELF, FieldSet, is_member
from headrace.managedfields.types import DEDUCED, ListType, MapType, Type


def leaves(value: Any, type_: Type) -> FieldSet:
    """Return what a configuration names: its leaves, the items of its lists, and the entries of its maps."""
    return _named(value, type_) or {}


def _named(value: Any, type_: Type) -> FieldSet | None:
    """Return the node of a value; None where it names nothing itself."""
    form = type_.form(value)
    if form == "map":
        of = type_.map
        assert of is not None
        if of.is_atomic:
            return {}
        return _named_in_map(value, of) if isinstance(value, dict) else None
    if form == "list":
        listed = type_.list
        assert listed is not None
        if listed.is_atomic:
            return {}
        return _named_in_list(value, listed) if isinstance(value, list) else None
    return {}


def _named_in_map(value: dict[str, Any], of: MapType) -> FieldSet | None:
    result: FieldSet = {}
    for name, inner in value.items():
        type_ = of.fields.get(name)
        node = _named(inner, type_ or of.rest or DEDUCED)
        is_named = type_ is None or inner is None or inner == {}
        if node is not None and is_named and not is_member(node):
            node = {SELF: {}, **node}
        if node is not None or is_named:
            result[f"f:{name}"] = node or {}
    return result or None


def _named_in_list(value: list[Any], of: ListType) -> FieldSet | None:
    result: FieldSet = {}
    for item in value:
        at = of.element(item)
        if at in result:
            result[at] = {}
            continue
        node = _named(item, of.item) or {}
        result[at] = node if is_member(node) else {SELF: {}, **node}
    return result or None


def with_named_fields(fields: FieldSet, type_: Type | None) -> FieldSet:
    """Return the set with every field of an object in it that has members beneath it; entries of maps are left out."""
    result: FieldSet = {}
    for element, inner in fields.items():
        if element == SELF or not inner:
            result[element] = inner
            continue
        below, is_named = _step(element, type_)
        node = with_named_fields(inner, below)
        result[element] = node if not is_named or is_member(node) else {SELF: {}, **node}
    return result


def _step(element: str, type_: Type | None) -> tuple[Type | None, bool]:
    """Return the type behind an element, and whether it is a field that its object names."""
    if type_ is None:
        return None, False
    if element.startswith("f:") and type_.map is not None:
        name = element[2:]
        return type_.map.of(name), name in type_.map.fields
    if element.startswith("k:") and type_.list is not None:
        return type_.list.item, False
    return None, False
