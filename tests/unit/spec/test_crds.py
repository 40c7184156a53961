"""CRDs keep the rules a real API server checks (Kubernetes docs, "Specifying a structural schema")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect as types

from headrace.spec.crds import crd, schema
from headrace.spec.defaults import apply_defaults
from headrace.spec.defaults.views import is_core, struct_type
from headrace.spec.descriptions import field_descriptions
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import DATASET, FLUID_KINDS, HEADRACE_KINDS, POOL, QUEUE, REFUSED_FLUID_KINDS, TRAIN_JOB
from headrace.spec.view import View

KINDS = (*FLUID_KINDS, *HEADRACE_KINDS)
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_KEYS = {
    "type", "description", "properties", "required", "items", "additionalProperties", "enum", "default", "nullable",
    _PRESERVE, _INT_OR_STRING, "x-kubernetes-validations",
}  # fmt: skip


def _nodes(node: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from _nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from _nodes(node[key], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_schemas_are_structural(kind: Kind[Any]) -> None:
    for path, node in _nodes(schema(kind)):
        assert set(node) <= _KEYS, path
        assert "type" in node or node.get(_PRESERVE) or node.get(_INT_OR_STRING), path
        assert not ("type" in node and node.get(_INT_OR_STRING)), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert node.get("type") != "array" or "items" in node, path
        assert set(node.get("required", ())) <= set(node.get("properties", ())), path
        if "default" in node:
            assert node["default"] is not None, path
            assert node["default"] or node["default"] == {}, path
            assert "default" not in node.get("required", ()), path


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_root(kind: Kind[Any]) -> None:
    root = schema(kind)
    assert root["type"] == "object"
    assert root["properties"]["metadata"] == {"type": "object"}, "a real API server refuses anything more"
    assert {"apiVersion", "kind"} <= set(root["properties"])
    assert root["description"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_definitions(kind: Kind[Any]) -> None:
    definition = crd(kind)
    (version,) = definition["spec"]["versions"]
    assert definition["metadata"]["name"] == f"{kind.plural}.{kind.group}"
    assert (version["served"], version["storage"], version["subresources"]) == (True, True, {"status": {}})
    assert [c["jsonPath"] for c in version["additionalPrinterColumns"]] == [c.json_path for c in kind.columns]
    assert {c["type"] for c in version["additionalPrinterColumns"]} <= {
        "string",
        "integer",
        "boolean",
        "date",
        "number",
    }
    assert definition["spec"]["scope"] == ("Namespaced" if kind.namespaced else "Cluster")


def test_short_names() -> None:
    assert crd(TRAIN_JOB)["spec"]["names"]["shortNames"] == ["tj"]
    assert "shortNames" not in crd(POOL)["spec"]["names"]


def test_fluids_kinds_keep_unknown_fields_and_ours_do_not() -> None:
    def objects(kind: Kind[Any]) -> list[Json]:
        nodes = _nodes(schema(kind)["properties"]["spec"])
        return [node for _, node in nodes if "properties" in node]

    assert all(node.get(_PRESERVE) for node in objects(DATASET))
    assert not any(node.get(_PRESERVE) for node in objects(TRAIN_JOB))


@pytest.mark.parametrize("kind", REFUSED_FLUID_KINDS, ids=str)
def test_refused_kinds_refuse_everything_with_a_reason(kind: Kind[Any]) -> None:
    (rule,) = schema(kind)["x-kubernetes-validations"]
    assert rule["rule"] == "false"
    assert rule["message"].startswith(f"{kind.name} is not run by Headrace; use ")


def _at(kind: Kind[Any], path: str) -> Json:
    node = schema(kind)
    for part in path.split("."):
        node = (
            node["additionalProperties"] if part == "*" else node["items"] if part == "[]" else node["properties"][part]
        )
    return node


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        (TRAIN_JOB, "spec.framework", {"type": "string", "default": "none"}),
        (TRAIN_JOB, "spec.workers", {"type": "integer", "nullable": True}),
        (TRAIN_JOB, "spec.retry", {"type": "object", "default": {}}),
        (TRAIN_JOB, "spec.retry.on", {"type": "array", "default": ["NodeLost", "Preempted"]}),
        (TRAIN_JOB, "spec.env.*", {_PRESERVE: True}),
        (TRAIN_JOB, "spec.roles.*.replicas", {"type": "integer", "default": 1}),
        (TRAIN_JOB, "spec", {"required": ["command"]}),
        (TRAIN_JOB, "spec.mounts.[]", {"required": ["path"]}),
        (QUEUE, "spec", {"type": "object", "default": {}}),
        (DATASET, "spec.mounts.[].mountPoint", {"type": "string"}),
    ],
)
def test_nodes(kind: Kind[Any], path: str, expected: Json) -> None:
    node = _at(kind, path)
    assert {key: node.get(key) for key in expected} == expected


def test_no_default_where_it_would_say_nothing() -> None:
    assert "default" not in _at(TRAIN_JOB, "spec.image")
    assert "default" not in _at(TRAIN_JOB, "spec.suspend")
    assert "default" not in _at(TRAIN_JOB, "spec.resources")


def _default(node: Json, value: Any) -> Any:
    """Structural defaulting as the API server does it."""
    if isinstance(value, dict):
        result = dict(value)
        for name, inner in node.get("properties", {}).items():
            if name not in result and "default" in inner:
                result[name] = inner["default"]
            if name in result:
                result[name] = _default(inner, result[name])
        if "additionalProperties" in node:
            result = {name: _default(node["additionalProperties"], inner) for name, inner in result.items()}
        return result
    if isinstance(value, list):
        return [_default(node["items"], inner) for inner in value]
    return value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (TRAIN_JOB, {"spec": {"command": ["a"], "roles": {"a": {}}, "mounts": [{"path": "/x", "claim": "y"}]}}),
        (QUEUE, {}),
        (QUEUE, {"spec": {"budget": {"amount": "1"}}}),
        (POOL, {"spec": {"kind": "own", "price": {"rates": {}}, "gpus": {"A": {}}}}),
        (DATASET, {"spec": {"mounts": [{"mountPoint": "s3://bucket"}]}}),
    ],
    ids=str,
)
def test_a_real_server_fills_in_the_same_defaults(kind: Kind[Any], raw: Json) -> None:
    assert _default(schema(kind), raw) == apply_defaults(kind, raw)


class Tree(View, frozen=True, kw_only=True):
    """A view that holds itself."""

    children: tuple[Tree, ...] = ()


class Root(View, frozen=True, kw_only=True):
    """A kind with a recursive view."""

    metadata: dict[str, str] = {}
    spec: Tree = Tree()


def test_a_recursive_view_ends() -> None:
    recursive = Kind(group="example.org", version="v1", name="Root", plural="roots", view=Root)
    children = schema(recursive)["properties"]["spec"]["properties"]["children"]
    assert children["items"] == {"type": "object", _PRESERVE: True}


def _own_structs(wanted: types.Type, seen: set[type]) -> Iterator[types.StructType]:
    match wanted:
        case types.StructType() if wanted.cls not in seen and not is_core(wanted):
            seen.add(wanted.cls)
            yield wanted
            for field in wanted.fields:
                yield from _own_structs(field.type, seen)
        case types.UnionType():
            for choice in wanted.types:
                yield from _own_structs(choice, seen)
        case types.VarTupleType():
            yield from _own_structs(wanted.item_type, seen)
        case types.DictType():
            yield from _own_structs(wanted.value_type, seen)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_field_is_described(kind: Kind[Any]) -> None:
    root = struct_type(kind.view)
    bare = [
        f"{struct.cls.__name__}.{field.encode_name}"
        for struct in _own_structs(root, set())
        if struct.cls is not root.cls
        for field in struct.fields
        if not field_descriptions(struct.cls).get(field.name, "").endswith(".")
    ]
    assert bare == []


def test_definitions_are_json() -> None:
    for kind in KINDS:
        assert msgspec.json.decode(msgspec.json.encode(crd(kind))) == crd(kind)
