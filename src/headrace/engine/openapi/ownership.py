"""How the core kinds' fields are owned in server-side apply, from the published OpenAPI.

Source: kube-openapi, package schemaconv. Fields that hold one of Go's structs, or a list that is required, are there in
every object of a real API server even when nobody has written them; a `default` of `{}` gives the structs away.
"""

from __future__ import annotations

from typing import Any

from headrace.engine.openapi.schemas import FieldType, root_type, structure
from headrace.managedfields.types import (
    ATOMIC,
    BOOLEAN,
    DEDUCED,
    NUMERIC,
    STRING,
    UNTYPED,
    ListType,
    MapType,
    Type,
)
from headrace.spec.kind import Kind

_SCALARS = {
    "string": STRING,
    "integer": NUMERIC,
    "number": NUMERIC,
    "boolean": BOOLEAN,
    "quantity": UNTYPED,
    "int-or-string": UNTYPED,
}


def owned_type(kind: Kind[Any]) -> Type | None:
    """Return the type of whole objects of `kind`; None for kinds that Kubernetes does not publish."""
    root = root_type(kind)
    return _object(root.schema, is_atomic=False) if root is not None else None


def _type(field: FieldType) -> Type:
    match field.type:
        case "object":
            is_atomic = field.schema in structure().atomic if not field.owned else field.owned == "atomic"
            return _object(field.schema, is_atomic=is_atomic)
        case "map":
            assert field.item is not None
            return Type(map=MapType({}, _type(field.item), is_atomic=field.owned == "atomic"))
        case "list":
            return Type(list=_list(field))
        case "any":
            return Type(
                scalar="untyped", list=ListType(ATOMIC, is_atomic=True), map=MapType({}, DEDUCED, is_atomic=False)
            )
    return _SCALARS[field.type]


def _list(field: FieldType) -> ListType:
    assert field.item is not None
    sort, keys = field.owned, field.keys
    if not sort and "merge" in field.strategy:  # older than list types, and as good
        sort, keys = ("map", (field.merge_key,)) if field.merge_key else ("set", ())
    defaults = {}
    if sort == "map":
        fields = structure().fields[field.item.schema]
        defaults = {key: fields[key].default for key in keys if fields[key].default is not None}
    return ListType(_type(field.item), is_atomic=sort not in {"set", "map"}, keys=keys, defaults=defaults)


def _object(schema: str, *, is_atomic: bool) -> Type:
    """Return the type of a published schema; one that holds itself is found while its fields are filled in."""
    known = _KNOWN.get((schema, is_atomic))
    if known is not None:
        return known
    fields = structure().fields[schema]
    structs = {name for name, field in fields.items() if field.default == {}}
    lists = {name for name in structure().required.get(schema, ()) if fields[name].type in {"list", "map"}}
    of = MapType({}, None, is_atomic=is_atomic, always=frozenset(structs | lists), nullable=frozenset(lists))
    made = _KNOWN[schema, is_atomic] = Type(map=of)
    of.fields.update((name, _type(field)) for name, field in fields.items())
    return made


_KNOWN: dict[tuple[str, bool], Type] = {}
"""Types by schema and atomicity; made once a process."""
