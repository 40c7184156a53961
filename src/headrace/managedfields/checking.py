"""Whether a configuration fits its type, said in the words of a real API server.

Source: sigs.k8s.io/structured-merge-diff v6, `typed.Validate`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from headrace.managedfields.elements import Malformed, shown
from headrace.managedfields.types import ListType, MapType, Type

_GO_TYPES: dict[type, str] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}


def findings(value: Any, type_: Type) -> str:
    """Return what is wrong with a value, a line each; empty when it fits its type."""
    found = list(_check(value, type_, ""))
    if len(found) < 2:
        return "".join(found)
    return "\n".join(["errors:", *(f"  {line}" for line in found)])


def _check(value: Any, type_: Type, path: str) -> Iterator[str]:
    match type_.form(value):
        case "map":
            assert type_.map is not None
            yield from _check_map(value, type_.map, path)
        case "list":
            assert type_.list is not None
            yield from _check_list(value, type_.list, path)
        case _:
            sentence = _wrong_scalar(value, type_)
            if sentence:
                yield _at(path, sentence)


def _check_map(value: Any, of: MapType, path: str) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield _at(path, f"expected map, got &{{{_go(value)}}}")
        return
    for name, inner in value.items():
        type_ = of.of(name)
        if type_ is None:
            yield f"{path}.{name}: field not declared in schema"
            return
        yield from _check(inner, type_, f"{path}.{name}")


def _check_list(value: Any, of: ListType, path: str) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, list):
        yield _at(path, f"expected list, got &{{{_go(value)}}}")
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        at = f"i:{index}"
        if not of.is_atomic:
            try:
                at = of.element(item)
            except Malformed as error:
                yield _at(path, f"element {index}: {error}")
                return
            if at in seen:
                yield _at(path, f"duplicate entries for key {shown(at)}")
            seen.add(at)
        yield from _check(item, of.item, path + shown(at))


def _wrong_scalar(value: Any, type_: Type) -> str:
    if value is None:
        return ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match type_.scalar:
        case "numeric" if not is_number:
            return f"expected numeric (int or float), got {_GO_TYPES[type(value)]}"
        case "string" if not isinstance(value, str):
            return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
        case "boolean" if not isinstance(value, bool):
            return f"expected boolean, got &{{{_go(value)}}}"
        case "untyped" if isinstance(value, dict | list):
            return f"expected any scalar, got &{{{_go(value)}}}"
    return ""


def _at(path: str, sentence: str) -> str:
    return f"{path}: {sentence}" if path else sentence


def _go(value: Any) -> str:
    """Return a value as Go prints it with `%v`."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return str(value).lower()
        case dict():
            return "map[" + " ".join(f"{key}:{_go(inner)}" for key, inner in sorted(value.items())) + "]"
        case list():
            return "[" + " ".join(map(_go, value)) + "]"
    return str(value)


def _go_syntax(value: Any) -> str:
    """Return a value as Go prints it with `%#v`."""
    match value:
        case None:
            return "interface {}(nil)"
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False)
        case dict():
            inner = ", ".join(f"{json.dumps(key)}:{_go_syntax(item)}" for key, item in sorted(value.items()))
            return f"map[string]interface {{}}{{{inner}}}"
        case list():
            return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
    return str(value)
