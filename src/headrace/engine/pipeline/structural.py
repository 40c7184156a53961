"""Structural schemas of CustomResourceDefinitions: pruning, defaulting and validation of custom objects.

Covers what `apiextensions.k8s.io/v1` calls structural, without `x-kubernetes-validations` (CEL) and without
`allOf`/`anyOf`/`oneOf`/`not`. Pure; nothing given is changed. Source: Kubernetes "Extend the Kubernetes API with
CustomResourceDefinitions", pruning and defaulting; apiextensions-apiserver `pkg/apiserver/schema`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from headrace.spec.kind import Json

_ROOT = frozenset({"apiVersion", "kind", "metadata"})
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_JSON_NAMES: dict[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}
Finding = tuple[str, str]


def prune(raw: Json, schema: Json) -> tuple[Json, list[str]]:
    """Return the object without fields that its schema does not name, and their paths."""
    unknown: list[str] = []
    root = {key: value for key, value in raw.items() if key in _ROOT}
    rest = {key: value for key, value in raw.items() if key not in _ROOT}
    return root | _pruned(rest, schema, "", unknown), unknown


def _pruned(value: Any, schema: Json, path: str, unknown: list[str]) -> Any:
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [_pruned(item, schema["items"], f"{path}[{i}]", unknown) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    embedded = _ROOT if schema.get("x-kubernetes-embedded-resource") else frozenset[str]()
    kept = {}
    for key, inner in value.items():
        where = f"{path}.{key}" if path else key
        below = _below(schema, key)
        if below is not None:
            kept[key] = _pruned(inner, below, where, unknown)
        elif schema.get("x-kubernetes-preserve-unknown-fields") or key in embedded:
            kept[key] = inner
        else:
            unknown.append(where)
    return kept


def _below(schema: Json, key: str) -> Json | None:
    """The schema of an object's field or a map's entry; None where there is none."""
    properties = schema.get("properties") or {}
    if key in properties:
        found: Json = properties[key]
        return found
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        return more
    return {"x-kubernetes-preserve-unknown-fields": True} if more is True else None


def fill(raw: Json, schema: Json) -> Json:
    """Return the object with the schema's defaults, and without nulls that a default or the schema does not allow."""
    filled: Json = _filled(raw, schema)
    return filled


def _filled(value: Any, schema: Json) -> Any:
    if isinstance(value, list):
        items = schema.get("items")
        return [_filled(item, items) for item in value] if isinstance(items, dict) else value
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for key, below in (schema.get("properties") or {}).items():
        if result.get(key) is None and key in result and not below.get("nullable"):
            del result[key]
        if key not in result and "default" in below:
            result[key] = below["default"]
    for key in result:
        below = _below(schema, key)
        if below is not None:
            result[key] = _filled(result[key], below)
    return result


def nulls(value: Any, schema: Json, path: str = "") -> Iterator[Finding]:
    """Yield `(path, sentence)` for each null that the schema does not allow; metadata is left to others."""
    if isinstance(value, list):
        items = schema.get("items")
        for index, item in enumerate(value if isinstance(items, dict) else ()):
            yield from nulls(item, items or {}, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        where = f"{path}.{key}" if path else key
        below = _below(schema, key)
        if below is None or (not path and key in _ROOT):
            continue
        if inner is None and below.get("type") and not below.get("nullable"):
            yield where, f'Invalid value: "null": {where} in body must be of type {below["type"]}: "null"'
        yield from nulls(inner, below, where)


def findings(raw: Json, schema: Json) -> Iterator[Finding]:
    """Yield `(path, sentence)` for each value the schema does not allow; metadata is left to others."""
    rest = {key: value for key, value in raw.items() if key not in _ROOT}
    properties = {key: below for key, below in (schema.get("properties") or {}).items() if key not in _ROOT}
    required = [key for key in schema.get("required") or () if key not in _ROOT]
    yield from _check(rest, {**schema, "properties": properties, "required": required}, "")


def _check(value: Any, schema: Json, path: str) -> Iterator[Finding]:
    if value is None:
        if not schema.get("nullable") and schema.get("type"):
            yield path, f"must be of type {schema['type']}: null"
        return
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield path, "must be an integer or a string"
        return
    wanted = schema.get("type")
    if wanted in _TYPES and not _fits(value, wanted):
        yield path, f"must be of type {wanted}, not {_JSON_NAMES.get(type(value), 'number')}: {value!r}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"is {value!r}; supported values: {', '.join(map(repr, schema['enum']))}"
    if isinstance(value, dict):
        yield from _check_object(value, schema, path)
    elif isinstance(value, list):
        yield from _check_list(value, schema, path)
    elif isinstance(value, str):
        yield from _check_text(value, schema, path)
    elif isinstance(value, int | float):
        yield from _check_number(value, schema, path)


def _fits(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def _check_object(value: Json, schema: Json, path: str) -> Iterator[Finding]:
    for key in schema.get("required") or ():
        if key not in value:
            yield f"{path}.{key}" if path else key, "is required"
    yield from _check_size(len(value), schema, path, "Properties", "entries")
    for key, inner in value.items():
        below = _below(schema, key)
        if below is not None:
            yield from _check(inner, below, f"{path}.{key}" if path else key)


def _check_list(value: list[Any], schema: Json, path: str) -> Iterator[Finding]:
    yield from _check_size(len(value), schema, path, "Items", "items")
    items = schema.get("items")
    if isinstance(items, dict):
        for index, item in enumerate(value):
            yield from _check(item, items, f"{path}[{index}]")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    list_type = schema.get("x-kubernetes-list-type")
    seen: list[Any] = []
    for index, item in enumerate(value):
        identity = [item.get(key) for key in keys] if list_type == "map" and isinstance(item, dict) else item
        if list_type in {"map", "set"} and identity in seen:
            yield f"{path}[{index}]", f"is a duplicate: {identity!r}"
        seen.append(identity)


def _check_text(value: str, schema: Json, path: str) -> Iterator[Finding]:
    yield from _check_size(len(value), schema, path, "Length", "characters")
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, value):
        yield path, f"is {value!r}; it must match {pattern}"


def _check_number(value: float, schema: Json, path: str) -> Iterator[Finding]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and (value < least or (value == least and schema.get("exclusiveMinimum") is True)):
        yield path, f"is {value}; it must be {least} or more"
    if most is not None and (value > most or (value == most and schema.get("exclusiveMaximum") is True)):
        yield path, f"is {value}; it must be {most} or less"
    step = schema.get("multipleOf")
    if step and value % step:
        yield path, f"is {value}; it must be a multiple of {step}"


def _check_size(size: int, schema: Json, path: str, word: str, what: str) -> Iterator[Finding]:
    least, most = schema.get(f"min{word}"), schema.get(f"max{word}")
    if least is not None and size < least:
        yield path, f"has {size} {what}; {least} is the least"
    if most is not None and size > most:
        yield path, f"has {size} {what}; {most} is the most"
