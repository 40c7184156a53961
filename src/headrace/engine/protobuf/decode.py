"""Protobuf of the core kinds to the JSON that the same Go object would have been.

Source: apimachinery `pkg/runtime/serializer/protobuf` (the envelope), `pkg/runtime/generated.proto` (Unknown), and the
protobuf wire format. What JSON leaves out is left out here: empty values of fields that are no pointers.
"""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import struct
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from headrace.clock import format_micro_time, format_time
from headrace.spec.kind import Json

MAGIC = b"k8s\x00"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 64


class Undecodable(ValueError):
    """The bytes are no protobuf of a kind that is known here."""


class Field(NamedTuple):
    """One field of a message: its JSON name (empty where JSON has it inlined), type, and whether a zero is kept."""

    name: str
    type: str
    keeps_zero: bool


class Tables(NamedTuple):
    """Messages by name, and the names of kinds' messages by `apiVersion/kind`."""

    messages: dict[str, dict[int, Field]]
    kinds: dict[str, str]


@cache
def tables() -> Tables:
    """Return the vendored tables; read once a process."""
    packed = resources.files(__package__).joinpath("messages.json.gz").read_bytes()
    read = msgspec.json.decode(gzip.decompress(packed))
    messages = {
        name: {number: Field(json_name, type_name, keeps) for number, json_name, type_name, keeps in fields}
        for name, fields in read["messages"].items()
    }
    return Tables(messages, read["kinds"])


def decode(body: bytes) -> Json:
    """Return the object in an envelope; raises Undecodable."""
    if not body.startswith(MAGIC):
        raise Undecodable("it does not begin as Kubernetes' protobuf does")
    try:
        return _object(body[len(MAGIC) :])
    except Undecodable:
        raise
    except (IndexError, ValueError, TypeError, AttributeError, OverflowError, OSError, struct.error) as error:
        # A value of another wire type than its field's, a moment out of range, text that is no text.
        raise Undecodable("it is cut off or damaged") from error


def _object(envelope: bytes) -> Json:
    unknown = {number: value for number, _, value in _fields(envelope)}
    type_meta = {number: value.decode() for number, _, value in _fields(unknown.get(1, b""))}
    api_version, kind = type_meta.get(1, ""), type_meta.get(2, "")
    # Options are shared by all groups; clients name the group of what is deleted.
    message = tables().kinds.get(f"{api_version}/{kind}") or tables().kinds.get(f"/{kind}")
    if message is None:
        raise Undecodable(f"{kind or 'nothing'} of {api_version or 'no version'} is read as JSON only")
    return {"apiVersion": api_version, "kind": kind} | _message(unknown.get(2, b""), message, 0)


def _message(data: bytes, name: str, depth: int) -> Json:
    """Return a message as a JSON object; unknown field numbers are skipped, as protobuf demands."""
    if depth > _DEEPEST:
        raise Undecodable("it is nested too deeply")
    fields = tables().messages[name]
    result: Json = {}
    for number, wire, value in _fields(data):
        field = fields.get(number)
        if field is None:
            continue
        if field.type.startswith("[]"):
            items = result.setdefault(field.name, [])
            items += _items(value, wire, field.type[2:], depth)
        elif field.type.startswith("{}"):
            pair = {n: v for n, _, v in _fields(value)}
            entry = _value(pair.get(2, b""), field.type[2:], depth)
            result.setdefault(field.name, {})[pair.get(1, b"").decode()] = entry
        elif not field.name:
            result |= _message(value, field.type, depth + 1)
        else:
            decoded = _value(value, field.type, depth)
            if decoded is not None and (field.keeps_zero or decoded not in ("", 0, False)):
                result[field.name] = decoded
    return result


def _items(value: Any, wire: int, type_name: str, depth: int) -> Iterator[Any]:
    if type_name in {"int", "bool"} and wire == _BYTES:  # packed
        position = 0
        while position < len(value):
            number, position = _varint(value, position)
            yield _value(number, type_name, depth)
    else:
        yield _value(value, type_name, depth)


def _value(value: Any, type_name: str, depth: int) -> Any:
    match type_name:
        case "string":
            return value.decode()
        case "bytes":
            return base64.b64encode(value).decode()
        case "bool":
            return bool(value)
        case "int":
            return value - (1 << 64) if value >> 63 else value
        case "double":
            return struct.unpack("<d", value)[0]
        case "time" | "microtime":
            return _moment(value, type_name)
        case "quantity":
            return dict(_numbered(value)).get(1, b"").decode()
        case "int-or-string":
            parts = dict(_numbered(value))
            return parts.get(3, b"").decode() if parts.get(1) else _value(parts.get(2, 0), "int", depth)
        case "json":
            raw = dict(_numbered(value)).get(1, b"")
            return msgspec.json.decode(raw) if raw else None
        case "wrapped []string":
            return [item.decode() for _, item in _numbered(value)]
    if type_name.endswith(("OrBool", "OrArray", "OrStringArray")):
        return _either(value, type_name, depth)
    return _message(value, type_name, depth + 1)


def _either(value: bytes, type_name: str, depth: int) -> Any:
    """Return what a union of a CRD's schema holds: a schema if there is one, else the other thing."""
    fields = tables().messages[type_name]
    other: Any = False if type_name.endswith("OrBool") else []
    for number, part in _numbered(value):
        field = fields[number]
        if field.type.startswith("[]"):
            other.append(_value(part, field.type[2:], depth))
        elif field.type == "bool":
            other = bool(part)
        else:
            return _message(part, field.type, depth + 1)
    return other


def _moment(value: bytes, type_name: str) -> str | None:
    parts = dict(_numbered(value))
    if not parts:
        return None
    moment = dt.datetime.fromtimestamp(_value(parts.get(1, 0), "int", 0), dt.UTC)
    if type_name == "time":
        return format_time(moment)
    return format_micro_time(moment.replace(microsecond=parts.get(2, 0) // 1000))


def _numbered(data: bytes) -> Iterator[tuple[int, Any]]:
    return ((number, value) for number, _, value in _fields(data))


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield `(number, wire type, value)`: an int for varints, bytes for all else."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        value: Any
        if wire == _VARINT:
            value, position = _varint(data, position)
        elif wire in {_FIXED64, _FIXED32, _BYTES}:
            size = 8 if wire == _FIXED64 else 4
            if wire == _BYTES:
                size, position = _varint(data, position)
            value = data[position : position + size]
            position += size
            if len(value) != size:
                raise Undecodable("it is cut off")
        else:
            raise Undecodable(f"wire type {wire} is not used by Kubernetes")
        yield number, wire, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise Undecodable("a number is too long")
