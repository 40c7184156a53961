"""Fields that do not exist and values of the wrong type, all of them, by path, from the typed views.

`msgspec.convert` stops at the first mistake and lets unknown fields pass; people want all mistakes, and the name they
meant. The walk is over `msgspec.inspect` types, so a new field of a view is checked without a line here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec import inspect as types

from headrace.spec.defaults.views import struct_type
from headrace.spec.kind import Json, Kind
from headrace.spec.validation.problem import Problem, member

_JSON_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}
_ROOT_FIELDS = frozenset({"apiVersion", "kind", "metadata"})


class Finding(NamedTuple):
    """A problem, and whether it is only a field nobody knows."""

    problem: Problem
    unknown: bool = False


def examine(kind: Kind[Any], raw: Json) -> Iterator[Finding]:
    """Compare an object with its kind's view; `apiVersion`, `kind` and `metadata` are left to others."""
    fields = [field for field in struct_type(kind.view).fields if field.encode_name not in _ROOT_FIELDS]
    body = {key: value for key, value in raw.items() if key not in _ROOT_FIELDS}
    yield from _object(body, fields, "")


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or nothing where no name is near."""
    folded = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def _object(value: Any, fields: Iterable[types.Field], path: str) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield Finding(Problem(path, _expected("an object", value)))
        return
    known = {field.encode_name: field for field in fields}
    for key, inner in value.items():
        where = member(path, str(key))
        if key not in known:
            hint = nearest(str(key), known) or f"; there are: {', '.join(sorted(known))}"
            yield Finding(Problem(where, f"is no field that exists here{hint}"), unknown=True)
        else:
            yield from _value(inner, known[key].type, where)
    for name, field in known.items():
        if field.required and name not in value:
            yield Finding(Problem(member(path, name), "is required"))


def _value(value: Any, wanted: types.Type, path: str) -> Iterator[Finding]:
    match wanted:
        case types.StructType():
            yield from _object(value, wanted.fields, path)
        case types.DictType():
            yield from _map(value, wanted, path)
        case types.VarTupleType() | types.ListType():
            yield from _list(value, wanted.item_type, path)
        case types.UnionType():
            yield from _union(value, wanted, path)
        case types.LiteralType():
            if value not in wanted.values:
                names = ", ".join(repr(v) if v == "" else str(v) for v in wanted.values)
                yield Finding(Problem(path, f"is {value!r}; it must be one of {names}{_near_value(value, wanted)}"))
        case _:
            if not _is_scalar(value, wanted):
                yield Finding(Problem(path, _expected(_scalar_name(wanted), value)))


def _map(value: Any, wanted: types.DictType, path: str) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield Finding(Problem(path, _expected("an object", value)))
        return
    for key, inner in value.items():
        yield from _value(inner, wanted.value_type, member(path, str(key)))


def _list(value: Any, item: types.Type, path: str) -> Iterator[Finding]:
    if not isinstance(value, list | tuple):
        example = f"; write it as [{value}]" if isinstance(value, str) and " " not in value else ""
        if isinstance(value, str) and " " in value:
            example = f"; write it as [{', '.join(value.split())}]"
        yield Finding(Problem(path, _expected("a list", value) + example))
        return
    for index, inner in enumerate(value):
        yield from _value(inner, item, f"{path}[{index}]")


def _union(value: Any, wanted: types.UnionType, path: str) -> Iterator[Finding]:
    choices = [choice for choice in wanted.types if not isinstance(choice, types.NoneType)]
    if value is None and len(choices) < len(wanted.types):
        return
    structured = [c for c in choices if isinstance(c, types.StructType | types.DictType | types.VarTupleType)]
    if len(choices) == 1:
        yield from _value(value, choices[0], path)
    elif isinstance(value, dict) and structured:
        yield from _value(value, structured[0], path)
    elif not any(_is_scalar(value, choice) for choice in choices):
        names = dict.fromkeys(_scalar_name(choice) for choice in choices)
        hint = "; put it in quotes" if isinstance(value, bool) else ""
        yield Finding(Problem(path, _expected(" or ".join(names), value) + hint))


def _is_scalar(value: Any, wanted: types.Type) -> bool:
    match wanted:
        case types.AnyType():
            return True
        case types.StrType():
            return isinstance(value, str)
        case types.BoolType():
            return isinstance(value, bool)
        case types.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case types.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return False


def _scalar_name(wanted: types.Type) -> str:
    match wanted:
        case types.StrType():
            return "a text"
        case types.BoolType():
            return "true or false"
        case types.IntType() | types.FloatType():
            return "a number"
        case types.StructType():
            return "{" + ", ".join(field.encode_name for field in wanted.fields) + "}"
        case _:
            return "an object"


def _near_value(value: Any, wanted: types.LiteralType) -> str:
    return nearest(value, [str(v) for v in wanted.values]) if isinstance(value, str) else ""


def _expected(what: str, value: Any) -> str:
    shown = f"{value!r}" if isinstance(value, str | int | float | bool) else _JSON_NAMES.get(type(value), "nothing")
    return f"must be {what}, not {shown}"
