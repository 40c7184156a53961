"""One step of a path into an object, as FieldsV1 writes it: `f:name`, `k:{"name":"x"}`, `v:"x"`, `i:3`.

Elements are texts in one canonical form, so that equal steps are equal texts: names of keys sorted, no blanks, whole
numbers without a point, and `<`, `>` and `&` escaped as Go's encoder does. Source: Kubernetes API reference, FieldsV1;
sigs.k8s.io/structured-merge-diff v6, package fieldpath.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_ESCAPED = (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))
_RANKS = {"f": 0, "k": 1, "v": 2, "i": 3}


class Malformed(ValueError):
    """Something that a client wrote is no path element, no set of fields, or no list of managers."""


def keyed(item: Any, keys: Sequence[str], defaults: Mapping[str, Any]) -> str:
    """Return the element of an item of a list that is a map; raises Malformed for an item without its keys.

    Args:
        keys: the list's `x-kubernetes-list-map-keys`, sorted.
        defaults: values of keys that an item may leave out.
    """
    if not isinstance(item, dict):
        what = "a null element" if item is None else "non-map elements"
        raise Malformed(f"associative list with keys may not have {what}")
    found: list[Any] = []
    for key in keys:
        if key in item:
            found += (key, item[key])
        elif key in defaults:
            found += (key, defaults[key])
    if not found:
        names = " ".join(f'"{key}"' for key in keys)
        raise Malformed(
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
    try:
        return _key(*found)
    except TypeError:  # a key that is no plain value, which validation refuses
        return _key.__wrapped__(*found)


@lru_cache(maxsize=4096, typed=True)
def _key(*found: Any) -> str:
    return "k:" + _text(dict(zip(found[::2], found[1::2], strict=True)))


def valued(item: Any) -> str:
    """Return the element of an item of a list that is a set; raises Malformed for what is no plain value."""
    match item:
        case dict():
            raise Malformed("associative list without keys has an element that's a map type")
        case list():
            raise Malformed("not supported: associative list with lists as elements")
        case None:
            raise Malformed("associative list without keys has an element that's an explicit null")
    return "v:" + _text(item)


def normalised(element: str) -> str | None:
    """Return the canonical form of an element somebody wrote, None for a sort that is not known here (yet).

    Raises Malformed for what is no element.
    """
    sort, colon, rest = element[:1], element[1:2], element[2:]
    if colon != ":":
        raise Malformed(f"{element!r} is no path element")
    try:
        match sort:
            case "f":
                return element
            case "i":
                return f"i:{int(rest)}"
            case "v":
                return "v:" + _text(json.loads(rest))
            case "k":
                return "k:" + _text(dict(sorted(json.loads(rest).items())))
    except (ValueError, AttributeError) as error:
        raise Malformed(f"{element!r} is no path element") from error
    return None


def shown(element: str) -> str:
    """Return an element as people read it in a conflict: `.name`, `[name="x"]`, `[="x"]`, `[3]`."""
    sort, rest = element[0], element[2:]
    match sort:
        case "f":
            return f".{rest}"
        case "k":
            return "[" + ",".join(f"{key}={_plain(value)}" for key, value in json.loads(rest).items()) + "]"
        case "v":
            return f"[={_plain(json.loads(rest))}]"
    return f"[{rest}]"


@lru_cache(maxsize=4096)
def order(element: str) -> tuple[Any, ...]:
    """Return a key that sorts elements as a real API server lists them: fields, keys, values, positions."""
    sort, rest = element[0], element[2:]
    rank = _RANKS[sort]
    match sort:
        case "f":
            return (rank, rest)
        case "k":
            return (rank, [(key, _value_order(value)) for key, value in json.loads(rest).items()])
        case "v":
            return (rank, _value_order(json.loads(rest)))
    return (rank, int(rest))


def _value_order(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, int | float):
        return (0, value)
    return (1, value) if isinstance(value, str) else (3, json.dumps(value, sort_keys=True))


def _text(value: Any) -> str:
    text = _encode(_whole(value)).decode()
    for plain, escaped in _ESCAPED:
        if plain in text:
            text = text.replace(plain, escaped)
    return text


def _whole(value: Any) -> Any:
    """Return JSON with whole numbers as integers: `80.0` and `80` are one value."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
