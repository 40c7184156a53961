"""Defaults that stand in typed views: which of them are written into objects, and the writing.

Written are texts, numbers, true and lists that are not empty. Empty ones say the same as absence and would only make
objects longer. Views of core kinds are left out: inside our kinds, as inside Fluid's, they stay as the user wrote them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

from msgspec import NODEFAULT
from msgspec import inspect as types

from headrace.spec.kind import Json

_CORE_MODULE = "headrace.spec.core."
_UNDEFAULTED_FIELDS = frozenset({"metadata", "status"})


def fill(view: Any, raw: Json) -> Json:
    """Return an object of kind `view` with its defaults; `metadata` and `status` are left alone."""
    fields = [field for field in struct_type(view).fields if field.encode_name not in _UNDEFAULTED_FIELDS]
    return _fill(raw, fields)


def written_default(field: types.Field) -> Any:
    """Return what is written where `field` is absent, as JSON; NODEFAULT where nothing is.

    A struct that has such defaults inside counts as `{}`.
    """
    if isinstance(field.type, types.StructType):
        if field.required or not _fill({}, _own_fields(field.type)):
            return NODEFAULT
        return {}
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    if default is NODEFAULT or not default:
        return NODEFAULT
    return list(default) if isinstance(default, tuple) else default


def struct_type(view: Any) -> types.StructType:
    """Return the inspected type of a view."""
    return _inspected(view)


@cache
def _inspected(view: Hashable) -> types.StructType:
    info = types.type_info(view)
    assert isinstance(info, types.StructType)
    return info


def is_core(struct: types.StructType) -> bool:
    """Tell whether a struct is a view of one of Kubernetes' own types."""
    return struct.cls.__module__.startswith(_CORE_MODULE)


def _own_fields(struct: types.StructType) -> Sequence[types.Field]:
    return () if is_core(struct) else struct.fields


def _fill(value: Json, fields: Sequence[types.Field]) -> Json:
    result = dict(value)
    for field in fields:
        name = field.encode_name
        if name not in result:
            default = written_default(field)
            if default is NODEFAULT:
                continue
            result[name] = default
        result[name] = _value(result[name], field.type)
    return result


def _value(value: Any, wanted: types.Type) -> Any:
    match wanted:
        case types.StructType() if isinstance(value, dict):
            return _fill(value, _own_fields(wanted))
        case types.DictType() if isinstance(value, dict):
            return {key: _value(inner, wanted.value_type) for key, inner in value.items()}
        case types.VarTupleType() if isinstance(value, list):
            return [_value(inner, wanted.item_type) for inner in value]
        case types.UnionType() if isinstance(value, dict):
            struct = next((choice for choice in wanted.types if isinstance(choice, types.StructType)), None)
            return value if struct is None else _value(value, struct)
        case _:
            return value
