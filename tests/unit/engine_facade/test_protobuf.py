"""Protobuf bodies become the JSON that the same Go object would have been, and damaged ones are refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.protobuf.decode import MAGIC, Undecodable, decode, tables


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | float | bytes | str) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, *parts: bytes) -> bytes:
    return (
        MAGIC
        + field(1, field(1, api_version) + field(2, kind))
        + field(2, b"".join(parts))
        + field(3, "")
        + field(4, "")
    )


def pair(key: str, value: bytes | str) -> bytes:
    return field(1, key) + field(2, value)


def spec_of(*parts: bytes) -> Any:
    return decode(envelope("v1", "Pod", field(2, b"".join(parts))))["spec"]


def test_a_secret_as_kubectl_sends_it() -> None:
    meta = field(1, "s") + field(2, "") + field(7, 0) + field(8, b"") + field(11, pair("a", "b"))
    found = decode(envelope("v1", "Secret", field(1, meta), field(2, pair("key", b"value")), field(3, "")))
    assert found == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "labels": {"a": "b"}},
        "data": {"key": "dmFsdWU="},
    }


def test_zeros_of_pointers_are_kept_and_others_are_not() -> None:
    found = spec_of(field(4, 0), field(10, ""), field(11, 0), field(21, 0))
    assert found == {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}


def test_what_json_inlines_is_inlined() -> None:
    empty_dir = field(1, "Memory") + field(2, field(1, "1Gi"))
    found = spec_of(field(1, field(1, "v") + field(2, field(2, empty_dir))))
    assert found == {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]}


def test_numbers_quantities_and_ports_that_are_either() -> None:
    resources = field(1, pair("cpu", field(1, "500m")))
    by_name = field(2, field(2, field(1, 1) + field(2, 0) + field(3, "http")))
    by_number = field(2, field(2, field(1, 0) + field(2, 8080) + field(3, "")))
    container = field(1, "c") + field(8, resources) + field(10, field(1, by_name)) + field(11, field(1, by_number))
    found = spec_of(field(2, container), field(25, -5))
    assert found["containers"][0]["resources"] == {"limits": {"cpu": "500m"}}
    assert found["containers"][0]["livenessProbe"] == {"httpGet": {"port": "http"}}
    assert found["containers"][0]["readinessProbe"] == {"httpGet": {"port": 8080}}
    assert found["priority"] == -5


def test_lists_of_numbers_may_be_packed() -> None:
    security = field(4, 1) + field(4, 2)
    packed = field(4, varint(1) + varint(2))
    assert (
        spec_of(field(14, security))
        == spec_of(field(14, packed))
        == {"securityContext": {"supplementalGroups": [1, 2]}}
    )


def test_moments() -> None:
    meta = field(8, field(1, 1_767_225_600))
    spec = field(3, field(1, 1_767_225_600) + field(2, 5_000))
    found = decode(envelope("coordination.k8s.io/v1", "Lease", field(1, meta), field(2, spec)))
    assert found["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert found["spec"] == {"acquireTime": "2026-01-01T00:00:00.000005Z"}


def test_options_are_read_under_any_group() -> None:
    found = decode(envelope("storage.k8s.io/v1", "DeleteOptions", field(1, 0), field(4, "Foreground"), field(5, "All")))
    assert found["gracePeriodSeconds"] == 0
    assert (found["propagationPolicy"], found["dryRun"]) == ("Foreground", ["All"])


def test_schemas_of_definitions() -> None:
    either = field(30, field(1, 1))
    nested = field(30, field(1, 0) + field(2, field(5, "string")))
    listed = field(24, field(1, field(5, "integer")))
    default = field(8, field(1, b'{"a":1}')) + field(9, 1.5)
    schema = field(5, "object") + field(29, pair("p", either)) + field(29, pair("q", nested + listed + default))
    version = field(1, "v1") + field(4, field(1, schema))
    found = decode(envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(2, field(7, version))))
    properties = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert properties["p"] == {"additionalProperties": True}
    assert properties["q"] == {
        "additionalProperties": {"type": "string"},
        "items": {"type": "integer"},
        "default": {"a": 1},
        "maximum": 1.5,
    }


def test_fields_of_a_newer_kubernetes_are_skipped() -> None:
    assert spec_of(field(9999, "new"), field(10, "own")) == {"nodeName": "own"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        MAGIC,
        envelope("example.org/v1", "Thing"),
        envelope("v1", "Pod", field(2, "text")),
        envelope("v1", "Pod", field(1, 5)),
        envelope("v1", "Pod", field(1, field(1, b"\xff")))[:-4],
        MAGIC + b"\xff" * 20,
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(body)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for body in (MAGIC + data, envelope("v1", "Pod", data), envelope("v1", "Pod", field(2, data))):
        try:
            decode(body)
        except Undecodable:
            continue


def test_every_message_that_is_named_is_there() -> None:
    found = tables()
    named = {
        f.type.removeprefix("[]").removeprefix("{}") for fields in found.messages.values() for f in fields.values()
    }
    assert {name for name in named if "/" in name} <= set(found.messages)
    assert set(found.kinds.values()) <= set(found.messages)
