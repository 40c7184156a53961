"""Every field of our views of core kinds exists in Kubernetes under that very name, at that place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect as types

from headrace.spec.defaults.views import struct_type
from headrace.spec.kind import Kind
from headrace.spec.kinds import CORE_KINDS

_SHARED = (".targetContainerName", ".conditions.observedGeneration")
"""Fields of views shared by several kinds, of which Kubernetes has some without them."""


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


def _strangers(published: Any, struct: types.StructType, name: str, path: str) -> Iterator[str]:
    for field in struct.fields:
        where = f"{path}.{field.encode_name}"
        if not published.has(name, field.encode_name):
            yield where
        elif inner := _inner_struct(field.type):
            reference = published.inner(name, field.encode_name)
            if not reference:
                yield f"{where} (no object there)"
            else:
                yield from _strangers(published, inner, reference, where)


@pytest.mark.parametrize("kind", CORE_KINDS, ids=str)
def test_fields_are_those_of_kubernetes(published: Any, kind: Kind[Any]) -> None:
    strangers = _strangers(published, struct_type(kind.view), published.of(kind), kind.name)
    assert [path for path in strangers if not path.endswith(_SHARED)] == []
