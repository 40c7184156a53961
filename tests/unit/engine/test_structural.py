"""Structural schemas: what is pruned, filled in and refused."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.engine.pipeline import structural

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec", "metadata"],
    "properties": {
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 9},
                "ratio": {"type": "number", "multipleOf": 0.5},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "default": "abc"},
                "colour": {"type": "string", "enum": ["red", "blue"]},
                "port": {"x-kubernetes-int-or-string": True},
                "note": {"type": "string", "nullable": True, "default": "none"},
                "on": {"type": "boolean"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
                "any": {"type": "object", "additionalProperties": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}},
                "steps": {
                    "type": "array",
                    "minItems": 1,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "tries": {"type": "integer", "default": 1}},
                    },
                },
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            },
        },
    },
}  # fmt: skip


def custom(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "e/v1", "kind": "E", "metadata": {"name": "x", "labels": {"a": "b"}}, "spec": spec}


def found(**spec: Any) -> list[str]:
    return [path for path, _ in structural.findings(custom(**{"size": 1, **spec}), SCHEMA)]


def test_unknown_fields_are_dropped_and_named() -> None:
    given = custom(size=1, odd=2, steps=[{"name": "a", "x": 1}], labels={"l": "v"}, any={"a": {"b": 1}}, free={"z": 1})
    kept, unknown = structural.prune(given | {"top": 1}, SCHEMA)
    assert kept == custom(size=1, steps=[{"name": "a"}], labels={"l": "v"}, any={"a": {"b": 1}}, free={"z": 1})
    assert unknown == ["spec.odd", "spec.steps[0].x", "top"]


def test_embedded_objects_keep_their_identity() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}, "x": 1}
    kept, unknown = structural.prune(custom(pod=pod), SCHEMA)
    assert kept["spec"]["pod"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}}
    assert unknown == ["spec.pod.x"]


def test_defaults_fill_what_was_not_said() -> None:
    given = custom(size=1, steps=[{"name": "a"}, {"name": "b", "tries": 3}])
    filled = structural.fill(given, SCHEMA)
    assert filled["spec"] == {
        "size": 1,
        "name": "abc",
        "note": "none",
        "steps": [{"name": "a", "tries": 1}, {"name": "b", "tries": 3}],
    }
    assert given["spec"]["steps"] == [{"name": "a"}, {"name": "b", "tries": 3}]


def test_null_means_not_said_unless_it_may_stand() -> None:
    assert structural.fill(custom(name=None, note=None, size=None), SCHEMA)["spec"] == {"name": "abc", "note": None}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"size": 0}, "spec.size"),
        ({"size": 10}, "spec.size"),
        ({"size": "1"}, "spec.size"),
        ({"size": 1.5}, "spec.size"),
        ({"size": True}, "spec.size"),
        ({"size": None}, "spec.size"),
        ({"ratio": 0.3}, "spec.ratio"),
        ({"name": "ABC"}, "spec.name"),
        ({"name": "abcdef"}, "spec.name"),
        ({"colour": "green"}, "spec.colour"),
        ({"port": 1.5}, "spec.port"),
        ({"on": "yes"}, "spec.on"),
        ({"labels": {"a": 1}}, "spec.labels.a"),
        ({"labels": {"a": "1", "b": "2", "c": "3"}}, "spec.labels"),
        ({"steps": []}, "spec.steps"),
        ({"steps": {}}, "spec.steps"),
        ({"steps": [{"name": "a"}, {"name": "a"}]}, "spec.steps[1]"),
        ({"tags": ["a", "a"]}, "spec.tags[1]"),
    ],
)
def test_what_does_not_fit_is_found_by_path(spec: dict[str, Any], path: str) -> None:
    assert found(**spec) == [path]


def test_what_fits_passes() -> None:
    assert found(size=9, ratio=1.5, name="abc", port="http", note=None, steps=[{"name": "a"}, {"name": "b"}]) == []
    assert found(port=80, size=3.0, tags=["a", "b"], on=False) == []


def test_required_fields_are_missed() -> None:
    given = custom()
    assert [path for path, _ in structural.findings(given, SCHEMA)] == ["spec.size"]
    del given["spec"]
    assert [path for path, _ in structural.findings(given, SCHEMA)] == ["spec"]
