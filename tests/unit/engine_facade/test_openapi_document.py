"""OpenAPI documents: what kubectl looks up in them, and that every reference leads somewhere."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.engine.openapi.document import Documents, index, render
from headrace.engine.pipeline.registry import Registry, Resource
from headrace.engine.pipeline.seeding import builtin_registry
from headrace.spec.kind import Json, Kind


class Anything(msgspec.Struct):
    """A view that reads nothing."""


@pytest.fixture(scope="module")
def documents() -> dict[str, Json]:
    return dict(render(builtin_registry()))


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()


def test_every_reference_leads_to_a_schema(documents: dict[str, Json]) -> None:
    for path, document in documents.items():
        names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
        assert references(document) <= names, path


def kinds_patched(document: Json) -> dict[str, Json]:
    patches = [item["patch"] for item in document["paths"].values() if "patch" in item]
    return {patch["x-kubernetes-group-version-kind"]["kind"]: patch for patch in patches}


def test_kubectl_finds_field_validation_for_every_kind(documents: dict[str, Json]) -> None:
    for document in documents.values():
        for patch in kinds_patched(document).values():
            assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}


def test_only_core_kinds_take_strategic_patches(documents: dict[str, Json]) -> None:
    strategic = "application/strategic-merge-patch+json"
    assert strategic in kinds_patched(documents["api/v1"])["Pod"]["requestBody"]["content"]
    assert strategic not in kinds_patched(documents["apis/headrace.io/v1alpha1"])["TrainJob"]["requestBody"]["content"]


def test_every_kind_is_applied(documents: dict[str, Json]) -> None:
    for document in documents.values():
        for patch in kinds_patched(document).values():
            assert "application/apply-patch+yaml" in patch["requestBody"]["content"]
            assert "force" in {parameter["name"] for parameter in patch["parameters"]}


def test_each_kind_has_a_schema_that_says_so(documents: dict[str, Json]) -> None:
    for document in documents.values():
        said = {
            kind["kind"]
            for schema in document["components"]["schemas"].values()
            for kind in schema.get("x-kubernetes-group-version-kind", ())
        }
        assert set(kinds_patched(document)) <= said


def test_our_kinds_keep_their_prose(documents: dict[str, Json]) -> None:
    schema = documents["apis/headrace.io/v1alpha1"]["components"]["schemas"]["io.headrace.v1alpha1.TrainJob"]
    assert schema["properties"]["spec"]["properties"]["command"]["description"]
    assert schema["properties"]["metadata"]["allOf"][0]["$ref"].endswith("ObjectMeta")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_documents_follow_the_registry() -> None:
    registry = Registry()
    kind = Kind(group="example.org", version="v1", name="Thing", plural="things", view=Anything)
    registry.add(Resource(kind=kind, source="crd", schema={"type": "object", "properties": {"a": {"type": "string"}}}))
    documents = Documents(registry)
    first = await documents.current()
    assert await documents.current() is first
    assert list(index(first)["paths"]) == ["apis/example.org/v1"]
    registry.add(Resource(kind=kind, source="crd", schema={"type": "object", "properties": {"b": {"type": "string"}}}))
    second = await documents.current()
    assert second["apis/example.org/v1"].hash != first["apis/example.org/v1"].hash
    registry.remove("example.org", "things")
    assert await documents.current() == {}
