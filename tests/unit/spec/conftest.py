"""The published schemas of Kubernetes, as a map that can be walked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.engine.openapi.schemas import read_published
from headrace.spec.kind import Json, Kind


class Schemas:
    """Schemas by name."""

    def __init__(self, schemas: Mapping[str, Json]) -> None:
        self._schemas = schemas

    def of(self, kind: Kind[Any]) -> str:
        """The name of a kind's schema."""
        wanted = {"group": kind.group, "version": kind.version, "kind": kind.name}
        found = self._schemas.items()
        return next(name for name, schema in found if wanted in schema.get("x-kubernetes-group-version-kind", ()))

    def has(self, name: str, field: str) -> bool:
        """Whether a schema has a field."""
        return field in self._schemas.get(name, {}).get("properties", {})

    def inner(self, name: str, field: str) -> str:
        """The schema a field refers to, directly, by its items or by its values; empty for scalars."""
        return _reference(self._schemas[name]["properties"][field])


def _reference(node: Any) -> str:
    if not isinstance(node, dict):
        return ""
    if "$ref" in node:
        return str(node["$ref"]).rpartition("/")[2]
    for key in ("allOf", "items", "additionalProperties"):
        inner = node.get(key)
        found = _reference(inner[0] if isinstance(inner, list) else inner)
        if found:
            return found
    return ""


@pytest.fixture(scope="session")
def published() -> Any:
    return Schemas(read_published().schemas)
