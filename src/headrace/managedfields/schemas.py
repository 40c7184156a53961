"""Types from the schemas of CustomResourceDefinitions, as a real API server makes them for apply.

Source: kube-openapi, package schemaconv; apiextensions-apiserver `buildOpenAPIModelsForApply`.
"""

from __future__ import annotations

from typing import Any

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
from headrace.spec.kind import Json

_KEEPS_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
_SCALARS = {"integer": NUMERIC, "number": NUMERIC, "boolean": BOOLEAN}

OBJECT_META = Type(
    map=MapType(
        {
            **dict.fromkeys(("name", "generateName", "namespace", "uid", "resourceVersion", "selfLink"), STRING),
            **dict.fromkeys(("generation", "deletionGracePeriodSeconds"), NUMERIC),
            **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), UNTYPED),
            "labels": Type(map=MapType({}, STRING)),
            "annotations": Type(map=MapType({}, STRING)),
            "finalizers": Type(list=ListType(STRING, is_atomic=False)),
            "ownerReferences": Type(
                list=ListType(
                    Type(
                        map=MapType(
                            {
                                **dict.fromkeys(("apiVersion", "kind", "name", "uid"), STRING),
                                **dict.fromkeys(("controller", "blockOwnerDeletion"), BOOLEAN),
                            },
                            None,
                            is_atomic=True,
                        )
                    ),
                    is_atomic=False,
                    keys=("uid",),
                )
            ),
            "managedFields": Type(list=ListType(ATOMIC, is_atomic=True)),
        },
        None,
    )
)
"""ObjectMeta, which every kind has and no definition's schema repeats."""


def custom_type(schema: Json | None) -> Type:
    """Return the type of whole objects of a kind from its structural schema; without one it is deduced."""
    if schema is None:
        return Type(map=MapType({"metadata": OBJECT_META}, DEDUCED))
    made = _type(schema, keeps_unknown=False)
    assert made.map is not None
    made.map.fields |= {"apiVersion": STRING, "kind": STRING, "metadata": OBJECT_META}
    return made


def _type(schema: Json, *, keeps_unknown: bool) -> Type:
    keeps_unknown = keeps_unknown or schema.get(_KEEPS_UNKNOWN) is True
    if schema.get("x-kubernetes-embedded-resource"):
        properties = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, **(schema.get("properties") or {})}
        schema = schema | {"properties": properties}
    match schema.get("type"):
        case "object":
            return Type(map=_map(schema, keeps_unknown=keeps_unknown))
        case "array":
            return Type(list=_list(schema, keeps_unknown=keeps_unknown))
        case "string":
            return UNTYPED if schema.get("format") not in {None, "", "byte"} else STRING
        case None | "":
            return Type(
                scalar="untyped",
                list=_list(schema, keeps_unknown=keeps_unknown),
                map=_map(schema, keeps_unknown=keeps_unknown),
            )
        case other:
            return _SCALARS.get(other, UNTYPED)


def _map(schema: Json, *, keeps_unknown: bool) -> MapType:
    properties: dict[str, Any] = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    rest: Type | None
    if isinstance(more, dict):
        rest = _type(more, keeps_unknown=keeps_unknown)
    elif more is None:
        rest = DEDUCED if keeps_unknown or not properties else None
    else:
        rest = DEDUCED if more else None
    fields = {name: _type(inner, keeps_unknown=keeps_unknown) for name, inner in properties.items()}
    return MapType(fields, rest, is_atomic=schema.get("x-kubernetes-map-type") == "atomic")


def _list(schema: Json, *, keeps_unknown: bool) -> ListType:
    items = schema.get("items")
    if not isinstance(items, dict):
        return ListType(ATOMIC, is_atomic=True)
    item = _type(items, keeps_unknown=keeps_unknown)
    sort = schema.get("x-kubernetes-list-type", "atomic")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ()) if sort == "map" else ()
    properties = items.get("properties") or {}
    defaults = {key: properties[key]["default"] for key in keys if "default" in properties.get(key, {})}
    return ListType(item, is_atomic=sort == "atomic", keys=keys, defaults=defaults)
