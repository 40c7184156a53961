"""The table of kinds is consistent, and its printed columns show fields that exist."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from msgspec import inspect as types

from headrace.spec.defaults.views import struct_type
from headrace.spec.kind import Column, Kind
from headrace.spec.kinds import ALL_KINDS, CORE_KINDS, FLUID_KINDS, HEADRACE_KINDS

_SEGMENT = re.compile(r"\.([A-Za-z]+)|\[[^]]*\]")


def _reaches(wanted: types.Type, segments: list[str]) -> bool:
    match wanted:
        case types.UnionType():
            return any(_reaches(choice, segments) for choice in wanted.types)
        case types.VarTupleType():
            return _reaches(wanted.item_type, segments)
        case types.DictType():
            return _reaches(wanted.value_type, segments[1:]) if segments else True
        case types.StructType() if segments:
            fields = {field.encode_name: field.type for field in wanted.fields}
            return segments[0] in fields and _reaches(fields[segments[0]], segments[1:])
        case _:
            return not segments


@pytest.mark.parametrize(
    ("kind", "column"),
    [(kind, column) for kind in ALL_KINDS for column in kind.columns],
    ids=lambda value: str(value)[:40],
)
def test_columns_show_fields_that_exist(kind: Kind[Any], column: Column) -> None:
    labels = re.sub(r"\.labels\['[^']*'\]", ".labels.any", column.json_path)
    segments = [match[1] for match in _SEGMENT.finditer(re.sub(r"\[\?\([^)]*\)\]", "[*]", labels)) if match[1]]
    assert _reaches(struct_type(kind.view), segments)


def test_no_name_is_used_twice() -> None:
    words = Counter(word for kind in ALL_KINDS for word in {kind.plural, kind.singular, *kind.short_names})
    assert {word for word, count in words.items() if count > 1} == set()


def test_groups() -> None:
    assert {kind.group for kind in FLUID_KINDS} == {"data.fluid.io"}
    assert {kind.group for kind in HEADRACE_KINDS} == {"headrace.io"}
    assert (*CORE_KINDS, *FLUID_KINDS, *HEADRACE_KINDS) == ALL_KINDS


def test_cluster_scoped_kinds() -> None:
    assert {kind.name for kind in ALL_KINDS if not kind.namespaced} == {
        "Namespace",
        "Node",
        "PersistentVolume",
        "StorageClass",
        "CSIDriver",
        "CSINode",
        "PriorityClass",
        "CustomResourceDefinition",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "ThinRuntimeProfile",
        "Pool",
        "Queue",
    }


@pytest.mark.parametrize("kind", ALL_KINDS, ids=str)
def test_every_kind_has_metadata_and_an_age(kind: Kind[Any]) -> None:
    assert "metadata" in {field.encode_name for field in struct_type(kind.view).fields}
    assert any(column.type == "date" for column in kind.columns)
