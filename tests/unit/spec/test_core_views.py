"""Every field of our views of core kinds exists in Kubernetes under that very name, at that place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from msgspec import inspect as types

from headrace.engine.openapi.schemas import read_published
from headrace.spec.defaults.views import struct_type
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import CORE_KINDS

_SHARED = (".targetContainerName", ".conditions.observedGeneration")
"""Fields of views shared by several kinds, of which Kubernetes has some without them."""


@pytest.fixture(scope="module")
def published() -> Mapping[str, Json]:
    return read_published().schemas


def _root(published: Mapping[str, Json], kind: Kind[Any]) -> str:
    wanted = {"group": kind.group, "version": kind.version, "kind": kind.name}
    return next(
        name for name, schema in published.items() if wanted in schema.get("x-kubernetes-group-version-kind", ())
    )


def _reference(node: Any) -> str:
    """Return the schema a property refers to, directly, by its items or by its values."""
    if not isinstance(node, dict):
        return ""
    if "$ref" in node:
        return str(node["$ref"]).rpartition("/")[2]
    for key in ("allOf", "items", "additionalProperties"):
        inner = node.get(key)
        found = _reference(inner[0] if isinstance(inner, list) else inner)
        if found:
            return found
    return ""


def _inner_struct(wanted: types.Type) -> types.StructType | None:
    match wanted:
        case types.StructType():
            return wanted
        case types.UnionType():
            return next((s for choice in wanted.types if (s := _inner_struct(choice))), None)
        case types.VarTupleType():
            return _inner_struct(wanted.item_type)
        case types.DictType():
            return _inner_struct(wanted.value_type)
        case _:
            return None


def _strangers(published: Mapping[str, Json], struct: types.StructType, name: str, path: str) -> Iterator[str]:
    properties = published[name].get("properties", {})
    for field in struct.fields:
        where = f"{path}.{field.encode_name}"
        if field.encode_name not in properties:
            yield where
        elif inner := _inner_struct(field.type):
            reference = _reference(properties[field.encode_name])
            if not reference:
                yield f"{where} (no object there)"
            else:
                yield from _strangers(published, inner, reference, where)


@pytest.mark.parametrize("kind", CORE_KINDS, ids=str)
def test_fields_are_those_of_kubernetes(published: Mapping[str, Json], kind: Kind[Any]) -> None:
    strangers = _strangers(published, struct_type(kind.view), _root(published, kind), kind.name)
    assert [path for path in strangers if not path.endswith(_SHARED)] == []
